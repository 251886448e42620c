"""Signals that ask for an end: a wish to stop, which the work at hand may finish first.

They are Ctrl-C, SIGTERM, and SIGHUP, which a terminal sends when it is closed; where SIGHUP was
ignored from the start, as ``nohup`` has it, it stays ignored.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

STDERR = 2  # the descriptor
Handler = Callable[[int, FrameType | None], None]


@contextmanager
def ctrl_c(said: str = "") -> Iterator[Callable[[], bool]]:
    """Let Ctrl-C, SIGTERM or SIGHUP ask for a stop after the step at hand; a second stops at once.

    Args:
        said: what whoever pressed Ctrl-C is told at once, where the step may be long.
    """
    asked: list[int] = []

    def ask(number: int, frame: object) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)
        if said and number == signal.SIGINT:  # a print might be in the middle of another
            os.write(STDERR, f"\n{said}\n".encode())

    with _handled_by(ask, (signal.SIGINT, *_others())):
        yield lambda: bool(asked)


@contextmanager
def stop_as_interrupt() -> Iterator[None]:
    """Take SIGTERM and SIGHUP as Ctrl-C.

    torchrun sends the first when another rank ended, and there is a reason.
    """

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    with _handled_by(stop, _others()):
        yield


def ignore_stop() -> None:
    """End in peace: torchrun, too, asks a rank to end as soon as it misses another."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _others() -> tuple[int, ...]:
    """SIGTERM, and SIGHUP where there is one that is not ignored."""
    hangup = getattr(signal, "SIGHUP", None)  # Windows has none
    if hangup is None or signal.getsignal(hangup) is signal.SIG_IGN:
        return (signal.SIGTERM,)
    return signal.SIGTERM, hangup


@contextmanager
def _handled_by(handler: Handler, numbers: tuple[int, ...]) -> Iterator[None]:
    """Let ``handler`` hear of signals meanwhile; outside the main thread none come."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, signal.SIG_DFL if old is None else old)
