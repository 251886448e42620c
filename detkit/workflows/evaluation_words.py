"""Words of evaluations: settings of a model that may be changed for one, and how data is named."""

from __future__ import annotations

EVAL_DATA = "data.format=voc data.root=FOLDER data.split=test"  # as messages show it
MODEL_SETTINGS = (  # what may be set of a checkpoint's model: no weight depends on it
    *("score_threshold", "nms_iou", "max_detections", "max_per_class"),
    *("input_size", "placement", "min_size", "max_size", "post_nms_test", "svd_ranks"),
)
PROPOSALS = "proposals"  # of R-CNN and Fast R-CNN, likewise: every setting in this block
