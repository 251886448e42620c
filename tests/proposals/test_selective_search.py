"""Selective search from an image to ranked boxes."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numba
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import detkit
from detkit.errors import ConfigError, DataError
from detkit.proposals import grouping
from detkit.proposals.compiled import Announcer, announcer, compiled
from detkit.proposals.ranking import rank
from detkit.proposals.selective_search import (
    ProposalConfig,
    compile_ahead,
    hierarchies,
    selective_search,
)
from tests.proposals.images import noise, patches

ROOT = Path(__file__).parents[2]
PICTURE = patches((90, 120), seed=1, count=25)


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def tensor_of(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(image).permute(2, 0, 1)


@pytest.mark.parametrize(("mode", "count"), [("single", 1), ("fast", 8), ("quality", 80)])
def test_modes_have_the_published_number_of_hierarchies(mode: str, count: int) -> None:
    config = ProposalConfig(mode=mode)  # type: ignore[arg-type]
    found = hierarchies(tensor_of(PICTURE), config)
    assert len(found) == count
    for each in found:
        assert len(each.boxes) == 2 * each.regions - 1
        assert each.labels.shape == (90, 120)
        assert each.boxes[-1].tolist() == [0, 0, 120, 90]  # the last merge is the whole image


def test_scales_take_the_place_of_the_modes_and_k_is_the_smallest_region() -> None:
    for config, smallest in [
        (ProposalConfig(mode="single"), [100]),
        (ProposalConfig(mode="single", scales=(30.4, 400.0)), [30, 400]),
        (ProposalConfig(mode="single", scales=(30, 400), min_size=12), [12, 12]),
        (ProposalConfig(mode="single", min_size=7), [7]),
    ]:
        found = hierarchies(tensor_of(PICTURE), config)
        assert len(found) == len(smallest)
        for each, size in zip(found, smallest, strict=True):
            assert np.bincount(each.labels.reshape(-1)).min() >= size


def test_boxes_are_those_of_the_hierarchies_each_once() -> None:
    boxes = selective_search(PICTURE)
    found = hierarchies(tensor_of(PICTURE), ProposalConfig())
    rows = {tuple(box) for each in found for box in each.boxes.tolist()}
    large = {box for box in rows if box[2] - box[0] >= 20 and box[3] - box[1] >= 20}
    assert len(rows) > len(large)  # something is dropped
    assert sorted(map(tuple, boxes.int().tolist())) == sorted(large)
    assert boxes.dtype == torch.float32


def test_overrides_drop_nothing_but_exact_repeats() -> None:
    boxes = selective_search(PICTURE, mode="single", scales=(5,), min_size=3)
    (only,) = hierarchies(
        tensor_of(PICTURE), ProposalConfig(mode="single", scales=(5,), min_size=3)
    )
    assert sorted(boxes.int().tolist()) == np.unique(only.boxes, axis=0).tolist()
    assert (boxes[:, 2:] - boxes[:, :2]).min() < 20


def test_modes_are_ranked_as_the_authors_rank_and_overrides_by_turns() -> None:
    image = tensor_of(PICTURE)
    plain = [each.boxes for each in hierarchies(image, ProposalConfig())]
    assert selective_search(image).int().tolist() == rank(plain, "authors", 0, 20).tolist()
    seeded = selective_search(image, seed=3)
    assert seeded.int().tolist() == rank(plain, "authors", 3, 20).tolist()
    assert not torch.equal(seeded, selective_search(image))
    config = ProposalConfig(scales=(20, 60))
    own = [each.boxes for each in hierarchies(image, config)]
    found = selective_search(image, scales=(20, 60)).int().tolist()
    assert found == rank(own, "turns", 0, 1).tolist()
    distinct = ProposalConfig(ranking="distinct").find(image).int().tolist()
    assert distinct == rank(plain, "distinct", 0, 20).tolist()


def test_config_keeps_the_best() -> None:
    image = tensor_of(PICTURE)
    best = ProposalConfig(most=5).find(image)
    assert torch.equal(best, selective_search(PICTURE)[:5])
    assert best.shape == (5, 4)


def test_every_kind_of_image_gives_the_same_boxes(tmp_path: Path) -> None:
    Image.fromarray(PICTURE).save(tmp_path / "a.png")
    wanted = selective_search(PICTURE, mode="single")
    for image in (tmp_path / "a.png", Image.fromarray(PICTURE), tensor_of(PICTURE)):
        assert torch.equal(selective_search(image, mode="single"), wanted)
    assert torch.equal(detkit.selective_search(str(tmp_path / "a.png"), mode="single"), wanted)


@pytest.mark.parametrize("kwargs", [{"mode": "quality"}, {"scales": (10, 30, 90), "min_size": 20}])
def test_threads_change_nothing(kwargs: dict[str, object]) -> None:
    found = []
    for threads in (1, 2, 4):
        torch.set_num_threads(threads)
        found += [selective_search(PICTURE, **kwargs) for _ in range(2)]  # type: ignore[arg-type]
    assert all(torch.equal(boxes, found[0]) for boxes in found)


CODE = """
import hashlib, sys, torch
import detkit
from tests.proposals.images import patches
torch.set_num_threads(int(sys.argv[1]))
boxes = detkit.selective_search(patches((90, 120), seed=1, count=25), mode="quality")
print(hashlib.sha256(boxes.numpy().tobytes()).hexdigest())
"""


@pytest.mark.slow
def test_processes_agree_and_the_second_does_not_compile(tmp_path: Path) -> None:
    """With a cache of their own, as a fresh installation in a folder that cannot be written."""
    runs = []
    for threads in ("1", "3"):
        environment = os.environ | {"PYTHONPATH": str(ROOT), "NUMBA_CACHE_DIR": str(tmp_path)}
        runs.append(
            subprocess.run(
                [sys.executable, "-W", "error", "-c", CODE, threads],
                cwd=ROOT,
                env=environment,
                capture_output=True,
                text=True,
                check=True,
            )
        )
    assert runs[0].stdout == runs[1].stdout
    assert runs[0].stderr == (
        "Selective search: compiling for this machine; this takes half a minute, once.\n"
    )
    assert runs[1].stderr == ""


def test_compiling_is_announced_once_and_only_ours(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from numba.core import event

    monkeypatch.setattr(announcer, "said", True)  # the one that listens always
    own = numba.njit(grouping._intersection.py_func)  # type: ignore[attr-defined]
    with event.install_listener("numba:compile", Announcer()):
        numba.njit(lambda x: x + 1)(1)
        assert caplog.messages == []
        own(np.zeros(1, np.int32), np.zeros(1, np.int32))
        own(np.zeros((2, 1), np.int32)[0], np.zeros(2, np.int32)[::2])  # another signature
    assert caplog.messages == [
        "Selective search: compiling for this machine; this takes half a minute, once."
    ]
    assert caplog.records[0].levelno == logging.WARNING


def test_without_a_folder_for_the_cache_it_compiles_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither the package's folder nor the user's can be written: numba finds no place."""
    from numba.core.caching import CompileResultCacheImpl

    monkeypatch.setattr(CompileResultCacheImpl, "_locator_classes", [])

    def double(x: int) -> int:
        return 2 * x

    with pytest.raises(RuntimeError):
        numba.njit(cache=True)(double)
    assert compiled(double)(21) == 42


