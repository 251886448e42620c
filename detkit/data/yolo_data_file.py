"""Class names and splits of a YOLO dataset as darknet's ``obj.data`` holds them.

It has lines ``key = value``: ``names`` is a list of names, ``train`` and ``valid`` are lists of
images. Paths are of the machine that trained; of each the longest end that is there below the
folder, or beside the file, is taken, and one of which none is there is not followed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from detkit.data.listing import inner_path, read_text
from detkit.data.yolo_names import MAX_NAMES, Described, read_names
from detkit.errors import DataError

DATA_ENDING = ".data"
FOLDERS = ("", "data", "cfg")  # below the root, where such a file lies
SPLIT_KEYS = ("train", "valid", "val", "test")
KEYS = (*SPLIT_KEYS, "names")


def find_data_file(root: Path) -> Path | None:
    """The file of that kind in a folder; None: there is none.

    Raises:
        DataError: several, that do not say the same.
    """
    for folder in FOLDERS:
        paths = [p for p in sorted((root / folder).glob(f"*{DATA_ENDING}")) if _values(p)]
        said = {path: read_data_file(root, path) for path in paths}
        said = {path: each for path, each in said.items() if each.names or each.splits}
        first = next(iter(said), None)
        for path, each in said.items():
            if first is not None and each != said[first]:
                names = " and ".join(p.relative_to(root).as_posix() for p in (first, path))
                raise DataError(
                    f"{root}: holds {names}, which name different files. Say which counts with "
                    "data.names_file=FILE."
                )
        if first is not None:
            return first
    return None


def read_data_file(root: Path, path: Path) -> Described:
    """Read such a file; splits have the names of its keys.

    Args:
        root: the folder that paths are looked for in.
        path: the file.

    Raises:
        DataError: it is none, or its list of names cannot be read.
    """
    values = _values(path)
    if not values:
        raise DataError(f"{path}: has none of the keys {', '.join(KEYS)}. Is this darknet's file?")
    places = {key: _find(root, path, values.get(key, ""), Path.exists) for key in SPLIT_KEYS}
    splits = {key: (place,) for key, place in places.items() if place}
    names = _find(root, path, values.get("names", ""), Path.is_file)
    listed = read_names(root / names) if names else Described()
    return Described(listed.source, listed.names, splits)


def _values(path: Path) -> dict[str, str]:
    """The values that are known, by key; none of a file of another kind."""
    try:
        lines = read_text(path, MAX_NAMES).splitlines()
    except DataError:
        return {}
    pairs = [line.partition("=") for line in lines if not line.lstrip().startswith("#")]
    found = {key.strip().lower(): value.strip() for key, _, value in pairs}
    return {key: value for key, value in found.items() if key in KEYS and value}


def _find(root: Path, path: Path, text: str, is_there: Callable[[Path], bool]) -> str:
    """A path below the root by the longest end of ``text`` that is there; empty: none is."""
    parts = [part for part in text.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    beside = path.parent.relative_to(root).as_posix()
    for start in range(len(parts)):
        end = "/".join(parts[start:])
        for name in (end, f"{beside}/{end}"):
            inner = inner_path(name)
            if inner is not None and is_there(root / inner):
                return inner
    return ""
