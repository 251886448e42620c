"""What the settings of several detectors share: canvas sizes and their draw, anchors, factors.

Each detector's config class declares its own fields; here is what their values may be.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, PositiveInt, ValidationInfo

Size = tuple[int, int]  # (height, width), canvas pixels


def _square(value: Any) -> Any:
    return (value, value) if isinstance(value, int) else value


# one side means a square
CanvasSize = Annotated[tuple[PositiveInt, PositiveInt], BeforeValidator(_square)]


def multiples_of(stride: int) -> AfterValidator:
    """A check for a field of one canvas size, or of several: sides of whole cells of ``stride``."""

    def check(value: Any) -> Any:
        sizes = [value] if value and isinstance(value[0], int) else value
        for size in sizes:
            if any(side % stride for side in size):
                raise ValueError(f"{list(size)} is not made of multiples of {stride}.")
        return value

    return AfterValidator(check)


Anchors = tuple[tuple[float, float], ...]  # (width, height) each


def above_zero(unit: str) -> AfterValidator:
    """A check for a field of anchors, given in ``unit``: at least one, and none without area."""

    def check(value: Anchors) -> Anchors:
        if not value or min(min(anchor) for anchor in value) <= 0:
            raise ValueError(f"expected one or more [width, height] above 0, in {unit}.")
        return value

    return AfterValidator(check)


def _one_a_class(value: tuple[float, ...], info: ValidationInfo) -> tuple[float, ...]:
    if value and (len(value) != info.data.get("num_classes") or min(value) < 0):
        raise ValueError(f"expected one weight of 0 or more for each class, got {list(value)}.")
    return value


# K factors of the class loss, or none at all; the field stands below ``num_classes``
ClassWeights = Annotated[tuple[float, ...], AfterValidator(_one_a_class)]


def draw_size(
    sizes: Sequence[Size], step: int, steps: int, seed: int, *, every: int, last: int
) -> Size:
    """Multi-scale training: the canvas of batch ``step`` of ``steps``.

    Args:
        sizes: what is drawn from.
        seed: the draw follows from it and ``step`` alone.
        every: batches between two draws.
        last: batches at the end that get the largest size.

    Source:
        darknet, ``examples/detector.c: train_detector``.
    """
    if step >= steps - last:
        return max(sizes, key=math.prod)
    return random.Random(f"{seed}/{step // every}").choice(sizes)
