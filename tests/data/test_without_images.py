"""Annotations without their images: as the files state them, in each format that can be so read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detkit.data import Annotations, join, read_dataset, summary
from detkit.data.without_images import NeedsImagesError, read_as_far_as_there
from detkit.errors import ConfigError, DataError
from detkit.evaluation.truth import truth_of
from tests.data import coco_files
from tests.data.formats import (
    write_coco,
    write_createml,
    write_csv,
    write_cvat,
    write_labelme,
    write_yolo,
)
from tests.oracles import voc_xml, write_image, write_voc

PAGES = {
    "a": voc_xml([("dog", (1, 1, 40, 30)), ("cat", (30, 20, 90, 60)), ("ant", (85, 5, 99, 20))]),
    "b": voc_xml([("cat", (11, 21, 30, 50))]),
    "c": voc_xml([]),
    "d": voc_xml([("dog", (5, 5, 44, 54)), ("dog", (50, 5, 79, 24))], difficult=[0, 1]),
}  # one box is partly outside its image, one wholly
WRITERS: dict[str, Callable[[Path, Annotations, str], None]] = {
    "coco": write_coco,
    "csv": write_csv,
    "labelme": write_labelme,
    "createml": write_createml,
    "cvat": write_cvat,
    "yolo": write_yolo,
}
NOT_THERE = "4 images not looked at (sizes and boxes as stated), 4 of them not there"


def entry_of(name: str, folder: Path) -> dict[str, Any]:
    write_voc(folder / "voc", PAGES)
    voc = {"format": "voc", "root": str(folder / "voc"), "split": "trainval"}
    if name == "voc":
        return voc
    WRITERS[name](folder / name, read_dataset(voc), "val")
    return {"format": name, "root": str(folder / name), "split": "val"}


def remove_images(root: Path, *names: str) -> None:
    """Remove the images, or those of these names, and the folders that they leave empty."""
    for path in root.rglob("*.jpg"):
        if not names or path.name in names:
            path.unlink()
    for path in sorted(root.rglob("*"), reverse=True):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()


def without(entry: dict[str, Any], **keys: Any) -> Annotations:
    return read_as_far_as_there(lambda images: read_dataset({**entry, **keys}, images=images))


@pytest.mark.parametrize("name", ["voc", "coco", "csv", "labelme", "createml", "cvat"])
@pytest.mark.parametrize("named", [True, False])
def test_boxes_are_those_that_the_images_would_have_given(
    name: str, named: bool, tmp_path: Path
) -> None:
    entry = entry_of(name, tmp_path)
    right = read_dataset(entry)
    remove_images(Path(entry["root"]))
    if not named:
        entry["format"] = "auto"
    with pytest.raises(DataError):
        read_dataset(entry)
    found = without(entry)
    assert NOT_THERE in summary(found)
    assert found.class_names == right.class_names
    stems = [[Path(path).stem for path in data.paths] for data in (found, right)]
    assert stems[0] == stems[1]
    ours, theirs = truth_of(found), truth_of(right)
    np.testing.assert_array_equal(ours.offsets, theirs.offsets)
    np.testing.assert_array_equal(ours.measured, theirs.measured)
    np.testing.assert_array_equal(ours.labels, theirs.labels)
    np.testing.assert_array_equal(ours.difficult, theirs.difficult)
    np.testing.assert_array_equal(ours.area, theirs.area)


@pytest.mark.parametrize("name", ["voc", "coco", "csv"])
def test_ids_are_the_same(name: str, tmp_path: Path) -> None:
    """A file of detections names them, whoever has the images."""
    entry = entry_of(name, tmp_path)
    right = read_dataset(entry).image_ids.tolist()
    assert read_dataset(entry, images=False).image_ids.tolist() == right
    remove_images(Path(entry["root"]))
    assert without(entry).image_ids.tolist() == right


def test_images_that_are_there_are_looked_at(tmp_path: Path) -> None:
    """Nothing is said, and a size that is stated wrongly is the image's."""
    entry = entry_of("voc", tmp_path)
    write_image(tmp_path / "voc" / "JPEGImages" / "b.jpg", (120, 160))
    data = without(entry)
    assert "not looked at" not in summary(data)
    assert data.sizes[1].tolist() == [120, 160]
    assert "1 annotations of another size than the image" in summary(data)
    stated = read_dataset(entry, images=False)
    assert stated.sizes[1].tolist() == [60, 80]
    assert "4 images not looked at (sizes and boxes as stated)" in summary(stated)
    assert "not there" not in summary(stated)


