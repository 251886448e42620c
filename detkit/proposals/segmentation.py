"""Graph-based segmentation: the regions that selective search begins with.

The edges of the pixel graph are weighed and sorted once an image; every scale ``k`` shares them.

Paper:
    Efficient Graph-Based Image Segmentation (Felzenszwalb and Huttenlocher, IJCV 2004), section 3;
    smoothing, 8 neighbours and the pass that joins small regions as in the authors' program.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from detkit.proposals.compiled import compiled
from detkit.proposals.filters import filter_separable

SMOOTHING = 0.8  # sigma, pixels; section 5
KERNEL_REACH = 4.0  # the kernel ends after so many sigmas, as in the authors' program
CHANNELS = 3  # of the authors' program; a single channel is handed to it three times
DIGIT_BITS, DIGITS = 8, 4  # of the radix sort; together the bits of a float
DIGIT_VALUES = 1 << DIGIT_BITS
BATCH = 256  # edges; of a few hundred any number is as fast

Edges = tuple[NDArray[np.float32], NDArray[np.uint32]]  # [E] weights, ascending; [E] codes


def smoothing_kernel(sigma: float) -> NDArray[np.float32]:
    """A Gaussian of sum 1, ``[2 * ceil(4 * sigma) + 1]``."""
    reach = math.ceil(KERNEL_REACH * sigma)
    offsets = np.arange(-reach, reach + 1)
    kernel = np.exp(-0.5 * (offsets / sigma) ** 2)
    return (kernel / kernel.sum()).astype(np.float32)


def sorted_edges(planes: NDArray[np.uint8], neighbours: int = 8, step: float = 0.0) -> Edges:
    """Weigh the edges between neighbouring pixels of a smoothed image, and sort them.

    Args:
        planes: ``[C, H, W]``, C = 1 or 3.
        neighbours: of a pixel inside the image, 8 or 4.
        step: grey values; above 0, weights are rounded down to multiples of it once they are
            sorted. The threshold of a large region is its heaviest edge and next to nothing, so
            that in a smooth slope it grows from weight to weight without end; whole steps stop it.

    Returns:
        Weights, ascending: the Euclidean distance of the two colours. And for each edge
        ``4 * pixel + direction``: from a pixel (in row-major order) to the right, down, down and
        right, down and left; with 4 neighbours the first two. Equal weights stand in the order of
        rows, directions, columns.
    """
    kernel = smoothing_kernel(SMOOTHING)
    smooth = filter_separable(planes.astype(np.float32), kernel, kernel)
    directions = neighbours // 2
    weights, codes = _sort(*_weigh(smooth, np.float32(CHANNELS / len(planes)), directions))
    if step > 0:
        weights = np.floor(weights / np.float32(step)) * np.float32(step)
    return weights, codes


@compiled
def _weigh(
    planes: NDArray[np.float32], repeats: np.float32, directions: int
) -> tuple[NDArray[np.float32], NDArray[np.uint32]]:
    C, H, W = planes.shape
    count = H * (W - 1) + (H - 1) * W + (directions - 2) * (H - 1) * (W - 1)
    weights = np.zeros(count, np.float32)
    codes = np.empty(count, np.uint32)
    end = 0
    for y in range(H):
        for direction in range(directions):
            down = 1 if direction > 0 else 0
            if y + down == H:
                break
            first = 1 if direction == 3 else 0  # column that the row of edges begins in
            length = W if direction == 1 else W - 1
            if length == 0:
                continue
            shift = 0 if direction == 1 else (-1 if direction == 3 else 1)
            row = weights[end : end + length]
            for c in range(C):
                here = planes[c, y, first : first + length]
                there = planes[c, y + down, first + shift : first + shift + length]
                for i in range(length):
                    difference = there[i] - here[i]
                    row[i] += difference * difference
            code = codes[end : end + length]
            start = (y * W + first) * 4 + direction
            for i in range(length):
                row[i] = np.sqrt(row[i] * repeats)
                code[i] = np.uint32(start + 4 * i)
            end += length
    return weights, codes


@compiled
def _sort(
    weights: NDArray[np.float32], codes: NDArray[np.uint32]
) -> tuple[NDArray[np.float32], NDArray[np.uint32]]:
    """Radix sort, stable: floats that are not negative sort like the integers of their bits."""
    keys = weights.view(np.uint32)
    count = len(keys)
    other_keys = np.empty(count, np.uint32)
    other_codes = np.empty(count, np.uint32)
    mask = np.uint32(DIGIT_VALUES - 1)
    starts = np.zeros((DIGITS, DIGIT_VALUES), np.uint32)
    for i in range(count):
        for digit in range(DIGITS):
            starts[digit, (keys[i] >> np.uint32(digit * DIGIT_BITS)) & mask] += np.uint32(1)
    for digit in range(DIGITS):
        position = starts[digit]
        before = np.uint32(0)
        for value in range(DIGIT_VALUES):
            held = position[value]
            position[value] = before
            before += held
        shift = np.uint32(digit * DIGIT_BITS)
        for i in range(count):
            value = (keys[i] >> shift) & mask
            place = position[value]
            position[value] = place + np.uint32(1)
            other_keys[place] = keys[i]
            other_codes[place] = codes[i]
        keys, other_keys = other_keys, keys
        codes, other_codes = other_codes, codes
    return keys.view(np.float32), codes


@compiled
def _root(parent: NDArray[np.uint32], x: np.uint32) -> np.uint32:
    while parent[x] != x:
        parent[x] = parent[parent[x]]
        x = parent[x]
    return x


@compiled
def _join_similar(
    weights: NDArray[np.float32],
    codes: NDArray[np.uint32],
    offsets: NDArray[np.uint32],
    parent: NDArray[np.uint32],
    size: NDArray[np.int32],
    scale: np.float32,
    min_size: int,
) -> NDArray[np.uint32]:
    """Section 3's algorithm; returns the edges that may still join a region that is too small.

    Most edges lie inside a region. They are dropped a batch at a time and without a branch, which
    a processor does several times faster than one after the other; those between two different
    parents are looked at more closely.
    """
    threshold = np.full(len(parent), scale)
    left_out = np.empty(len(codes), np.uint32)
    left = np.uint32(0)
    parents_a = np.empty(BATCH, np.uint32)
    parents_b = np.empty(BATCH, np.uint32)
    between = np.empty(BATCH, np.uint32)  # which edges of the batch
    for start in range(0, len(codes), BATCH):
        code = codes[start : start + BATCH]
        weight = weights[start : start + BATCH]
        for i in range(len(code)):
            pixel = code[i] >> np.uint32(2)
            parents_a[i] = parent[pixel]
            parents_b[i] = parent[pixel + offsets[code[i] & np.uint32(3)]]
        count = np.uint32(0)
        for i in range(len(code)):
            a, b = parent[parents_a[i]], parent[parents_b[i]]
            between[count], parents_a[count], parents_b[count] = i, a, b
            count += np.uint32(a != b)
        for j in range(count):
            a, b = _root(parent, parents_a[j]), _root(parent, parents_b[j])
            if a == b:
                continue
            i = between[j]
            if weight[i] <= threshold[a] and weight[i] <= threshold[b]:
                if size[a] < size[b]:
                    a, b = b, a
                parent[b] = a
                size[a] += size[b]
                threshold[a] = weight[i] + scale / np.float32(size[a])
            elif size[a] < min_size or size[b] < min_size:  # sizes only grow
                left_out[left] = code[i]
                left += np.uint32(1)
        for i in range(len(code)):
            pixel = code[i] >> np.uint32(2)
            parent[pixel] = parent[parent[pixel]]  # short ways for the next batches
    return left_out[:left]


@compiled
def _join_small(
    codes: NDArray[np.uint32],
    offsets: NDArray[np.uint32],
    parent: NDArray[np.uint32],
    size: NDArray[np.int32],
    min_size: int,
) -> None:
    for i in range(len(codes)):
        pixel = codes[i] >> np.uint32(2)
        a = _root(parent, pixel)
        b = _root(parent, pixel + offsets[codes[i] & np.uint32(3)])
        if a != b and (size[a] < min_size or size[b] < min_size):
            if size[a] < size[b]:
                a, b = b, a
            parent[b] = a
            size[a] += size[b]


@compiled
def segment(
    weights: NDArray[np.float32],
    codes: NDArray[np.uint32],
    width: int,
    pixels: int,
    scale: float,
    min_size: int,
) -> tuple[NDArray[np.int32], int]:
    """Join the pixels of an image into regions.

    An edge joins two regions when it weighs no more than either's threshold, which is the heaviest
    edge inside plus ``scale / size``. Then, again by weight, every edge joins its regions when one
    of them has fewer than ``min_size`` pixels.

    Args:
        weights: ``[E]`` of :func:`sorted_edges`.
        codes: ``[E]`` of :func:`sorted_edges`.
        width: of the image.
        pixels: of the image, H * W.
        scale: k, in grey values times pixels; larger gives larger regions.
        min_size: pixels.

    Returns:
        ``[H * W]`` labels, numbered in the order of their first pixels, and their number.
    """
    parent = np.arange(pixels).astype(np.uint32)
    size = np.ones(pixels, np.int32)
    offsets = np.array([1, width, width + 1, width - 1]).astype(np.uint32)
    left_out = _join_similar(weights, codes, offsets, parent, size, np.float32(scale), min_size)
    _join_small(left_out, offsets, parent, size, min_size)
    labels = np.empty(pixels, np.int32)
    number = np.full(pixels, -1, np.int32)
    found = 0
    for i in range(pixels):
        root = _root(parent, np.uint32(i))
        if number[root] < 0:
            number[root] = found
            found += 1
        labels[i] = number[root]
    return labels, found
