"""One image, from pixels to hierarchies of regions.

Threads share the work; what they return is gathered in one order, so that their number changes
nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from detkit.proposals.colours import to_space
from detkit.proposals.features import colour_bins, describe_regions, texture_bins
from detkit.proposals.grouping import group, neighbour_pairs
from detkit.proposals.modes import Space, Terms
from detkit.proposals.segmentation import Edges, segment, sorted_edges

A = TypeVar("A")
B = TypeVar("B")


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """Every colour space with every scale and every sum of similarities."""

    spaces: tuple[Space, ...]
    terms: tuple[Terms, ...]
    scales: tuple[tuple[float, int], ...]  # (k, fewest pixels of a region)
    neighbours: int = 8  # of a pixel, 8 or 4
    step: float = 0.0  # of the weights of edges, grey values; 0: as they are


@dataclass(frozen=True, slots=True, eq=False)
class Hierarchy:
    """Regions of one segmentation, and what grouping made of them."""

    labels: NDArray[np.int32]  # [H, W] in 0..R-1
    boxes: NDArray[np.int32]  # [2R - 1, 4] xyxy, exclusive edges; regions, then merges in order
    merged: NDArray[np.int32]  # [R - 1, 2] the two that each merge joined

    @property
    def regions(self) -> int:
        """R, before any merge."""
        return len(self.merged) + 1


@dataclass(frozen=True, slots=True, eq=False)
class _Prepared:
    """What every scale of a colour space shares."""

    size: tuple[int, int]  # (height, width)
    edges: Edges
    colours: NDArray[np.uint8]
    textures: NDArray[np.uint8]


def build_hierarchies(image: NDArray[np.uint8], plan: Plan, threads: int) -> list[Hierarchy]:
    """Segment and group an image in all the ways of a plan.

    Args:
        image: ``[H, W, 3]`` RGB.
        plan: the ways.
        threads: how many work at once; also how many colour spaces are held in memory at once.

    Returns:
        One for each space, scale and sum of similarities, in the order of the plan, the last
        running fastest.
    """
    found: list[Hierarchy] = []
    with _workers(threads) as spread:
        for start in range(0, len(plan.spaces), threads):
            prepared = spread(
                lambda space: _prepare(image, space, plan), plan.spaces[start : start + threads]
            )
            jobs = [(ready, scale) for ready in prepared for scale in plan.scales]
            for part in spread(lambda job: _group_one(job[0], job[1], plan.terms), jobs):
                found += part
    return found


@contextmanager
def _workers(threads: int) -> Iterator[Callable[[Callable[[A], B], Iterable[A]], list[B]]]:
    """A ``map`` that returns a list, in the order of what it was given."""
    if threads == 1:
        yield lambda work, items: [work(item) for item in items]
        return
    with ThreadPoolExecutor(threads) as pool:
        yield lambda work, items: list(pool.map(work, items))


def _prepare(image: NDArray[np.uint8], space: Space, plan: Plan) -> _Prepared:
    planes = to_space(image, space)
    edges = sorted_edges(planes, plan.neighbours, plan.step)
    size = (planes.shape[1], planes.shape[2])
    return _Prepared(size, edges, colour_bins(planes), texture_bins(planes))


def _group_one(
    ready: _Prepared, scale: tuple[float, int], terms: Sequence[Terms]
) -> list[Hierarchy]:
    height, width = ready.size
    labels, regions = segment(*ready.edges, width, height * width, *scale)
    described = describe_regions(labels, regions, width, ready.colours, ready.textures)
    pairs = neighbour_pairs(labels, regions, width)
    shown = labels.reshape(ready.size)
    area = float(height * width)
    return [Hierarchy(shown, *group(pairs, *described, each, area)) for each in terms]
