"""How far a figure depends on which images were tested: bootstrap intervals of mAP.

The images are drawn again, with replacement, as many as there are; an image drawn twice stands in
the data twice. The figure of each draw is computed from weights on the detections, without
matching anew, and is exactly that of the data with its images repeated. Two evaluations on the
same images see the same draws, so their difference has an interval of its own, a much narrower
one than their two intervals suggest.

AP rises a little when images repeat (its best precision is a maximum), and it is too high on few
images for the same reason. So the ends are bias-corrected percentiles: where more than half of
the draws lie above the figure, both ends move down. ``benchmarks/bootstrap_coverage.py`` counts:
on 300 of VOC 2007's 4,952 test images, with simulated detections, 95 % intervals held the mAP of
all images in 96 % of 200 trials for VOC10+ and in 93 % for VOC07; plain percentiles in 84 and 66 %.

What no interval here holds: another training run, with another seed, differs too.

Paper: An Introduction to the Bootstrap (Efron and Tibshirani, 1993), sections 13.3 and 14.3.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from detkit.arguments import check_choice, check_whole
from detkit.data.base import Annotations
from detkit.errors import DetkitError
from detkit.evaluation.matches import ClassMatches, voc_matches
from detkit.evaluation.run import EvalResult
from detkit.evaluation.voc_map import RECALL_LEVELS

COCO_LEVELS = np.linspace(0.0, 1.0, 101)  # as pycocotools writes them
COCO_AP50 = 0  # the first of its IoU thresholds
COCO_AP75 = 5
LEVEL = 0.95  # how often an interval should hold the figure of all such images
NORMAL = NormalDist()
ROUNDING = 1e-12  # by which two sums of the same parts may differ
BLOCK = 50  # draws that are computed together; a block's arrays fit into a cache

Draws = NDArray[np.int32]  # [R, I] how often each image stands in each draw


@dataclass(frozen=True, slots=True)
class Interval:
    """Two bias-corrected percentiles of the draws; NaN where no draw has a figure."""

    low: float
    high: float


@dataclass(frozen=True, slots=True, eq=False)
class Bootstrap:
    """Each figure of one evaluation, over R draws of its images."""

    samples: Mapping[str, NDArray[np.float64]]  # figure's name: [R], in the order of the draws
    values: Mapping[str, float]  # figure's name: on the images themselves
    images: int
    seed: int
    data: str  # what the images are; equal for evaluations on the same ones

    @property
    def resamples(self) -> int:
        """How many draws there are."""
        return len(next(iter(self.samples.values())))

    def interval(self, name: str) -> Interval:
        """How far one figure moves with the choice of images; the figure itself is inside."""
        return _interval(self.samples[name], self.values[name])

    def text(self) -> str:
        """The rules, as they are printed beside the figures."""
        return (
            f"Intervals: the {self.images} images drawn again with replacement "
            f"{self.resamples:,} times (seed {self.seed}), {LEVEL:.0%}, bias-corrected. They show "
            "what the choice of test images does; another training run would differ as well."
        )


@dataclass(frozen=True, slots=True)
class Comparison:
    """One figure of two evaluations, over the same draws of the same images."""

    figure: str
    difference: float  # first less second, on the images themselves
    interval: Interval  # of that difference
    ahead: float  # share of the draws in which the first is ahead
    behind: float  # share in which the second is; equal in the rest

    @property
    def is_same(self) -> bool:
        """Whether the two never differ, as a checkpoint and its copy."""
        return self.difference == 0 and self.ahead == 0 and self.behind == 0

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.interval.low > 0 or self.interval.high < 0


def bootstrap_map(
    result: EvalResult, annotations: Annotations, resamples: int = 1000, seed: int = 0
) -> Bootstrap:
    """Compute mAP over draws of the images that ``result`` was measured on.

    Args:
        result: VOC's figures, and COCO's where they were asked for.
        annotations: what it was measured on.
        resamples: how many draws.
        seed: of the draws; the same seed gives the same draws for the same number of images.

    Raises:
        DetkitError: there is no image to draw.
    """
    check_whole(resamples, "bootstrap_map: resamples", least=1)
    check_whole(seed, "bootstrap_map: seed", least=0)
    count = len(annotations)
    if not count:
        raise DetkitError("bootstrap: the split has no images to draw from.")
    voc = voc_matches(result.results, annotations, result.voc.rule)
    parts: list[dict[str, NDArray[np.float64]]] = []
    for draws in draw_images(count, resamples, seed):
        part = {
            "voc07_map": _mean_over_classes(_ap_at_levels(voc, draws, RECALL_LEVELS)[:, 0]),
            "voc10_map": _mean_over_classes(_ap_all_point(voc, draws)),
        }
        if result.coco is not None:
            by_iou = _ap_at_levels(result.coco.matches, draws, COCO_LEVELS)  # [r, T, K]
            part["coco_ap"] = _mean_over_classes(by_iou.mean(axis=1))
            part["coco_ap50"] = _mean_over_classes(by_iou[:, COCO_AP50])
            part["coco_ap75"] = _mean_over_classes(by_iou[:, COCO_AP75])
        parts.append(part)
    metrics = result.metrics()
    return Bootstrap(
        samples={name: np.concatenate([part[name] for part in parts]) for name in parts[0]},
        values={name: metrics[name] for name in parts[0]},
        images=count,
        seed=seed,
        data=hashlib.sha256(
            "\n".join(annotations.image_ids.tolist()).encode(errors="surrogatepass")
        ).hexdigest(),
    )


def compare(first: Bootstrap, second: Bootstrap, figure: str) -> Comparison:
    """Compare one figure of two evaluations draw by draw.

    Raises:
        ConfigError: no such figure.
        DetkitError: the two were not measured on the same images and the same draws.
    """
    same = (first.data, first.seed, first.resamples) == (second.data, second.seed, second.resamples)
    if not same:
        raise DetkitError(
            "compare: the two were not measured on the same draws of the same images."
        )
    check_choice(figure, "compare: figure", tuple(first.samples))
    gains = first.samples[figure] - second.samples[figure]
    known = gains[~np.isnan(gains)]
    share = max(len(known), 1)
    return Comparison(
        figure=figure,
        difference=first.values[figure] - second.values[figure],
        interval=_interval(gains, first.values[figure] - second.values[figure]),
        ahead=int((known > 0).sum()) / share,
        behind=int((known < 0).sum()) / share,
    )


def _interval(samples: NDArray[np.float64], value: float) -> Interval:
    known = samples[~np.isnan(samples)]
    if not len(known) or np.isnan(value):
        return Interval(float("nan"), float("nan"))
    # Equal ones count half. Draws add up in another order than the figure: the last digits differ.
    below = ((known < value - ROUNDING).mean() + (known <= value + ROUNDING).mean()) / 2
    edge = 0.5 / len(known)  # a normal deviate of 0 or 1 would be infinite
    shift = 2 * NORMAL.inv_cdf(float(np.clip(below, edge, 1 - edge)))
    reach = NORMAL.inv_cdf((1 + LEVEL) / 2)
    low, high = np.quantile(known, [NORMAL.cdf(shift - reach), NORMAL.cdf(shift + reach)])
    return Interval(min(float(low), value), max(float(high), value))


def draw_images(images: int, resamples: int, seed: int) -> Iterator[Draws]:
    """Yield blocks of draws; each row sums to the number of images."""
    rng = np.random.default_rng(seed)
    for start in range(0, resamples, BLOCK):
        rows = min(BLOCK, resamples - start)
        chosen = rng.integers(0, images, (rows, images))
        chosen += images * np.arange(rows)[:, None]  # a row's images lie behind the last row's
        counts = np.bincount(chosen.ravel(), minlength=rows * images)
        yield counts.reshape(rows, images).astype(np.int32)


def _mean_over_classes(values: NDArray[np.float64]) -> NDArray[np.float64]:
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


def _ap_at_levels(
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


def _ap_all_point(matches: Sequence[ClassMatches], draws: Draws) -> NDArray[np.float64]:
    """``[r, K]`` area under the falling precision at the first threshold; NaN without truth."""
    areas = np.full((len(draws), len(matches)), np.nan)
    for label, one in enumerate(matches):
        curves = next(_curves(one, draws))
        area = (curves.weights * curves.falling).sum(axis=1)
        known = curves.truths > 0
        areas[known, label] = area[known] / curves.truths[known]
    return areas
