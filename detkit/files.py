"""Folders that are made, and files that appear whole under their final name or not at all."""

from __future__ import annotations

import hashlib
import ntpath
import os
import secrets
import shutil
import sys
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detkit.errors import DetkitError
from detkit.flushing import flush, flush_tree, make_lasting_folder
from detkit.system_errors import naming

if TYPE_CHECKING:
    from numpy.typing import NDArray

LOOK = 1024  # bytes at the start of a file that tell whether it is a web page, or text
_HTML_STARTS = (b"<!doctype html", b"<html", b"<head", b"<body", b"<script", b"<title", b"<meta")
_XHTML_START = b"<?xml"  # of other XML as well, so that <html must follow
_BEFORE = b"\xef\xbb\xbf \t\r\n"  # a byte order mark and blank space
_NOT_TEXT = bytes(set(range(32)) - set(b"\t\n\f\r\x1b"))
_NOT_PLAIN = ("Cc", "Cs", "Zl", "Zp")  # Unicode's controls, surrogates and line separators
BROKEN = (  # what numpy raises over a file that it did not write so
    OSError,
    ValueError,
    KeyError,
    EOFError,
    NotImplementedError,
    RuntimeError,
    MemoryError,
    SyntaxError,
    zipfile.BadZipFile,
    zlib.error,
)
LONGEST_PART = 255  # characters of a file's name, on every common disk; asked for more, it raises
LONGEST_PATH = 1024  # characters of a relative path; above it something else went wrong


def make_folder(folder: Path, named_by: str = "--out") -> None:
    """Make ``folder`` and those above it, where they are not there yet.

    Args:
        folder: the folder.
        named_by: what a person names another one with, for the messages.

    Raises:
        DetkitError: it cannot be made, with the reason.
    """
    if folder.is_file():
        raise DetkitError(
            f"{folder}: is a file, but a folder is needed. Name another with {named_by}."
        )
    try:
        make_lasting_folder(folder)
    except OSError as problem:
        raise DetkitError(
            f"{folder}: this folder cannot be made ({problem.strerror}). Name another with "
            f"{named_by}."
        ) from problem


def check_space(folder: Path, needed: int, what: str, named_by: str = "--out") -> None:
    """Refuse before the first byte what would fill the disk.

    Args:
        folder: that it would lie in.
        needed: bytes.
        what: in a word, for the message.
        named_by: what a person names another folder with, for the message.

    Raises:
        DetkitError: less than ``needed`` bytes are free, saying how many are missing.
    """
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DetkitError(
            f"{folder}: {what} needs {in_words(needed)}, and {in_words(free)} are free. Make room "
            f"for {in_words(needed - free)} more, or name a folder on another disk with "
            f"{named_by}."
        )


def in_words(size: int) -> str:
    """A number of bytes for people: ``451 MB``, in powers of 1,000."""
    for unit, scale in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= scale:
            return f"{size / scale:.{1 if unit == 'GB' else 0}f} {unit}"
    return f"{size} bytes"


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's contents, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def whole_file(path: Path, *, lasting: bool = True) -> Iterator[Path]:
    """Give a place beside ``path`` to write to, which takes its name once all went well.

    The folder is made when missing. The place ends as ``path`` does, for libraries that choose a
    format by the ending. An error of the system names ``path``.

    Args:
        path: the file.
        lasting: it is whole after a power cut as well, for which every file waits for the disk.
            Without it, files that can be made again are flushed together at the end, by
            :func:`detkit.flushing.flush_tree`.
    """
    if lasting:
        make_lasting_folder(path.parent)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{_own_mark()}{path.suffix}")
    try:
        with naming(path, temporary):
            yield temporary
            if lasting:
                flush(temporary)
            os.replace(temporary, path)
            if lasting:
                flush(path.parent)
    finally:
        temporary.unlink(missing_ok=True)  # there only when writing failed


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Give a new folder beside ``folder``, which takes its name once all went well.

    What has the name is whole after a power cut as well.

    Raises:
        DetkitError: it cannot be made or renamed, with the reason.
    """
    temporary = folder.with_name(_own_mark())
    try:
        make_lasting_folder(folder.parent)
        temporary.mkdir()
        yield temporary
        flush_tree(temporary)
        os.replace(temporary, folder)
        flush(folder.parent)
    except OSError as problem:
        where = problem.filename or folder
        raise DetkitError(
            f"{folder}: cannot be written ({where}: {problem.strerror}). Nothing was left behind."
        ) from problem
    finally:
        shutil.rmtree(temporary, ignore_errors=True)  # there only when writing failed


def _own_mark() -> str:
    """A temporary name that no other writer has: no thread, and no process of another container.

    In a folder that two containers share, both may have the same number.
    """
    return f".detkit-{os.getpid()}-{secrets.token_hex(4)}"


def read_arrays(path: Path, *names: str) -> dict[str, NDArray[Any]]:
    """Read arrays of an ``.npz`` file; no code in it is run.

    Raises:
        ValueError: it is not there, damaged, or lacks one of them.
    """
    import numpy as np  # here: most of who needs this file needs no arrays

    try:
        with path.open("rb") as file:  # numpy leaves a bad file open
            with zipfile.ZipFile(file):
                pass  # numpy would take other kinds of files, too
            file.seek(0)
            with np.load(file, allow_pickle=False) as arrays:
                return {name: arrays[name] for name in names}
    except BROKEN as problem:
        raise ValueError(f"{path}: no arrays {', '.join(names)} can be read") from problem


def write_atomically(path: Path, text: str, *, lasting: bool = True) -> None:
    """Write a text file whole or not at all, as :func:`whole_file` does."""
    with whole_file(path, lasting=lasting) as temporary:
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
    long = len(name) > LONGEST_PATH or any(len(part) > LONGEST_PART for part in parts)
    return absolute or ".." in parts or not is_plain(name) or long


def is_plain(text: str) -> bool:
    """Whether a text can be shown on one line: no control characters, no halves of characters."""
    return not any(unicodedata.category(character) in _NOT_PLAIN for character in text)


def is_html(start: bytes) -> bool:
    """Whether a file that starts like this is a web page; ``LOOK`` bytes of it are enough."""
    text = start.lstrip(_BEFORE).lower()
    return text.startswith(_HTML_STARTS) or (text.startswith(_XHTML_START) and b"<html" in text)


def is_text(start: bytes) -> bool:
    """Whether a file that starts like this is text, where numbers or an archive are expected.

    Binary files have a zero or another control character among their first bytes.
    """
    return bool(start) and not any(byte in _NOT_TEXT for byte in start)
