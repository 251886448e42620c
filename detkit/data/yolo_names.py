"""The class names of YOLO text, by number: what a folder says of itself, and lists of names.

A list has one name a line. Some programs leave the same list in the folder of every split
(labelImg's ``classes.txt``, Roboflow's ``_darknet.labels``): these must agree, or one go on where
another ends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from detkit.data.listing import is_class_name, read_text
from detkit.errors import DataError, shown

LIST_NAMES = (
    *("classes.txt", "obj.names", "classes.names", "_darknet.labels"),
    *("labels/classes.txt", "images/classes.txt", "data/obj.names", "data/classes.txt"),
)
OTHER_LISTS = ("*.names", "data/*.names")  # of any name, where these are not there
OF_SPLITS = (
    *("*/_darknet.labels", "*/classes.txt", "*/obj.names"),
    *("labels/*/classes.txt", "images/*/classes.txt", "*/labels/classes.txt"),
)
MAX_NAMES = 1 << 20  # bytes of a file of names
MAX_CLASSES = 100_000  # a greater number is no class


@dataclass(frozen=True, slots=True)
class Described:
    """What the folder says of itself; empty where it says nothing."""

    source: Path | None = None  # where the names stand
    names: Mapping[int, str] = field(default_factory=dict)  # by class number
    splits: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # paths below the root
    keypoints: bool = False  # labels go on behind the box


def number_names(names: Sequence[str], source: str) -> dict[int, str]:
    """Number class names from zero.

    Raises:
        DataError: a name that is empty or stands twice.
    """
    return check_names(dict(enumerate(names)), source)


def check_names(names: Mapping[int, Any], source: str) -> dict[int, str]:
    """Class names by number, in the order of the numbers.

    Raises:
        DataError: a name that is empty or no text, or stands twice.
    """
    checked: dict[int, str] = {}
    for number in sorted(names):
        name = names[number].strip() if isinstance(names[number], str) else None
        if not is_class_name(name):
            raise DataError(f"{source}: class {number} has no name that can be read. Correct it.")
        if name in checked.values():
            raise DataError(
                f"{source}: the name {shown(name)} stands twice. Rename one of the classes."
            )
        checked[number] = name
    return checked


def read_names(path: Path) -> Described:
    """Read a list of names.

    Raises:
        DataError: a file that is none.
    """
    lines = [line.strip() for line in read_text(path, MAX_NAMES).splitlines()]
    while lines and not lines[-1]:
        lines.pop()
    return Described(path, number_names(lines, str(path)))


def find_names(root: Path) -> Described:
    """The list of names in a folder, or those of its splits, which are one; else nothing.

    Raises:
        DataError: a list that cannot be read, or several of different names.
    """
    for name in LIST_NAMES:
        if (root / name).is_file() and (found := read_names(root / name)).names:
            return found
    for patterns in (OTHER_LISTS, OF_SPLITS):
        found = _longest(root, [p for each in patterns for p in sorted(root.glob(each))])
        if found.names:
            return found
    return Described()


def _longest(root: Path, paths: Sequence[Path]) -> Described:
    """The longest of lists of which each is the beginning of it."""
    lists = [read_names(path) for path in paths if path.is_file()]
    longest = max(lists, key=lambda each: len(each.names), default=Described())
    for each in lists:
        if any(longest.names[number] != name for number, name in each.names.items()):
            names = " and ".join(
                str(one.source.relative_to(root)) for one in (longest, each) if one.source
            )
            raise DataError(
                f"{root}: {names} number different class names. Say which counts with "
                "data.names_file=FILE."
            )
    return longest
