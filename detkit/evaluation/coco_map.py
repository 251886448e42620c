"""COCO's average precision. pycocotools is the referee: it computes every figure.

How ground truth that is not plainly scored is put to it:

* A *crowd* is COCO's own: it swallows any number of detections, by intersection over the
  detection's area.
* A *difficult* object is ignored, with ordinary IoU: a detection that matches nothing better and
  matches it counts for nothing. pycocotools overwrites its ``ignore`` flag by ``iscrowd``, but it
  also ignores an object whose area lies outside the range that is measured; so a difficult object
  is given an area outside every range. As with every ignored object, one detection is excused at
  each IoU threshold, a second one is wrong (VOC excuses all of them).

Paper: Microsoft COCO (Lin et al., 2014); rules as in ``cocoeval.py``.
"""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detkit.data.base import Annotations
from detkit.evaluation.results import Results

OUTSIDE_EVERY_RANGE = -1.0  # an area that makes pycocotools ignore an object


@dataclass(frozen=True, slots=True)
class CocoFigures:
    """COCO's twelve numbers in its order; NaN where pycocotools says -1: nothing to measure."""

    ap: float  # mean over IoU 0.50, 0.55, ..., 0.95 and over classes
    ap50: float
    ap75: float
    ap_small: float  # area below 32 * 32
    ap_medium: float
    ap_large: float  # area above 96 * 96
    ar1: float  # mean best recall with 1 detection an image and class
    ar10: float
    ar100: float
    ar_small: float
    ar_medium: float
    ar_large: float


@dataclass(frozen=True, slots=True, eq=False)
class CocoResult:
    """COCO's twelve numbers, and two of them for each class."""

    figures: CocoFigures
    class_names: tuple[str, ...]  # [K]
    class_ap: NDArray[np.float64]  # [K] over IoU 0.50 to 0.95; NaN without scored truth
    class_ap50: NDArray[np.float64]  # [K]


def coco_map(results: Results, annotations: Annotations) -> CocoResult:
    """Measure ``results`` by COCO's rules.

    Where scores tie, images rank in the order of ``annotations``; the ``coco`` reader keeps them
    in the order of their ids, which is pycocotools' own.
    """
    from pycocotools.cocoeval import COCOeval

    names = annotations.class_names
    if not len(annotations) or not names:
        nothing = CocoFigures(*(float("nan") for _ in fields(CocoFigures)))
        return CocoResult(nothing, names, np.full(len(names), np.nan), np.full(len(names), np.nan))
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress and its summary
        truth = _as_coco(_truth_entries(annotations), annotations)
        found = _as_coco(_detection_entries(results), annotations)
        referee = COCOeval(truth, found, "bbox")
        referee.evaluate()
        referee.accumulate()
        referee.summarize()
    # [IoU thresholds, recalls, K, areas, detection limits]: all areas stand first, 100 last
    precision = referee.eval["precision"][:, :, :, 0, -1]
    return CocoResult(
        figures=CocoFigures(*(_absent_as_nan(float(value)) for value in referee.stats)),
        class_names=names,
        class_ap=_class_means(precision),
        class_ap50=_class_means(precision[:1]),
    )


def _absent_as_nan(value: float) -> float:
    return float("nan") if value == -1 else value


def _class_means(precision: NDArray[np.float64]) -> NDArray[np.float64]:
    """``[thresholds, recalls, K]`` to ``[K]``; a class without truth is -1 throughout."""
    means = precision.mean(axis=(0, 1))
    return np.where(precision[0, 0] == -1, np.nan, means)


def _as_coco(entries: list[dict[str, Any]], annotations: Annotations) -> Any:
    """Build pycocotools' index in memory. Ids are rows plus one: it takes 0 for "unmatched"."""
    from pycocotools.coco import COCO

    coco = COCO()
    coco.dataset = {
        "images": [{"id": index + 1} for index in range(len(annotations))],
        "categories": [{"id": label + 1} for label in range(len(annotations.class_names))],
        "annotations": entries,
    }
    coco.createIndex()
    return coco


def _truth_entries(annotations: Annotations) -> list[dict[str, Any]]:
    own = annotations.area.astype(np.float64)
    areas = np.where(annotations.difficult, OUTSIDE_EVERY_RANGE, own)
    columns = zip(
        (annotations.image_of_row() + 1).tolist(),
        (annotations.labels + 1).tolist(),
        _xywh(annotations.boxes).tolist(),
        areas.tolist(),
        annotations.crowd.astype(int).tolist(),
        strict=True,
    )
    return [_entry(row + 1, *column) for row, column in enumerate(columns)]


def _detection_entries(results: Results) -> list[dict[str, Any]]:
    bboxes = _xywh(results.boxes)
    columns = zip(
        (results.images + 1).tolist(),
        (results.labels + 1).tolist(),
        bboxes.tolist(),
        bboxes[:, 2:].prod(axis=1).tolist(),
        results.scores.tolist(),
        strict=True,
    )
    return [
        _entry(row + 1, image, label, bbox, area, crowd=0) | {"score": score}
        for row, (image, label, bbox, area, score) in enumerate(columns)
    ]


def _entry(
    row: int, image: int, label: int, bbox: list[float], area: float, crowd: int
) -> dict[str, Any]:
    return {
        "id": row,
        "image_id": image,
        "category_id": label,
        "bbox": bbox,
        "area": area,
        "iscrowd": crowd,
    }


def _xywh(boxes: NDArray[np.float32]) -> NDArray[np.float64]:
    corners = boxes.astype(np.float64)
    return np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
