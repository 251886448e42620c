"""Segmentation against sets of pixels, and what its papers and scikit-image promise of it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from detkit.proposals.segmentation import segment, smoothing_kernel, sorted_edges
from tests.proposals import slow
from tests.proposals.images import noise, patches


def planes_of(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(image.transpose(2, 0, 1))


def labels_of(
    image: NDArray[np.uint8], k: float, min_size: int, neighbours: int = 8, step: float = 0.0
) -> NDArray[np.int32]:
    height, width = image.shape[:2]
    edges = sorted_edges(planes_of(image), neighbours, step)
    labels, regions = segment(*edges, width, height * width, k, min_size)
    assert regions == labels.max() + 1
    return labels.reshape(height, width)


def slow_labels(
    image: NDArray[np.uint8], k: float, min_size: int, neighbours: int, step: float
) -> NDArray[np.int32]:
    """Numbered in the order of their first pixels, as ours are."""
    kernel = smoothing_kernel(0.8)
    smooth = np.stack([slow.smooth(p, kernel) for p in planes_of(image).astype(np.float32)])
    regions = slow.segment(slow.edges(smooth, neighbours, step), image.shape[:2], k, min_size)
    numbers: dict[frozenset[slow.Pixel], int] = {}
    labels = np.zeros(image.shape[:2], np.int32)
    for pixel in np.ndindex(image.shape[:2]):
        labels[pixel] = numbers.setdefault(regions[pixel], len(numbers))
    return labels


@pytest.mark.parametrize(("neighbours", "step"), [(8, 0.0), (4, 1 / 32), (8, 1.0), (4, 0.0)])
@pytest.mark.parametrize(("k", "min_size"), [(20.0, 1), (100.0, 8), (300.0, 25), (1.0, 4)])
def test_segments_agree_with_the_slow_loop(
    k: float, min_size: int, neighbours: int, step: float
) -> None:
    for seed, size in enumerate([(13, 17), (1, 21), (21, 1), (2, 2), (24, 22)]):
        for image in (patches(size, seed), noise(size, seed), noise(size, seed, channels=1)):
            np.testing.assert_array_equal(
                labels_of(image, k, min_size, neighbours, step),
                slow_labels(image, k, min_size, neighbours, step),
            )


def test_edges_are_each_pair_of_neighbours_once_in_ascending_order() -> None:
    weights, codes = sorted_edges(planes_of(patches((7, 9), seed=2)))
    assert (np.diff(weights) >= 0).all()
    offsets = np.array([1, 9, 10, 8])
    pairs = {(int(c) >> 2, (int(c) >> 2) + int(offsets[c & 3])) for c in codes}
    wanted = set()
    for y, x in np.ndindex(7, 9):
        for there in ((y, x + 1), (y + 1, x), (y + 1, x + 1), (y + 1, x - 1)):
            if there[0] < 7 and 0 <= there[1] < 9:
                wanted.add((y * 9 + x, there[0] * 9 + there[1]))
    assert pairs == wanted
    assert len(codes) == len(wanted)


def test_a_single_channel_weighs_as_if_it_were_there_three_times() -> None:
    grey = noise((6, 7), seed=1, channels=1)
    once, codes = sorted_edges(planes_of(grey))
    thrice, same = sorted_edges(planes_of(np.repeat(grey, 3, axis=2)))
    np.testing.assert_allclose(once, thrice, rtol=1e-6)
    assert set(codes.tolist()) == set(same.tolist())


def test_smoothing_kernel_is_the_authors() -> None:
    # sigma 0.8: 4 pixels to either side, exp(-x^2 / (2 * 0.64)), divided by their sum
    half = [1.0, 0.4578334, 0.0439369, 0.0008838, 0.0000037]
    total = half[0] + 2 * sum(half[1:])
    wanted = [*half[:0:-1], *half]
    np.testing.assert_allclose(smoothing_kernel(0.8), np.array(wanted) / total, atol=1e-6)


def connected(labels: NDArray[np.int32]) -> bool:
    """Whether every region is one piece of 8-neighbours."""
    for label in range(int(labels.max()) + 1):
        left = {(int(y), int(x)) for y, x in np.argwhere(labels == label)}
        edge = [left.pop()]
        while edge:
            y, x = edge.pop()
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= near
            edge += near
        if left:
            return False
    return True


@given(
    st.tuples(st.integers(1, 14), st.integers(1, 14)),
    st.integers(0, 999),
    st.floats(0.5, 2000),
    st.integers(1, 60),
)
def test_regions_are_pieces_of_at_least_the_smallest_size(
    size: tuple[int, int], seed: int, k: float, min_size: int
) -> None:
    labels = labels_of(patches(size, seed), k, min_size)
    counts = np.bincount(labels.reshape(-1))
    assert (counts >= min(min_size, labels.size)).all()
    assert connected(labels)


def test_larger_scales_give_fewer_regions_on_a_photo_like_picture() -> None:
    image = patches((60, 80), seed=3, count=30)
    numbers = [int(labels_of(image, k, 1).max()) + 1 for k in (1, 10, 100, 1000, 10000)]
    assert numbers == sorted(numbers, reverse=True)
    assert numbers[0] > 10 * numbers[-1]


def test_two_halves_are_two_regions() -> None:
    image = np.zeros((20, 30, 3), np.uint8)
    image[:, 15:] = 200
    labels = labels_of(image, 20, 150)  # above the columns that smoothing puts between them
    assert labels.max() == 1
    assert (labels[:, :15] == 0).all()
    assert (labels[:, 15:] == 1).all()


def test_scikit_image_finds_the_same_regions() -> None:
    from skimage.segmentation import felzenszwalb

    image = np.zeros((40, 60, 3), np.uint8)
    image[:20, :30], image[20:, 30:] = (200, 30, 30), (30, 200, 60)
    theirs = felzenszwalb(image, scale=50, sigma=0.8, min_size=300)
    ours = labels_of(image, 50, 300)
    assert len(np.unique(theirs)) == len(np.unique(ours))
    agree = [(ours == o) & (theirs == t) for o in np.unique(ours) for t in np.unique(theirs)]
    assert sum(bool(both.any()) for both in agree) == len(np.unique(ours))
