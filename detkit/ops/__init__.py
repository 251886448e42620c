"""Plain functions on plain tensors: boxes, clustering, suppression."""

from detkit.ops.boxes import (
    box_area,
    box_iou,
    ciou,
    clip_boxes,
    cxcywh_to_xyxy,
    giou,
    pairwise_iou,
    scale_boxes,
    shift_boxes,
    size_iou,
    xywh_to_xyxy,
    xyxy_to_cxcywh,
    xyxy_to_xywh,
)
from detkit.ops.kmeans import kmeans_sizes
from detkit.ops.nms import nms_per_class, select_per_class

__all__ = [
    "box_area",
    "box_iou",
    "ciou",
    "clip_boxes",
    "cxcywh_to_xyxy",
    "giou",
    "kmeans_sizes",
    "nms_per_class",
    "pairwise_iou",
    "scale_boxes",
    "select_per_class",
    "shift_boxes",
    "size_iou",
    "xywh_to_xyxy",
    "xyxy_to_cxcywh",
    "xyxy_to_xywh",
]
