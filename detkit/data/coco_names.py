"""The categories of a COCO file: a class by its name, and the id that annotations know it by.

Roboflow puts a root above the classes: a category of supercategory ``none``, often called as one
of them, that no object has. It is no class:

=============================================  =================================================
a root: no object is of it, its supercategory  left out, counted (``ROOTS``)
is ``none``, and it is another's supercategory
one that ``data.classes`` names                a class, as it was learned as one
a name that stands twice, as a root's does:    one class, of the id that objects have; counted
it is the supercategory of one of the two,     (``ROOTS``)
and objects have one of the ids at most
any other name that stands twice               refused, naming both ids
any other category without objects             a class: COCO's official files keep all 80
=============================================  =================================================
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detkit.data.coco_values import Id, is_number_as_text, read_id, shown_id, wrong_value
from detkit.data.listing import is_class_name
from detkit.errors import DataError, shown

ROOTS = "root categories without objects left out"
NO_PARENT = "none"  # what Roboflow writes as the supercategory of a root


@dataclass(frozen=True, slots=True)
class Category:
    """One entry of the list ``categories``."""

    number: Id
    name: str
    parent: str  # its supercategory; empty where none is named


@dataclass(frozen=True, slots=True)
class Categories:
    """The classes of a file."""

    number_of: Mapping[str, Id]  # id by name, in the order of the ids: numbers, then texts
    roots: int  # entries that are none
    as_text: int  # entries whose id is a number that is written as text


def read_categories(
    path: Path,
    block: Sequence[Mapping[str, Any]],
    used: Set[Id],
    classes: Collection[str] = (),
) -> Categories:
    """Read the classes of a file.

    Args:
        path: the file, for the messages.
        block: its list ``categories``.
        used: the ids that its annotations have.
        classes: those to expect; empty: any.

    Raises:
        DataError: an id or a name that is none, or that stands twice.
    """
    listed = [_category(path, index, entry) for index, entry in enumerate(block)]
    _check_numbers(path, listed)
    parents = {entry.parent for entry in listed}
    by_name: dict[str, list[Category]] = {}
    for entry in listed:
        if not (_is_root(entry, used, parents) and entry.name not in classes):
            by_name.setdefault(entry.name, []).append(entry)
    kept = [_one_of(path, group, used) for group in by_name.values()]
    kept.sort(key=lambda entry: (isinstance(entry.number, str), entry.number))
    return Categories(
        number_of={entry.name: entry.number for entry in kept},
        roots=len(listed) - len(kept),
        as_text=sum(
            is_number_as_text(entry.get("id"), category.number)
            for entry, category in zip(block, listed, strict=True)
        ),
    )


def _category(path: Path, index: int, entry: Mapping[str, Any]) -> Category:
    number, name, parent = read_id(entry.get("id")), entry.get("name"), entry.get("supercategory")
    if number is None:
        raise wrong_value(path, f"categories[{index}].id", "a whole number", entry.get("id"))
    if not is_class_name(name):
        raise wrong_value(path, f"categories[{index}].name", "a name", name)
    return Category(number, name, parent if isinstance(parent, str) else "")


def _check_numbers(path: Path, listed: Sequence[Category]) -> None:
    seen: set[Id] = set()
    for entry in listed:
        if entry.number in seen:
            raise DataError(f"{path}: category id {entry.number} stands twice. Number them apart.")
        seen.add(entry.number)


def _is_root(entry: Category, used: Set[Id], parents: Set[str]) -> bool:
    """Whether a category stands above others alone; ``none`` itself is the parent of any."""
    is_top = entry.parent == NO_PARENT != entry.name
    return is_top and entry.number not in used and entry.name in parents


def _one_of(path: Path, group: Sequence[Category], used: Set[Id]) -> Category:
    """Which of the categories of one name is the class."""
    if len(group) == 1:
        return group[0]
    below = [entry for entry in group if entry.parent == entry.name]
    taken = [entry for entry in group if entry.number in used] or below
    if below and len(taken) == 1:
        return taken[0]
    numbers = " and ".join(shown_id(entry.number) for entry in group)
    both = " Objects have both." * (sum(entry.number in used for entry in group) > 1)
    raise DataError(
        f"{path}: category {shown(group[0].name)} stands twice, with the ids {numbers}.{both} "
        "Rename one, or merge them: give all its annotations one id and remove the other."
    )
