"""The YOLO reader: hand-written labels, a slow parse of real ones, and sentences for mistakes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from detkit.data import Annotations, join, read_dataset, summary
from detkit.data.yolo_described import describe
from detkit.errors import DataError
from tests.data.formats import objects, write_yolo
from tests.oracles import write_image

NAMELESS = "classes without names, called class_00, class_01, ... (name them in a data.yaml)"
BY_ORDER = "classes named by number, in the order of data.classes"


def write(root: Path, labels: dict[str, str | None], names: str | None = "[cat, dog]") -> Path:
    """``images/train`` and ``labels/train``; None: no label file. Images are 60 x 80."""
    for name, text in labels.items():
        write_image(root / "images" / "train" / f"{name}.png")
        path = root / "labels" / "train" / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        if text is not None:
            path.write_text(text)
    if names is not None:
        (root / "data.yaml").write_text(f"names: {names}\n")
    return root


def read(root: Path, classes: tuple[str, ...] = (), **keys: Any) -> Annotations:
    return read_dataset({"format": "yolo", "root": str(root), "split": "train", **keys}, classes)


def refusal(root: Path, **keys: Any) -> str:
    with pytest.raises(DataError) as caught:
        read(root, **keys)
    return str(caught.value)


def counts(data: Annotations) -> dict[str, int]:
    return {kind: count for kind, count in data.report.counts.items() if count}


def test_reads_a_split(tmp_path: Path) -> None:
    labels = {"b": "1 0.5 0.5 0.5 0.5\n0 0.25 0.75 0.5 0.5\n", "a": "", "deep/c": None}
    data = read(write(tmp_path, labels))
    assert data.class_names == ("cat", "dog")
    assert data.image_ids.tolist() == ["a", "b", "c"]
    assert data.paths[2] == str(tmp_path / "images" / "train" / "deep" / "c.png")
    assert data.sizes.tolist() == [[60, 80]] * 3
    assert data.boxes.tolist() == [[20, 15, 60, 45], [0, 30, 40, 60]]
    assert data.labels.tolist() == [1, 0]
    assert summary(data) == (
        "3 images (2 without objects), 2 objects of 2 classes, "
        "1 images without a label file, taken as empty"
    )


def test_ids_tell_images_apart(tmp_path: Path) -> None:
    data = read(write(tmp_path, {"x/1": "0 0.5 0.5 1 1", "y/1": ""}))
    assert data.image_ids.tolist() == ["images/train/x/1", "images/train/y/1"]
    write_image(tmp_path / "images" / "train" / "x" / "1.jpg")
    assert read(tmp_path).image_ids.tolist() == [
        "images/train/x/1.jpg", "images/train/x/1.png", "images/train/y/1.png",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("line", "kept", "kind"),
    [
        ("0 0.5 0.5 0.5 0.5", [20, 15, 60, 45], None),
        ("0.0 0.5 0.5 0.5 0.5", [20, 15, 60, 45], None),
        ("0\t0.5  0.5 0.5 0.5 ", [20, 15, 60, 45], None),
        ("0 0.5 0.5 1.000001 1", [0, 0, 80, 60], None),  # a rounding error
        ("0 0.5 0.5 1.2 1", [0, 0, 80, 60], "boxes clipped to the image"),
        ("0 0.5 0.5 0 0.5", None, "inverted boxes dropped"),
        ("0 0.5 0.5 -0.5 0.5", None, "inverted boxes dropped"),
        ("0 1.6 0.5 0.5 0.5", None, "boxes outside the image dropped"),
        ("0 nan 0.5 0.5 0.5", None, "boxes without numbers dropped"),
        ("0 half 0.5 0.5 0.5", None, "boxes without numbers dropped"),
        ("0 0.25 0.5 0.75 0.5 0.5 1", [20, 30, 60, 60], "boxes made from polygons"),
        ("0 0 0 1 0 1 1 0 1", [0, 0, 80, 60], "boxes made from polygons"),
        ("0 0 0 1 0 1 nan", None, "boxes made from polygons"),
        ("", None, "blank lines"),
        ("1 0.5 0.5 0.1 0.1", None, "repeated lines read once"),
    ],
)
def test_fate_of_a_line(tmp_path: Path, line: str, kept: list | None, kind: str | None) -> None:
    other = "1 0.5 0.5 0.1 0.1"
    data = read(write(tmp_path, {"a": f"{other}\n{line}\n"}))
    expected = [[36, 27, 44, 33]] + ([] if kept is None else [kept])
    np.testing.assert_allclose(data.boxes, expected, rtol=1e-6)
    found = counts(data)
    assert found.pop("boxes without numbers dropped", 0) == ("nan" in line or "half" in line)
    assert found == ({kind: 1} if kind and "without numbers" not in kind else {})


def test_key_points_behind_the_box_are_passed_over(tmp_path: Path) -> None:
    write(tmp_path, {"a": "0 0.5 0.5 0.5 0.5 0.1 0.1 2 0.9 0.9 1\n"})
    (tmp_path / "data.yaml").write_text("names: [cat]\nkpt_shape: [2, 3]\n")
    assert read(tmp_path).boxes.tolist() == [[20, 15, 60, 45]]


# --- layouts ---


def move(root: Path, images: str, labels: str) -> None:
    for name, new in (("images", images), ("labels", labels)):
        source = root / f"old_{name}"
        shutil.move(root / name / "train", source)
        shutil.rmtree(root / name)
        (root / new).mkdir(parents=True, exist_ok=True)
        for path in source.iterdir():
            path.rename(root / new / path.name)


@pytest.mark.parametrize(
    ("images", "labels", "split"),
    [
        ("images/train", "labels/train", "train"),
        ("train/images", "train/labels", "train"),
        ("train", "train", "train"),
        ("images", "labels", ""),
        ("JPEGImages", "labels", "JPEGImages"),
        (".", ".", ""),
    ],
)
def test_layouts(tmp_path: Path, images: str, labels: str, split: str) -> None:
    root = write(tmp_path / "set", {"a": "1 0.5 0.5 0.5 0.5", "b": ""})
    move(root, images, labels)
    data = read(root, split=split)
    assert data.image_ids.tolist() == ["a", "b"]
    assert data.boxes.tolist() == [[20, 15, 60, 45]]


@pytest.mark.parametrize(
    "line", ["train: images/train", "train: ./images/train", "train: ../images/train",
             "train: [images/train]", "path: .\ntrain: images/train", "path: /mnt/x\ntrain: "
             "images/train", "train: /content/elsewhere/images", "train: list.txt"],
)  # fmt: skip
def test_paths_of_data_yaml(tmp_path: Path, line: str) -> None:
    write(tmp_path, {"a": "1 0.5 0.5 0.5 0.5"})
    (tmp_path / "data.yaml").write_text(f"{line}\nnames: {{0: cat, 1: dog}}\n")
    (tmp_path / "list.txt").write_text("images/train/a.png\n\n")
    for root in (tmp_path, tmp_path / "data.yaml"):
        assert read(root).boxes.tolist() == [[20, 15, 60, 45]]


def test_a_split_may_be_called_otherwise_in_data_yaml(tmp_path: Path) -> None:
    write(tmp_path, {"a": "1 0.5 0.5 0.5 0.5"})
    (tmp_path / "data.yaml").write_text("val: ../images/train\nnames: [cat, dog]\n")
    assert len(read(tmp_path, split="val")) == 1


def test_a_list_of_images(tmp_path: Path) -> None:
    write(tmp_path, {"a": "1 0.5 0.5 0.5 0.5", "b": "0 0.5 0.5 0.5 0.5"})
    listing = tmp_path / "few.txt"
    absolute = tmp_path / "images" / "train" / "a.png"
    listing.write_text(f"data/images/train/b.png\n{absolute}\n./images/train/a.png\n")
    data = read(tmp_path, split="few")
    assert data.image_ids.tolist() == ["b", "a"]
    assert counts(data) == {"repeated images read once": 1}


# --- names ---


def test_names_of_the_entry_come_first(tmp_path: Path) -> None:
    write(tmp_path, {"a": "1 0.5 0.5 0.5 0.5"})
    assert read(tmp_path, names=["red", "blue"]).class_names == ("red", "blue")
    (tmp_path / "my.names").write_text("one\ntwo\n")
    assert read(tmp_path, names_file="my.names").class_names == ("one", "two")


@pytest.mark.parametrize("file", ["classes.txt", "obj.names", "labels/classes.txt"])
def test_lists_of_names(tmp_path: Path, file: str) -> None:
    write(tmp_path, {"a": "1 0.5 0.5 0.5 0.5"}, names=None)
    (tmp_path / file).write_text("cat\ndog\n\n")
    assert read(tmp_path).class_names == ("cat", "dog")


def test_names_are_texts_whatever_yaml_makes_of_them(tmp_path: Path) -> None:
    data = read(write(tmp_path, {"a": "3 0.5 0.5 0.5 0.5"}, names="[no, 1, 2.50, ' x ']"))
    assert data.class_names == ("no", "1", "2.50", "x")


def test_numbers_may_have_gaps(tmp_path: Path) -> None:
    data = read(write(tmp_path, {"a": "7 0.5 0.5 0.5 0.5"}, names="{7: dog, 2: cat}"))
    assert data.class_names == ("cat", "dog")
    assert data.labels.tolist() == [1]


def test_classes_without_names(tmp_path: Path) -> None:
    write(tmp_path, {"a": "2 0.5 0.5 0.5 0.5"}, names=None)
    data = read(tmp_path)
    assert data.class_names == ("class_00", "class_01", "class_02")
    assert counts(data) == {NAMELESS: 3}
    again = read(tmp_path, classes=join([data]).class_names)
    assert again.labels.tolist() == [2]
    named = read(tmp_path, classes=("cat", "dog", "bird"))
    assert named.labels.tolist() == [2]
    assert counts(named) == {BY_ORDER: 3}


def test_classes_are_told_by_name_where_there_are_names(tmp_path: Path) -> None:
    data = read(write(tmp_path, {"a": "1 0.5 0.5 0.5 0.5"}), classes=("dog", "bird", "cat"))
    assert data.labels.tolist() == [0]


# --- refusals ---


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("2 0.5 0.5 0.5 0.5", "class 2 has no name; those of 0 to 1 are known from {root}/data.yaml"
                              ". Add its name or correct the line."),
        ("dog 0.5 0.5 0.5 0.5", "'dog' is no class number, which counts from 0. Is this a YOLO "
                                "label file?"),
        ("-1 0.5 0.5 0.5 0.5", "'-1' is no class number, which counts from 0. Is this a YOLO label "
                               "file?"),
        ("1e9 0.5 0.5 0.5 0.5", "'1e9' is no class number, which counts from 0. Is this a YOLO "
                                "label file?"),
        ("0 0.5 0.5 0.5", "has 4 values, expected 5 (class cx cy w h) or a class and three or more "
                          "points. Correct the line or remove it."),
        ("0 0.5 0.5 0.5 0.5 0.9", "has 6 values, expected 5 (class cx cy w h) or a class and three "
                                  "or more points. Correct the line or remove it; where key points,"
                                  " a confidence or the like stand behind every box, say "
                                  "data.rows=boxes."),
    ],
)  # fmt: skip
def test_wrong_lines_get_a_sentence(tmp_path: Path, line: str, sentence: str) -> None:
    root = write(tmp_path, {"a": f"1 0.5 0.5 0.5 0.5\n{line}\n"})
    where = f"{root}/labels/train/a.txt: line 2: "
    assert refusal(root) == where + sentence.format(root=root)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("names: [a, a]", "names: the name 'a' stands twice. Rename one of the classes."),
        ("names: [a, [b]]", "names: class 1 has no name that can be read. Correct it."),
        ("names: a.txt", "names: expected a list of class names. Write one a class."),
        ("names: {first: a}", "names: 'first' is no class number. Count from 0."),
        ("- a", "expected keys such as names, train and val. Is this a data.yaml?"),
        ("names: [", "not readable as YAML (while parsing a flow node expected the node content, "
                     "but found '<stream end>' in \"<unicode string>\", line 1, column 9: names: [ "
                     "^). Repair the file."),
        ("names: " + "[" * 9999, "is nested too deep for a list of names. Repair it."),
    ],
)  # fmt: skip
def test_wrong_names_get_a_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    root = write(tmp_path, {"a": "0 0.5 0.5 0.5 0.5"})
    (root / "data.yaml").write_text(text)
    assert refusal(root) == f"{root}/data.yaml: {sentence}"


def test_tags_of_yaml_make_nothing(tmp_path: Path) -> None:
    (tmp_path / "data.yaml").write_text("names: [!!python/object/apply:os.getcwd [], b]")
    with pytest.raises(DataError, match="class 0 has no name"):
        describe(tmp_path)


def test_pixels_are_refused(tmp_path: Path) -> None:
    root = write(tmp_path, {"a": "0 40 30 20 20", "b": "0 0.5 0.5 0.1 0.1", "c": ""})
    assert refusal(root) == (
        f"{root}/images/train: the labels of 1 of 2 images reach beyond 2 image sizes, first those "
        "of a.png; they seem to be in pixels. Divide them by the image's width and height."
    )


def test_labels_that_lie_elsewhere_are_refused(tmp_path: Path) -> None:
    root = write(tmp_path, {"a": None, "b": None})
    assert refusal(root) == (
        f"{root}/images/train/a.png: has no labels, nor has any of the 2 images; looked for "
        f"{root}/labels/train/a.txt and beside the image. An image without objects has an empty "
        "file."
    )


def test_missing_places_get_a_sentence(tmp_path: Path) -> None:
    root = write(tmp_path, {"a": ""})
    assert refusal(root, split="val") == (
        f"{root}: no split 'val': looked for images/val/, val/images/, val/, val.txt and in "
        "data.yaml or obj.data; it holds data.yaml, images/, labels/. Check data.split."
    )
    assert refusal(root, split="../val") == (
        f"data.split: '../val' leaves {root}. Write the name of a split."
    )
    assert refusal(root, names_file="/etc/passwd") == (
        f"data.names_file: '/etc/passwd' leaves {root}. Write a path below it."
    )
    assert refusal(root / "x") == (
        f"{root}/x: no such folder. Expected images/SPLIT and labels/SPLIT, or SPLIT/images and "
        "SPLIT/labels; point to it with data.root=PATH."
    )
    (root / "images" / "val").mkdir()
    assert refusal(root, split="val") == (
        f"{root}/images/val: holds no images. Check data.root and data.split."
    )
    (root / "data.yaml").unlink()
    for name in ("a.yaml", "b.yml"):
        (root / name).write_text("names: [x]")
    assert refusal(root) == (
        f"{root}: holds a.yaml and b.yml, both with names. Say which counts with "
        "data.names_file=FILE."
    )


# --- the real thing ---


@pytest.mark.data
def test_agrees_with_a_slow_parse(data_root: Path) -> None:
    root = data_root / "coco128"
    data = read_dataset({"format": "yolo", "root": root, "split": "train2017"})
    images = sorted((root / "images" / "train2017").glob("*.jpg"))
    assert data.image_ids.tolist() == [path.stem for path in images]
    assert len(data.class_names) == 80
    assert len(data.boxes) == 929
    lost = "label files without an image (first: labels/train2017/000000000656.txt)"
    negative = "images without a label file, taken as empty"
    assert counts(data) == {lost: 2, negative: 2, NAMELESS: 80}
    for index, path in enumerate(images):
        with Image.open(path) as image:
            width, height = image.size
        expected, numbers = [], []
        label = root / "labels" / "train2017" / f"{path.stem}.txt"
        for line in label.read_text().splitlines() if label.exists() else []:
            number, cx, cy, w, h = map(float, line.split())
            numbers.append(int(number))
            expected.append([(cx - w / 2) * width, (cy - h / 2) * height,
                             (cx + w / 2) * width, (cy + h / 2) * height])  # fmt: skip
        target = data.target(index)
        assert target.labels.tolist() == numbers
        np.testing.assert_allclose(target.boxes, np.reshape(expected, (-1, 4)), atol=1e-2)


@pytest.mark.data
def test_blood_cells_are_the_same_boxes(data_root: Path, tmp_path: Path) -> None:
    voc = read_dataset({"format": "voc", "root": data_root / "bccd", "split": "test"})
    write_yolo(tmp_path, voc, "test")
    data = read_dataset({"format": "yolo", "root": tmp_path, "split": "test"})
    assert sorted(data.image_ids.tolist()) == sorted(voc.image_ids.tolist())
    where = {name: index for index, name in enumerate(data.image_ids.tolist())}
    for index, name in enumerate(voc.image_ids.tolist()):
        ours, theirs = objects(data, where[name]), objects(voc, index)
        assert [o[0] for o in ours] == [t[0] for t in theirs]
        np.testing.assert_allclose([o[1] for o in ours], [t[1] for t in theirs], atol=1e-4)
