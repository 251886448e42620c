"""How well region proposals cover the objects, and how many of them it takes.

Paper:
    Selective Search for Object Recognition (Uijlings et al., IJCV 2013), section 5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from detkit.data.base import Annotations
from detkit.ops.boxes import box_iou
from detkit.types import Boxes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PLOTTED = {0.5: "-", 0.7: "--"}  # IoU to line style
COLOURS = ("#1f77b4", "#d95f02", "#1b9e77", "#7570b3")  # of the sources
STEPS_A_DECADE = 12  # of the curve; whole numbers, so fewer at its start
INCHES = (7.0, 5.2)


@dataclass(frozen=True, slots=True, eq=False)
class Proposals:
    """The proposals of I images in flat arrays, best first.

    Those of image ``i`` are rows ``offsets[i]`` to ``offsets[i + 1]``.
    """

    boxes: NDArray[np.float32]  # [P, 4] image pixels
    offsets: NDArray[np.int64]  # [I + 1]

    @staticmethod
    def of(images: Sequence[Boxes]) -> Proposals:
        """Lay out ``[R, 4]`` an image."""
        boxes = torch.cat([torch.zeros(0, 4), *images]).numpy()
        return Proposals(boxes, np.cumsum([0, *map(len, images)]).astype(np.int64))

    @property
    def mean(self) -> float:
        """Proposals an image."""
        return len(self.boxes) / max(len(self.offsets) - 1, 1)

    @property
    def greatest(self) -> int:
        """The most that an image has; 0 without images."""
        return int(np.diff(self.offsets).max(initial=0))


@dataclass(frozen=True, slots=True, eq=False)
class Cover:
    """How well the first n proposals of its image cover each of T objects, for C values of n.

    Difficult objects and crowds are not among them.
    """

    counts: NDArray[np.int64]  # [C] rising
    overlaps: NDArray[np.float64]  # [C, T] best IoU; 0 where an image has no proposals
    labels: NDArray[np.int64]  # [T]

    def recall_at(self, threshold: float) -> NDArray[np.float64]:
        """``[C]`` share of the objects with an IoU above ``threshold``; NaN without objects."""
        if not len(self.labels):
            return np.full(len(self.counts), np.nan)
        return np.asarray((self.overlaps > threshold).mean(axis=1))

    def mean_average_best_overlap(self) -> NDArray[np.float64]:
        """``[C]`` MABO: the mean over classes of the mean best IoU of a class's objects.

        Classes without objects are left out; NaN where there is none with any.
        """
        classes = np.unique(self.labels)
        if not len(classes):
            return np.full(len(self.counts), np.nan)
        abo = [self.overlaps[:, self.labels == label].mean(axis=1) for label in classes]
        return np.asarray(np.mean(abo, axis=0))


def cover(
    proposals: Proposals, annotations: Annotations, counts: Sequence[int] | None = None
) -> Cover:
    """Measure how well proposals cover the objects of the same images.

    Args:
        proposals: of every image, best first.
        annotations: the images and their objects.
        counts: numbers of proposals an image, rising; an image with fewer has all its own. Without
            it :func:`curve_counts`.
    """
    chosen = curve_counts(proposals.greatest) if counts is None else counts
    numbers = np.array(chosen, dtype=np.int64)
    scored = ~(annotations.difficult | annotations.crowd)
    overlaps = np.zeros((len(numbers), len(scored)))
    for image in range(len(annotations)):
        rows = np.arange(annotations.offsets[image], annotations.offsets[image + 1])
        rows = rows[scored[rows]]
        boxes = proposals.boxes[proposals.offsets[image] : proposals.offsets[image + 1]]
        if len(rows) and len(boxes):
            truths = torch.from_numpy(annotations.boxes[rows])
            ious = box_iou(torch.from_numpy(boxes), truths).numpy()  # [R, M]
            best = np.maximum.accumulate(ious, axis=0)
            overlaps[:, rows] = best[np.minimum(numbers, len(boxes)) - 1]
    return Cover(numbers, overlaps[:, scored], annotations.labels[scored])


def curve_counts(greatest: int) -> list[int]:
    """Whole numbers from 1 to ``greatest``, evenly on a logarithmic axis; both ends are among them.

    At least 1, also where there are no proposals.
    """
    greatest = max(greatest, 1)
    steps = int(np.ceil(np.log10(greatest) * STEPS_A_DECADE)) + 1
    return sorted({round(n) for n in np.geomspace(1, greatest, steps)} | {greatest})


def recall_figure(covers: dict[str, Cover], title: str) -> Figure:
    """Draw recall against the number of proposals, a colour a source and a line style an IoU."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=INCHES, layout="constrained")
    panel = figure.subplots()
    for number, (name, each) in enumerate(covers.items()):
        for threshold, style in PLOTTED.items():
            recall = each.recall_at(threshold)
            panel.plot(
                each.counts,
                recall,
                style,
                color=COLOURS[number % len(COLOURS)],
                label=f"{name}, IoU > {threshold}: {recall[-1]:.3f}",
            )
    panel.set_xscale("log")
    panel.set(ylim=(0, 1), xlim=1, ylabel="recall")
    panel.set_xlabel("proposals an image, the first of each")
    panel.set_title(title, parse_math=False)
    panel.grid(which="both", alpha=0.25)
    figure.legend(loc="outside lower center", ncols=2, fontsize="small")  # clear of the curves
    return figure