@pytest.mark.parametrize("missing", [["a.jpg"], ["a.jpg", "c.jpg"]])
def test_where_some_are_missing_none_is_looked_at(missing: list[str], tmp_path: Path) -> None:
    """The one that may be missing in training would be missing in a figure."""
    entry = {**entry_of("voc", tmp_path), "max_unreadable": 0.25}
    remove_images(tmp_path / "voc", *missing)
    data = without(entry)
    assert len(data) == 4
    assert f"{len(missing)} of them not there" in summary(data)
    assert not data.report.unreadable


def test_damaged_images_are_told_as_ever(tmp_path: Path) -> None:
    entry = {**entry_of("voc", tmp_path), "max_unreadable": 0}
    (tmp_path / "voc" / "JPEGImages" / "a.jpg").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"1 of 4 images cannot be used"):
        without(entry)
    assert len(without({**entry, "max_unreadable": 0.5})) == 3


def test_where_no_size_is_stated_nothing_is_clipped(tmp_path: Path) -> None:
    pages = {"a": voc_xml([("dog", (70, 50, 200, 190))], size=None)}
    write_voc(tmp_path / "voc", pages)
    remove_images(tmp_path / "voc")
    entry = {"format": "voc", "root": str(tmp_path / "voc"), "split": "trainval"}
    data = without(entry)
    assert data.boxes.tolist() == [[69, 49, 200, 190]]
    assert data.sizes.tolist() == [[0, 0]]
    assert summary(data) == (
        "1 images (0 without objects), 1 objects of 1 classes, 1 annotations without a size, "
        "1 images not looked at (sizes and boxes as stated), 1 of them not there"
    )


def test_mistakes_of_the_annotations_are_told_as_with_images(tmp_path: Path) -> None:
    entry = entry_of("voc", tmp_path)
    page = tmp_path / "voc" / "Annotations" / "b.xml"
    page.write_text("no XML")
    with pytest.raises(DataError) as caught:
        read_dataset(entry)
    remove_images(tmp_path / "voc")
    with pytest.raises(DataError) as again:
        without(entry)
    assert str(again.value) == str(caught.value)


def test_shares_need_the_images(tmp_path: Path) -> None:
    yolo = entry_of("yolo", tmp_path)
    remove_images(Path(yolo["root"]))
    said = "boxes are shares of each image's width and height, which no file states, so the images"
    with pytest.raises(NeedsImagesError, match=said) as caught:
        without(yolo)
    assert str(caught.value).startswith(f"{yolo['root']}: ")
    table = tmp_path / "oi" / "val.csv"
    table.parent.mkdir()
    table.write_text("ImageID,LabelName,XMin,XMax,YMin,YMax\na,cat,0.1,0.5,0.2,0.6\n")
    with pytest.raises(NeedsImagesError, match=said) as caught:
        without({"format": "csv", "root": str(table)})
    assert str(caught.value).startswith(f"{table}: ")
    with pytest.raises(
        DataError, match=r"holds label files of YOLO text, such as .* but no images\."
    ):
        without({**yolo, "format": "auto"})


def test_shares_whose_images_are_there_get_the_sentence_of_what_is_wrong(tmp_path: Path) -> None:
    yolo = entry_of("yolo", tmp_path)
    assert len(without(yolo)) == 4
    with pytest.raises(DataError, match=r"no file states, so the images have to be looked at\.$"):
        read_dataset(yolo, images=False)
    image = tmp_path / "yolo" / "images" / "val" / "a.jpg"
    image.unlink()
    image.write_bytes(b"no picture")
    with pytest.raises(DataError, match="1 of 4 images cannot be used"):
        without(yolo, max_unreadable=0)
    (tmp_path / "yolo" / "labels" / "val" / "a.txt").write_text("0 0.5 0.5\n")
    with pytest.raises(DataError) as caught:
        without(yolo)
    assert not isinstance(caught.value, NeedsImagesError)


def test_pixels_that_are_shares_are_refused_as_ever(tmp_path: Path) -> None:
    table = tmp_path / "val.csv"
    table.write_text("".join(f"{i}.jpg,0.1,0.1,0.5,0.5,cat\n" for i in range(5)))
    with pytest.raises(DataError, match=r"0\.jpg: they seem to be shares of the image's"):
        without({"format": "csv", "root": str(table)})


