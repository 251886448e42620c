"""One order for the boxes of many hierarchies.

Source:
    ``authors``: Selective Search (Uijlings et al., IJCV 2013), section 3.3, and
    ``Image2HierarchicalGrouping.m``. The other two are detkit's.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from detkit.proposals.compiled import compiled
from detkit.proposals.modes import Ranking

NEAR = 0.8  # IoU above which a box says little that an earlier one has not said; docs/results.md


def rank(
    hierarchies: Sequence[NDArray[np.int32]],
    ranking: Ranking,
    seed: int,
    min_side: int,
    near: float = NEAR,
) -> NDArray[np.int32]:
    """Put the boxes of all hierarchies in one order, each box once.

    In each hierarchy the last merge has priority 1, the one before 2, and so on; all first regions
    share the number after the first merge's.

    - ``authors``: priorities are multiplied by random numbers in 0..1; the lowest product first.
    - ``distinct``: the same, but what overlaps an earlier box that stays in its place by an IoU
      above ``near`` comes after all of these.
    - ``turns``: the lowest priority first, hierarchies taking turns; then as ``distinct``.

    Args:
        hierarchies: ``[2R - 1, 4]`` boxes each: R first regions, then what each merge made.
        ranking: which order.
        seed: of the random numbers.
        min_side: pixels; boxes narrower or lower are dropped.
        near: IoU; at 1 nothing comes after.

    Returns:
        ``[N, 4]``; of equal boxes the first is kept.
    """
    boxes = np.concatenate(hierarchies)
    order = np.concatenate([priorities(len(each)) for each in hierarchies]).astype(np.float64)
    if ranking != "turns":
        order *= np.random.default_rng(seed).random(len(order))
    boxes = boxes[np.argsort(order, kind="stable")]
    boxes = boxes[(boxes[:, 2:] - boxes[:, :2] >= min_side).all(axis=1)]
    _, first = np.unique(boxes, axis=0, return_index=True)
    boxes = boxes[np.sort(first)]
    if ranking == "authors":
        return boxes
    repeats = near_repeats(boxes, near)
    return np.concatenate([boxes[~repeats], boxes[repeats]])


def priorities(count: int) -> NDArray[np.int64]:
    """Priorities of a hierarchy's ``count`` = 2R - 1 boxes."""
    merges = count // 2
    return np.concatenate([np.full(merges + 1, merges + 1), np.arange(merges, 0, -1)])


def near_repeats(boxes: NDArray[np.int32], iou: float) -> NDArray[np.bool_]:
    """Tell which of ``[N, 4]`` boxes repeat an earlier one: their IoU is above ``iou``.

    What repeats a box is itself repeated by none. Boxes whose areas differ by more than the
    factor ``iou`` cannot overlap so far, so only those of about the same area are compared.
    """
    area = (boxes[:, 2:] - boxes[:, :2]).astype(np.float64).prod(axis=1)
    by_area = np.argsort(area, kind="stable")
    return _mark(boxes, area, by_area, np.argsort(by_area), iou)


@compiled
def _mark(
    boxes: NDArray[np.int32],
    area: NDArray[np.float64],
    by_area: NDArray[np.int64],
    place: NDArray[np.int64],
    iou: float,
) -> NDArray[np.bool_]:
    repeats = np.zeros(len(boxes), np.bool_)
    for i in range(len(boxes)):
        if repeats[i]:
            continue
        for way in (-1, 1):  # to smaller boxes, to larger ones
            at = place[i] + way
            while 0 <= at < len(boxes):
                j = by_area[at]
                at += way
                if min(area[i], area[j]) <= iou * max(area[i], area[j]):
                    break
                if j < i or repeats[j]:
                    continue
                width = min(boxes[i, 2], boxes[j, 2]) - max(boxes[i, 0], boxes[j, 0])
                height = min(boxes[i, 3], boxes[j, 3]) - max(boxes[i, 1], boxes[j, 1])
                if width > 0 and height > 0:
                    inter = float(width) * float(height)
                    repeats[j] = inter > iou * (area[i] + area[j] - inter)
    return repeats
