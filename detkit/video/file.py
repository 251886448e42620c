"""A video file, frame by frame."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path

from detkit.errors import DataError
from detkit.image import MAX_PIXELS
from detkit.video.frames import (
    DEFAULT_FPS,
    STALL_SECONDS,
    Frame,
    import_cv2,
    is_possible,
    is_usual,
    open_with_ffmpeg,
    to_rgb,
)

EXTENSIONS = (
    *(".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg"),
    *(".ts", ".wmv", ".flv", ".ogv", ".3gp"),
)
PEEKED = 10  # frames whose times are looked at where the stated rate is unusual
SAME_RATE = 0.01  # of a rate; what times in milliseconds take from it
MISSING_SHARE = 0.02  # of the frames a file announces; some formats only estimate their number
_SNIFF_BYTES = 512
# How the containers begin. Others are not tried: FFmpeg would follow a playlist to other files.
_MAGIC = re.compile(
    rb"....(ftyp|moov|mdat|free|skip|wide|pnot)|RIFF....AVI |\x1aE\xdf\xa3|\x00\x00\x01[\xba\xb3]"
    rb"|G.{187}G|FLV\x01|OggS|\x30\x26\xb2\x75\x8e\x66\xcf\x11",
    re.DOTALL,
)


def check_video(path: Path) -> None:
    """Look at how a file begins, before FFmpeg does.

    Raises:
        DataError: missing, empty, or no container of a known format.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(_SNIFF_BYTES)
    except OSError as problem:
        raise DataError(
            f"{path}: cannot be opened ({problem.strerror}). Check the path and its permissions."
        ) from problem
    if not head:
        raise DataError(f"{path}: the file is empty. Copy or download it again.")
    if not _MAGIC.match(head):
        text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
        what = "a web page or XML, not a video" if text.startswith(b"<") else "not a video"
        raise DataError(f"{path}: {what} of a known format. Convert it to MP4.")


class VideoFile:
    """Every frame of a video file, in order, upright; of a URL too, if its server answers.

    ``fps`` is its rate; where ``timed``, frames are shown when their own times say, since the rate
    that the file states cannot be, as ``rate_note`` says in a sentence.

    Raises:
        DataError: on construction, when it cannot be opened or its frames are too large.
    """

    def __init__(self, path: str | Path, name: str = "") -> None:
        self.name = name or str(path)
        remote = self._remote = isinstance(path, str) and "://" in path
        if not remote:
            check_video(Path(path))
        cv2 = self._cv2 = import_cv2()
        place = str(path) if remote else str(Path(path).resolve())  # never a protocol's name
        self._capture = open_with_ffmpeg(cv2, place, STALL_SECONDS)
        if not self._capture.isOpened():
            advice = "Check the address" if remote else "Copy it again, or convert it to MP4"
            raise DataError(f"{self.name}: the video cannot be opened, or is damaged. {advice}.")
        self.fps, self.timed = self._rate(place)
        self.rate_note = self._rate_note() if self.timed else ""
        said = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.announced = int(said) if math.isfinite(said) and said > 0 else None  # frames
        sides = (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
        if math.prod(self._capture.get(side) for side in sides) > MAX_PIXELS:
            self.close()
            raise DataError(f"{self.name}: frames of more than {MAX_PIXELS:,} pixels. Scale it.")

    def _rate(self, place: str) -> tuple[float, bool]:
        """Frames a second, and whether to go by the frames' own times instead.

        Time lapses have less than one and slow motion more than 240. Other files state the rate of
        their clock there, 1,000 or 90,000, which the times of the first frames contradict.
        """
        said = float(self._capture.get(self._cv2.CAP_PROP_FPS))
        if is_usual(said):
            return said, False
        seconds = self._first_seconds(place)
        if len(seconds) < 2 or seconds[-1] <= seconds[0]:
            believed = is_possible(said) and not self._remote
            return (said, False) if believed else (DEFAULT_FPS, True)
        counted = (len(seconds) - 1) / (seconds[-1] - seconds[0])
        if is_possible(said) and abs(counted - said) <= SAME_RATE * said:
            return said, False
        return (counted if is_usual(counted) else DEFAULT_FPS), True

    def _rate_note(self) -> str:
        said = float(self._capture.get(self._cv2.CAP_PROP_FPS))
        states = "states no frame rate for its frames"
        if said > 0:
            states = f"states {said:g} frames a second, which its frames contradict"
        return f"{self.name}: {states}; recorded by their times, at {self.fps:g}."

    def _first_seconds(self, place: str) -> list[float]:
        """When the first frames are shown; of a URL, which cannot be read twice, nothing."""
        if self._remote:
            return []
        peek = open_with_ffmpeg(self._cv2, place, STALL_SECONDS)
        seconds: list[float] = []
        while len(seconds) < PEEKED and peek.grab():
            seconds.append(peek.get(self._cv2.CAP_PROP_POS_MSEC) / 1000)
        peek.release()
        return seconds

    def frames(self) -> Iterator[Frame | DataError]:
        """Frames in order; last comes the error of a file that ends before its time."""
        number = 0
        while True:
            good, pixels = self._capture.read()
            if not good:
                break
            moment = self._capture.get(self._cv2.CAP_PROP_POS_MSEC) / 1000
            yield Frame(f"{self.name}#{number}", to_rgb(pixels), number, round(moment, 3))
            number += 1
        if not number:
            advice = "Download it and give the file" if self._remote else "Convert it to MP4"
            yield DataError(f"{self.name}: no frame of it can be decoded. {advice}.")
        elif self.announced and number < self.announced * (1 - MISSING_SHARE):
            yield DataError(
                f"{self.name}: ends after {number} of {self.announced} frames; it is cut off or "
                "damaged. Copy or download it again."
            )

    def close(self) -> None:
        """Let go of the file."""
        self._capture.release()
