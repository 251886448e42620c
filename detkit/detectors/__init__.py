"""The detectors, one file each, in the order of their papers."""

from detkit.detectors.base import DETECTORS, Audit, Detector, Step, build_detector
from detkit.detectors.yolo_v2 import YoloV2, YoloV2Config

__all__ = ["DETECTORS", "Audit", "Detector", "Step", "YoloV2", "YoloV2Config", "build_detector"]
