"""What is known of each region: size, box, histograms of colour and texture.

A pixel's histogram bins do not depend on the regions, so they are found once a colour space.

Paper:
    Selective Search for Object Recognition (Uijlings et al., IJCV 2013), section 3.2.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from detkit.proposals.compiled import compiled
from detkit.proposals.filters import filter_separable

COLOUR_BINS = 25  # per channel
AXES = 4  # 0, 45, 90 and 135 degrees; either sense of an axis is an orientation: 8 of them
TEXTURE_BINS = 10  # per orientation and channel
LEAST_SLOPE = 1e-3  # grey levels a pixel; one pixel that differs by 1 makes a hundred times more
TEXTURE_SIGMA = 1.0  # of the Gaussian derivatives, pixels
DERIVATIVE_REACH = 4  # the kernels end after so many sigmas
VALUES = 256  # of 8 bits


def derivative_kernels(sigma: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A Gaussian of sum 1, and its derivative, which answers 1 to a slope of 1 a pixel."""
    reach = math.ceil(DERIVATIVE_REACH * sigma)
    offsets = np.arange(-reach, reach + 1)
    smooth = np.exp(-0.5 * (offsets / sigma) ** 2)
    slope = offsets * smooth
    slope = slope / (offsets * slope).sum()
    return (smooth / smooth.sum()).astype(np.float32), slope.astype(np.float32)


def colour_bins(planes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return ``[C, H * W]`` bins in 0..24 of ``[C, H, W]`` planes."""
    of_value = (np.arange(VALUES) * COLOUR_BINS // VALUES).astype(np.uint8)
    return of_value[planes.reshape(len(planes), -1)]


def texture_bins(planes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Find each pixel's place in the texture histograms.

    The Gaussian derivative along each of 8 orientations is cut off below 0, so that of two
    opposite ones a pixel is above bin 0 in one at most. The ten bins of a channel reach to the
    steepest slope along x or y in the image.

    Args:
        planes: ``[C, H, W]``.

    Returns:
        ``[C, 4, H * W]``: for each axis ``10 * orientation + bin`` in 0..79, of the orientation
        that is not cut off; orientation ``2 * axis``, or that plus 1 where the slope is negative.
    """
    smooth, slope = derivative_kernels(TEXTURE_SIGMA)
    values = planes.astype(np.float32)
    along_x = filter_separable(values, slope, smooth)
    along_y = filter_separable(values, smooth, slope)
    steepest = np.maximum(np.abs(along_x).max(axis=(1, 2)), np.abs(along_y).max(axis=(1, 2)))
    flat = (len(planes), planes.shape[1] * planes.shape[2])
    return _quantise(along_x.reshape(flat), along_y.reshape(flat), steepest)


@compiled
def _quantise(
    along_x: NDArray[np.float32], along_y: NDArray[np.float32], reach: NDArray[np.float32]
) -> NDArray[np.uint8]:
    C, pixels = along_x.shape
    bins = np.zeros((C, AXES, pixels), np.uint8)
    diagonal = np.float32(math.sqrt(0.5))
    for c in range(C):
        x, y = along_x[c], along_y[c]
        if reach[c] < LEAST_SLOPE:  # one grey everywhere, but for rounding: no slope, bin 0
            for axis in range(AXES):
                bins[c, axis] = np.uint8(2 * axis * TEXTURE_BINS)
            continue
        unit = np.float32(TEXTURE_BINS) / reach[c]
        for axis in range(AXES):
            share_x = (unit, unit * diagonal, np.float32(0), -unit * diagonal)[axis]
            share_y = (np.float32(0), unit * diagonal, unit, unit * diagonal)[axis]
            out = bins[c, axis]
            for i in range(pixels):
                value = x[i] * share_x + y[i] * share_y
                orientation = 2 * axis + (1 if value < 0 else 0)
                bin_ = np.int32(min(abs(value), np.float32(TEXTURE_BINS - 1)))
                out[i] = np.uint8(orientation * TEXTURE_BINS + bin_)
    return bins


@compiled
def describe_regions(
    labels: NDArray[np.int32],
    regions: int,
    width: int,
    colours: NDArray[np.uint8],
    textures: NDArray[np.uint8],
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
    """Measure every region.

    Args:
        labels: ``[H * W]`` in 0..R-1.
        regions: R.
        width: of the image.
        colours: ``[C, H * W]`` of :func:`colour_bins`.
        textures: ``[C, 4, H * W]`` of :func:`texture_bins`.

    Returns:
        ``[R]`` pixels, ``[R, 4]`` boxes (x1, y1, x2, y2) with exclusive edges, ``[R, C * 25]``
        and ``[R, C * 80]`` histograms as counts.
    """
    C = len(colours)
    per_channel = 2 * AXES * TEXTURE_BINS
    flat = textures.reshape(C * AXES, len(labels))
    size = np.zeros(regions, np.int32)
    boxes = np.empty((regions, 4), np.int32)
    boxes[:, :2] = len(labels)
    boxes[:, 2:] = 0
    colour = np.zeros((regions, C * COLOUR_BINS), np.int32)
    texture = np.zeros((regions, C * per_channel), np.int32)
    x, y = 0, 0
    for i in range(len(labels)):
        region = labels[i]
        size[region] += 1
        box = boxes[region]
        box[0] = min(box[0], x)
        box[1] = min(box[1], y)
        box[2] = max(box[2], x + 1)
        box[3] = max(box[3], y + 1)
        for c in range(C):
            colour[region, c * COLOUR_BINS + colours[c, i]] += 1
            for axis in range(AXES):
                texture[region, c * per_channel + flat[c * AXES + axis, i]] += 1
        x += 1
        if x == width:
            x = 0
            y += 1
    for region in range(regions):  # where an orientation is cut off, a pixel is in its bin 0
        for first in range(0, C * per_channel, TEXTURE_BINS):
            counted = texture[region, first : first + TEXTURE_BINS].sum()
            texture[region, first] += size[region] - counted
    return size, boxes, colour, texture
