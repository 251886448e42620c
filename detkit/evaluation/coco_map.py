"""COCO's average precision. pycocotools is the referee: it computes every figure.

How ground truth that is not plainly scored is put to it:

* A *crowd* is COCO's own: it swallows any number of detections, by intersection over the
  detection's area.
* A *difficult* object is ignored, with ordinary IoU: a detection that matches nothing better and
  matches it counts for nothing. pycocotools overwrites its ``ignore`` flag by ``iscrowd``, but it
  also ignores an object whose area lies outside the range that is measured; so a difficult object
  is given an area outside every range. As with every ignored object, one detection is excused at
  each IoU threshold, a second one is wrong (VOC excuses all of them). On COCO's own files, where
  ``"ignore": 1`` makes an object difficult, it is scored: these figures are pycocotools' own.
* An object *of no size or outside* its image, which is not learned, is scored as any other.

Boxes are those of the files, in float64 and unclipped, as pycocotools would read them.

Paper: Microsoft COCO (Lin et al., 2014); rules as in ``cocoeval.py``.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detkit.arguments import check_whole
from detkit.data.base import Annotations
from detkit.errors import ConfigError
from detkit.evaluation.matches import ClassMatches, coco_matches
from detkit.evaluation.results import Results
from detkit.evaluation.truth import Truth, truth_of

OUTSIDE_EVERY_RANGE = -1.0  # an area that makes pycocotools ignore an object
THRESHOLDS = 10  # IoU 0.50, 0.55, ..., 0.95
COCO_LIMIT = 100  # detections of an image and class that COCO's own figures are of
FEWER = (1, 10)  # limits besides, which have a recall of their own
AP50, AP75 = 0, 5  # among these thresholds
AREA_RANGES = {  # pycocotools' own, square pixels; an area on a border is in both
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, 1e10),
}


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
    ar_limit: float  # and with as many as are taken at all: COCO's AR100
    ar_small: float
    ar_medium: float
    ar_large: float


@dataclass(frozen=True, slots=True, eq=False)
class CocoResult:
    """COCO's twelve numbers, two of them for each class, and the matches behind them."""

    figures: CocoFigures
    class_names: tuple[str, ...]  # [K]
    class_ap: NDArray[np.float64]  # [K] over IoU 0.50 to 0.95; NaN without scored truth
    class_ap50: NDArray[np.float64]  # [K]
    size_truths: Mapping[str, int]  # scored objects that are small, medium, large
    matches: tuple[ClassMatches, ...]  # [K] over all areas, at each IoU threshold
    limit: int = COCO_LIMIT  # detections of an image and class that were taken, the best ones
    beyond: int = 0  # images with more scored objects of one class than that
    most: int = 0  # scored objects of one class in one image


def check_limit(max_detections: object) -> None:
    """Refuse a limit of detections at which COCO's figures would not be told apart.

    Raises:
        ConfigError: it is none.
    """
    if isinstance(max_detections, int) and max_detections <= max(FEWER):
        raise ConfigError(
            f"max_detections: is {max_detections}; expected more than {max(FEWER)}, of which COCO "
            "has a figure of its own. model.score_threshold leaves out weak detections."
        )
    check_whole(max_detections, "max_detections", least=max(FEWER) + 1)


def coco_map(
    results: Results, annotations: Annotations, *, max_detections: int = COCO_LIMIT
) -> CocoResult:
    """Measure ``results`` by COCO's rules.

    Where scores tie, images of COCO's files rank in the order of their ids, others in the order of
    ``annotations``.

    Args:
        results: the detections.
        annotations: the truth.
        max_detections: that are taken of an image and class, the best ones.

    Raises:
        ConfigError: a limit of 10 or less.
    """
    from pycocotools.cocoeval import COCOeval

    check_limit(max_detections)
    names = annotations.class_names
    if not len(annotations) or not names:
        return _nothing_measured(names, max_detections)
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress and its summary
        numbers = _image_numbers(annotations)
        objects = truth_of(annotations)
        scored = ~objects.crowd if annotations.is_coco else objects.scored
        truth = _as_coco(_truth_entries(objects, scored, numbers), annotations)
        found = _as_coco(_detection_entries(results, numbers), annotations)
        referee = COCOeval(truth, found, "bbox")
        referee.params.maxDets = [*FEWER, max_detections]
        referee.evaluate()
        referee.accumulate()
    # [IoU thresholds, recalls, K, areas, detection limits]: all areas stand first, most last
    precision = referee.eval["precision"][:, :, :, 0, -1]
    most = _most_of_a_class(objects, scored, len(names))
    return CocoResult(
        figures=_figures(referee.eval["precision"], referee.eval["recall"]),
        class_names=names,
        class_ap=_class_means(precision),
        class_ap50=_class_means(precision[:1]),
        size_truths=_count_sizes(objects.area[scored]),
        matches=coco_matches(referee, image_of_number=np.argsort(numbers)),
        limit=max_detections,
        beyond=int((most > max_detections).sum()),
        most=int(most.max(initial=0)),
    )


