"""Converted datasets: read by other libraries and by hand, and round trips between all formats."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from detkit.data import Annotations, read_dataset
from detkit.data.base import Segments
from detkit.data.convert import choose_file_names, convert
from detkit.data.recognise import recognise
from detkit.errors import DataError, DetkitError, UnknownNameError
from tests.oracles import voc_xml, write_image, write_voc

FORMATS = ("voc", "coco", "yolo", "csv")


def make(
    folder: Path,
    images: dict[str, list[tuple[str, tuple[float, float, float, float]]]],
    names: tuple[str, ...] = ("cat", "dog"),
    size: tuple[int, int] = (60, 80),
) -> Annotations:
    """Annotations of images by file name; each image is written."""
    objects = [entry for inside in images.values() for entry in inside]
    for seed, name in enumerate(images):
        if not (folder / name).exists():
            write_image(folder / name, size, seed)
    boxes = np.array([box for _, box in objects], dtype=np.float32).reshape(-1, 4)
    none = np.zeros(len(objects), dtype=np.bool_)
    return Annotations(
        class_names=names,
        image_ids=np.array([Path(name).stem for name in images]),
        paths=np.array([str(folder / name) for name in images]),
        sizes=np.array([size] * len(images), dtype=np.int32),
        offsets=np.cumsum([0, *(len(inside) for inside in images.values())]),
        boxes=boxes,
        labels=np.array([names.index(name) for name, _ in objects], dtype=np.int64),
        difficult=none,
        crowd=none,
        area=(boxes[:, 2:] - boxes[:, :2]).prod(axis=1),
    )


@pytest.fixture
def data(tmp_path: Path) -> Annotations:
    """Three images in no order of the alphabet, one of them empty, one box with fractions."""
    return make(
        tmp_path / "source",
        {
            "b.png": [("dog", (0, 0, 40, 30)), ("cat", (29.25, 19.1, 80, 60))],
            "c.png": [],
            "a.png": [("cat", (10, 20, 30, 50))],
        },
    )


def same(found: Annotations, data: Annotations) -> None:
    """Names and order of images, classes and boxes are the same, to the bit."""
    stems = [Path(str(path)).stem for path in data.paths]
    assert [Path(str(path)).stem for path in found.paths] == stems
    assert found.sizes.tolist() == data.sizes.tolist()
    assert found.offsets.tolist() == data.offsets.tolist()
    assert found.boxes.tolist() == data.boxes.tolist()
    names = [found.class_names[label] for label in found.labels]
    assert names == [data.class_names[label] for label in data.labels]
    assert not any(found.report.counts.values())
    for ours, theirs in zip(found.paths, data.paths, strict=True):
        assert Path(str(ours)).read_bytes() == Path(str(theirs)).read_bytes()


def read(folder: Path, data_format: str, split: str = "train") -> Annotations:
    return read_dataset({"format": data_format, "root": folder, "split": split})


# ------------------------------------------------------------------- what stands in the files


def test_voc_as_an_xml_parser_reads_it(data: Annotations, tmp_path: Path) -> None:
    data = replace(data, difficult=np.array([False, True, False]))
    convert({"train": data}, "voc", tmp_path / "out")
    root = ElementTree.parse(tmp_path / "out" / "Annotations" / "b.xml").getroot()
    assert root.findtext("filename") == "b.png"
    assert [root.findtext(f"size/{side}") for side in ("width", "height", "depth")] == [
        "80", "60", "3"
    ]  # fmt: skip
    corners = [
        [entry.findtext(f"bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax")]
        for entry in root.findall("object")
    ]
    assert corners == [["1", "1", "40", "30"], ["30.25", "20.1", "80", "60"]]
    assert [entry.findtext("difficult") for entry in root.findall("object")] == ["0", "1"]
    listed = (tmp_path / "out" / "ImageSets" / "Main" / "train.txt").read_text()
    assert listed == "b\nc\na\n"


def test_coco_as_pycocotools_reads_it(data: Annotations, tmp_path: Path) -> None:
    from pycocotools.coco import COCO

    polygon = [[10.0, 20.0, 30.0, 20.0, 30.0, 50.0]]
    data = replace(
        data,
        category_ids=np.array([17, 18]),
        crowd=np.array([False, False, True]),
        area=np.array([1200, 2000, 300], dtype=np.float32),
        segments=Segments.of(["", "", json.dumps(polygon)]),
        image_ids=np.array(["000123", "7", "42"]),
    )
    convert({"train": data}, "coco", tmp_path / "out")
    coco = COCO(str(tmp_path / "out" / "annotations" / "instances_train.json"))
    assert [image["file_name"] for image in coco.loadImgs(coco.getImgIds())] == [
        "b.png", "c.png", "a.png"
    ]  # fmt: skip
    assert sorted(coco.getImgIds()) == [7, 42, 123]
    assert {c["id"]: c["name"] for c in coco.loadCats(coco.getCatIds())} == {17: "cat", 18: "dog"}
    first, second = coco.loadAnns(coco.getAnnIds(imgIds=123))
    assert (first["bbox"], first["category_id"], first["area"]) == ([0, 0, 40, 30], 18, 1200)
    assert second["bbox"] == [29.25, 19.1, 50.75, 40.9]
    (third,) = coco.loadAnns(coco.getAnnIds(imgIds=42))
    assert (third["iscrowd"], third["segmentation"], third["area"]) == (1, polygon, 300)


def test_yolo_as_plain_text(data: Annotations, tmp_path: Path) -> None:
    import yaml

    convert(
        {"train": data, "val": make(tmp_path / "source", {"d.png": []})}, "yolo", tmp_path / "o"
    )
    assert (tmp_path / "o" / "train.txt").read_text() == (
        "./images/b.png\n./images/c.png\n./images/a.png\n"
    )
    first = (tmp_path / "o" / "labels" / "b.txt").read_text().splitlines()[0].split()
    assert [float(word) for word in first] == [1, 0.25, 0.25, 0.5, 0.5]
    assert (tmp_path / "o" / "labels" / "c.txt").read_text() == ""
    assert yaml.safe_load((tmp_path / "o" / "data.yaml").read_text()) == {
        "train": "train.txt", "val": "val.txt", "nc": 2, "names": {0: "cat", 1: "dog"}
    }  # fmt: skip


def test_csv_as_plain_text(data: Annotations, tmp_path: Path) -> None:
    convert({"train": data}, "csv", tmp_path / "out")
    assert (tmp_path / "out" / "train.csv").read_text() == (
        "path,x1,y1,x2,y2,name\n"
        "images/b.png,0,0,40,30,dog\n"
        "images/b.png,29.25,19.1,80,60,cat\n"
        "images/c.png,,,,,\n"
        "images/a.png,10,20,30,50,cat\n"
    )


# ------------------------------------------------------------------------------ round trips


@pytest.mark.parametrize("one", FORMATS)
@pytest.mark.parametrize("other", FORMATS)
def test_all_pairs(data: Annotations, tmp_path: Path, one: str, other: str) -> None:
    convert({"train": data}, one, tmp_path / "one")
    middle = read(tmp_path / "one", one)
    same(middle, data)
    convert({"train": middle}, other, tmp_path / "two")
    same(read(tmp_path / "two", other), data)
    assert recognise(tmp_path / "two").format == other


sides = st.integers(16, 300)
shares = st.floats(0, 1, width=32)


drawn_object = st.tuples(
    st.sampled_from(["cat", "a, b", 'x "y" & <z>', "no"]), shares, shares, shares, shares
)


@settings(max_examples=20)
@given(
    drawn=st.lists(st.lists(drawn_object, max_size=4), min_size=1, max_size=3),
    height=sides,
    width=sides,
    data_format=st.sampled_from(FORMATS),
)
def test_any_boxes_and_names(
    drawn: list[list[tuple[str, float, float, float, float]]],
    height: int,
    width: int,
    data_format: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("any")
    images = {}
    for index, objects in enumerate(drawn):
        inside = {}  # one object a box: CSV and YOLO hold no copies
        for name, a, b, c, d in objects:
            x1, x2 = sorted((round(a * width, 2), round(c * width, 2)))
            y1, y2 = sorted((round(b * height, 2), round(d * height, 2)))
            if x2 - x1 >= 1 and y2 - y1 >= 1:
                inside[x1, y1, x2, y2] = name
        images[f"{index}.png"] = [(name, box) for box, name in inside.items()]
    names = ("cat", "a, b", 'x "y" & <z>', "no")
    data = make(folder / "source", images, names, (height, width))
    converted = convert({"train": data}, data_format, folder / "out")
    found = read_dataset({"format": data_format, "root": folder / "out", "split": "train"}, names)
    same(found, data)
    assert not any("cannot hold" in note for note in converted.notes)


def test_flags_come_back_where_a_format_has_them(data: Annotations, tmp_path: Path) -> None:
    data = replace(data, difficult=np.array([True, False, False]))
    for data_format in ("voc", "coco", "csv"):
        assert convert({"train": data}, data_format, tmp_path / data_format).notes == ()
        found = read(tmp_path / data_format, data_format)
        assert found.difficult.tolist() == [True, False, False]
        assert found.crowd.tolist() == [False, False, False]


def test_splits_share_images(data: Annotations, tmp_path: Path) -> None:
    half = data.keep_images(np.array([True, False, True]))
    for data_format in FORMATS:
        folder = tmp_path / data_format
        done = convert({"trainval": data, "train": half}, data_format, folder)
        assert done.images == 3
        same(read(folder, data_format, "trainval"), data)
        same(read(folder, data_format, "train"), half)


def test_classes_of_all_splits_have_one_numbering(data: Annotations, tmp_path: Path) -> None:
    other = make(tmp_path / "source", {"d.png": [("ape", (0, 0, 9, 9))]}, names=("ape", "dog"))
    for data_format in ("coco", "yolo"):
        convert({"train": data, "val": other}, data_format, tmp_path / data_format)
        for split in ("train", "val"):
            found = read(tmp_path / data_format, data_format, split)
            assert found.class_names == ("cat", "dog", "ape")


def test_rotated_images_stay_as_they_are_and_boxes_upright(tmp_path: Path) -> None:
    folder = tmp_path / "source"
    data = make(folder, {"a.jpg": [("cat", (10, 20, 30, 50))]}, ("cat",))  # 60 x 80 upright
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (60, 80)).save(folder / "a.jpg", exif=exif)
    for data_format in FORMATS:
        done = convert({"train": data}, data_format, tmp_path / data_format)
        assert done.notes == (
            "1 images are rotated by EXIF: sizes and boxes are those of the upright picture; a "
            "program that ignores EXIF will see them misplaced.",
        )
        same(read(tmp_path / data_format, data_format), data)


# -------------------------------------------------------------------------- what is lost is said


def lossy(data: Annotations) -> Annotations:
    """A crowd with an outline, a difficult object, and one with an outline."""
    return replace(
        data,
        crowd=np.array([True, False, False]),
        difficult=np.array([False, True, False]),
        segments=Segments.of(["[[0,0,9,0,9,9]]", "", "[[10,20,30,20,30,50]]"]),
    )


def test_what_each_format_cannot_hold(data: Annotations, tmp_path: Path) -> None:
    said = {name: convert({"train": lossy(data)}, name, tmp_path / name).notes for name in FORMATS}
    crowd = "cannot hold all: 1 crowd regions written as difficult objects."
    outlines = "outlines and their areas left out, the boxes stay."
    assert said == {
        "voc": (f"voc {crowd}", f"voc cannot hold all: 2 {outlines}"),
        "coco": (),
        "yolo": (
            "yolo cannot hold all: 1 crowd regions left out.",
            "yolo cannot hold all: 1 difficult objects left out, as darknet's own conversion does.",
            f"yolo cannot hold all: 1 {outlines}",
        ),
        "csv": (f"csv {crowd}", f"csv cannot hold all: 2 {outlines}"),
    }
    assert read(tmp_path / "voc", "voc").difficult.tolist() == [True, True, False]
    assert read(tmp_path / "csv", "csv").difficult.tolist() == [True, True, False]
    assert read(tmp_path / "yolo", "yolo").boxes.tolist() == [[10, 20, 30, 50]]
    coco = read(tmp_path / "coco", "coco")
    assert coco.crowd.tolist() == [True, False, False]
    assert coco.difficult.tolist() == [False, True, False]
    assert coco.segments is not None
    assert json.loads(coco.segments[2]) == [[10, 20, 30, 20, 30, 50]]


def test_objects_that_voc_has_no_corners_for(tmp_path: Path) -> None:
    data = make(tmp_path / "s", {"a.png": [("cat", (5, 5, 5.5, 9)), ("dog", (5, 5, 6, 6))]})
    done = convert({"train": data}, "voc", tmp_path / "voc")
    assert (
        done.notes
        == (
            "voc cannot hold all: 1 objects less than a pixel wide or high left out.",
            "voc lists no classes: 0 without objects are known from data.classes alone ().",
        )[:1]
    )
    assert read(tmp_path / "voc", "voc").boxes.tolist() == [[5, 5, 6, 6]]


@pytest.mark.parametrize("data_format", ["yolo", "csv"])
def test_copies_of_an_object(tmp_path: Path, data_format: str) -> None:
    cats = [("cat", (5.0, 5.0, 9.0, 9.0))] * 3
    data = make(tmp_path / "s", {"a.png": [*cats, ("dog", (5, 5, 9, 9))]})
    done = convert({"train": data}, data_format, tmp_path / "out")
    assert done.notes == (
        f"{data_format} cannot hold all: 2 objects with the class and box of another in the image "
        "left out.",
    )
    found = read(tmp_path / "out", data_format)
    assert found.labels.tolist() == [0, 1]
    assert not any(found.report.counts.values())


@pytest.mark.parametrize("data_format", ["voc", "csv"])
def test_classes_without_objects(tmp_path: Path, data_format: str) -> None:
    data = make(tmp_path / "s", {"a.png": [("cat", (5, 5, 9, 9))]}, names=("cat", "b", "c"))
    assert convert({"train": data}, data_format, tmp_path / "out").notes == (
        f"{data_format} lists no classes: 2 without objects are known from data.classes alone "
        "(b, c).",
    )


# -------------------------------------------------------------------------------- file names


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["x/a.jpg", "y/b.jpg", "x/a.jpg"], ["a.jpg", "b.jpg"]),
        (["x/a.jpg", "y/a.jpg", "y/a.png", "y/A.jpg"], ["a.jpg", "a_2.jpg", "a_3.png", "A_4.jpg"]),
        (["a_2.jpg", "x/a.jpg", "y/a.jpg"], ["a_2.jpg", "a.jpg", "a_3.jpg"]),
        (["a:b\\c.jpg", " a .jpg", "a\nb.jpg"], ["a_b_c.jpg", "a.jpg", "a_b.jpg"]),
        (["no_ending", ".hidden.jpg", "ends."], ["no_ending", "hidden.jpg", "ends"]),
        (["über 1.JPG", "图.png"], ["über 1.JPG", "图.png"]),
        (["\udcff.jpg"], ["_.jpg"]),
    ],
)
def test_chosen_names(paths: list[str], names: list[str]) -> None:
    assert list(choose_file_names(paths).values()) == names


def test_names_that_collide_are_told_and_read_back(tmp_path: Path) -> None:
    train = make(tmp_path / "s", {"a/1.png": [("cat", (0, 0, 9, 9))]})
    test = make(tmp_path / "s", {"b/1.png": [("dog", (0, 0, 8, 8))]})
    for data_format in FORMATS:
        done = convert({"train": train, "test": test}, data_format, tmp_path / data_format)
        assert done.notes == (
            "1 images have other names now (first: 1_2.png), because two names were alike or could "
            "not be listed.",
        )
        assert read(tmp_path / data_format, data_format, "test").boxes.tolist() == [[0, 0, 8, 8]]


def test_ids_that_look_like_flags_come_back(tmp_path: Path) -> None:
    """VOC's lists of a class have ``id 1`` in each line; ids of that form must not be cut."""
    data = make(tmp_path / "s", {f"photo {i}.png": [("cat", (0, 0, 9, 9))] for i in (0, 1)})
    for data_format in FORMATS:
        convert({"train": data}, data_format, tmp_path / data_format)
        same(read(tmp_path / data_format, data_format), data)


