"""Selective search beside OpenCV contrib's, image by image in one run, on real photos.

    python benchmarks/selective_search.py [--data FOLDER ...] [--peer-python PATH]

FOLDER is a data set that detkit recognises; its evaluation images and their objects are used.
Without it: bccd and coco_mini, where they are found. OpenCV's contrib wheel cannot be installed
beside detkit's own OpenCV, so it runs in an environment of its own, made once by

    python -m venv .peer
    .peer/bin/pip install opencv-contrib-python-headless numpy

Each image is given to OpenCV's fast mode and then to detkit, both on one thread. Times are
processor time, which programs that run beside disturb less than the clock. Overlaps are measured
for all boxes, for as many of detkit's first as OpenCV found in the same image, and for the first
``--at``: recall at IoU
0.5 over all objects and as the mean of the classes', and MABO, the mean over the classes of the
mean best overlap. OpenCV's quality mode is slow, so it is timed on the first few images only.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import numpy as np
import torch
from numpy.typing import NDArray
from rich.table import Table
from torch import Tensor

from detkit.data import Annotations, read_dataset
from detkit.data.auto import resolve
from detkit.errors import DetkitError
from detkit.evaluation.proposals import Proposals, cover
from detkit.evaluation.tables import console
from detkit.image import read_image
from detkit.proposals.selective_search import ProposalConfig, compile_ahead
from detkit.types import Boxes

ROOT = Path(__file__).parents[1]
DATA = [ROOT.parent / "shared" / "data" / name for name in ("bccd", "coco_mini")]
PEER = ROOT / ".peer" / "bin" / "python"
WORKER = Path(__file__).parent / "opencv_selective_search.py"
HOW_TO_PEER = "python -m venv .peer && .peer/bin/pip install opencv-contrib-python-headless numpy"
ALL = 10**9  # proposals: as many as there are
# By OpenCV's mode, what stands beside it; the first has OpenCV's own settings.
OURS = {
    "fast": {
        "detkit, OpenCV's settings": ProposalConfig(scales=(150, 300, 450), min_size=100, most=ALL),
        "detkit, OpenCV's settings, authors' order": ProposalConfig(
            scales=(150, 300, 450), min_size=100, most=ALL, ranking="authors"
        ),
        "detkit, fast as in the paper": ProposalConfig(most=ALL),
        "detkit, fast, distinct first": ProposalConfig(most=ALL, ranking="distinct"),
        "detkit, quality as in the paper": ProposalConfig(mode="quality", most=ALL),
        "detkit, quality, distinct first": ProposalConfig(
            mode="quality", most=ALL, ranking="distinct"
        ),
    },
    "quality": {
        "detkit, OpenCV's settings": ProposalConfig(
            mode="quality", scales=(150, 300, 450, 600), min_size=100, most=ALL
        ),
        "detkit, quality as in the paper": ProposalConfig(mode="quality", most=ALL),
    },
}


class Peer:
    """OpenCV in a Python of its own."""

    def __init__(self, python: Path, folder: Path) -> None:
        self.out = folder / "boxes.npy"
        try:
            self.process = subprocess.Popen(
                [python, WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        except FileNotFoundError:
            raise DetkitError(
                f"{python}: no such Python. Make one that has OpenCV's contrib modules: "
                f"{HOW_TO_PEER}"
            ) from None
        self.version = self._answer()["version"]

    def __enter__(self) -> Peer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()

    def find(self, image: Path, mode: str) -> tuple[Boxes, float]:
        """Boxes of an image file, and seconds."""
        assert self.process.stdin is not None
        job = {"image": str(image), "mode": mode, "out": str(self.out)}
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        seconds = float(self._answer()["seconds"])
        xywh = torch.from_numpy(np.load(self.out)).float()
        return torch.cat([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], dim=1), seconds

    def _answer(self) -> dict[str, str]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise DetkitError(f"OpenCV's process ended; is cv2.ximgproc there? {HOW_TO_PEER}")
        answer: dict[str, str] = json.loads(line)
        return answer


@dataclass
class Found:
    """What one method found in every image."""

    boxes: list[Boxes] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def first(self, counts: Sequence[int]) -> list[Boxes]:
        """The first ``counts[i]`` of image ``i``."""
        return [boxes[:count] for boxes, count in zip(self.boxes, counts, strict=True)]


def timed(config: ProposalConfig, image: Tensor) -> tuple[Boxes, float]:
    """Proposals of an image, and the processor time they took."""
    start = time.process_time()
    found = config.find(image)
    return found, time.process_time() - start


def read_eval(folder: Path, most: int | None) -> Annotations:
    """The evaluation images of a recognised folder; ``most`` of them, spread over all."""
    entries, _ = resolve({"train": [], "eval": [{"format": "auto", "root": folder}]}, "eval")
    annotations = read_dataset(entries["eval"][0])
    keep: NDArray[np.bool_] = np.ones(len(annotations), dtype=np.bool_)
    if most is not None and most < len(annotations):
        keep[:] = False
        keep[np.linspace(0, len(annotations) - 1, most).round().astype(int)] = True
    return annotations.keep_images(keep)


def measure(annotations: Annotations, peer: Peer, mode: str) -> dict[str, Found]:
    """Let both search every image, one after the other."""
    results = {name: Found() for name in (f"OpenCV contrib, {mode}", *OURS[mode])}
    opencv, *ours = results.values()
    for index, path in enumerate(annotations.paths):
        boxes, seconds = peer.find(Path(str(path)), mode)
        opencv.boxes.append(boxes)
        opencv.seconds.append(seconds)
        image = read_image(str(path))
        for found, config in zip(ours, OURS[mode].values(), strict=True):
            boxes, seconds = timed(config, image)
            found.boxes.append(boxes)
            found.seconds.append(seconds)
        print(f"\r{index + 1} of {len(annotations.paths)} images", end="", file=sys.stderr)
    print(file=sys.stderr)
    return results


def figures(boxes: Sequence[Boxes], annotations: Annotations) -> list[str]:
    """Cells: boxes an image, recall of all objects, mean recall of the classes, MABO."""
    proposals = Proposals.of(boxes)
    covered = cover(proposals, annotations, [max(proposals.greatest, 1)])
    recall = float(covered.recall_at(0.5)[0])
    hit = covered.overlaps[0] > 0.5
    by_class = np.mean([hit[covered.labels == k].mean() for k in np.unique(covered.labels)])
    mabo = float(covered.mean_average_best_overlap()[0])
    return [f"{proposals.mean:,.0f}", f"{recall:.4f}", f"{by_class:.4f}", f"{mabo:.4f}"]


def report(name: str, annotations: Annotations, results: dict[str, Found], at: int | None) -> None:
    """Print the table of one data set."""
    opencv = next(iter(results.values()))
    own = [len(boxes) for boxes in opencv.boxes]
    objects = len(cover(Proposals.of(opencv.boxes), annotations, [1]).labels)
    table = Table(title=f"{name}: {len(own)} images, {objects} objects; one thread")
    for heading in ("method", "boxes", "recall@0.5", "of classes", "MABO", "s/image", "OpenCV's"):
        table.add_column(heading, justify="left" if heading == "method" else "right")
    cuts: dict[str, list[int] | None] = {"": None, ", OpenCV's number": own}
    if at is not None:
        cuts[f", first {at}"] = [at] * len(own)
    for method, found in results.items():
        mean = float(np.mean(found.seconds))
        times = f"{np.mean(opencv.seconds) / mean:.1f} x"
        for cut, counts in cuts.items():
            if found is opencv and counts is own:
                continue
            boxes = found.boxes if counts is None else found.first(counts)
            cells = [method + cut, *figures(boxes, annotations)]
            table.add_row(*cells, *([f"{mean:.3f}", times] if counts is None else ["", ""]))
        table.add_section()
    console().print(table)


def main(argv: list[str] | None = None) -> int:
    """Time, measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, nargs="+", help="data sets; bccd and coco_mini")
    parser.add_argument("--images", type=int, help="so many of each data set; all")
    parser.add_argument("--at", type=int, default=900, help="boxes of a further comparison; 900")
    parser.add_argument(
        "--quality", type=int, default=24, help="images for OpenCV's quality mode; 24"
    )
    parser.add_argument("--peer-python", type=Path, default=PEER)
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    try:
        folders = args.data or [folder for folder in DATA if folder.is_dir()]
        if not folders:
            raise DetkitError("no images: name a data set with --data FOLDER.")
        compile_ahead()
        with (
            tempfile.TemporaryDirectory() as folder,
            Peer(args.peer_python, Path(folder)) as peer,
        ):
            print(f"OpenCV contrib {peer.version}")
            for data in folders:
                every = read_eval(data, args.images)
                report(data.name, every, measure(every, peer, "fast"), args.at)
                if args.quality:
                    some = read_eval(data, args.quality)
                    report(data.name, some, measure(some, peer, "quality"), None)
    except DetkitError as problem:
        print(f"benchmarks/selective_search.py: {problem}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