def _figures(precision: NDArray[np.float64], recall: NDArray[np.float64]) -> CocoFigures:
    """The twelve numbers as pycocotools' ``summarize`` has them, which knows the limit 100 alone.

    Args:
        precision: ``[IoU thresholds, recalls, K, areas, limits]``; -1: nothing to measure.
        recall: ``[IoU thresholds, K, areas, limits]``, likewise.
    """
    areas = range(1 + len(AREA_RANGES))
    return CocoFigures(
        _mean(precision[..., 0, -1]),
        _mean(precision[AP50, ..., 0, -1]),
        _mean(precision[AP75, ..., 0, -1]),
        *(_mean(precision[..., area, -1]) for area in areas[1:]),
        *(_mean(recall[..., 0, limit]) for limit in range(1 + len(FEWER))),
        *(_mean(recall[..., area, -1]) for area in areas[1:]),
    )


def _mean(values: NDArray[np.float64]) -> float:
    known = values[values > -1]
    return float(np.mean(known)) if len(known) else float("nan")


def _most_of_a_class(truth: Truth, scored: NDArray[np.bool_], classes: int) -> NDArray[np.int64]:
    """``[I]`` how many scored objects each image has of the class that it has most of."""
    shape = len(truth.offsets) - 1, classes
    place = truth.image_of_row()[scored] * classes + truth.labels[scored]
    return np.bincount(place, minlength=shape[0] * shape[1]).reshape(shape).max(axis=1)


def _nothing_measured(names: tuple[str, ...], limit: int) -> CocoResult:
    flags, rows = np.zeros((THRESHOLDS, 0), dtype=np.bool_), np.zeros(0, dtype=np.int32)
    return CocoResult(
        figures=CocoFigures(*(float("nan") for _ in fields(CocoFigures))),
        class_names=names,
        class_ap=np.full(len(names), np.nan),
        class_ap50=np.full(len(names), np.nan),
        size_truths=dict.fromkeys(AREA_RANGES, 0),
        matches=(ClassMatches(rows, flags, flags, rows),) * len(names),
        limit=limit,
    )


def _count_sizes(area: NDArray[np.float64]) -> dict[str, int]:
    return {
        name: int(((area >= low) & (area <= high)).sum())
        for name, (low, high) in AREA_RANGES.items()
    }


def _class_means(precision: NDArray[np.float64]) -> NDArray[np.float64]:
    """``[thresholds, recalls, K]`` to ``[K]``; a class without truth is -1 throughout."""
    means = precision.mean(axis=(0, 1))
    return np.where(precision[0, 0] == -1, np.nan, means)


def _image_numbers(annotations: Annotations) -> NDArray[np.int64]:
    """``[I]`` what pycocotools is to call each image, 1 to I: in this order it ranks ties."""
    ids = [str(image_id) for image_id in annotations.image_ids]
    order = np.arange(len(ids))
    if annotations.is_coco or annotations.category_ids is not None:
        if all(image_id.isdecimal() for image_id in ids):
            order = np.array(sorted(order, key=lambda index: int(ids[index])), dtype=np.int64)
        elif annotations.is_coco:
            order = np.array(sorted(order, key=lambda index: ids[index]), dtype=np.int64)
    numbers = np.empty(len(ids), dtype=np.int64)
    numbers[order] = np.arange(len(ids)) + 1
    return numbers


def _as_coco(entries: list[dict[str, Any]], annotations: Annotations) -> Any:
    """Build pycocotools' index in memory. Its ids begin at one: it takes 0 for "unmatched"."""
    from pycocotools.coco import COCO

    coco = COCO()
    coco.dataset = {
        "images": [{"id": index + 1} for index in range(len(annotations))],
        "categories": [{"id": label + 1} for label in range(len(annotations.class_names))],
        "annotations": entries,
    }
    coco.createIndex()
    return coco


def _truth_entries(
    truth: Truth, scored: NDArray[np.bool_], numbers: NDArray[np.int64]
) -> list[dict[str, Any]]:
    areas = np.where(scored | truth.crowd, truth.area, OUTSIDE_EVERY_RANGE)
    columns = zip(
        numbers[truth.image_of_row()].tolist(),
        (truth.labels + 1).tolist(),
        truth.measured.tolist(),
        areas.tolist(),
        truth.crowd.astype(int).tolist(),
        strict=True,
    )
    return [_entry(row + 1, *column) for row, column in enumerate(columns)]


def _detection_entries(results: Results, numbers: NDArray[np.int64]) -> list[dict[str, Any]]:
    bboxes = results.measured
    columns = zip(
        numbers[results.images].tolist(),
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
