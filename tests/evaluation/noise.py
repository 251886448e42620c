"""Ground truth in memory and noisy detections of it, for the tests of the evaluators."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from detkit.data.base import Annotations
from detkit.evaluation.results import Results

SHARED = Path(__file__).parents[2].parent / "shared" / "data"


def make_annotations(
    rows: list[tuple[int, int, tuple[float, float, float, float]]],
    *,
    images: int,
    classes: int,
    difficult: tuple[int, ...] = (),
    crowd: tuple[int, ...] = (),
) -> Annotations:
    """Annotations from (image, label, xyxy) rows, which stand in the order of their images.

    ``difficult`` and ``crowd`` name rows.
    """
    image_of = np.array([row[0] for row in rows], dtype=np.int64)
    assert (np.diff(image_of) >= 0).all()
    boxes = np.array([row[2] for row in rows], dtype=np.float32).reshape(-1, 4)
    counts = np.bincount(image_of, minlength=images)
    is_row = np.arange(len(rows))
    return Annotations(
        class_names=tuple(f"class{label}" for label in range(classes)),
        image_ids=np.array([f"image{index}" for index in range(images)], dtype=np.str_),
        paths=np.array([f"image{index}.jpg" for index in range(images)], dtype=np.str_),
        sizes=np.full((images, 2), 100, dtype=np.int32),
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        boxes=boxes,
        labels=np.array([row[1] for row in rows], dtype=np.int64),
        difficult=np.isin(is_row, difficult),
        crowd=np.isin(is_row, crowd),
        area=(boxes[:, 2:] - boxes[:, :2]).prod(axis=1),
    )


def make_results(
    rows: list[tuple[int, int, tuple[float, float, float, float], float]],
) -> Results:
    """Results from (image, label, xyxy, score) rows."""
    return Results(
        images=np.array([row[0] for row in rows], dtype=np.int64),
        boxes=np.array([row[2] for row in rows], dtype=np.float32).reshape(-1, 4),
        scores=np.array([row[3] for row in rows], dtype=np.float64),
        labels=np.array([row[1] for row in rows], dtype=np.int64),
    )


def noisy_detections(annotations: Annotations, count: int, seed: int) -> Results:
    """Truths with their corners moved by quarters of a pixel, a tenth with a wrong label.

    Some truths are found several times, some never. Scores have three digits, so that many tie.
    """
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, len(annotations.boxes), count)
    truth = annotations.boxes[rows]
    sides = truth[:, 2:] - truth[:, :2]
    shift = rng.normal(0, 0.15, (count, 4)) * np.tile(sides, 2)
    corners = np.round((truth + shift) * 4) / 4
    boxes = np.concatenate(
        [
            np.minimum(corners[:, :2], corners[:, 2:]),
            np.maximum(corners[:, :2], corners[:, 2:]) + 0.25,
        ],
        axis=1,
    )
    labels = annotations.labels[rows].copy()
    wrong = rng.random(count) < 0.1
    labels[wrong] = rng.integers(0, len(annotations.class_names), int(wrong.sum()))
    images = annotations.image_of_row()[rows]
    order = np.argsort(images, kind="stable")  # as an evaluation goes through them
    scores = np.round(rng.random(count), 3)
    return Results(images, boxes.astype(np.float32), scores, labels).select(order)


def read_coco_json(path: Path) -> Annotations:
    """Annotations of a COCO file, images in the order of their ids, objects in the file's."""
    content = json.loads(path.read_text(encoding="utf-8"))
    images = sorted(content["images"], key=lambda image: image["id"])
    index_of = {image["id"]: index for index, image in enumerate(images)}
    categories = sorted(content["categories"], key=lambda category: category["id"])
    label_of = {category["id"]: label for label, category in enumerate(categories)}
    entries = sorted(content["annotations"], key=lambda entry: index_of[entry["image_id"]])
    xywh = np.array([entry["bbox"] for entry in entries], dtype=np.float64)
    made = make_annotations(
        [
            (index_of[entry["image_id"]], label_of[entry["category_id"]], (x, y, x + w, y + h))
            for entry, (x, y, w, h) in zip(entries, xywh, strict=True)
        ],
        images=len(images),
        classes=len(categories),
    )
    return replace(
        made,
        class_names=tuple(category["name"] for category in categories),
        image_ids=np.array([Path(image["file_name"]).stem for image in images], dtype=np.str_),
        crowd=np.array([bool(entry["iscrowd"]) for entry in entries]),
        area=np.array([entry["area"] for entry in entries], dtype=np.float32),
    )


def with_difficult(annotations: Annotations, share: float, seed: int) -> Annotations:
    """The same truth, a share of it difficult."""
    drawn = np.random.default_rng(seed).random(len(annotations.boxes)) < share
    return replace(annotations, difficult=drawn)
