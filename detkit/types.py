"""The types that every floor shares: boxes and targets.

Boxes are ``[N, 4]`` float32 tensors: (x1, y1, x2, y2) in absolute pixels of the raw image.
Coordinates are continuous: pixel *k* covers *k* to *k* + 1, so a width is ``x2 - x1`` and nothing
ever adds 1. Labels are int64 in 0..K-1; background is never a label.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

Boxes = Tensor  # [N, 4] float32, xyxy, absolute pixels; x2 and y2 are exclusive edges
Losses = dict[str, Tensor]  # one 0-d tensor per loss term; the training loop sums them


def check_boxes(boxes: Boxes, where: str) -> None:
    """Reject boxes that break the house convention.

    Raises:
        ValueError: naming ``where``, the first bad row, and its values.
    """
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"{where}: expected shape [N, 4], got {list(boxes.shape)}")
    good = torch.isfinite(boxes).all(1) & (boxes[:, 2:] > boxes[:, :2]).all(1)
    if not good.all():
        row = int((~good).nonzero()[0])
        raise ValueError(
            f"{where}: row {row} is {boxes[row].tolist()}, but x1 < x2 and y1 < y2 must hold; "
            "are these xywh boxes? Convert with detkit.ops.xywh_to_xyxy."
        )


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """Ground truth for one image."""

    boxes: Boxes  # [M, 4]
    labels: Tensor  # [M] int64 in 0..K-1; background is never a label
    difficult: Tensor  # [M] bool; VOC's flag: absent from training, no reward in evaluation
    crowd: Tensor  # [M] bool; COCO's regions: no positives inside
    image_label: int | None = None  # class of an image without boxes (YOLO9000)
    TENSORS: ClassVar = ("boxes", "labels", "difficult", "crowd")

    def __post_init__(self) -> None:
        if self.boxes.device.type == "cpu":  # elsewhere the check would wait for the device
            check_target(self)

    def __len__(self) -> int:
        return len(self.boxes)

    def to(self, device: torch.device) -> Target:
        """Return the same target with its tensors on ``device``."""
        tensors = {name: getattr(self, name).to(device) for name in self.TENSORS}
        return replace(self, **tensors)

    def select(self, keep: Tensor) -> Target:
        """Return the rows that ``keep`` (a mask or indices) names."""
        return replace(self, **{name: getattr(self, name)[keep] for name in self.TENSORS})

    def without_difficult(self) -> Target:
        """Return the objects that training may see."""
        return self.select(~self.difficult)


def check_target(target: Target) -> None:
    """Reject a target whose boxes are impossible or whose fields disagree in length.

    Raises:
        ValueError: naming the field and what it holds.
    """
    check_boxes(target.boxes, "Target.boxes")
    for name in Target.TENSORS[1:]:
        field: Tensor = getattr(target, name)
        if field.shape != target.boxes.shape[:1]:
            raise ValueError(
                f"Target.{name}: expected shape [{len(target.boxes)}], one entry a box, "
                f"got {list(field.shape)}"
            )
    if target.labels.dtype != torch.int64 or (target.labels < 0).any():
        raise ValueError("Target.labels: expected int64 labels in 0..K-1")


def make_target(boxes: Boxes, labels: Tensor) -> Target:
    """Build the target of plain objects, none of them difficult or a crowd."""
    flags = torch.zeros(len(boxes), dtype=torch.bool)
    return Target(boxes, labels, difficult=flags, crowd=flags)
