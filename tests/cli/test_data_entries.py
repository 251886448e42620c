"""What `detkit data` commands are pointed at: words, classes, and the splits of a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from detkit.data import read_dataset
from detkit.errors import ConfigError, DataError
from detkit.workflows.data_keys import all_splits, class_list, read_keys
from tests.data.formats import write_coco, write_yolo


def test_words_become_keys() -> None:
    words = ["data.format=voc", "data.root=/x y/[old]", "data.split=2007", "data.hold_out=1e-1"]
    expected = {"format": "voc", "root": "/x y/[old]", "split": "2007", "hold_out": 0.1}
    assert read_keys([*words, "data.names=[no, 'off']"]) == {**expected, "names": ["no", "off"]}


@pytest.mark.parametrize("word", ["train.lr=1", "data=1", "data.a.b=1"])
def test_other_words_are_refused(word: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_keys([word])
    assert str(caught.value) == f"{word!r}: expected data.KEY=VALUE, e.g. data.split=train."


def test_class_names_are_what_was_typed() -> None:
    keys = read_keys(["data.classes=[yes, no, Off, '7']", "data.split=test"])
    assert class_list(keys) == ("yes", "no", "Off", "7")
    assert keys == {"split": "test"}
    assert class_list(keys) == ()


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("data.classes=cat", "data.classes: expected a list, e.g. 'data.classes=[cat, dog]'."),
        ("data.classes=[a, 7]", "data.classes.1: expected text (put it in quotes); got 7."),
        ("data.classes=[true]", "data.classes.0: expected text (put it in quotes); got True."),
        ("data.classes=[null]", "data.classes.0: expected text (put it in quotes); got nothing."),
    ],
)
def test_what_is_no_class_name_is_refused(word: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        class_list(read_keys([word]))
    assert str(caught.value) == sentence


@pytest.fixture
def both(tiny_voc: Path) -> Path:
    """A folder that holds the same images as VOC and as YOLO text."""
    for split in ("trainval", "test"):
        entry = {"format": "voc", "root": tiny_voc, "split": split}
        write_yolo(tiny_voc, read_dataset(entry), split)
    (tiny_voc / "data.yaml").write_text("names: [cat, dog]\n")
    return tiny_voc


def splits(**keys: Any) -> list[tuple[str, str, int]]:
    """Name, format and number of images of each split."""
    found = all_splits({key: str(value) for key, value in keys.items()})
    return [(name, e["format"], len(read_dataset(e))) for name, e in found.items()]


def test_of_two_formats_the_one_that_is_named_is_taken(both: Path) -> None:
    for name in ("yolo", "voc"):
        assert splits(root=both, format=name) == [("test", name, 2), ("trainval", name, 4)]
    with pytest.raises(DataError) as caught:
        all_splits({"root": str(both)})
    assert str(caught.value).startswith(f"{both}: holds PASCAL VOC (splits test, trainval) and ")


def test_a_coco_file_that_is_named_is_all(tiny_voc: Path, tmp_path: Path) -> None:
    data = read_dataset({"format": "voc", "root": tiny_voc, "split": "test"})
    folder = tmp_path / "coco"
    write_coco(folder, data, "mine")
    (folder / "annotations" / "instances_mine.json").rename(folder / "boxes.json")
    words = {"annotations": "boxes.json", "images": "mine"}
    assert splits(root=folder, format="coco", **words) == [("all", "coco", 2)]


def test_splits_whose_purpose_no_name_tells(tiny_voc: Path) -> None:
    """Which of them to train on is no question where all are taken."""
    sets = tiny_voc / "ImageSets" / "Main"
    (sets / "trainval.txt").rename(sets / "north.txt")
    (sets / "test.txt").rename(sets / "south.txt")
    expected = [("north", "voc", 4), ("south", "voc", 2)]
    assert splits(root=tiny_voc) == splits(root=tiny_voc, format="voc") == expected


def test_one_split_is_taken_where_it_is_named(tiny_voc: Path) -> None:
    for format_name in ("auto", "voc"):
        assert splits(root=tiny_voc, format=format_name, split="test") == [("test", "voc", 2)]


def test_a_format_that_is_not_there_is_left_to_its_reader(tiny_voc: Path) -> None:
    keys = {"root": str(tiny_voc), "format": "coco"}
    assert all_splits(keys) == {"all": keys}
    shapes = {"root": str(tiny_voc / "new"), "format": "shapes"}
    assert all_splits(shapes) == {"all": shapes}
    with pytest.raises(DataError) as caught:
        all_splits({"root": str(tiny_voc / "gone"), "format": "voc"})
    assert str(caught.value) == (
        f"{tiny_voc / 'gone'}: no such folder. Point to your data with data.root=PATH."
    )
