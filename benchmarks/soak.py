"""A soak: detect, read and write videos, and evaluate for an hour; memory and descriptors flat.

    python benchmarks/soak.py [--minutes 60] [--rounds 40] [--detections 20000] [--frames 2000]
        [--evaluations 200] [--images FOLDER]

Detections are of all kinds of detectors, on small networks with drawn weights, by
``detkit.detect``; those of every fifth image are made from four threads at once as well, and must
be the same. Frames go through ``detkit detect VIDEO``, which reads, draws and writes. Evaluations
are of twenty images, one with each kind in turn. The work is done in rounds, of each a share of all
three; where the counts are reached before the minutes are, more rounds follow.

After each round the process's resident memory, open descriptors, threads and child processes are
noted. Flat is: the slope of memory over the rounds after the first quarter, by the median of the
slopes between all pairs of rounds (Theil and Sen), times their number, is under 2 % of it; and
descriptors, threads and children are no more at the end than after the first quarter. Exit status 1
where it is not. Linux alone, since it asks /proc.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

import detkit
from detkit.checkpoints.checkpoint import Content, write_checkpoint
from detkit.cli import main as command
from detkit.data import DetectionDataset, read_dataset
from detkit.detections import Detections
from detkit.detectors import DETECTORS, Detector, build_detector
from detkit.evaluation import evaluate
from detkit.experiment.config import ExperimentConfig
from detkit.image import read_image

IMAGES = Path(__file__).parents[1].parent / "shared" / "data" / "coco_mini" / "val2017"
CLASSES = ("circle", "cross", "ring", "square", "star", "triangle")
PHOTOS = 60  # different ones
SIDE = 160  # of their longer side
CLIP = 100  # frames
EVALUATED = 20  # images
THREADS = 4
ALLOWED = 0.02  # growth, of memory
REGIONS = {"mode": "single", "most": 50}
CANVAS = {"min_size": 96, "max_size": 160}
FORMS: dict[str, dict[str, Any]] = {  # of those that do not take the plain one
    "yolo_v1": {"backbone_stride": 16, "input_size": 128, "grid": 4, "head_convs": [[64, 1]]},
    "yolo_v1_tiny": {"backbone_stride": 16, "input_size": 128, "grid": 4},
    "rcnn": {"head": "fc", "head_size": 2, "head_width": 64, "warp_size": 64, "proposals": REGIONS},
    "fast_rcnn": {**CANVAS, "roi_head": "mlp", "head_width": 64, "proposals": REGIONS},
    "faster_rcnn": {**CANVAS, "roi_head": "mlp", "head_width": 64, "rpn_channels": 32},
    "faster_rcnn_fpn": {
        **CANVAS,
        **{"strides": [8, 16, 32], "anchor_sizes": [[32], [64], [96], [128]]},
        **{"pyramid_channels": 32, "rpn_channels": 32, "head_width": 64},
    },
}


@dataclass(frozen=True, slots=True)
class Process:
    """What this process holds of the system."""

    memory: float  # MiB
    descriptors: int
    threads: int
    children: int

    @classmethod
    def now(cls) -> Process:
        """As /proc has it."""
        own = Path("/proc/self")
        fields = dict(
            line.split(":", 1) for line in (own / "status").read_text("ascii").splitlines()
        )
        tasks = (own / "task").iterdir()
        children = sum(len((task / "children").read_text("ascii").split()) for task in tasks)
        return cls(
            memory=int(fields["VmRSS"].split()[0]) / 1024,
            descriptors=len(list((own / "fd").iterdir())),
            threads=int(fields["Threads"]),
            children=children,
        )


def build(kind: str) -> Detector:
    """A small detector of a kind, with drawn weights, that finds something."""
    torch.manual_seed(0)
    model = {"name": kind, "num_classes": len(CLASSES), "backbone": "tiny", "input_size": 128}
    model |= FORMS.get(kind, {})
    if "rcnn" in kind:
        del model["input_size"]
    detector = build_detector(model).eval()
    detector.class_names = CLASSES
    return detector


def photos_from(folder: Path | None) -> list[torch.Tensor]:
    """Photos made small, or noise where there are none."""
    paths = sorted(folder.glob("*.jpg"))[:PHOTOS] if folder is not None and folder.is_dir() else []
    if not paths:
        generator = torch.Generator().manual_seed(0)
        sizes = [(120, 160), (160, 120), (160, 160)]
        return [
            torch.randint(256, (3, *size), generator=generator, dtype=torch.uint8)
            for size, _ in zip(itertools.cycle(sizes), range(PHOTOS), strict=False)
        ]
    photos = []
    for path in paths:
        image = read_image(path).permute(1, 2, 0).numpy()
        scale = SIDE / max(image.shape[:2])
        small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        photos.append(torch.from_numpy(np.ascontiguousarray(small)).permute(2, 0, 1))
    return photos


def same(one: Detections, other: Detections) -> bool:
    """Whether two calls found the same."""
    return all(
        torch.equal(getattr(one, name), getattr(other, name))
        for name in ("boxes", "scores", "labels")
    )


class Soak:
    """The three kinds of work, each in shares."""

    def __init__(self, folder: Path, images: Path | None) -> None:
        self.models = {kind: build(kind) for kind in DETECTORS}
        self.photos = photos_from(images)
        self.folder = folder
        self.found = self.frames = self.evaluations = self.unlike = 0
        self.turn = itertools.cycle(itertools.product(self.models, range(len(self.photos))))
        shapes = {"format": "shapes", "root": folder / "shapes", "split": "test"}
        annotations = read_dataset({**shapes, "difficulty": "easy"})
        keep = np.arange(len(annotations)) < EVALUATED
        self.dataset = DetectionDataset(annotations.keep_images(keep))
        self.evaluated = itertools.cycle(self.models.values())
        self.clip = folder / "clip.mp4"
        self._record()
        self.run = folder / "run"
        model = {
            "name": "yolo_v2",
            "num_classes": len(CLASSES),
            "backbone": "tiny",
            "input_size": 128,
        }
        experiment = ExperimentConfig.model_validate({"model": model, "train": {"iterations": 1}})
        weights = self.models["yolo_v2"].state_dict()
        write_checkpoint(self.run, Content(experiment, CLASSES, weights, 1, 1), replace=False)

    def _record(self) -> None:
        code = cv2.VideoWriter.fourcc(*"mp4v")
        writer = cv2.VideoWriter(str(self.clip), code, 25.0, (SIDE, SIDE))
        for _, photo in zip(range(CLIP), itertools.cycle(self.photos), strict=False):
            picture = cv2.resize(photo.permute(1, 2, 0).numpy()[:, :, ::-1], (SIDE, SIDE))
            writer.write(picture)
        writer.release()

    def detect(self, count: int) -> None:
        """Detect in so many images, one after another and some from threads."""
        with ThreadPoolExecutor(THREADS) as pool:
            for number in range(count):
                kind, photo = next(self.turn)
                model, image = self.models[kind], self.photos[photo]
                found = detkit.detect(image, model)
                self.found += 1
                if number % 5 == 0:
                    again = list(pool.map(lambda _: detkit.detect(image, model), range(THREADS)))  # noqa: B023
                    self.found += THREADS
                    self.unlike += sum(not same(found, other) for other in again)

    def watch(self, count: int) -> None:
        """Detect in so many frames of videos, by the command."""
        for _ in range(-(-count // CLIP)):
            words = [str(self.clip), "--weights", str(self.run), "--out", str(self.folder / "out")]
            with contextlib.redirect_stdout(io.StringIO()):
                code = command(["detect", *words, "--device", "cpu"])
            if code != 0:
                raise SystemExit(f"detkit detect ended with {code}")
            self.frames += CLIP

    def evaluate(self, count: int) -> None:
        """Evaluate so often."""
        for _ in range(count):
            evaluate(next(self.evaluated), self.dataset)
            self.evaluations += 1


def growth(values: list[float]) -> float:
    """Of a line through equally spaced values, from its first to its last, by Theil and Sen."""
    pairs = itertools.combinations(enumerate(values), 2)
    slopes = [(late - early) / (j - i) for (i, early), (j, late) in pairs]
    return statistics.median(slopes) * (len(values) - 1)


def main() -> int:
    """Do the work in rounds, print what each left, and say whether it was flat."""
    parser = argparse.ArgumentParser(description="memory and descriptors over an hour of work")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--detections", type=int, default=20_000)
    parser.add_argument("--frames", type=int, default=2_000)
    parser.add_argument("--evaluations", type=int, default=200)
    parser.add_argument("--images", type=Path, default=IMAGES)
    args = parser.parse_args()
    if args.rounds < 8:
        parser.error("--rounds must be 8 or more")
    shares = [-(-n // args.rounds) for n in (args.detections, args.frames, args.evaluations)]
    started, seen = time.monotonic(), list[Process]()
    with tempfile.TemporaryDirectory() as folder:
        soak = Soak(Path(folder), args.images)
        print(
            "round  detections  frames  evaluations  minutes  MiB  descriptors  threads  children"
        )
        while len(seen) < args.rounds or time.monotonic() - started < 60 * args.minutes:
            soak.detect(-(-5 * shares[0] // 9))  # every fifth counts five times
            soak.watch(shares[1])
            soak.evaluate(shares[2])
            seen.append(Process.now())
            now, minutes = seen[-1], (time.monotonic() - started) / 60
            print(
                f"{len(seen):5d}  {soak.found:10,d}  {soak.frames:6,d}  {soak.evaluations:11,d}  "
                f"{minutes:7.1f}  {now.memory:.0f}  {now.descriptors:11d}  {now.threads:7d}  "
                f"{now.children:8d}",
                flush=True,
            )
    rest = seen[len(seen) // 4 :]
    share = growth([process.memory for process in rest]) / rest[0].memory
    more = [
        name
        for name in ("descriptors", "threads", "children")
        if getattr(rest[-1], name) > getattr(rest[0], name)
    ]
    print(f"memory: {share:+.2%} over the last {len(rest)} rounds; more of: {more or 'nothing'}")
    print(f"from {THREADS} threads: {soak.unlike} detections unlike those from one")
    flat = share < ALLOWED and not more and not soak.unlike
    print("flat" if flat else "NOT flat")
    return 0 if flat else 1


if __name__ == "__main__":
    sys.exit(main())
