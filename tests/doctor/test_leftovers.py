"""Files of a folder that none of its splits speaks of, in folders of each format."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from detkit.data import read_dataset
from detkit.data.yolo_labels import WITHOUT_IMAGE
from detkit.doctor.leftovers import Leftovers, find_leftovers
from tests.oracles import voc_xml, write_image, write_voc

PAGE = voc_xml([("cat", (1, 1, 20, 30))])
Entry = Mapping[str, Any]


def left_in(*entries: Entry, unread: Sequence[str] = ()) -> list[Leftovers]:
    data = [read_dataset({**entry, "max_unreadable": 1.0}) for entry in entries]
    return find_leftovers(entries, data, unread)


def write_images(folder: Path, *names: str) -> None:
    for name in names:
        write_image(folder / name)


def voc(root: Path, *splits: str) -> list[Entry]:
    return [{"format": "voc", "root": root, "split": split} for split in splits]


def write_listed(root: Path) -> Path:
    """``t0`` to ``t3`` in train, ``v0`` in val."""
    write_voc(root, {f"t{n}": PAGE for n in range(4)}, split="train")
    return write_voc(root, {"v0": PAGE}, split="val")


def write_coco(root: Path, split: str, names: Sequence[str]) -> Entry:
    path = root / "annotations" / f"instances_{split}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [{"id": n, "file_name": name} for n, name in enumerate(names)]
    boxes = [
        {"id": n, "image_id": n, "category_id": 1, "bbox": [1, 1, 9, 9]} for n in range(len(names))
    ]
    categories = [{"id": 1, "name": "cat"}]
    path.write_text(json.dumps({"images": images, "annotations": boxes, "categories": categories}))
    return {"format": "coco", "root": root, "split": split}


# ---------------------------------------------------------------------------- PASCAL VOC


def test_a_folder_whose_images_are_all_listed(tmp_path: Path) -> None:
    root = write_listed(tmp_path)
    assert left_in(*voc(root, "train", "val")) == []
    assert left_in(*voc(root, "train")) == []  # val's list is asked, too


def test_voc_images_in_no_list(tmp_path: Path) -> None:
    root = write_listed(tmp_path)
    write_images(root / "JPEGImages", "a.jpg", "sub/b.PNG", "t0 copy.jpg")
    (root / "Annotations" / "a.xml").write_text(PAGE)
    (found,) = left_in(*voc(root, "train", "val"))
    assert (found.images, found.annotated) == (
        ("JPEGImages/a.jpg", "JPEGImages/t0 copy.jpg"), 1
    )  # fmt: skip
    assert found.beside == 7
    assert found.folders == {"JPEGImages/sub": 1}
    assert (found.annotations, found.other_splits, found.is_counted) == ((), (), False)


def test_voc_labels_whose_image_is_lost(tmp_path: Path) -> None:
    """In no list: a listed one is among the images that cannot be used."""
    root = write_listed(tmp_path)
    for name in ("lost", "renamed", "Case"):
        (root / "Annotations" / f"{name}.xml").write_text(PAGE)
    other = voc_xml([("cat", (1, 1, 20, 30))], file_name="old.jpg")
    (root / "Annotations" / "renamed.xml").write_text(other)
    (root / "Annotations" / "bad.xml").write_text("<annotation>")
    write_images(root / "JPEGImages", "old.jpg", "case.jpg")
    (root / "JPEGImages" / "t1.jpg").unlink()
    (found,) = left_in(*voc(root, "train", "val"))
    assert found.annotations == ("Annotations/bad.xml", "Annotations/lost.xml")


def test_a_voc_list_that_cannot_be_read_is_known_all_the_same(tmp_path: Path) -> None:
    """As the test sets of VOC 2008 to 2012, which have no public annotations."""
    root = write_listed(tmp_path)
    (root / "ImageSets" / "Main" / "test.txt").write_text("x0\nx1\n")
    (root / "ImageSets" / "Main" / "cat_train.txt").write_text("a 1\n")  # no split of its own
    write_images(root / "JPEGImages", "x0.jpg", "x1.jpg", "a.jpg")
    entries = voc(root, "train", "val", "test")
    data = [read_dataset(entry) for entry in entries[:2]]
    (found,) = find_leftovers(entries, data, [str(root)])
    assert found.images == ("JPEGImages/a.jpg",)


def test_masks_of_voc_are_no_images_of_a_dataset(tmp_path: Path) -> None:
    root = write_listed(tmp_path)
    write_images(root / "SegmentationClass", "t0.png", "other.png")
    write_images(root / "masks", "t0.png", "t1.png", "note.png")
    assert left_in(*voc(root, "train", "val")) == []


def test_voc_without_lists_is_counted_by_its_reader(tmp_path: Path) -> None:
    root = write_listed(tmp_path)
    shutil.rmtree(root / "ImageSets")
    write_images(root / "JPEGImages", "a.jpg")
    (found,) = left_in(*voc(root, "all"))
    assert (found.images, found.is_counted) == (("JPEGImages/a.jpg",), True)


# ------------------------------------------------------------------------- other formats


def test_coco_images_that_the_json_lacks(tmp_path: Path) -> None:
    write_images(tmp_path / "train", "0.jpg", "1.jpg", "2.jpg", "3.jpg")
    write_images(tmp_path / "val", "0.jpg", "9.jpg")
    write_images(tmp_path / "test/a", "0.jpg", "1.jpg")
    write_images(tmp_path / "test/b", "0.jpg")
    train = write_coco(tmp_path, "train", ["0.jpg", "1.jpg", "gone.jpg"])
    val = write_coco(tmp_path, "val", ["0.jpg"])
    (found,) = left_in(train, val)
    assert found.images == ("train/2.jpg", "train/3.jpg", "val/9.jpg")
    assert (found.beside, found.folders, found.other_splits) == (6, {"test": 3}, ())
    (found,) = left_in(train)
    assert found.images == ("train/2.jpg", "train/3.jpg")
    assert (found.folders, found.other_splits) == ({"test": 3, "val": 2}, ("val",))


def test_yolo_images_that_no_list_names(tmp_path: Path) -> None:
    write_images(tmp_path / "images", *(f"{n}.jpg" for n in range(6)))
    (tmp_path / "labels").mkdir()
    for n in range(5):
        (tmp_path / "labels" / f"{n}.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    (tmp_path / "train.txt").write_text("images/0.jpg\nimages/1.jpg\n")
    (tmp_path / "val.txt").write_text("images/2.jpg\n")
    entries = [{"format": "yolo", "root": tmp_path, "split": name} for name in ("train", "val")]
    (found,) = left_in(*entries)
    assert found.images == ("images/3.jpg", "images/4.jpg", "images/5.jpg")
    assert (found.annotated, found.beside) == (2, 6)
    (tmp_path / "data.yaml").write_text("train: train.txt\nval: val.txt\nnames: [cat]\n")
    at_file = [{**entry, "root": tmp_path / "data.yaml"} for entry in entries]
    assert [(each.root, each.images) for each in left_in(*at_file)] == [(tmp_path, found.images)]


def test_yolo_labels_of_no_image_where_lists_name_the_images(tmp_path: Path) -> None:
    """A listed image that is gone is among those that cannot be used."""
    write_images(tmp_path / "images", "0.jpg", "1.jpg", "Big.jpg")
    (tmp_path / "labels").mkdir()
    for name in ("0", "1", "big", "gone", "lost", "2"):
        (tmp_path / "labels" / f"{name}.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    (tmp_path / "labels" / "classes.txt").write_text("cat\n")
    (tmp_path / "train.txt").write_text("images/0.jpg\nimages/gone.jpg\n")
    (tmp_path / "val.txt").write_text("images/1.jpg\nimages/Big.jpg\n")
    entries = [{"format": "yolo", "root": tmp_path, "split": name} for name in ("train", "val")]
    (found,) = left_in(*entries)
    assert (found.images, found.annotations) == ((), ("labels/2.txt", "labels/lost.txt"))
    (tmp_path / "train.txt").unlink()
    whole = {"format": "yolo", "root": tmp_path, "split": ""}
    assert left_in(whole) == []  # the reader counts them
    counted = read_dataset({**whole, "max_unreadable": 1.0}).report.counts
    assert [count for kind, count in counted.items() if kind.startswith(WITHOUT_IMAGE)] == [3]


def test_csv_and_its_reader_agree(tmp_path: Path) -> None:
    write_images(tmp_path / "images", "0.jpg", "1.jpg", "2.jpg")
    (tmp_path / "train.csv").write_text("images/0.jpg,1,1,9,9,cat\n")
    entry = {"format": "csv", "root": tmp_path, "split": "train"}
    (found,) = left_in(entry)
    assert (found.images, found.is_counted) == (("images/1.jpg", "images/2.jpg"), True)
    counts = read_dataset(entry).report.counts
    assert counts["images that the table does not name left out"] == 2


# ------------------------------------------------------------------------------ entries


def test_parts_of_a_split_make_it_whole(tmp_path: Path) -> None:
    """And what one part alone has not, the other may have."""
    names = [f"{n}.jpg" for n in range(10)]
    write_images(tmp_path / "train", *names, "left.jpg")
    entry = write_coco(tmp_path, "train", names)
    parts = [{**entry, "part": part} for part in ("train", "eval")]
    assert [found.images for found in left_in(*parts)] == [("train/left.jpg",)]
    assert left_in(parts[0]) == []
    assert left_in(parts[1]) == []


def test_two_folders_and_one_within_the_other(tmp_path: Path) -> None:
    outer, inner = write_listed(tmp_path), write_listed(tmp_path / "more")
    write_images(inner / "JPEGImages", "a.jpg")
    found = left_in(*voc(outer, "train", "val"), *voc(inner, "train", "val"))
    assert [(each.root, each.images) for each in found] == [(inner, ("JPEGImages/a.jpg",))]


def test_of_a_folder_that_could_not_be_read_nothing_is_said(tmp_path: Path) -> None:
    write_images(tmp_path / "train", "0.jpg", "1.jpg")
    entry = write_coco(tmp_path, "train", ["0.jpg"])
    assert len(left_in(entry)) == 1
    assert left_in(entry, unread=[str(tmp_path)]) == []


def test_images_that_are_linked_to_are_named(tmp_path: Path) -> None:
    root = write_listed(tmp_path / "data")
    shutil.move(root / "JPEGImages", root / "store")
    (root / "JPEGImages").symlink_to(root / "store", target_is_directory=True)
    assert left_in(*voc(root, "train", "val")) == []


def test_generated_data_has_no_folder(tmp_path: Path) -> None:
    assert find_leftovers([{"format": "shapes", "images": 4}], []) == []


@pytest.mark.parametrize("name", ["a\nb.jpg", "\x1b[31m.jpg", "\udcff.jpg"])
def test_names_stand_on_one_line(tmp_path: Path, name: str) -> None:
    root = write_listed(tmp_path)
    shutil.copy(root / "JPEGImages" / "t0.jpg", root / "JPEGImages" / name)
    (found,) = left_in(*voc(root, "train", "val"))
    assert found.images[0].isprintable()
    found.images[0].encode()
