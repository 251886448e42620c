"""Selective search: boxes that may hold an object, from nothing but the image.

Paper:
    Selective Search for Object Recognition (Uijlings et al., IJCV 2013),
    https://doi.org/10.1007/s11263-013-0620-5
    Modes: section 5.1.3 and the authors' program. Ranking: section 3.3.

Two forms:
    A mode as it stands is the authors' method. Where scales or a smallest region are given, it is
    the form in which OpenCV made the method known: pixels have 4 neighbours and no box is dropped.
    In that form detkit compares weights of edges in steps and lets the hierarchies take turns,
    which finds more objects with as many boxes (``docs/fidelity.md``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import numpy as np
import torch
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor

from detkit.config import Config, parse
from detkit.image_tensor import ImageLike, to_image_tensor
from detkit.proposals.modes import MODES, Mode, Ranking
from detkit.types import Boxes

if TYPE_CHECKING:
    from detkit.proposals.hierarchy import Hierarchy, Plan

MIN_SIDE = 20  # pixels; the authors drop boxes that are narrower or lower
AUTHORS_NEIGHBOURS, OPENCV_NEIGHBOURS = 8, 4  # of a pixel
STEP = 1 / 32  # grey values, of the weights in OpenCV's form
LARGEST = 10**9  # scale or region; compiled code has numbers of 32 and 64 bits

Scale = Annotated[PositiveFloat, Field(le=LARGEST)]


class ProposalConfig(Config):
    """How proposals are found. The defaults are what the R-CNN papers used, about 2,000."""

    mode: Mode = "fast"
    # k of the segmentation; None: the mode's
    scales: Annotated[tuple[Scale, ...], Field(min_length=1)] | None = None
    # pixels of a first region; None: k, as the authors have it
    min_size: Annotated[PositiveInt, Field(le=LARGEST)] | None = None
    seed: NonNegativeInt = 0  # of the ranking
    most: PositiveInt = 2000  # the best so many
    ranking: Ranking | None = None  # None: turns where scales or min_size is given, else authors

    @property
    def authors_form(self) -> bool:
        """Whether this is a mode as it stands; else it is OpenCV's form."""
        return self.scales is None and self.min_size is None

    def in_words(self) -> str:
        """The mode and what is not its own, e.g. ``fast, scales 150 300, turns``; not the limit."""
        words: list[str] = [self.mode]
        if self.scales is not None:
            words.append("scales " + " ".join(f"{scale:g}" for scale in self.scales))
        if self.min_size is not None:
            words.append(f"min_size {self.min_size}")
        if self.ranking is not None:
            words.append(self.ranking)
        return ", ".join(words)

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
        seed: of the authors' ranking; where ``scales`` or ``min_size`` is given nothing is drawn.

    Returns:
        ``[N, 4]`` float32 xyxy with exclusive edges, image pixels, in order of rank. Boxes
        narrower or lower than 20 pixels are left out, and the order is the authors'. Where
        ``scales`` or ``min_size`` is given it is OpenCV's form of the method: nothing is left out
        (see the head of this file).

    Raises:
        ConfigError: a mode, scale, size or seed that cannot be.
        DataError: an image that cannot be read, as ``detkit.read_image`` says.

    Paper:
        Selective Search for Object Recognition (Uijlings et al., IJCV 2013).
    """
    settings = {"mode": mode, "scales": scales, "min_size": min_size, "seed": seed}
    return _search(to_image_tensor(image), parse(ProposalConfig, settings, "selective_search: "))


def _search(image: Tensor, config: ProposalConfig) -> Boxes:
    from detkit.proposals.ranking import rank

    boxes = [each.boxes for each in hierarchies(image, config)]
    ranking = config.ranking or ("authors" if config.authors_form else "turns")
    found = rank(boxes, ranking, config.seed, MIN_SIDE if config.authors_form else 1)
    return torch.from_numpy(found.astype(np.float32))


def hierarchies(image: Tensor, config: ProposalConfig) -> list[Hierarchy]:
    """Group a ``[3, H, W]`` uint8 RGB image in all the ways of ``config``.

    Returns:
        One for each colour space, scale and sum of similarities; the last runs fastest.
    """
    from detkit.proposals.hierarchy import build_hierarchies

    pixels = np.ascontiguousarray(image.permute(1, 2, 0).cpu().numpy())
    return build_hierarchies(pixels, plan_of(config), torch.get_num_threads())


def plan_of(config: ProposalConfig) -> Plan:
    """Spell out a mode and what overrides it."""
    from detkit.proposals.hierarchy import Plan

    mode = MODES[config.mode]
    scales = mode.scales if config.scales is None else config.scales
    sizes = [max(1, round(k)) if config.min_size is None else config.min_size for k in scales]
    pairs = tuple(zip(map(float, scales), sizes, strict=True))
    if config.authors_form:
        return Plan(mode.spaces, mode.terms, pairs, AUTHORS_NEIGHBOURS)
    return Plan(mode.spaces, mode.terms, pairs, OPENCV_NEIGHBOURS, STEP)


def compile_ahead() -> None:
    """Compile what is not in the cache yet, so that processes started after it find it there."""
    tiny = torch.zeros((3, 2, 2), dtype=torch.uint8)
    for config in (ProposalConfig(mode="quality"), ProposalConfig(scales=(1.0,))):
        _search(tiny, config)
