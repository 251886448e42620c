"""One line of a table, by its layout: the image it names, and the boxes on it."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from detkit.data.csv_dialects import SIDES, Boxes, Layout
from detkit.data.listing import number_in
from detkit.errors import DataError

Box = tuple[float, ...]  # x1, y1, x2, y2; NaN for what is no number

DECIMAL_COMMAS = "numbers read with a decimal comma"
NO_BOXES = ("", "no_box")  # in a cell of boxes
OPEN_IMAGES_FLAGS = {  # what is counted and kept, as evaluation and training have no rule for it
    "isdepiction": "depictions (IsDepiction) kept",
    "isinside": "objects seen from inside (IsInside) kept",
}
UNSURE = "boxes of a Confidence below 1 kept"
TRUE = ("1", "true", "yes", "1.0")
_BETWEEN = re.compile(r"[\s,;]+")


@dataclass(slots=True)
class Row:
    """What a line says."""

    path: str
    name: str
    boxes: list[Box]
    split: str = ""
    size: tuple[float, float] = (math.nan, math.nan)  # height, width of the image
    difficult: bool = False
    crowd: bool = False
    noted: Counter[str] = field(default_factory=Counter)


def read_object(layout: Layout, cells: Sequence[str], where: str, *, decimal: bool) -> Row:
    """Read one line.

    Args:
        layout: of the table.
        cells: of the line, as many as the layout has columns.
        where: the line, for an error.
        decimal: a comma in a number is the decimal sign, as it parts no cells.

    Raises:
        DataError: a cell that should hold several boxes, and holds something else.
    """
    said = dict(zip(layout.columns, cells, strict=True))
    noted: Counter[str] = Counter()
    if decimal:
        for column in (*SIDES, "w", "h", "width", "height"):
            text = said.get(column, "")
            if text.count(",") == 1 and math.isfinite(number_in(text.replace(",", "."))):
                said[column] = text.replace(",", ".")
                noted[DECIMAL_COMMAS] += 1
    boxes = _READERS[layout.boxes](said, where)
    if layout.open_images and boxes:
        noted.update(kind for flag, kind in OPEN_IMAGES_FLAGS.items() if said.get(flag) in TRUE)
        noted[UNSURE] += number_in(said.get("confidence", "1")) < 1
    return Row(
        path=said["path"],
        name=said.get("name", ""),
        boxes=boxes,
        split=said.get("split", ""),
        size=(number_in(said.get("height", "")), number_in(said.get("width", ""))),
        difficult=said.get("difficult", "").lower() in TRUE,
        crowd=said.get("crowd", "").lower() in TRUE,
        noted=noted,
    )


def _corners(said: Mapping[str, str], where: str) -> list[Box]:
    cells = [said[side] for side in SIDES]
    return [tuple(map(number_in, cells))] if any(cells) else []


def _size(said: Mapping[str, str], where: str) -> list[Box]:
    cells = [said[key] for key in ("x1", "y1", "w", "h")]
    return [_of_size(*map(number_in, cells))] if any(cells) else []


def _cell(said: Mapping[str, str], where: str) -> list[Box]:
    text = said["bbox"].strip("[]() ")
    numbers = [number_in(word) for word in _BETWEEN.split(text) if word]
    if not text or text.lower() == "nan":  # how pandas writes a cell that was empty
        return []
    return [_of_size(*numbers) if len(numbers) == 4 else (math.nan,) * 4]


def _list(said: Mapping[str, str], where: str) -> list[Box]:
    boxes: list[Box] = []
    for text in said["boxes"].split(";") if said["boxes"] not in NO_BOXES else ():
        numbers = [number_in(word) for word in text.split()]
        if len(numbers) != 4:
            raise DataError(
                f"{where}: expected boxes x1 y1 x2 y2 with semicolons between, or no_box. "
                "Repair the cell."
            )
        boxes.append(tuple(numbers))
    return boxes


def _vertices(said: Mapping[str, str], where: str) -> list[Box]:
    cells = [said[f"v{index}"] for index in range(8)]
    xs = [number_in(cell) for cell in cells[0::2] if cell]
    ys = [number_in(cell) for cell in cells[1::2] if cell]
    if not xs and not ys:
        return []
    if len(xs) < 2 or len(ys) < 2 or not all(map(math.isfinite, xs + ys)):
        return [(math.nan,) * 4]
    return [(min(xs), min(ys), max(xs), max(ys))]


def _of_size(x: float, y: float, width: float, height: float) -> Box:
    return x, y, x + width, y + height


_READERS: dict[Boxes, Callable[[Mapping[str, str], str], list[Box]]] = {
    "corners": _corners,
    "size": _size,
    "cell": _cell,
    "list": _list,
    "vertices": _vertices,
}
