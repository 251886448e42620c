"""CSV: one line ``path,x1,y1,x2,y2,name`` an object, as keras-retinanet has it.

Coordinates are pixels, continuous and zero-based, with exclusive right and bottom edges: the
house's boxes as they stand. (A table made from VOC's numbers without change is one-based; take one
off x1 and y1.) Paths are relative to the table's folder. A line ``path,,,,,`` is an image without
objects. A header is optional; with one, columns may stand in any order and carry other usual names
(``filename``, ``xmin``, ``class``, ...), and ``difficult``, ``width`` and ``height`` are read too.

What becomes of bad data (the rest is in the table of ``detkit/data/settle.py``):

=========================================  ====================================================
a coordinate missing or no number          dropped as a box without numbers, counted
an object that stands twice                read once, counted (``REPEATED``)
a line of another length                   refused, naming the line
a box without a name, or a name alone      refused, naming the line
a path that leaves the folder              refused, naming the line
columns parted by semicolon or tab         refused, naming what was found
a header that lacks a column               refused, naming the column
text that is not UTF-8, no CSV, no lines   refused, naming the file
=========================================  ====================================================
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from detkit.data.base import DATASETS, Annotations, DatasetConfig, DatasetFormat
from detkit.data.labelling import Labels
from detkit.data.listing import (
    contents,
    inner_path,
    is_class_name,
    number_in,
    read_text,
    short_ids,
)
from detkit.data.settle import Draft, settle
from detkit.errors import ConfigError, DataError, shown
from detkit.files import leaves_folder

REPEATED = "repeated lines read once"

COLUMNS = ("path", "x1", "y1", "x2", "y2", "name")  # without a header, in this order
OPTIONAL = ("difficult", "width", "height")
ALSO_CALLED = {
    **dict.fromkeys(("image", "image_path", "img_path", "filename", "file_name", "file"), "path"),
    **{"xmin": "x1", "ymin": "y1", "xmax": "x2", "ymax": "y2"},
    **{"x_min": "x1", "y_min": "y1", "x_max": "x2", "y_max": "y2"},
    **dict.fromkeys(("class", "class_name", "label", "category"), "name"),
}
SIDES = ("x1", "y1", "x2", "y2")
IN_FOLDER = "_annotations.csv"  # in the folder of each split, as Roboflow exports it
OTHER_DELIMITERS = {";": "semicolons", "\t": "tabs", "|": "bars"}
TRUE = ("1", "true", "yes")


class CsvConfig(DatasetConfig):
    """``root`` is the table, or its folder; ``split`` is then the table's name: ``train``.

    Or ``split`` is the folder in it that holds images and ``_annotations.csv``.
    """

    split: str = ""


@dataclass(slots=True)
class _Page:
    """What the table says of one image."""

    size: tuple[int, int] | None = None  # height, width
    names: list[str] = field(default_factory=list)  # one an object
    boxes: list[tuple[float, ...]] = field(default_factory=list)
    difficult: list[bool] = field(default_factory=list)


def read_csv(config: CsvConfig, classes: Sequence[str] = ()) -> Annotations:
    """Read one table.

    Args:
        config: where, and which.
        classes: the classes to expect, in the order of their labels; empty: the data's, sorted.

    Raises:
        ConfigError: no table is named.
        DataError: data that is missing or is refused, as the table of this module says.
    """
    path = find_table(config)
    pages, repeated = _read_pages(path)
    names = tuple(classes) or tuple(
        sorted({name for page in pages.values() for name in page.names})
    )
    labels = Labels.of([name for page in pages.values() for name in page.names], names)
    boxes = np.array([box for page in pages.values() for box in page.boxes], dtype=np.float64)
    draft = Draft(
        source=path,
        class_names=names,
        image_ids=short_ids(list(pages)),
        paths=[path.parent / name for name in pages],
        sizes=[page.size for page in pages.values()] if any(p.size for p in pages.values()) else (),
        counts=[len(page.names) for page in pages.values()],
        boxes=boxes.reshape(-1, 4),
        labels=[labels.find(name, str(path)) for page in pages.values() for name in page.names],
        difficult=[flag for page in pages.values() for flag in page.difficult],
        noted={REPEATED: repeated},
        read_as=labels.read_as,
    )
    return settle(draft, config.max_unreadable)


DATASETS.register("csv")(DatasetFormat(CsvConfig, read_csv))


def find_table(config: CsvConfig) -> Path:
    """Return the file that an entry means; it is there.

    Raises:
        ConfigError: a folder, but no split.
        DataError: no such file, with what is there.
    """
    if config.root.is_file():
        if config.split and config.split != config.root.stem:
            raise ConfigError(
                f"data.split: {config.split!r} is not {config.root}. "
                "Leave split out, or let data.root be the folder."
            )
        return config.root
    if leaves_folder(config.split):
        raise ConfigError(f"data.split: {config.split!r} leaves {config.root}. Write a name.")
    if not config.root.is_dir():
        raise DataError(
            f"{config.root}: no such file or folder. Expected a CSV table with the columns "
            f"{','.join(COLUMNS)}; point to it with data.root=PATH."
        )
    if not config.split:
        raise ConfigError("data.split: missing; name the table, e.g. train of train.csv.")
    path = config.root / f"{config.split}.csv"
    inner = config.root / config.split / IN_FOLDER
    if not path.is_file() and inner.is_file():
        return inner
    if not path.is_file():
        raise DataError(f"{path}: no such file; {contents(config.root)}. Check data.split.")
    return path


def image_names(path: Path) -> list[str]:
    """The images that a table speaks of, relative to its folder.

    Raises:
        DataError: as :func:`read_csv`, of the table alone.
    """
    return list(_read_pages(path)[0])


def looks_like_table(path: Path) -> bool:
    """Whether the first line of a file is a header or an object as they stand here."""
    try:
        first = next(_rows(path, read_text(path)), None)
    except DataError:
        return False
    if first is None:
        return False
    header = _header(first[1])
    if header is not None:
        return set(COLUMNS) <= set(header)
    cells = first[1]
    numbers = [number_in(cell) for cell in cells[1:5]]
    sound = all(map(math.isfinite, numbers)) or not any(cells[1:])
    return len(cells) == len(COLUMNS) and bool(cells[0]) and sound


# ------------------------------------------------------------------------- what the table says


def _read_pages(path: Path) -> tuple[dict[str, _Page], int]:
    """What the table says of each image, in the order of the first line of each; repeated lines."""
    rows = _rows(path, read_text(path))
    pages: dict[str, _Page] = {}
    seen: set[tuple[str, ...]] = set()
    columns: list[str] | None = None
    repeated = 0
    for line, cells in rows:
        if columns is None:
            columns = _header(cells)
            if columns is not None:
                _check_header(path, columns)
                continue
            columns = [*COLUMNS]
        if len(cells) != len(columns):
            raise DataError(
                f"{path}: line {line}: has {len(cells)} columns, expected {len(columns)} "
                f"({','.join(columns)}). Put text with commas in quotes."
            )
        repeated += tuple(cells) in seen
        if tuple(cells) not in seen:
            _add(pages, dict(zip(columns, cells, strict=True)), f"{path}: line {line}")
        seen.add(tuple(cells))
    if not pages:
        raise DataError(f"{path}: lists no images. Write a line {','.join(COLUMNS)} an object.")
    return pages, repeated


def _rows(path: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    """Number and cells of each line that is not blank."""
    reader = csv.reader(io.StringIO(text, newline=""), skipinitialspace=True)
    try:
        for cells in reader:
            cells = [cell.strip() for cell in cells]
            if any(cells):
                _check_delimiter(path, reader.line_num, cells)
                yield reader.line_num, cells
    except csv.Error as problem:
        raise DataError(
            f"{path}: line {reader.line_num}: not readable as CSV ({problem}). Repair the line."
        ) from None


def _check_delimiter(path: Path, line: int, cells: Sequence[str]) -> None:
    if len(cells) > 1:
        return
    for delimiter, name in OTHER_DELIMITERS.items():
        if cells[0].count(delimiter) >= len(COLUMNS) - 1:
            raise DataError(
                f"{path}: line {line}: columns are parted by {name}, expected commas. "
                "Save the table as CSV with commas."
            )


def _header(cells: Sequence[str]) -> list[str] | None:
    """The columns' names in our words, where a line is a header."""
    words = [cell.lower().replace(" ", "_") for cell in cells]
    columns = [ALSO_CALLED.get(word, word) for word in words]
    return columns if len(set(columns) & {*COLUMNS}) >= 2 else None


