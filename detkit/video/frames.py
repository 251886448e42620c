"""What a video gives, and the one place where OpenCV is asked for."""

from __future__ import annotations

import os
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

STALL_SECONDS = 10.0  # without a frame, after which a stream counts as dead
DEFAULT_FPS = 25.0  # where a file or camera says nothing that can be
USUAL_FPS = (1.0, 240.0)  # believed at once
POSSIBLE_FPS = (0.01, 2000.0)  # that OpenCV's recorder keeps; believed where the frames agree
_SILENT = "-8"  # FFmpeg's AV_LOG_QUIET: what is wrong is said in our own sentence


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One image on its way to a detector, and where it came from."""

    name: str  # for a person: a path, a URL, photos.zip/a.jpg, clip.mp4#12
    image: Tensor  # [3, H, W] uint8 RGB
    number: int | None = None  # of a video's frame, from 0, frames left out counted
    seconds: float | None = None  # since the video's first frame
    dropped: int = 0  # frames of a live stream left out so far
    live: bool = False  # from a camera or stream: it will not wait


def import_cv2() -> ModuleType:
    """OpenCV, with FFmpeg and the camera backends told to be silent."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", _SILENT)  # read when the first video is opened
    import cv2

    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    return cv2


def open_with_ffmpeg(cv2: ModuleType, place: str, seconds: float) -> Any:
    """A capture that gives up opening, and each frame, after ``seconds``."""
    limit = int(seconds * 1000)
    limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, limit, cv2.CAP_PROP_READ_TIMEOUT_MSEC, limit]
    return cv2.VideoCapture(place, cv2.CAP_FFMPEG, limits)


def is_usual(fps: float) -> bool:
    """Whether a rate can be believed by itself, as those of cameras and films can."""
    return USUAL_FPS[0] <= fps <= USUAL_FPS[1]


def is_possible(fps: float) -> bool:
    """Whether a rate can be recorded; zero, NaN and a clock's 90,000 cannot."""
    return POSSIBLE_FPS[0] <= fps <= POSSIBLE_FPS[1]


def to_rgb(frame: np.ndarray[Any, Any]) -> Tensor:
    """OpenCV's ``[H, W, 3]`` BGR as ``[3, H, W]`` RGB over contiguous ``[H, W, 3]`` memory."""
    return torch.from_numpy(np.ascontiguousarray(frame[:, :, ::-1])).permute(2, 0, 1)
