"""Shares of the image's width and height, where a format has pixels: refused, not learned from.

No object ends within the first pixel of its image. Where all boxes of a split do, or those of many
images, they are shares; those of a few images may be slips, and are counted (``FIRST_PIXEL``). So
are boxes that are perhaps percent (``PERCENT``): these may as well lie in a corner by intention.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detkit.errors import DataError

FIRST_PIXEL = "boxes within the first pixel of the image (shares of it?)"
PERCENT = "boxes that all end within 100 x 100 pixels of larger images (percent?)"

FEWEST = 3  # images with boxes in shares alone: fewer are slips among others in pixels
MANY = 0.1  # of the images with boxes
FAR = 1.5  # pixels from the corner: centres and sizes in place of corners and sizes end here
LEAST_IMAGE = 2  # pixels of a side; in smaller images the first pixel is no small part

PERCENTS = 100.0
FEWEST_PERCENTS = 20  # boxes
REACHES = 0.9  # of 100, at least one box on each axis
LARGER = 300  # pixels of a side

TAKEN = (
    "Multiply them by these. Shares are taken in YOLO text (data.format=yolo), in tables with Open "
    "Images' header ImageID,LabelName,XMin,XMax,YMin,YMax and in CreateML's JSON "
    "(data.format=createml data.units=normalized)."
)


def find_shares(
    source: Path,
    paths: NDArray[np.str_],
    sizes: NDArray[np.int32],
    images: NDArray[np.int64],
    boxes: NDArray[np.float64],
) -> dict[str, list[int]]:
    """The image (0..I-1) of each box that may be in shares or percent of it, by kind.

    Args:
        source: the file or split, for an error.
        paths: ``[I]`` images.
        sizes: ``[I, 2]`` their height and width.
        images: ``[T]`` of each box.
        boxes: ``[T, 4]`` xywh, as stated.

    Raises:
        DataError: they plainly are shares.
    """
    tells = told_by(sizes, images, boxes)
    like_shares = tells & are_like_shares(boxes)
    with_boxes, of_shares = np.unique(images[tells]), np.unique(images[like_shares])
    in_shares = np.setdiff1d(of_shares, images[tells & ~like_shares])
    if len(with_boxes) and len(in_shares) == len(with_boxes):
        said = "its box ends" if tells.sum() == 1 else f"all {int(tells.sum())} boxes end"
    else:
        small = np.flatnonzero(like_shares)
        fractions = (boxes[small] % 1 > 0).any(axis=1)  # some write 0 0 1 1 for no object
        in_shares = np.intersect1d(in_shares, images[small[fractions]])
        said = f"the boxes of {len(in_shares)} of {len(with_boxes)} images end"
        if len(in_shares) < FEWEST or len(in_shares) <= MANY * len(with_boxes):
            found = {FIRST_PIXEL: images[like_shares], PERCENT: _percent(sizes, images, boxes)}
            return {kind: rows.tolist() for kind, rows in found.items() if len(rows)}
    first = int(np.flatnonzero(like_shares & np.isin(images, in_shares))[0])
    height, width = sizes[images[first]].tolist()
    of = f" of {width} x {height} pixels" if width else ""
    raise DataError(
        f"{source}: {said} within the first pixel of the image, as {in_numbers(boxes[first])} "
        f"(x, y, width, height) in {paths[images[first]]}{of}: they seem "
        f"to be shares of the image's width and height. {TAKEN}"
    )


def told_by(
    sizes: NDArray[np.int32], images: NDArray[np.int64], boxes: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """``[T]`` boxes that tell whether they are shares: of some size, in images of some size."""
    has_size = np.isfinite(boxes).all(axis=1) & (boxes[:, 2:] > 0).all(axis=1)
    sides = sizes[images]
    return np.asarray(has_size & ((sides > LEAST_IMAGE) | (sides == 0)).all(axis=1))


def are_like_shares(boxes: NDArray[np.float64]) -> NDArray[np.bool_]:
    """``[T]`` xywh boxes within the first pixel, with some room; VOC's begin a pixel before it."""
    low = boxes[:, :2]
    with np.errstate(over="ignore", invalid="ignore"):
        high = low + boxes[:, 2:]
        return np.asarray(((low >= -FAR) & (low < 1) & (high > 0) & (high <= FAR)).all(axis=1))


def of_size(size: NDArray[np.int32]) -> str:
    """The size of an image in a sentence, where it is known."""
    height, width = size.tolist()
    return f" of {width} x {height} pixels" if width else ""


def in_numbers(box: NDArray[np.float64]) -> str:
    """A box in a sentence: ``[0.1, 0.25, 0.5, 0.3]``."""
    return f"[{', '.join(f'{side:.4g}' for side in box.tolist())}]"


def _percent(
    sizes: NDArray[np.int32], images: NDArray[np.int64], boxes: NDArray[np.float64]
) -> NDArray[np.int64]:
    tells = told_by(sizes, images, boxes)
    if tells.sum() < FEWEST_PERCENTS or (sizes[images[tells]] < LARGER).any():
        return images[:0]
    high = boxes[tells, :2] + boxes[tells, 2:]
    within = (high <= PERCENTS).all() and (high.max(axis=0) >= REACHES * PERCENTS).all()
    return images[tells] if within else images[:0]
