"""VIA's files: projects, JSON and CSV as its own export functions write them; boxes by hand.

Images are 80 wide and 60 high. The keys are those of VIA 1.0.6 and 2.0's source.
"""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import pytest

from detkit.data import Annotations, read_dataset, summary
from detkit.data.recognise import recognise
from detkit.errors import ConfigError, DataError
from tests.oracles import write_image

RECT = {"name": "rect", "x": 10, "y": 20, "width": 20, "height": 24}
SHAPES: dict[str, tuple[dict[str, Any], list[float] | None, str]] = {
    "rect": (RECT, [10, 20, 30, 44], ""),
    "circle": ({"name": "circle", "cx": 30, "cy": 25, "r": 5.5}, [24.5, 19.5, 35.5, 30.5],
               "1 boxes made from circles and ellipses"),
    "ellipse": ({"name": "ellipse", "cx": 30, "cy": 25, "rx": 10, "ry": 5}, [20, 20, 40, 30],
                "1 boxes made from circles and ellipses"),
    "ellipse turned by a quarter": (
        {"name": "ellipse", "cx": 30, "cy": 25, "rx": 10, "ry": 5, "theta": math.pi / 2},
        [25, 15, 35, 35], "1 boxes made from circles and ellipses"),
    "ellipse turned by an eighth": (  # half of each side: sqrt((100 + 25) / 2) = 7.90569
        {"name": "ellipse", "cx": 30, "cy": 25, "rx": 10, "ry": 5, "theta": math.pi / 4},
        [22.09431, 17.09431, 37.90569, 32.90569], "1 boxes made from circles and ellipses"),
    "polygon": ({"name": "polygon", "all_points_x": [10, 30, 15], "all_points_y": [44, 30, 20]},
                [10, 20, 30, 44], "1 boxes made from polygons"),
    "polyline": ({"name": "polyline", "all_points_x": [1, 9], "all_points_y": [1, 9]}, None,
                 "1 points and lines dropped"),
    "point": ({"name": "point", "cx": 5, "cy": 5}, None, "1 points and lines dropped"),
    "a shape of no kind": ({"name": "cube"}, None, "1 boxes without numbers dropped"),
    "words for numbers": ({**RECT, "x": "ten"}, None, "1 boxes without numbers dropped"),
    "a polygon of no points": ({"name": "polygon", "all_points_x": [], "all_points_y": []}, None,
                               "1 boxes without numbers dropped"),
    "no angle": ({"name": "ellipse", "cx": 30, "cy": 25, "rx": 10, "ry": 5, "theta": "x"}, None,
                 "1 boxes without numbers dropped"),
}  # fmt: skip


def image(name: str, *regions: tuple[Any, Any]) -> dict[str, Any]:
    listed = [{"shape_attributes": shape, "region_attributes": said} for shape, said in regions]
    return {"filename": name, "size": 1234, "regions": listed, "file_attributes": {}}


def by_key(*images: dict[str, Any]) -> dict[str, Any]:
    return {f"{one['filename']}{one['size']}": one for one in images}


def project(images: dict[str, Any], **attributes: Any) -> dict[str, Any]:
    return {
        "_via_settings": {"ui": {}, "core": {}, "project": {"name": "via_project_1"}},
        "_via_img_metadata": images,
        "_via_attributes": {"region": attributes, "file": {}},
    }


def write_json(root: Path, content: Any, name: str = "via_region_data.json") -> Path:
    for picture in ("a.png", "b.png"):
        write_image((root / name).parent / picture)
    (root / name).write_text(json.dumps(content))
    return root / name


def write_table(root: Path, images: dict[str, Any], mark: str = "") -> Path:
    """As VIA's pack_via_metadata writes it."""
    for picture in ("a.png", "b.png"):
        write_image(root / picture)
    columns = ["filename", "file_size", "file_attributes", "region_count", "region_id",
               "region_shape_attributes", "region_attributes"]  # fmt: skip
    path = root / "via_region_data.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([mark + columns[0], *columns[1:]])
        for one in images.values():
            head = [one["filename"], one["size"], "{}", len(one["regions"])]
            for number, region in enumerate(one["regions"]):
                cells = [json.dumps(region[f"{k}_attributes"]) for k in ("shape", "region")]
                writer.writerow([*head, number, *cells])
            if not one["regions"]:
                writer.writerow([*head, 0, "{}", "{}"])
    return path


def read(root: Path, classes: tuple[str, ...] = (), **keys: Any) -> Annotations:
    return read_dataset({"format": "via", "root": str(root), "split": "", **keys}, classes)


def refusal(root: Path, **keys: Any) -> str:
    with pytest.raises((DataError, ConfigError)) as caught:
        read(root, **keys)
    return str(caught.value)


DOG = {"class": "dog"}


