"""Whether VOC's files count pixels from one, as the devkit does, or from zero.

The devkit, labelImg and Roboflow write the first pixel's number as 1, and both corners are inside.
CVAT, datumaro, Label Studio and FiftyOne write continuous corners, 0 to the width, some truncated
to whole numbers. :func:`find_origin` decides by signs in the annotation files of *all* splits of a
folder, so that training and evaluation never count differently:

=========================================  ====================================================
what the files show                        corners count
=========================================  ====================================================
all name Label Studio, or detkit           from zero, or from one
``CLEAR`` or more begin at 0, more than    from zero
begin at 1; one ends at the last pixel's
far edge, and none reaches beyond          (``FROM_ZERO``)
some begin at 0, and not all that          from one, and it is said (``PERHAPS_BY_ZERO``)
all have fractions, none begins at 1       from one, and it is said (``PERHAPS_BY_FRACTIONS``)
anything else                              from one
=========================================  ====================================================
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detkit.data.settle import ROUNDING
from detkit.data.voc_layout import Layout
from detkit.data.voc_page import Page, read_page
from detkit.errors import DataError

FROM_ZERO = (
    "boxes counted from zero (some begin at 0, none ends beyond its image; data.origin=1 counts "
    "from one)"
)
FROM_ZERO_BY_NAME = (
    "boxes counted from zero (Label Studio wrote them; data.origin=1 counts from one)"
)
PERHAPS_BY_ZERO = (
    "boxes counted from one (some begin at 0, so perhaps all count from zero: data.origin=0)"
)
PERHAPS_BY_FRACTIONS = (
    "boxes counted from one (they have fractions of pixels, so perhaps all count from zero: "
    "data.origin=0)"
)

SAMPLED = 1000  # annotation files that are looked at, evenly spaced among all
CLEAR = 2  # boxes at 0: one alone may be a slip of the hand
MOSTLY = 0.9  # share of boxes with fractions that is "all": one may end on whole pixels

First = Literal[0, 1]


class Signs(NamedTuple):
    """What the corners of some files show, as numbers of boxes, of corners where it says so."""

    boxes: int
    at_zero: int  # xmin or ymin in [0, 1)
    zeros: int  # corners: of xmin and ymin those in [0, 1)
    ones: int  # corners: of these those in [1, 2)
    exact_ones: int  # corners: of these those that are 1
    reaching: int  # in the last pixel of the width or the height
    beyond: int  # below 0, or behind the width or the height
    fractional: int


def find_origin(layout: Layout, known: Mapping[Path, Page]) -> tuple[First, str]:
    """Decide where the corners of a folder's files count from.

    Args:
        layout: of any of its splits; the answer is the same for all of them.
        known: pages that are read already, by path.

    Returns:
        The origin, and the kind to count the boxes by in the summary; empty: nothing to say.
    """
    files = layout.all_xml_files()
    count = min(SAMPLED, len(files))
    pages = list(_pages([files[i * len(files) // count] for i in range(count)], known))
    named = {page.origin for page in pages}
    if named == {1}:
        return 1, ""
    if named == {0}:
        return 0, FROM_ZERO_BY_NAME
    return judge(read_signs(pages))


def judge(signs: Signs) -> tuple[First, str]:
    """What follows from signs, as this module's table says."""
    clear = signs.at_zero >= CLEAR and signs.zeros > signs.ones
    if clear and signs.reaching and not signs.beyond:
        return 0, FROM_ZERO
    if signs.at_zero:
        return 1, PERHAPS_BY_ZERO
    enough = signs.boxes >= CLEAR and signs.fractional >= MOSTLY * signs.boxes
    if enough and not signs.exact_ones:
        return 1, PERHAPS_BY_FRACTIONS
    return 1, ""


def _pages(files: Iterable[Path], known: Mapping[Path, Page]) -> Iterable[Page]:
    for path in files:
        try:
            yield known[path] if path in known else read_page(path, path.parent)
        except DataError:  # of another split, whose reader says so
            continue


def read_signs(pages: Sequence[Page]) -> Signs:
    """Count the signs in some files; boxes that are no boxes say nothing."""
    corners = np.array([c for page in pages for c in page.corners], dtype=np.float64)
    sizes = [page.size or (np.nan, np.nan) for page in pages for _ in page.corners]
    boxes: NDArray[np.float64] = corners.reshape(-1, 4)
    limits = np.array(sizes, dtype=np.float64).reshape(-1, 2)[:, ::-1]  # [T, 2] width, height
    low, high = boxes[:, :2], boxes[:, 2:]
    sound = np.isfinite(boxes).all(axis=1) & (high >= low).all(axis=1)
    low, high, limits = low[sound], high[sound], limits[sound]
    zeros = (low >= 0) & (low < 1)
    beyond = (low < 0) | (high > limits + ROUNDING)  # NaN, no size stated: False
    return Signs(
        boxes=len(low),
        at_zero=int(zeros.any(axis=1).sum()),
        zeros=int(zeros.sum()),
        ones=int(((low >= 1) & (low < 2)).sum()),
        exact_ones=int((low == 1).sum()),
        reaching=int(((high > limits - 1) & ~beyond).any(axis=1).sum()),
        beyond=int(beyond.any(axis=1).sum()),
        fractional=int((boxes[sound] % 1 != 0).any(axis=1).sum()),
    )
