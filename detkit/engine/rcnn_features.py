"""The features that R-CNN's SVMs and box regressions are fitted to, on disk: a file an image.

Reading order: ``write_features`` (what is kept of what the network says), ``Shelf`` (where, and how
it is read), ``sample_norms`` (how long the vectors are).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detkit.detectors import RCNN
from detkit.engine.rcnn_work import read_kept
from detkit.files import whole_file
from detkit.ops.matching import match_by_iou
from detkit.types import Boxes, Target

NORM_IMAGES = 200  # R-CNN's code: how many images, and of each how many windows, say what a
NORM_WINDOWS = 200  # feature vector's mean length is


def windows_of(proposals: Boxes, target: Target) -> Boxes:
    """``[R, 4]`` the windows of a training image: its proposals, and behind them its objects."""
    return torch.cat([proposals, target.boxes])


@torch.no_grad()
def write_features(
    path: Path, detector: RCNN, image: Tensor, windows: Boxes, target: Target
) -> None:
    """Look at an image's windows and keep what is said of them.

    Numbers are kept in half precision where they fit. The last maps, which are large, are kept of
    windows near an object alone: box regression learns from no others.

    Args:
        path: the file, which appears whole or not at all.
        detector: in eval mode.
        image: ``[3, H, W]`` uint8 RGB.
        windows: ``[R, 4]`` image pixels, the objects behind the proposals.
        target: the objects.
    """
    batch = detector.preprocess([image])
    placed = windows.to(batch.pixels.device)
    said = detector.look(batch.pixels[0], batch.geometry[0], placed)
    near = (match_by_iou(windows, target.boxes).ious > detector.config.boxes.iou).nonzero()[:, 0]
    fc7 = _narrow(said.fc7)
    with whole_file(path) as place:
        np.savez(
            place,
            windows=windows.numpy(),
            fc7=fc7,
            objects=fc7[len(windows) - len(target) :],
            near=near.numpy(),
            pool5=_narrow(said.pool5[near.to(said.pool5.device)]),
            pool5_norms=said.pool5.norm(dim=1).cpu().numpy(),
        )


def _narrow(values: Tensor) -> NDArray[Any]:
    """Half precision, but for numbers that would become infinite."""
    half = values.half()
    return (half if torch.isfinite(half).all() else values).cpu().numpy()


class NearObjects(NamedTuple):
    """Windows of an image that box regression may learn from."""

    rows: NDArray[np.int64]  # [n] which of the image's windows, rising
    pool5: NDArray[np.float32]  # [n, D5]


@dataclass(frozen=True, slots=True)
class Shelf:
    """The feature files of a dataset."""

    folder: Path
    images: int

    def path(self, image: int) -> Path:
        """The file of an image, whether it is there or not."""
        return self.folder / f"{image:06d}.npz"

    def missing(self) -> list[int]:
        """Images whose file is still to be written."""
        return [image for image in range(self.images) if not self.path(image).is_file()]

    def read(self, image: int, name: str) -> NDArray[Any]:
        """One array of an image; floats come in single precision."""
        array = read_kept(self.path(image), name)[name]
        return array.astype(np.float32) if array.dtype.kind == "f" else array

    def windows(self, image: int) -> Boxes:
        """``[R, 4]`` of an image."""
        return torch.from_numpy(self.read(image, "windows"))

    def near(self, image: int) -> NearObjects:
        """What box regression may learn from, of an image."""
        return NearObjects(self.read(image, "near"), self.read(image, "pool5"))

    def size(self) -> int:
        """Bytes on the disk."""
        return sum(self.path(image).stat().st_size for image in range(self.images))


class Norms(NamedTuple):
    """Lengths of a sample of feature vectors."""

    fc7: Tensor
    pool5: Tensor


def sample_norms(shelf: Shelf, seed: int) -> Norms:
    """How long the features are of 200 windows in each of 200 images, drawn from ``seed``.

    Source:
        ``rcnn_feature_stats.m``.
    """
    draws = np.random.default_rng(seed)
    fc7, pool5 = [], []
    for image in draws.permutation(shelf.images)[:NORM_IMAGES]:
        features = shelf.read(int(image), "fc7")
        rows = draws.permutation(len(features))[:NORM_WINDOWS]
        fc7.append(np.linalg.norm(features[rows], axis=1))
        pool5.append(shelf.read(int(image), "pool5_norms")[rows])
    return Norms(torch.from_numpy(np.concatenate(fc7)), torch.from_numpy(np.concatenate(pool5)))
