"""What measuring may change of a checkpoint's model: no weight depends on it."""

from __future__ import annotations

MODEL_SETTINGS = (
    *("score_threshold", "nms_iou", "max_detections", "max_per_class"),
    *("input_size", "min_size", "max_size", "post_nms_test", "svd_ranks"),
)
PROPOSALS = "proposals"  # of R-CNN and Fast R-CNN: every setting in this block
