"""A camera or stream: always the newest frame."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from detkit.errors import DataError
from detkit.video.frames import (
    DEFAULT_FPS,
    STALL_SECONDS,
    Frame,
    import_cv2,
    is_usual,
    open_with_ffmpeg,
    to_rgb,
)

_POLL_SECONDS = 0.2  # between two looks at whether to stop
_GRACE_SECONDS = 1.0  # beyond FFmpeg's own limit, and for its thread to end


@dataclass(slots=True, eq=False)
class _Newest:
    """What the reading thread and the waiting one share; touched only under ``changed``."""

    changed: threading.Condition = field(default_factory=threading.Condition)
    pixels: np.ndarray[Any, Any] | None = None
    number: int = -1  # of the newest frame
    moment: float = 0.0  # when it came
    fps: float = DEFAULT_FPS
    stalled: bool = False
    ended: bool = False
    stop: bool = False


class LiveStream:
    """A camera (its number) or a stream (its URL): always the newest frame.

    A thread of its own opens and reads it, so that OpenCV's buffer never fills and the program
    can be stopped while a camera hangs.

    Args:
        source: the camera's number, or a URL.
        name: for messages and files.
        stall_seconds: without a frame, after which it is given up.
        stopped: asked while waiting; true ends the frames.
    """

    def __init__(
        self,
        source: int | str,
        name: str,
        *,
        stall_seconds: float = STALL_SECONDS,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self.name, self._source = name, source
        self._stall_seconds, self._stopped = stall_seconds, stopped
        self._state = _Newest()
        self._thread = threading.Thread(target=self._read, name=f"reader of {name}", daemon=True)
        self._thread.start()

    timed = True  # its frames are shown when their own times say
    rate_note = ""

    @property
    def fps(self) -> float:
        """Frames a second as the stream says; known once the first frame is there."""
        return self._state.fps

    def _read(self) -> None:
        """The thread: open, then read as fast as frames come, keeping the last."""
        cv2, state = import_cv2(), self._state
        try:
            if isinstance(self._source, int):
                capture = cv2.VideoCapture(self._source)
            else:
                capture = open_with_ffmpeg(cv2, self._source, self._stall_seconds)
            said = capture.get(cv2.CAP_PROP_FPS)
            state.fps = said if is_usual(said) else DEFAULT_FPS  # its frames come with their time
            while not state.stop:
                asked = time.monotonic()
                good, pixels = capture.read()
                with state.changed:
                    if not good:
                        state.stalled = time.monotonic() - asked >= self._stall_seconds
                        break
                    state.pixels, state.moment = pixels, time.monotonic()
                    state.number += 1
                    state.changed.notify()
            capture.release()
        except cv2.error:  # from a backend in trouble: as a stream that has ended
            pass
        finally:
            with state.changed:
                state.ended = True
                state.changed.notify()

    def frames(self) -> Iterator[Frame | DataError]:
        """The newest frame, again and again; last the error of a stream that fell silent."""
        shown, first = 0, 0.0
        while True:
            pixels, number, moment = self._wait()
            if self._stopped():
                return
            if pixels is None:
                if self._state.stalled or not shown:
                    yield self._silent()
                return
            first = moment if not shown else first
            shown += 1
            yield Frame(
                f"{self.name}#{number}",
                to_rgb(pixels),
                number,
                round(moment - first, 3),
                dropped=number + 1 - shown,
                live=True,
            )

    def _wait(self) -> tuple[np.ndarray[Any, Any] | None, int, float]:
        """Take the newest frame, its number and moment; None once no more will come."""
        state, since = self._state, time.monotonic()
        with state.changed:
            while state.pixels is None and not state.ended and not self._stopped():
                if time.monotonic() - since > self._stall_seconds + _GRACE_SECONDS:
                    state.stalled = True  # a camera's driver knows no limit of its own
                    return None, state.number, state.moment
                state.changed.wait(_POLL_SECONDS)
            pixels, state.pixels = state.pixels, None
            return pixels, state.number, state.moment

    def _silent(self) -> DataError:
        if self._state.number >= 0:
            return DataError(
                f"{self.name}: no frame for {self._stall_seconds:g} s; the stream has stalled. "
                "Check its sender and the network."
            )
        if isinstance(self._source, int):
            return DataError(
                f"{self.name}: no picture comes from it. Check that it is plugged in, that you may "
                "use it, and that no other program does; another camera is another number."
            )
        return DataError(
            f"{self.name}: no picture comes from it. Check the address, its password, and that "
            "it is sending."
        )

    def close(self) -> None:
        """Ask the thread to end; one that hangs in a driver is left behind, it cannot block."""
        self._state.stop = True
        self._thread.join(timeout=_GRACE_SECONDS)
