"""The colour spaces of selective search, as planes of 8 bits.

Paper:
    Selective Search for Object Recognition (Uijlings et al., IJCV 2013), section 3.2.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from detkit.proposals.modes import Space

_MAX = 255  # of 8 bits


def to_space(image: NDArray[np.uint8], space: Space) -> NDArray[np.uint8]:
    """Convert an image.

    Args:
        image: ``[H, W, 3]`` RGB.
        space: hue, saturation and value; CIE L*a*b* (D65); normalised red and green with
            intensity; hue alone; intensity alone. A channel's range is 0..255: of the hue's full
            circle, of L*, of the shares of red and green; a* and b* are shifted by 128.

    Returns:
        ``[C, H, W]``, C = 1 or 3.
    """
    import cv2

    if space == "lab":
        return _planes(cv2.cvtColor(image, cv2.COLOR_RGB2LAB))
    if space in ("hsv", "hue"):
        hsv = _planes(cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL))
        return hsv if space == "hsv" else hsv[:1].copy()
    grey: NDArray[np.uint8] = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    if space == "intensity":
        return grey[None]
    total = image.sum(axis=2, dtype=np.uint16)
    total[total == 0] = 1  # black is neither red nor green
    red, green = (
        (image[:, :, channel] * np.uint16(_MAX) // total).astype(np.uint8) for channel in (0, 1)
    )
    return np.stack([red, green, grey])


def _planes(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(image.transpose(2, 0, 1))
