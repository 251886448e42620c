"""Darknet's augmentation as albumentations transforms: jitter-and-place or crop, HSV distortion.

Source: darknet, ``data.c: load_data_detection`` and ``load_data_region``, ``image.c: place_image``,
``image.c: random_distort_image``. OpenCV is imported in the functions that draw.
"""

from __future__ import annotations

import os
import random
from typing import Any

import numpy as np
from numpy.typing import NDArray

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it asks the network for updates otherwise

import albumentations as A

GREY = 128  # 0.5 of the source, in whole numbers


class PlaceOnCanvas(A.DualTransform):
    """Distort an image's shape a little and place it somewhere on the network's canvas.

    The new aspect ratio is (W + U(-jW, jW)) / (H + U(-jH, jH)); the image is then made as large
    as the canvas allows and laid at a uniform place. On a square canvas with ``zoom`` (1, 1) this
    is the source's rule; ``zoom`` scales the result by a factor drawn evenly in its logarithm, so
    that above 1 the canvas crops the image, at a uniform place too.

    The call gives the canvas as ``canvas=(height, width)``; None leaves the image alone.
    """

    _targets = (A.core.type_definitions.Targets.IMAGE, A.core.type_definitions.Targets.BBOXES)

    def __init__(self, jitter: float, zoom: tuple[float, float]) -> None:
        super().__init__(p=1.0)
        self.jitter = jitter
        self.zoom = zoom

    @property
    def targets_as_params(self) -> list[str]:
        """What the draw needs beside the image's shape."""
        return ["canvas"]

    def get_params_dependent_on_data(
        self, params: dict[str, Any], data: dict[str, Any]
    ) -> dict[str, Any]:
        """Draw the placement: width, height and offset of the image on the canvas, in pixels."""
        height, width = params["shape"][:2]
        canvas = data["canvas"] or (height, width)
        return {"canvas": canvas, "placed": draw_placement((height, width), canvas, self)}

    def apply(self, img: NDArray[Any], **params: Any) -> NDArray[Any]:  # albumentations' signature
        """Resample ``[H, W, 3]`` uint8 onto the canvas."""
        return place_image(img, params["canvas"], params["placed"])

    def apply_to_bboxes(self, bboxes: NDArray[Any], **params: Any) -> NDArray[Any]:
        """Move boxes, as fractions of the image, to fractions of the canvas."""
        new_width, new_height, left, top = params["placed"]
        height, width = params["canvas"]
        moved = bboxes.copy()
        moved[:, [0, 2]] = (bboxes[:, [0, 2]] * new_width + left) / width
        moved[:, [1, 3]] = (bboxes[:, [1, 3]] * new_height + top) / height
        return moved


def draw_placement(
    size: tuple[int, int], canvas: tuple[int, int], transform: PlaceOnCanvas
) -> tuple[int, int, int, int]:
    """Return (width, height, left, top) of an image of ``size`` (height, width) on ``canvas``.

    Whole numbers, as the source rounds them for its pixels; its boxes keep the fractions, ours
    follow the pixels.
    """
    rng: random.Random = transform.py_random
    height, width = size
    aspect = (width * (1 + rng.uniform(-transform.jitter, transform.jitter))) / (
        height * (1 + rng.uniform(-transform.jitter, transform.jitter))
    )
    zoom = float(np.exp(rng.uniform(*np.log(transform.zoom))))
    if aspect < canvas[1] / canvas[0]:
        new_height = canvas[0] * zoom
        new_width = new_height * aspect
    else:
        new_width = canvas[1] * zoom
        new_height = new_width / aspect
    new_width, new_height = max(int(new_width), 1), max(int(new_height), 1)
    left = int(rng.uniform(0, canvas[1] - new_width))  # a negative range crops
    top = int(rng.uniform(0, canvas[0] - new_height))
    return new_width, new_height, left, top


