"""Use a trained detector: load one, detect with it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, overload

import torch

from detkit.detectors import Detector
from detkit.engine.checkpoint import load_checkpoint
from detkit.errors import DetkitError
from detkit.image import ImageLike, to_image_tensor
from detkit.ops.nms import nms_per_class
from detkit.types import Detections

BATCH = 8  # images that `detect` hands to the network at once
ACROSS_CLASSES_IOU = 0.45  # the YOLO authors' threshold within a class, here across them

NO_MODEL = (
    "detect: no model given. Pass a run folder or checkpoint folder (detkit.detect(image, "
    "'runs/quickstart')), or a detector from detkit.load; `make quickstart` trains one in minutes."
)


def load(path: str | Path, device: torch.device | str = "cpu") -> Detector:
    """Load a detector from a checkpoint folder, or a run folder's best checkpoint.

    Returns:
        The detector in eval mode on ``device``, with its class names; no config file is needed.

    Raises:
        ConfigError: no checkpoint there, or one that cannot be read.
    """
    return load_checkpoint(Path(path), device).detector


@overload
def detect(
    image: ImageLike,
    model: Detector | str | Path | None = ...,
    *,
    score_threshold: float | None = ...,
    nms: Literal["per_class", "across_classes"] = ...,
    max_detections: int | None = ...,
) -> Detections: ...


@overload
def detect(
    image: list[Any] | tuple[Any, ...],
    model: Detector | str | Path | None = ...,
    *,
    score_threshold: float | None = ...,
    nms: Literal["per_class", "across_classes"] = ...,
    max_detections: int | None = ...,
) -> list[Detections]: ...


def detect(
    image: ImageLike | list[Any] | tuple[Any, ...],
    model: Detector | str | Path | None = None,
    *,
    score_threshold: float | None = None,
    nms: Literal["per_class", "across_classes"] = "per_class",
    max_detections: int | None = None,
) -> Detections | list[Detections]:
    """Find objects in an image, or in each image of a list.

    Args:
        image: a path, a PIL image, a ``[H, W, 3]`` uint8 RGB array or a ``[3, H, W]`` uint8
            tensor; or a list of them, which is detected in batches.
        model: a run folder, a checkpoint folder, or a detector in eval mode.
        score_threshold: least score to report; without it the model's ``show_threshold``.
            Nothing below the model's own ``score_threshold`` is ever found.
        nms: ``across_classes`` also suppresses overlapping boxes of different classes.
        max_detections: at most so many, the best ones.

    Returns:
        Detections in the pixels of the image, best first, on the CPU; a list for a list.

    Raises:
        DetkitError: no model, an image that cannot be read, a detector in training mode.
    """
    detector = _detector(model)
    images: Sequence[ImageLike] = image if isinstance(image, list | tuple) else [image]
    if score_threshold is None:
        score_threshold = float(getattr(detector.config, "show_threshold", 0.0))
    found: list[Detections] = []
    for start in range(0, len(images), BATCH):
        tensors = [to_image_tensor(each) for each in images[start : start + BATCH]]
        found += detector.detect_batch(tensors)
    shown = [_shown(each.to("cpu"), score_threshold, nms, max_detections) for each in found]
    return shown if isinstance(image, list | tuple) else shown[0]


def _detector(model: Detector | str | Path | None) -> Detector:
    if model is None:
        raise DetkitError(NO_MODEL)
    if not isinstance(model, Detector):
        return load(model)
    if model.training:
        raise DetkitError("detect: the detector is in training mode; call .eval() first.")
    return model


def _shown(found: Detections, threshold: float, nms: str, max_detections: int | None) -> Detections:
    sides = found.boxes[:, 2:] - found.boxes[:, :2]  # 0 where a box lay outside the image
    found = found[(found.scores >= threshold) & (sides > 0).all(dim=1)]
    if nms == "across_classes":
        one_class = torch.zeros_like(found.labels)
        found = found[nms_per_class(found.boxes, found.scores, one_class, ACROSS_CLASSES_IOU)]
    return found[:max_detections]
