"""Small pictures that the tests of proposals share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def noise(size: tuple[int, int], seed: int, channels: int = 3) -> NDArray[np.uint8]:
    """``[H, W, C]`` of independent values."""
    return np.random.default_rng(seed).integers(0, 256, (*size, channels), dtype=np.uint8)


def patches(size: tuple[int, int], seed: int, count: int = 12) -> NDArray[np.uint8]:
    """``[H, W, 3]``: rectangles of one colour over each other, and a little noise."""
    rng = np.random.default_rng(seed)
    image = np.full((*size, 3), 128, np.int16)
    for _ in range(count):
        y, x = rng.integers(0, size[0]), rng.integers(0, size[1])
        height, width = (
            rng.integers(size[0] // 8 + 1, size[0] // 2 + 2),
            rng.integers(size[1] // 8 + 1, size[1] // 2 + 2),
        )
        image[y : y + height, x : x + width] = rng.integers(0, 256, 3)
    return (image + rng.integers(-4, 5, image.shape)).clip(0, 255).astype(np.uint8)
