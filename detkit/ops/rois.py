"""Regions cut out of feature maps at one size, by torchvision's operators.

Papers:
    Fast R-CNN (Girshick, ICCV 2015), section 2.1: RoI max-pooling.
    Mask R-CNN (He et al., ICCV 2017), section 3: RoIAlign.
    Feature Pyramid Networks (Lin et al., CVPR 2017), equation 1: which level a region is cut from.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from detkit.types import Boxes

CANONICAL_SIZE = 224.0  # canvas pixels: of ImageNet's crops, whose size is cut from level 4
CANONICAL_LEVEL = 4
LEVEL_EPS = 1e-6  # so that a region of exactly twice the size is on the next level
SAMPLING = 2  # points a bin and axis that RoIAlign takes the mean of; torchvision's detectors'


def roi_levels(rois: Boxes, strides: Sequence[int]) -> Tensor:
    """``[R]`` int64: which of the maps at ``strides`` each region is cut from.

    A region of the canonical size belongs to stride 16; one of twice the side to stride 32.

    Args:
        rois: ``[R, 4]`` canvas pixels.
        strides: powers of two, fine to coarse.
    """
    sides = (rois[:, 2:] - rois[:, :2]).prod(dim=1).sqrt()
    levels = (CANONICAL_LEVEL + (sides / CANONICAL_SIZE).log2() + LEVEL_EPS).floor()
    low, high = int(math.log2(strides[0])), int(math.log2(strides[-1]))
    return levels.clamp(low, high).long() - low


def distinct_rois(rois: Boxes, stride: int) -> tuple[Boxes, Tensor]:
    """One region of all that RoI max-pooling rounds to the same cells.

    Args:
        rois: ``[R, 4]`` canvas pixels.
        stride: canvas pixels per cell.

    Returns:
        ``[D, 4]`` regions, and ``[R]`` int64, which of them stands for each.

    Source:
        Fast R-CNN, ``test.py: im_detect``, "DEDUP_BOXES".
    """
    last = rois.new_tensor([0.0, 0.0, 1.0, 1.0])  # the last pixel is inclusive, as in pooling
    cells = (rois - last) / stride
    cells = torch.where(cells < 0, (cells - 0.5).ceil(), (cells + 0.5).floor())  # as C rounds
    _, groups = cells.unique(dim=0, return_inverse=True)
    first = torch.full_like(groups, len(rois))
    first = first.scatter_reduce(0, groups, torch.arange(len(rois), device=rois.device), "amin")
    kept = first[first < len(rois)]  # [D], one row a group
    return rois[kept], groups


def in_batch(regions: Sequence[Boxes]) -> Tensor:
    """``[all R, 5]`` the regions of all images, each behind the place of its image in the batch."""
    images = torch.cat([box.new_full((len(box), 1), index) for index, box in enumerate(regions)])
    return torch.cat([images, torch.cat([*regions])], dim=1)


def of_images(rois: Tensor, count: int) -> list[Boxes]:
    """``[R, 4]`` the regions of each of ``count`` images: undoes :func:`in_batch`."""
    counts = rois[:, 0].long().bincount(minlength=count).tolist()
    return list(rois[:, 1:].split(counts))


def pool_rois(
    maps: Sequence[Tensor],
    strides: Sequence[int],
    rois: Tensor,
    size: int,
    roi: Literal["pool", "align"],
) -> Tensor:
    """Cut every region out of the map of its level.

    Args:
        maps: ``[B, C, H, W]`` at each of ``strides``, fine to coarse.
        strides: canvas pixels per cell.
        rois: ``[R, 5]`` the image's place in the batch, then its box in canvas pixels.
        size: side of what comes out.
        roi: ``pool``: RoI max-pooling, corners rounded to whole cells; ``align``: bilinear, nothing
            is rounded.

    Returns:
        ``[R, C, size, size]``.
    """
    if len(maps) == 1:
        return _cut(maps[0], rois, strides[0], size, roi)
    levels = roi_levels(rois[:, 1:], strides)
    out = rois.new_zeros(len(rois), maps[0].shape[1], size, size)
    for level, (map_, stride) in enumerate(zip(maps, strides, strict=True)):
        rows = (levels == level).nonzero()[:, 0]
        out.index_copy_(0, rows, _cut(map_, rois[rows], stride, size, roi))  # no copy of the rest
    return out


def _cut(
    map_: Tensor, rois: Tensor, stride: int, size: int, roi: Literal["pool", "align"]
) -> Tensor:
    from torchvision.ops import roi_align, roi_pool

    map_ = map_.float()  # bf16 has no room for a coordinate
    if roi == "align":
        return roi_align(map_, rois, size, 1 / stride, SAMPLING, aligned=False)
    # Caffe's corners are pixels, the last one inclusive; both are rounded to cells
    inclusive = rois - rois.new_tensor([0.0, 0.0, 0.0, 1.0, 1.0])
    return roi_pool(map_, inclusive, size, 1 / stride)
