"""Average precision over draws of the images, from weights on the detections; no new matching.

The draws are those of ``bootstrap.py``: what stands in one twice counts twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from detkit.evaluation.matches import ClassMatches

Draws = NDArray[np.int32]  # [R, I] how often each image stands in each draw
COCO_LEVELS = np.linspace(0.0, 1.0, 101)  # of recall, as pycocotools writes them


@dataclass(frozen=True, eq=False)  # no slots: what several figures need is kept
class Resampled:
    """The matches of an evaluation, and r draws of its images."""

    voc: Sequence[ClassMatches]  # at one IoU threshold
    coco: Sequence[ClassMatches]  # at COCO's ten; none where COCO was not asked for
    draws: Draws  # [r, I]

    @cached_property
    def coco_aps(self) -> NDArray[np.float64]:
        """``[r, 10, K]`` AP of each draw, IoU threshold and class; NaN without truth."""
        return ap_at_levels(self.coco, self.draws, COCO_LEVELS)


def mean_over_classes(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """``[r, K]`` to ``[r]``: classes without truth in a draw are left out of its mean."""
    known = ~np.isnan(values)
    sums, counts = np.where(known, values, 0.0).sum(axis=1), known.sum(axis=1)
    return np.divide(sums, counts, out=np.full(len(values), np.nan), where=counts > 0)


@dataclass(frozen=True, slots=True, eq=False)
class _Curves:
    """One class at one IoU threshold in r draws, at its h right detections."""

    weights: Draws  # [r, h] how often each right one stands in the draw
    found: Draws  # [r, h] right ones so far
    falling: NDArray[np.float64]  # [r, h] best precision there or beyond
    truths: NDArray[np.int64]  # [r] scored truths of the draw


def _curves(one: ClassMatches, draws: Draws) -> Iterator[_Curves]:
    """Yield the curves of one class, a threshold each.

    Copies of a detection stand side by side in the ranking. Only right ones can be a best
    precision, and of several copies the last has the best, so it stands for all of them.
    """
    drawn = np.take(draws, one.images, axis=1)  # [r, n]
    seen = np.cumsum(drawn, axis=1, dtype=np.int32)  # [r, n] detections so far
    truths = np.take(draws, one.truth_images, axis=1).sum(axis=1, dtype=np.int64)
    for right, ignored in zip(one.right, one.ignored, strict=True):
        hits, passed = np.flatnonzero(right), np.flatnonzero(ignored)
        weights = drawn[:, hits]
        found = np.cumsum(weights, axis=1, dtype=np.int32)
        counted = seen[:, hits]
        if len(passed):  # those that count for nothing go out of the ranking again
            gone = np.cumsum(drawn[:, passed], axis=1, dtype=np.int32)
            gone = np.concatenate([np.zeros((len(draws), 1), np.int32), gone], axis=1)
            counted = counted - gone[:, np.searchsorted(passed, hits)]
        precision = found / np.maximum(counted, 1)
        falling = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        yield _Curves(weights, found, falling, truths)


def ap_at_levels(
    matches: Sequence[ClassMatches], draws: Draws, levels: NDArray[np.float64]
) -> NDArray[np.float64]:
    """``[r, T, K]`` mean of the best precision at each recall level; NaN without truth."""
    by_class = [
        np.stack([_at_levels(curves, levels) for curves in _curves(one, draws)], axis=1)
        for one in matches
    ]
    return np.stack(by_class, axis=2) if by_class else np.zeros((len(draws), 1, 0))


def _at_levels(curves: _Curves, levels: NDArray[np.float64]) -> NDArray[np.float64]:
    """``[r]`` mean over the levels; a level that is not reached counts zero."""
    rows, hits = curves.found.shape
    has_truth = curves.truths > 0
    needed = _needed(levels, np.maximum(curves.truths, 1))  # [r, L]
    step = int(needed.max(initial=0)) + int(curves.found.max(initial=0)) + 1
    lift = step * np.arange(rows)[:, None]  # so that one search serves all draws
    at = np.searchsorted((curves.found + lift).ravel(), (needed + lift).ravel(), "left")
    at = at.reshape(rows, -1) - hits * np.arange(rows)[:, None]  # h: not reached
    padded = np.concatenate([curves.falling, np.zeros((rows, 1))], axis=1)
    means = np.take_along_axis(padded, at, axis=1).mean(axis=1)
    return np.where(has_truth, means, np.nan)


def _needed(levels: NDArray[np.float64], truths: NDArray[np.int64]) -> NDArray[np.int64]:
    """``[r, L]`` least number found whose recall, rounded as the evaluators do, is at the level."""
    counts = truths[:, None].astype(np.float64)
    needed = np.ceil(levels * counts)  # right, or one off where the product was rounded
    needed = np.where((needed - 1) / counts >= levels, needed - 1, needed)
    needed = np.where(needed / counts < levels, needed + 1, needed)
    return np.maximum(needed, 0).astype(np.int64)


def ap_all_point(matches: Sequence[ClassMatches], draws: Draws) -> NDArray[np.float64]:
    """``[r, K]`` area under the falling precision at the first threshold; NaN without truth."""
    areas = np.full((len(draws), len(matches)), np.nan)
    for label, one in enumerate(matches):
        curves = next(_curves(one, draws))
        area = (curves.weights * curves.falling).sum(axis=1)
        known = curves.truths > 0
        areas[known, label] = area[known] / curves.truths[known]
    return areas
