"""How every command ends: with an exit code, and one line on the error stream where it failed.

Reading order: ``ended`` (a command's work, and what stopped it), then ``reader_may_leave`` (what
happens where nobody reads on, as in ``detkit zoo list | head``).
"""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

from detkit.errors import DetkitError

FAILED = 2  # argparse's code too
INTERRUPTED = 130  # the shell's code for Ctrl-C
OUTPUT = "standard output"  # what a stream is called in a sentence; it has no path
ADVICE = {
    errno.ENOENT: "Check the path.",
    errno.ENAMETOOLONG: "Name a shorter path.",
    errno.EACCES: "Take a place you have the right to.",
    errno.EPERM: "Take a place you have the right to.",
    errno.EROFS: "Take a place that can be written.",
    errno.ENOSPC: "Free some space, or take another disk.",
    errno.EDQUOT: "Free some space, or take another disk.",
}
CHECK = "Check that it is there and can be used."  # for all other reasons


def ended(
    name: str,
    work: Callable[[], int | None],
    *,
    left: str = "",
    place: str | os.PathLike[str] = "a file",
) -> int:
    """Do a command's work, and say in one line what stopped it.

    Args:
        name: what stands after ``detkit``, such as "data get".
        work: does everything; what it returns is the exit code, and None means success.
        left: a sentence on what lies on disk after Ctrl-C or a failing disk.
        place: what a failing disk is named where the system does not say which file it was.

    Returns:
        The exit code: that of ``work``, 2 after an error, 130 after Ctrl-C.
    """
    after = f" {left}" if left else ""
    try:
        code = work() or 0
        if sys.stdout is not None:  # what cannot be printed is said here, not at Python's end
            sys.stdout.flush()
    except DetkitError as problem:
        print(f"detkit {name}: {problem}", file=sys.stderr)
        return FAILED
    except OSError as problem:  # whatever is not readable, writable, there, or has no space
        print(f"detkit {name}: {os_trouble(problem, place)}{after}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print(f"detkit {name}: stopped.{after}", file=sys.stderr)
        return INTERRUPTED
    return code


def os_trouble(problem: OSError, place: str | os.PathLike[str] = "a file") -> str:
    """An operating system's refusal as a sentence: which file, why, what to do.

    Args:
        problem: what was raised.
        place: named where the error names no file, as when a disk is full in mid-write.
    """
    file = place if problem.filename is None else problem.filename
    named = os.fsdecode(file) if isinstance(file, str | bytes | os.PathLike) else str(file)
    why = problem.strerror or str(problem) or type(problem).__name__
    advice = CHECK if problem.errno is None else ADVICE.get(problem.errno, CHECK)
    return f"{named}: cannot be used ({why}). {advice}"


# --------------------------------------------------------------- when nobody reads any longer


@contextmanager
def reader_may_leave() -> Iterator[None]:
    """Let a command go on in silence when the reader of its output goes, as ``head`` does.

    That nobody reads on is no failure of the work: files are written whole, training goes on, and
    the exit code is the command's own. Python would raise ``BrokenPipeError`` from whichever
    ``print`` fills the buffer, or complain when it ends. A full disk is another matter: it is said
    once, and then no more is written there.
    """
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (_outlet(stream) for stream in before)
    try:
        yield
    finally:
        try:
            for stream in (sys.stderr, sys.stdout):
                if stream is not None:
                    stream.flush()
        except OSError as problem:
            print(f"detkit: {os_trouble(problem)}", file=sys.stderr)
            raise SystemExit(FAILED) from None
        finally:
            sys.stdout, sys.stderr = before


class _Outlet(io.FileIO):
    """A file descriptor that is written to for as long as somebody takes it."""

    closed_there = False

    def write(self, data: ReadableBuffer, /) -> int:
        """Write, or drop what nobody will read.

        Raises:
            OSError: another reason than a reader who left; the first time alone.
        """
        if not self.closed_there:
            try:
                return super().write(data)
            except OSError as problem:
                self.closed_there = True
                if not isinstance(problem, BrokenPipeError):
                    raise OSError(problem.errno, problem.strerror, OUTPUT) from problem
        return memoryview(data).nbytes


def _outlet(stream: TextIO) -> TextIO:
    """The same stream over an outlet; what is no stream of Python's own stays as it is."""
    if type(stream) is not io.TextIOWrapper:  # a notebook's, a test's, or none at all
        return stream
    raw = getattr(stream.buffer, "raw", stream.buffer)  # unbuffered streams have no other
    if not isinstance(raw, io.FileIO):
        return stream
    stream.flush()
    outlet = _Outlet(raw.fileno(), "w", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(outlet),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