def test_splits_of_a_devkit_get_plain_names(data: Annotations, tmp_path: Path) -> None:
    one = convert({"VOC2007/trainval": data}, "coco", tmp_path / "one")
    assert one.splits == ("trainval",)
    two = convert(
        {"VOC2007/train": data, "VOC2012/train": data, "": data}, "coco", tmp_path / "two"
    )
    assert two.splits == ("train-VOC2007", "train-VOC2012", "all")
    assert convert({"images": data}, "yolo", tmp_path / "three").splits == ("images-split",)
    same(read(tmp_path / "three", "yolo", "images-split"), data)


# -------------------------------------------------------------------------- whole or not at all


def test_images_are_copied_or_linked_and_never_changed(data: Annotations, tmp_path: Path) -> None:
    source = tmp_path / "source" / "b.png"
    before = source.read_bytes(), source.stat().st_mtime_ns
    convert({"train": data}, "voc", tmp_path / "copied")
    convert({"train": data}, "voc", tmp_path / "linked", link=True)
    assert not os.path.samefile(source, tmp_path / "copied" / "JPEGImages" / "b.png")
    assert os.path.samefile(source, tmp_path / "linked" / "JPEGImages" / "b.png")
    assert (source.read_bytes(), source.stat().st_mtime_ns) == before
    assert sorted(path.name for path in (tmp_path / "source").iterdir()) == [
        "a.png", "b.png", "c.png"
    ]  # fmt: skip


