"""Single values of a COCO file, which anybody may have written: read, or said to be none."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from detkit.data.listing import is_class_name
from detkit.errors import SHOWN, DataError, shown

Id: TypeAlias = int | str  # of an image or a category, as annotations name it

LARGEST_ID = 2**63 - 1
WHOLE = re.compile(r"\s*([+-]?\d{1,40})(?:\.0*)?\s*", re.ASCII)
NUMBER = re.compile(r"\s*[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?\s*", re.ASCII)
FLAGS = {"1": True, "true": True, "0": False, "false": False, "": False}


def read_box(bbox: Any) -> tuple[float, ...]:
    """``[x, y, width, height]`` as (x1, y1, x2, y2), pixels; NaN where it is no four numbers."""
    if not isinstance(bbox, list) or len(bbox) != 4:
        return (math.nan,) * 4
    x, y, width, height = map(read_number, bbox)
    return x, y, x + width, y + height


def holds_text(values: Any) -> bool:
    """Whether one of some values, or of the lists among them, is a text."""
    return any(isinstance(value, str) for value in _flat(values))


def has_key_points(entry: Mapping[str, Any]) -> bool:
    """Whether an annotation has key points, and one of them is labelled."""
    points = entry.get("keypoints")
    return isinstance(points, list) and any(visible != 0 for visible in points[2::3])


def _flat(values: Any) -> Iterator[Any]:
    for value in values if isinstance(values, list) else [values]:
        yield from value if isinstance(value, list) else [value]


def read_polygons(polygons: Sequence[Any]) -> tuple[float, ...]:
    """The box (x1, y1, x2, y2) around ``[x, y, x, y, ...]`` polygons; NaN where they are none."""
    if not any(isinstance(polygon, list) for polygon in polygons):
        polygons = [polygons]  # one that is not in a list of its own
    sound = [polygon for polygon in polygons if isinstance(polygon, list) and len(polygon) >= 6]
    xs = [read_number(value) for polygon in sound for value in polygon[0::2]]
    ys = [read_number(value) for polygon in sound for value in polygon[1::2]]
    if not xs or not all(map(math.isfinite, xs + ys)):
        return (math.nan,) * 4
    return min(xs), min(ys), max(xs), max(ys)


def read_mask(mask: Any, size: tuple[int, int] | None) -> tuple[float, ...]:
    """The box (x1, y1, x2, y2) around the pixels of a run-length encoded mask; NaN for none.

    Args:
        mask: ``{"size": [height, width], "counts": runs}``; runs of 0 and 1 by turns, column by
            column, as a list or in pycocotools' text form.
        size: height and width of the image, where they are stated: the mask must have them.
    """
    none = (math.nan,) * 4
    if not isinstance(mask, dict) or not isinstance(mask.get("size"), list):
        return none
    sides = [read_whole(side) or 0 for side in mask["size"]]
    counts = mask.get("counts")
    given = _decode_runs(counts) if isinstance(counts, str) else counts
    runs = [read_whole(run) for run in given] if isinstance(given, list) else [None]
    whole = [run for run in runs if run is not None and run >= 0]
    if len(sides) != 2 or min(sides) < 1 or (size and sides != list(size)):
        return none
    if len(whole) < len(runs) or sum(whole) > sides[0] * sides[1]:
        return none
    return _around_runs(whole, sides[0])


def _around_runs(runs: Sequence[int], height: int) -> tuple[float, ...]:
    """The box around every second run; NaN where these are empty."""
    boxes, start = [], 0
    for index, run in enumerate(runs):
        first, last = start, start + run - 1
        start += run
        if index % 2 and run:
            left, right = first // height, last // height
            rows = (0, height) if left < right else (first % height, last % height + 1)
            boxes.append((left, rows[0], right + 1, rows[1]))
    if not boxes:
        return (math.nan,) * 4
    x1, y1, x2, y2 = zip(*boxes, strict=True)
    return float(min(x1)), float(min(y1)), float(max(x2)), float(max(y2))


def _decode_runs(text: str) -> list[int] | None:
    """The runs in pycocotools' text form: five bits a character, each but the first two a change.

    As in ``rleFrString`` of cocoapi's ``maskApi.c``; None where the text is none of its own.
    """
    runs: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 60:
            return None
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:  # the last of its run; a sixteen in it means a negative change
            value -= (1 << shift) * bool(bits & 16)
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    return runs if not shift else None


def read_outline(segmentation: Any) -> str:
    """Polygons or RLE as JSON text; empty where there is none that could be written again."""
    if not isinstance(segmentation, list | dict) or not segmentation:
        return ""
    try:
        return json.dumps(segmentation, separators=(",", ":"), allow_nan=False)
    except (ValueError, RecursionError):
        return ""


def read_whole(value: Any) -> int | None:
    """A whole number as an int; 7.0 is one and so is the text "7", True is none."""
    if isinstance(value, str):
        match = WHOLE.fullmatch(value)
        value = int(match[1]) if match else None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if abs(value) <= LARGEST_ID else None


def read_id(value: Any) -> Id | None:
    """An id: a whole number, else a text on one line, such as ``2007_000027``; None for neither."""
    number = read_whole(value)
    if number is not None:
        return number
    return value if is_class_name(value) and value.strip() else None


def is_number_as_text(value: Any, read: object) -> bool:
    """Whether ``value`` of a file is a text and was read as a number."""
    return isinstance(value, str) and not isinstance(read, str)


def shown_id(number: Id) -> str:
    """An id as it may stand in a sentence."""
    return shown(number) if isinstance(number, str) else str(number)


def read_flag(value: Any) -> bool | None:
    """A flag: 0 or 1, false or true, also as text; null and "" are not set; None for others."""
    if value is None:
        return False
    if isinstance(value, str):
        return FLAGS.get(value.strip().lower())
    return bool(value) if isinstance(value, int | float) and value in (0, 1) else None


def read_number(value: Any) -> float:
    """A number as a float, also one that is written as text; NaN for what is none."""
    if isinstance(value, str):
        return float(value) if NUMBER.fullmatch(value) else math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.inf


def wrong_value(path: Path, where: str, expected: str, value: Any) -> DataError:
    """The refusal of a value: which file, where in it, what was expected, what stands there."""
    got = "nothing" if value is None else type(value).__name__
    if isinstance(value, str):
        got = shown(value)
    elif isinstance(value, int | float):
        got = repr(value) if len(repr(value)) <= SHOWN else f"{repr(value)[:SHOWN]}..."
    return DataError(f"{path}: {where}: expected {expected}; got {got}.")
