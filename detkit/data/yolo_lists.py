"""Lists of images of YOLO text: a text with the path of an image a line.

Paths are relative to the dataset's folder, or to the list's own; darknet's lists are of the machine
that trained, ``/home/me/darknet/data/obj/0.jpg`` or ``C:\\darknet\\data\\obj\\0.jpg``. Nothing
outside the folder is ever looked at:

=========================================  ====================================================
a path below the folder, or in front of    that image
it the ``data/`` of CVAT and datumaro
an absolute path, or any where none is     the image below the folder whose path ends most like
right: no such image                       it, counted (``BY_END``); an ending may be missing
several that end as much like it           the one whose whole path is such an end; none such:
                                           refused, naming them
one alike in its name alone, where paths   passed over
of other lines are alike in folders
one in the folder of another split         passed over, unless the path names that folder
two paths that come to one image           refused, unless one ends as the other: read once
none                                       one that is missing (see ``settle.py``); where more
                                           are than may be, refused, saying why
a blank line                               passed over
a line that begins with ``#``              passed over, counted (``COMMENTS``)
=========================================  ====================================================
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from detkit.data.choose_splits import purpose_of
from detkit.data.image_index import ImageIndex
from detkit.data.listing import inner_path, read_text
from detkit.data.settle import allowed_unreadable
from detkit.errors import DataError, shown
from detkit.image_files import EXTENSIONS, UNREAD_EXTENSIONS

COMMENTS = "comments in lists of images passed over"
IN_FRONT = "data/"  # of all paths, in what CVAT and datumaro write
HEAD_BYTES = 1 << 14  # of a text, in which its first line must stand
QUOTES = "\"'"
SHOWN = 2  # images that a path may mean, in an error


@dataclass(slots=True)
class ListedImages:
    """The images that a list names."""

    images: list[str] = field(default_factory=list)  # below the root, in order; may stand twice
    by_end: set[str] = field(default_factory=set)  # of them
    comments: int = 0


def is_list(path: Path) -> bool:
    """Whether the first line of a text, comments apart, ends as an image's path does."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES).decode("utf-8-sig", errors="replace")
    except OSError:
        return False
    lines = [line.strip() for line in head.splitlines()]
    first = next((line for line in lines if line and not line.startswith("#")), "")
    return first.strip(QUOTES).lower().endswith((*EXTENSIONS, *UNREAD_EXTENSIONS))


def read_image_list(root: Path, path: Path, max_unreadable: float) -> ListedImages:
    """Read a list of images, as the table of this module says.

    Args:
        root: the dataset's folder.
        path: the list.
        max_unreadable: greatest share of images that may be missing.

    Raises:
        DataError: a line that cannot be understood; more missing images, by what they are called.
    """
    reader = _Reader(root, path)
    lines = [(number, text.strip()) for number, text in enumerate(read_text(path).splitlines(), 1)]
    stand = {text: reader.as_it_stands(text) for _, text in lines if text}
    comments = {text for text, name in stand.items() if not name and text.startswith("#")}
    found = ListedImages(comments=sum(text in comments for _, text in lines))
    lines = [(number, text) for number, text in lines if text and text not in comments]
    ends = _find_by_end(reader, lines, stand)
    lost: list[tuple[int, str]] = []
    first: dict[str, tuple[int, str]] = {}  # by an image, the line that came to it first
    for number, text in lines:
        name = stand[text] or ends.get(text, "")
        if not name:
            lost.append((number, text))
            name = reader.missing(number, text)
        elif not stand[text]:
            found.by_end.add(name)
        before, other = first.setdefault(name, (number, text))
        if text != other and name in found.by_end and not _ends_alike(text, other):
            raise DataError(
                f"{path}: lines {before} and {number}, {shown(other)} and {shown(text)}, both come "
                f"to {name}. Write each image's own path below {root}."
            )
        found.images.append(name)
    _check_lost(root, path, lost, len(found.images), max_unreadable)
    return found


