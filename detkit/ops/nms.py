"""Non-maximum suppression: torchvision's, class by class."""

from __future__ import annotations

import torch
from torch import Tensor

from detkit.arguments import check_threshold
from detkit.detections import Detections
from detkit.types import Boxes


def nms_per_class(boxes: Boxes, scores: Tensor, labels: Tensor, iou_threshold: float) -> Tensor:
    """Keep, within each class, the best box of every group that overlaps.

    torchvision's ``batched_nms`` is not used: it moves each class by more than the largest
    coordinate, which mixes classes where coordinates are negative and rounds where they are large.

    Args:
        boxes: ``[N, 4]``, anywhere; a detector's may reach beyond its canvas.
        scores: ``[N]``.
        labels: ``[N]`` int64; boxes of different classes never suppress each other.
        iou_threshold: a box is dropped when its IoU with a better one is **above** this.

    Returns:
        ``[n]`` int64 indices of the kept boxes, best score first.

    Raises:
        ConfigError: a threshold that is no number from 0 to 1.
    """
    check_threshold(iou_threshold, "nms_per_class: iou_threshold")
    # torchvision imports all of its models with its operators, so it is imported on first use.
    from torchvision.ops import nms

    kept = []
    for label in labels.unique():
        rows = (labels == label).nonzero()[:, 0]
        kept.append(rows[nms(boxes[rows], scores[rows], iou_threshold)])
    keep = torch.cat(kept) if kept else labels  # labels: empty, and of the right type
    return keep[scores[keep].argsort(descending=True, stable=True)]


def select_per_class(
    boxes: Boxes, scores: Tensor, score_threshold: float, iou_threshold: float
) -> Detections:
    """What one image reports: scores above a threshold, then suppression within each class.

    A box is kept once for every class that it scores for, as darknet does.

    Args:
        boxes: ``[N, 4]``.
        scores: ``[N, K]``.
        score_threshold: a score at or below it is dropped.
        iou_threshold: as in :func:`nms_per_class`.

    Raises:
        ConfigError: a threshold that is no number from 0 to 1.
    """
    check_threshold(score_threshold, "select_per_class: score_threshold")
    rows, labels = (scores > score_threshold).nonzero(as_tuple=True)
    boxes, scores = boxes[rows], scores[rows, labels]  # [n, 4], [n] one a candidate
    keep = nms_per_class(boxes, scores, labels, iou_threshold)
    return Detections(boxes[keep], scores[keep], labels[keep], rows=rows[keep])
