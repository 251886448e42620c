"""How well anchors fit boxes: the figures that the doctor and ``detkit anchors`` both speak of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from detkit.detectors import Scale
from detkit.ops import size_iou

GOOD_IOU = 0.5  # of an object with its anchor: what evaluation asks of a box


@dataclass(frozen=True, slots=True, eq=False)
class AnchorFit:
    """How A anchors fit T objects, each with the anchor nearest to it in shape."""

    ious: Tensor  # [T] of the object with that anchor, centres laid together
    owners: Tensor  # [T] int64, which anchor that is
    anchors: Tensor  # [A, 2] width and height, canvas pixels
    scales: tuple[Scale, ...]  # the grids that share the anchors out, fine to coarse

    @property
    def average_iou(self) -> float:
        """Mean over the objects; NaN where there are none."""
        return float(self.ious.double().mean())

    @property
    def recall(self) -> float:
        """Share of the objects whose anchor reaches an IoU of ``GOOD_IOU``; NaN without any."""
        return float((self.ious >= GOOD_IOU).double().mean())

    @property
    def shares(self) -> Tensor:
        """``[A]`` share of the objects that each anchor is the best for."""
        return self.owners.bincount(minlength=len(self.anchors)) / len(self.owners)

    def of_scales(self) -> Iterator[tuple[Scale, AnchorFit]]:
        """Each scale, fine to coarse, with the objects that one of its anchors answers for."""
        for scale in self.scales:
            yield scale, self.of_objects(torch.isin(self.owners, torch.tensor(scale.anchors)))

    def of_objects(self, which: Tensor) -> AnchorFit:
        """The same anchors with some of the objects: ``[T]`` bool."""
        return AnchorFit(self.ious[which], self.owners[which], self.anchors, self.scales)


def fit_anchors(sizes: Tensor, anchors: Tensor, scales: Sequence[Scale]) -> AnchorFit:
    """Lay objects and anchors together.

    Args:
        sizes: ``[T, 2]`` width and height of the objects, canvas pixels.
        anchors: ``[A, 2]``, likewise.
        scales: the grids that share the anchors out.
    """
    ious, owners = size_iou(sizes, anchors.to(sizes)).max(dim=1)  # [T], [T]
    return AnchorFit(ious, owners, anchors, tuple(scales))
