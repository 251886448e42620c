"""What a YOLO dataset says of itself: class names and splits, in ``data.yaml`` or a list of names.

A ``data.yaml`` holds ``names`` (a list, or a mapping from number to name) and the paths ``train``,
``val``, ``test``. It is read as text alone: a class called ``no`` or ``1`` stays what it is, and
no tag of YAML makes anything. Paths are honoured where they stay below the folder; ``../train``,
as Roboflow writes it for ``train``, is taken for that.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from detkit.data.listing import inner_path, is_class_name, read_text
from detkit.errors import DataError, shown

YAML_NAMES = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
YAML_ENDINGS = (".yaml", ".yml")
LIST_NAMES = ("classes.txt", "obj.names", "classes.names", "labels/classes.txt")
SPLIT_KEYS = ("train", "val", "test")
MAX_YAML = 1 << 20  # bytes
MAX_CLASSES = 100_000  # a greater number is no class


@dataclass(frozen=True, slots=True)
class Described:
    """What the folder says of itself; empty where it says nothing."""

    source: Path | None = None  # where the names stand
    names: Mapping[int, str] = field(default_factory=dict)  # by class number
    splits: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # paths below the root
    keypoints: bool = False  # labels go on behind the box


def describe(root: Path, names_file: str = "") -> Described:
    """Read the names and splits of a YOLO folder.

    Args:
        root: the folder.
        names_file: which file holds them, below ``root``; without it the usual ones are looked
            for: ``data.yaml``, any one ``*.yaml`` with names, ``classes.txt``, ``obj.names``.

    Raises:
        DataError: a file that cannot be read as such, or several that could be meant.
    """
    if names_file:
        path = root / names_file
        is_yaml = path.suffix.lower() in YAML_ENDINGS
        return _read_yaml(root, path) if is_yaml else _read_list(path)
    for name in YAML_NAMES:
        if (root / name).is_file():
            return _read_yaml(root, root / name)
    others = [
        path
        for path in sorted(root.glob("*.y*ml"))
        if path.suffix in YAML_ENDINGS and path.is_file() and "names:" in read_text(path, MAX_YAML)
    ]
    if len(others) > 1:
        raise DataError(
            f"{root}: holds {' and '.join(path.name for path in others[:2])}, both with names. "
            "Say which counts in the entry's key names_file."
        )
    if others:
        return _read_yaml(root, others[0])
    for name in LIST_NAMES:
        if (root / name).is_file():
            return _read_list(root / name)
    return Described()


def number_names(names: Sequence[str], source: str) -> dict[int, str]:
    """Number class names from zero.

    Raises:
        DataError: a name that is empty or stands twice.
    """
    return _checked(dict(enumerate(names)), source)


def _checked(names: Mapping[int, Any], source: str) -> dict[int, str]:
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


def _read_list(path: Path) -> Described:
    lines = [line.strip() for line in read_text(path, MAX_YAML).splitlines()]
    while lines and not lines[-1]:
        lines.pop()
    return Described(path, number_names(lines, str(path)))


def _read_yaml(root: Path, path: Path) -> Described:
    try:
        content = yaml.load(read_text(path, MAX_YAML), Loader=yaml.BaseLoader)  # texts only
    except RecursionError:
        raise DataError(f"{path}: is nested too deep for a list of names. Repair it.") from None
    except (yaml.YAMLError, ValueError) as problem:  # ValueError: a character that cannot be
        said = " ".join(str(problem).split())
        raise DataError(f"{path}: not readable as YAML ({said}). Repair the file.") from None
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected keys such as names, train and val. Is this a data.yaml?")
    names = content.get("names", [])
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict):
        raise DataError(f"{path}: names: expected a list of class names. Write one a class.")
    numbered: dict[int, Any] = {}
    for key, name in names.items():
        number = int(key) if str(key).isdecimal() and len(str(key)) <= len(str(MAX_CLASSES)) else -1
        if number < 0:
            raise DataError(f"{path}: names: {shown(str(key))} is no class number. Count from 0.")
        numbered[number] = name
    return Described(
        source=path,
        names=_checked(numbered, f"{path}: names"),
        splits={key: _paths(root, content, key) for key in SPLIT_KEYS if content.get(key)},
        keypoints="kpt_shape" in content,
    )


def _paths(root: Path, content: Mapping[str, Any], key: str) -> tuple[str, ...]:
    """Paths of a split below the root; none where they lead elsewhere."""
    base = inner_path(content.get("path"))
    below = f"{base}/" if base is not None and os.path.isdir(root / base) else ""
    value = content[key]
    found = []
    for text in value if isinstance(value, list) else [value]:
        text = text.replace("\\", "/") if isinstance(text, str) else ""
        while text.startswith(("./", "../")):  # Roboflow writes ../train/images for train/images
            text = text.partition("/")[2]
        inner = inner_path(text)
        if inner is not None and os.path.exists(root / f"{below}{inner}"):
            found.append(f"{below}{inner}")
    return tuple(found)
