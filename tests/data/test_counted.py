"""What readers count comes with its first example: a file, a line, an entry."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from detkit.data import Annotations, read_dataset
from detkit.data.counted import Counted
from tests.data import coco_files
from tests.oracles import voc_xml, write_image, write_voc


def examples(data: Annotations) -> dict[str, str]:
    return {kind: data.report.examples[kind] for kind, n in data.report.counts.items() if n}


def test_a_count_knows_its_first() -> None:
    found = Counted.of(iter(["b.png", "a.png"]), Path("photos"))
    assert (found, found.first) == (2, "photos/b.png")
    none = Counted.of([])
    assert (none, none.first) == (0, "")
    assert Counted(0, "a.png").first == ""


def test_the_image_of_each_kind(tmp_path: Path) -> None:
    pages = {
        "a": voc_xml([("cat", (1, 1, 9, 9))]),
        "b": voc_xml([("cat", (1, 1, 9, 9))], size=None),
    }
    write_voc(tmp_path, pages)
    data = read_dataset({"format": "voc", "root": tmp_path, "split": "trainval"})
    assert examples(data) == {"annotations without a size": f"{tmp_path}/JPEGImages/b.jpg"}
    parts = [
        read_dataset({"format": "voc", "root": tmp_path, "split": "trainval", "part": part})
        for part in ("train", "eval")
    ]
    assert sorted(map(len, map(examples, parts))) == [0, 1]  # it goes with its image


def test_an_entry_of_a_json(tmp_path: Path) -> None:
    more = [coco_files.one(id=9, image_id=99), coco_files.one(id=10, image_id=98)]
    coco_files.write(tmp_path, annotations=[*coco_files.ANNOTATIONS, *more])
    found = examples(coco_files.read(tmp_path))
    assert found["objects of images that are not listed dropped"] == "annotations[3]"


def test_a_line_of_a_table(tmp_path: Path) -> None:
    for name in "abc":
        write_image(tmp_path / f"{name}.png")
    path = tmp_path / "all.csv"
    path.write_text("a.png,1,2,9,9,cat\na.png,1,2,9,9,cat\na.png,1,2,9,9,cat\n")
    found = examples(read_dataset({"format": "csv", "root": path}))
    assert found == {
        "repeated lines read once": f"{path}: line 2",
        "images that the table does not name left out": str(tmp_path / "b.png"),
    }


def test_an_image_without_a_file_of_its_own(tmp_path: Path) -> None:
    shape = {"label": "cat", "points": [[1, 2], [9, 8]], "shape_type": "rectangle"}
    said: dict[str, Any] = {"shapes": [shape], "imagePath": "b.png", "imageData": None}
    (tmp_path / "b.json").write_text(json.dumps(said))
    (tmp_path / "settings.json").write_text("{}")
    for name in "bcd":
        write_image(tmp_path / f"{name}.png")
    found = examples(read_dataset({"format": "labelme", "root": tmp_path}))
    assert sorted(found.values()) == [str(tmp_path / "c.png"), str(tmp_path / "settings.json")]


@pytest.mark.parametrize("unannotated", ["leave_out", "auto"])
def test_images_without_xml(unannotated: str, tmp_path: Path) -> None:
    write_voc(tmp_path, {"a": voc_xml([("cat", (1, 1, 9, 9))]), "b": "", "c": voc_xml([])})
    (tmp_path / "Annotations" / "b.xml").unlink()
    entry = {"format": "voc", "root": tmp_path, "split": "trainval", "unannotated": unannotated}
    assert next(iter(examples(read_dataset(entry)).values())).startswith(f"{tmp_path}/JPEGImages/b")