def _find_by_end(
    reader: _Reader, lines: Sequence[tuple[int, str]], stand: Mapping[str, str]
) -> dict[str, str]:
    """The images of the paths that are not right as they stand, by what is written."""
    is_right = any(stand.values())  # then a path below the folder says where its image was
    first = {text: number for number, text in reversed(lines)}
    ends = {
        text: reader.by_end(number, text)
        for text, number in first.items()
        if not stand[text] and not (is_right and inner_path(text))
    }
    deepest = max((common for common, _ in ends.values()), default=0)
    return {text: name for text, (common, name) in ends.items() if common or not deepest}


class _Reader:
    def __init__(self, root: Path, path: Path) -> None:
        self.root = root
        self.path = path
        self.tops = [f"{top}/" for top in {os.path.abspath(root), os.path.realpath(root)}]
        self.folder = path.parent.relative_to(root).as_posix()

    def as_it_stands(self, text: str) -> str:
        """The image that a path names as it is written; empty: it is not there."""
        for top in self.tops:
            text = text.removeprefix(top)
        inner = inner_path(text)
        names = [] if inner is None else [inner, inner.removeprefix(IN_FRONT)]
        if not os.path.isabs(text):
            beside = inner_path(posixpath.normpath(f"{self.folder}/{text}"))
            names += [] if beside is None else [beside]
        return next((name for name in names if os.path.isfile(self.root / name)), "")

    def by_end(self, number: int, text: str) -> tuple[int, str]:
        """The image whose path ends most like a written one, empty for none.

        Returns:
            How many folders are alike, and the image.

        Raises:
            DataError: several end alike.
        """
        text = text.strip(QUOTES)
        common, hits = self._index.by_end(text, self._foreign)
        if len(hits) > 1:
            more = f" and {len(hits) - SHOWN} more" if len(hits) > SHOWN else ""
            raise DataError(
                f"{self.path}: line {number}: {shown(text)} is not there, and may be "
                f"{' or '.join(hits[:SHOWN])}{more}. Write paths relative to {self.root}."
            )
        return common, hits[0] if hits else ""

    def missing(self, number: int, text: str) -> str:
        """Where an image would lie that is not there."""
        inner = inner_path(text) or inner_path("/".join(_parts(text)))
        if inner is None:
            raise DataError(
                f"{self.path}: line {number}: {shown(text)} is no path of an image. "
                "Write paths relative to the dataset's folder."
            )
        return inner

    @cached_property
    def _index(self) -> ImageIndex:
        return ImageIndex(self.root)

    @cached_property
    def _foreign(self) -> Collection[str]:
        """Folders of other splits than the list's."""
        own = purpose_of(self.path.stem)
        if own in ("", "trainval"):
            return ()
        folders = {part for name in self._index.names for part in name.split("/")[:-1]}
        return {folder for folder in folders if purpose_of(folder) not in ("", own)}


def _ends_alike(one: str, other: str) -> bool:
    """Whether one of two paths is an end of the other, or the same."""
    left, right = _parts(one), _parts(other)
    count = min(len(left), len(right))
    return left[-count:] == right[-count:]


def _parts(text: str) -> list[str]:
    """The parts of a path of any system that name something."""
    parts = text.strip(QUOTES).replace("\\", "/").split("/")
    return [part for part in parts if part not in ("", ".", "..") and not part.endswith(":")]


def _check_lost(
    root: Path, path: Path, lost: list[tuple[int, str]], total: int, max_unreadable: float
) -> None:
    """Refuse more lost images than may be missing, where paths of elsewhere may be the reason."""
    elsewhere = [each for each in lost if inner_path(each[1]) is None or len(_parts(each[1])) > 1]
    if not elsewhere or len(lost) <= allowed_unreadable(max_unreadable, total):
        return
    line, text = elsewhere[0]
    raise DataError(
        f"{path}: line {line}: {shown(text)} is not there, and no image below {root} ends like it; "
        f"so it is with {len(lost)} of {total} lines. Put the images below {root}, or write their "
        "paths relative to it."
    )
