"""The CSV reader: hand-written tables, and sentences for mistakes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detkit.data import Annotations, read_dataset, summary
from detkit.errors import ConfigError, DataError
from tests.data.formats import objects, write_csv
from tests.oracles import write_image


def write(root: Path, text: str | bytes, images: tuple[str, ...] = ("a.png",)) -> Path:
    """A table ``train.csv`` and its images of 60 x 80."""
    for name in images:
        write_image(root / name)
    path = root / "train.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def read(root: Path, classes: tuple[str, ...] = (), **keys: Any) -> Annotations:
    return read_dataset({"format": "csv", "root": str(root), "split": "train", **keys}, classes)


def counts(data: Annotations) -> dict[str, int]:
    return {kind: count for kind, count in data.report.counts.items() if count}


def test_reads_a_table(tmp_path: Path) -> None:
    text = (
        "in/b.png,10,20,30.5,40,dog\n"
        "a.png,,,,,\n"
        "in/b.png,0,0,80,60,cat\n"
        '"with, comma.png",1,2,3,4,"hot ""dog"""\n'
        "\n"
        "in/b.png,1,1,2,2,cat\n"
    )
    path = write(tmp_path, text, ("in/b.png", "a.png", "with, comma.png"))
    for data in (read(tmp_path), read(path), read(path, split="")):
        assert data.class_names == ("cat", "dog", 'hot "dog"')
        assert data.image_ids.tolist() == ["b", "a", "with, comma"]
        assert data.paths[0] == str(tmp_path / "in" / "b.png")
        assert data.offsets.tolist() == [0, 3, 3, 4]
        assert data.boxes.tolist() == [[10, 20, 30.5, 40], [0, 0, 80, 60], [1, 1, 2, 2],
                                       [1, 2, 3, 4]]  # fmt: skip
        assert data.labels.tolist() == [1, 0, 0, 2]
        assert summary(data) == "3 images (1 without objects), 4 objects of 3 classes"
    assert read(tmp_path, classes=("dog", "cat", 'hot "dog"')).labels.tolist() == [0, 1, 1, 2]


@pytest.mark.parametrize(
    "header",
    ["path,x1,y1,x2,y2,name", "\ufeffpath,x1,y1,x2,y2,name", "Filename, xmin, ymin, xmax, ymax, "
     "Class", "image_path,x_min,y_min,x_max,y_max,label"],
)  # fmt: skip
def test_headers(tmp_path: Path, header: str) -> None:
    write(tmp_path, f"{header}\r\na.png,10,20,30,40,dog\r\n")
    assert read(tmp_path).boxes.tolist() == [[10, 20, 30, 40]]


def test_columns_may_stand_in_any_order_with_more(tmp_path: Path) -> None:
    text = (
        "class,difficult,width,height,ymax,xmax,ymin,xmin,filename,comment\n"
        "dog,1,80,60,40,30,20,10,a.png,blurred\n"
        "dog,0,90,60,40,30,20,12,b.png,\n"
    )
    write(tmp_path, text, ("a.png", "b.png"))
    data = read(tmp_path)
    assert data.boxes.tolist() == [[10, 20, 30, 40], [12, 20, 30, 40]]
    assert data.difficult.tolist() == [True, False]
    assert counts(data) == {"annotations of another size than the image": 1}


@pytest.mark.parametrize(
    ("sides", "kept", "kind"),
    [
        ("10,20,90,40", [10, 20, 80, 40], "boxes clipped to the image"),
        ("10,20,10,40", None, "inverted boxes dropped"),
        ("10,20,,40", None, "boxes without numbers dropped"),
        ("10,20,nan,40", None, "boxes without numbers dropped"),
        ("10,20,ten,40", None, "boxes without numbers dropped"),
        ("10,20,1e999,40", None, "boxes without numbers dropped"),
        ("1,1,9,9", None, "repeated lines read once"),
    ],
)
def test_fate_of_a_box(tmp_path: Path, sides: str, kept: list | None, kind: str) -> None:
    write(tmp_path, f"a.png,1,1,9,9,dog\na.png,{sides},dog\n")
    data = read(tmp_path)
    assert data.boxes.tolist() == [[1, 1, 9, 9]] + ([] if kept is None else [kept])
    assert counts(data) == {kind: 1}