def test_compiling_ahead_leaves_nothing_to_compile() -> None:
    from detkit.proposals import features, filters, grouping, ranking, segmentation

    compile_ahead()
    functions = [
        filters.filter_separable, segmentation._weigh, segmentation._sort, segmentation.segment,
        features._quantise, features.describe_regions, grouping.neighbour_pairs, grouping.group,
        ranking._mark,
    ]  # fmt: skip
    signatures = [list(function.signatures) for function in functions]  # type: ignore[attr-defined]
    assert all(signatures)
    for kwargs in ({"mode": "quality"}, {"scales": (9.5,), "min_size": 4}):
        selective_search(noise((30, 31), seed=2), **kwargs)  # type: ignore[arg-type]
    after = [list(function.signatures) for function in functions]  # type: ignore[attr-defined]
    assert after == signatures


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (2, 2), (3, 25)])
@pytest.mark.parametrize("mode", ["single", "quality"])
def test_tiny_images(size: tuple[int, int], mode: str) -> None:
    everything = selective_search(noise(size, seed=1), mode=mode, min_size=1)  # type: ignore[arg-type]
    assert [0, 0, size[1], size[0]] in everything.tolist()
    assert selective_search(noise(size, seed=1), mode=mode).shape == (0, 4)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [0, 90, 255])
