"""How long transfers go, on the error stream: a bar for a person, a line or two for a log."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING

from detkit.files import in_words
from detkit.remote import Watch
from detkit.visible import visible, visible_name

if TYPE_CHECKING:
    from rich.progress import Progress


class ConsoleWatch(Watch):
    """A bar in a terminal; elsewhere one line when work begins and one when it is done."""

    def __init__(self) -> None:
        self._bar: Progress | None = None
        self._what = ""
        self._began = 0.0
        self._first = self._done = 0  # bytes

    def __enter__(self) -> ConsoleWatch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, what: BaseException | None, at: TracebackType | None
    ) -> None:
        self._stop()

    def begin(self, what: str, done: int, total: int | None) -> None:
        """Show the bar, or say the size."""
        self._stop()
        self._what, self._began = what, time.monotonic()
        self._first = self._done = done
        if sys.stderr.isatty():
            self._show_bar(total)
            return
        size = "" if total is None else f" ({in_words(total)})"
        self.say(what + size + (f", {in_words(done)} of it are there" if done else ""))

    def move(self, done: int) -> None:
        """Move the bar."""
        self._done = done
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=done)

    def end(self) -> None:
        """Take the bar away and say how long it took."""
        self._stop()
        seconds = time.monotonic() - self._began
        self.say(f"{self._what}: done, {in_words(self._done - self._first)} in {seconds:.0f} s")

    def say(self, line: str) -> None:
        """Print a line, above the bar where there is one."""
        if self._bar is None:
            print(line, file=sys.stderr, flush=True)
        else:
            self._bar.console.print(visible(line), markup=False, highlight=False, soft_wrap=True)

    def _show_bar(self, total: int | None) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._bar.add_task(visible_name(self._what), total=total, completed=self._first)
        self._bar.start()

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
