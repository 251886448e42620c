"""Hierarchical grouping: the two most similar neighbours become one, until one region is left.

Histograms are kept as counts, which add up exactly, and compared as whole numbers: neither the
order of a sum nor the processor changes a similarity.

Paper:
    Selective Search for Object Recognition (Uijlings et al., IJCV 2013), algorithm 1, equations 1
    to 6.
"""

from __future__ import annotations

import heapq

import numpy as np
from numpy.typing import NDArray

from detkit.proposals.compiled import compiled
from detkit.proposals.modes import Terms

WHOLE = float(1 << 24)  # a histogram of sum 1, in the whole numbers that are compared


@compiled
def neighbour_pairs(labels: NDArray[np.int32], regions: int, width: int) -> NDArray[np.int32]:
    """List the regions that share a horizontal or vertical border of pixels.

    Args:
        labels: ``[H * W]`` in 0..R-1.
        regions: R.
        width: of the image.

    Returns:
        ``[P, 2]`` each pair once, the smaller label first, sorted by it.
    """
    pixels = len(labels)
    starts = np.zeros(regions + 1, np.int64)
    for i in range(pixels):
        label = labels[i]
        if (i + 1) % width and labels[i + 1] != label:
            starts[min(label, labels[i + 1]) + 1] += 1
        if i + width < pixels and labels[i + width] != label:
            starts[min(label, labels[i + width]) + 1] += 1
    for region in range(regions):
        starts[region + 1] += starts[region]
    borders = np.empty(starts[regions], np.int32)  # the larger label, grouped by the smaller
    position = starts[:-1].copy()
    for i in range(pixels):
        label = labels[i]
        for there in range(2):
            if there == 0:
                if (i + 1) % width == 0:
                    continue
                other = labels[i + 1]
            else:
                if i + width >= pixels:
                    continue
                other = labels[i + width]
            if other != label:
                low = min(label, other)
                borders[position[low]] = max(label, other)
                position[low] += 1
    seen = np.full(regions, -1, np.int32)
    pairs = np.empty((len(borders), 2), np.int32)
    count = 0
    for low in range(regions):
        for i in range(starts[low], starts[low + 1]):
            high = borders[i]
            if seen[high] != low:
                seen[high] = low
                pairs[count, 0] = low
                pairs[count, 1] = high
                count += 1
    return pairs[:count].copy()


@compiled
def _normalise(counts: NDArray[np.int32], out: NDArray[np.int32], scale: float) -> None:
    for j in range(len(counts)):
        out[j] = np.int32(counts[j] * scale)


@compiled
def _intersection(a: NDArray[np.int32], b: NDArray[np.int32]) -> float:
    total = np.int32(0)
    for j in range(len(a)):
        total = np.int32(total + min(a[j], b[j]))
    return total / WHOLE


@compiled
def _size_and_fill(
    a: int, b: int, size: NDArray[np.int32], boxes: NDArray[np.int32], terms: Terms, area: float
) -> float:
    both = size[a] + size[b]
    value = 0.0
    if terms[2]:
        value += 1 - both / area
    if terms[3]:
        width = max(boxes[a, 2], boxes[b, 2]) - min(boxes[a, 0], boxes[b, 0])
        height = max(boxes[a, 3], boxes[b, 3]) - min(boxes[a, 1], boxes[b, 1])
        value += 1 - (width * height - both) / area
    return value


@compiled
def _root(parent: NDArray[np.int32], x: int) -> int:
    while parent[x] != x:
        parent[x] = parent[parent[x]]
        x = parent[x]
    return x


