"""How every command ends: with an exit code, and one line on the error stream where it failed."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable

from detkit.errors import DetkitError

FAILED = 2  # argparse's code too
INTERRUPTED = 130  # the shell's code for Ctrl-C
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
        return work() or 0
    except DetkitError as problem:
        print(f"detkit {name}: {problem}", file=sys.stderr)
        return FAILED
    except OSError as problem:  # whatever is not readable, writable, there, or has no space
        print(f"detkit {name}: {os_trouble(problem, place)}{after}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print(f"detkit {name}: stopped.{after}", file=sys.stderr)
        return INTERRUPTED


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
