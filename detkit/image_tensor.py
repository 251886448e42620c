"""Images from Python: whatever holds one, as a tensor."""

from __future__ import annotations

import os
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from detkit.errors import DataError
from detkit.image import from_pil, read_image

ImageLike: TypeAlias = str | os.PathLike[str] | Image.Image | NDArray[np.uint8] | Tensor


def to_image_tensor(image: ImageLike) -> Tensor:
    """Turn whatever holds an image into a ``[3, H, W]`` uint8 RGB tensor.

    Args:
        image: a path, a PIL image of any mode (its EXIF orientation is applied), a ``[H, W, 3]``
            uint8 RGB array, or a ``[3, H, W]`` uint8 RGB tensor, which is returned as it is.

    Raises:
        DataError: anything else, float images among it, with what to do.
    """
    if isinstance(image, Tensor):
        _check_pixels(image.dtype, image.shape, channels_last=False)
        return image
    if isinstance(image, np.ndarray):
        _check_pixels(image.dtype, image.shape, channels_last=True)
        pixels = np.ascontiguousarray(image)  # img[..., ::-1], BGR made RGB, has negative strides
        return torch.from_numpy(pixels if pixels.flags.writeable else pixels.copy()).permute(
            2, 0, 1
        )
    if isinstance(image, Image.Image):
        return from_pil(image)
    if isinstance(image, str | os.PathLike):
        return read_image(image)
    raise DataError(
        f"image: expected a path, a PIL image, an array or a tensor, got {type(image).__name__}."
    )


def _check_pixels(dtype: object, shape: tuple[int, ...], *, channels_last: bool) -> None:
    kind = "array" if channels_last else "tensor"
    name = str(dtype).removeprefix("torch.")
    if name.startswith(("float", "bfloat")):
        raise DataError(
            f"image: a {name} {kind} is refused, because whether 1.0 is white or nearly black "
            "is a guess. Scale it to 0..255 and convert it to uint8."
        )
    if name != "uint8":
        raise DataError(f"image: expected a uint8 {kind}, got {name}. Convert it to 0..255 uint8.")
    channels = shape[2 if channels_last else 0] if len(shape) == 3 else 0
    if channels != 3 or 0 in shape:
        form = "an array of shape [H, W, 3]" if channels_last else "a tensor of shape [3, H, W]"
        raise DataError(
            f"image: expected {form} in RGB, got {list(shape)}. "
            f"{_advice(shape, channels_last=channels_last)}; detkit.read_image and PIL images are "
            "converted by themselves."
        )


def _advice(shape: tuple[int, ...], *, channels_last: bool) -> str:
    """What would make an image of ``shape`` one of three channels in their place."""
    place = "last" if channels_last else "first"
    if 0 in shape:
        return "It has no pixels"
    if len(shape) == 2:
        return f"Repeat its grey three times, channels {place}"
    if len(shape) == 3 and shape[0 if channels_last else 2] == 3:
        return f"Move its channels {place}"
    return "Give it three channels"
