"""Proposals stay with their image: through the dataset, augmentation, mosaic and mixup."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from detkit.data import read_dataset
from detkit.data.augment import Augmentation, AugmentConfig
from detkit.data.base import DetectionDataset, Sample, given_proposals
from detkit.data.cache import ImageCache
from detkit.data.loader import BatchOrder, SampleKey, TrainSet, train_batches
from detkit.data.mosaic import by_rank, mixup, mosaic
from detkit.errors import DataError
from detkit.proposals.selective_search import ProposalConfig
from detkit.proposals.store import ProposalStore
from detkit.types import make_target
from tests.oracles import random_boxes

CONFIG = ProposalConfig(mode="single", scales=(30.0,), most=40)
FORMS = {
    "flip": AugmentConfig(flip=1, jitter=0),
    "letterbox": AugmentConfig(),
    "zoom": AugmentConfig(zoom=(0.5, 2.5)),
    "turns": AugmentConfig(quarter_turns=1, vertical_flip=0.5),
    "crop": AugmentConfig(placement="crop", jitter=0.4),
}


def noise(boxes: torch.Tensor, size: tuple[int, int] = (90, 120)) -> Sample:
    generator = torch.Generator().manual_seed(3)
    image = torch.randint(256, (3, *size), dtype=torch.uint8, generator=generator)
    target = make_target(boxes, torch.arange(len(boxes)))
    return Sample(image, target, "one", "one.png", boxes.clone())


def in_image(n: int, seed: int, size: tuple[int, int] = (90, 120)) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, 0.7, (n, 2))
    shares = np.concatenate([corners, corners + rng.uniform(0.05, 0.3, (n, 2))], axis=1)
    return torch.tensor(shares * np.array([size[1], size[0]] * 2), dtype=torch.float32)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("canvas", [None, (64, 160)])
@pytest.mark.parametrize("seed", range(6))
def test_proposals_go_where_objects_go(
    form: str, canvas: tuple[int, int] | None, seed: int
) -> None:
    """The same boxes as objects and as proposals: albumentations moves the objects itself."""
    sample = noise(in_image(30, seed))
    made = Augmentation(FORMS[form])(sample, canvas, (seed, 0, 0))
    assert made.proposals is not None
    order = made.target.labels.argsort()
    objects = made.target.boxes[order]
    height, width = made.size
    sides = made.proposals[:, 2:] - made.proposals[:, :2]
    # objects under a thousandth of the canvas are dropped, proposals when nothing is left
    large = (sides >= 0.001 * torch.tensor([width, height])).all(dim=1)
    assert torch.allclose(made.proposals[large], objects, atol=2e-3)
    assert (made.proposals >= 0).all()
    assert (made.proposals <= torch.tensor([width, height] * 2)).all()


@pytest.mark.parametrize("form", FORMS)
def test_proposals_change_no_draw(form: str) -> None:
    sample = noise(in_image(12, 1))
    augmentation = Augmentation(FORMS[form])
    for seed in range(4):
        given = augmentation(sample, (64, 96), (seed, 1, 2))
        bare = augmentation(replace(sample, proposals=None), (64, 96), (seed, 1, 2))
        assert torch.equal(given.image, bare.image)
        assert torch.equal(given.target.boxes, bare.target.boxes)
        assert torch.equal(given.target.labels, bare.target.labels)
        assert bare.proposals is None


def test_a_crop_drops_proposals_of_which_nothing_is_left_and_no_others() -> None:
    config = AugmentConfig(placement="crop", jitter=0.4, flip=0, min_visible=0.95)
    columns = torch.arange(0, 120, 4.0)
    strips = torch.stack([columns, torch.zeros(30), columns + 4, torch.full((30,), 90.0)], dim=1)
    for seed in range(10):
        made = Augmentation(config)(noise(strips), None, (seed, 0, 0))
        assert made.proposals is not None
        left, right = made.proposals[:, 0], made.proposals[:, 2]
        assert (right > left).all()
        # strips that touch one another still do, from one end of what is left to the other
        assert torch.allclose(right[:-1], left[1:], atol=1e-3)
        assert len(made.target) <= len(made.proposals)


def test_an_image_may_come_without_objects_or_without_proposals() -> None:
    empty = replace(noise(in_image(5, 0)), target=noise(torch.zeros(0, 4)).target)
    made = Augmentation(AugmentConfig(jitter=0))(empty, (64, 64), (0, 0, 0))
    assert len(made.target) == 0
    assert made.proposals is not None
    assert len(made.proposals) == 5


corners = st.tuples(st.integers(0, 50), st.integers(0, 30), st.integers(3, 30), st.integers(3, 30))


@given(st.lists(corners, min_size=4, max_size=4), st.integers(0, 9999))
def test_a_mosaic_cuts_proposals_as_it_cuts_objects(
    places: list[tuple[int, int, int, int]], seed: int
) -> None:
    tiles = []
    for label, (x, y, width, height) in enumerate(places):
        box = torch.tensor([[x, y, x + width, y + height]], dtype=torch.float32)
        sample = noise(box, (60, 80))
        target = make_target(box, torch.tensor([label]))
        tiles.append(replace(sample, target=target))
    made = mosaic(tiles, AugmentConfig(), np.random.default_rng(seed))
    assert made.proposals is not None
    assert made.proposals.tolist() == made.target.boxes.tolist()  # whole pixels: none is a sliver


def test_ranks_of_several_images_take_turns() -> None:
    a, b = random_boxes(3, 0), random_boxes(1, 1)
    assert torch.equal(by_rank([a, b]), torch.stack([a[0], b[0], a[1], a[2]]))


def test_mixup_keeps_the_proposals_of_both() -> None:
    one, two = noise(in_image(2, 0)), noise(in_image(3, 1))
    made = mixup(one, two, 0.5)
    assert made.proposals is not None
    assert one.proposals is not None
    assert two.proposals is not None
    expected = [one.proposals[0], two.proposals[0], one.proposals[1], two.proposals[1]]
    assert torch.equal(made.proposals, torch.stack([*expected, two.proposals[2]]))
    bare = mixup(replace(one, proposals=None), replace(two, proposals=None), 0.5)
    assert bare.proposals is None


def test_a_dataset_with_a_store_fills_them_in(tiny_voc: Path, tmp_path: Path) -> None:
    annotations = read_dataset({"format": "voc", "root": str(tiny_voc), "split": "trainval"})
    store = ProposalStore(tmp_path / "store", CONFIG)
    samples = [*DetectionDataset(annotations, proposals=store)]
    for sample in samples:
        assert sample.proposals is not None
        assert torch.equal(sample.proposals, CONFIG.find(sample.image))
    bare = DetectionDataset(annotations)[0]
    assert bare.proposals is None
    assert given_proposals([samples[0], bare]) is None
    found = given_proposals(samples)
    assert found is not None
    assert len(found) == len(samples)


def test_a_cached_image_whose_file_is_gone_is_named(tiny_voc: Path, tmp_path: Path) -> None:
    annotations = read_dataset({"format": "voc", "root": str(tiny_voc), "split": "trainval"})
    store = ProposalStore(tmp_path / "store", CONFIG)
    dataset = DetectionDataset(annotations, ImageCache(annotations.sizes), store)
    path = Path(dataset[0].path)
    path.unlink()
    with pytest.raises(DataError) as problem:
        dataset[0]
    assert str(problem.value) == (
        f"{path}: cannot be read any more (No such file or directory), but its proposals are "
        "found by its content."
    )


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_carry_them_from_any_process(tiny_voc: Path, tmp_path: Path, workers: int) -> None:
    annotations = read_dataset({"format": "voc", "root": str(tiny_voc), "split": "trainval"})
    store = ProposalStore(tmp_path / "store", CONFIG)
    mixing = AugmentConfig(mosaic=0.5, mixup=0.5)
    data = TrainSet(annotations, Augmentation(mixing), 7, proposals=store)
    order = BatchOrder(4, 2, range(4), 7, lambda step: (64, 64))
    batches = list(train_batches(data, order, workers, pin_memory=False))
    assert len(batches) == 4
    for batch, keys in zip(batches, order, strict=True):
        for sample, key in zip(batch.samples, keys, strict=True):
            assert isinstance(key, SampleKey)
            again = data[key]
            assert sample.proposals is not None
            assert again.proposals is not None
            assert torch.equal(sample.proposals, again.proposals)
            assert len(sample.proposals)
