"""What became of every detection, class by class: all that average precision depends on.

Matching happens within an image, so it stays the same when images are drawn again; only the
ranking is made anew. That is what makes a bootstrap of mAP fast.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detkit.data.base import Annotations
from detkit.evaluation.results import Results
from detkit.evaluation.truth import truth_of
from detkit.evaluation.voc_map import DEVKIT, IGNORED, RIGHT, VocRule, voc_fates


@dataclass(frozen=True, slots=True, eq=False)
class ClassMatches:
    """The n detections of one class, best score first, at each of T IoU thresholds."""

    images: NDArray[np.int32]  # [n] index of each one's image
    right: NDArray[np.bool_]  # [T, n] took a truth that is scored
    ignored: NDArray[np.bool_]  # [T, n] counts for nothing; never right, too
    truth_images: NDArray[np.int32]  # [G] image of every truth that is scored


def voc_matches(
    results: Results, annotations: Annotations, rule: VocRule = DEVKIT
) -> tuple[ClassMatches, ...]:
    """``[K]`` matches by VOC's rules, at its one threshold."""
    fate = voc_fates(results, annotations, rule=rule).fate
    order = np.argsort(-results.scores, kind="stable")
    truth = truth_of(annotations)
    truth_images = truth.image_of_row().astype(np.int32)
    matches = []
    for label in range(len(annotations.class_names)):
        rows = order[results.labels[order] == label]
        matches.append(
            ClassMatches(
                images=results.images[rows].astype(np.int32),
                right=(fate[rows] == RIGHT)[None],
                ignored=(fate[rows] == IGNORED)[None],
                truth_images=truth_images[truth.scored & (truth.labels == label)],
            )
        )
    return tuple(matches)


def coco_matches(referee: Any, image_of_number: NDArray[np.int64]) -> tuple[ClassMatches, ...]:
    """``[K]`` matches that pycocotools made, over all areas, up to its limit of detections.

    Args:
        referee: a ``COCOeval`` that has evaluated; it calls its I images 1 to I.
        image_of_number: ``[I]`` index into the annotations of its image 1, 2, ...
    """
    images, areas = len(referee.params.imgIds), len(referee.params.areaRng)
    thresholds = len(referee.params.iouThrs)
    matches = []
    for label in range(len(referee.params.catIds)):
        first = label * areas * images  # its list runs over classes, then areas, then images
        entries = [entry for entry in referee.evalImgs[first : first + images] if entry is not None]
        matches.append(_class_of(entries, thresholds, image_of_number))
    return tuple(matches)


def _class_of(
    entries: Sequence[dict[str, Any]], thresholds: int, image_of_number: NDArray[np.int64]
) -> ClassMatches:
    """Put pycocotools' entries of one class, one an image, into one ranking."""
    numbers = np.array([entry["image_id"] for entry in entries], dtype=np.int64)
    index = image_of_number[numbers - 1].astype(np.int32)
    found = np.array([len(entry["dtScores"]) for entry in entries], dtype=np.int64)
    scored = [int((np.asarray(entry["gtIgnore"]) == 0).sum()) for entry in entries]
    scores = _joined(np.asarray(entry["dtScores"], dtype=np.float64) for entry in entries)
    order = np.argsort(-scores, kind="stable")  # as its accumulate does
    matched = _joined((entry["dtMatches"] != 0 for entry in entries), thresholds)
    ignored = _joined((entry["dtIgnore"] != 0 for entry in entries), thresholds)
    return ClassMatches(
        images=np.repeat(index, found)[order],
        right=(matched & ~ignored)[:, order],
        ignored=ignored[:, order],
        truth_images=np.repeat(index, scored),
    )


def _joined(parts: Iterable[NDArray[Any]], rows: int | None = None) -> NDArray[Any]:
    """Join along the last axis; of nothing, an empty row or ``rows`` empty rows of flags."""
    nothing = np.zeros(0) if rows is None else np.zeros((rows, 0), dtype=np.bool_)
    return np.concatenate([nothing, *parts], axis=-1)
