"""From raw images to one canvas and back: placement, normalisation, geometry.

``Geometry`` is the only thing that knows how an image was placed on a canvas, and it knows the
way back. Sizes are (height, width); points, scales and shifts are (x, y).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from detkit.ops.boxes import clip_boxes, scale_boxes, shift_boxes
from detkit.types import Boxes, Target

GREY = 0.5  # what darknet fills around a letterboxed image


@dataclass(frozen=True, slots=True)
class Geometry:
    """How one image was placed on the network's canvas: scale, then shift."""

    scale: tuple[float, float]  # (x, y)
    shift: tuple[float, float]  # (x, y), canvas pixels
    size: tuple[int, int]  # original (height, width)

    @property
    def placed(self) -> tuple[int, int]:
        """(height, width) of the image on the canvas."""
        return round(self.size[0] * self.scale[1]), round(self.size[1] * self.scale[0])

    def to_canvas(self, boxes: Boxes) -> Boxes:
        """Map ``[N, 4]`` boxes from image pixels to canvas pixels."""
        return shift_boxes(scale_boxes(boxes, self.scale), self.shift)

    def to_image(self, boxes: Boxes) -> Boxes:
        """Inverse of :meth:`to_canvas`, clipped to the image."""
        back = shift_boxes(boxes, (-self.shift[0], -self.shift[1]))
        return clip_boxes(back / back.new_tensor(self.scale * 2), self.size)

    def place(self, target: Target) -> Target:
        """Put a target's boxes on the canvas."""
        return replace(target, boxes=self.to_canvas(target.boxes))


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Images on one canvas, ready for a network."""

    pixels: Tensor  # [B, 3, H, W] float32, normalised
    geometry: tuple[Geometry, ...]  # one an image
    proposals: tuple[Boxes, ...] | None = None  # [R, 4] an image, in canvas pixels

    @property
    def size(self) -> tuple[int, int]:
        """Canvas (height, width)."""
        return self.pixels.shape[2], self.pixels.shape[3]

    def with_proposals(self, proposals: list[Boxes] | None) -> Batch:
        """Add region proposals, given in image pixels."""
        if proposals is None:
            return self
        placed = [g.to_canvas(p) for p, g in zip(proposals, self.geometry, strict=True)]
        return replace(self, proposals=tuple(p.to(self.pixels.device) for p in placed))


def letterbox(
    images: list[Tensor],
    size: tuple[int, int],
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
) -> Batch:
    """Scale each image to fit ``size`` with its shape kept, centred on grey.

    An image that already has the canvas's size is not resampled. The pixels are pasted at
    whole offsets, rounded down, while the geometry keeps the real half, as the source does: on
    odd margins the two differ by half a canvas pixel.

    Args:
        images: ``[3, H, W]`` uint8 RGB each, of any sizes.
        size: canvas (height, width).
        mean: of the backbone's normalisation, RGB in 0..1.
        std: likewise.

    Source:
        darknet, ``image.c: letterbox_image`` and ``yolo_layer.c: correct_yolo_boxes``.
    """
    height, width = size
    device = images[0].device
    canvas = torch.full((len(images), 3, height, width), GREY, device=device)
    geometry = []
    for index, image in enumerate(images):
        _check_image(image)
        inner = fit_inside((image.shape[1], image.shape[2]), size)
        top, left = (height - inner[0]) // 2, (width - inner[1]) // 2
        canvas[index, :, top : top + inner[0], left : left + inner[1]] = _resize(image, inner)
        scale = (inner[1] / image.shape[2], inner[0] / image.shape[1])
        shift = ((width - inner[1]) / 2, (height - inner[0]) / 2)
        geometry.append(Geometry(scale, shift, (image.shape[1], image.shape[2])))
    return Batch(normalise(canvas, mean, std), tuple(geometry))


def stretch(
    images: list[Tensor],
    size: tuple[int, int],
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
) -> Batch:
    """Resize each image to exactly ``size``, whatever its shape: what YOLOv1 does.

    Args:
        images: ``[3, H, W]`` uint8 RGB each, of any sizes.
        size: canvas (height, width).
        mean: of the backbone's normalisation, RGB in 0..1.
        std: likewise.

    Source:
        darknet, ``image.c: resize_image``, called by ``examples/yolo.c``.
    """
    for image in images:
        _check_image(image)
    canvas = torch.stack([_resize(image, size) for image in images])
    geometry = tuple(
        Geometry(
            (size[1] / image.shape[2], size[0] / image.shape[1]),
            (0.0, 0.0),
            (image.shape[1], image.shape[2]),
        )
        for image in images
    )
    return Batch(normalise(canvas, mean, std), geometry)


def shortest_side(
    images: list[Tensor],
    sides: tuple[int, int],
    multiple: int,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
) -> Batch:
    """Scale each image by its sides, and lay all in the top left of one canvas of zeros.

    Args:
        images: ``[3, H, W]`` uint8 RGB each, of any sizes.
        sides: what the shorter side becomes, and what the longer one is at most.
        multiple: the canvas's sides are the least multiples of it that hold every image.
        mean: of the backbone's normalisation, RGB in 0..1.
        std: likewise.

    Source:
        Fast R-CNN, ``prep_im_for_blob``; the sizes are those of torchvision's
        ``GeneralizedRCNNTransform``, which rounds down.
    """
    for image in images:
        _check_image(image)
    sizes = [side_size((image.shape[1], image.shape[2]), sides) for image in images]
    height, width = (-(-max(side) // multiple) * multiple for side in zip(*sizes, strict=True))
    canvas = torch.zeros((len(images), 3, height, width), device=images[0].device)
    geometry = []
    for index, (image, (high, wide)) in enumerate(zip(images, sizes, strict=True)):
        pixels = normalise(image[None].to(torch.float32).div_(255), mean, std)
        if (high, wide) != (image.shape[1], image.shape[2]):
            pixels = _bilinear(pixels, (high, wide), align_corners=False)
        canvas[index, :, :high, :wide] = pixels[0]
        scale = (wide / image.shape[2], high / image.shape[1])
        geometry.append(Geometry(scale, (0.0, 0.0), (image.shape[1], image.shape[2])))
    return Batch(canvas, tuple(geometry))


def side_size(size: tuple[int, int], sides: tuple[int, int]) -> tuple[int, int]:
    """(height, width) that an image of ``size`` gets where its sides decide; at least a pixel.

    Args:
        size: of the image, (height, width).
        sides: what the shorter side becomes, and what the longer one is at most.
    """
    # in float64 and rounded down, as torchvision does (its older releases scaled in float32, which
    # made 799 of 480 pixels that were to be 800)
    scale = min(sides[0] / min(size), sides[1] / max(size))
    return max(int(size[0] * scale), 1), max(int(size[1] * scale), 1)


def fit_inside(size: tuple[int, int], canvas: tuple[int, int]) -> tuple[int, int]:
    """Largest (height, width) of the same shape as ``size`` that fits ``canvas``.

    Integer division as in the source, so that the sizes are its sizes; at least one pixel.
    """
    height, width = size
    if canvas[1] * height < canvas[0] * width:  # netw / W < neth / H, in whole numbers
        return max(height * canvas[1] // width, 1), canvas[1]
    return canvas[0], max(width * canvas[0] // height, 1)


def _resize(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize ``[3, H, W]`` uint8 to ``[3, h, w]`` float32 in 0..1, corners on corners.

    The source loses the last row where its arithmetic falls short of the image's last row, on
    about one height in ten: it leaves out the weight of the lower neighbour there, and the row
    comes out nearly black. Its boxes near thresholds follow, so it is done here, too.

    Source:
        darknet, ``image.c: resize_image``.
    """
    pixels = image.to(torch.float32).div_(255)
    if size == (image.shape[1], image.shape[2]):
        return pixels
    # align_corners is darknet's resize_image: source = target * (W - 1) / (w - 1)
    out = _bilinear(pixels[None], size, align_corners=True)[0]
    row, share = last_source_row(image.shape[1], size[0])
    if row < image.shape[1] - 1:
        above = pixels[None, :, row : row + 1]  # [1, 3, 1, W]
        above = _bilinear(above, (1, size[1]), align_corners=True)
        out[:, -1] = above[0, :, 0] * (1 - share)
    return out


