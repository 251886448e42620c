"""Objects as their files state them, beside what is learned: what figures are computed from.

Training wants boxes within the image, float32 and of some size. A figure is to be the one that
pycocotools or the devkit finds on the same files, so it takes the boxes before that: unclipped,
float64, as left, top, width and height, since the width of a corner is not the file's any more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NOISE = 1e-9  # pixels; what shares of the image times its sides may be off by
DECIMALS = 6  # of a pixel, with which files have numbers
ROUNDED = 2  # times, in the last digit of a double: adding a side, and taking the other edge away


@dataclass(frozen=True, slots=True, eq=False)
class Unsound:
    """D objects without size or outside their image: measured as missed, but not learned."""

    images: NDArray[np.int64]  # [D] rising
    rows: NDArray[np.int64]  # [D] of the sound object that follows each in its file; T: none does
    stated: NDArray[np.float64]  # [D, 4] xywh
    labels: NDArray[np.int64]  # [D] in 0..K-1
    difficult: NDArray[np.bool_]  # [D]
    crowd: NDArray[np.bool_]  # [D]
    area: NDArray[np.float64]  # [D]

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, keep: NDArray[np.bool_]) -> Unsound:
        """Return the objects of the ``[D]`` mask ``keep``."""
        return Unsound(
            self.images[keep],
            self.rows[keep],
            self.stated[keep],
            self.labels[keep],
            self.difficult[keep],
            self.crowd[keep],
            self.area[keep],
        )

    def beside(self, keep: NDArray[np.bool_]) -> Unsound:
        """Return the same beside the sound objects of the ``[T]`` mask ``keep`` alone."""
        kept = np.concatenate([[0], np.cumsum(keep)])  # [T + 1] before each
        return self._placed(self.images, kept[self.rows], self.labels)

    def of_images(self, keep: NDArray[np.bool_]) -> Unsound:
        """Return those of the images of the ``[I]`` mask ``keep``, which are numbered anew."""
        mine = self.select(keep[self.images])
        number = np.cumsum(keep) - 1  # [I]
        return mine._placed(number[mine.images], mine.rows, mine.labels)

    def with_labels(self, numbers: NDArray[np.int64]) -> Unsound:
        """Return those whose label has a new number of ``[K]`` that is not negative."""
        labels = numbers[self.labels]
        mine = self.select(labels >= 0)
        return mine._placed(mine.images, mine.rows, labels[labels >= 0])

    def _placed(
        self, images: NDArray[np.int64], rows: NDArray[np.int64], labels: NDArray[np.int64]
    ) -> Unsound:
        return Unsound(images, rows, self.stated, labels, self.difficult, self.crowd, self.area)

    @staticmethod
    def joined(
        parts: Sequence[Unsound | None],
        labels: Sequence[NDArray[np.int64]],
        images: Sequence[int],
        rows: Sequence[int],
    ) -> Unsound | None:
        """Those of several datasets, one behind the other.

        Args:
            parts: of each dataset.
            labels: new number of each dataset's labels 0..K-1.
            images: before each dataset.
            rows: sound objects before each dataset.
        """
        placed = [
            part._placed(part.images + image, part.rows + row, label[part.labels])
            for part, label, image, row in zip(parts, labels, images, rows, strict=True)
            if part is not None and len(part)
        ]
        if not placed:
            return None
        return Unsound(
            np.concatenate([part.images for part in placed]),
            np.concatenate([part.rows for part in placed]),
            np.concatenate([part.stated for part in placed]),
            np.concatenate([part.labels for part in placed]),
            np.concatenate([part.difficult for part in placed]),
            np.concatenate([part.crowd for part in placed]),
            np.concatenate([part.area for part in placed]),
        )


def as_stated(
    boxes: NDArray[np.float64], sides: NDArray[np.float64] | None, *, shares: bool
) -> NDArray[np.float64]:
    """``[T, 4]`` left, top, width and height in float64.

    Args:
        boxes: ``[T, 4]`` xyxy, pixels.
        sides: ``[T, 2]`` widths and heights, where the files state these; None: corners.
        shares: made from shares of the image.
    """
    low, high = boxes[:, :2], boxes[:, 2:]
    with np.errstate(invalid="ignore", over="ignore"):  # infinity less infinity
        sides = high - low if sides is None else sides
    return np.concatenate([low, without_noise(sides) if shares else sides], axis=1)


def written_sides(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """``[T, 2]`` widths and heights that a file had, from corners that were made of them.

    0.1 + 10.7 less 0.1 is 10.700000000000001: what is that near to a short number was one.

    Args:
        boxes: ``[T, 4]`` xyxy, pixels.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        sides = boxes[:, 2:] - boxes[:, :2]
        digit = np.spacing(np.maximum(np.abs(boxes[:, :2]), np.abs(boxes[:, 2:])))
        short = sides.round(DECIMALS)
        return np.where(np.abs(sides - short) <= ROUNDED * digit, short, sides)


def without_noise(pixels: NDArray[np.float64]) -> NDArray[np.float64]:
    """What shares of an image times its sides were made from, where that is a plain number.

    60/80 of 80 pixels are 60 and not 59.99999999999999: such a box would not be the one that
    another format states. Plain is what float32 holds, and what has few decimals.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        single, short = pixels.astype(np.float32).astype(np.float64), pixels.round(DECIMALS)
        plain = np.where(np.abs(pixels - short) <= NOISE, short, pixels)
        return np.where(np.abs(pixels - single) <= NOISE, single, plain)


def corners(stated: NDArray[np.float64]) -> NDArray[np.float64]:
    """``[n, 4]`` left, top, width and height as xyxy."""
    low = stated[:, :2]
    with np.errstate(over="ignore", invalid="ignore"):
        return np.concatenate([low, low + stated[:, 2:]], axis=1)