@pytest.mark.parametrize(("shape", "box", "kind"), SHAPES.values(), ids=SHAPES)
def test_the_box_around_each_shape(
    tmp_path: Path, shape: dict[str, Any], box: list[float] | None, kind: str
) -> None:
    content = by_key(image("a.png", (shape, DOG), ({**RECT, "x": 1}, {"class": "cat"})))
    for path in (write_json(tmp_path / "j", content), write_table(tmp_path / "t", content)):
        data = read(path.parent)
        kept = data.boxes[data.labels == data.class_names.index("dog")] if box else []
        assert [pytest.approx(row, abs=1e-4) for row in kept] == ([box] if box else [])
        counted = [part for part in summary(data).split(", ")[2:] if "does not name" not in part]
        assert counted == ([kind] if kind else [])


@pytest.mark.parametrize("form", ["JSON", "JSON of 1.0", "project", "CSV", "CSV of 1.0"])
def test_forms(tmp_path: Path, form: str) -> None:
    content = by_key(image("a.png", (RECT, DOG), (RECT, DOG)), image("b.png"))
    if form == "JSON of 1.0":
        for one in content.values():
            one["regions"] = {str(number): r for number, r in enumerate(one["regions"])}
    if "CSV" in form:
        write_table(tmp_path, content, "#" * form.endswith("1.0"))
    else:
        write_json(tmp_path, project(content) if form == "project" else content)
    found = recognise(tmp_path)
    assert (found.format, found.train[0]["split"]) == ("via", "via_region_data")
    data = read(tmp_path)
    assert data.boxes.tolist() == [[10, 20, 30, 44]]
    assert data.offsets.tolist() == [0, 1, 1]
    assert summary(data) == (
        "2 images (1 without objects), 1 objects of 1 classes, 1 repeated regions read once"
    )


def test_splits_in_folders(tmp_path: Path) -> None:
    for split in ("train", "val"):
        content = by_key(image("a.png", (RECT, DOG)))
        write_json(tmp_path, content, f"{split}/via_region_data.json")
    found = recognise(tmp_path)
    assert found.line() == (
        f"{tmp_path}: VIA, splits train 1, val 1; training on train, evaluating on val"
    )
    data = read_dataset(found.train[0])
    assert data.paths.tolist() == [f"{tmp_path}/train/a.png"]
    assert summary(data).endswith("1 images that the table does not name left out")


def test_annotations_and_images_apart(tmp_path: Path) -> None:
    write_json(tmp_path / "images", {}, "x.txt")
    path = tmp_path / "annotations" / "via.json"
    path.parent.mkdir()
    path.write_text(json.dumps(by_key(image("http://host/im/a.png", (RECT, DOG)))))
    (entry,) = recognise(tmp_path).train
    data = read_dataset({**entry, "part": "all"})
    assert data.paths.tolist() == [f"{tmp_path}/images/a.png"]
    assert "1 images found by the end of their path" in summary(data)
    data = read(tmp_path, annotations="annotations/via.json", images="images")
    assert data.paths.tolist() == [f"{tmp_path}/images/a.png"]


def test_the_class_is_the_only_attribute_or_the_usual_one(tmp_path: Path) -> None:
    write_json(tmp_path, by_key(image("a.png", (RECT, {"species": "dog"}))))
    assert read(tmp_path).class_names == ("dog",)
    said = {"colour": "red", "Label": "dog", "blurred": ""}
    write_json(tmp_path, by_key(image("a.png", (RECT, said)), image("b.png")))
    data = read(tmp_path)
    assert data.class_names == ("dog",)
    assert summary(data).endswith("1 objects named by their attribute 'Label'")
    found = recognise(tmp_path, "", {"attribute": "colour"})
    data = read_dataset({**found.train[0], "part": "all"})
    assert data.class_names == ("red",)
    assert refusal(tmp_path, attribute="color") == (
        "data.attribute: no region has 'color'. Did you mean 'colour'?"
    )


def test_several_attributes_that_may_be_the_class(tmp_path: Path) -> None:
    path = write_json(tmp_path, by_key(image("a.png", (RECT, {"colour": "red", "kind": "dog"}))))
    assert refusal(tmp_path) == (
        f"{path}: a.png: region 1: regions have the attributes 'colour', 'kind'; which is the "
        "class? Say data.attribute=colour, or another."
    )


def test_regions_without_attributes_are_of_one_class(tmp_path: Path) -> None:
    write_json(tmp_path, by_key(image("a.png", (RECT, {})), image("b.png")))
    data = read(tmp_path)
    assert data.class_names == ("object",)
    assert summary(data).endswith("1 objects without a class name called 'object'")
    assert read(tmp_path, ("balloon",)).class_names == ("balloon",)


@pytest.mark.parametrize(
    ("value", "name"),
    [("dog", "dog"), (" dog ", "dog"), ({"dog": True}, "dog"), ({"dog": True, "cat": False}, "dog"),
     (3, "3"), ("1", "total")],
)  # fmt: skip
def test_values_of_the_class(tmp_path: Path, value: Any, name: str) -> None:
    options = {"type": "radio", "options": {"1": "total", "2": "date"}}
    content = by_key(image("a.png", (RECT, {"class": value})))
    write_json(tmp_path, project(content, **{"class": options}))
    assert read(tmp_path).class_names == (name,)


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ({}, "the region has no 'class' that can be read. Name its class."),
        ("", "the region has no 'class' that can be read. Name its class."),
        (None, "the region has no 'class' that can be read. Name its class."),
        ({"dog": True, "cat": True}, "'class' has 2 values ('dog', 'cat'), and an object is of one "
                                     "class. Tick one."),
    ],
)  # fmt: skip
def test_values_that_are_no_class(tmp_path: Path, value: Any, sentence: str) -> None:
    path = write_json(tmp_path, by_key(image("a.png", (RECT, DOG), (RECT, {"class": value}))))
    assert refusal(tmp_path) == f"{path}: a.png: region 2: {sentence}"


