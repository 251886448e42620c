"""Anchors: the reference boxes that stand on every cell of a feature map.

Paper: Faster R-CNN (Ren et al., NIPS 2015), section 3.1.1. Two ways to round them are about: that
of the paper's code, and that of the libraries that came with feature pyramids.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from detkit.types import Boxes


def published_anchors(stride: int, sizes: Sequence[float], ratios: Sequence[float]) -> Boxes:
    """The anchors of the top left cell as the paper's code rounds them.

    A square of one cell is given each ratio at nearly the same area, its sides rounded to whole
    pixels, and is then enlarged. With stride 16, sizes 128, 256, 512 and ratios 0.5, 1, 2 these are
    the nine published ones, (-83, -39, 100, 56) to (-167, -343, 184, 360), whose last pixels are
    inclusive: here x2 and y2 are one more. Like them, all are centred one pixel to the right of and
    below the cell's middle, since the first version of the code counted pixels from one.

    Args:
        stride: canvas pixels per cell.
        sizes: square roots of the areas, canvas pixels.
        ratios: height over width.

    Returns:
        ``[A, 4]`` canvas pixels, ratio by ratio.

    Source:
        py-faster-rcnn, ``generate_anchors.py``.
    """
    centre = stride / 2 + 1
    anchors = []
    for ratio in ratios:
        width = round((stride**2 / ratio) ** 0.5)
        height = round(width * ratio)
        for size in sizes:
            half_width, half_height = width * size / stride / 2, height * size / stride / 2
            anchors.append(
                (
                    centre - half_width,
                    centre - half_height,
                    centre + half_width,
                    centre + half_height,
                )
            )
    return torch.tensor(anchors, dtype=torch.float32)


def centred_anchors(sizes: Sequence[float], ratios: Sequence[float]) -> Boxes:
    """Anchors about the origin, their edges rounded to whole pixels: torchvision's.

    Args:
        sizes: square roots of the areas, canvas pixels.
        ratios: height over width.

    Returns:
        ``[A, 4]`` canvas pixels, ratio by ratio.
    """
    tall = torch.tensor(ratios, dtype=torch.float32).sqrt()  # [ratios]
    side = torch.tensor(sizes, dtype=torch.float32)  # [sizes]
    widths = ((1 / tall)[:, None] * side).flatten()  # [A]
    heights = (tall[:, None] * side).flatten()  # [A]
    return (torch.stack([-widths, -heights, widths, heights], dim=1) / 2).round()


def grid_anchors(anchors: Boxes, grid: tuple[int, int], step: tuple[int, int]) -> Boxes:
    """Put ``anchors`` on every cell of a feature map.

    Args:
        anchors: ``[A, 4]`` of the top left cell, canvas pixels.
        grid: rows and columns.
        step: canvas pixels from one row, and from one column, to the next.

    Returns:
        ``[H*W*A, 4]`` canvas pixels, row by row, column by column, anchor by anchor.
    """
    rows = torch.arange(grid[0], device=anchors.device) * step[0]
    columns = torch.arange(grid[1], device=anchors.device) * step[1]
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    shifts = torch.stack([x, y, x, y], dim=-1).view(-1, 1, 4)  # [H*W, 1, 4]
    return (shifts + anchors).view(-1, 4)


def inside(anchors: Boxes, size: tuple[int, int]) -> Tensor:
    """``[N]`` which of ``[N, 4]`` anchors do not cross the border of (height, width)."""
    height, width = size
    low = (anchors[:, :2] >= 0).all(dim=1)
    return low & (anchors[:, 2] <= width) & (anchors[:, 3] <= height)
