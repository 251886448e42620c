"""Boxes as plain tensors: conversions, area, overlap, clipping, moving.

Every function takes and returns float tensors whose last dimension is 4. Unless its name says
otherwise a box is (x1, y1, x2, y2) with exclusive right and bottom edges, in any one space
(image pixels, canvas pixels, grid cells); two boxes that meet in a function share that space.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from detkit.types import Boxes


def xywh_to_xyxy(boxes: Tensor) -> Boxes:
    """Turn ``[..., 4]`` (x1, y1, width, height), COCO's form, into corners."""
    return torch.cat([boxes[..., :2], boxes[..., :2] + boxes[..., 2:]], dim=-1)


def xyxy_to_xywh(boxes: Boxes) -> Tensor:
    """Turn ``[..., 4]`` corners into (x1, y1, width, height), COCO's form."""
    return torch.cat([boxes[..., :2], boxes[..., 2:] - boxes[..., :2]], dim=-1)


def cxcywh_to_xyxy(boxes: Tensor) -> Boxes:
    """Turn ``[..., 4]`` (centre x, centre y, width, height), darknet's form, into corners."""
    half = boxes[..., 2:] / 2
    return torch.cat([boxes[..., :2] - half, boxes[..., :2] + half], dim=-1)


def xyxy_to_cxcywh(boxes: Boxes) -> Tensor:
    """Turn ``[..., 4]`` corners into (centre x, centre y, width, height), darknet's form."""
    return torch.cat(
        [(boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]], dim=-1
    )


def box_area(boxes: Boxes) -> Tensor:
    """Area of each box: ``[..., 4]`` to ``[...]``; a box with a negative side has area 0."""
    return (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(dim=-1)


def pairwise_iou(a: Boxes, b: Boxes) -> Tensor:
    """Intersection over union of boxes that stand side by side (or broadcast to do so).

    Args:
        a: ``[..., 4]`` boxes.
        b: ``[..., 4]`` boxes, of a shape that broadcasts with ``a``.

    Returns:
        ``[...]`` in 0..1. Two empty boxes have IoU 0, not NaN.
    """
    top_left = torch.maximum(a[..., :2], b[..., :2])
    bottom_right = torch.minimum(a[..., 2:], b[..., 2:])
    inter = (bottom_right - top_left).clamp(min=0).prod(dim=-1)
    union = box_area(a) + box_area(b) - inter
    return inter / union.clamp(min=torch.finfo(inter.dtype).tiny)


def box_iou(a: Boxes, b: Boxes) -> Tensor:
    """Intersection over union of every box in ``a`` with every box in ``b``.

    Args:
        a: ``[..., N, 4]`` boxes.
        b: ``[..., M, 4]`` boxes.

    Returns:
        ``[..., N, M]`` in 0..1. Two empty boxes have IoU 0, not NaN.

    Paper:
        The PASCAL VOC challenge (Everingham et al., 2010), section 4.2.
    """
    return pairwise_iou(a[..., :, None, :], b[..., None, :, :])


def giou(a: Boxes, b: Boxes) -> Tensor:
    """Generalised IoU of boxes that stand side by side: IoU less the empty share of their hull.

    Args:
        a: ``[..., 4]`` boxes.
        b: ``[..., 4]`` boxes, of a shape that broadcasts with ``a``.

    Returns:
        ``[...]`` in -1..1.

    Paper:
        Generalized Intersection over Union (Rezatofighi et al., CVPR 2019), algorithm 1.
    """
    tiny = torch.finfo(a.dtype).tiny
    top_left, bottom_right = (
        torch.maximum(a[..., :2], b[..., :2]),
        torch.minimum(a[..., 2:], b[..., 2:]),
    )
    inter = (bottom_right - top_left).clamp(min=0).prod(dim=-1)
    union = box_area(a) + box_area(b) - inter
    hull = _hull(a, b).prod(dim=-1)
    return inter / union.clamp(min=tiny) - (hull - union) / hull.clamp(min=tiny)


def ciou(a: Boxes, b: Boxes) -> Tensor:
    """Complete IoU: IoU less what the centres lie apart and less what the shapes differ.

    The weight of the shape's term carries no gradient, as in the source.

    Args:
        a: ``[..., 4]`` boxes.
        b: ``[..., 4]`` boxes, of a shape that broadcasts with ``a``.

    Returns:
        ``[...]`` in -1.5..1; 1 where two boxes that are not empty are the same.

    Paper:
        Distance-IoU Loss (Zheng et al., AAAI 2020), equations 6, 7, 10 and 11.
    """
    eps = torch.finfo(a.dtype).eps  # for empty boxes; 0 / eps and its gradient are finite
    iou = pairwise_iou(a, b)
    diagonal = _hull(a, b).square().sum(dim=-1)
    apart = (a[..., :2] + a[..., 2:] - b[..., :2] - b[..., 2:]).square().sum(dim=-1) / 4
    sides_a, sides_b = ((box[..., 2:] - box[..., :2]).clamp(min=eps) for box in (a, b))
    slant = torch.atan2(*sides_a.unbind(-1)) - torch.atan2(*sides_b.unbind(-1))
    shape = 4 / math.pi**2 * slant.square()
    with torch.no_grad():
        weight = shape / (1 - iou + shape).clamp(min=eps)
    return iou - apart / diagonal.clamp(min=eps) - weight * shape


def _hull(a: Boxes, b: Boxes) -> Tensor:
    """``[..., 2]`` width and height of the smallest box around both."""
    low = torch.minimum(a[..., :2], b[..., :2])
    high = torch.maximum(a[..., 2:], b[..., 2:])
    return (high - low).clamp(min=0)


def size_iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU of every size in ``a`` with every size in ``b``, their centres laid on each other.

    Args:
        a: ``[N, 2]`` widths and heights.
        b: ``[M, 2]`` widths and heights, in the same unit.

    Returns:
        ``[N, M]`` in 0..1.

    Paper:
        YOLO9000, section 2, "Dimension clusters".
    """
    inter = torch.minimum(a[:, None], b[None, :]).prod(dim=2)  # [N, M]
    union = a.prod(dim=1)[:, None] + b.prod(dim=1)[None, :] - inter
    return inter / union.clamp(min=torch.finfo(inter.dtype).tiny)


def clip_boxes(boxes: Boxes, size: tuple[int, int]) -> Boxes:
    """Cut boxes off at the edges of an image of ``size`` (height, width)."""
    height, width = size
    return boxes.clamp(min=0).minimum(boxes.new_tensor([width, height, width, height]))


def shift_boxes(boxes: Boxes, shift: tuple[float, float]) -> Boxes:
    """Move boxes by ``shift`` (x, y)."""
    x, y = shift
    return boxes + boxes.new_tensor([x, y, x, y])


def scale_boxes(boxes: Boxes, scale: tuple[float, float]) -> Boxes:
    """Scale boxes about the origin by ``scale`` (x, y)."""
    x, y = scale
    return boxes * boxes.new_tensor([x, y, x, y])
