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
from detkit.signals import stop_as_interrupt
from detkit.system_errors import memory_trouble, os_trouble, ran_out_of
from detkit.visible import visible, visible_lines

FAILED = 2  # argparse's code too
INTERRUPTED = 130  # the shell's code for Ctrl-C
OUTPUT = "standard output"  # what a stream is called in a sentence; it has no path


def ended(
    name: str,
    work: Callable[[], int | None],
    *,
    left: str | Callable[[], str] = "",
    place: str | os.PathLike[str] | None = None,
    less: str = "",
) -> int:
    """Do a command's work, and say in one line what stopped it.

    SIGTERM and SIGHUP are Ctrl-C here, so that files that are half written go.

    Args:
        name: what stands after ``detkit``, such as "data get".
        work: does everything; what it returns is the exit code, and None means success.
        left: a sentence on what lies on disk after Ctrl-C or a failing disk; or what finds out.
        place: what a failing disk is named where the system does not say which file it was.
        less: how the command needs less memory, to go on with "or".

    Returns:
        The exit code: that of ``work``, 2 after an error, 130 after Ctrl-C.
    """
    said, code, ends_in_left = "", FAILED, True
    with stop_as_interrupt():
        try:
            done = work() or 0
            check_printed()
            return done
        except DetkitError as problem:
            said, ends_in_left = str(problem), False
        except OSError as problem:  # whatever is not readable, writable, there, or has no space
            said = os_trouble(problem, place)
        except KeyboardInterrupt:
            said, code = "stopped.", INTERRUPTED
        except exhaustion() as problem:
            what = ran_out_of(problem)
            if not what:
                raise
            said = memory_trouble(what, less)
    after = (left if isinstance(left, str) else left()) if ends_in_left else ""
    print(f"detkit {name}: {visible(f'{said} {after}'.rstrip())}", file=sys.stderr)
    return code


def exhaustion() -> tuple[type[BaseException], ...]:
    """Kinds of errors that memory that ran out may show as; asked for when one was raised."""
    cv2 = sys.modules.get("cv2")
    return (MemoryError, RuntimeError) if cv2 is None else (MemoryError, RuntimeError, cv2.error)


# --------------------------------------------------------------- when nobody reads any longer


@contextmanager
def reader_may_leave() -> Iterator[None]:
    """Let a command go on in silence when the reader of its output goes, as ``head`` does.

    That nobody reads on is no failure of the work: files are written whole, training goes on, and
    the exit code is the command's own. Python would raise ``BrokenPipeError`` from whichever
    ``print`` fills the buffer, or complain when it ends. Where the disk is full that the output
    goes to, the work goes on as well; but it is said when all is done, and is a failure.
    """
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (_outlet(stream) for stream in before)
    try:
        yield
    finally:
        try:
            check_printed()
        except OSError as problem:
            print(f"detkit: {os_trouble(problem)}", file=sys.stderr)
            raise SystemExit(FAILED) from None
        finally:
            sys.stdout, sys.stderr = before


def check_printed() -> None:
    """Have what was printed written out.

    Raises:
        OSError: some of it could not be, for another reason than a reader who left; said once.
    """
    for stream in (sys.stderr, sys.stdout):
        if stream is None:
            continue
        stream.flush()
        buffer = getattr(stream, "buffer", None)
        outlet = getattr(buffer, "raw", buffer)
        if isinstance(outlet, _Outlet) and outlet.problem is not None:
            problem, outlet.problem = outlet.problem, None
            raise problem


class _Outlet(io.FileIO):
    """A file descriptor that is written to for as long as somebody takes it."""

    closed_there = False
    is_terminal = False
    problem: OSError | None = None  # to be told, by who asks for it

    def write(self, data: ReadableBuffer, /) -> int:
        """Write, or drop what nobody will read."""
        if not self.closed_there:
            try:
                return super().write(data)
            except OSError as problem:
                self.closed_there = True
                hung_up = self.is_terminal and problem.errno == errno.EIO  # its window is closed
                if not isinstance(problem, BrokenPipeError) and not hung_up:
                    self.problem = OSError(problem.errno, problem.strerror, OUTPUT)
        return memoryview(data).nbytes


class _Visible(io.TextIOWrapper):
    """A stream for people: what would not be seen of a text is written out."""

    def write(self, text: str, /) -> int:
        """Write, whoever printed it."""
        super().write(visible_lines(text, terminal=self.isatty()))
        return len(text)


def _outlet(stream: TextIO) -> TextIO:
    """The same stream over an outlet; what is no stream of Python's own stays as it is.

    A name that its encoding cannot write, as in a C locale, is escaped, as Python does on stderr;
    so is what nobody would see in it.
    """
    if type(stream) is not io.TextIOWrapper:  # a notebook's, a test's, or none at all
        return stream
    raw = getattr(stream.buffer, "raw", stream.buffer)  # unbuffered streams have no other
    if not isinstance(raw, io.FileIO):
        return stream
    stream.flush()
    outlet = _Outlet(raw.fileno(), "w", closefd=False)
    outlet.is_terminal = stream.isatty()
    return _Visible(
        outlet if stream.write_through else io.BufferedWriter(outlet),  # python -u: at once
        encoding=stream.encoding,
        errors="backslashreplace" if stream.errors == "strict" else stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
