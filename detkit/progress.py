"""How long work goes on, and what there is to say of it, told to whoever asked for the work.

What works takes a ``Progress`` and says nothing else; a command hands in a ``ConsoleProgress``,
which speaks on the error stream.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol

from detkit.visible import visible_name

Count = Callable[[int, int], None]  # (done, in all)
TICK_SECONDS = 30.0  # between two lines of progress where no terminal shows a bar


class Progress(Protocol):
    """Who is told how work goes on."""

    def say(self, line: str) -> None:
        """Take note of something that was found or begun."""

    def warn(self, line: str) -> None:
        """Take note of something that went wrong and is passed over."""

    def count(self, title: str) -> AbstractContextManager[Count]:
        """Follow what comes in a number, such as images; it is told how many are done."""


class Silent:
    """Nobody."""

    def say(self, line: str) -> None:
        """Keep it."""

    def warn(self, line: str) -> None:
        """Keep it."""

    def count(self, title: str) -> AbstractContextManager[Count]:
        """Follow nothing."""
        return nullcontext(lambda done, total: None)


NO_PROGRESS = Silent()


class ConsoleProgress:
    """The error stream: a bar where a person watches it, else a line every half minute."""

    def say(self, line: str) -> None:
        """Print a line."""
        print(line, file=sys.stderr, flush=True)

    def warn(self, line: str) -> None:
        """Print a line."""
        print(line, file=sys.stderr, flush=True)

    @contextmanager
    def count(self, title: str) -> Iterator[Count]:
        """Show a bar, or print lines."""
        if not sys.stderr.isatty():
            yield ticker(title)
            return
        from rich.console import Console
        from rich.markup import escape
        from rich.progress import Progress as Bar

        with Bar(console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(escape(visible_name(title)), total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)


class OutputProgress(ConsoleProgress):
    """The same, whose lines are part of what a command prints."""

    def say(self, line: str) -> None:
        """Print a line."""
        print(line, flush=True)


def ticker(name: str, clock: Callable[[], float] = time.monotonic) -> Count:
    """Progress as lines for a log, at most one every ``TICK_SECONDS``."""
    start = said = clock()

    def tick(done: int, total: int) -> None:
        nonlocal said
        if clock() - said < TICK_SECONDS or done == total:
            return
        said = clock()
        taken = said - start
        left = taken / done * (total - done)
        print(
            f"{name}: {done} of {total} images in {taken:.0f} s, about {left:.0f} s left",
            file=sys.stderr,
        )

    return tick
