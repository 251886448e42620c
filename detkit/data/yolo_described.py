"""What a YOLO folder says of itself: class names and splits, in whichever file it has.

``data.yaml``, else darknet's ``obj.data`` (``yolo_data_file.py``); where neither has names, a list
of them (``yolo_names.py``).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from detkit.data.listing import read_text
from detkit.data.yolo_data_file import DATA_ENDING, find_data_file, read_data_file
from detkit.data.yolo_names import MAX_NAMES, Described, find_names, read_names
from detkit.data.yolo_yaml import YAML_ENDINGS, YAML_NAMES, read_yaml
from detkit.errors import DataError

ENDINGS = (*YAML_ENDINGS, DATA_ENDING)  # of files that stand for the folder that they lie in


def describe(root: Path, names_file: str = "") -> Described:
    """Read the names and splits of a YOLO folder.

    Args:
        root: the folder.
        names_file: which file holds them, below ``root``; without it the usual ones are looked
            for: ``data.yaml``, any one ``*.yaml`` with names, darknet's ``*.data``, a list.

    Raises:
        DataError: a file that cannot be read as such, or several that could be meant.
    """
    if names_file:
        found = _read(root, root / names_file)
    elif yaml := _find_yaml(root):
        found = read_yaml(root, yaml)
    elif data := find_data_file(root):
        found = read_data_file(root, data)
    else:
        return find_names(root)
    if found.names:
        return found
    listed = find_names(root)
    return replace(found, source=listed.source or found.source, names=listed.names)


def _read(root: Path, path: Path) -> Described:
    ending = path.suffix.lower()
    if ending in YAML_ENDINGS:
        return read_yaml(root, path)
    return read_data_file(root, path) if ending == DATA_ENDING else read_names(path)


def _find_yaml(root: Path) -> Path | None:
    for name in YAML_NAMES:
        if (root / name).is_file():
            return root / name
    others = [
        path
        for path in sorted(root.glob("*.y*ml"))
        if path.suffix in YAML_ENDINGS and path.is_file() and "names:" in read_text(path, MAX_NAMES)
    ]
    if len(others) > 1:
        raise DataError(
            f"{root}: holds {' and '.join(path.name for path in others[:2])}, both with names. "
            "Say which counts with data.names_file=FILE."
        )
    return others[0] if others else None