def _check_header(path: Path, columns: Sequence[str]) -> None:
    for name in (*COLUMNS, *OPTIONAL):
        if name in COLUMNS and name not in columns:
            raise DataError(
                f"{path}: the header has no column {name!r}. Needed are {','.join(COLUMNS)}."
            )
        if columns.count(name) > 1:
            raise DataError(f"{path}: the header has column {name!r} twice. Leave one out.")


def _add(pages: dict[str, _Page], cells: Mapping[str, str], where: str) -> None:
    name = inner_path(cells["path"])
    if name is None:
        raise DataError(
            f"{where}: {shown(cells['path'])} is no path below the table's folder. "
            "Write paths relative to it, without '..'."
        )
    page = pages.setdefault(name, _Page())
    size = [number_in(cells.get(side, "")) for side in ("height", "width")]
    if all(side >= 1 and side.is_integer() for side in size):
        page.size = int(size[0]), int(size[1])
    if not cells["name"] and not any(cells[side] for side in SIDES):
        return  # an image without objects
    if not any(cells[side] for side in SIDES):
        raise DataError(
            f"{where}: names {shown(cells['name'])} without a box. "
            "Leave the name empty as well for an image without objects."
        )
    if not is_class_name(cells["name"]):
        raise DataError(f"{where}: the box has no name that can be read. Name its class.")
    page.names.append(cells["name"])
    page.boxes.append(tuple(number_in(cells[side]) for side in SIDES))
    page.difficult.append(cells.get("difficult", "").lower() in TRUE)
