"""Figures of some of the classes of a COCO file are pycocotools' on the file with these alone."""

from __future__ import annotations

import json
import random
import re
from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest

from detkit.data import read_dataset
from detkit.errors import DataError
from detkit.evaluation.coco_map import coco_map
from detkit.evaluation.results import read_detections
from tests.data import coco_files
from tests.evaluation.test_measured_files import (
    CATEGORIES,
    SIZES,
    by_pycocotools,
    draw_detection,
    draw_truth,
    write_truth,
)
from tests.oracles import voc_xml, write_image, write_voc


@pytest.mark.parametrize("seed", range(3))
def test_figures_are_those_of_a_file_with_these_classes_alone(tmp_path: Path, seed: int) -> None:
    """Boxes outside their image and of no size are among them, measured as missed."""
    draw = random.Random(seed)
    kept = draw.sample(CATEGORIES, 5)
    objects = [draw_truth(draw, c["id"]) for c in CATEGORIES for _ in range(draw.randint(1, 9))]
    draw.shuffle(objects)
    numbers = {category["id"] for category in kept}
    mine = [entry for entry in objects if entry["category_id"] in numbers]
    for folder in ("annotations", "val"):
        (tmp_path / folder).mkdir()
    for number, size in SIZES.items():
        write_image(tmp_path / "val" / f"{number}.png", size)
    found = tmp_path / "found.json"
    hits = [draw_detection(draw, entry) for entry in objects]
    own = [hit for hit in hits if hit["category_id"] in numbers]
    found.write_text(json.dumps(own))
    stats, per_class = by_pycocotools(write_truth(tmp_path, mine), found)
    found.write_text(json.dumps(hits))
    write_truth(tmp_path, objects)
    names = [category["name"] for category in kept]
    data = read_dataset({"format": "coco", "root": tmp_path, "split": "val", "only": names})
    ours = coco_map(read_detections(found, data), data)
    figures = np.array(astuple(ours.figures))
    assert np.where(np.isnan(figures), -1, figures).tolist() == stats
    by_number = dict(zip([c["id"] for c in CATEGORIES], per_class, strict=True))
    assert data.category_ids is not None
    assert data.category_ids.tolist() == sorted(numbers)
    theirs = [by_number[number] for number in data.category_ids.tolist()]
    assert np.where(np.isnan(ours.class_ap), -1, ours.class_ap).tolist() == theirs


def test_detections_of_classes_that_are_left_out_are_left_out_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """By name or by number; what the data never had stays refused."""
    coco_files.write(tmp_path)
    data = coco_files.read(tmp_path, only=["cat"])
    path = tmp_path / "found.json"
    entries = [
        {"image_id": 7, "category": "dog", "bbox": [1, 2, 3, 4], "score": 0.9},
        {"image_id": 7, "category_id": 2, "bbox": [1, 2, 3, 4], "score": 0.8},
        {"image_id": 3, "category_id": 90, "category": "brush", "bbox": [0, 0, 1, 1], "score": 0.7},
        {"image_id": 5, "category": "cat", "bbox": [5, 6, 7, 8], "score": 0.6},
    ]
    path.write_text(json.dumps(entries))
    found = read_detections(path, data)
    assert found.scores.tolist() == [0.8, 0.6]
    assert found.labels.tolist() == [0, 0]
    assert caplog.messages == [f"{path}: 2 detections of dog, brush left out by data.only"]
    assert len(read_detections(path, coco_files.read(tmp_path))) == 4
    for wrong, said in (
        ({"category": "dgo"}, "no class named 'dgo' in the data. Did you mean 'dog'?"),
        ({"category_id": 5}, "no category_id 5 in the data. Known: 2 cat, 18 dog, 90 brush."),
        ({"category_id": 18, "category": "cat"}, "category_id 18 is 'dog' in the data, but"),
    ):
        path.write_text(json.dumps([{"image_id": 7, "bbox": [1, 2, 3, 4], "score": 0.8, **wrong}]))
        with pytest.raises(DataError, match=re.escape(said)):
            read_detections(path, data)


def test_a_synonym_that_is_left_out_is_not_taken_for_what_is_kept(tmp_path: Path) -> None:
    objects = [("motorbike", (1, 1, 40, 30)), ("motorcycle", (1, 1, 20, 20))]
    write_voc(tmp_path / "voc", {"a": voc_xml(objects)})
    entry = {"format": "voc", "root": tmp_path / "voc", "split": "trainval"}
    hits = [
        {"image_id": "a", "category": name, "bbox": [0, 0, 40, 30], "score": 0.5}
        for name, _ in objects
    ]
    path = tmp_path / "found.json"
    path.write_text(json.dumps(hits))
    assert len(read_detections(path, read_dataset({**entry, "only": ["motorbike"]}))) == 1
