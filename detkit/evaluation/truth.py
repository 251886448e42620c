"""Ground truth as figures are computed from: every object of the files, as they state it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detkit.data.base import Annotations
from detkit.data.stated import as_stated, corners


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """M objects of I images in the order of their files, those that are not learned among them.

    Its rows are not those of the Annotations where these lack some.
    """

    offsets: NDArray[np.int64]  # [I + 1] the objects of image i are rows offsets[i] and on
    measured: NDArray[np.float64]  # [M, 4] left, top, width, height; not clipped to the image
    labels: NDArray[np.int64]  # [M] in 0..K-1
    difficult: NDArray[np.bool_]  # [M]
    crowd: NDArray[np.bool_]  # [M]
    area: NDArray[np.float64]  # [M] square pixels

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def boxes(self) -> NDArray[np.float64]:
        """``[M, 4]`` xyxy."""
        return corners(self.measured)

    @property
    def scored(self) -> NDArray[np.bool_]:
        """``[M]`` neither difficult nor a crowd."""
        return ~(self.difficult | self.crowd)

    def image_of_row(self) -> NDArray[np.int64]:
        """``[M]`` index of the image that each object belongs to."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))


def truth_of(annotations: Annotations) -> Truth:
    """Lay out what figures are computed from.

    Annotations without stated boxes, such as a program's own, are measured by their boxes.
    """
    data, unsound = annotations, annotations.unsound
    stated = data.stated
    if stated is None:
        stated = as_stated(data.boxes.astype(np.float64), None, shares=False)
    area = data.area.astype(np.float64)
    if unsound is None:
        return Truth(data.offsets, stated, data.labels, data.difficult, data.crowd, area)
    places = np.concatenate([unsound.rows, np.arange(len(stated))])
    order = np.argsort(places, kind="stable")  # each before the sound one that follows it

    def merged(more: NDArray[Any], own: NDArray[Any]) -> NDArray[Any]:
        return np.concatenate([more, own])[order]

    more = np.bincount(unsound.images, minlength=len(data))
    return Truth(
        offsets=data.offsets + np.concatenate([[0], np.cumsum(more)]),
        measured=merged(unsound.stated, stated),
        labels=merged(unsound.labels, data.labels),
        difficult=merged(unsound.difficult, data.difficult),
        crowd=merged(unsound.crowd, data.crowd),
        area=merged(unsound.area, area),
    )
