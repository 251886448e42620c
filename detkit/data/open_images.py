"""Open Images' class names: its boxes name classes by number, another table tells the names.

``LabelName`` is ``/m/01g317``, which ``class-descriptions-boxable.csv`` calls Person (version 7
writes a header ``LabelName,DisplayName``, those before none). FiftyOne puts the same table into
``metadata/classes.csv``, CVAT and datumaro into ``annotations/class-descriptions.csv``.

The boxes' table is one of ``detkit/data/csv_dialects.py``: sides are shares of the image in the
order XMin, XMax, YMin, YMax, ``ImageID`` is a file name without its ending, ``IsGroupOf`` is a
crowd. ``IsOccluded`` and ``IsTruncated`` change nothing; ``IsDepiction``, ``IsInside`` and a
``Confidence`` below 1, which the official boxes never have, are kept and counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from detkit.data.counted import Counted
from detkit.data.csv_rows import read_rows
from detkit.data.listing import is_class_name
from detkit.data.table_page import Page

PATTERNS = ("*class-descriptions-boxable.csv", "*class-descriptions*.csv", "classes.csv")
FOLDERS = (".", "..", "../metadata", "metadata", "annotations")  # from the table, or from the root
NO_NAMES = "objects named by the machine id of their class (no class-descriptions-boxable.csv)"
NOT_DESCRIBED = "objects named by the machine id of their class, which has no description"


def find_class_names(table: Path, root: Path) -> dict[str, str]:
    """Names by machine id, of the table of names that lies nearest; empty where there is none.

    Raises:
        DataError: one that is no text, or no CSV.
    """
    top = root.resolve()
    for start in (table.parent, root):
        for place in FOLDERS:
            folder = (start / place).resolve()
            if not folder.is_relative_to(top):
                continue
            for pattern in PATTERNS:
                for path in sorted(folder.glob(pattern)):
                    if path != table and (names := _read_names(path)):
                        return names
    return {}


def name_classes(pages: Sequence[Page], names: Mapping[str, str]) -> dict[str, int]:
    """Put names for machine ids, and count the objects that keep theirs.

    Two classes of one name keep their ids behind it.
    """
    times = Counter(names.values())
    called = {id_: name if times[name] == 1 else f"{name} ({id_})" for id_, name in names.items()}
    unknown: list[str] = []
    for page in pages:
        unknown += [n for n in page.names if n.startswith("/") and n not in called]
        page.names[:] = [called.get(name, name) for name in page.names]
    return {NOT_DESCRIBED if names else NO_NAMES: Counted.of(unknown)}


def _read_names(path: Path) -> dict[str, str]:
    _, rows = read_rows(path, lambda cells: len(cells) == 2)
    return {
        cells[0]: cells[1]
        for _, cells in rows
        if len(cells) == 2 and is_class_name(cells[1]) and cells[0].startswith("/")
    }
