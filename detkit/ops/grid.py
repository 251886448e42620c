"""What the YOLOs share: predictions on a grid of cells, and who owns which object.

All of them use ``own_cell``, ``image_of_object`` and ``class_factors``, YOLOv1 alone
``first_in_cell``, and those with anchors the rest.

Spaces: *cells* are canvas pixels over the stride of a map. Predictions of a batch with anchors are
counted image by image, anchor by anchor, row by row:
``((image * A + anchor) * H + row) * W + column``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from detkit.ops.boxes import box_iou, ciou, cxcywh_to_xyxy, giou
from detkit.types import Boxes


def decode_cells(raw: Tensor, anchors: Tensor) -> Tensor:
    """Direct location prediction: what the first four outputs say.

    Args:
        raw: ``[B, A, H, W, 4+]`` network outputs (tx, ty, tw, th, ...).
        anchors: ``[A, 2]`` width and height, in cells.

    Returns:
        ``[B, A, H, W, 4]`` (centre x, centre y, width, height) in cells.

    Paper:
        YOLO9000, section 2, "Direct location prediction"; YOLOv3, section 2.1, is the same.
    """
    height, width = raw.shape[2:4]
    row = torch.arange(height, device=raw.device, dtype=raw.dtype).view(1, 1, height, 1)
    column = torch.arange(width, device=raw.device, dtype=raw.dtype).view(1, 1, 1, width)
    x = raw[..., 0].sigmoid() + column
    y = raw[..., 1].sigmoid() + row
    size = raw[..., 2:4].exp() * anchors[:, None, None, :]  # [B, A, H, W, 2]
    return torch.cat([torch.stack([x, y], dim=-1), size], dim=-1)


def own_cell(centres: Tensor, grid: tuple[int, int]) -> Tensor:
    """``[M, 2]`` int64 (column, row) of the cell that each ``[M, 2]`` (x, y), in cells, lies in.

    A centre on the far edge of the ``grid`` (height, width) is inside.
    """
    height, width = grid
    column = centres[:, 0].long().clamp(0, width - 1)
    row = centres[:, 1].long().clamp(0, height - 1)
    return torch.stack([column, row], dim=1)


def image_of_object(gt_lists: list[Boxes]) -> Tensor:
    """``[M]`` int64, which image each of the M objects of a batch lies in."""
    counts = torch.tensor([len(gt) for gt in gt_lists])
    return torch.arange(len(gt_lists)).repeat_interleave(counts).to(gt_lists[0].device)


def first_in_cell(cells: Tensor, claims: Tensor, count: int) -> Tensor:
    """``[M]`` bool: which objects are the first of their cell, of those that claim it.

    Args:
        cells: ``[M]`` int64, which of ``count`` cells each object lies in.
        claims: ``[M]`` bool, which objects claim their cell.
    """
    order = torch.arange(len(cells), device=cells.device)  # [M]
    nobody = len(cells)
    first = torch.full((count,), nobody, device=cells.device)
    first = first.scatter_reduce(0, cells, torch.where(claims, order, nobody), reduce="amin")
    return first[cells] == order


def class_factors(stays: Tensor, labels: Tensor, weights: Sequence[float]) -> Tensor:
    """``[N]`` how much the class term of each owner counts.

    Args:
        stays: ``[N]`` float, 0 for owners that do not count, else 1.
        labels: ``[N]`` int64.
        weights: one a class; none at all: 1 each.
    """
    return stays * stays.new_tensor(weights)[labels] if weights else stays


def best_iou_with_objects(pred_boxes: Boxes, gt_lists: list[Boxes]) -> Tensor:
    """Best IoU of every prediction with any object of its image.

    Args:
        pred_boxes: ``[B, N, 4]``.
        gt_lists: ``[M_i, 4]`` an image, in the same space.

    Returns:
        ``[B, N]``, 0 where an image has no objects.
    """
    nowhere = pred_boxes.new_zeros(1, 4)  # so that an image without objects has a row; its IoU is 0
    padded = pad_sequence([torch.cat([nowhere, gt]) for gt in gt_lists], batch_first=True)
    return box_iou(pred_boxes, padded).amax(dim=2)


def claim_anchors(overlaps: Tensor, positive_iou: float | None) -> tuple[Tensor, Tensor]:
    """Which anchors answer for which object: the best in shape, and others that fit it well.

    Args:
        overlaps: ``[M, A]`` IoU of every object with every anchor, centres together.
        positive_iou: beside the best, every anchor whose IoU is at least this; None: only the best.

    Returns:
        ``[N]`` int64 objects and ``[N]`` int64 anchors of the N claims. The claims of best anchors
        come last, in the objects' order, so that :func:`last_claim` lets no other take their
        place. The first of equally good anchors is the best.

    Source:
        darknet, ``region_layer.c: forward_region_layer``, for the best; the others are
        ``iou_thresh`` of YOLOv4 (Bochkovskiy et al., 2020), section 3.4, "using multiple anchors
        for a single ground truth".
    """
    objects = torch.arange(len(overlaps), device=overlaps.device)  # [M]
    best = overlaps.argmax(dim=1)  # [M]
    if positive_iou is None:
        return objects, best
    others = (overlaps >= positive_iou).scatter(1, best[:, None], False)  # [M, A]
    more_objects, more_anchors = others.nonzero(as_tuple=True)
    return torch.cat([more_objects, objects]), torch.cat([more_anchors, best])


def last_claim(slots: Tensor, predictions: int) -> Tensor:
    """``[predictions]`` int64: of the claims on each prediction the last one's index, -1 for none.

    Args:
        slots: ``[M]`` int64, which prediction each object claims.
        predictions: how many there are.
    """
    order = torch.arange(len(slots), device=slots.device)  # [M]
    none = torch.full((predictions,), -1, device=slots.device)
    return none.scatter_reduce(0, slots, order, reduce="amax")


def overlap_loss(
    pred_places: Tensor, gt_places: Tensor, anchors: Tensor, kind: Literal["giou", "ciou"]
) -> Tensor:
    """1 less the generalised or complete IoU of predictions and the objects they answer for.

    Args:
        pred_places: ``[N, 4]`` (x, y, log w/pw, log h/ph), x and y in cells from the corner of the
            prediction's own cell: an IoU does not ask where that lies.
        gt_places: ``[N, 4]`` likewise.
        anchors: ``[N, 2]`` (pw, ph), cells.

    Returns:
        ``[N]`` of 0 or more.
    """
    pred_boxes, gt_boxes = (  # [N, 4] cells
        cxcywh_to_xyxy(torch.cat([places[:, :2], places[:, 2:].exp() * anchors], dim=1))
        for places in (pred_places, gt_places)
    )
    return 1 - (giou if kind == "giou" else ciou)(pred_boxes, gt_boxes)
