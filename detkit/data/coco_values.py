"""Single values of a COCO file, which anybody may have written: read, or said to be none."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detkit.errors import SHOWN, DataError, shown

LARGEST_ID = 2**63 - 1


def read_box(bbox: Any) -> tuple[float, ...]:
    """``[x, y, width, height]`` as (x1, y1, x2, y2), pixels; NaN where it is no four numbers."""
    if not isinstance(bbox, list) or len(bbox) != 4:
        return (math.nan,) * 4
    x, y, width, height = map(read_number, bbox)
    return x, y, x + width, y + height


def read_polygons(polygons: Sequence[Any]) -> tuple[float, ...]:
    """The box (x1, y1, x2, y2) around ``[x, y, x, y, ...]`` polygons; NaN where they are none."""
    sound = [polygon for polygon in polygons if isinstance(polygon, list) and len(polygon) >= 6]
    xs = [read_number(value) for polygon in sound for value in polygon[0::2]]
    ys = [read_number(value) for polygon in sound for value in polygon[1::2]]
    if not xs or not all(map(math.isfinite, xs + ys)):
        return (math.nan,) * 4
    return min(xs), min(ys), max(xs), max(ys)


def read_outline(segmentation: Any) -> str:
    """Polygons or RLE as JSON text; empty where there is none that could be written again."""
    if not isinstance(segmentation, list | dict) or not segmentation:
        return ""
    try:
        return json.dumps(segmentation, separators=(",", ":"), allow_nan=False)
    except (ValueError, RecursionError):
        return ""


def read_whole(value: Any) -> int | None:
    """A whole number as an int; 7.0 is one, True is none."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if abs(value) <= LARGEST_ID else None


def read_number(value: Any) -> float:
    """A number as a float; NaN for what is none."""
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
