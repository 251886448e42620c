"""Training images a second: our loader beside torchvision's transforms, on the same real images.

    python benchmarks/loader.py FOLDER [--images 400] [--workers 1] [--side 416]

Both read JPEG files, place the image at a random scale on a canvas of SIDE x SIDE, shift hue,
saturation and brightness, flip, and give batches of 16 with boxes. The peer is what a user would
write today: torchvision.io for decoding, torchvision.transforms.v2 for the rest, a DataLoader.
FOLDER is any folder of a format that detkit recognises. Each side is run three times in turn; the
median is printed. Afterwards: what each part of ours costs, in this process, one image at a time.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors
from torchvision.io import ImageReadMode, decode_image, read_file
from torchvision.transforms import v2

from detkit.data import Annotations, DetectionDataset, for_training, read_dataset
from detkit.data.augment import Augmentation, AugmentConfig
from detkit.data.cache import ImageCache
from detkit.data.darknet_augment import distort_hsv, place_image
from detkit.data.loader import BatchOrder, TrainSet, train_batches
from detkit.image import read_image

BATCH, TURNS = 16, 3


class Peer(Dataset[Any]):
    """The same work with torchvision's own parts."""

    def __init__(self, data: Annotations, side: int) -> None:
        self.data = data
        self.transform = v2.Compose(
            [
                v2.ScaleJitter((side, side), scale_range=(0.7, 1.3), antialias=True),
                v2.RandomCrop((side, side), pad_if_needed=True, fill=128),
                v2.ColorJitter(brightness=0.5, saturation=0.5, hue=0.1),
                v2.RandomHorizontalFlip(0.5),
                v2.SanitizeBoundingBoxes(),
            ]
        )

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> Any:
        image = decode_image(read_file(str(self.data.paths[index])), ImageReadMode.RGB)
        target = self.data.target(index)
        boxes = tv_tensors.BoundingBoxes(
            target.boxes, format="XYXY", canvas_size=tuple(image.shape[1:])
        )
        return self.transform(tv_tensors.Image(image), {"boxes": boxes, "labels": target.labels})


def peer_batches(data: Annotations, side: int, count: int, workers: int) -> Iterator[Any]:
    order = list(islice(cycle(range(len(data))), count))
    yield from DataLoader(
        Peer(data, side), BATCH, sampler=order, num_workers=workers, collate_fn=tuple
    )


def our_batches(
    data: Annotations, side: int, count: int, workers: int, cache: ImageCache | None = None
) -> Iterator[Any]:
    dataset = TrainSet(data, Augmentation(AugmentConfig()), 0, cache)
    order = BatchOrder(len(data), BATCH, range(count // BATCH), 0, lambda step: (side, side))
    yield from train_batches(dataset, order, workers, pin_memory=False)


def images_a_second(batches: Iterator[Any]) -> float:
    """Speed after the first batch, which waits for the processes to start."""
    next(batches)
    started = time.perf_counter()
    seen = sum(len(batch) for batch in batches)
    return seen / (time.perf_counter() - started)


def parts(data: Annotations, side: int, count: int) -> dict[str, float]:
    """Milliseconds an image of each part, one after the other in this process."""
    images = DetectionDataset(data)
    augmentation = Augmentation(AugmentConfig())
    augmentation(images[0], (side, side), (0, 0, 0))  # what is imported on first use
    spent = dict.fromkeys(("decode", "place", "hsv", "all of augmentation"), 0.0)
    for index in islice(cycle(range(len(data))), count):
        marks = [time.perf_counter()]
        pixels = read_image(str(data.paths[index])).permute(1, 2, 0).numpy()
        marks.append(time.perf_counter())
        placed = place_image(pixels, (side, side), (side, side, 0, 0))
        marks.append(time.perf_counter())
        distort_hsv(placed, 0.05, 1.2, 1.2)
        marks.append(time.perf_counter())
        sample = images[index]
        marks.append(time.perf_counter())
        augmentation(sample, (side, side), (0, 0, index))
        marks.append(time.perf_counter())
        steps = np.diff(marks)
        for name, seconds in zip(spent, (steps[0], steps[1], steps[2], steps[4]), strict=True):
            spent[name] += 1000 * float(seconds) / count
    return spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--format", default="auto")
    parser.add_argument("--split", default="trainval")
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--side", type=int, default=416)
    args = parser.parse_args()
    entry = {"format": args.format, "root": args.folder, "split": args.split}
    data = for_training(read_dataset(entry))
    cache = ImageCache(data.sizes)
    list(our_batches(data, args.side, len(data) // BATCH * BATCH + BATCH, 0, cache))  # fill it
    makers = {
        "detkit": lambda: our_batches(data, args.side, args.images, args.workers),
        "detkit, data.cache=ram": lambda: our_batches(
            data, args.side, args.images, args.workers, cache
        ),
        "torchvision": lambda: peer_batches(data, args.side, args.images, args.workers),
    }
    speeds: dict[str, list[float]] = {name: [] for name in makers}
    for _ in range(TURNS):
        for name, make in makers.items():
            speeds[name].append(images_a_second(make()))
    peer = statistics.median(speeds["torchvision"])
    threads = torch.get_num_threads()
    print(f"{len(data)} images, canvas {args.side}, {args.workers} workers, {threads} threads")
    for name, values in speeds.items():
        median = statistics.median(values)
        print(f"{name:24} {median:7.1f} images/s  {median / peer:5.2f} of torchvision's")
    print("ours, ms an image:", end=" ")
    costs = parts(data, args.side, min(args.images, 100))
    print(", ".join(f"{name} {cost:.2f}" for name, cost in costs.items()))


if __name__ == "__main__":
    main()
