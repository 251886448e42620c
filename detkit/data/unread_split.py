"""A split that a folder has for training by its name, and of which nothing can be read.

Where ``train`` lacks its labels, or its list or JSON is empty or cut short, what is left is ``val``
or ``test``. These are to measure on, so nothing is learned from them unless somebody says so.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from detkit.data.choose_splits import purpose_of
from detkit.data.unrecognised import Split
from detkit.image import UNREAD_EXTENSIONS, files_below, images_below

LEARNED = ("trainval", "train")
MEASURED = ("val", "test")
# below the root, where folders and files have the names of splits
PLACES = (
    *(".", "images", "labels", "data", "Annotations", "annotations", "JPEGImages"),
    *("ImageSets/Main", "ImageSets"),
)
# a file that is a split by its name: train.txt, instances_train2017.json
OF_TRAINING = re.compile(r"(instances_)?train(val)?\d*\.(txt|json|csv)", re.IGNORECASE)
LABELS = (".txt", ".xml", ".json", ".csv")


def find_unread(root: Path, splits: Sequence[Split]) -> str:
    """What to say of a split for training that is there and is not read; empty: there is none.

    Args:
        root: the dataset's folder.
        splits: those that are read, of which none is chosen by its name.
    """
    if not splits or not root.is_dir() or any(s.purpose not in MEASURED for s in splits):
        return ""
    place = next((path for name in PLACES for path in sorted((root / name).glob("*"))
                  if _is_for_training(path)), None)  # fmt: skip
    if place is None:
        return ""
    names = [split.name for split in splits]
    return (
        f"{root}: {place.relative_to(root).as_posix()} is for training by its name, and nothing "
        f"that can be read goes with it; only {' and '.join(names)} can. Look whether its images, "
        "its annotation files and the list that names them are there and whole, or learn from "
        f"what is to measure on with data.split={names[0]}."
    )


def _is_for_training(path: Path) -> bool:
    if path.is_file():
        return OF_TRAINING.fullmatch(path.name) is not None
    if purpose_of(path.name) not in LEARNED:
        return False
    return any(
        True for _ in chain(images_below(path), files_below(path, LABELS + UNREAD_EXTENSIONS))
    )
