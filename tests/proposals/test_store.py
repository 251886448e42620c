"""The store keeps boxes exactly, tells settings apart, and makes damaged files again."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from detkit.errors import DetkitError
from detkit.files import sha256_of
from detkit.image import read_image
from detkit.proposals.selective_search import ProposalConfig
from detkit.proposals.store import SEAL, ProposalStore, _packed, _sealed, _unpacked, _unsealed
from tests.oracles import write_image

CONFIG = ProposalConfig(mode="single", scales=(30.0,), most=40)
CONTENT = "ab" * 32
BOXES = torch.tensor([[3.0, 4.0, 50.0, 60.0], [0.0, 0.0, 7.0, 9.0], [1.0, 2.0, 7.0, 9.0]])


@st.composite
def boxes_of(draw: st.DrawFn) -> Tensor:
    kind = draw(st.sampled_from(["small", "large", "negative", "broken"]))
    low, high = {"small": (0, 65534), "large": (0, 10**6), "negative": (-500, 500)}.get(
        kind, (0, 4000)
    )
    rows = []
    for _ in range(draw(st.integers(0, 8))):
        x, y = draw(st.integers(low, high - 1)), draw(st.integers(low, high - 1))
        rows.append([x, y, draw(st.integers(x + 1, high)), draw(st.integers(y + 1, high))])
    boxes = torch.tensor(rows, dtype=torch.float32).reshape(-1, 4)
    return boxes + 0.375 if kind == "broken" else boxes


@given(boxes_of())
def test_what_is_kept_is_what_was_given(boxes: Tensor) -> None:
    found = _unpacked(_packed(boxes.numpy()))
    assert found is not None
    assert found.astype(np.float32).tolist() == boxes.tolist()


@pytest.mark.parametrize(
    ("boxes", "kind"),
    [
        (BOXES, "uint16"),
        (torch.zeros(0, 4), "uint16"),
        (BOXES + 65535, "int32"),
        (BOXES - 1, "int32"),
        (BOXES + 0.5, "float32"),
        (BOXES.T.contiguous().T, "uint16"),  # columns first in memory
    ],
)
def test_numpy_reads_the_files(tmp_path: Path, boxes: Tensor, kind: str) -> None:
    store = ProposalStore(tmp_path, CONFIG)
    store.put(CONTENT, boxes)
    array = np.load(store.path(CONTENT), allow_pickle=False)
    assert array.dtype == kind
    assert array.astype(np.float32).tolist() == boxes.tolist()
    found = store.get(CONTENT)
    assert found is not None
    assert found.dtype == torch.float32
    assert torch.equal(found, boxes)


def test_the_folder_follows_from_the_settings(tmp_path: Path) -> None:
    configs = [
        CONFIG,
        ProposalConfig(),
        ProposalConfig(mode="quality"),
        ProposalConfig(scales=(50.0, 100.0)),
        ProposalConfig(min_size=20),
        ProposalConfig(seed=1),
        ProposalConfig(most=300),
        ProposalConfig(ranking="turns"),
    ]
    folders = {ProposalStore(tmp_path, config).folder for config in configs}
    assert len(folders) == len(configs)
    assert ProposalStore(tmp_path, ProposalConfig()).folder in folders
    store = ProposalStore(tmp_path, CONFIG)
    store.put(CONTENT, BOXES)
    assert json.loads((store.folder / "settings.json").read_text()) == {
        "algorithm": 3,
        "mode": "single",
        "scales": [30.0],
        "min_size": None,
        "seed": 0,
        "most": 40,
        "ranking": None,
    }
    assert ProposalStore(tmp_path, ProposalConfig()).get(CONTENT) is None


def test_another_algorithm_is_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = ProposalStore(tmp_path, CONFIG).folder
    monkeypatch.setattr("detkit.proposals.store.ALGORITHM", 0)
    assert ProposalStore(tmp_path, CONFIG).folder != before


def test_missing_names_each_image_once_in_order(tmp_path: Path) -> None:
    store = ProposalStore(tmp_path, CONFIG)
    contents = [letter * 64 for letter in "cabab"]
    assert store.missing(contents) == ["c" * 64, "a" * 64, "b" * 64]
    assert store.size(contents) == 0
    store.put("a" * 64, BOXES)
    assert store.missing(contents) == ["c" * 64, "b" * 64]
    assert store.size(contents) == store.path("a" * 64).stat().st_size == 128 + 3 * 8 + SEAL


def test_an_image_is_searched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "one.png"
    write_image(path)
    image = read_image(path)
    store = ProposalStore(tmp_path / "store", CONFIG)
    found = store.find(path, image)
    assert len(found)
    assert torch.equal(found, CONFIG.find(image))

    def fail(self: ProposalConfig, image: Tensor) -> Tensor:
        raise AssertionError("searched again")

    monkeypatch.setattr(ProposalConfig, "find", fail)
    copy = tmp_path / "copy.png"
    copy.write_bytes(path.read_bytes())
    assert torch.equal(store.find(copy, image), found)  # by content, whatever it is called


def test_a_damaged_file_is_made_again_with_a_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "one.png"
    write_image(path)
    store = ProposalStore(tmp_path / "store", CONFIG)
    found = store.find(path, read_image(path))
    kept = store.path(sha256_of(path))
    whole = kept.read_bytes()
    kept.write_bytes(whole[:-3])
    with caplog.at_level(logging.WARNING):
        assert torch.equal(store.find(path, read_image(path)), found)
    assert [record.getMessage() for record in caplog.records] == [
        f"{kept}: is damaged, so it is made again."
    ]
    assert kept.read_bytes() == whole


@given(st.data())
def test_whatever_a_file_holds_boxes_come_out_or_nothing(data: st.DataObject) -> None:
    whole = _packed(BOXES.numpy())
    kind = data.draw(st.sampled_from(["cut", "changed", "foreign"]))
    if kind == "cut":
        broken = whole[: data.draw(st.integers(0, len(whole) - 1))]
    elif kind == "changed":
        at = data.draw(st.integers(0, len(whole) - 1))
        broken = whole[:at] + bytes([data.draw(st.integers(0, 255))]) + whole[at + 1 :]
    else:
        broken = data.draw(st.binary(max_size=300))
    found = _unpacked(broken)
    if kind == "changed" and found is not None:
        assert found.shape == BOXES.shape
        assert (found[:, 2:] > found[:, :2]).all()
    else:
        assert found is None


@pytest.mark.parametrize("rows", [0, 3, 7])  # a flip makes a 3 of the header a 7
def test_a_damaged_file_is_never_taken_for_a_whole_one(rows: int) -> None:
    """Any flipped bit; any cut but that which takes the hash alone; a name of another image."""
    boxes = np.array([[5, 5, 60, 70]] * rows, np.float32).reshape(rows, 4)
    whole = _sealed(_packed(boxes), CONTENT)
    found = _unsealed(whole, CONTENT)
    assert found is not None
    assert found.tolist() == boxes.tolist()
    for place, byte in enumerate(whole):
        for bit in range(8):
            flipped = whole[:place] + bytes([byte ^ 1 << bit]) + whole[place + 1 :]
            assert _unsealed(flipped, CONTENT) is None
    cuts = range(len(whole))
    assert [n for n in cuts if _unsealed(whole[:n], CONTENT) is not None] == [len(whole) - SEAL]
    assert _unsealed(whole, "cd" * 32) is None


def test_a_flipped_bit_in_the_store_is_made_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = ProposalStore(tmp_path, CONFIG)
    store.put(CONTENT, BOXES)
    whole = store.path(CONTENT).read_bytes()
    for place in range(128, 128 + 3 * 8):  # each a coordinate's, most of which would be boxes
        store.path(CONTENT).write_bytes(
            whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :]
        )
        assert store.get(CONTENT) is None
    assert caplog.messages == [f"{store.path(CONTENT)}: is damaged, so it is made again."] * 24


def test_files_of_before_are_read(tmp_path: Path) -> None:
    """They have no hash; to find them again would take hours."""
    store = ProposalStore(tmp_path, CONFIG)
    store.put(CONTENT, BOXES)
    store.path(CONTENT).write_bytes(_packed(BOXES.numpy()))
    assert torch.equal(store.get(CONTENT), BOXES)


def test_what_are_no_boxes_is_refused(tmp_path: Path) -> None:
    said = (
        "ProposalStore.put: row 0 is [5.0, 5.0, 5.0, 9.0], but x1 < x2 and y1 < y2 must hold; "
        "are these xywh boxes? Convert with detkit.ops.xywh_to_xyxy."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
        ProposalStore(tmp_path, CONFIG).put(CONTENT, torch.tensor([[5.0, 5.0, 5.0, 9.0]]))


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.write_text("a file")
    store = ProposalStore(taken, CONFIG)
    with pytest.raises(DetkitError) as problem:
        store.put(CONTENT, BOXES)
    assert str(problem.value) == (
        f"{store.folder}: this folder cannot be made (Not a directory). Name another with "
        "data.proposals."
    )


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    store = ProposalStore(tmp_path, CONFIG)
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(DetkitError) as problem:
        store.put(CONTENT, BOXES)
    assert str(problem.value) == (
        f"{store.folder}: proposals cannot be written (No space left on device). Name another "
        "folder with data.proposals."
    )
    assert store.missing([CONTENT]) == [CONTENT]
