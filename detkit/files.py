"""Folders that are made, and files that appear whole under their final name or not at all."""

from __future__ import annotations

import ntpath
import os
import shutil
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from detkit.errors import DetkitError

_NOT_PLAIN = ("Cc", "Cs", "Zl", "Zp")  # Unicode's controls, surrogates and line separators
LONGEST_PATH = 1024  # characters of a relative path; above it something else went wrong


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


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Give a new folder beside ``folder``, which takes its name once all went well.

    Raises:
        DetkitError: it cannot be made or renamed, with the reason.
    """
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        os.replace(temporary, folder)
    except OSError as problem:
        where = problem.filename or folder
        raise DetkitError(
            f"{folder}: cannot be written ({where}: {problem.strerror}). Nothing was left behind."
        ) from problem
    finally:
        shutil.rmtree(temporary, ignore_errors=True)  # there only when writing failed


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


def leaves_folder(name: str) -> bool:
    """Whether joining ``name`` to a folder could lead out of it, on any system.

    True as well for what can be no file's name: text that is not plain, pages of it.
    """
    parts = name.replace("\\", "/").split("/")
    absolute = name.startswith(("/", "\\")) or bool(ntpath.splitdrive(name)[0])
    return absolute or ".." in parts or not is_plain(name) or len(name) > LONGEST_PATH


def is_plain(text: str) -> bool:
    """Whether a text can be shown on one line: no control characters, no halves of characters."""
    return not any(unicodedata.category(character) in _NOT_PLAIN for character in text)
