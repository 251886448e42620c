"""COCO's figures on a file of truth and a file of detections are pycocotools' on the same files."""

from __future__ import annotations

import contextlib
import io
import json
import random
from collections.abc import Callable
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detkit.data import DetectionDataset, read_dataset
from detkit.evaluation.coco_map import coco_map
from detkit.evaluation.confusion import confusion_matrix
from detkit.evaluation.errors import CLASS, MISSED, find_examples, split_errors
from detkit.evaluation.pictures import example_caption, example_picture
from detkit.evaluation.plots import score_images, write_pictures
from detkit.evaluation.results import read_detections, write_detections
from detkit.evaluation.run import evaluate_results
from detkit.evaluation.truth import truth_of
from detkit.evaluation.voc_map import VocRule
from tests.oracles import voc_xml, write_image, write_voc

SIZES = {7: (80, 100), 12: (300, 200), 40: (24, 24)}  # image id: height, width
CLASSES = 30  # each a case of its own: classes share the images, but no figure of theirs
CATEGORIES = [{"id": 3 * number, "name": f"class {number}"} for number in range(1, CLASSES + 1)]
THRESHOLDS = np.linspace(0.5, 0.95, 10).tolist()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("measured")
    (folder / "annotations").mkdir()
    (folder / "val").mkdir()
    for number, size in SIZES.items():
        write_image(folder / "val" / f"{number}.png", size)
    return folder


def write_truth(root: Path, annotations: list[dict[str, Any]]) -> Path:
    images = [
        {"id": number, "file_name": f"{number}.png", "height": size[0], "width": size[1]}
        for number, size in reversed(SIZES.items())
    ]
    numbered = [{"id": index + 1} | entry for index, entry in enumerate(annotations)]
    path = root / "annotations" / "instances_val.json"
    content = {"images": images, "categories": CATEGORIES, "annotations": numbered}
    path.write_text(json.dumps(content))
    return path


