"""Settings that a command and its workflow both name; nothing heavy is imported for them."""

from __future__ import annotations

EVAL_DATA = "data.format=voc data.root=FOLDER data.split=test"  # as messages show it
MODEL_SETTINGS = (  # what may be set of a checkpoint's model: no weight depends on it
    *("score_threshold", "nms_iou", "max_detections", "max_per_class"),
    *("input_size", "placement", "min_size", "max_size", "post_nms_test", "svd_ranks"),
)
PROPOSALS = "proposals"  # of R-CNN and Fast R-CNN, likewise: every setting in this block
MIN_RESAMPLES = 100  # of the bootstrap; fewer do not make an interval
RESTARTS = 10  # of k-means
PROPOSAL_SPLITS = {"eval": ("eval",), "train": ("train",), "both": ("train", "eval")}
CHECKED_FOR = "yolo_v3_tiny_coco"  # of the zoo: a folder is judged for what finetune begins with
FOUND = "found"  # folder of what detection writes, unless told
