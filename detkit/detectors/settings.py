"""What the settings of several detectors share: sizes and their draw, scales, anchors, factors.

Each detector's config class declares its own fields; here is what their values may be. A check that
looks at other fields sees those that stand above its own.
"""

from __future__ import annotations

import itertools
import math
import random
from typing import Annotated, Any, Literal, Protocol

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationInfo,
)

# -------------------------------------------------------------------------- canvas sizes

Size = tuple[int, int]  # (height, width), canvas pixels
Placement = Literal["letterbox", "stretch"]  # of an image on the canvas; see preprocess.py


def _square(value: Any) -> Any:
    return (value, value) if isinstance(value, int) else value


# Of what a network is given. At this side its first maps take tens of GB: more is a slip, or a file
# that means harm.
MOST_PIXELS = 16384
Side = Annotated[PositiveInt, Field(le=MOST_PIXELS)]
# Of how much a side grows; e to the 89 is no float32 any more.
LogScale = Annotated[PositiveFloat, Field(le=80)]
CanvasSize = Annotated[tuple[Side, Side], BeforeValidator(_square)]  # one side means a square


def multiples_of(stride: int) -> AfterValidator:
    """A check for a field of one canvas size, or of several: sides of whole cells of ``stride``."""
    return AfterValidator(lambda value: _check_cells(value, stride))


def _check_cells(value: Any, stride: int) -> Any:
    for size in [value] if value and isinstance(value[0], int) else value:
        if any(side % stride for side in size):
            raise ValueError(f"{list(size)} is not made of multiples of {stride}.")
    return value


def _check_coarsest_cells(value: Any, info: ValidationInfo) -> Any:
    return _check_cells(value, info.data.get("strides", (1,))[-1])


# the same for a field that stands below ``strides``: whole cells of the coarsest scale
whole_cells = AfterValidator(_check_coarsest_cells)


class MultiScale(Protocol):
    """The settings of multi-scale training."""

    @property
    def input_size(self) -> Size: ...
    @property
    def train_sizes(self) -> tuple[Size, ...]: ...  # empty: input_size
    @property
    def train_size_every(self) -> int: ...  # batches between two draws
    @property
    def train_size_last(self) -> int: ...  # batches at the end that get the largest size


def draw_size(config: MultiScale, step: int, steps: int, seed: int) -> Size:
    """Multi-scale training: the canvas of batch ``step`` of ``steps``.

    Args:
        config: what is drawn from, and when.
        seed: the draw follows from it and ``step`` alone.

    Source:
        darknet, ``examples/detector.c: train_detector``.
    """
    sizes = config.train_sizes or (config.input_size,)
    if step >= steps - config.train_size_last:
        return max(sizes, key=math.prod)
    return random.Random(f"{seed}/{step // config.train_size_every}").choice(sizes)


# ------------------------------------------------------------------------------- anchors

Anchors = tuple[tuple[float, float], ...]  # (width, height) each


def above_zero(unit: str) -> AfterValidator:
    """A check for a field of anchors, given in ``unit``: at least one, and none without area."""

    def check(value: Anchors) -> Anchors:
        if not value or min(min(anchor) for anchor in value) <= 0:
            raise ValueError(f"expected one or more [width, height] above 0, in {unit}.")
        return value

    return AfterValidator(check)


# -------------------------------------------------------------------------------- scales


def _fine_to_coarse(value: tuple[int, ...]) -> tuple[int, ...]:
    if not value or any(b <= a or b % a for a, b in itertools.pairwise(value)):
        raise ValueError(
            f"expected one or more strides, fine to coarse, each a multiple of the one "
            f"before, e.g. [8, 16, 32]; got {list(value)}."
        )
    return value


# of the scales that predict
Strides = Annotated[tuple[PositiveInt, ...], AfterValidator(_fine_to_coarse)]


def _one_a_scale(value: tuple[int, ...], info: ValidationInfo) -> tuple[int, ...]:
    scales = len(info.data.get("strides", value))
    if len(value) != scales:
        raise ValueError(
            f"expected one number for each of the {scales} scales, coarse to fine, got "
            f"{list(value)}."
        )
    return value


# a number for each scale, coarse to fine; the field stands below ``strides``
PerScale = Annotated[tuple[PositiveInt, ...], AfterValidator(_one_a_scale)]

Masks = tuple[tuple[int, ...], ...]


def share_out(anchors: Anchors, scales: int) -> Masks:
    """Give each scale, coarse to fine, as many anchors as the others; the coarsest the largest.

    Raises:
        ValueError: they cannot be shared evenly.
    """
    share, rest = divmod(len(anchors), scales)
    if rest:
        even = " or ".join(str(scales * each) for each in (share, share + 1) if each)
        raise ValueError(
            f"{len(anchors)} anchors cannot be shared evenly by {scales} scales; give {even} of "
            "them, or say which scale has which."
        )
    by_area = sorted(range(len(anchors)), key=lambda index: math.prod(anchors[index]))
    return tuple(
        tuple(by_area[scale * share : (scale + 1) * share]) for scale in reversed(range(scales))
    )


def _point_at_anchors(value: Masks, info: ValidationInfo) -> Masks:
    if not {"anchors", "strides"} <= info.data.keys():
        return value  # their own mistakes are reported
    anchors, scales = info.data["anchors"], len(info.data["strides"])
    if not value:
        return share_out(anchors, scales)
    if len(value) != scales or not all(value):
        raise ValueError(
            f"expected the anchors of each of the {scales} scales, coarse to fine, got "
            f"{[list(mask) for mask in value]}; leave it out for even shares."
        )
    for mask in value:
        if max(mask) >= len(anchors) or len(set(mask)) < len(mask):
            raise ValueError(
                f"{list(mask)} is not made of different indices from 0 to {len(anchors) - 1}, "
                f"for {len(anchors)} anchors; leave it out for even shares."
            )
    return value


# indices of the anchors of each scale, coarse to fine; empty: even shares. The field stands below
# ``strides`` and ``anchors``, and its default is validated as well
AnchorMasks = Annotated[tuple[tuple[NonNegativeInt, ...], ...], AfterValidator(_point_at_anchors)]


def room_after(convs: int) -> AfterValidator:
    """A check for a switch below ``head_convs``: its part follows that many of the coarsest's."""

    def check(value: bool, info: ValidationInfo) -> bool:
        begins = (info.data.get("head_convs") or (convs + 1,))[0]  # none: reported by itself
        if value and begins <= convs:
            raise ValueError(
                f"needs {convs + 1} or more convolutions on the coarsest scale, but "
                f"head_convs begins with {begins}."
            )
        return value

    return AfterValidator(check)


# ------------------------------------------------------------------------------- classes


def _one_a_class(value: tuple[float, ...], info: ValidationInfo) -> tuple[float, ...]:
    if value and (len(value) != info.data.get("num_classes") or min(value) < 0):
        raise ValueError(f"expected one weight of 0 or more for each class, got {list(value)}.")
    return value


# K factors of the class loss, or none at all; the field stands below ``num_classes``
ClassWeights = Annotated[tuple[float, ...], AfterValidator(_one_a_class)]