def test_a_link_to_another_disk_is_symbolic(
    data: Annotations, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: str, target: str) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    convert({"train": data}, "csv", tmp_path / "out", link=True)
    assert (tmp_path / "out" / "images" / "b.png").is_symlink()
    same(read(tmp_path / "out", "csv"), data)


def test_nothing_is_left_of_a_conversion_that_fails(data: Annotations, tmp_path: Path) -> None:
    gone = tmp_path / "source" / "a.png"
    gone.unlink()
    with pytest.raises(DetkitError) as caught:
        convert({"train": data}, "coco", tmp_path / "new" / "out")
    assert str(caught.value) == (
        f"{tmp_path / 'new' / 'out'}: cannot be written ({gone}: No such file or directory). "
        "Nothing was left behind."
    )
    assert list((tmp_path / "new").iterdir()) == []


def test_an_existing_folder_is_refused(data: Annotations, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        convert({"train": data}, "coco", tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}: exists already, and nothing is overwritten. Name a new folder."
    )


def test_the_source_is_never_written_to(data: Annotations, tmp_path: Path) -> None:
    source = tmp_path / "source"
    with pytest.raises(DataError) as caught:
        convert({"train": data}, "coco", source / "out", sources=[source])
    assert str(caught.value) == (
        f"{source / 'out'}: lies in the source {source}, where nothing is written. "
        "Name a folder beside it."
    )


