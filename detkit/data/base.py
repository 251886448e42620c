"""What a dataset is: flat arrays of ground truth, and the images they speak of.

Annotations live in NumPy arrays with offsets, never in one Python object per box: workers share
their pages, and memory does not grow as objects' reference counts are touched.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detkit.arguments import check_flag
from detkit.class_names import read_as_one
from detkit.data.cache import ImageCache
from detkit.data.stated import Unsound
from detkit.errors import DataError
from detkit.image import read_image
from detkit.proposals.store import ProposalStore
from detkit.types import Boxes, Target

CROWDS_DROPPED = "crowds dropped from training"
CROWDS_KEPT = "of them crowds, where nothing is learned"
MIN_TRAIN_SIDE = 1.0  # pixels; a box no wider or no higher teaches nothing and is not trained on


@dataclass(frozen=True, slots=True)
class LeftOut:
    """An image that cannot be used, as its dataset lists it."""

    index: int  # among all that are listed
    path: str
    labels: tuple[int, ...]  # of its objects


@dataclass(frozen=True, slots=True)
class Report:
    """What became of the bad data of one dataset: each kind counted, each file named.

    Kinds, in words a person reads in the data summary, e.g. ``"clipped to the image"``.
    """

    counts: Mapping[str, int] = field(default_factory=dict)
    unreadable: tuple[tuple[str, str], ...] = ()  # (path, reason) of images left out
    examples: Mapping[str, str] = field(default_factory=dict)  # kind -> an image or a place
    read_as: Mapping[str, str] = field(default_factory=dict)  # class by the data's own name of it
    # kind -> the image of each that was counted; what concerns no image of its own is not in it
    images: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    left_out: tuple[LeftOut, ...] = ()  # those of ``unreadable``, for parting
    # class that ``only`` leaves out -> the data's own number of it (COCO)
    dropped: Mapping[str, int | None] = field(default_factory=dict)
    max_unreadable: float | None = None  # the entry's, the least of several; None: nobody said

    def of_part(self, paths: Collection[str], *, whole: bool) -> Report:
        """Return what concerns the images at ``paths``.

        Args:
            paths: of the part's images, those that cannot be used among them.
            whole: with what concerns no image of its own, which one part must tell.
        """
        inside = set(paths)
        mine = {kind: tuple(p for p in all_ if p in inside) for kind, all_ in self.images.items()}
        counts = {
            kind: len(mine[kind]) if kind in mine else count * whole
            for kind, count in self.counts.items()
        }
        return Report(
            counts,
            tuple(entry for entry in self.unreadable if entry[0] in inside),
            {
                kind: mine[kind][0] if kind in mine else first
                for kind, first in self.examples.items()
                if counts[kind]
            },
            self.read_as,
            mine,
            tuple(image for image in self.left_out if image.path in inside),
            self.dropped,
            self.max_unreadable,
        )

    def __add__(self, other: Report) -> Report:
        """Both together; which image each belongs to is lost, as datasets are parted singly."""
        kinds = dict.fromkeys([*self.counts, *other.counts])
        counts = {kind: self.counts.get(kind, 0) + other.counts.get(kind, 0) for kind in kinds}
        examples = {**other.examples, **self.examples}
        read_as = {**self.read_as, **other.read_as}
        dropped = {**self.dropped, **other.dropped}
        shares = [s for s in (self.max_unreadable, other.max_unreadable) if s is not None]
        return Report(
            counts,
            self.unreadable + other.unreadable,
            examples,
            read_as,
            dropped=dropped,
            max_unreadable=min(shares, default=None),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Segments:
    """The outline of each object, as JSON text (COCO's polygons or RLE), in one flat array.

    detkit learns and measures boxes; outlines are kept for what writes datasets back.
    """

    text: NDArray[np.uint8]  # all texts, one behind the other
    offsets: NDArray[np.int64]  # [T + 1]; an object without outline has an empty text

    @staticmethod
    def of(texts: Sequence[str]) -> Segments:
        """Lay out one text an object."""
        encoded = [text.encode() for text in texts]
        text = np.frombuffer(b"".join(encoded), dtype=np.uint8)
        return Segments(text, np.cumsum([0, *(len(e) for e in encoded)]).astype(np.int64))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> str:
        return self.text[self.offsets[row] : self.offsets[row + 1]].tobytes().decode()

    def select(self, keep: NDArray[np.bool_]) -> Segments:
        """Return the objects of the ``[T]`` mask ``keep``."""
        lengths = np.diff(self.offsets)
        ends = np.concatenate([[0], np.cumsum(lengths[keep])]).astype(np.int64)
        return Segments(self.text[np.repeat(keep, lengths)], ends)


@dataclass(frozen=True, slots=True, eq=False)
class Annotations:
    """Ground truth of a dataset: I images, T objects, K classes, in flat arrays.

    Objects of image ``i`` are rows ``offsets[i]`` to ``offsets[i + 1]``.
    """

    class_names: tuple[str, ...]  # [K]
    image_ids: NDArray[np.str_]  # [I] unique; VOC: the file's stem; COCO: its whole number
    paths: NDArray[np.str_]  # [I] image files
    sizes: NDArray[np.int32]  # [I, 2] height and width of the image file
    offsets: NDArray[np.int64]  # [I + 1]
    boxes: NDArray[np.float32]  # [T, 4] xyxy, pixels, exclusive edges
    labels: NDArray[np.int64]  # [T] in 0..K-1
    difficult: NDArray[np.bool_]  # [T]
    crowd: NDArray[np.bool_]  # [T]
    area: NDArray[np.float64]  # [T] the stated box's, or as the dataset states it (COCO)
    report: Report = Report()
    category_ids: NDArray[np.int64] | None = None  # [K] the dataset's own numbers (COCO)
    segments: Segments | None = None  # [T] where the dataset has outlines (COCO)
    stated: NDArray[np.float64] | None = None  # [T, 4] xywh, unclipped; None: the boxes'
    unsound: Unsound | None = None  # what is measured besides
    is_coco: bool = False  # of COCO's files: its figures are those of pycocotools on them

    def __len__(self) -> int:
        return len(self.image_ids)

    def target(self, index: int) -> Target:
        """Ground truth of one image, as tensors."""
        rows = slice(int(self.offsets[index]), int(self.offsets[index + 1]))
        return Target(
            boxes=torch.from_numpy(self.boxes[rows].copy()),
            labels=torch.from_numpy(self.labels[rows].copy()),
            difficult=torch.from_numpy(self.difficult[rows].copy()),
            crowd=torch.from_numpy(self.crowd[rows].copy()),
        )

    def image_of_row(self) -> NDArray[np.int64]:
        """``[T]`` index of the image that each object belongs to."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    def classes_of_images(self) -> NDArray[np.bool_]:
        """``[I, K]`` whether an image has an object of a class."""
        has = np.zeros((len(self), len(self.class_names)), dtype=np.bool_)
        has[self.image_of_row(), self.labels] = True
        return has

    def keep_rows(self, keep: NDArray[np.bool_]) -> Annotations:
        """Return the same images with only the objects of the ``[T]`` mask ``keep``."""
        counts = np.bincount(self.image_of_row()[keep], minlength=len(self))
        return replace(
            self,
            offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            boxes=self.boxes[keep],
            labels=self.labels[keep],
            difficult=self.difficult[keep],
            crowd=self.crowd[keep],
            area=self.area[keep],
            segments=None if self.segments is None else self.segments.select(keep),
            stated=None if self.stated is None else self.stated[keep],
            unsound=None if self.unsound is None else self.unsound.beside(keep),
        )

    def keep_images(self, keep: NDArray[np.bool_]) -> Annotations:
        """Return only the images of the ``[I]`` mask ``keep``, with their objects."""
        kept = self.keep_rows(keep[self.image_of_row()])
        objects = np.diff(self.offsets)[keep]
        return replace(
            kept,
            image_ids=self.image_ids[keep],
            paths=self.paths[keep],
            sizes=self.sizes[keep],
            offsets=np.concatenate([[0], np.cumsum(objects)]).astype(np.int64),
            unsound=None if kept.unsound is None else kept.unsound.of_images(keep),
        )


def for_training(annotations: Annotations, *, crowds: bool = False) -> Annotations:
    """Drop what is measured but not learned from.

    These are boxes no more than a pixel wide or high, and crowds: a box around many is no box of
    any one of them. With them goes what the files state besides the boxes that are learned.

    Args:
        annotations: what was read.
        crowds: keep them after all, for a detector that learns nothing where they are.

    Raises:
        ConfigError: ``crowds`` is neither True nor False.
    """
    check_flag(crowds, "for_training: crowds")
    sides = annotations.boxes[:, 2:] - annotations.boxes[:, :2]
    thin = np.asarray((sides <= MIN_TRAIN_SIDE).any(axis=1))
    crowd = annotations.crowd & ~thin
    kept = annotations.keep_rows(~thin if crowds else ~(thin | crowd))
    kept = replace(kept, stated=None, unsound=None)
    said = {
        "one-pixel boxes dropped from training": int(thin.sum()),
        CROWDS_KEPT if crowds else CROWDS_DROPPED: int(crowd.sum()),
    }
    counts = {kind: count for kind, count in said.items() if count}
    return replace(kept, report=annotations.report + Report(counts)) if counts else kept


def summary(annotations: Annotations) -> str:
    """One line for the log: images, objects, classes, and what became of bad data."""
    empty = int((np.diff(annotations.offsets) == 0).sum())
    parts = [
        f"{len(annotations)} images ({empty} without objects)",
        f"{len(annotations.boxes)} objects of {len(annotations.class_names)} classes",
    ]
    difficult = int(annotations.difficult.sum())
    if difficult:
        parts.append(f"{difficult} difficult")
    parts += [f"{count} {kind}" for kind, count in annotations.report.counts.items() if count]
    if same := read_as_one(annotations.report.read_as):
        parts.append(same)
    if annotations.report.unreadable:
        path, reason = annotations.report.unreadable[0]
        left_out = len(annotations.report.unreadable)
        parts.append(f"{left_out} unreadable images left out (first: {path}: {reason})")
    return ", ".join(parts)


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One image of a dataset, with its ground truth and its name."""

    image: Tensor  # [3, H, W] uint8 RGB
    target: Target
    image_id: str
    path: str
    proposals: Boxes | None = None  # [R, 4] image pixels, best first; None: nobody asked for them

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the image."""
        return self.image.shape[1], self.image.shape[2]

    def pin_memory(self) -> Sample:
        """What the loader calls so that the copy to a GPU need not wait."""
        return replace(self, image=self.image.pin_memory())


def given_proposals(samples: Sequence[Sample]) -> list[Boxes] | None:
    """The proposals of each image; None where an image comes without."""
    given = [sample.proposals for sample in samples if sample.proposals is not None]
    return given if len(given) == len(samples) else None


class DetectionDataset(torch.utils.data.Dataset[Sample]):
    """The images of ``annotations``, read when asked for; once only where a cache keeps them.

    With a store each comes with its proposals, which are found at once where the store lacks them.
    """

    def __init__(
        self,
        annotations: Annotations,
        cache: ImageCache | None = None,
        proposals: ProposalStore | None = None,
    ) -> None:
        self.annotations = annotations
        self.class_names = annotations.class_names
        self.cache = cache
        self.proposals = proposals

    def __len__(self) -> int:
        return len(self.annotations)

    def __getitem__(self, index: int) -> Sample:
        path = str(self.annotations.paths[index])
        image_id = str(self.annotations.image_ids[index])
        image = read_image(path) if self.cache is None else self.cache.read(index, path)
        size, now = tuple(self.annotations.sizes[index].tolist()), tuple(image.shape[1:])
        if now != size:
            raise DataError(
                f"{path}: is {now[1]} x {now[0]} pixels now, and was {size[1]} x {size[0]} when "
                "the data was read: its boxes are of another picture. Put it back, or start again."
            )
        proposals = None if self.proposals is None else self._proposals(path, image)
        return Sample(image, self.annotations.target(index), image_id, path, proposals)

    def _proposals(self, path: str, image: Tensor) -> Boxes:
        assert self.proposals is not None
        try:
            return self.proposals.find(Path(path), image)
        except OSError as problem:  # a cached image whose file is gone
            raise DataError(
                f"{path}: cannot be read any more ({problem.strerror}), but its proposals are "
                "found by its content."
            ) from problem

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(len(self)))