@pytest.mark.parametrize("folder", ["xmls", "annots"])
def test_xml_of_other_folders_needs_no_folder_of_images(folder: str, tmp_path: Path) -> None:
    (tmp_path / folder).mkdir()
    for name, text in PAGES.items():
        (tmp_path / folder / f"{name}.xml").write_text(text)
    for keys in ({"format": "voc"}, {"format": "auto"}):
        if folder == "xmls":
            keys["annotations"] = folder
        assert len(without({**keys, "root": str(tmp_path), "split": "all"})) == 4


def test_xml_in_one_folder_is_named_by_a_key(tmp_path: Path) -> None:
    for name, text in PAGES.items():
        (tmp_path / f"{name}.xml").write_text(text)
    entry = {"format": "voc", "root": str(tmp_path), "split": ""}
    with pytest.raises(DataError, match=r"Name it with data\.annotations=FOLDER"):
        without(entry)
    assert len(without(entry, annotations=".")) == 4


@pytest.mark.parametrize("name", ["/home/x/a.jpg", "..\\pics\\a.jpg", "cam/a.png"])
def test_a_file_name_of_another_machine_is_no_matter(name: str, tmp_path: Path) -> None:
    write_voc(tmp_path / "voc", {"a": voc_xml([("cat", (1, 1, 9, 9))], file_name=name)})
    remove_images(tmp_path / "voc")
    data = without({"format": "voc", "root": str(tmp_path / "voc"), "split": "trainval"})
    assert data.image_ids.tolist() == ["a"]
    coco_files.write(
        tmp_path, images=[{**i, "file_name": f"{name}{i['id']}"} for i in coco_files.IMAGES]
    )
    (tmp_path / "mini" / "a.png").unlink()
    (tmp_path / "mini" / "c.png").unlink()  # one is left, of no name that is written
    entry = {"format": "coco", "root": str(tmp_path), "split": "mini"}
    assert len(without(entry)) == 3


def test_a_part_needs_the_images(tmp_path: Path) -> None:
    """Which images are held out depends on what shows in them."""
    entry = entry_of("voc", tmp_path)
    assert len(without(entry, part="eval")) == 1
    remove_images(tmp_path / "voc", "b.jpg")
    with pytest.raises(NeedsImagesError) as caught:
        without(entry, part="eval", max_unreadable=0.0)
    assert str(caught.value) == (
        f"data.part: is eval, and which images of {entry['root']} that is, is told by the images "
        "too, as copies of one stay together; some are not there. Put them where they belong, or "
        "measure on all with data.part=all."
    )


def test_some_of_the_classes_of_data_without_images(tmp_path: Path) -> None:
    entry = entry_of("coco", tmp_path)
    remove_images(Path(entry["root"]))
    data = without(entry, only=["cat"])
    assert (data.class_names, len(data.boxes)) == (("cat",), 2)


def test_datasets_without_images_are_joined(tmp_path: Path) -> None:
    one, other = entry_of("voc", tmp_path / "1"), entry_of("coco", tmp_path / "2")
    for entry in (one, other):
        remove_images(Path(entry["root"]))
    joined = join([without(one), without(other)])
    assert len(joined) == 8
    assert "8 images not looked at (sizes and boxes as stated), 8 of them not there" in summary(
        joined
    )


def test_whether_to_look_is_a_flag(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="read_dataset: images"):
        read_dataset(entry_of("voc", tmp_path), images="no")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["voc", "coco", "csv"])
def test_a_folder_of_images_that_is_named_may_be_gone_with_them(name: str, tmp_path: Path) -> None:
    entry = entry_of(name, tmp_path)
    folder = {"voc": "JPEGImages", "coco": "val", "csv": "images"}[name]
    if name == "csv":  # names count from there
        table = tmp_path / "csv" / "val.csv"
        table.write_text(table.read_text().replace("images/", ""))
    entry["images"] = folder
    right = read_dataset(entry)
    remove_images(Path(entry["root"]))
    with pytest.raises(DataError, match=r"data\.images: .* is no folder"):
        read_dataset(entry)
    found = without(entry)
    assert found.image_ids.tolist() == right.image_ids.tolist()
    assert NOT_THERE in summary(found)