@compiled
def _linked(
    pairs: NDArray[np.int32], regions: int
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
    """Neighbours as linked lists: entry, next entry (-1: none), first and last of a region."""
    entry = np.empty(2 * len(pairs), np.int32)
    following = np.full(2 * len(pairs), -1, np.int32)
    first = np.full(2 * regions, -1, np.int32)
    last = np.full(2 * regions, -1, np.int32)
    for i in range(len(pairs)):
        for side in range(2):
            region, at = pairs[i, side], 2 * i + side
            entry[at] = pairs[i, 1 - side]
            if last[region] < 0:
                first[region] = at
            else:
                following[last[region]] = at
            last[region] = at
    return entry, following, first, last


@compiled
def group(
    pairs: NDArray[np.int32],
    sizes: NDArray[np.int32],
    boxes: NDArray[np.int32],
    colour: NDArray[np.int32],
    texture: NDArray[np.int32],
    terms: Terms,
    area: float,
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Merge regions until one is left.

    Of pairs that are equally similar the one with the lower numbers is merged first.

    Args:
        pairs: ``[P, 2]`` of :func:`neighbour_pairs`.
        sizes: ``[R]`` pixels; all that follows as in ``features.describe_regions``.
        boxes: ``[R, 4]``.
        colour: ``[R, C * 25]`` counts.
        texture: ``[R, C * 80]`` counts.
        terms: which similarities are summed.
        area: pixels of the image.

    Returns:
        ``[2R - 1, 4]`` boxes: the regions, then what each merge made, in order; and ``[R - 1, 2]``
        the numbers of the two that each merge joined.
    """
    regions = len(sizes)
    total = 2 * regions - 1
    size = np.empty(total, np.int32)
    size[:regions] = sizes
    all_boxes = np.empty((total, 4), np.int32)
    all_boxes[:regions] = boxes
    merged = np.empty((regions - 1, 2), np.int32)
    # Each histogram has a row; a merge takes over the row of its first part.
    row = np.arange(total).astype(np.int32)
    counts = (colour.copy(), texture.copy())
    shares = (np.empty_like(colour), np.empty_like(texture))
    for kind in range(2):
        # every pixel is counted once in each of these histograms, which sum to 1 together
        per_pixel = counts[kind][0].sum() / sizes[0]
        for i in range(regions):
            _normalise(counts[kind][i], shares[kind][i], WHOLE / (per_pixel * sizes[i]))
    entry, following, first, last = _linked(pairs, regions)
    parent = np.arange(total).astype(np.int32)
    seen = np.full(total, -1, np.int32)
    queue = [(0.0, np.int32(0), np.int32(0)) for _ in range(0)]
    for i in range(len(pairs)):
        a, b = pairs[i, 0], pairs[i, 1]
        value = _size_and_fill(a, b, size, all_boxes, terms, area)
        for kind in range(2):
            if terms[kind]:
                value += _intersection(shares[kind][a], shares[kind][b])
        queue.append((-value, a, b))
    heapq.heapify(queue)
    for new in range(regions, total):
        _, a, b = heapq.heappop(queue)
        while parent[a] != a or parent[b] != b:  # of regions that are no more
            _, a, b = heapq.heappop(queue)
        merged[new - regions, 0] = a
        merged[new - regions, 1] = b
        parent[a] = new
        parent[b] = new
        size[new] = size[a] + size[b]
        all_boxes[new, :2] = np.minimum(all_boxes[a, :2], all_boxes[b, :2])
        all_boxes[new, 2:] = np.maximum(all_boxes[a, 2:], all_boxes[b, 2:])
        row[new] = row[a]
        for kind in range(2):
            if terms[kind]:
                mine, other = counts[kind][row[a]], counts[kind][row[b]]
                per_pixel = mine.sum() / size[a]
                mine += other
                _normalise(mine, shares[kind][row[a]], WHOLE / (per_pixel * size[new]))
        following[last[a]] = first[b]
        first[new] = first[a]
        last[new] = last[b]
        seen[new] = new
        before, at = -1, first[new]
        while at >= 0:
            other = _root(parent, entry[at])
            if seen[other] == new:  # itself, or a neighbour of both: unlink
                if before < 0:
                    first[new] = following[at]
                else:
                    following[before] = following[at]
            else:
                seen[other] = new
                entry[at] = other
                value = _size_and_fill(other, new, size, all_boxes, terms, area)
                for kind in range(2):
                    if terms[kind]:
                        value += _intersection(shares[kind][row[other]], shares[kind][row[new]])
                heapq.heappush(queue, (-value, np.int32(other), np.int32(new)))
                before = at
            at = following[at]
        last[new] = before
    return all_boxes, merged
