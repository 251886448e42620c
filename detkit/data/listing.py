"""What a dataset's folder holds: images below it, their ids, and text files read with care."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import TypeGuard

from detkit.errors import DataError
from detkit.files import is_plain, leaves_folder
from detkit.image_files import images_below

MAX_TEXT = 1 << 31  # bytes of an annotation file; COCO's largest has 469 MB
LONGEST_NAME = 200  # characters of a class
UNREAD_KIND = "images of a kind that is not read"
SHOWN_ENTRIES = 8  # of a folder, in an error


def read_text(path: Path, largest: int = MAX_TEXT) -> str:
    """Read a text file in UTF-8, its byte-order mark left off.

    Raises:
        DataError: a file that is missing, too large, cannot be opened, or is in another encoding.
    """
    try:
        if path.stat().st_size > largest:
            raise DataError(f"{path}: has more than {largest:,} bytes. Is this the right file?")
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file. Check the path.") from None
    except OSError as problem:
        raise DataError(
            f"{path}: cannot be read ({problem.strerror}). Check that it is a file you may open."
        ) from problem
    except UnicodeDecodeError:
        raise DataError(f"{path}: not a text file in UTF-8. Save it as UTF-8.") from None


def find_images(folder: Path) -> list[str]:
    """Names of the images below ``folder`` at any depth, relative to it, sorted.

    Raises:
        DataError: a name that is no text, so that no list of files could hold it.
    """
    found = sorted(images_below(folder))
    for name in found:
        if leaves_folder(name):
            raise DataError(f"{folder}: the file name {name!r} is no readable text. Rename it.")
    return found


def short_ids(names: Sequence[str]) -> list[str]:
    """The shortest form of different relative file names that tells them all apart.

    The file's stem, as VOC has it; the path without ending where two stems are alike; the whole
    path where two of these are.
    """
    paths = [PurePosixPath(name) for name in names]
    for ids in ([path.stem for path in paths], [str(path.with_suffix("")) for path in paths]):
        if max(Counter(ids).values(), default=1) == 1:
            return ids
    return [str(path) for path in paths]


def of_unread_kind(names: Sequence[str]) -> dict[str, int]:
    """How image files whose endings are none that is read are counted, with one as an example."""
    return {f"{UNREAD_KIND} (first: {min(names)})": len(names)} if names else {}


def inner_path(name: object) -> str | None:
    """A file name below a folder with ``/`` between its parts; None for what is or may be none."""
    if not isinstance(name, str) or leaves_folder(name):
        return None
    path = PurePosixPath(name.replace("\\", "/"))
    return str(path) if path.name else None


def is_class_name(name: object) -> TypeGuard[str]:
    """Whether ``name`` can be shown in a table: some text on one line, not a page of it."""
    return isinstance(name, str) and 0 < len(name) <= LONGEST_NAME and is_plain(name)


def number_in(text: str) -> float:
    """The number that a cell or a word of a text file holds; NaN where it holds none."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def contents(folder: Path) -> str:
    """What lies in a folder, in a few words for an error."""
    names = sorted(
        entry.name + "/" * entry.is_dir()
        for entry in folder.iterdir()
        if not entry.name.startswith(".")
    )
    if not names:
        return "it is empty"
    shown = ", ".join(repr(name)[1:-1] for name in names[:SHOWN_ENTRIES])
    more = len(names) - SHOWN_ENTRIES
    return f"it holds {shown}" + (f" and {more} more" if more > 0 else "")