def test_attributes_that_are_all_empty(tmp_path: Path) -> None:
    path = write_json(tmp_path, by_key(image("a.png", (RECT, {"dog": ""}), (RECT, {"cat": ""}))))
    assert refusal(tmp_path) == (
        f"{path}: a.png: region 1: all attributes of all regions are empty ('cat', 'dog'). Fill in "
        "the one that is the class."
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[1, 2]", "lists no images. Is this a file of VIA?"),
        ("{}", "lists no images. Is this a file of VIA?"),
        ('{"a": 1}', "'a' names no file. Is this a file of VIA?"),
        ('{"a": {"filename": "a.png", "regions": 3}}', "a.png: regions are no list. Repair the "
                                                       "file."),
        ('{"a": {"filename": "a.png", "regions": [3]}}', "a.png: region 1: expected a block of "
                                                         "keys. Repair the file."),
        ('{"a": {"filename": "a.png", "regions": [{"shape_attributes": [1]}]}}',
         "a.png: region 1: its attributes are no block of keys. Repair the file."),
        ('{"project": {}, "config": {}, "file": {}, "metadata": {}}', "a project of VIA 3, which "
         "detkit does not read. Export it in VIA as COCO."),
        ("{", "not readable as JSON (Expecting property name enclosed in double quotes: line 1 "
              "column 2 (char 1)). Repair the file."),
        ("[" * 200_000, "is nested too deep for a file of VIA. Repair it."),
        ('{"a": {"filename": "../x.png", "regions": []}}', "../x.png: '../x.png' is no path below "
         "the table's folder. Write paths relative to it, without '..'."),
    ],
)  # fmt: skip
def test_mistakes_get_a_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "via.json"
    path.write_text(text)
    assert refusal(path) == f"{path}: {sentence}"


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ('a.png,1,"{}",1,0,"{""name"":",{}', "a cell is no JSON block. Export the file again."),
        ('a.png,1,"{}",1,0,[1],{}', "a cell is no JSON block. Export the file again."),
        ("a.png,1", "has 2 columns, expected 7. Export it again."),
        (',1,"{}",0,0,"{}","{}"', "names no file. Export it again."),
    ],
)
def test_rows_that_are_no_regions(tmp_path: Path, row: str, sentence: str) -> None:
    path = write_table(tmp_path, {})
    path.write_text(path.read_text() + row + "\n")
    assert refusal(tmp_path, annotations="via_region_data.csv") == f"{path}: line 2: {sentence}"


def test_a_table_of_another_header(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("filename,region_shape_attributes\na.png,{}\n")
    assert refusal(path) == (
        f"{path}: the header has no column 'region_attributes'. Is this a table of VIA?"
    )


def test_several_files_in_one_folder(tmp_path: Path) -> None:
    content = by_key(image("a.png", (RECT, DOG)), image("b.png"))
    write_json(tmp_path, content)
    write_table(tmp_path, content)
    assert refusal(tmp_path) == (
        f"{tmp_path}: via_region_data.csv and via_region_data.json are files of VIA. Say "
        "data.annotations=FILE."
    )
    for name in ("via_region_data.json", "via_region_data.csv"):
        found = recognise(tmp_path, "", {"annotations": name})
        assert (found.format, found.splits[0].images) == ("via", 2)
        assert len(read_dataset({**found.train[0], "part": "all"})) == 2


def test_other_files_are_not_vias(tmp_path: Path) -> None:
    write_json(tmp_path, {"images": [], "annotations": [], "categories": []}, "coco.json")
    (tmp_path / "notes.csv").write_text("filename,note\na.png,good\n")
    with pytest.raises(DataError, match="no dataset is recognised"):
        recognise(tmp_path)


@pytest.mark.parametrize("foreign", ["\x1b[31m", "\0", "a\u2028b", "x" * 5000])
@pytest.mark.parametrize("place", ["file", "region", "attribute"])
def test_foreign_texts_are_shown_on_one_line_and_cut_short(
    tmp_path: Path, place: str, foreign: str
) -> None:
    attributes = {foreign: "1", "other": "2"} if place == "attribute" else {"kind": "cat"}
    broken = image("a.png" if place == "attribute" else foreign, (RECT, attributes))
    if place == "region":
        broken["regions"] = [7]
    path = write_json(tmp_path, project(by_key(broken)))
    with pytest.raises(DataError) as caught:
        read_dataset({"format": "via", "root": str(tmp_path), "split": ""})
    said = str(caught.value)
    assert said.startswith(f"{path}: ")
    assert said.isprintable()
    assert len(said) < len(str(path)) + 400
