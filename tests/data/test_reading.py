"""Reading an entry: what a folder of another format than the named one is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from detkit.data import read_dataset, summary
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


def test_copies_that_were_saved_anew_lie_in_one_part(tmp_path: Path) -> None:
    names = [f"{number:02}" for number in range(20)]
    folder = write_voc(tmp_path / "voc", {n: voc_xml([("cat", (1, 1, 20, 30))]) for n in names})
    for name in names[:3]:  # each again, without loss and under another name
        with Image.open(folder / "JPEGImages" / f"{name}.jpg") as image:
            image.save(folder / "JPEGImages" / f"1{name[1]}.png")
        (folder / "JPEGImages" / f"1{name[1]}.jpg").unlink()
    for seed in range(5):
        entry = {"format": "voc", "root": folder, "split": "trainval", "split_seed": seed}
        train, held = (
            set(read_dataset({**entry, "part": part}).image_ids.tolist())
            for part in ("train", "eval")
        )
        assert train | held == set(names)
        assert held
        for name in names[:3]:
            assert {name, f"1{name[1]}"} <= train or {name, f"1{name[1]}"} <= held


def test_two_pictures_are_parted_however_many_copies_there_are(tmp_path: Path) -> None:
    names = "abcdefghij"
    folder = write_voc(tmp_path / "voc", {n: voc_xml([("cat", (1, 1, 20, 30))]) for n in names})
    for name in names[:-1]:
        Image.new("RGB", (80, 60)).save(folder / "JPEGImages" / f"{name}.jpg")
    entry = {"format": "voc", "root": folder, "split": "trainval"}
    for seed in range(5):
        held = read_dataset({**entry, "part": "eval", "split_seed": seed})
        assert held.image_ids.tolist() == ["j"]
        assert len(read_dataset({**entry, "part": "train", "split_seed": seed})) == 9


@pytest.mark.parametrize("count", [1, 4])
def test_of_one_picture_nothing_is_held_out_and_the_data_line_says_so(
    tmp_path: Path, count: int
) -> None:
    names = "abcd"[:count]
    folder = write_voc(tmp_path / "voc", {n: voc_xml([("cat", (1, 1, 20, 30))]) for n in names})
    for name in names:
        Image.new("RGB", (80, 60)).save(folder / "JPEGImages" / f"{name}.jpg")
    entry = {"format": "voc", "root": folder, "split": "trainval"}
    train, held = (read_dataset({**entry, "part": part}) for part in ("train", "eval"))
    assert [len(train), len(held)] == [count, 0]
    told = f"{count} images that are all one picture, so that none is held out"
    assert told in summary(train)
    assert told in summary(held)
    whole = read_dataset({**entry, "part": "train", "hold_out": 0.0})
    assert "one picture" not in summary(whole)
