"""The R-CNN box parameterisation: where a box lies, told from another box.

Papers:
    R-CNN (Girshick et al., CVPR 2014), appendix C; Faster R-CNN (Ren et al., NIPS 2015),
    equation 2.
"""

from __future__ import annotations

import torch
from torch import Tensor

from detkit.ops.boxes import xyxy_to_cxcywh
from detkit.types import Boxes

Stds = tuple[float, float, float, float]  # of (dx, dy, dw, dh); deltas are divided by them
UNIT: Stds = (1.0, 1.0, 1.0, 1.0)


def encode_deltas(boxes: Boxes, gt: Boxes, stds: Stds = UNIT) -> Tensor:
    """Say where ``gt`` lies, seen from ``boxes``: the regression targets.

    Args:
        boxes: ``[..., 4]``, of positive width and height.
        gt: ``[..., 4]``, the box that each of them stands for, of positive width and height.
        stds: what the targets are divided by; 0.1 and 0.2 where the sources normalise them.

    Returns:
        ``[..., 4]`` deltas (dx, dy, dw, dh): the centre's way in widths and heights of the box,
        and the logarithms of the ratios of the sides.
    """
    here, there = xyxy_to_cxcywh(boxes), xyxy_to_cxcywh(gt)
    centre = (there[..., :2] - here[..., :2]) / here[..., 2:]
    size = (there[..., 2:] / here[..., 2:]).log()
    return torch.cat([centre, size], dim=-1) / boxes.new_tensor(stds)


def decode_deltas(
    boxes: Boxes, deltas: Tensor, stds: Stds = UNIT, *, max_log_scale: float
) -> Boxes:
    """Inverse of :func:`encode_deltas`: the boxes that ``deltas`` speak of.

    Args:
        boxes: ``[..., 4]``, of a shape that broadcasts with ``deltas``.
        deltas: ``[..., 4]`` (dx, dy, dw, dh).
        stds: as in encoding.
        max_log_scale: dw and dh count for no more than this, so that no box becomes infinite.
    """
    x1, y1, x2, y2 = boxes.unbind(-1)
    dx, dy, dw, dh = (deltas * deltas.new_tensor(stds)).unbind(-1)
    width, height = x2 - x1, y2 - y1
    x = dx * width + (x1 + 0.5 * width)
    y = dy * height + (y1 + 0.5 * height)
    half_width = 0.5 * (dw.clamp(max=max_log_scale).exp() * width)
    half_height = 0.5 * (dh.clamp(max=max_log_scale).exp() * height)
    return torch.stack([x - half_width, y - half_height, x + half_width, y + half_height], dim=-1)
