"""A split that a folder has for training by its name, and of which nothing can be read.

Where ``train`` lacks its labels, or its list or JSON is empty or cut short, what is left is ``val``
or ``test``. These are to measure on, so nothing is learned from them unless somebody says so. Where
``val`` is the one that cannot be read, a part of ``train`` is held out, and that is said.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from detkit.data.choose_splits import purpose_of
from detkit.data.formats.base import Split
from detkit.image_files import UNREAD_EXTENSIONS, files_below, images_below

LEARNED = ("trainval", "train")
MEASURED = ("val", "test")
# below the root, where folders and files have the names of splits
PLACES = (
    *(".", "images", "labels", "data", "Annotations", "annotations", "JPEGImages"),
    *("ImageSets/Main", "ImageSets"),
)
# a file that is a split by its name: train.txt, instances_train2017.json
OF_SPLIT = re.compile(
    r"(?:instances_)?((?:train(?:val)?|val(?:id|idation)?|test)\d*)\.(?:txt|json|csv)",
    re.IGNORECASE,
)
LABELS = (".txt", ".xml", ".json", ".csv")


def find_unread(root: Path, splits: Sequence[Split]) -> str:
    """What to say of a split for training that is there and is not read; empty: there is none.

    Args:
        root: the dataset's folder.
        splits: those that are read, of which none is chosen by its name.
    """
    if not splits or not root.is_dir() or any(s.purpose not in MEASURED for s in splits):
        return ""
    place = _find_place(root, LEARNED)
    if place is None:
        return ""
    names = [split.name for split in splits]
    return (
        f"{root}: {place.relative_to(root).as_posix()} is for training by its name, and nothing "
        f"that can be read goes with it; only {' and '.join(names)} can. Look whether its images, "
        "its annotation files and the list that names them are there and whole, or learn from "
        f"what is to measure on with data.split={names[0]}."
    )


def find_unread_to_measure_on(root: Path, splits: Sequence[Split]) -> str:
    """A split to measure on that is there and is not read, from ``root``; empty: there is none.

    Args:
        root: the dataset's folder.
        splits: those that are read.
    """
    if not root.is_dir() or not any(split.purpose in LEARNED for split in splits):
        return ""
    if any(split.purpose in MEASURED for split in splits):
        return ""
    place = _find_place(root, MEASURED)
    return "" if place is None else place.relative_to(root).as_posix()


def _find_place(root: Path, purposes: Sequence[str]) -> Path | None:
    """The first file or folder that is by its name a split for one of ``purposes``."""
    for name in PLACES:
        for path in sorted((root / name).glob("*")):
            if _is_for(path, purposes):
                return path
    return None


def _is_for(path: Path, purposes: Sequence[str]) -> bool:
    if path.is_file():
        named = OF_SPLIT.fullmatch(path.name)
        return named is not None and purpose_of(named[1]) in purposes
    if purpose_of(path.name) not in purposes:
        return False
    return any(
        True for _ in chain(images_below(path), files_below(path, LABELS + UNREAD_EXTENSIONS))
    )
