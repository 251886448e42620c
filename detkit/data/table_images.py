"""Where the images lie that a table names: beside it, in a folder near it, or below the root.

A name is taken as a path below the folder that the images are in: the key ``images``, else the
first of the table's own folder and those of :data:`FOLDERS` that has one of them. What is not there
is looked for anywhere below the root by the end of its path, the longest that fits one file alone:
tables carry paths of the machine that they were made on, and of buckets. Names without an image's
ending (``image_id``) mean the image of that name, whatever its ending.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from detkit.data.counted import Counted
from detkit.data.csv_dialects import is_split
from detkit.data.listing import contents, inner_path
from detkit.data.places import COUNTED, SPLIT, below_root
from detkit.errors import ConfigError, DataError, shown
from detkit.files import leaves_folder
from detkit.image_files import EXTENSIONS, images_below

UNNAMED = "images that the table does not name left out"

# Below the root, with the split's name or that of its words that tells: train of train_labels.
FOLDERS = ("{split}", "images/{split}", "{split}/data", "images", "data", "img", ".")
PROBED = 50  # names that are looked for in each of these folders
SHOWN = 2  # files that a name may mean, in an error


@dataclass(slots=True)
class FoundImages:
    """The files of a table's images."""

    paths: list[Path]  # of each name
    by_end: list[int]  # which names were found by the end of their path
    home: Path  # the folder that names begin at
    noted: dict[str, int] = field(default_factory=dict)


def find_folder(root: Path, key: str, split: str) -> Path | None:
    """The folder that an entry's key ``images`` names; None where it names none.

    Raises:
        ConfigError: one that leaves ``root``.
        DataError: one that is not there.
    """
    if not key:
        return None
    named = below_root(root, key)
    if leaves_folder(named.replace(SPLIT, split)):
        raise ConfigError(f"data.images: {key!r} leaves {root}. {COUNTED} Write one below it.")
    folder = root / named.replace(SPLIT, split)
    if not folder.is_dir():
        raise DataError(f"data.images: {folder} is no folder; {contents(root)}. {COUNTED}")
    return folder


def find_table_images(
    names: Sequence[str],
    beside: Path,
    root: Path,
    where: Sequence[str],
    split: str = "",
    folder: Path | None = None,
) -> FoundImages:
    """Find the files of image names.

    Args:
        names: as the table writes them.
        beside: the table's folder.
        root: the entry's, which no image leaves.
        where: of each name, where it stands, for an error.
        split: its name, as folders may have it.
        folder: that the images are in; None: to be found.

    Returns:
        The files. One that is not there stands where it was looked for first.

    Raises:
        DataError: a name that leaves the folder and is nowhere in it, or may mean several files.
    """
    finder = _Finder(folder or root)
    home = folder or _home(finder, names, beside, root, split)
    paths: list[Path] = []
    by_end: list[int] = []
    for index, name in enumerate(names):
        inner = inner_path(name)
        path = None if inner is None else finder.in_folder(home, inner, where[index])
        if path is None:
            path = finder.by_end(name, where[index])
            by_end += [index] * (path is not None)
        if path is None and inner is None:
            raise DataError(
                f"{where[index]}: {shown(name)} is no path below the table's folder. "
                "Write paths relative to it, without '..'."
            )
        paths.append(home / str(inner) if path is None else path)
    noted = {}
    if folder is None and home != beside:
        place = os.path.relpath(home, root)
        missing = sum(not os.path.isfile(path) for path in paths)
        noted = {f"images found in {place}/": len(names) - len(by_end) - missing}
    return FoundImages(paths, by_end, home, noted)


def count_unnamed(paths: Iterable[Path], others: Iterable[str]) -> Counted:
    """How many images lie beside those of a table that it does not name.

    Args:
        paths: those that it names.
        others: names that other tables of the same folder have, which are no loss.
    """
    named: dict[Path, set[str]] = defaultdict(set)
    for path in paths:
        named[path.parent].add(path.name)
    left: list[Path] = []
    for folder, known in named.items():
        if folder.is_dir():
            left += sorted(folder / name for name in _names_in(folder) if name not in known)
    if not left:
        return Counted(0)
    elsewhere = {_parts(name)[-1] for name in others if _parts(name)}
    return Counted.of(p for p in left if p.name not in elsewhere and p.stem not in elsewhere)


def _home(finder: _Finder, names: Sequence[str], beside: Path, root: Path, split: str) -> Path:
    probed = [inner for name in names[:PROBED] if (inner := inner_path(name)) is not None]
    words = [split, *(word for word in re.split(r"[-_. ]", split) if is_split(word))]
    words = [word for word in words if word and not leaves_folder(word)]
    places = [place.replace(SPLIT, word) for place in FOLDERS for word in (words or [SPLIT])]
    for folder in (beside, *(root / place for place in dict.fromkeys(places))):
        if folder.is_dir() and any(finder.in_folder(folder, name, "") for name in probed):
            return folder
    return beside


class _Finder:
    """Files by their names, below one folder; what was listed once is kept."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self._stems: dict[Path, dict[str, list[str]]] = {}

    def in_folder(self, folder: Path, name: str, where: str) -> Path | None:
        """The file of a relative name, with or without an ending; None where it is not there."""
        path = folder / name
        if name.lower().endswith(EXTENSIONS):
            return path if os.path.isfile(path) else None
        if path.parent not in self._stems:
            stems: dict[str, list[str]] = defaultdict(list)
            for found in _names_in(path.parent) if path.parent.is_dir() else ():
                stems[os.path.splitext(found)[0]].append(found)
            self._stems[path.parent] = stems
        found_names = self._stems[path.parent].get(path.name, [])
        if len(found_names) > 1 and where:
            raise _several(where, name, found_names, path.parent)
        return path.parent / found_names[0] if found_names else None

    def by_end(self, name: str, where: str) -> Path | None:
        """The one file that the longest end of a path names; None where there is none."""
        for text in dict.fromkeys((name, unquote(name))):
            parts = _parts(text)
            if not parts:
                continue
            key = parts[-1] if parts[-1].lower().endswith(EXTENSIONS) else f"{parts[-1]}."
            found = self._below.get(key, [])
            for length in range(len(parts), 0, -1):
                ends = parts[-length:-1]
                fit = [p for p in found if list(PurePosixPath(p).parts[-length:-1]) == ends]
                if len(fit) > 1:
                    raise _several(where, name, fit, self.top)
                if fit:
                    return self.top / fit[0]
        return None

    @cached_property
    def _below(self) -> dict[str, list[str]]:
        """Paths below the top, by file name, and by name without ending and a dot."""
        found: dict[str, list[str]] = defaultdict(list)
        for path in sorted(images_below(self.top)):
            name = path.rpartition("/")[2]
            found[name].append(path)
            found[f"{os.path.splitext(name)[0]}."].append(path)
        return found


def _names_in(folder: Path) -> list[str]:
    return [
        entry.name
        for entry in os.scandir(folder)
        if entry.name.lower().endswith(EXTENSIONS) and not entry.name.startswith(".")
    ]


def _parts(name: str) -> list[str]:
    return [part for part in re.split(r"[/\\]", name) if part not in ("", ".", "..")]


def _several(where: str, name: str, found: Sequence[str], top: Path) -> DataError:
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return DataError(
        f"{where}: {shown(name)} may be {' or '.join(sorted(found)[:SHOWN])}{more} in {top}. "
        "Say where the images are with data.images=FOLDER."
    )
