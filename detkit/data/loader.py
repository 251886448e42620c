"""The training loader: a seeded order that starts at any step, and batches that know their step."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from detkit.data.augment import Augmentation
from detkit.data.base import Annotations, DetectionDataset, Sample
from detkit.data.cache import ImageCache
from detkit.data.mosaic import mixed
from detkit.data.sampling import earlier_showings, sampled_order
from detkit.data.workers import batches_of
from detkit.errors import DataError
from detkit.proposals.store import ProposalStore

logger = logging.getLogger(__name__)

MIXING = 1 << 16  # what tells the draws of mosaic and mixup from those of augmentation
SUBSTITUTES = 10  # unreadable images in a row after which the data, not a file, is at fault

CanvasSize = tuple[int, int] | None  # (height, width); None: as the image


@dataclass(frozen=True, slots=True, eq=False)
class TrainBatch:
    """Samples of one step, or of a part of it."""

    samples: tuple[Sample, ...]
    size: CanvasSize  # canvas drawn for this step
    seen: int  # images trained on before these
    share: float = 1.0  # of the step's images

    def __len__(self) -> int:
        return len(self.samples)

    def tensors(self) -> dict[str, Tensor]:
        """All that the model sees of it, by name, to be kept in a file."""
        found: dict[str, Tensor] = {}
        for index, sample in enumerate(self.samples):
            found[f"image_{index}"] = sample.image.contiguous()
            found[f"boxes_{index}"] = sample.target.boxes
            found[f"labels_{index}"] = sample.target.labels
        return found

    def described(self) -> list[dict[str, str]]:
        """``image_id`` and ``path`` of each image."""
        return [{"image_id": each.image_id, "path": each.path} for each in self.samples]

    def split(self, parts: int) -> list[TrainBatch]:
        """Cut into ``parts`` nearly equal batches whose gradients add up to this one's.

        But for batch norm, which sees each part by itself, as in darknet's subdivisions.
        """
        cuts = np.linspace(0, len(self), min(parts, len(self)) + 1).astype(int).tolist()
        return [
            replace(
                self,
                samples=self.samples[start:stop],
                seen=self.seen + start,
                share=(stop - start) / len(self),
            )
            for start, stop in pairwise(cuts)
        ]


class SampleKey(NamedTuple):
    """What a sample is: which image, in which epoch, on which canvas."""

    epoch: int
    image: int  # index in the dataset
    size: CanvasSize
    may_mix: bool = True  # whether mosaic and mixup have not ended yet
    turn: int = 0  # how often this epoch has shown the image before


class TrainSet(Dataset[Sample | DataError]):
    """Augmented images, asked for by :class:`SampleKey`."""

    def __init__(
        self,
        annotations: Annotations,
        augmentation: Augmentation,
        seed: int,
        cache: ImageCache | None = None,
        proposals: ProposalStore | None = None,
    ) -> None:
        self.images = DetectionDataset(annotations, cache, proposals)
        self.augmentation = augmentation
        self.seed = seed

    def __getitem__(self, key: SampleKey) -> Sample | DataError:
        """The sample; or the error that reading it is, which a process cannot raise in one line."""
        try:
            return self.sample(key)
        except DataError as problem:
            return problem

    def sample(self, key: SampleKey) -> Sample:
        """The image in its augmented form, or the next that can be read.

        Raises:
            DataError: neither it nor any of the next ones can.
        """
        index, sample = self._read(key.image)
        draws = (self.seed, key.epoch, index, *([key.turn] if key.turn else []))
        shown = self.augmentation(sample, key.size, draws)
        config = self.augmentation.config
        if not key.may_mix or not (config.mosaic or config.mixup):
            return shown

        def show(partner: int, turn: int) -> Sample:
            number, other = self._read(partner)
            return self.augmentation(other, shown.size, (*draws, number, turn))

        rng = np.random.default_rng([*draws, MIXING])
        return mixed(shown, show, len(self.images), config, rng)

    def _read(self, asked: int) -> tuple[int, Sample]:
        """The image asked for, or the next that can be read; and its index."""
        for substitute in range(SUBSTITUTES):
            index = (asked + substitute) % len(self.images)
            try:
                return index, self.images[index]
            except DataError as problem:  # it had a sound header when the data was scanned
                logger.warning("%s The next image is used in its place.", problem)
        raise DataError(
            f"{self.images.annotations.paths[asked]}: this image and the {SUBSTITUTES - 1} "
            "after it cannot be read; is the disk still there?"
        )


class BatchOrder(Sampler[list[SampleKey]]):
    """Every image once an epoch, in an order drawn from (seed, epoch), in full batches.

    Batches run on across the ends of epochs, so each has ``batch_size`` images and the order of
    step ``n`` is known without walking to it. With ``factors`` (see ``sampling.py``) an epoch is
    as long, but rare classes come more often in it. From step ``mix_end`` on no image is mixed.
    Of several ranks that train together, each loads its ``shard`` (rank, ranks) of every batch:
    equal parts, one after the other.
    """

    def __init__(
        self,
        images: int,
        batch_size: int,
        steps: range,
        seed: int,
        size_of: Callable[[int], CanvasSize],
        factors: NDArray[np.float64] | None = None,
        mix_end: int | None = None,
        shard: tuple[int, int] = (0, 1),
    ) -> None:
        self.images = images
        self.batch_size = batch_size
        self.steps = steps  # of this run: from where it resumes to where it ends
        self.seed = seed
        self.size_of = size_of
        self.factors = factors  # [I]; None: every image once
        self.mix_end = mix_end  # None: never
        rank, ranks = shard
        self.part = slice(rank * batch_size // ranks, (rank + 1) * batch_size // ranks)

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[list[SampleKey]]:
        epoch, order, turns = -1, np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
        for step in self.steps:
            keys = []
            for position in range(step * self.batch_size, (step + 1) * self.batch_size):
                if position // self.images != epoch:
                    epoch = position // self.images
                    order = self.epoch_order(epoch)
                    turns = earlier_showings(order)
                place = position % self.images
                may_mix = self.mix_end is None or step < self.mix_end
                image, turn = int(order[place]), int(turns[place])
                keys.append(SampleKey(epoch, image, self.size_of(step), may_mix, turn))
            yield keys[self.part]

    def epoch_order(self, epoch: int) -> NDArray[np.int64]:
        """``[images]`` what epoch ``epoch`` shows, in order."""
        rng = np.random.default_rng([self.seed, epoch])
        if self.factors is None:
            return rng.permutation(self.images)
        return sampled_order(self.factors, rng)


def train_batches(
    dataset: TrainSet, order: BatchOrder, workers: int, pin_memory: bool
) -> Iterator[TrainBatch]:
    """Load the batches of ``order``, ahead of time in ``workers`` processes (0: here).

    Raises:
        DataError: images that cannot be read, one after another.
        LoaderError: a process died.
    """
    loader: DataLoader[Sample | DataError] = DataLoader(
        dataset,
        batch_sampler=order,
        num_workers=workers,
        collate_fn=tuple,
        pin_memory=pin_memory,
        worker_init_fn=start_worker,
        multiprocessing_context="fork" if workers and dataset.images.cache is not None else None,
        generator=torch.Generator(),  # its own, so that the model's draws do not depend on loading
    )
    advice = f"Try data.workers={workers // 2} (now {workers})"
    advice += "." if dataset.images.cache is None else ", or data.cache=none."
    for step, samples in zip(order.steps, batches_of(loader, advice), strict=True):
        for sample in samples:
            if isinstance(sample, DataError):
                raise sample
        seen = step * order.batch_size + order.part.start
        yield TrainBatch(samples, order.size_of(step), seen)


def start_worker(worker: int) -> None:
    """Leave Ctrl-C to the main process, which saves first; one thread a worker."""
    import cv2

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.setpgrp()  # torchrun sends SIGTERM to the whole group of the main process
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
