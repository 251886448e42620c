"""Loader processes that die under a run: one sentence, at the next batch and never within a step.

torch learns of a death by a signal and raises from its handler, wherever the main process stands:
in the middle of an optimiser's step, too, which then is half taken. Here the handler raises only
while a batch is waited for, where it must: a process killed in the middle of a message leaves the
main one reading for ever. A death at any other time is found before the next batch is asked for.

Reading order: ``batches_of``, ``WorkerWatch``.
"""

from __future__ import annotations

import multiprocessing
import pickle
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any

from torch.utils.data import DataLoader

from detkit.errors import DetkitError

SIGCHLD: int | None = getattr(signal, "SIGCHLD", None)  # Windows has none
LAST_SECONDS, POLL_SECONDS = 1.0, 0.01
# torch's own error; and those of a batch that waits in a queue, whose images the process held
DEATH_SHOWS_AS = (RuntimeError, OSError, EOFError, pickle.UnpicklingError)
REASONS = {
    "SIGKILL": "as the system does with a process where memory runs out",
    "SIGBUS": "as where the shared memory is full that images come through (/dev/shm; a container "
    "has 64 MB of it unless it is started with, say, --shm-size=8g)",
    "SIGSEGV": "as where a library crashes over an image",
    "SIGTERM": "which somebody or the system sent to it",
}


class LoaderError(DetkitError):
    """A loader process that is no more."""


def batches_of(loader: DataLoader[Any], advice: str) -> Iterator[Any]:
    """What ``loader`` gives, until a process of it dies.

    Args:
        loader: with or without processes.
        advice: what to try where one dies.

    Raises:
        LoaderError: what it died of, as far as its exit code tells.
    """
    watch = WorkerWatch()
    before = set(multiprocessing.active_children())
    batches = iter(loader)
    watch.workers = [each for each in multiprocessing.active_children() if each not in before]
    with watch.watching():
        while True:
            gone = False
            try:
                with watch.waiting():
                    batch = next(batches)
            except StopIteration:
                return
            except DEATH_SHOWS_AS:
                gone = watch.are_gone()
                if not gone:
                    raise
            if gone:  # said from out here, so that nothing holds torch's half of it any longer:
                del batches  # while that lives, torch raises at every signal that is still to come
                raise LoaderError(f"{died_of(watch.exit_code())} {advice}")
            yield batch


class WorkerWatch:
    """The processes of one loader, and the signal that tells when a child has ended."""

    def __init__(self) -> None:
        self.workers: list[BaseProcess] = []
        self.is_waiting = False
        self.before: Any = None  # handler of the signal

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Take the signal over from torch while this loader is used; only where signals come."""
        is_main = threading.current_thread() is threading.main_thread()
        if SIGCHLD is None or not self.workers or not is_main:
            yield
            return
        self.before = signal.signal(SIGCHLD, self.hear)
        try:
            yield
        finally:
            if signal.getsignal(SIGCHLD) == self.hear:  # else another loader stands on top
                signal.signal(SIGCHLD, self.before or signal.SIG_DFL)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Around the wait for a batch, in which a death is raised at once."""
        self.is_waiting = True
        try:
            self.check()
            yield
        finally:
            self.is_waiting = False

    def hear(self, number: int, frame: FrameType | None) -> None:
        """A child of this process has ended: one of the workers, perhaps, or of a loader below."""
        if self.is_waiting:
            self.check()
        below = getattr(self.before, "__self__", None)
        if isinstance(below, WorkerWatch):
            below.hear(number, frame)

    def check(self) -> None:
        """Raise where a worker has ended otherwise than by itself."""
        if any(worker.exitcode for worker in self.workers):
            raise RuntimeError("a loader process has ended")

    def are_gone(self) -> bool:
        """Whether a worker is no more, or is about to be: a connection ends before its process."""
        until = time.monotonic() + LAST_SECONDS
        while self.workers and time.monotonic() < until:
            if any(worker.exitcode is not None for worker in self.workers):
                return True
            time.sleep(POLL_SECONDS)
        return False

    def exit_code(self) -> int:
        """That of a worker that is no more; of one that did not end by itself before others."""
        codes = [worker.exitcode for worker in self.workers if worker.exitcode is not None]
        return next((code for code in codes if code), 0)


def died_of(exit_code: int) -> str:
    """``a loader process was ended by SIGKILL, as ...``, in a sentence."""
    if exit_code >= 0:
        return f"A loader process ended with exit code {exit_code}."
    try:
        name = signal.Signals(-exit_code).name
    except ValueError:  # one without a name
        name = f"signal {-exit_code}"
    reason = f", {REASONS[name]}" if name in REASONS else ""
    return f"A loader process was ended by {name}{reason}."
