"""Selective search: boxes that may hold an object, from nothing but the image.

Paper:
    Selective Search for Object Recognition (Uijlings et al., IJCV 2013),
    https://ivi.fnwi.uva.nl/isis/publications/2013/UijlingsIJCV2013.
    Modes: tables 6 and 7. Ranking: section 4.3 and the authors' program.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor

from detkit.config import Config, parse
from detkit.image import ImageLike, to_image_tensor
from detkit.types import Boxes

if TYPE_CHECKING:
    from detkit.proposals.hierarchy import Hierarchy, Plan

Mode: TypeAlias = Literal["single", "fast", "quality"]

MIN_SIDE = 20  # pixels; the authors drop boxes that are narrower or lower

#         colour texture size  fill
_CTSF = (True, True, True, True)
_TSF = (False, True, True, True)
_F = (False, False, False, True)
_S = (False, False, True, False)


class _Strategies(NamedTuple):
    spaces: tuple[Literal["hsv", "lab", "rgi", "hue", "intensity"], ...]
    terms: tuple[tuple[bool, bool, bool, bool], ...]
    scales: tuple[float, ...]


MODES: dict[Mode, _Strategies] = {
    "single": _Strategies(("hsv",), (_CTSF,), (100,)),
    "fast": _Strategies(("hsv", "lab"), (_CTSF, _TSF), (50, 100)),
    "quality": _Strategies(
        ("hsv", "lab", "rgi", "hue", "intensity"), (_CTSF, _TSF, _F, _S), (50, 100, 150, 300)
    ),
}


class ProposalConfig(Config):
    """How proposals are found. The defaults are what the R-CNN papers used."""

    mode: Mode = "fast"
    scales: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)] | None = None  # k
    min_size: PositiveInt | None = None  # pixels of a first region; None: k, as the authors have it
    seed: NonNegativeInt = 0  # of the ranking
    most: PositiveInt = 2000  # the best so many

    def find(self, image: Tensor) -> Boxes:
        """Find proposals in a ``[3, H, W]`` uint8 RGB image.

        Returns:
            ``[N, 4]`` in image pixels, best first, ``most`` at most.
        """
        return _search(image, self)[: self.most]


def selective_search(
    image: ImageLike,
    mode: Mode = "fast",
    scales: Sequence[float] | None = None,
    min_size: int | None = None,
    seed: int = 0,
) -> Boxes:
    """Find boxes that may hold an object of any kind.

    The same image and seed give the same boxes in the same order, on any number of threads
    (``torch.set_num_threads``).

    Args:
        image: as ``detkit.detect`` takes it.
        mode: ``single`` (1 hierarchy of regions), ``fast`` (8) or ``quality`` (80).
        scales: Felzenszwalb's k in place of the mode's; larger gives larger first regions.
        min_size: fewest pixels of a first region; without it each scale's k.
        seed: of the ranking.

    Returns:
        ``[N, 4]`` float32 xyxy with exclusive edges, image pixels, in the authors' order of rank.
        Boxes narrower or lower than 20 pixels are left out, unless ``scales`` or ``min_size`` is
        given.

    Raises:
        ConfigError: a mode, scale, size or seed that cannot be.
        DataError: an image that cannot be read, as ``detkit.read_image`` says.

    Paper:
        Selective Search for Object Recognition (Uijlings et al., IJCV 2013).
    """
    settings = {"mode": mode, "scales": scales, "min_size": min_size, "seed": seed}
    return _search(to_image_tensor(image), parse(ProposalConfig, settings, "selective_search: "))


def _search(image: Tensor, config: ProposalConfig) -> Boxes:
    from detkit.proposals.hierarchy import build_hierarchies

    pixels = np.ascontiguousarray(image.permute(1, 2, 0).cpu().numpy())
    hierarchies = build_hierarchies(pixels, plan_of(config), torch.get_num_threads())
    keeps_all = config.scales is not None or config.min_size is not None
    boxes = rank(hierarchies, config.seed, 1 if keeps_all else MIN_SIDE)
    return torch.from_numpy(boxes.astype(np.float32))


def plan_of(config: ProposalConfig) -> Plan:
    """Spell out a mode and what overrides it."""
    from detkit.proposals.hierarchy import Plan

    mode = MODES[config.mode]
    scales = mode.scales if config.scales is None else config.scales
    sizes = [round(k) if config.min_size is None else config.min_size for k in scales]
    return Plan(mode.spaces, mode.terms, tuple(zip(map(float, scales), sizes, strict=True)))


def rank(hierarchies: Sequence[Hierarchy], seed: int, min_side: int) -> NDArray[np.int32]:
    """Put the boxes of all hierarchies in one order, each box once.

    In each hierarchy the last merge has priority 1, the one before 2, and so on; all first regions
    share the number after the first merge's. Priorities are multiplied by a random number in
    0..1, and the lowest product comes first.

    Args:
        hierarchies: at least one.
        seed: of the random numbers.
        min_side: pixels; boxes narrower or lower are dropped.

    Returns:
        ``[N, 4]``; of equal boxes the first is kept.

    Source:
        ``Image2HierarchicalGrouping.m`` of the authors.
    """
    boxes = np.concatenate([each.boxes for each in hierarchies])
    priority = np.concatenate([_priorities(each.regions) for each in hierarchies])
    drawn = priority * np.random.default_rng(seed).random(len(priority))
    boxes = boxes[np.argsort(drawn, kind="stable")]
    boxes = boxes[(boxes[:, 2:] - boxes[:, :2] >= min_side).all(axis=1)]
    _, first = np.unique(boxes, axis=0, return_index=True)
    return boxes[np.sort(first)]


def _priorities(regions: int) -> NDArray[np.int64]:
    merges = regions - 1
    return np.concatenate([np.full(regions, merges + 1), np.arange(merges, 0, -1)])
