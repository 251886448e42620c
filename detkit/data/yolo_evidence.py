"""Boxes with values behind them, or polygons: what rows of YOLO text of an odd length are.

A row of 7, 9, 11, ... values may be a class and the points of a polygon, or a class, a box and
what some programs write behind it (:class:`Tail`). One row alone is often both; a split seldom is,
as all its rows are of one kind. Each row is judged, and the rows together decide.

A row *fits* a box where the box lies in the image and what follows is such as stands behind boxes:
key points lie in their box, and not all points of the row, the box's width and height read as one
of them, close about its centre. A row that fits *speaks* for a box where its polygon would be odd:
the second point, which is the width and height, lies apart from the others, or it has no area. It
*proves* a box where a point of the polygon would lie far off the image. Of COCO's outlines three
of four do not fit and one in a thousand speaks, of these cut down to triangles one in 34; of rows
made from COCO's boxes with points in them nine of ten speak.

=========================================  ====================================================
all rows fit, and one proves a box, or     boxes
:data:`ENOUGH` in different places speak
all but :data:`FEW` fit, :data:`MANY` and  boxes
:data:`ENOUGH` speak
:data:`MANY` do not fit, and no more than  polygons
a fifth as many speak
no row speaks, and rows differ in length   polygons: key points are as many for every object
else                                       not known
=========================================  ====================================================
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from enum import Enum, IntEnum
from typing import Literal

Kind = Literal["boxes", "polygons"]

EDGE = 0.01  # of the image; boxes may reach so far beyond it
GROWN = 0.1  # of a box's side; key points may lie so far beside it
ABSENT = ((0.0, 0.0), (-1.0, -1.0))  # how a key point is written that cannot be seen
CLOSE = 0.1  # of a box's side
FAR = 0.5  # images off the image: no point of a polygon
CORNER = 2e-3  # of the image; what rounding to pixels may move a corner
TENTHS = 1  # digit that boxes are rounded to where places are counted

ENOUGH = 10  # rows of different places
FEW = 0.05  # share of rows that may be of the other kind
MANY = 0.3  # share of rows
TIMES = 5  # rows that do not fit, for each that speaks


class Tail(Enum):
    """What may stand behind a box; its value is how many numbers belong together."""

    TRACK = 1  # confidence and track id, once; -1 where there is no track
    POINTS = 2  # key points x, y
    SEEN = 3  # key points x, y, visibility (0, 1 or 2)


class Sign(IntEnum):
    """What a row says of one tail."""

    DENIES = 0  # it does not fit
    SILENT = 1  # it fits, and its polygon is a usual one
    SPEAKS = 2  # it fits, and its polygon is odd
    PROVES = 3  # it fits, and is no polygon


class Evidence:
    """Collects what the rows of a split say."""

    def __init__(self) -> None:
        self.total = 0
        self.example = ""  # where the row stands that says most for a box
        self._most = -1
        self._lengths: set[int] = set()
        self._signs: dict[Tail, Counter[Sign]] = {tail: Counter() for tail in Tail}
        self._places: dict[Tail, set[tuple[float, ...]]] = {tail: set() for tail in Tail}

    def add(self, values: Sequence[float], where: str) -> None:
        """Judge a row.

        Args:
            values: all of its finite numbers but the class, an even count of 6 and more.
            where: its file and line.
        """
        self.total += 1
        self._lengths.add(len(values))
        place = tuple(round(value, TENTHS) for value in values[:4])
        for tail in Tail:
            sign = judge(values, tail)
            self._signs[tail][sign] += 1
            if sign >= Sign.SPEAKS:
                self._places[tail].add(place)
            if sign > self._most:
                self._most, self.example = sign, where

    def decide(self) -> Kind | None:
        """What the rows are, as the table of this module says; None: not known."""
        tail = self._tail()
        signs, places = self._signs[tail], len(self._places[tail])
        denied, spoken = signs[Sign.DENIES], self._spoken(tail)
        if not denied and (signs[Sign.PROVES] or places >= ENOUGH):
            return "boxes"
        if denied <= FEW * self.total and spoken >= MANY * self.total and places >= ENOUGH:
            return "boxes"
        if denied >= MANY * self.total and denied >= TIMES * spoken:
            return "polygons"
        return "polygons" if not spoken and len(self._lengths) > 1 else None

    def _tail(self) -> Tail:
        """The tail that most rows fit, of these the one that most speak for."""
        return min(Tail, key=lambda tail: (self._signs[tail][Sign.DENIES], -self._spoken(tail)))

    def _spoken(self, tail: Tail) -> int:
        return self._signs[tail][Sign.SPEAKS] + self._signs[tail][Sign.PROVES]


def judge(values: Sequence[float], tail: Tail) -> Sign:
    """What a row's values, its class left off, say of a box with that tail."""
    cx, cy, width, height = values[:4]
    in_image = (
        width > 0
        and height > 0
        and min(cx - width / 2, cy - height / 2) >= -EDGE
        and max(cx + width / 2, cy + height / 2) <= 1 + EDGE
    )
    if not in_image or not _fits(values, tail) or _is_turned_box(values):
        return Sign.DENIES
    if min(values) < -FAR or max(values) > 1 + FAR:
        return Sign.PROVES
    xs, ys = values[0::2], values[1::2]
    flat = min(xs) == max(xs) or min(ys) == max(ys)
    reach = max(max(abs(x - cx) / width for x in xs), max(abs(y - cy) / height for y in ys))
    apart = abs(width - cx) > width / 2 or abs(height - cy) > height / 2
    if flat or apart or tail != Tail.POINTS:
        return Sign.SPEAKS
    return Sign.DENIES if reach <= CLOSE else Sign.SILENT


def _fits(values: Sequence[float], tail: Tail) -> bool:
    """Whether what stands behind the box is such a tail."""
    cx, cy, width, height = values[:4]
    behind = values[4:]
    if tail == Tail.TRACK:
        return len(behind) == 2 and 0 <= behind[0] <= 1 and behind[1] >= -1 and _whole(behind[1])
    if len(behind) % tail.value:
        return False
    xs, ys = behind[0 :: tail.value], behind[1 :: tail.value]
    seen = behind[2::3] if tail == Tail.SEEN else (2.0,) * len(xs)
    if any(flag not in (0, 1, 2) for flag in seen):
        return False
    across, down = width * (0.5 + GROWN), height * (0.5 + GROWN)
    return all(
        not flag or (x, y) in ABSENT or (abs(x - cx) <= across and abs(y - cy) <= down)
        for x, y, flag in zip(xs, ys, seen, strict=True)
    )


def _is_turned_box(values: Sequence[float]) -> bool:
    """Whether the points are the four corners of a box, turned or not: a parallelogram."""
    if len(values) != 8:
        return False
    x1, y1, x2, y2, x3, y3, x4, y4 = values
    area = abs((x2 - x1) * (y4 - y1) - (y2 - y1) * (x4 - x1))
    return abs(x1 + x3 - x2 - x4) <= CORNER and abs(y1 + y3 - y2 - y4) <= CORNER and area > 0


def _whole(value: float) -> bool:
    return float(value).is_integer()
