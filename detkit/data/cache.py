"""Decoded images kept in memory, one copy for all loader processes."""

from __future__ import annotations

import logging
import mmap
import multiprocessing

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detkit.data.memory import free_memory
from detkit.image import read_image

logger = logging.getLogger(__name__)

GREATEST_SHARE = 0.7  # of the memory that is free when training starts
GIB = 1 << 30


class ImageCache:
    """Pixels of a dataset's images in one block, filled as images are read.

    The block is anonymous shared memory, inherited by forked loader processes, so an image that
    one of them decoded is there for all. It takes no room of /dev/shm, which containers keep
    small, and is gone with the run.
    """

    def __init__(self, sizes: NDArray[np.int32]) -> None:
        """Make room for images of ``sizes`` ``[I, 2]``; pages are taken when they are used."""
        self.sizes = sizes
        self.offsets = np.concatenate([[0], np.cumsum(image_bytes(sizes))])
        self._pixels = np.frombuffer(mmap.mmap(-1, max(int(self.offsets[-1]), 1)), np.uint8)
        self._filled = np.frombuffer(mmap.mmap(-1, max(len(sizes), 1)), np.bool_)

    def read(self, index: int, path: str) -> Tensor:
        """The image ``index``, from memory or else from ``path``: ``[3, H, W]`` uint8, a copy."""
        height, width = self.sizes[index].tolist()
        place = self._pixels[self.offsets[index] : self.offsets[index + 1]]
        if self._filled[index]:
            return torch.from_numpy(place.copy()).view(height, width, 3).permute(2, 0, 1)
        image = read_image(path)
        if image.shape[1:] == (height, width):  # else the file has changed since it was scanned
            place[:] = image.permute(1, 2, 0).reshape(-1).numpy()
            self._filled[index] = True  # after its pixels: another process may look at any time
        return image


def image_bytes(sizes: NDArray[np.int32]) -> NDArray[np.int64]:
    """``[I]`` bytes of decoded images of ``sizes`` ``[I, 2]``."""
    return sizes.astype(np.int64).prod(axis=1) * 3


def make_cache(sizes: NDArray[np.int32], processes: int, workers: int) -> ImageCache | None:
    """Make room for all images, or say in one line why that is not done.

    Args:
        sizes: ``[I, 2]`` height and width.
        processes: trainings on this machine (ranks); each keeps the images of its own.
        workers: loader processes of each.
    """
    needed, free = int(image_bytes(sizes).sum()) * processes, free_memory()
    if needed > GREATEST_SHARE * free:
        logger.warning(
            "data.cache=ram: %.1f GiB of images do not fit into %.0f%% of the %.1f GiB of free "
            "memory; images are read from disk.",
            needed / GIB,
            100 * GREATEST_SHARE,
            free / GIB,
        )
        return None
    if workers and "fork" not in multiprocessing.get_all_start_methods():
        logger.warning(
            "data.cache=ram: loader processes cannot share memory on this system; images are read "
            "from disk. With data.workers=0 the cache works."
        )
        return None
    return ImageCache(sizes)
