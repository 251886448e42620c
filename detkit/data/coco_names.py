"""The categories of a COCO file: a class by its name, and the id that annotations know it by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from detkit.data.coco_values import read_whole, wrong_value
from detkit.data.listing import is_class_name
from detkit.errors import DataError, shown


def read_categories(path: Path, block: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """The id of each category by its name, in the order of the ids.

    Raises:
        DataError: an id or a name that is none, or that stands twice.
    """
    name_of: dict[int, str] = {}
    for index, entry in enumerate(block):
        number, name = read_whole(entry.get("id")), entry.get("name")
        if number is None:
            raise wrong_value(path, f"categories[{index}].id", "a whole number", entry.get("id"))
        if not is_class_name(name):
            raise wrong_value(path, f"categories[{index}].name", "a name", name)
        if number in name_of:
            raise DataError(f"{path}: category id {number} stands twice. Number them apart.")
        if name in name_of.values():
            raise DataError(
                f"{path}: category {shown(name)} stands twice. Rename one, or merge them."
            )
        name_of[number] = name
    return {name_of[number]: number for number in sorted(name_of)}
