"""Ctrl-C and SIGTERM: a wish to stop, which the work at hand may finish first."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

STDERR = 2  # the descriptor


@contextmanager
def ctrl_c(said: str = "") -> Iterator[Callable[[], bool]]:
    """Let Ctrl-C (or SIGTERM) ask for a stop after the step at hand; a second stops at once.

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

    try:
        before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread, so no signals come here
        yield lambda: False
        return
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def stop_as_interrupt() -> Iterator[None]:
    """Take SIGTERM as Ctrl-C: torchrun sends it when another rank ended, and there is a reason."""

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():  # no signals come here
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def ignore_stop() -> None:
    """End in peace: torchrun, too, asks a rank to end as soon as it misses another."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