def test_unknown_format(data: Annotations, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError) as caught:
        convert({"train": data}, "cocoo", tmp_path / "out")
    assert str(caught.value) == "no format 'cocoo' to write. Did you mean 'coco'?"


@pytest.mark.parametrize("data_format", ["voc", "yolo", "coco"])
def test_an_image_under_two_ids(data: Annotations, tmp_path: Path, data_format: str) -> None:
    path = str(data.paths[0])
    twins = replace(data, paths=np.array([path, path, *data.paths[2:]]))
    with pytest.raises(DataError) as caught:
        convert({"train": twins}, data_format, tmp_path / "out")
    assert str(caught.value) == (
        f"{path}: stands in split train under the ids {data.image_ids[0]} and {data.image_ids[1]}, "
        "and the new format has one entry an image. Give the objects of both one image_id, and "
        "remove the other image."
    )


@pytest.mark.parametrize("data_format", ["voc", "yolo"])
def test_an_image_with_other_objects_in_another_split(
    data: Annotations, tmp_path: Path, data_format: str
) -> None:
    other = make(tmp_path / "source", {"a.png": [("cat", (1, 1, 9, 9))]})
    with pytest.raises(DataError) as caught:
        convert({"train": data, "val": other}, data_format, tmp_path / "out")
    assert str(caught.value) == (
        f"{tmp_path / 'source' / 'a.png'}: has other objects in split val than in train, and the "
        "new format has one file an image. Convert one split at a time (data.split=NAME)."
    )


