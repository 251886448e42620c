"""CSV: one line ``path,x1,y1,x2,y2,name`` an object, as keras-retinanet has it.

Coordinates are pixels, continuous and zero-based, with exclusive right and bottom edges: the
house's boxes as they stand. (A table made from VOC's numbers without change is one-based; take one
off x1 and y1.) A line ``path,,,,,`` is an image without objects. A header is optional; with one,
columns may stand in any order and carry other usual names (``filename``, ``xmin``, ``class``, ...),
and ``difficult``, ``iscrowd``, ``width`` and ``height`` are read too. Which other headers are read,
Open Images' and those of Kaggle's competitions among them, ``detkit/data/csv_dialects.py`` tells;
where images are looked for, ``detkit/data/table_images.py``.

A table whose column ``split`` names at least two usual splits is that many: ``split`` of the entry
is one of its words. A table without classes has one, ``object``, or the one of ``data.classes``.

What becomes of bad data (the rest is in the table of ``detkit/data/settle.py``):

=========================================  ====================================================
a coordinate missing or no number          dropped as a box without numbers, counted
an object that stands twice                read once, counted (``REPEATED``)
lines ``path,,,,,No finding``, where no    the image has no objects, counted by the name
box has that name and others have boxes
``1,5`` in a table without commas          1.5, counted (``csv_objects.DECIMAL_COMMAS``)
no class names, or numbers alone           counted by the name; numbers are the names
images beside those that are named         left out, counted (``table_images.UNNAMED``)
a line of another length                   refused, naming the line
a box without a name, or a name alone      refused, naming the line
a path that leaves the folder              refused, naming the line, unless its end names one file
no header, and corners that end before     refused: they seem to be x, y, width, height
they begin
shares that are above ``FAR``              refused: they seem to be in pixels
one image in two splits                    refused, naming both
a header that lacks a column               refused, saying what its columns are
text that is not UTF-8, no CSV, no lines   refused, naming the file
=========================================  ====================================================
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from detkit.data.base import Annotations
from detkit.data.counted import Counted
from detkit.data.csv_dialects import (
    COLUMNS,
    Layout,
    is_header,
    is_split,
    shown_columns,
    understand,
    why_not,
)
from detkit.data.csv_objects import Row, read_object
from detkit.data.csv_places import CsvConfig, find_table, named_tables
from detkit.data.csv_rows import first_row, read_rows
from detkit.data.listing import inner_path, is_class_name
from detkit.data.open_images import find_class_names, name_classes
from detkit.data.settle import settle
from detkit.data.stated import written_sides
from detkit.data.table_images import UNNAMED, count_unnamed, find_folder, find_table_images
from detkit.data.table_page import Page, draft_of
from detkit.errors import DataError, shown

REPEATED = "repeated lines read once"
NO_SPLIT = "images without a split left out"
NUMBERED = "objects of classes that have no name but a number"
ONE_CLASS = "object"  # what is in the boxes of a table that does not say

FAR = 2.0  # an edge this many images away from the first is no share of one
PIXEL_SHARE = 0.1  # of the boxes; more of them beyond that are refused
BACKWARDS_SHARE = 0.25  # of the boxes without a header; more of them are no slips


@dataclass(frozen=True, slots=True)
class _Table:
    layout: Layout
    pages: dict[str, Page]  # by the image's name
    noted: dict[str, int] = field(default_factory=dict)


def read_csv(config: CsvConfig, classes: Sequence[str] = ()) -> Annotations:
    """Read one table, or one split of it.

    Args:
        config: where, and which.
        classes: the classes to expect, in the order of their labels; empty: the data's, sorted.

    Raises:
        ConfigError: no table is named.
        DataError: data that is missing or is refused, as the table of this module says.
    """
    path = find_table(config, own_splits)
    root = config.root.parent if config.root.is_file() else config.root
    table = _read_table(path, classes[0] if len(classes) == 1 else ONE_CLASS)
    pages, noted = _of_split(table, config.split)
    if table.layout.open_images:
        noted |= name_classes(list(pages.values()), find_class_names(path, root))
    folder = find_folder(root, config.images, config.split)
    where = [page.where for page in pages.values()]
    found = find_table_images(list(pages), path.parent, root, where, config.split, folder)
    others = _other_names(config.root, path, table.pages)
    noted[UNNAMED] = count_unnamed(found.paths, others)
    relative = table.layout.relative
    draft = draft_of(path, list(pages.values()), found, classes, noted, relative=relative)
    _check_boxes(path, table.layout, draft.boxes)
    if table.layout.boxes in ("size", "cell"):
        draft = replace(draft, sides=written_sides(draft.boxes))
    return settle(draft, config.max_unreadable, look=config.looks_at_images)


def image_names(path: Path) -> dict[str, list[str]]:
    """The images that a table speaks of, by split; the split is empty where it has no splits.

    Raises:
        DataError: as :func:`read_csv`, of the table alone.
    """
    table = _read_table(path)
    splits = _splits(table.pages)
    if not splits:
        return {"": list(table.pages)}
    return {s: [name for name, page in table.pages.items() if page.split == s] for s in splits}


def own_splits(path: Path) -> list[str]:
    """The splits that a column of a table names; empty where it has none, or is no table."""
    first = first_row(path, _is_known)
    layout = understand(first) if first else None
    if layout is None or "split" not in layout.columns:
        return []
    return _splits(_read_table(path).pages)


def looks_like_table(path: Path) -> bool:
    """Whether the first line of a file is a header or an object as they stand here."""
    first = first_row(path, _is_known)
    return bool(first) and understand(first) is not None


def why_no_table(path: Path) -> str:
    """What a table of images lacks to be read, in a sentence; empty for other files."""
    first = first_row(path, _is_known)
    why = why_not(first) if first else ""
    return f"{path}: a table of the columns {shown_columns(first)}: {why}" if why else ""


# ------------------------------------------------------------------------- what the table says


def _is_known(cells: Sequence[str]) -> bool:
    return understand(cells) is not None or bool(why_not(cells))


def _read_table(path: Path, class_name: str = ONE_CLASS) -> _Table:
    """What the table says of each image, in the order of the first line of each."""
    delimiter, rows = read_rows(path, _is_known)
    layout: Layout | None = None
    table: _Table | None = None
    seen: set[tuple[str, ...]] = set()
    empty: list[tuple[str, Row]] = []
    counts: Counter[str] = Counter()
    first: dict[str, str] = {}  # kind -> a line
    for line, cells in rows:
        if layout is None or table is None:
            layout = _layout(path, cells)
            table = _Table(layout, {})
            if layout.header:
                continue
        if len(cells) != len(layout.columns):
            raise DataError(
                f"{path}: line {line}: has {len(cells)} columns, expected {len(layout.columns)} "
                f"({shown_columns(layout.columns)}). Put text with commas in quotes."
            )
        row, where = tuple(cells), f"{path}: line {line}"
        if row in seen:
            counts[REPEATED] += 1
            first.setdefault(REPEATED, where)
            continue
        seen.add(row)
        said = read_object(layout, cells, where, decimal=delimiter != ",")
        counts.update(said.noted)
        for kind in +said.noted:  # without those of none
            first.setdefault(kind, where)
        _add(table.pages, said, where, class_name if not layout.named else "")
        if said.name and not said.boxes:
            empty.append((where, said))
    if table is None or layout is None or not table.pages:
        raise DataError(f"{path}: lists no images. Write a line {','.join(COLUMNS)} an object.")
    counts.update(_no_objects(table.pages, empty))
    objects = sum(len(page.boxes) for page in table.pages.values())
    if not layout.named:
        counts[f"objects without a class name called {class_name!r}"] = objects
    elif layout.numbered:
        counts[NUMBERED] = objects
    table.noted.update({kind: Counted(n, first.get(kind, "")) for kind, n in counts.items()})
    return table


def _layout(path: Path, cells: Sequence[str]) -> Layout:
    """How the lines are read, from the first."""
    layout = understand(cells)
    if layout is None and (is_header(cells) or why_not(cells)):
        raise DataError(f"{path}: {why_not(cells)}")
    if layout is None:  # to say of each line what it lacks
        return Layout(COLUMNS, "corners", header=False)
    for name in dict.fromkeys(layout.columns):
        if layout.columns.count(name) > 1 and name in _READ:
            raise DataError(f"{path}: the header has column {name!r} twice. Leave one out.")
    return layout


_READ = (*COLUMNS, "difficult", "crowd", "width", "height", "w", "h", "bbox", "boxes", "split")


def _add(pages: dict[str, Page], said: Row, where: str, class_name: str) -> None:
    """Add what a line says to its image's page."""
    name = inner_path(said.path) or said.path
    if not name:
        raise DataError(f"{where}: names no image. Write its path.")
    page = pages.setdefault(name, Page(where, said.split))
    if page.split != said.split and is_split(page.split) and is_split(said.split):
        raise DataError(
            f"{where}: {shown(said.path)} is in split {shown(said.split)}, and before in "
            f"{shown(page.split)}. Let it stand in one."
        )
    if all(side >= 1 and side.is_integer() for side in said.size):
        page.size = int(said.size[0]), int(said.size[1])
    if said.boxes and not class_name and not is_class_name(said.name):
        raise DataError(f"{where}: the box has no name that can be read. Name its class.")
    for box in said.boxes:
        page.add(class_name or said.name, box, difficult=said.difficult, crowd=said.crowd)


