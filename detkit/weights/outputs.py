"""The sections of a ``.cfg`` file that end a network, planned as in ``kinds.py``.

They compute nothing there; each checks that the map it takes is as large as it says.
"""

from __future__ import annotations

from torch import nn

from detkit.weights.cfg import Section
from detkit.weights.planned import At, Planned, check_takes_map


def _output(section: Section, at: At, kind: str) -> Planned:
    check_takes_map(section, at, at.index - 1)
    return Planned(kind, at.previous, nn.Identity, (at.index - 1,), at.previous, output=True)


def yolo(section: Section, at: At) -> Planned:
    """Check that the map before a ``[yolo]`` has room for its anchors."""
    anchors = section.whole("num", 1, low=1)
    if "mask" in section.options:
        anchors = len(section.wholes("mask", low=0, high=anchors - 1))
    return _anchored(section, at, "yolo", anchors, 4)


def region(section: Section, at: At) -> Planned:
    """Likewise for a ``[region]``."""
    coords = section.whole("coords", 4, low=1)
    return _anchored(section, at, "region", section.whole("num", 1, low=1), coords)


def _anchored(section: Section, at: At, kind: str, anchors: int, coords: int) -> Planned:
    classes = section.whole("classes", 20, low=1)
    expected = anchors * (coords + 1 + classes)
    if at.previous[0] != expected:
        raise section.wrong(
            f"{anchors} anchors of {coords} coordinates, objectness and {classes} classes want "
            f"{expected} channels, but the map has {at.previous[0]}",
            f"Write filters={expected} in the layer before, or the right classes here",
            "classes",
        )
    return _output(section, at, kind)


def detection(section: Section, at: At) -> Planned:
    """Likewise for the cells of a ``[detection]``."""
    side, boxes = section.whole("side", 7, low=1), section.whole("num", 1, low=1)
    classes, coords = section.whole("classes", 1, low=1), section.whole("coords", 1, low=1)
    expected = side**2 * ((1 + coords) * boxes + classes)
    found = at.previous[0] * at.previous[1] * at.previous[2]
    if found != expected:
        raise section.wrong(
            f"{side} x {side} cells of {boxes} boxes and {classes} classes want {expected} "
            f"numbers, but {found} come in",
            f"Write output={expected} in the layer before, or the right classes here",
            "classes",
        )
    return _output(section, at, "detection")


def softmax(section: Section, at: At) -> Planned:
    """An output, of a classifier."""
    return _output(section, at, "softmax")


def cost(section: Section, at: At) -> Planned:
    """What training alone looks at."""
    return Planned("cost", at.previous, output=True)
