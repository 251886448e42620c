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
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from detkit.arguments import check_choice, check_whole
from detkit.data.base import Annotations
from detkit.errors import DetkitError
from detkit.evaluation import metrics
from detkit.evaluation.matches import voc_matches
from detkit.evaluation.resample import Draws, Resampled
from detkit.evaluation.run import EvalResult

LEVEL = 0.95  # how often an interval should hold the figure of all such images
NORMAL = NormalDist()
ROUNDING = 1e-12  # by which two sums of the same parts may differ
BLOCK = 50  # draws that are computed together; a block's arrays fit into a cache


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
    coco = () if result.coco is None else result.coco.matches
    drawn = {spec.key: spec.resample for spec in metrics.measured(result) if spec.resample}
    parts: list[dict[str, NDArray[np.float64]]] = []
    for draws in draw_images(count, resamples, seed):
        block = Resampled(voc, coco, draws)
        parts.append({name: resample(block) for name, resample in drawn.items()})
    figures = result.metrics()
    return Bootstrap(
        samples={name: np.concatenate([part[name] for part in parts]) for name in parts[0]},
        values={name: figures[name] for name in parts[0]},
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
