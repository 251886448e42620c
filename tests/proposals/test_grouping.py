"""Hierarchical grouping against algorithm 1 as a loop over sets of pixels and fractions."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from detkit.proposals.features import colour_bins, describe_regions, texture_bins
from detkit.proposals.grouping import Terms, group, neighbour_pairs
from detkit.proposals.segmentation import segment, sorted_edges
from tests.proposals import slow
from tests.proposals.images import noise, patches

TERMS: list[Terms] = [
    (True, True, True, True),
    (False, True, True, True),
    (False, False, False, True),
    (False, False, True, False),
    (True, False, False, False),
    (False, True, False, False),
]


def spread(folded: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Texture bins of 8 orientations, ``[C * 8, H, W]``, from those of 4 axes."""
    C = len(folded)
    bins = np.zeros((C, 8, *size), np.uint8)
    for c, axis, y, x in np.ndindex(C, 4, *size):
        orientation, number = divmod(int(folded[c, axis, y * size[1] + x]), 10)
        bins[c, orientation, y, x] = number
    return bins.reshape(C * 8, *size)


def both_ways(
    image: NDArray[np.uint8], labels: NDArray[np.int32], terms: Terms
) -> tuple[object, object]:
    """Boxes and merges as detkit and as the slow loop have them."""
    planes = np.ascontiguousarray(image.transpose(2, 0, 1))
    flat, width = labels.reshape(-1), labels.shape[1]
    regions = int(labels.max()) + 1
    colours, textures = colour_bins(planes), texture_bins(planes)
    described = describe_regions(flat, regions, width, colours, textures)
    pairs = neighbour_pairs(flat, regions, width)
    boxes, merged = group(pairs, *described, terms, float(labels.size))
    wanted = slow.group(
        labels, colours.reshape(-1, *labels.shape), spread(textures, labels.shape), terms
    )
    return (boxes.tolist(), merged.tolist()), (
        [list(b) for b in wanted[0]],
        [list(m) for m in wanted[1]],
    )


@pytest.mark.parametrize("terms", TERMS)
@pytest.mark.parametrize("seed", range(3))
def test_group_agrees_with_the_slow_loop(terms: Terms, seed: int) -> None:
    image = patches((22, 27), seed)
    edges = sorted_edges(np.ascontiguousarray(image.transpose(2, 0, 1)))
    labels, _ = segment(*edges, 27, 22 * 27, 30.0, 8)
    ours, slowly = both_ways(image, labels.reshape(22, 27), terms)
    assert ours == slowly


@pytest.mark.parametrize("terms", TERMS)
def test_ties_go_to_the_lower_numbers(terms: Terms) -> None:
    image = np.full((6, 8, 3), 90, np.uint8)  # every pair of equal size is equally similar
    labels = (np.arange(6)[:, None] // 2 * 4 + np.arange(8) // 2).astype(np.int32)
    ours, slowly = both_ways(image, labels, terms)
    assert ours == slowly


def test_grey_images_are_grouped_by_one_channel() -> None:
    image = noise((12, 13), seed=8, channels=1)
    labels = (np.arange(12)[:, None] // 3 * 3 + np.arange(13) // 5).astype(np.int32)
    ours, slowly = both_ways(image, labels, TERMS[0])
    assert ours == slowly


def test_one_region_needs_no_merge() -> None:
    image = np.zeros((4, 5, 3), np.uint8)
    ours, _ = both_ways(image, np.zeros((4, 5), np.int32), TERMS[0])
    assert ours == ([[0, 0, 5, 4]], [])


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (7, 1), (9, 11)])
def test_neighbours_agree_with_the_slow_loop(size: tuple[int, int]) -> None:
    labels = np.random.default_rng(3).integers(0, 6, size).astype(np.int32)
    pairs = neighbour_pairs(labels.reshape(-1), 6, size[1])
    assert {tuple(pair) for pair in pairs.tolist()} == slow.neighbours(labels)
    assert len(pairs) == len(slow.neighbours(labels))
    assert (pairs[:, 0] < pairs[:, 1]).all()
    assert (np.diff(pairs[:, 0]) >= 0).all()


def test_corners_do_not_make_neighbours() -> None:
    labels = np.array([[0, 1], [2, 3]], np.int32)
    assert neighbour_pairs(labels.reshape(-1), 4, 2).tolist() == [[0, 1], [0, 2], [1, 3], [2, 3]]
