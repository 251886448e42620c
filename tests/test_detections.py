"""Detections in other tools' forms, read back by those tools or by hand."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from detkit.detections import Detections
from detkit.errors import ConfigError, DataError, DetkitError
from tests.oracles import random_boxes

SIZE = (500, 500)  # (height, width) that random_boxes fills


def some(n: int, seed: int, names: tuple[str, ...] = ("cat", "dog")) -> Detections:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.rand(n, generator=generator).sort(descending=True).values
    labels = torch.randint(0, len(names), (n,), generator=generator)
    return Detections(random_boxes(n, seed), scores, labels, names)


def one(box: tuple[float, ...], name: str = "cat") -> Detections:
    return Detections(
        torch.tensor([box]), torch.tensor([0.75]), torch.zeros(1, dtype=torch.int64), (name,)
    )


def voc_objects(text: str) -> list[tuple[str, tuple[int, ...]]]:
    sides = ("xmin", "ymin", "xmax", "ymax")
    return [
        (
            str(entry.findtext("name")),
            tuple(int(entry.findtext(f"bndbox/{side}") or "") for side in sides),
        )
        for entry in ElementTree.fromstring(text).iter("object")
    ]


def test_coco_reads_its_own_entries(capsys: pytest.CaptureFixture[str]) -> None:
    from pycocotools.coco import COCO

    found = some(20, seed=1)
    truth = COCO()
    truth.dataset = {
        "images": [{"id": 7, "height": 500, "width": 500}],
        "annotations": [],
        "categories": [{"id": 17, "name": "cat"}, {"id": 18, "name": "dog"}],
    }
    truth.createIndex()
    ids = {entry["name"]: entry["id"] for entry in truth.dataset["categories"]}
    results = truth.loadRes(found.to_coco(7, ids))
    capsys.readouterr()
    entries = results.loadAnns(results.getAnnIds(imgIds=[7]))
    assert [entry["category_id"] for entry in entries] == (found.labels + 17).tolist()
    assert [entry["score"] for entry in entries] == found.scores.tolist()
    back = torch.tensor([entry["bbox"] for entry in entries], dtype=torch.float64)
    back[:, 2:] += back[:, :2]
    assert torch.equal(back.float(), found.boxes)
    sides = (found.boxes[:, 2:] - found.boxes[:, :2]).double()
    areas = torch.tensor([entry["area"] for entry in entries])
    torch.testing.assert_close(areas.double(), sides.prod(dim=1), rtol=1e-5, atol=0)


def test_coco_ids_begin_at_one_and_follow_names() -> None:
    found = one((10.0, 20.0, 40.5, 60.0))
    entry = {"image_id": "a", "category": "cat", "bbox": [10.0, 20.0, 30.5, 40.0], "score": 0.75}
    assert found.to_coco("a") == [entry | {"category_id": 1}]
    assert found.to_coco("a", {"dog": 1, "cat": 90}) == [entry | {"category_id": 90}]
    with pytest.raises(ConfigError) as caught:
        found.to_coco("a", {"cats": 1, "dog": 2})
    assert str(caught.value) == (
        "to_coco: category_ids has no class named 'cat'. Did you mean 'cats'? category_ids has 2: "
        "cats, dog; the detector knows 1: cat."
    )


def test_voc_is_one_based_and_inclusive() -> None:
    # Pixels 9 to 38 across and 19 to 59 down, counted from 0; from 1 they are 10 to 39, 20 to 60.
    text = one((9.0, 19.0, 39.0, 60.0)).to_voc((100, 200), "a.jpg")
    root = ElementTree.fromstring(text)
    assert voc_objects(text) == [("cat", (10, 20, 39, 60))]
    assert root.findtext("filename") == "a.jpg"
    assert root.findtext("size/width") == "200"
    assert root.findtext("size/height") == "100"
    assert root.findtext("object/confidence") == "0.750000"
    assert voc_objects(some(0, seed=0).to_voc((100, 200))) == []


@given(st.integers(0, 98), st.integers(0, 198), st.integers(1, 100), st.integers(1, 200))
def test_whole_pixels_survive_voc(top: int, left: int, height: int, width: int) -> None:
    bottom, right = min(top + height, 100), min(left + width, 200)
    text = one((float(left), float(top), float(right), float(bottom))).to_voc((100, 200))
    ((_, (xmin, ymin, xmax, ymax)),) = voc_objects(text)
    assert (xmin - 1, ymin - 1, xmax, ymax) == (left, top, right, bottom)


@given(st.integers(0, 9999))
def test_fractions_move_by_half_a_pixel_in_voc(seed: int) -> None:
    found = some(5, seed)
    for box, (_, corners) in zip(
        found.boxes.tolist(), voc_objects(found.to_voc(SIZE)), strict=True
    ):
        xmin, ymin, xmax, ymax = corners
        assert 1 <= xmin <= xmax <= 500
        assert 1 <= ymin <= ymax <= 500
        read = (xmin - 1, ymin - 1, xmax, ymax)
        assert all(abs(a - b) <= 0.5 for a, b in zip(box[:2], read[:2], strict=True))
        assert all(abs(a - b) <= 1 for a, b in zip(box[2:], read[2:], strict=True))


def test_voc_escapes_names_and_refuses_what_xml_cannot_hold() -> None:
    name = "<cat> & \"dog\" 'é'"
    assert voc_objects(one((0, 0, 5, 5), name).to_voc((9, 9)))[0][0] == name
    with pytest.raises(DataError) as caught:
        one((0, 0, 5, 5), "c\0t").to_voc((9, 9))
    assert str(caught.value) == (
        "to_voc: 'c\\x00t' has a character that XML cannot hold. Rename it."
    )


@given(st.integers(0, 9999), st.integers(500, 4000), st.integers(500, 4000))
def test_yolo_is_read_back(seed: int, height: int, width: int) -> None:
    found = some(5, seed)
    lines = found.to_yolo((height, width)).splitlines()
    values = torch.tensor([[float(word) for word in line.split()] for line in lines])
    assert values[:, 0].tolist() == found.labels.tolist()
    centre, sides = values[:, 1:3], values[:, 3:5]
    back = torch.cat([centre - sides / 2, centre + sides / 2], dim=1)
    back *= torch.tensor([width, height, width, height])
    torch.testing.assert_close(back, found.boxes, rtol=0, atol=0.01)


def test_yolo_lines_by_hand() -> None:
    found = one((10.0, 20.0, 30.0, 70.0))
    assert found.to_yolo((100, 200)) == "0 0.100000 0.450000 0.100000 0.500000\n"
    assert found.to_yolo((100, 200), scores=True).endswith(" 0.500000 0.750000\n")
    assert some(0, seed=0).to_yolo((100, 200)) == ""


def test_csv_is_read_back(tmp_path: Path) -> None:
    found = some(6, seed=3, names=("cat, big", 'the "dog"'))
    found.to_csv(tmp_path / "new" / "found.csv", "photos/a,b.jpg")
    with open(tmp_path / "new" / "found.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert list(lines[0]) == ["path", "x1", "y1", "x2", "y2", "name", "score"]
    boxes = [[float(line[side]) for side in ("x1", "y1", "x2", "y2")] for line in lines]
    assert torch.equal(torch.tensor(boxes), found.boxes)
    assert [line["name"] for line in lines] == [found.names[i] for i in found.labels.tolist()]
    assert [float(line["score"]) for line in lines] == found.scores.tolist()
    assert {line["path"] for line in lines} == {"photos/a,b.jpg"}


def test_an_image_without_detections_keeps_a_line_in_csv(tmp_path: Path) -> None:
    some(0, seed=0).to_csv(str(tmp_path / "found.csv"), "a.jpg")
    assert (tmp_path / "found.csv").read_text() == "path,x1,y1,x2,y2,name,score\na.jpg,,,,,,\n"


def test_pandas() -> None:
    pandas = pytest.importorskip("pandas")
    found = some(4, seed=5)
    frame = found.to_pandas()
    assert list(frame.columns) == ["x1", "y1", "x2", "y2", "score", "label", "name"]
    boxes = torch.from_numpy(frame[["x1", "y1", "x2", "y2"]].to_numpy(copy=True)).float()
    assert torch.equal(boxes, found.boxes)
    assert frame["label"].tolist() == found.labels.tolist()
    empty = some(0, seed=0).to_pandas()
    assert len(empty) == 0
    assert pandas.concat([frame, empty])["label"].dtype == "int64"


def test_without_pandas_there_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)  # how Python marks what cannot be imported
    with pytest.raises(DetkitError) as caught:
        some(1, seed=0).to_pandas()
    assert str(caught.value) == (
        "to_pandas: pandas is not installed. Install it with: pip install pandas"
    )


def test_labels_without_names_are_numbers() -> None:
    found = some(3, seed=2)
    nameless = Detections(found.boxes, found.scores, found.labels)
    assert [entry["category"] for entry in nameless.to_coco(1)] == [
        str(label) for label in found.labels.tolist()
    ]
