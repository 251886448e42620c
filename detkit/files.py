"""Folders that are made, and files that appear whole under their final name or not at all."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from detkit.errors import DetkitError


def make_folder(folder: Path) -> None:
    """Make ``folder`` and those above it, where they are not there yet.

    Raises:
        DetkitError: it cannot be made, with the reason.
    """
    if folder.is_file():
        raise DetkitError(f"{folder}: is a file, but a folder is needed. Name another with --out.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise DetkitError(
            f"{folder}: this folder cannot be made ({problem.strerror}). Name another with --out."
        ) from problem


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a place beside ``path`` to write to, which takes its name once all went well.

    The folder is made when missing. The place ends as ``path`` does, for libraries that choose a
    format by the ending.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)  # there only when writing failed


def write_atomically(path: Path, text: str) -> None:
    """Write a text file whole or not at all: a reader never sees half of it."""
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def cache_folder() -> Path:
    """The user's cache folder for what detkit can always make or fetch again; it may not exist.

    ``DETKIT_CACHE`` names another. Nothing in it is needed: it may be deleted at any time.
    """
    named = os.environ.get("DETKIT_CACHE")
    if named:
        return Path(named).expanduser()
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    elif sys.platform == "darwin":
        base = "~/Library/Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "detkit"
