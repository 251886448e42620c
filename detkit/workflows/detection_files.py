"""What ``detkit detect`` leaves of a video: drawn frames, and a JSON line for each."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from detkit.data.detection_writers import as_records
from detkit.json_list import make_way

if TYPE_CHECKING:
    from torch import Tensor

    from detkit.detections import Detections
    from detkit.video import Frame, LiveStream, VideoFile


class VideoFiles:
    """One video's two files: drawn frames, and a JSON line for each."""

    def __init__(self, lines: IO[str], recorder: Any, timed: bool) -> None:
        self._lines, self._recorder, self._timed = lines, recorder, timed

    def add(self, frame: Frame, found: Detections, picture: Tensor) -> None:
        """Append a frame; ``picture`` is it with what was found drawn on it."""
        line = {"frame": frame.number, "seconds": frame.seconds, "detections": as_records(found)}
        self._lines.write(json.dumps(line, allow_nan=False) + "\n")
        self._recorder.add(picture, frame.seconds if self._timed else None)


@contextmanager
def video_files(folder: Path, stem: str, video: VideoFile | LiveStream) -> Iterator[VideoFiles]:
    """``stem.mp4``, whole at the end, and ``stem.jsonl``, which has each frame at once."""
    from detkit.files import whole_file
    from detkit.video import VideoRecorder

    path = folder / f"{stem}.jsonl"
    make_way(path)
    with (
        open(path, "w", encoding="utf-8", newline="\n", buffering=1) as lines,
        whole_file(folder / f"{stem}.mp4") as place,
        closing(VideoRecorder(place, video.fps)) as recorder,
    ):
        yield VideoFiles(lines, recorder, video.timed)
