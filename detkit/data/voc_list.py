"""Lists of ids, ``ImageSets/Main/NAME.txt``, as the devkit and exporters write them.

=========================================  ====================================================
``000001  1``, ``000002 -1`` throughout    a class's own list: the flags are left off, unless
                                           files have such names
``0.jpg``, ``JPEGImages/cam1/0.jpg``       the ids ``0`` and ``cam1/0``, where files bear it out
``"my photo"``                             without the quotes, as CVAT writes ids with spaces
UTF-8 or UTF-16, with a byte-order mark    read alike, with either kind of line ends
=========================================  ====================================================
"""

from __future__ import annotations

import codecs
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from detkit.data.voc_layout import Layout
from detkit.errors import DataError, shown
from detkit.files import leaves_folder
from detkit.image_files import EXTENSIONS

FLAGGED = re.compile(r"(.*\S)\s+(?:-1|0|1)")  # "id  1" in a class's own list
QUOTED = re.compile(r'"([^"]+)"(\s+(?:-1|0|1))?')


def read_list(path: Path, layout: Layout | None = None) -> list[str]:
    """Return the ids of a list, one a line; repeated ones too.

    Args:
        path: of the list.
        layout: where the files lie that tell an id from a file's name; None: not to be asked.

    Raises:
        DataError: a list without ids; two images of different folders that have one id.
    """
    lines = [line.strip() for line in _text(path).splitlines() if line.strip()]
    if not lines:
        raise DataError(f"{path}: lists no images. Write one id a line.")
    is_id = _known_ids(layout)
    if not any(is_id(line) for line in lines):
        lines = [_unquoted(line) for line in lines]
    flagged = [FLAGGED.fullmatch(line) for line in lines]
    if all(flagged) and not any(is_id(line) for line in lines):  # "photo 1" may be an id
        lines = [match[1] for match in flagged if match]
    folders: dict[str, str] = {}
    ids = []
    for line in lines:
        left_off, image_id = _without_ending(line, is_id)
        if folders.setdefault(image_id, left_off) != left_off:
            raise DataError(
                f"{path}: {shown(line)} and an image of another folder are both {image_id}, as no "
                "annotation file lies in a folder of that name. Write ids, the names of the "
                "annotation files without .xml."
            )
        ids.append(image_id)
    return ids


def _text(path: Path) -> str:
    data = path.read_bytes()
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return data.decode("utf-16" if wide else "utf-8-sig", errors="replace")


def _unquoted(line: str) -> str:
    match = QUOTED.fullmatch(line)
    return line if match is None else match[1] + (match[2] or "")


def _known_ids(layout: Layout | None) -> Callable[[str], bool]:
    """What tells whether an annotation file or an image of a name is there."""
    if layout is None:
        return lambda _: False
    images: set[str] = set()
    listed = False

    def is_id(name: str) -> bool:
        nonlocal listed
        if leaves_folder(name):
            return False
        if os.path.isfile(layout.annotations / f"{name}.xml"):
            return True
        if not listed:  # only where a name lacks its annotation file
            images.update(layout.image_files())
            listed = True
        return name in images

    return is_id


def _without_ending(line: str, is_id: Callable[[str], bool]) -> tuple[str, str]:
    """``JPEGImages/0.jpg`` as ``JPEGImages/`` and the id ``0``, where a file bears that out."""
    stem, ending = os.path.splitext(line)
    if ending.lower() not in (*EXTENSIONS, ".xml") or is_id(line):
        return "", line
    return next(((left, name) for left, name in _tails(stem) if is_id(name)), ("", line))


def _tails(path: str) -> Iterator[tuple[str, str]]:
    """``a/b/c`` as (``""``, ``a/b/c``), (``a/``, ``b/c``) and (``a/b/``, ``c``)."""
    path = path.replace("\\", "/")
    starts = [0, *(place + 1 for place, letter in enumerate(path) if letter == "/")]
    for start in starts:
        yield path[:start], path[start:]
