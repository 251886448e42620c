"""detkit: object detection from R-CNN to YOLOv3, in one place.

The public surface, and nothing else. Names resolve on first use, so that ``import detkit``
imports nothing heavy, not even torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from detkit.api import detect, detect_all, load
    from detkit.backbones import BACKBONES, Backbone
    from detkit.data import DATASETS
    from detkit.detections import Detections
    from detkit.detectors import DETECTORS, Detector, build_detector
    from detkit.drawing import draw
    from detkit.errors import ConfigError, DetkitError
    from detkit.evaluation import EvalResult
    from detkit.image import read_image
    from detkit.proposals.selective_search import selective_search
    from detkit.types import Boxes, Target
    from detkit.workflows.evaluate_dataset import evaluate
    from detkit.workflows.train import train

PUBLIC = {
    "load": "detkit.api",
    "detect": "detkit.api",
    "detect_all": "detkit.api",
    "train": "detkit.workflows.train",
    "read_image": "detkit.image",
    "draw": "detkit.drawing",
    "BACKBONES": "detkit.backbones",
    "Backbone": "detkit.backbones",
    "DETECTORS": "detkit.detectors",
    "Detector": "detkit.detectors",
    "build_detector": "detkit.detectors",
    "DATASETS": "detkit.data",
    "evaluate": "detkit.workflows.evaluate_dataset",
    "EvalResult": "detkit.evaluation",
    "selective_search": "detkit.proposals.selective_search",
    "Boxes": "detkit.types",
    "Detections": "detkit.detections",
    "Target": "detkit.types",
    "DetkitError": "detkit.errors",
    "ConfigError": "detkit.errors",
}

__all__ = [
    "BACKBONES",
    "DATASETS",
    "DETECTORS",
    "Backbone",
    "Boxes",
    "ConfigError",
    "Detections",
    "Detector",
    "DetkitError",
    "EvalResult",
    "Target",
    "build_detector",
    "detect",
    "detect_all",
    "draw",
    "evaluate",
    "load",
    "read_image",
    "selective_search",
    "train",
]


def __getattr__(name: str) -> object:
    if name not in PUBLIC:
        raise AttributeError(f"module 'detkit' has no attribute {name!r}")
    return getattr(importlib.import_module(PUBLIC[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
