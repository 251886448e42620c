"""Boxes of each format as text: numbers with the fewest decimals that read back to the same box.

The same is the same in the precision of what is given: float32 where that is all that is known,
else the float64 numbers of the source's files.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from detkit.data.stated import corners, without_noise

MOST_DECIMALS = 9  # tried; then all digits are written
YOLO_DECIMALS = tuple(range(6, 16))  # tried, from the customary six
ULPS = 2  # units in the last place of a double

Table: TypeAlias = list[list[str]]  # [T][4]


def voc_texts(boxes: NDArray[np.floating[Any]]) -> Table:
    """``[T][4]`` one-based inclusive corners."""
    shift = np.array([1.0, 1.0, 0.0, 0.0])
    exact = boxes.astype(np.float64) + shift
    return _written(exact, _decimals(exact, lambda value: value - shift, boxes))


def csv_texts(boxes: NDArray[np.floating[Any]]) -> Table:
    """``[T][4]`` the boxes themselves."""
    exact = boxes.astype(np.float64)
    return _written(exact, _decimals(exact, lambda value: value, boxes))


def plain_texts(values: NDArray[np.floating[Any]]) -> list[str]:
    """``[T]`` numbers such as areas."""
    return [row[0] for row in _exact_texts(values[:, None])]


def coco_texts(
    boxes: NDArray[np.floating[Any]], stated: NDArray[np.float64] | None = None
) -> Table:
    """``[T][4]`` left, top, width, height; left + width is the right edge again.

    Args:
        boxes: ``[T, 4]`` xyxy, within the image.
        stated: ``[T, 4]`` xywh, of which they were made; None: not known.
    """
    if stated is not None:
        whole = (boxes == corners(stated)).all(axis=1, keepdims=True)
        clipped = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
        return _exact_texts(np.where(whole, stated, clipped))
    low = boxes[:, :2].astype(np.float64)
    decimals = _decimals(low, lambda value: value, boxes[:, :2])
    read = _rounded(low, decimals)
    sides = boxes[:, 2:].astype(np.float64) - read
    side_decimals = _decimals(sides, lambda value: read + value, boxes[:, 2:])
    return [
        a + b for a, b in zip(_written(low, decimals), _written(sides, side_decimals), strict=True)
    ]


def yolo_texts(boxes: NDArray[np.floating[Any]], sizes: NDArray[np.int32]) -> Table:
    """``[T][4]`` centre x, centre y, width, height over the image's ``sizes`` (height, width)."""
    scale = sizes[:, ::-1].astype(np.float64)  # [T, 2] width, height
    low, high = boxes[:, :2].astype(np.float64), boxes[:, 2:].astype(np.float64)
    centre, side = (low + high) / 2 / scale, (high - low) / scale
    decimals = np.full(centre.shape, -1)
    for digits in reversed(YOLO_DECIMALS):
        c, s = np.round(centre, digits), np.round(side, digits)
        left = without_noise(np.clip(c - s / 2, 0, 1) * scale)
        right = without_noise(np.clip(c + s / 2, 0, 1) * scale)
        same = _are_same(left, boxes[:, :2]) & _are_same(right, boxes[:, 2:])
        decimals[same & (s > 0)] = digits
    return [
        a + b for a, b in zip(_written(centre, decimals), _written(side, decimals), strict=True)
    ]


def _are_same(read: NDArray[np.float64], wanted: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
    """Where a number that is read is the one that is wanted, in the precision of that.

    In float64 that is but for what adding 1 or a width and taking it away again leaves.
    """
    if wanted.dtype == np.float32:
        return np.asarray(read.astype(np.float32) == wanted)
    near = np.abs(read - wanted) <= ULPS * np.spacing(np.abs(wanted))
    return np.asarray(near & (read.astype(np.float32) == wanted.astype(np.float32)))


def _decimals(
    exact: NDArray[np.float64],
    read: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    wanted: NDArray[np.floating[Any]],
) -> NDArray[np.int64]:
    """The fewest decimals of each number from which ``read`` makes what is wanted; -1: all."""
    decimals = np.full(exact.shape, -1)
    for digits in range(MOST_DECIMALS, -1, -1):
        decimals[_are_same(read(np.round(exact, digits)), wanted)] = digits
    return decimals


def _exact_texts(values: NDArray[np.floating[Any]]) -> Table:
    exact = values.astype(np.float64)
    decimals = np.full(exact.shape, -1)
    for digits in range(MOST_DECIMALS, -1, -1):
        decimals[np.round(exact, digits).astype(values.dtype) == values] = digits
    return _written(exact, decimals)


def _rounded(exact: NDArray[np.float64], decimals: NDArray[np.int64]) -> NDArray[np.float64]:
    """What the written numbers are read as."""
    out = exact.copy()
    for digits in np.unique(decimals[decimals >= 0]).tolist():
        out[decimals == digits] = np.round(exact[decimals == digits], digits)
    return out


def _written(exact: NDArray[np.float64], decimals: NDArray[np.int64]) -> Table:
    values = _rounded(exact, decimals)  # not ``exact``: of a tie, formatting takes the other half
    return [
        [f"{value:.{digits}f}" if digits >= 0 else repr(value) for value, digits in pairs]
        for pairs in (
            zip(row, places, strict=True)
            for row, places in zip(values.tolist(), decimals.tolist(), strict=True)
        )
    ]