def test_class_names_that_no_file_could_hold(tmp_path: Path) -> None:
    data = make(tmp_path / "s", {"a.png": []}, names=("cat", "cat "))
    with pytest.raises(DataError) as caught:
        convert({"train": data}, "voc", tmp_path / "out")
    assert str(caught.value) == (
        "class names 'cat' and 'cat ' differ by spaces alone, which no format but COCO keeps. "
        "Rename one in the annotations."
    )
    data = make(tmp_path / "s", {"a.png": []}, names=("two\nlines",))
    with pytest.raises(DataError) as caught:
        convert({"train": data}, "voc", tmp_path / "out")
    assert str(caught.value) == (
        "class name 'two\\nlines' cannot be written as one word or line of text. "
        "Rename it in the annotations."
    )


# --------------------------------------------------------------------------------- real images


@pytest.mark.data
@pytest.mark.parametrize(("one", "other"), list(itertools.product(FORMATS, FORMATS)))
def test_bccd_between_all_pairs(data_root: Path, tmp_path: Path, one: str, other: str) -> None:
    source = read_dataset({"format": "voc", "root": data_root / "bccd", "split": "test"})
    convert({"test": source}, one, tmp_path / "one", link=True)
    middle = read(tmp_path / "one", one, "test")
    convert({"test": middle}, other, tmp_path / "two", link=True)
    same(read(tmp_path / "two", other, "test"), source)


