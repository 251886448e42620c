"""Selective search as plain loops: slow, and short enough to be checked by eye."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

Pixel = tuple[int, int]  # (row, column)


def smooth(plane: NDArray[np.float32], kernel: NDArray[np.float32]) -> NDArray[np.float32]:
    """Along the rows, then along the columns; the border is repeated. All in float32."""
    H, W = plane.shape
    reach = len(kernel) // 2
    rows = np.zeros_like(plane)
    for y in range(H):
        for x in range(W):
            for tap, weight in enumerate(kernel):
                rows[y, x] += weight * plane[y, min(max(x + tap - reach, 0), W - 1)]
    columns = np.zeros_like(plane)
    for y in range(H):
        for x in range(W):
            for tap, weight in enumerate(kernel):
                columns[y, x] += weight * rows[min(max(y + tap - reach, 0), H - 1), x]
    return columns


def edges(
    planes: NDArray[np.float32], neighbours: int = 8, step: float = 0.0
) -> list[tuple[np.float32, Pixel, Pixel]]:
    """Every pair of neighbours once with its weight, lightest first; ties as they are found."""
    C, H, W = planes.shape
    found = []
    for y in range(H):
        for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1))[: neighbours // 2]:
            for x in range(W):
                if y + dy < H and 0 <= x + dx < W:
                    square = np.float32(0)
                    for c in range(C):
                        difference = planes[c, y + dy, x + dx] - planes[c, y, x]
                        square += difference * difference
                    weight = np.sqrt(square * np.float32(3 / C))
                    found.append((weight, (y, x), (y + dy, x + dx)))
    found.sort(key=lambda edge: edge[0])  # stable
    if not step:
        return found
    return [(np.float32(weight // step * step), one, other) for weight, one, other in found]


def segment(
    found: list[tuple[np.float32, Pixel, Pixel]], size: tuple[int, int], k: float, min_size: int
) -> dict[Pixel, frozenset[Pixel]]:
    """Felzenszwalb and Huttenlocher, section 3, with sets of pixels: the region of each pixel."""
    region = {(y, x): frozenset([(y, x)]) for y in range(size[0]) for x in range(size[1])}
    threshold = {pixels: np.float32(k) for pixels in region.values()}

    def join(a: frozenset[Pixel], b: frozenset[Pixel]) -> frozenset[Pixel]:
        both = a | b
        for pixel in both:
            region[pixel] = both
        return both

    for weight, one, other in found:
        a, b = region[one], region[other]
        if a is not b and weight <= threshold[a] and weight <= threshold[b]:
            threshold[join(a, b)] = weight + np.float32(k) / np.float32(len(a) + len(b))
    for _, one, other in found:
        a, b = region[one], region[other]
        if a is not b and min(len(a), len(b)) < min_size:
            join(a, b)
    return region


def neighbours(labels: NDArray[np.int32]) -> set[tuple[int, int]]:
    """Pairs of labels that meet at a horizontal or vertical border of two pixels."""
    H, W = labels.shape
    pairs = set()
    for y in range(H):
        for x in range(W):
            for there in ((y, x + 1), (y + 1, x)):
                if there[0] < H and there[1] < W and labels[there] != labels[y, x]:
                    low, high = sorted((int(labels[y, x]), int(labels[there])))
                    pairs.add((low, high))
    return pairs


class Region:
    """A set of pixels and all that is compared of it, counted anew and in exact fractions."""

    def __init__(
        self,
        pixels: list[Pixel],
        colours: NDArray[np.uint8],
        textures: NDArray[np.uint8],
    ) -> None:
        self.pixels = pixels
        rows, columns = [y for y, _ in pixels], [x for _, x in pixels]
        self.box = (min(columns), min(rows), max(columns) + 1, max(rows) + 1)
        self.colour = self._histogram(colours, 25)
        self.texture = self._histogram(textures, 10)

    def _histogram(self, bins: NDArray[np.uint8], number: int) -> list[Fraction]:
        """``[planes * number]``, of sum 1; ``bins`` is ``[planes, H, W]``."""
        counts = [0] * (len(bins) * number)
        for plane in range(len(bins)):
            for pixel in self.pixels:
                counts[plane * number + int(bins[(plane, *pixel)])] += 1
        return [Fraction(count, len(bins) * len(self.pixels)) for count in counts]

    def similarity(self, other: Region, terms: tuple[bool, ...], area: int) -> Fraction:
        """Equations 1, 3, 4 and 5 of the paper, those of ``terms`` added up."""
        x1, y1 = min(self.box[0], other.box[0]), min(self.box[1], other.box[1])
        x2, y2 = max(self.box[2], other.box[2]), max(self.box[3], other.box[3])
        both = len(self.pixels) + len(other.pixels)
        colour = sum(map(min, self.colour, other.colour))
        texture = sum(map(min, self.texture, other.texture))
        size = 1 - Fraction(both, area)
        fill = 1 - Fraction((x2 - x1) * (y2 - y1) - both, area)
        values = (colour, texture, size, fill)
        return Fraction(sum(value for value, asked in zip(values, terms, strict=True) if asked))


def group(
    labels: NDArray[np.int32],
    colours: NDArray[np.uint8],
    textures: NDArray[np.uint8],
    terms: tuple[bool, ...],
) -> tuple[list[tuple[int, ...]], list[tuple[int, int]]]:
    """Algorithm 1: boxes of all regions in the order they appear, and the pairs merged."""
    regions = {
        label: Region(
            [(int(y), int(x)) for y, x in np.argwhere(labels == label)], colours, textures
        )
        for label in range(int(labels.max()) + 1)
    }
    pairs = neighbours(labels)
    boxes = [regions[label].box for label in range(len(regions))]
    merged = []
    alive = dict(regions)
    while pairs:

        def key(pair: tuple[int, int]) -> tuple[Fraction, int, int]:
            value = alive[pair[0]].similarity(alive[pair[1]], terms, labels.size)
            return (-value, *pair)

        a, b = min(pairs, key=key)
        new = len(boxes)
        alive[new] = Region(alive[a].pixels + alive[b].pixels, colours, textures)
        boxes.append(alive[new].box)
        merged.append((a, b))
        pairs = {
            tuple(sorted(new if label in (a, b) else label for label in pair)) for pair in pairs
        } - {(new, new)}
        del alive[a], alive[b]
    return boxes, merged


def texture_bins(planes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """``[C * 8, H, W]`` bins in 0..9: derivatives in 8 directions, kernels in two dimensions."""
    C, H, W = planes.shape
    reach = 4
    window = [
        (dy, dx, math.exp(-(dx * dx + dy * dy) / 2))
        for dy in range(-reach, reach + 1)
        for dx in range(-reach, reach + 1)
    ]
    unit = sum(dx * dx * weight for _, dx, weight in window)
    bins = np.zeros((C * 8, H, W), np.uint8)
    for c in range(C):
        slopes = np.zeros((2, H, W))
        for y in range(H):
            for x in range(W):
                for dy, dx, weight in window:
                    at = (min(max(y + dy, 0), H - 1), min(max(x + dx, 0), W - 1))
                    value = float(planes[(c, *at)]) * weight / unit
                    slopes[:, y, x] += (dx * value, dy * value)
        peak = np.abs(slopes).max()
        if peak < 1e-9:
            continue
        for direction in range(8):
            # 0, 180, 45, 225, 90, 270, 135 and 315 degrees, clockwise on the screen
            angle = math.pi / 4 * (direction // 2) + math.pi * (direction % 2)
            along = math.cos(angle) * slopes[0] + math.sin(angle) * slopes[1]
            share = np.maximum(along, 0) / peak
            bins[c * 8 + direction] = np.minimum(share * 10, 9).astype(np.uint8)
    return bins
