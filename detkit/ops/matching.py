"""Which box answers for which object, and which of them a loss looks at.

Papers: Faster R-CNN (Ren et al., NIPS 2015), section 3.1.2; Fast R-CNN (Girshick, ICCV 2015),
section 2.3.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from detkit.ops.boxes import box_area
from detkit.types import Boxes

CHUNK = 1 << 22  # IoUs computed at once: a few dozen MiB, whatever the number of boxes


class Matches(NamedTuple):
    """The object that each of N boxes overlaps most."""

    ious: Tensor  # [N] with that object; 0 where there is no object at all
    objects: Tensor  # [N] int64, which object; 0 where there is none
    ties: Tensor  # [N] bool, no box overlaps some object more than this one does


def match_by_iou(boxes: Boxes, gt: Boxes, *, chunk: int = CHUNK) -> Matches:
    """Find for each box its object, and for each object its boxes, in bounded memory.

    Every box that ties the best overlap with an object counts as the object's, as in the source;
    but not where that best is 0, where the whole image would.

    Args:
        boxes: ``[N, 4]`` anchors or proposals.
        gt: ``[M, 4]`` objects, in the same space.
        chunk: IoUs computed at once.
    """
    count = len(boxes)
    if not count or not len(gt):
        nothing = torch.zeros(count, dtype=torch.int64, device=boxes.device)
        return Matches(nothing.to(boxes.dtype), nothing, nothing.bool())
    parts = [*boxes.split(max(chunk // len(gt), 1))]
    whole = _iou(gt, boxes) if len(parts) == 1 else None  # nearly always; then it is kept

    def table(part: Boxes) -> Tensor:
        return _iou(gt, part) if whole is None else whole  # [M, n]

    best = [table(part).max(dim=0) for part in parts]  # [n] each
    ious, objects = torch.cat([b.values for b in best]), torch.cat([b.indices for b in best])
    most = torch.stack([table(part).amax(dim=1) for part in parts]).amax(dim=0)  # [M]
    ties = [((table(part) == most[:, None]) & (most > 0)[:, None]).any(dim=0) for part in parts]
    return Matches(ious, objects, torch.cat(ties))


def _iou(gt: Boxes, boxes: Boxes) -> Tensor:
    """``[M, N]``, coordinate by coordinate: with N in the last place nothing is strided."""
    x1, y1, x2, y2 = boxes.unbind(1)  # [N] each
    left, top, right, bottom = (column[:, None] for column in gt.unbind(1))  # [M, 1] each
    wide = (torch.minimum(x2, right) - torch.maximum(x1, left)).clamp_(min=0)
    high = (torch.minimum(y2, bottom) - torch.maximum(y1, top)).clamp_(min=0)
    inter = wide.mul_(high)  # [M, N]
    union = (box_area(gt)[:, None] + box_area(boxes)).sub_(inter)
    return inter.div_(union.clamp_(min=torch.finfo(inter.dtype).tiny))


def covered_by(boxes: Boxes, regions: Boxes) -> Tensor:
    """``[N]`` the largest share of each box's area that lies in one of ``[M, 4]`` regions."""
    if not len(boxes) or not len(regions):
        return boxes.new_zeros(len(boxes))
    top_left = torch.maximum(boxes[:, None, :2], regions[:, :2])
    bottom_right = torch.minimum(boxes[:, None, 2:], regions[:, 2:])
    inter = (bottom_right - top_left).clamp(min=0).prod(dim=2)  # [N, M]
    return inter.amax(dim=1) / box_area(boxes).clamp(min=torch.finfo(boxes.dtype).tiny)


class Sample(NamedTuple):
    """What a loss looks at, as indices into what was sampled from."""

    pos: Tensor  # [P] int64
    neg: Tensor  # [Q] int64


def sample(
    pos: Tensor, neg: Tensor, count: int, pos_share: float, generator: torch.Generator
) -> Sample:
    """Draw at most ``count`` boxes, of them at most ``pos_share`` positive; negatives fill up.

    Args:
        pos: ``[N]`` bool.
        neg: ``[N]`` bool; where both are false a box is ignored.
        count: boxes wanted; fewer where there are not enough negatives.
        pos_share: of ``count``, 0..1.
        generator: on the CPU; the same draws on every device.
    """
    positives = _draw(pos, int(count * pos_share), generator)
    return Sample(positives, _draw(neg, count - len(positives), generator))


def _draw(mask: Tensor, most: int, generator: torch.Generator) -> Tensor:
    rows = mask.nonzero()[:, 0]
    order = torch.randperm(len(rows), generator=generator)[:most]
    return rows[order.to(rows.device)]
