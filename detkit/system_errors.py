"""What the system refuses and what runs out, as sentences: which file, why, what to do."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
FREE_SPACE = "Free some space, or take another disk."
LESS_MEMORY = "Close something else that needs it"
ADVICE = {
    errno.ENOENT: "Check the path.",
    errno.ENAMETOOLONG: "Name a shorter path.",
    errno.EACCES: "Take a place you have the right to.",
    errno.EPERM: "Take a place you have the right to.",
    errno.EROFS: "Take a place that can be written.",
    **dict.fromkeys(NO_SPACE, FREE_SPACE),
    errno.EFBIG: "Take a disk and a limit (ulimit -f) for larger files.",
    errno.EMFILE: "Raise the limit of open files: ulimit -n 4096.",
    errno.ENFILE: "Close something else that has many files open.",
    errno.ENOMEM: f"{LESS_MEMORY}.",
    errno.EAGAIN: "Raise the limit of processes (ulimit -u), or take fewer: data.workers=0.",
    errno.EIO: "The disk or the network behind it fails; take another place.",
    errno.ESTALE: "The network file system was mounted anew; start again.",
}
CHECK = "Check that it is there and can be used."  # for all other reasons
UNNAMED = "The system does not say of which file."
FULL = 1 << 16  # bytes; a disk with less is what a write failed for that gives no reason
CPU_ALLOCATOR = "DefaultCPUAllocator"  # what torch's error of a failed allocation names
CV2_NO_MEMORY = -4  # cv2.Error.StsNoMem


def os_trouble(problem: OSError, place: str | os.PathLike[str] | None = None) -> str:
    """An operating system's refusal as a sentence.

    Args:
        problem: what was raised.
        place: named where the error names no file, as when a disk is full in mid-write.
    """
    file = place if problem.filename is None else problem.filename
    why = problem.strerror or str(problem) or type(problem).__name__
    if file is None:
        return f"{why}. {ADVICE.get(problem.errno or 0, UNNAMED)}"
    named = os.fsdecode(file) if isinstance(file, str | bytes | os.PathLike) else str(file)
    return f"{named}: cannot be used ({why}). {advice_on(problem)}"


def advice_on(problem: OSError) -> str:
    """What to do about a refusal."""
    return CHECK if problem.errno is None else ADVICE.get(problem.errno, CHECK)


@contextmanager
def naming(path: Path, temporary: Path | None = None) -> Iterator[None]:
    """Around the writing of a file: an error names it, and says so where the disk is full.

    A write that fails names no file, and libraries that encode pictures give no reason either.

    Args:
        path: the name to give.
        temporary: the name, of a file or a folder, under which it is written first.
    """
    try:
        yield
    except OSError as problem:
        own = "" if problem.filename is None else os.fsdecode(problem.filename)
        if own and not (temporary is not None and own.startswith(str(temporary))):
            raise
        number, why = problem.errno, problem.strerror or str(problem)
        if number is None and is_full(path.parent):
            number, why = errno.ENOSPC, os.strerror(errno.ENOSPC)
        raise OSError(number, why, str(path)) from problem


def is_full(folder: Path) -> bool:
    """Whether the disk of a folder has no space left."""
    try:
        return shutil.disk_usage(folder).free < FULL
    except OSError:
        return False


def ran_out_of(problem: BaseException) -> str:
    """``memory`` or ``GPU memory``, where an error says that it ran out; else nothing.

    Of a CPU's memory torch raises a plain RuntimeError, so its text alone tells; OpenCV's error has
    a number. Neither library is imported here: what raised has been.
    """
    if isinstance(problem, MemoryError):
        return "memory"
    torch, cv2 = sys.modules.get("torch"), sys.modules.get("cv2")
    if torch is not None and isinstance(problem, torch.OutOfMemoryError):
        return "GPU memory"
    if isinstance(problem, RuntimeError) and CPU_ALLOCATOR in str(problem):
        return "memory"
    if cv2 is not None and isinstance(problem, cv2.error):
        return "memory" if getattr(problem, "code", 0) == CV2_NO_MEMORY else ""
    return ""


def memory_trouble(what: str, less: str = "") -> str:
    """The sentence about memory that ran out.

    Args:
        what: ``memory`` or ``GPU memory``.
        less: how to need less of it, to go on with "or"; nothing where there is no way.
    """
    return f"{what} ran out. {LESS_MEMORY}{f', or {less}' if less else ''}."