def by_pycocotools(truth: Path, found: Path) -> tuple[list[float], list[float]]:
    """The twelve figures and AP of each class."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        objects = COCO(str(truth))
        referee = COCOeval(objects, objects.loadRes(str(found)), "bbox")
        referee.evaluate()
        referee.accumulate()
        referee.summarize()
    per_class = referee.eval["precision"][:, :, :, 0, -1].mean(axis=(0, 1))
    return list(referee.stats), per_class.tolist()


def by_detkit(
    root: Path, found: Path, *, split: str = "val", images: bool = True
) -> tuple[list[float], list[float]]:
    entry = {"format": "coco", "root": root, "split": split}
    annotations = read_dataset(entry, images=images)
    ours = coco_map(read_detections(found, annotations), annotations)
    figures = np.array(astuple(ours.figures))
    return (
        np.where(np.isnan(figures), -1, figures).tolist(),
        np.where(np.isnan(ours.class_ap), -1, ours.class_ap).tolist(),
    )


def draw_truth(draw: random.Random, category: int) -> dict[str, Any]:
    number = draw.choice(list(SIZES))
    height, width = SIZES[number]
    digits = draw.choice([0, 1, 2, 6, 17])
    far = draw.choice([0, 0, 0, 0.5, 1.5])  # of the image, beyond its edges
    x, y = draw.uniform(-far * width, width), draw.uniform(-far * height, height)
    w, h = draw.uniform(0.3, width), draw.uniform(0.3, height)
    if not far:
        x, y = min(x, width - w), min(y, height - h)
    box = [round(value, digits) for value in (x, y, w, h)]
    kind = draw.random()
    if kind < 0.08:
        box[draw.choice([2, 3])] = draw.choice([0, 0, -3, 1e-9])
    elif kind < 0.12:
        box = [10.1, 20.7, 30.3, 40.9]
    area = draw.choice([box[2] * box[3], box[2] * box[3] * 0.7, 0, 1024, 9216, 1023.9999999])
    entry = {"image_id": number, "category_id": category, "bbox": box, "area": area}
    entry["iscrowd"] = int(draw.random() < 0.1)
    if draw.random() < 0.15:
        entry["ignore"] = 1
    return entry


def draw_detection(draw: random.Random, truth: dict[str, Any]) -> dict[str, Any]:
    x, y, w, h = truth["bbox"]
    w, h = max(w, 0), max(h, 0)
    iou = draw.choice(THRESHOLDS)
    box = draw.choice(
        [
            [x, y, w, h],
            [x + w * (1 - iou) / (1 + iou), y, w, h],  # of that IoU, but for rounding
            [x, y + h * (1 - iou) / (1 + iou), w, h],
            [x, y, w * iou, h],
            [x, y, w, h / iou],
            [x + 1e-6, y, w, h],
            [x, y, w, h - 1e-6 if h > 1 else h],
            [round(value) for value in (x, y, w, h)],
            [float(np.float32(value)) for value in (x, y, w, h)],
            [x, y, 0, h],
            [max(x, 0), max(y, 0), w, h],
        ]
    )
    score = draw.choice([draw.random(), round(draw.random(), 1), 1.0])
    return {
        "image_id": truth["image_id"],
        "category_id": truth["category_id"],
        "bbox": box,
        "score": score,
    }


@pytest.mark.parametrize("seed", range(8))
def test_figures_on_drawn_files_are_pycocotools_to_the_last_bit(root: Path, seed: int) -> None:
    """IoUs at the thresholds, numbers no float32 holds, boxes outside, of no size, crowds."""
    draw = random.Random(seed)
    objects, hits = [], []
    for category in CATEGORIES:
        drawn = [draw_truth(draw, category["id"]) for _ in range(draw.randint(1, 20))]
        objects += drawn
        hits += [draw_detection(draw, truth) for truth in drawn for _ in range(draw.randint(0, 3))]
    draw.shuffle(objects)
    draw.shuffle(hits)
    found = root / "found.json"
    found.write_text(json.dumps(hits))
    figures, per_class = by_pycocotools(write_truth(root, objects), found)
    assert by_detkit(root, found) == (figures, per_class)
    assert len(set(per_class)) > CLASSES / 2  # not one figure again and again


def one(bbox: list[float], image: int = 7, **keys: Any) -> dict[str, Any]:
    entry = {"image_id": image, "category_id": 3, "bbox": bbox, "iscrowd": 0}
    return entry | {"area": bbox[2] * bbox[3]} | keys


def hit(bbox: list[float], image: int = 7, score: float = 0.5) -> dict[str, Any]:
    return {"image_id": image, "category_id": 3, "bbox": bbox, "score": score}


OFF = [-20, 0, 100, 60]
WHOLE = [10, 10, 50, 50]
AP = 1.0  # of what is found throughout
HALF = 51 / 101  # of one object of two: 51 of the 101 recalls


@pytest.mark.parametrize(
    ("objects", "found", "ap"),
    [
        pytest.param([one(OFF)], [hit(OFF)], AP, id="partly outside"),
        pytest.param([one([200, 5, 9, 9])], [hit([200, 5, 9, 9])], AP, id="outside"),
        pytest.param([one(WHOLE), one([200, 5, 9, 9])], [hit(WHOLE)], HALF, id="outside, missed"),
        pytest.param([one(WHOLE), one([5, 5, 0, 0])], [hit(WHOLE)], HALF, id="of no size"),
        pytest.param([one(WHOLE), one(OFF, area=-1)], [hit(WHOLE)], AP, id="a negative area"),
        pytest.param([one(WHOLE), one(OFF, ignore=1)], [hit(WHOLE)], HALF, id="ignore, no crowd"),
        pytest.param([one(WHOLE), one(OFF, ignore=1, iscrowd=1)], [hit(WHOLE)], AP, id="a crowd"),
        pytest.param([one([0, 0, 10, 10])], [hit([2.5, 0, 10, 10])], 0.3, id="an IoU of 0.6"),
        pytest.param([one([0.1, 0, 10, 10])], [hit([2.6, 0, 10, 10])], 0.3, id="and in tenths"),
    ],
)
def test_truth_is_measured_as_its_file_states_it(
    root: Path, objects: list[dict[str, Any]], found: list[dict[str, Any]], ap: float
) -> None:
    path = root / "found.json"
    path.write_text(json.dumps(found))
    truth = write_truth(root, objects)
    referee = by_pycocotools(truth, path)
    assert by_detkit(root, path) == referee
    assert referee[0][0] == pytest.approx(ap)


def as_voc(root: Path, boxes: list[list[float]]) -> None:
    corners = [(x + 1, y + 1, x + w, y + h) for x, y, w, h in boxes]
    write_voc(root, {"a": voc_xml([("cat", box) for box in corners], size=None)}, split="val")


def as_csv(root: Path, boxes: list[list[float]]) -> None:
    write_image(root / "a.jpg", (60, 80))
    lines = [f"a.jpg,{x},{y},{x + w},{y + h},cat" for x, y, w, h in boxes]
    (root / "val.csv").write_text("\n".join(["path,x1,y1,x2,y2,name", *lines]))


def as_yolo(root: Path, boxes: list[list[float]]) -> None:
    write_image(root / "images" / "val" / "a.jpg", (60, 80))
    shares = [((x + w / 2) / 80, (y + h / 2) / 60, w / 80, h / 60) for x, y, w, h in boxes]
    (root / "labels" / "val").mkdir(parents=True)
    lines = [f"0 {' '.join(map(str, share))}" for share in shares]
    (root / "labels" / "val" / "a.txt").write_text("\n".join(lines))
    (root / "data.yaml").write_text("names: [cat]")


@pytest.mark.parametrize("write", [as_voc, as_csv, as_yolo])
@pytest.mark.parametrize("rule", ["devkit", "voc_eval"])
def test_a_box_off_the_image_is_found_by_the_same_box_in_every_format(
    tmp_path: Path, write: Callable[[Path, list[list[float]]], None], rule: VocRule
) -> None:
    """Clipped, the first would have an IoU of 0.8, the second of 0.5, the third none."""
    boxes = [[-20.0, 0.0, 100.0, 60.0], [40.0, 20.0, 80.0, 50.0], [90.0, 5.0, 9.0, 9.0]]
    write(tmp_path, boxes)
    entry = {"format": write.__name__.removeprefix("as_"), "root": tmp_path, "split": "val"}
    data = read_dataset(entry | {"origin": 1} if write is as_voc else entry)
    assert data.report.counts["boxes clipped to the image"] == 2
    assert data.report.counts["boxes outside the image dropped"] == 1
    found = [
        {"image_id": "a", "category": "cat", "bbox": box, "score": 1 - index / 10}
        for index, box in enumerate(boxes)
    ]
    (tmp_path / "found.json").write_text(json.dumps(found))
    measured = evaluate_results(read_detections(tmp_path / "found.json", data), data, voc_rule=rule)
    figures = measured.metrics()
    assert (figures["voc07_map"], figures["voc10_map"]) == (1, 1)
    assert figures["coco_ap"] == pytest.approx(1)
    assert measured.objects == 3


def test_a_file_of_detections_comes_back_with_its_numbers(root: Path) -> None:
    write_truth(root, [one(WHOLE)])
    annotations = read_dataset({"format": "coco", "root": root, "split": "val"})
    boxes = [[0.1, 0.2, 10.7, 1 / 3], [1234.5678, -20.1, 12.480000000000002, 1e-9]]
    path = root / "found.json"
    path.write_text(json.dumps([hit(box, score=1 / 3) for box in boxes]))
    results = read_detections(path, annotations)
    assert results.measured.tolist() == boxes
    assert results.select(np.array([1])).measured.tolist() == boxes[1:]
    write_detections(path, results, annotations)
    assert [entry["bbox"] for entry in json.loads(path.read_text())] == boxes
    assert [entry["score"] for entry in json.loads(path.read_text())] == [1 / 3] * 2


def as_sized_csv(root: Path, boxes: list[list[float]]) -> dict[str, Any]:
    lines = ["path,x_min,y_min,w,h,name", *(f"a.jpg,{','.join(map(str, b))},cat" for b in boxes)]
    (root / "val.csv").write_text("\n".join(lines))
    return {"format": "csv"}


def as_via(root: Path, boxes: list[list[float]]) -> dict[str, Any]:
    sides = ("x", "y", "width", "height")
    regions = [
        {
            "shape_attributes": {"name": "rect", **dict(zip(sides, box, strict=True))},
            "region_attributes": {"class": "cat"},
        }
        for box in boxes
    ]
    page = {"filename": "a.jpg", "size": 1, "regions": regions, "file_attributes": {}}
    (root / "val.json").write_text(json.dumps({"a.jpg1": page}))
    return {"format": "via"}


def as_createml(root: Path, boxes: list[list[float]]) -> dict[str, Any]:
    objects = [
        {"label": "cat", "coordinates": {"x": x, "y": y, "width": w, "height": h}}
        for x, y, w, h in boxes
    ]
    (root / "val.json").write_text(json.dumps([{"image": "a.jpg", "annotations": objects}]))
    return {"format": "createml", "anchor": "topLeft"}


@pytest.mark.parametrize("write", [as_sized_csv, as_via, as_createml])
def test_widths_of_a_file_are_measured_as_they_stand_there(
    tmp_path: Path, write: Callable[[Path, list[list[float]]], dict[str, Any]]
) -> None:
    """What a corner makes of them, 10.700000000000001, may be no hit at an IoU of 0.6."""
    rng = np.random.default_rng(0)
    boxes = (rng.integers(1, 2500, (40, 4)) / 100).tolist()
    write_image(tmp_path / "a.jpg", (60, 80))
    entry = write(tmp_path, boxes)
    data = read_dataset(entry | {"root": tmp_path, "split": "val"})
    assert truth_of(data).measured.tolist() == boxes


def test_pictures_and_errors_name_the_objects_that_are_measured(tmp_path: Path) -> None:
    """Those that are not learned stand among the others, and shift none of them."""
    objects = [("dog", (90, 5, 99, 20)), ("cat", (11, 11, 40, 40)), ("bird", (41, 5, 70, 30))]
    write_voc(tmp_path, {"a": voc_xml(objects), "b": voc_xml([("dog", (30, 30, 20, 20))])}, "val")
    data = read_dataset({"format": "voc", "root": tmp_path, "split": "val"})
    assert [data.class_names[label] for label in data.labels] == ["cat", "bird"]
    found = [{"image_id": "a", "category": "cat", "bbox": [10, 10, 30, 30], "score": 0.9}]
    found += [{"image_id": "a", "category": "dog", "bbox": [40, 4, 30, 26], "score": 0.8}]
    (tmp_path / "found.json").write_text(json.dumps(found))
    results = read_detections(tmp_path / "found.json", data)
    split = split_errors(results, data)
    captions = [
        example_caption(data, results, example)
        for kind in (CLASS, MISSED)
        for example in find_examples(split, results, data, kind, 9)
    ]
    assert captions == [
        "class: found dog, truth is bird, IoU 1.00, score 0.80, in a",
        "missed: dog, in a",
        "missed: dog, in b",
    ]
    matrix = confusion_matrix(results, data, threshold=0.5)
    assert matrix.confused(3) == [("bird", "dog", 1)]
    assert matrix.counts[:, -1].tolist() == [0, 0, 2, 0]  # bird, cat, dog
    scores = score_images(results, data)
    assert (scores.right.tolist(), scores.missed.tolist()) == ([1, 0], [2, 1])
    dataset = DetectionDataset(data)
    assert len(write_pictures(tmp_path / "out", dataset, results, count=2)) == 3
    for kind in (CLASS, MISSED):
        for example in find_examples(split, results, data, kind, 9):
            assert min(example_picture(dataset, results, example, 100).size) > 1