def _no_objects(pages: dict[str, Page], empty: Sequence[tuple[str, Row]]) -> dict[str, int]:
    """Lines of a name without a box, where that name says that there is nothing.

    Raises:
        DataError: where it says something else.
    """
    names = {said.name for _, said in empty}
    boxed = {name for page in pages.values() for name in page.names}
    if not names:
        return {}
    if len(names) == 1 and boxed and not names & boxed:
        return {f"lines of {shown(next(iter(names)))} without a box read as no object": len(empty)}
    where, said = empty[0]
    raise DataError(
        f"{where}: names {shown(said.name)} without a box. "
        "Leave the name empty as well for an image without objects."
    )


def _check_boxes(path: Path, layout: Layout, boxes: np.ndarray) -> None:
    """Refuse numbers that mean something else in most of a table."""
    known = boxes[np.isfinite(boxes).all(axis=1)]
    far = int((known > FAR).any(axis=1).sum())
    if layout.relative and far > PIXEL_SHARE * len(known):
        raise DataError(
            f"{path}: {far} of {len(known)} boxes reach beyond {FAR:g} image sizes; they seem to "
            "be in pixels. Divide them by the image's width and height."
        )
    backwards = int((known[:, 2:] < known[:, :2]).any(axis=1).sum())
    columns = layout.columns
    if not layout.header and backwards > max(1, BACKWARDS_SHARE * len(known)):
        columns = tuple({"x1": "x_min", "y1": "y_min", "x2": "width", "y2": "height"}.get(c, c)
                        for c in columns)  # fmt: skip
        raise DataError(
            f"{path}: {backwards} of {len(known)} boxes end before they begin; they seem to be x, "
            f"y, width, height. If so, write a first line {','.join(columns)}."
        )


# ------------------------------------------------------------------------------------- splits


def _splits(pages: dict[str, Page]) -> list[str]:
    """The splits that a table's own column names; none where that says nothing of the kind."""
    words = list(dict.fromkeys(page.split for page in pages.values()))
    sound = len(words) > 1 and all(is_split(w) and is_class_name(w) for w in words if w)
    return [word for word in words if word] if sound else []


def _of_split(table: _Table, split: str) -> tuple[dict[str, Page], dict[str, int]]:
    """The pages of a split, or all where the table has no splits of its own; what was counted."""
    if split not in _splits(table.pages):
        return table.pages, dict(table.noted)
    kept = {name: page for name, page in table.pages.items() if page.split == split}
    unsorted = Counted.of(page.where for page in table.pages.values() if not page.split)
    return kept, {**table.noted, NO_SPLIT: unsorted}


def _other_names(root: Path, path: Path, own: Collection[str]) -> Iterator[str]:
    """Names of images in other tables of the entry's folder, and in this one's other splits."""
    yield from own
    for _, other in named_tables(root) if root.is_dir() else ():
        if other != path and looks_like_table(other):
            try:
                yield from (name for names in image_names(other).values() for name in names)
            except DataError:  # it is said where that table is read
                continue