def refusal(root: Path, **keys: Any) -> str:
    with pytest.raises((DataError, ConfigError)) as caught:
        read(root, **keys)
    return str(caught.value)


HEADER = "path,x1,y1,x2,y2,name\n"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "lists no images. Write a line path,x1,y1,x2,y2,name an object."),
        (HEADER, "lists no images. Write a line path,x1,y1,x2,y2,name an object."),
        ("a.png,1,2,3\n", "line 1: has 4 columns, expected 6 (path,x1,y1,x2,y2,name). Put text "
                          "with commas in quotes."),
        (f"{HEADER}a.png,1,2,3,4,a,b\n", "line 2: has 7 columns, expected 6 (path,x1,y1,x2,y2,name)"
                                         ". Put text with commas in quotes."),
        ("path,x1,y1,x2,name\n", "the header has no column 'y2'. Needed are "
                                 "path,x1,y1,x2,y2,name."),
        ("path,file,x1,y1,x2,y2,name\n", "the header has column 'path' twice. Leave one out."),
        ("a.png,1,2,3,4,\n", "line 1: the box has no name that can be read. Name its class."),
        ("a.png,,,,,dog\n", "line 1: names 'dog' without a box. Leave the name empty as well for "
                            "an image without objects."),
        ("../b.png,1,2,3,4,dog\n", "line 1: '../b.png' is no path below the table's folder. Write "
                                   "paths relative to it, without '..'."),
        ("/b.png,,,,,\n", "line 1: '/b.png' is no path below the table's folder. Write "
                          "paths relative to it, without '..'."),
        (b"a.png,1,2,3,4,caf\xe9\n", "not a text file in UTF-8. Save it as UTF-8."),
        ('a.png,1,2,3,4,"' + "x" * 200_000, "line 1: not readable as CSV (field larger than field "
                                            "limit (131072)). Repair the line."),
    ],
)  # fmt: skip
def test_mistakes_get_a_sentence(tmp_path: Path, text: str | bytes, sentence: str) -> None:
    path = write(tmp_path, text)
    where = ": " if sentence.startswith(("line", "the", "lists", "not")) else ""
    assert refusal(tmp_path) == f"{path}{where}{sentence}"


def test_missing_places_get_a_sentence(tmp_path: Path) -> None:
    path = write(tmp_path, "a.png,,,,,\n")
    assert refusal(tmp_path, split="val") == (
        f"{tmp_path}/val.csv: no such file; it holds a.png, train.csv. Check data.split."
    )
    assert refusal(path, split="val") == (
        f"data.split: 'val' is not {path}. Leave split out, or let data.root be the folder."
    )
    assert refusal(tmp_path, split="") == (
        "data.split: missing; name the table, e.g. train of train.csv."
    )
    assert refusal(tmp_path, split="../x") == (
        f"data.split: '../x' leaves {tmp_path}. Write a name."
    )
    assert refusal(tmp_path / "x") == (
        f"{tmp_path}/x: no such file or folder. Expected a CSV table with the columns "
        "path,x1,y1,x2,y2,name; point to it with data.root=PATH."
    )


def test_class_that_is_not_expected(tmp_path: Path) -> None:
    path = write(tmp_path, "a.png,1,2,3,4,dgo\n")
    assert refusal(tmp_path, classes=("cat", "dog")) == (
        f"{path}: class 'dgo' is not in data.classes. Did you mean 'dog'? data.classes has 2: cat, "
        "dog; the data has 1: dgo. "
        "Name all of them, or none, which takes the data's."
    )


@pytest.mark.data
def test_blood_cells_are_the_same_boxes(data_root: Path, tmp_path: Path) -> None:
    voc = read_dataset({"format": "voc", "root": data_root / "bccd", "split": "test"})
    write_csv(tmp_path, voc, "test")
    data = read_dataset({"format": "csv", "root": tmp_path, "split": "test"})
    assert data.image_ids.tolist() == voc.image_ids.tolist()
    assert data.class_names == voc.class_names
    np.testing.assert_array_equal(data.boxes, voc.boxes)
    assert [objects(data, i) for i in range(len(data))] == [
        objects(voc, i) for i in range(len(voc))
    ]