@pytest.mark.data
@pytest.mark.parametrize("data_format", FORMATS)
def test_coco_there_and_back(data_root: Path, tmp_path: Path, data_format: str) -> None:
    """Boxes and labels of all formats; crowds, ids, areas and outlines of COCO's own."""
    entry = {"format": "coco", "root": data_root / "coco_mini", "split": "val2017"}
    source = read_dataset(entry)
    names = source.class_names
    convert({"val": source}, data_format, tmp_path / "one", link=True)
    middle = read_dataset({"format": data_format, "root": tmp_path / "one", "split": "val"}, names)
    convert({"val": middle}, "coco", tmp_path / "two", link=True)
    found = read_dataset({"format": "coco", "root": tmp_path / "two", "split": "val"}, names)
    kept = ~source.crowd if data_format == "yolo" else np.ones(len(source.crowd), dtype=np.bool_)
    expected = source.keep_rows(kept)
    same(found, expected)
    assert found.image_ids.tolist() == source.image_ids.tolist()
    if data_format == "coco":
        assert found.crowd.tolist() == source.crowd.tolist()
        assert found.area.tolist() == source.area.tolist()
        assert found.category_ids is not None
        assert source.category_ids is not None
        assert found.category_ids.tolist() == source.category_ids.tolist()
        assert found.segments is not None
        assert source.segments is not None
        texts = [source.segments[row] for row in range(len(source.segments))]
        assert [found.segments[row] for row in range(len(found.segments))] == texts


def test_a_voc_folder_as_the_devkit_writes_it(tmp_path: Path) -> None:
    """VOC to VOC: the same corners and flags in the files."""
    pages = {"b": voc_xml([("dog", (1, 1, 40, 30))], difficult=[1]), "a": voc_xml([])}
    folder = write_voc(tmp_path / "in", pages)
    source = read_dataset({"format": "voc", "root": folder, "split": "trainval"})
    convert({"trainval": source}, "voc", tmp_path / "out")
    shutil.rmtree(folder)
    found = read(tmp_path / "out", "voc", "trainval")
    assert found.boxes.tolist() == [[0, 0, 40, 30]]
    assert found.difficult.tolist() == [True]
    assert found.image_ids.tolist() == ["b", "a"]


@pytest.mark.parametrize("data_format", FORMATS)
def test_numbers_that_no_float32_holds_are_kept(tmp_path: Path, data_format: str) -> None:
    write_image(tmp_path / "in" / "val" / "a.png", (1300, 1400))
    boxes = [[1234.5678, 0.1, 10.7, 10.9], [12.480000000000002, 1 / 3, 1200.0000000000002, 77.7]]
    content = {
        "images": [{"id": 1, "file_name": "a.png", "height": 1300, "width": 1400}],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [
            {
                "id": i,
                "image_id": 1,
                "category_id": 1,
                "bbox": box,
                "area": 1023.9999999,
                "iscrowd": 0,
            }
            for i, box in enumerate(boxes, 1)
        ],
    }
    (tmp_path / "in" / "annotations").mkdir()
    (tmp_path / "in" / "annotations" / "instances_val.json").write_text(json.dumps(content))
    source = read(tmp_path / "in", "coco", "val")
    assert source.stated is not None
    assert source.stated.tolist() == boxes
    convert({"val": source}, data_format, tmp_path / "out")
    found = read(tmp_path / "out", data_format, "val")
    assert found.stated is not None
    if data_format == "coco":
        assert found.stated.tolist() == boxes
        assert found.area.tolist() == [1023.9999999] * 2
    np.testing.assert_allclose(found.stated, boxes, rtol=0, atol=1e-12)
    assert found.boxes.tolist() == source.boxes.tolist()
