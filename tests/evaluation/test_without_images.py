"""Figures of detections where only the annotation files are there: those of the referees."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detkit.data import read_dataset
from detkit.evaluation.results import read_detections
from detkit.evaluation.voc_map import VocRule, voc_map
from tests.evaluation.test_measured_files import (
    CATEGORIES,
    by_detkit,
    by_pycocotools,
    draw_detection,
    draw_truth,
    write_truth,
)
from tests.evaluation.test_voc_map import RULES, assert_equals_the_loop

IMAGES = 250  # of the real test set: each figure of its classes is one of its own


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("folder", [True, False])
def test_figures_without_images_are_pycocotools_to_the_last_bit(
    tmp_path: Path, seed: int, folder: bool
) -> None:
    """Boxes outside their image are among them; the JSON lies in its folder, or by itself."""
    draw = random.Random(seed)
    (tmp_path / "annotations").mkdir()
    objects = [draw_truth(draw, c["id"]) for c in CATEGORIES for _ in range(draw.randint(1, 9))]
    found = tmp_path / "found.json"
    hits = [draw_detection(draw, truth) for truth in objects for _ in range(draw.randint(0, 2))]
    found.write_text(json.dumps(hits))
    truth = write_truth(tmp_path, objects)
    referee = by_pycocotools(truth, found)
    if not folder:
        truth.rename(tmp_path / "val.json")
    assert by_detkit(tmp_path, found, images=False) == referee


def real_labels(data_root: Path, folder: Path) -> tuple[Path, Path, list[dict[str, Any]]]:
    """The first images of VOC 2007 test as COCO JSON, and detections near their objects."""
    said = json.loads((data_root / "voc_labels" / "test2007.json").read_text())
    said["images"] = said["images"][:IMAGES]
    kept = {image["id"] for image in said["images"]}
    said["annotations"] = [a for a in said["annotations"] if a["image_id"] in kept]
    truth = folder / "test2007.json"
    truth.write_text(json.dumps(said))
    draw = random.Random(0)
    hits = []
    for entry in said["annotations"]:
        for _ in range(draw.choice([0, 1, 1, 2])):
            sides = entry["bbox"][2:] * 2
            box = [v + draw.gauss(0, 0.12 * s) for v, s in zip(entry["bbox"], sides, strict=True)]
            box[2:] = [max(side, 1.0) for side in box[2:]]
            category = entry["category_id"] if draw.random() < 0.9 else draw.randint(1, 20)
            hits.append({"image_id": entry["image_id"], "category_id": category, "bbox": box,
                         "score": draw.random()})  # fmt: skip
    draw.shuffle(hits)
    found = folder / "found.json"
    found.write_text(json.dumps(hits))
    return truth, found, hits


@pytest.mark.data
def test_real_labels_without_images_are_measured(data_root: Path, tmp_path: Path) -> None:
    """By pycocotools, and by VOC's rules step by step; by number of image or stem of its file."""
    truth, found, hits = real_labels(data_root, tmp_path)
    entry = {"format": "coco", "root": tmp_path, "split": "test2007"}
    data = read_dataset(entry, images=False)
    assert len(data) == IMAGES
    assert by_detkit(tmp_path, found, images=False, split="test2007") == by_pycocotools(
        truth, found
    )
    results = read_detections(found, data)
    for rule in RULES:
        assert_equals_the_loop(results, data, rule)
    names = {
        image["id"]: Path(image["file_name"]).stem
        for image in json.loads(truth.read_text())["images"]
    }
    assert names[1] == "000001"
    found.write_text(json.dumps([hit | {"image_id": names[hit["image_id"]]} for hit in hits]))
    by_stem = read_detections(found, data)
    np.testing.assert_array_equal(by_stem.images, results.images)


@pytest.mark.parametrize("rule", RULES)
def test_xml_without_images_gives_the_figures_of_xml_with_them(
    tiny_voc: Path, tmp_path: Path, rule: VocRule
) -> None:
    entry = {"format": "voc", "root": tiny_voc, "split": "trainval"}
    hits = [
        {"image_id": image, "category": name, "bbox": box, "score": score}
        for image, name, box, score in (
            ("000001", "dog", [0, 0, 40, 30], 0.9),
            ("000001", "cat", [29, 19, 51, 20.5], 0.8),
            ("000004", "dog", [49, 4, 30, 20], 0.7),
            ("000002", "cat", [10, 20, 20, 30], 0.6),
            ("000003", "cat", [1, 1, 5, 5], 0.95),
        )
    ]
    path = tmp_path / "found.json"
    path.write_text(json.dumps(hits))
    right = read_dataset(entry)
    expected = voc_map(read_detections(path, right), right, rule=rule)
    for image in (tiny_voc / "JPEGImages").iterdir():
        image.unlink()
    (tiny_voc / "JPEGImages").rmdir()
    data = read_dataset(entry, images=False)
    measured = voc_map(read_detections(path, data), data, rule=rule)
    assert (measured.map07, measured.map10) == (expected.map07, expected.map10)
    assert 0 < measured.map07 < 1
