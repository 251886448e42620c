"""A split for training that cannot be read: what is to measure on does not take its place."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from detkit.data import read_dataset
from detkit.data.auto import resolve
from detkit.data.recognise import recognise
from detkit.errors import DataError
from detkit.workflows.data_keys import all_splits
from tests.oracles import voc_xml, write_image, write_voc

BOX = {"category_id": 1, "bbox": [10, 10, 20, 30], "area": 600, "iscrowd": 0}
HEADER = "filename,width,height,class,xmin,ymin,xmax,ymax\n"


def yolo(root: Path) -> None:
    for split in ("train", "val"):
        write_image(root / "images" / split / f"{split}.png")
        label = root / "labels" / split / f"{split}.txt"
        label.parent.mkdir(parents=True)
        label.write_text("0 0.5 0.5 0.5 0.5\n")


def yolo_lists(root: Path) -> None:
    for split in ("train", "val"):
        write_image(root / "obj" / f"{split}.png")
        (root / "obj" / f"{split}.txt").write_text("0 0.5 0.5 0.5 0.5\n")
        (root / f"{split}.txt").write_text(f"obj/{split}.png\n")


def coco(root: Path) -> None:
    for split in ("train", "val"):
        write_image(root / split / f"{split}.png")
        blocks = {
            "images": [{"id": 1, "file_name": f"{split}.png", "width": 80, "height": 60}],
            "annotations": [{"id": 1, "image_id": 1, **BOX}],
            "categories": [{"id": 1, "name": "cat"}],
        }
        (root / split / "_annotations.coco.json").write_text(json.dumps(blocks))


def csv(root: Path) -> None:
    for split in ("train", "val"):
        write_image(root / split / f"{split}.png")
        line = f"{split}.png,80,60,cat,10,10,30,40\n"
        (root / split / "_annotations.csv").write_text(HEADER + line)


def voc(root: Path) -> None:
    for split in ("train", "val"):
        write_voc(root, {split: voc_xml([("cat", (1, 1, 40, 30))])}, split=split)


CASES: dict[str, tuple[Callable[[Path], None], Callable[[Path], object], str]] = {
    "labels gone": (yolo, lambda root: shutil.rmtree(root / "labels/train"), "images/train"),
    "images gone": (yolo, lambda root: shutil.rmtree(root / "images/train"), "labels/train"),
    "classes by name": (
        yolo,
        lambda root: (root / "labels/train/train.txt").write_text("cat 0.5 0.5 0.5 0.5\n"),
        "images/train",
    ),
    "two lines of a list come to one image": (
        yolo_lists,
        lambda root: (root / "train.txt").write_text("/a/obj/train.png\n/b/obj/train.png\n"),
        "both come to obj/train.png",
    ),
    "JSON cut short": (
        coco,
        lambda root: (root / "train/_annotations.coco.json").write_text('{"images": ['),
        "train is for training",
    ),
    "other columns": (
        csv,
        lambda root: (root / "train/_annotations.csv").write_text("file_id,width\n1,2\n"),
        "train is for training",
    ),
    "list empty": (
        voc,
        lambda root: (root / "ImageSets/Main/train.txt").write_text(""),
        "ImageSets/Main/train.txt",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_nothing_is_learned_from_val_where_train_cannot_be_read(case: str, tmp_path: Path) -> None:
    write, spoil, said = CASES[case]
    write(tmp_path)
    entry = {"format": "auto", "root": str(tmp_path)}
    assert [e["split"] for e in resolve({"train": [entry]})[0]["train"]] == ["train"]
    spoil(tmp_path)
    with pytest.raises(DataError, match=r"only val can\..*data\.split=val") as caught:
        resolve({"train": [entry]})
    assert said in str(caught.value)
    for command in (lambda: all_splits({"root": tmp_path}), lambda: read_dataset(entry)):
        with pytest.raises(DataError, match="only val can"):
            command()
    assert [e["split"] for e in resolve({"eval": [entry]}, "eval")[0]["eval"]] == ["val"]
    chosen, _ = resolve({"train": [entry | {"split": "val"}]})
    assert [e["split"] for e in chosen["train"]] == ["val"]


def test_a_folder_that_holds_what_is_to_measure_on_alone_is_taken(tmp_path: Path) -> None:
    yolo(tmp_path)
    shutil.rmtree(tmp_path / "images/train")
    shutil.rmtree(tmp_path / "labels/train")
    (tmp_path / "images/train").mkdir()
    (tmp_path / "training_notes.txt").write_text("of the summer")
    (tmp_path / "train.py").write_text("")
    found = recognise(tmp_path)
    assert found.unread == ""
    assert [split.name for split in found.splits] == ["val"]


@pytest.mark.parametrize(
    ("write", "spoil", "place"),
    [
        (yolo, lambda root: shutil.rmtree(root / "labels/val"), "images/val"),
        (coco, lambda root: (root / "val/_annotations.coco.json").unlink(), "val"),
        (voc, lambda root: (root / "ImageSets/Main/val.txt").write_text(""), None),
    ],
)
def test_what_is_to_measure_on_and_cannot_be_read_is_said(
    write: Callable[[Path], None], spoil: Callable[[Path], object], place: str, tmp_path: Path
) -> None:
    write(tmp_path)
    entry = {"format": "auto", "root": str(tmp_path)}
    assert "can be read" not in resolve({"train": [entry]})[1][0]
    spoil(tmp_path)
    (line,) = resolve({"train": [entry]})[1]
    assert line.endswith(f", as nothing of {place or 'ImageSets/Main/val.txt'} can be read")
