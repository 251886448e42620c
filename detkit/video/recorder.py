"""Pictures as a video file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from detkit.errors import DataError
from detkit.video.frames import import_cv2

CODEC = "mp4v"  # MPEG-4 part 2: the wheels of OpenCV can write it everywhere


class VideoRecorder:
    """Writes pictures as one MP4, all of the first one's size.

    Args:
        place: the file to write; it takes the name ``.mp4``.
        fps: frames a second.
    """

    def __init__(self, place: Path, fps: float) -> None:
        self._cv2 = import_cv2()
        self._place, self._fps = place, fps
        self._writer: Any = None
        self._size = (0, 0)  # (width, height)
        self._last: np.ndarray[Any, Any] | None = None
        self.written = 0  # frames

    def add(self, picture: Tensor, seconds: float | None = None) -> None:
        """Append ``[3, H, W]`` uint8 RGB.

        With ``seconds``, since the first picture, the one before is repeated until then, and one
        that comes before its turn is left out: a live recording plays as fast as it happened.

        Raises:
            DataError: the video cannot be written.
        """
        pixels = np.ascontiguousarray(picture.permute(1, 2, 0).numpy()[:, :, ::-1])  # BGR
        height, width = pixels.shape[:2]
        if self._writer is None:
            self._size = (width + width % 2, height + height % 2)  # the codec halves its colours
            code = self._cv2.VideoWriter_fourcc(*CODEC)
            self._writer = self._cv2.VideoWriter(str(self._place), code, self._fps, self._size)
            if not self._writer.isOpened():
                raise DataError(f"{self._place}: OpenCV here cannot write {CODEC} video there.")
        if (width + width % 2, height + height % 2) != self._size:  # it would leave it out silently
            pixels = self._cv2.resize(pixels, self._size)
        elif (width, height) != self._size:
            pixels = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        turn = self.written if seconds is None else round(seconds * self._fps)
        while self._last is not None and self.written < turn:
            self._write(self._last)
        if self.written <= turn:
            self._write(pixels)
        self._last = pixels

    def _write(self, pixels: np.ndarray[Any, Any]) -> None:
        self._writer.write(pixels)
        self.written += 1

    def close(self) -> None:
        """End the file.

        Raises:
            DataError: it holds fewer frames than were written, as on a full disk.
        """
        if self._writer is None:
            return
        self._writer.release()
        self._writer = None
        if not self.written:
            return
        check = self._cv2.VideoCapture(str(self._place), self._cv2.CAP_FFMPEG)
        held = int(check.get(self._cv2.CAP_PROP_FRAME_COUNT))
        check.release()
        if held < self.written:
            raise DataError(
                f"{self._place}: holds {held} of {self.written} frames. Is the disk full?"
            )