def _bilinear(pixels: Tensor, size: tuple[int, int], *, align_corners: bool) -> Tensor:
    """Resample ``[1, 3, H, W]`` to a size of (height, width)."""
    if pixels.is_meta:  # only shapes are asked for, of which torch takes 12 ms to be sure
        return pixels.new_empty(1, 3, *size)
    return F.interpolate(pixels, size, mode="bilinear", align_corners=align_corners)


def last_source_row(height: int, target: int) -> tuple[int, float]:
    """Which row of ``height`` darknet reads for the last of ``target`` rows, and what lies below.

    Returns:
        The row, and the share of the next one that the place lies beyond it: ``(height - 1, 0.0)``
        but for rounding in float32.
    """
    if target == 1:
        return height - 1, 0.0
    scale = np.float32(height - 1) / np.float32(target - 1)
    place = np.float32(target - 1) * scale
    row = int(place)
    return (row, float(place - np.float32(row))) if row < height - 1 else (height - 1, 0.0)


def normalise(
    pixels: Tensor, mean: tuple[float, float, float], std: tuple[float, float, float]
) -> Tensor:
    """Subtract ``mean`` and divide by ``std`` (both RGB) in ``[B, 3, H, W]`` pixels of 0..1."""
    if mean == (0.0, 0.0, 0.0) and std == (1.0, 1.0, 1.0):  # darknet's networks
        return pixels
    shape = (1, 3, 1, 1)
    return (pixels - pixels.new_tensor(mean).view(shape)) / pixels.new_tensor(std).view(shape)


def denormalise(
    pixels: Tensor, mean: tuple[float, float, float], std: tuple[float, float, float]
) -> Tensor:
    """Inverse of :func:`normalise`, as ``[B, 3, H, W]`` uint8: what the network saw, to look at."""
    shape = (1, 3, 1, 1)
    back = pixels * pixels.new_tensor(std).view(shape) + pixels.new_tensor(mean).view(shape)
    return (back * 255).round().clamp(0, 255).to(torch.uint8)


def _check_image(image: Tensor) -> None:
    if image.dtype != torch.uint8 or image.ndim != 3 or image.shape[0] != 3 or not image.numel():
        raise ValueError(
            f"image: expected a [3, H, W] uint8 RGB tensor, got {list(image.shape)} "
            f"{image.dtype}; detkit.read_image returns such tensors."
        )
