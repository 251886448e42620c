"""The splits of a folder whose annotations are tables, or VIA's files."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from detkit.data.csv_places import table_places
from detkit.data.csv_table import image_names, looks_like_table
from detkit.data.formats.base import Split
from detkit.data.via import count_images, via_files
from detkit.errors import DataError

PurposeOf = Callable[[str], str]  # what a name says that a split is for


def find_csv(root: Path, purpose_of: PurposeOf) -> list[Split]:
    """The splits of the tables of a folder, or of a table; empty where there are none.

    Raises:
        DataError: several tables, one of which has splits of its own.
    """
    for place in table_places(root):
        tables = [
            (name, path)
            for name, path in place  # a folder that is no split's is a dataset of its own
            if (name == path.stem or purpose_of(name)) and looks_like_table(path)
        ]
        if not tables:
            continue
        found = [splits_of_table(name, path, purpose_of) for name, path in tables]
        for (_, path), splits in zip(tables, found, strict=True):
            if len(tables) > 1 and len(splits) > 1:
                raise DataError(
                    f"{path}: has splits of its own ({', '.join(s.name for s in splits)}), and "
                    f"other tables lie beside it. Say data.root={path}."
                )
        return [split for splits in found for split in splits]
    return []


def splits_of_table(name: str, path: Path, purpose_of: PurposeOf) -> list[Split]:
    """A table as the one split ``name``, or the splits that its own column says."""
    named = image_names(path)
    if [*named] == [""]:
        return [Split(name, len(named[""]), _purpose(name, purpose_of))]
    return [Split(word, len(images), purpose_of(word)) for word, images in named.items()]


def find_via_files(root: Path, purpose_of: PurposeOf) -> list[Split]:
    """The splits of VIA's files in a folder, or of one of them; empty where there are none."""
    return [Split(name, count_images(path), purpose_of(name)) for name, path in via_files(root)]


def _purpose(name: str, purpose_of: PurposeOf) -> str:
    """What a table is for, by a word of its name: ``annotations_train``, ``oidv6-train-...``."""
    words = (name, *re.split(r"[-_. ]", name))
    return next((kind for word in words if (kind := purpose_of(word))), "")
