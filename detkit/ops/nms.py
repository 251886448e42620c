"""Non-maximum suppression: torchvision's, called per class."""

from __future__ import annotations

from torch import Tensor

from detkit.types import Boxes


def nms_per_class(boxes: Boxes, scores: Tensor, labels: Tensor, iou_threshold: float) -> Tensor:
    """Keep, within each class, the best box of every group that overlaps.

    Args:
        boxes: ``[N, 4]``.
        scores: ``[N]``.
        labels: ``[N]`` int64; boxes of different classes never suppress each other.
        iou_threshold: a box is dropped when its IoU with a better one is **above** this.

    Returns:
        ``[n]`` int64 indices of the kept boxes, best score first.
    """
    # torchvision imports all of its models with its operators, so it is imported on first use.
    from torchvision.ops import batched_nms

    return batched_nms(boxes, scores, labels, iou_threshold)
