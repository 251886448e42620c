"""Files and folders flushed to the disk: a power cut takes nothing that was said to be kept.

A system writes what it is given some seconds later, and a new name may reach the disk before the
content does: after a power cut it stands for an empty file. So content is flushed first, then it is
renamed, then the folder that holds the name is flushed.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path

if sys.platform != "win32":
    import fcntl

# What some network file systems answer where they cannot flush.
NO_FLUSH = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}


def flush(path: Path) -> None:
    """Wait until a file's content, or the names in a folder, is on the disk.

    Where that cannot be asked for (folders on Windows, some network file systems) nothing is done.

    Raises:
        OSError: the disk did not take it: it is full, or fails.
    """
    is_folder = path.is_dir()
    if is_folder and sys.platform == "win32":
        return
    descriptor = os.open(path, os.O_RDWR if sys.platform == "win32" else os.O_RDONLY)
    try:
        _sync(descriptor)
    except OSError as problem:
        if problem.errno not in NO_FLUSH:
            raise OSError(problem.errno, problem.strerror, str(path)) from problem
    finally:
        os.close(descriptor)


def _sync(descriptor: int) -> None:
    if sys.platform == "darwin":  # whose fsync leaves it in the memory of the disk
        try:
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
            return
        except OSError as problem:
            if problem.errno not in NO_FLUSH:
                raise
    os.fsync(descriptor)


def flush_tree(folder: Path) -> None:
    """Wait until a folder and all that is in it is on the disk.

    On Linux that is one call for its whole file system: asked for one by one, each of thousands of
    files waits for the disk again.

    Raises:
        OSError: as in :func:`flush`.
    """
    if _syncfs is not None:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            if _syncfs(descriptor):
                code = ctypes.get_errno()
                raise OSError(code, os.strerror(code), str(folder))
        finally:
            os.close(descriptor)
        return
    for place, _, names in os.walk(folder, topdown=False):
        for name in names:
            path = Path(place, name)
            if not path.is_symlink():
                flush(path)
        flush(Path(place))


def make_lasting_folder(folder: Path) -> None:
    """Make ``folder`` and those above it where they are missing, each name flushed.

    Raises:
        OSError: it cannot be made.
    """
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:  # "File exists" would not tell what is in the way
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder)) from None
    for each in reversed(made):
        flush(each.parent)


_syncfs: Callable[[int], int] | None = (
    getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None) if sys.platform == "linux" else None
)
