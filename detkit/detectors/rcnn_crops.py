"""An image and its regions as R-CNN's network sees them: warped squares with some context.

Source: ``rcnn_im_crop.m`` of the authors' code; R-CNN (Girshick et al., CVPR 2014), appendix A.

Reading order: ``side_by_side`` (a batch of images, none resized), ``crop_windows``.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from detkit.ops.boxes import xyxy_to_cxcywh
from detkit.preprocess import Batch, Geometry, shortest_side
from detkit.types import Boxes

OUTSIDE = 9.0  # a place that lies outside any image, in the units of grid_sample


def side_by_side(
    images: list[Tensor],
    least: tuple[int, int],
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
) -> Batch:
    """Lay images, each at its own size, in the top left of canvases of zeros.

    Args:
        images: ``[3, H, W]`` uint8 RGB each, of any sizes.
        least: (height, width) of the canvas, which grows with the largest image.
        mean: of the backbone's normalisation, RGB in 0..1.
        std: likewise.
    """
    alone = []
    for image in images:
        sides = image.shape[-2:]  # to be kept
        alone.append(shortest_side([image], (min(sides), max(sides)), 1, mean, std).pixels[0])
    sizes = [(pixels.shape[1], pixels.shape[2]) for pixels in alone]
    height, width = (max(sides) for sides in zip(least, *sizes, strict=True))
    canvas = alone[0].new_zeros(len(images), 3, height, width)
    for index, pixels in enumerate(alone):
        canvas[index, :, : pixels.shape[1], : pixels.shape[2]] = pixels
    return Batch(canvas, tuple(Geometry((1.0, 1.0), (0.0, 0.0), size) for size in sizes))


def crop_windows(image: Tensor, boxes: Boxes, size: int, padding: int) -> Tensor:
    """Warp regions of an image to squares, with some of what lies around them.

    A box is enlarged about its centre so that it will be ``size - 2 * padding`` wide and high in
    the crop, and rounded to whole pixels. What of it lies in the image is resized, each axis by
    itself, bilinear without antialiasing, into its share of the crop; the rest stays zero, which is
    the mean colour once the mean is subtracted.

    Args:
        image: ``[3, H, W]``, normalised.
        boxes: ``[R, 4]`` in its pixels, of positive width and height.
        size: side of a crop.
        padding: pixels of a crop around the box.

    Returns:
        ``[R, 3, size, size]``.

    Source:
        ``rcnn_im_crop.m``, mode warp.
    """
    height, width = image.shape[1:]
    count = len(boxes)
    if not count:
        return image.new_zeros(0, 3, size, size)
    centre, sides = xyxy_to_cxcywh(boxes).split(2, dim=1)
    half = sides / 2 * (size / (size - 2 * padding))
    low, high = _rounded(centre - half), _rounded(centre + half)  # [R, 2] x and y
    high = torch.maximum(high, low + 1)
    x = _places(low[:, 0], high[:, 0], width, size)  # [R, size]
    y = _places(low[:, 1], high[:, 1], height, size)
    grid = torch.stack([x[:, None].expand(-1, size, -1), y[..., None].expand(-1, -1, size)], dim=3)
    every = image.expand(count, -1, -1, -1)
    return F.grid_sample(every, grid, padding_mode="zeros", align_corners=False)


def _rounded(values: Tensor) -> Tensor:
    return (values + 0.5).floor()


def _places(low: Tensor, high: Tensor, limit: int, size: int) -> Tensor:
    """Where along one axis each pixel of a crop looks, in -1..1 of the image; else ``OUTSIDE``.

    Args:
        low: ``[R]`` first whole pixel of the enlarged box.
        high: ``[R]`` the pixel after its last.
        limit: pixels of the image.
        size: of a crop.
    """
    first, end = low.clamp(0, limit - 1), high.clamp(1, limit)  # [R] what can be seen
    scale = size / (high - low)
    begin = _rounded((first - low) * scale)  # in the crop
    share = torch.minimum(_rounded((end - first) * scale).clamp(min=1), size - begin)
    pixel = torch.arange(size, device=low.device) - begin[:, None]  # [R, size]
    seen = end - first  # image pixels
    place = (pixel + 0.5) * (seen / share)[:, None] - 0.5  # centres on centres, not corners
    place = first[:, None] + place.clamp(min=0).minimum(seen[:, None] - 1)
    inside = (pixel >= 0) & (pixel < share[:, None])
    return torch.where(inside, (2 * place + 1) / limit - 1, OUTSIDE)
