"""Separable filters over the channels of an image."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from detkit.proposals.compiled import compiled


@compiled
def filter_separable(
    planes: NDArray[np.float32], along_x: NDArray[np.float32], along_y: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Correlate every channel with two kernels, one along the rows and one along the columns.

    Args:
        planes: ``[C, H, W]``; beyond the border the nearest pixel is repeated.
        along_x: a kernel of odd length.
        along_y: a kernel of odd length.

    Returns:
        ``[C, H, W]``.
    """
    C, H, W = planes.shape
    reach_x = len(along_x) // 2
    reach_y = len(along_y) // 2
    padded = np.empty(W + 2 * reach_x, np.float32)
    rows = np.empty((H, W), np.float32)
    filtered = np.zeros((C, H, W), np.float32)
    for c in range(C):
        rows[:] = 0
        for y in range(H):
            padded[:reach_x] = planes[c, y, 0]
            padded[reach_x : reach_x + W] = planes[c, y]
            padded[reach_x + W :] = planes[c, y, W - 1]
            row = rows[y]
            for tap in range(len(along_x)):
                weight = along_x[tap]
                part = padded[tap : tap + W]
                for x in range(W):
                    row[x] += weight * part[x]
        for y in range(H):
            row = filtered[c, y]
            for tap in range(len(along_y)):
                weight = along_y[tap]
                part = rows[min(max(y + tap - reach_y, 0), H - 1)]
                for x in range(W):
                    row[x] += weight * part[x]
    return filtered
