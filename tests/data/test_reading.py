"""Reading an entry: what a folder of another format than the named one is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from detkit.data import read_dataset
from detkit.errors import DataError
from tests.conftest import voc_xml, write_voc


@pytest.mark.parametrize(
    ("named", "title"), [("coco", "COCO JSON"), ("yolo", "YOLO text"), ("csv", "CSV")]
)
def test_another_format_is_recognised(tiny_voc: Path, named: str, title: str) -> None:
    with pytest.raises(DataError) as caught:
        read_dataset({"format": named, "root": tiny_voc, "split": "trainval"})

    hint = f" It looks like PASCAL VOC, not {title}: set data.format=auto."
    assert str(caught.value).endswith(hint)
    assert len(read_dataset({"format": "auto", "root": tiny_voc, "split": "trainval"})) == 4


def test_the_named_format_with_a_mistake_in_it_gets_no_hint(tmp_path: Path) -> None:
    folder = write_voc(tmp_path / "voc", {"1": voc_xml([("cat", (1, 1, 20, 20))])})

    with pytest.raises(DataError, match=r"no such split file\. Known: trainval\.$"):
        read_dataset({"format": "voc", "root": folder, "split": "val"})


def test_a_folder_of_no_format_gets_no_hint(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"Check data\.split\.$"):
        read_dataset({"format": "yolo", "root": tmp_path, "split": "val"})


def test_copies_of_a_picture_lie_in_one_part(tmp_path: Path) -> None:
    """Measured on what was learned from under another name, a figure would flatter."""
    names = [f"{number:02}" for number in range(20)]
    pages = {name: voc_xml([("cat", (1, 1, 20 + int(name), 30))]) for name in names}
    folder = write_voc(tmp_path / "voc", pages)
    for name in names:  # each a picture of its own, but for three pairs and a triple
        colour = {"07": 3, "12": 4, "13": 5, "18": 6, "19": 6}.get(name, int(name))
        Image.new("RGB", (80, 60), (colour * 10, 0, 0)).save(folder / "JPEGImages" / f"{name}.jpg")
    groups = [{"03", "07"}, {"04", "12"}, {"05", "13"}, {"06", "18", "19"}]
    for seed in range(5):
        entry = {"format": "voc", "root": folder, "split": "trainval", "split_seed": seed}
        train, held = (
            set(read_dataset({**entry, "part": part}).image_ids.tolist())
            for part in ("train", "eval")
        )
        assert train | held == set(names)
        assert not train & held
        assert held
        for group in groups:
            assert group <= train or group <= held


def test_of_nothing_but_copies_something_is_left_to_learn_from(tmp_path: Path) -> None:
    pages = {name: voc_xml([("cat", (1, 1, 20, 30))]) for name in "abcd"}
    folder = write_voc(tmp_path / "voc", pages)
    for name in "abcd":
        Image.new("RGB", (80, 60)).save(folder / "JPEGImages" / f"{name}.jpg")
    entry = {"format": "voc", "root": folder, "split": "trainval"}
    assert [len(read_dataset({**entry, "part": part})) for part in ("train", "eval")] == [3, 1]
