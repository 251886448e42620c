"""Where tables of boxes lie below a folder, and which one an entry means."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from detkit.data.csv_dialects import COLUMNS
from detkit.data.csv_rows import ENDINGS
from detkit.data.formats.base import DatasetConfig
from detkit.data.listing import contents
from detkit.data.places import COUNTED, SPLIT, below_root
from detkit.errors import ConfigError, DataError
from detkit.files import leaves_folder

IN_FOLDER = "_annotations.csv"  # in the folder of each split, as Roboflow exports it
FOLDERS = ("", "annotations", "labels")  # below root, of tables that have their split's name
INNER = (IN_FOLDER, "labels/detections.csv")  # in the folder of each split; the second FiftyOne's


class CsvConfig(DatasetConfig):
    """``root`` is the table, or its folder; ``split`` is then the table's name: ``train``.

    Or ``split`` is the folder in it that holds images and ``_annotations.csv``, or a word of the
    table's column ``split``.
    """

    split: str = ""
    annotations: str = ""  # the table, below root; {split} in it stands for the split
    images: str = ""  # the folder that paths begin at, below root; {split} as well


def table_places(root: Path) -> list[list[tuple[str, Path]]]:
    """Files that may be tables of boxes, with the split that each is by its place.

    Those of the root itself, of its folders of annotations, and of the folder of each split: where
    one of these has tables, those behind it belong to something else.
    """
    if root.is_file():
        return [[(root.stem, root)] if root.suffix.lower() in ENDINGS else []]
    places = [[(path.stem, path) for path in _tables_in(root / name)] for name in FOLDERS]
    for inner in INNER:
        paths = [path for path in sorted(root.glob(f"*/{inner}")) if path.is_file()]
        places.append([(path.relative_to(root).parts[0], path) for path in paths])
    return places


def named_tables(root: Path) -> list[tuple[str, Path]]:
    """All of :func:`table_places`."""
    return [found for place in table_places(root) for found in place]


def find_table(entry: CsvConfig, splits_of: Callable[[Path], Collection[str]]) -> Path:
    """Return the file that an entry means; it is there.

    Args:
        entry: its keys.
        splits_of: the splits that a table has in a column of its own; empty for other files.

    Raises:
        ConfigError: a folder, but no split.
        DataError: no such file, with what is there.
    """
    root, split = entry.root, entry.split
    if entry.annotations:
        return _named(root, entry.annotations, split)
    if root.is_file():
        if split and split != root.stem and split not in splits_of(root):
            raise ConfigError(
                f"data.split: {split!r} is not {root}. "
                "Leave split out, or let data.root be the folder."
            )
        return root
    if leaves_folder(split):
        raise ConfigError(f"data.split: {split!r} leaves {root}. Write a name.")
    if not root.is_dir():
        raise DataError(
            f"{root}: no such file or folder. Expected a CSV table with the columns "
            f"{','.join(COLUMNS)}; point to it with data.root=PATH."
        )
    if not split:
        raise ConfigError("data.split: missing; name the table, e.g. train of train.csv.")
    tables = named_tables(root)
    for name, path in tables:
        if name == split:
            return path
    with_column = [path for _, path in tables if split in splits_of(path)]
    if len(with_column) == 1:
        return with_column[0]
    raise DataError(f"{root / split}.csv: no such file; {contents(root)}. Check data.split.")


def _named(root: Path, annotations: str, split: str) -> Path:
    named = below_root(root, annotations).replace(SPLIT, split)
    if leaves_folder(named):
        raise ConfigError(
            f"data.annotations: {annotations!r} leaves {root}. {COUNTED} Write one below it."
        )
    if not (root / named).is_file():
        there = contents(root) if root.is_dir() else "data.root is no folder"
        raise DataError(f"data.annotations: {root / named} is no file; {there}. {COUNTED}")
    return root / named


def _tables_in(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        for path in sorted(folder.iterdir()):
            if path.suffix.lower() in ENDINGS and path.is_file():
                yield path
