"""Figures of some of the classes of a COCO file are pycocotools' on the file with these alone."""

from __future__ import annotations

import json
import random
from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest

from detkit.data import read_dataset
from detkit.evaluation.coco_map import coco_map
from detkit.evaluation.results import read_detections
from tests.evaluation.test_measured_files import (
    CATEGORIES,
    SIZES,
    by_pycocotools,
    draw_detection,
    draw_truth,
    write_truth,
)
from tests.oracles import write_image


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
    found.write_text(json.dumps([draw_detection(draw, entry) for entry in mine]))
    stats, per_class = by_pycocotools(write_truth(tmp_path, mine), found)
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
