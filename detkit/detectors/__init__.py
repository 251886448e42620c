"""The detectors, one file each, in the order of their papers."""

from detkit.detectors.base import (
    DETECTORS,
    NO_CLASS,
    Audit,
    Detector,
    Scale,
    Step,
    build_detector,
    rebuild_detector,
)
from detkit.detectors.fast_rcnn import FastRCNN, FastRCNNConfig
from detkit.detectors.faster_rcnn import FasterRCNN, FasterRCNNConfig
from detkit.detectors.rcnn import RCNN, RCNNConfig
from detkit.detectors.yolo_v1 import YoloV1, YoloV1Config
from detkit.detectors.yolo_v2 import YoloV2, YoloV2Config
from detkit.detectors.yolo_v3 import YoloV3, YoloV3Config

__all__ = [
    "DETECTORS",
    "NO_CLASS",
    "RCNN",
    "Audit",
    "Detector",
    "FastRCNN",
    "FastRCNNConfig",
    "FasterRCNN",
    "FasterRCNNConfig",
    "RCNNConfig",
    "Scale",
    "Step",
    "YoloV1",
    "YoloV1Config",
    "YoloV2",
    "YoloV2Config",
    "YoloV3",
    "YoloV3Config",
    "build_detector",
    "rebuild_detector",
]
