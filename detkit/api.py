"""Use a trained detector: load one, detect with it."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
import torch
from torch import Tensor

from detkit.arguments import check_choice, check_flag, check_path, check_threshold, check_whole
from detkit.checkpoints.resolve import find_default, find_named
from detkit.detections import Detections, Predictor
from detkit.detectors import Detector
from detkit.device import check_device
from detkit.engine.console_watch import ConsoleWatch
from detkit.errors import DataError
from detkit.image_tensor import ImageLike, to_image_tensor
from detkit.ops.nms import nms_per_class
from detkit.predictors import NamedCallable, as_predictor
from detkit.sources import Word, find_sources, kind_of, read_source
from detkit.video import Frame
from detkit.web import is_url, read_url
from detkit.weights.zoo import DEFAULT_MODEL, find_entry

logger = logging.getLogger(__name__)

BATCH = 8  # images that `detect` hands to the network at once
NMS = ("per_class", "across_classes")
ACROSS_CLASSES_IOU = 0.45  # the YOLO authors' threshold within a class, here across them


def load(path: str | Path, device: torch.device | str = "cpu") -> Detector:
    """Load a detector from a checkpoint folder, a run folder's best checkpoint, or the zoo.

    ``load("yolo_v3_coco")`` takes the weights that the detector's authors published
    (``detkit zoo list`` names them all). The first time they are fetched, with progress on the
    error stream; then they are in the cache folder, which ``DETKIT_CACHE`` names.

    A ``.weights`` file of darknet's is taken as it is where its size is that of one in the zoo.

    Args:
        path: a folder, a ``.weights`` file, or a name of the zoo; what exists as a path is a path.
        device: where the detector shall be.

    Returns:
        The detector in eval mode on ``device``, with its class names; no config file is needed.

    Raises:
        UnknownNameError: a single word that is no folder and no name of the zoo.
        ConfigError: no checkpoint there, or one that cannot be read; a weight file of a network
            that the zoo has not, or one of PyTorch's, with how to convert it; a device that torch
            does not know or cannot use here.
        DetkitError: weights of the zoo that cannot be had; it says what to fetch by hand.
    """
    check_path(path, "load: path")
    check_device(device)
    with ConsoleWatch() as watch:
        named = find_named(path, watch)
    return named.load(device).detector


def load_default(device: torch.device | str = "cpu") -> Detector:
    """Load the detector that :func:`detect` uses unless told: the zoo's ``DEFAULT_MODEL``.

    Args:
        device: as in :func:`load`.

    Returns:
        A detector of its own in eval mode, as :func:`load` of that name gives it.

    Raises:
        ConfigError: as in :func:`load`.
        DetkitError: its weights cannot be had; it says what to fetch by hand, where to put it, and
            which other models are there.
    """
    check_device(device)
    with ConsoleWatch() as watch:
        named = find_default(watch)
    return named.load(device).detector


@lru_cache(maxsize=1)
def _default_detector(name: str, path: Path, mtime_ns: int, size: int) -> Detector:
    """The default detector on the CPU, kept for the process as long as its file is the same one.

    The only place where a detector is remembered: ``detect(image)``, called for one image after
    another, would read and verify its file for each.
    """
    return load_default()


def _default() -> Detector:
    entry = find_entry(DEFAULT_MODEL)
    if not entry.path.exists():
        with ConsoleWatch() as watch:
            find_default(watch)
    state = entry.path.stat()
    return _default_detector(entry.name, entry.path, state.st_mtime_ns, state.st_size)


@overload
def detect(
    image: ImageLike,
    model: Predictor | NamedCallable | str | Path | None = ...,
    *,
    score_threshold: float | None = ...,
    nms: Literal["per_class", "across_classes"] = ...,
    max_detections: int | None = ...,
) -> Detections: ...


@overload
def detect(
    image: list[Any] | tuple[Any, ...],
    model: Predictor | NamedCallable | str | Path | None = ...,
    *,
    score_threshold: float | None = ...,
    nms: Literal["per_class", "across_classes"] = ...,
    max_detections: int | None = ...,
) -> list[Detections]: ...


def detect(
    image: ImageLike | list[Any] | tuple[Any, ...],
    model: Predictor | NamedCallable | str | Path | None = None,
    *,
    score_threshold: float | None = None,
    nms: Literal["per_class", "across_classes"] = "per_class",
    max_detections: int | None = None,
) -> Detections | list[Detections]:
    """Find objects in an image, or in each image of a list.

    Args:
        image: a path, the URL of an image, a PIL image, a ``[H, W, 3]`` uint8 RGB array or a
            ``[3, H, W]`` uint8 tensor; or a list of them, which is detected in batches. Folders,
            zips and videos are for :func:`detect_all`.
        model: a run folder, a checkpoint folder, a name of the zoo such as "yolo_v3_coco", a
            detector in eval mode, or any :class:`~detkit.detections.Predictor`. A folder or name is
            loaded in every call: for more than one call, :func:`load` it once. Without a model it
            is ``faster_rcnn_mobilenet_v3_large_fpn_coco`` of the zoo, on the CPU: fetched the first
            time (78 MB; what, from where and to where is said first, on the error stream),
            verified, and kept in memory from the first call to the end of the process. Better
            (AP 37.0 against 32.8), larger and slower is ``"faster_rcnn_resnet50_fpn_coco"``.
        score_threshold: least score to report; without it the model's ``show_threshold``.
            Nothing below the model's own ``score_threshold`` is ever found.
        nms: ``across_classes`` also suppresses overlapping boxes of different classes.
        max_detections: at most so many, the best ones.

    Returns:
        Detections in the pixels of the image, best first, on the CPU; a list for a list.

    Raises:
        ConfigError: an argument that cannot be.
        DetkitError: an image that cannot be read, a detector in training mode, weights that cannot
            be had.
    """
    _check("detect", score_threshold, nms, max_detections)
    predictor = _predictor(model, "detect")
    images: Sequence[ImageLike] = image if isinstance(image, list | tuple) else [image]
    found: list[Detections] = []
    for start in range(0, len(images), BATCH):
        tensors = [_pixels(each) for each in images[start : start + BATCH]]
        found += _detect(tensors, predictor, score_threshold, nms, max_detections)
    return found if isinstance(image, list | tuple) else found[0]


def detect_all(
    sources: Word | ImageLike | Iterable[Word | ImageLike],
    model: Predictor | NamedCallable | str | Path | None = None,
    *,
    score_threshold: float | None = None,
    nms: Literal["per_class", "across_classes"] = "per_class",
    max_detections: int | None = None,
    skip_unreadable: bool = False,
) -> Iterator[tuple[Frame, Detections]]:
    """Find objects in any number of images, one after another, in steady memory.

    ``for frame, found in detect_all("holiday/", model): print(frame.name, len(found))``

    Args:
        sources: one or several, or anything that gives one after another: images as
            :func:`detect` takes them, folders, globs, zips of images, URLs, video files, cameras
            (``0`` or ``"camera:0"``) and streams (``rtsp://...``, ``stream:http://...``). Of a
            camera or stream only the newest frame is taken, and the frames go on until it ends.
        model: as in :func:`detect`.
        score_threshold: as in :func:`detect`.
        nms: as in :func:`detect`.
        max_detections: as in :func:`detect`.
        skip_unreadable: pass over what cannot be read, with a warning in the log.

    Returns:
        Pairs, as they come: the frame (its ``name`` and ``image``; of a video also ``number``,
        ``seconds`` and ``dropped``), and what was found in it.

    Raises:
        ConfigError: an argument that cannot be.
        DetkitError: a source that matches nothing, an image that cannot be read unless
            ``skip_unreadable``, weights that cannot be had.
    """
    _check("detect_all", score_threshold, nms, max_detections)
    check_flag(skip_unreadable, "detect_all: skip_unreadable")
    predictor = _predictor(model, "detect_all")
    # Arrays and tensors can be walked through as well, but are one image each.
    several = isinstance(sources, Iterable) and not isinstance(sources, str | np.ndarray | Tensor)
    words: Iterable[Any] = sources if several else [sources]  # type: ignore[assignment]
    frames = _readable(words, skip_unreadable)
    batches = detect_batches(frames, predictor, score_threshold, nms, max_detections)
    return (pair for batch in batches for pair in zip(batch.frames, batch.found, strict=True))


@dataclass(frozen=True, slots=True, eq=False)
class FoundBatch:
    """Frames that went through the network together."""

    frames: list[Frame]
    found: list[Detections]
    seconds: float  # of detection, reading left out


def detect_batches(
    frames: Iterable[Frame],
    predictor: Predictor,
    score_threshold: float | None = None,
    nms: Literal["per_class", "across_classes"] = "per_class",
    max_detections: int | None = None,
) -> Iterator[FoundBatch]:
    """Detect in frames as they come: in batches, but a live frame at once.

    Args:
        frames: read one at a time, never far ahead.
        predictor: such as a detector in eval mode.
        score_threshold: as in :func:`detect`.
        nms: as in :func:`detect`.
        max_detections: as in :func:`detect`.
    """
    for batch in in_batches(frames):
        started = time.perf_counter()
        images = [frame.image for frame in batch]
        found = _detect(images, predictor, score_threshold, nms, max_detections)
        yield FoundBatch(batch, found, time.perf_counter() - started)


def in_batches(frames: Iterable[Frame]) -> Iterator[list[Frame]]:
    """Group frames as they come for one pass of a network; a live frame goes alone."""
    batch: list[Frame] = []
    for frame in frames:
        batch.append(frame)
        if len(batch) == BATCH or frame.live:
            yield batch
            batch = []
    if batch:
        yield batch


def _readable(sources: Iterable[Any], skip: bool) -> Iterator[Frame]:
    for turn, word in enumerate(sources):
        for frame in _frames_of(word, turn):
            if isinstance(frame, Frame):
                yield frame
            elif skip:
                logger.warning("%s", frame)
            else:
                raise frame


def _frames_of(word: Word | ImageLike, turn: int) -> Iterator[Frame | DataError]:
    if isinstance(word, str | os.PathLike | int):
        word = word if isinstance(word, str | int) else Path(word)
        for source in find_sources([word]):
            yield from read_source(source)
        return
    try:
        yield Frame(str(getattr(word, "filename", "") or f"image {turn}"), to_image_tensor(word))
    except DataError as problem:
        yield problem


def _check(where: str, score_threshold: float | None, nms: str, max_detections: int | None) -> None:
    if score_threshold is not None:
        check_threshold(score_threshold, f"{where}: score_threshold")
    check_choice(nms, f"{where}: nms", NMS)
    if max_detections is not None:
        check_whole(max_detections, f"{where}: max_detections", least=1)


def _pixels(image: ImageLike) -> Tensor:
    if isinstance(image, str) and is_url(image):
        return read_url(image)
    path = Path(image) if isinstance(image, str | os.PathLike) else None
    if path is not None and (path.is_dir() or kind_of(path) != "image"):
        raise DataError(
            f"{image}: may hold many images, and detect takes one; "
            "detkit.detect_all gives one after another."
        )
    return to_image_tensor(image)


def _detect(
    images: list[Tensor],
    predictor: Predictor,
    score_threshold: float | None,
    nms: str,
    max_detections: int | None,
) -> list[Detections]:
    if score_threshold is None:
        score_threshold = predictor.show_threshold
    found = predictor.detect_batch(images)
    return [_shown(each.to("cpu"), score_threshold, nms, max_detections) for each in found]


def _predictor(model: Predictor | NamedCallable | str | Path | None, where: str) -> Predictor:
    if model is None:
        return _default()
    if isinstance(model, str | os.PathLike):
        return load(model)
    return as_predictor(model, where)


def _shown(found: Detections, threshold: float, nms: str, max_detections: int | None) -> Detections:
    sides = found.boxes[:, 2:] - found.boxes[:, :2]  # 0 where a box lay outside the image
    found = found[(found.scores >= threshold) & (sides > 0).all(dim=1)]
    if nms == "across_classes":
        one_class = torch.zeros_like(found.labels)
        found = found[nms_per_class(found.boxes, found.scores, one_class, ACROSS_CLASSES_IOU)]
    return found[:max_detections]