def test_one_colour_is_one_box(value: int) -> None:
    boxes = selective_search(np.full((50, 70, 3), value, np.uint8), mode="quality")
    assert boxes.tolist() == [[0, 0, 70, 50]]


def test_grey_images_have_boxes(tmp_path: Path) -> None:
    grey = PICTURE[:, :, 0]
    Image.fromarray(grey).save(tmp_path / "grey.png")
    boxes = selective_search(tmp_path / "grey.png")
    assert len(boxes) > 10
    assert torch.equal(boxes, selective_search(np.repeat(grey[:, :, None], 3, axis=2)))


@settings(max_examples=25)
@given(
    st.tuples(st.integers(1, 50), st.integers(1, 50)),
    st.integers(0, 999),
    st.sampled_from(["single", "fast"]),
    st.sampled_from([None, (3.0,), (40.0, 7.0)]),
)
def test_boxes_lie_in_the_image_and_come_again(
    size: tuple[int, int], seed: int, mode: str, scales: tuple[float, ...] | None
) -> None:
    image = patches(size, seed)
    boxes = selective_search(image, mode, scales)  # type: ignore[arg-type]
    assert boxes.shape[1] == 4
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2] <= size[1]).all()
    assert (boxes[:, 3] <= size[0]).all()
    assert (boxes[:, 2:] - boxes[:, :2] >= 1).all()
    assert len(torch.unique(boxes, dim=0)) == len(boxes)
    assert torch.equal(boxes, selective_search(image, mode, scales))  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_photo_of_nine_megapixels_is_no_trouble() -> None:
    small = patches((300, 300), seed=4, count=60)
    image = np.ascontiguousarray(small.repeat(10, axis=0).repeat(10, axis=1))
    torch.set_num_threads(1)
    boxes = selective_search(image, mode="single")
    assert len(boxes) > 50
    assert boxes.max() == 3000


@pytest.mark.parametrize(
    ("kwargs", "sentence"),
    [
        (
            {"mode": "quick"},
            "selective_search: mode: expected 'single', 'fast' or 'quality'; got 'quick'.",
        ),
        ({"scales": ()}, "selective_search: scales: expected 1 values or more; got ()."),
        ({"scales": (100, 0)}, "selective_search: scales.1: expected a value above 0; got 0."),
        ({"scales": 100}, "selective_search: scales: expected a list; got 100."),
        (
            {"scales": (float("nan"),)},
            "selective_search: scales.0: expected a finite number; got nan.",
        ),
        ({"min_size": 0}, "selective_search: min_size: expected a value above 0; got 0."),
        ({"min_size": 2.5}, "selective_search: min_size: expected a whole number; got 2.5."),
        ({"seed": -1}, "selective_search: seed: expected a value of at least 0; got -1."),
    ],
)
def test_settings_that_cannot_be(kwargs: dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        selective_search(PICTURE, **kwargs)  # type: ignore[arg-type]
    assert str(caught.value) == sentence


def test_images_that_cannot_be() -> None:
    with pytest.raises(DataError) as caught:
        selective_search(np.zeros((4, 4, 3)))
    assert str(caught.value) == (
        "image: a float64 array is refused, because whether 1.0 is white or nearly black "
        "is a guess. Scale it to 0..255 and convert it to uint8."
    )
    with pytest.raises(DataError) as caught:
        selective_search("nowhere.jpg")
    assert str(caught.value) == "nowhere.jpg: no such image file. Check the path."


def test_a_config_is_read_without_numba() -> None:
    code = (
        "import sys\n"
        "from detkit.proposals.selective_search import ProposalConfig\n"
        "ProposalConfig(mode='quality')\n"
        "assert not {'numba', 'cv2'} & set(sys.modules)"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, check=True)


@pytest.mark.data
def test_real_photos_have_boxes_on_their_objects(data_root: Path) -> None:
    """Quality mode has a box with IoU 0.5 on nearly every blood cell."""
    from detkit.data import read_dataset
    from detkit.ops.boxes import box_iou

    annotations = read_dataset({"format": "voc", "root": data_root / "bccd", "split": "test"})
    best = []
    for index in range(2):
        rows = slice(annotations.offsets[index], annotations.offsets[index + 1])
        found = selective_search(str(annotations.paths[index]), mode="quality")
        best.append(box_iou(torch.from_numpy(annotations.boxes[rows]), found).amax(dim=1))
    assert (torch.cat(best) >= 0.5).float().mean() >= 0.95
