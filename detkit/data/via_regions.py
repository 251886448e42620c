"""Regions of VIA (VGG Image Annotator): the box around each shape, and the class among attributes.

Shapes as VIA 1 and 2 write them, in pixels: ``rect`` (x, y, width, height), ``circle`` (cx, cy, r),
``ellipse`` (cx, cy, rx, ry, from 2.0.8 on theta in radians), ``polygon`` and ``polyline``
(all_points_x, all_points_y) and ``point`` (cx, cy). The last two are no objects with an extent.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from detkit.data.coco_values import read_number
from detkit.data.listing import is_class_name
from detkit.errors import ConfigError, DataError, bare, did_you_mean, shown

USUAL = ("class", "label", "name", "category", "type", "object", "class_name", "species")
ROUND = "boxes made from circles and ellipses"
POLYGONS = "boxes made from polygons"
NO_EXTENT = "points and lines dropped"
NO_NUMBERS = (math.nan,) * 4
SHOWN_ATTRIBUTES = 6  # in an error


@dataclass(frozen=True, slots=True)
class Region:
    """One region of an image, as it stands in the file."""

    where: str  # for an error
    shape: Mapping[str, Any]
    attributes: Mapping[str, Any]


def box_of(shape: Mapping[str, Any]) -> tuple[tuple[float, ...] | None, str]:
    """The box (x1, y1, x2, y2) around a shape, pixels, and what to count.

    NaN where the shape's numbers are none; None for a shape that has no extent.
    """
    name = shape.get("name")
    number = {key: read_number(value) for key, value in shape.items()}
    if name == "rect":
        x, y, width, height = (number.get(key, math.nan) for key in ("x", "y", "width", "height"))
        return (x, y, x + width, y + height), ""
    if name in ("circle", "ellipse"):
        x, y = number.get("cx", math.nan), number.get("cy", math.nan)
        rx = number.get("r" if name == "circle" else "rx", math.nan)
        ry = number.get("r" if name == "circle" else "ry", math.nan)
        theta = number.get("theta", 0.0)
        if not math.isfinite(theta):
            return NO_NUMBERS, ""
        half_x = math.hypot(rx * math.cos(theta), ry * math.sin(theta))
        half_y = math.hypot(rx * math.sin(theta), ry * math.cos(theta))
        return (x - half_x, y - half_y, x + half_x, y + half_y), ROUND
    if name == "polygon":
        xs, ys = (_numbers(shape.get(key)) for key in ("all_points_x", "all_points_y"))
        if not xs or len(xs) != len(ys) or not all(map(math.isfinite, xs + ys)):
            return NO_NUMBERS, ""
        return (min(xs), min(ys), max(xs), max(ys)), POLYGONS
    if name in ("point", "polyline", "line"):
        return None, NO_EXTENT
    return NO_NUMBERS, ""


def class_attribute(regions: Sequence[Region], named: str) -> tuple[str, dict[str, int]]:
    """Which attribute says what is in the regions, and what to count.

    The one that is named; else the only one; else the only one of the usual names. Empty where no
    region has an attribute: then all are of one class.

    Raises:
        ConfigError: the named one is nowhere.
        DataError: several may be the class.
    """
    times = Counter(
        key for region in regions for key, value in region.attributes.items() if value != ""
    )
    keys = sorted(times)
    if named:
        if named not in times:
            known = sorted({key for region in regions for key in region.attributes})
            raise ConfigError(
                f"data.attribute: no region has {named!r}.{did_you_mean(named, known)}"
            )
        return named, {}
    if not keys:
        blank = sorted({key for region in regions for key in region.attributes})
        if blank:
            raise DataError(
                f"{regions[0].where}: all attributes of all regions are empty ({_listed(blank)}). "
                "Fill in the one that is the class."
            )
        return "", {}
    usual = [key for key in keys if key.lower() in USUAL]
    if len(keys) > 1 and len(usual) != 1:
        raise DataError(
            f"{regions[0].where}: regions have the attributes {_listed(keys)}; which is the class? "
            f"Say data.attribute={bare(keys[0])}, or another."
        )
    chosen = usual[0] if len(keys) > 1 else keys[0]
    return chosen, {f"objects named by their attribute {shown(chosen)}": times[chosen]} if (
        len(keys) > 1
    ) else {}


def class_of(region: Region, attribute: str, options: Mapping[str, str]) -> str:
    """The class of a region.

    Args:
        region: the region.
        attribute: that says it.
        options: what the project calls the values that are numbers.

    Raises:
        DataError: none that can be read, or several.
    """
    value = region.attributes.get(attribute, "")
    if isinstance(value, dict):  # a checkbox: each option that is ticked
        ticked = [key for key, on in value.items() if on is True or on == "true"]
        if len(ticked) > 1:
            raise DataError(
                f"{region.where}: {shown(attribute)} has {len(ticked)} values ({_listed(ticked)}), "
                "and an object is of one class. Tick one."
            )
        value = ticked[0] if ticked else ""
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = f"{value:g}"
    name = options.get(value, value) if isinstance(value, str) else value
    name = name.strip() if isinstance(name, str) else name
    if not is_class_name(name):
        raise DataError(
            f"{region.where}: the region has no {shown(attribute)} that can be read. "
            "Name its class."
        )
    return name


def _numbers(values: Any) -> list[float]:
    return [read_number(value) for value in values] if isinstance(values, list) else []


def _listed(names: Sequence[str]) -> str:
    more = len(names) - SHOWN_ATTRIBUTES
    listed = ", ".join(shown(name) for name in names[:SHOWN_ATTRIBUTES])
    return listed + (f" and {more} more" if more > 0 else "")