def place_image(
    image: NDArray[Any], canvas: tuple[int, int], placed: tuple[int, int, int, int]
) -> NDArray[Any]:
    """Paste ``image`` (``[H, W, 3]`` uint8), resized, on a grey canvas of (height, width).

    Bilinear without corner alignment: target pixel x reads source x * W / width. Beyond the last
    source pixel the edge repeats (the source reads black there, see docs/fidelity.md).
    """
    import cv2

    width, height, left, top = placed
    out = np.full((*canvas, 3), GREY, dtype=np.uint8)
    x1, y1 = max(left, 0), max(top, 0)
    x2, y2 = min(left + width, canvas[1]), min(top + height, canvas[0])
    if x2 <= x1 or y2 <= y1:
        return out
    step_x, step_y = image.shape[1] / width, image.shape[0] / height
    to_source = np.array([[step_x, 0, (x1 - left) * step_x], [0, step_y, (y1 - top) * step_y]])
    out[y1:y2, x1:x2] = cv2.warpAffine(
        np.ascontiguousarray(image),
        to_source,
        (x2 - x1, y2 - y1),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return out


class CropAndStretch(A.DualTransform):
    """Move each edge of an image in or out a little, then stretch what is left to the canvas.

    What YOLOv1 was trained with. Beyond the image its last row or column repeats.

    The call gives the canvas as ``canvas=(height, width)``; None stretches to the image's size.
    """

    _targets = (A.core.type_definitions.Targets.IMAGE, A.core.type_definitions.Targets.BBOXES)

    def __init__(self, jitter: float) -> None:
        super().__init__(p=1.0)
        self.jitter = jitter

    @property
    def targets_as_params(self) -> list[str]:
        """What the draw needs beside the image's shape."""
        return ["canvas"]

    def get_params_dependent_on_data(
        self, params: dict[str, Any], data: dict[str, Any]
    ) -> dict[str, Any]:
        """Draw the crop: left, top, width and height in the image's pixels."""
        size = params["shape"][:2]
        return {"canvas": data["canvas"] or size, "crop": draw_crop(size, self)}

    def apply(self, img: NDArray[Any], **params: Any) -> NDArray[Any]:  # albumentations' signature
        """Resample ``[H, W, 3]`` uint8 onto the canvas."""
        return crop_and_stretch(img, params["canvas"], params["crop"])

    def apply_to_bboxes(self, bboxes: NDArray[Any], **params: Any) -> NDArray[Any]:
        """Move boxes, as fractions of the image, to fractions of the canvas."""
        left, top, crop_width, crop_height = params["crop"]
        height, width = params["shape"][:2]
        moved = bboxes.copy()
        moved[:, [0, 2]] = (bboxes[:, [0, 2]] * width - left) / crop_width
        moved[:, [1, 3]] = (bboxes[:, [1, 3]] * height - top) / crop_height
        return moved


def draw_crop(size: tuple[int, int], transform: CropAndStretch) -> tuple[int, int, int, int]:
    """Return (left, top, width, height) of a crop of an image of ``size`` (height, width).

    Each edge moves by its own whole number, U(-j, j) of the side cut off towards zero as in the
    source; a negative one reaches beyond the image.

    Source:
        darknet, ``data.c: load_data_region``.
    """
    rng: random.Random = transform.py_random
    height, width = size
    far_x, far_y = int(width * transform.jitter), int(height * transform.jitter)
    left, right = (int(rng.uniform(-far_x, far_x)) for _ in range(2))
    top, bottom = (int(rng.uniform(-far_y, far_y)) for _ in range(2))
    return left, top, width - left - right, height - top - bottom


def crop_and_stretch(
    image: NDArray[Any], canvas: tuple[int, int], crop: tuple[int, int, int, int]
) -> NDArray[Any]:
    """Resize a part of ``image`` (``[H, W, 3]`` uint8) to a canvas of (height, width).

    Bilinear, corners on corners: target pixel x reads pixel ``x * (w - 1) / (W - 1)`` of the crop.

    Source:
        darknet, ``image.c: crop_image`` and ``resize_image``.
    """
    import cv2

    left, top, crop_width, crop_height = crop
    height, width = canvas
    step_x = (crop_width - 1) / max(width - 1, 1)
    step_y = (crop_height - 1) / max(height - 1, 1)
    stretched = cv2.warpAffine(
        np.ascontiguousarray(image),
        np.array([[step_x, 0, left], [0, step_y, top]], dtype=np.float64),
        (width, height),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return np.asarray(stretched, dtype=np.uint8)


class DistortHSV(A.ImageOnlyTransform):
    """Shift the hue; multiply saturation and value by s or 1/s, each with equal chance."""

    def __init__(self, hue: float, saturation: float, exposure: float) -> None:
        super().__init__(p=1.0)
        self.hue = hue
        self.saturation = saturation
        self.exposure = exposure

    def get_params(self) -> dict[str, Any]:
        """Draw the shift (a fraction of the colour circle) and the two factors."""
        return {
            "shift": self.py_random.uniform(-self.hue, self.hue),
            "saturation": draw_factor(self.saturation, self.py_random),
            "exposure": draw_factor(self.exposure, self.py_random),
        }

    def apply(self, img: NDArray[Any], **params: Any) -> NDArray[Any]:  # albumentations' signature
        """Distort ``[H, W, 3]`` uint8 RGB."""
        return distort_hsv(img, params["shift"], params["saturation"], params["exposure"])


def draw_factor(limit: float, rng: random.Random) -> float:
    """U(1, ``limit``) or its reciprocal (``utils.c: rand_scale``)."""
    factor = rng.uniform(1.0, limit)
    return factor if rng.random() < 0.5 else 1.0 / factor


def distort_hsv(
    image: NDArray[Any], shift: float, saturation: float, exposure: float
) -> NDArray[Any]:
    """Shift the hue by a fraction of the circle, scale saturation and value, clamp in RGB.

    In float, as the source: in 8-bit HSV the round trip alone moves colours by several levels.
    """
    import cv2

    hsv = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2HSV)
    hsv[..., 0] = (hsv[..., 0] + 360 * shift) % 360
    hsv[..., 1] *= saturation
    hsv[..., 2] *= exposure
    rgb = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    return np.asarray((rgb.clip(0, 1) * 255).round(), dtype=np.uint8)
