"""The label files of YOLO text: one row ``class cx cy w h`` an object, or more values.

=========================================  ====================================================
``class x1 y1 x2 y2 x3 y3 ...``            a polygon: the box around it, counted
                                           (``FROM_POLYGONS``)
``class cx cy w h`` and key points, or a   the box, counted (``BEHIND``), where ``data.yaml`` has
confidence and a track id                  ``kpt_shape``, or the rows leave no doubt
                                           (``yolo_evidence.py``)
rows of 7, 9, ... values that may be both  refused; ``rows`` decides
rows of 6, 8, ... values                   refused, unless ``rows`` or ``kpt_shape`` calls them
                                           boxes
a blank line                               passed over, counted (``BLANK``)
a row that stands twice in a file          read once, counted (``REPEATED``)
a class number without a name              refused, naming file and line
a class that is no number                  refused likewise
=========================================  ====================================================
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from detkit.data.listing import number_in, read_text
from detkit.data.yolo_evidence import Evidence, Kind
from detkit.data.yolo_names import MAX_CLASSES, Described
from detkit.errors import DataError, shown

FROM_POLYGONS = "boxes made from polygons"
BEHIND = "boxes with key points or other values behind them, which are passed over"
REPEATED = "repeated lines read once"
BLANK = "blank lines"
UNLABELLED = "images without a label file, taken as empty"

MAX_LABELS = 1 << 26  # bytes of one label file
BOX_VALUES = 5  # class, centre, width and height
POLYGON_VALUES = 7  # class and three points: the shortest

Rows = Literal["auto", "boxes", "polygons"]


@dataclass(frozen=True, slots=True)
class LabelRows:
    """Objects in the order of the images, one list a field."""

    counts: list[int] = field(default_factory=list)  # of each image
    numbers: list[int] = field(default_factory=list)  # classes
    boxes: list[tuple[float, ...]] = field(default_factory=list)  # x1 y1 x2 y2, shares
    noted: dict[str, int | list[int]] = field(default_factory=dict)

    def note(self, kind: str, image: int) -> None:
        """Note something of an image."""
        images = self.noted.setdefault(kind, [])
        assert isinstance(images, list)
        images.append(image)


def read_labels(
    files: Sequence[Path | None], described: Described, names: Mapping[int, str], rows: Rows
) -> LabelRows:
    """Read the objects of images.

    Args:
        files: the label file of each image; None: it has none.
        described: what the folder says of itself.
        names: the known classes by number; empty: any number is one.
        rows: what rows of more than five values are.

    Raises:
        DataError: a file that is refused, as the table of this module says.
    """
    kind: Kind | None = None if rows == "auto" else rows
    if kind is None and described.keypoints:
        kind = "boxes"
    reader = _Reader(described, names, kind)
    found = reader.found
    for image, path in enumerate(files):
        before = len(found.numbers)
        if path is None:
            found.note(UNLABELLED, image)
        else:
            reader.read(path, image)
        found.counts.append(len(found.numbers) - before)
    reader.settle_long()
    return found


@dataclass(slots=True)
class _Reader:
    described: Described
    names: Mapping[int, str]
    kind: Kind | None  # of rows that are boxes or polygons; None: all of them together tell
    found: LabelRows = field(default_factory=LabelRows)
    evidence: Evidence = field(default_factory=Evidence)
    # of these rows: image, row among all objects, and what it is where it is a box
    long: list[tuple[int, int, tuple[float, ...]]] = field(default_factory=list)

    def read(self, path: Path, image: int) -> None:
        """Read one file."""
        seen: set[tuple[str, ...]] = set()
        for line, text in enumerate(read_text(path, MAX_LABELS).splitlines(), 1):
            tokens = tuple(text.split())
            if not tokens or tokens in seen:
                self.found.note(REPEATED if tokens else BLANK, image)
                continue
            seen.add(tokens)
            self._read_row(tokens, image, f"{path}: line {line}")

    def _read_row(self, tokens: Sequence[str], image: int, where: str) -> None:
        count = len(tokens)
        is_long = count >= POLYGON_VALUES and count % 2 == 1 and self.kind != "boxes"
        if count < BOX_VALUES or (count > BOX_VALUES and not is_long and self.kind != "boxes"):
            raise DataError(_wrong_length(where, count))
        number = _class_number(tokens[0], where)
        if self.names and number not in self.names:
            known = f"those of {min(self.names)} to {max(self.names)} are known"
            source = f" from {self.described.source}" if self.described.source else ""
            raise DataError(
                f"{where}: class {number} has no name; {known}{source}. "
                "Add its name or correct the line."
            )
        values = [number_in(token) for token in tokens[1:]]
        box = _corners(values)
        if is_long:
            self.long.append((image, len(self.found.boxes), box))
            if self.kind is None and all(map(math.isfinite, values)):
                self.evidence.add(values, where)
            box = _around(values)
        elif count > BOX_VALUES:
            self.found.note(BEHIND, image)
        self.found.numbers.append(number)
        self.found.boxes.append(box)

    def settle_long(self) -> None:
        """Decide what rows are that may be boxes or polygons."""
        kind, evidence = self.kind, self.evidence
        if kind is None and evidence.total:
            kind = evidence.decide()
            if kind is None:
                raise DataError(
                    f"{evidence.example}: may be a box with key points or other values behind it, "
                    f"or the points of a polygon, and all {evidence.total} rows of 7 and more "
                    "values together do not tell. Say data.rows=boxes or data.rows=polygons; "
                    "kpt_shape in data.yaml says boxes, too."
                )
        for image, row, box in self.long:
            if kind == "boxes":
                self.found.boxes[row] = box
            self.found.note(BEHIND if kind == "boxes" else FROM_POLYGONS, image)


def _wrong_length(where: str, count: int) -> str:
    behind = ""
    if count > BOX_VALUES:
        behind = (
            "; where key points, a confidence or the like stand behind every box, say "
            "data.rows=boxes"
        )
    return (
        f"{where}: has {count} values, expected {BOX_VALUES} (class cx cy w h) or a class and "
        f"three or more points. Correct the line or remove it{behind}."
    )


def _class_number(token: str, where: str) -> int:
    value = number_in(token)
    if value.is_integer() and 0 <= value < MAX_CLASSES:  # 3.0 is a class, too
        return int(value)
    raise DataError(
        f"{where}: {shown(token)} is no class number, which counts from 0. "
        "Is this a YOLO label file?"
    )


def _corners(values: Sequence[float]) -> tuple[float, ...]:
    cx, cy, width, height = values[:4]
    return cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2


def _around(values: Sequence[float]) -> tuple[float, ...]:
    if not all(map(math.isfinite, values)):
        return (math.nan,) * 4
    xs, ys = values[0::2], values[1::2]
    return min(xs), min(ys), max(xs), max(ys)
