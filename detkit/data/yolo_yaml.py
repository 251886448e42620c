"""Class names and splits of a YOLO dataset as ``data.yaml`` holds them.

It has ``names`` (a list, or a mapping from number to name) and the paths ``train``, ``val``,
``test``. It is read as text alone: a class called ``no`` or ``1`` stays what it is, and no tag of
YAML makes anything. Paths are honoured where they stay below the folder; ``../train``, as Roboflow
writes it for ``train``, is taken for that.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from detkit.data.listing import inner_path, read_text
from detkit.data.yolo_names import MAX_CLASSES, MAX_NAMES, Described, check_names
from detkit.errors import DataError, shown

YAML_NAMES = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
YAML_ENDINGS = (".yaml", ".yml")
SPLIT_KEYS = ("train", "val", "test")


def read_yaml(root: Path, path: Path) -> Described:
    """Read a ``data.yaml``.

    Raises:
        DataError: a file that is none.
    """
    try:
        content = yaml.load(read_text(path, MAX_NAMES), Loader=yaml.BaseLoader)  # texts only
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
        names=check_names(numbered, f"{path}: names"),
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
        if not isinstance(text, str) or not text:
            continue
        text = text.replace("\\", "/")
        while text.startswith(("./", "../")):  # Roboflow writes ../train/images for train/images
            text = text.partition("/")[2]
        inner = "" if text in ("", ".") else inner_path(text)
        if inner is not None and os.path.exists(root / f"{below}{inner}"):
            found.append(f"{below}{inner}".rstrip("/"))
    return tuple(found)
