"""How near a box must be to an earlier one to wait behind it: what ``ranking.NEAR`` is worth.

On images that no result is measured on: BCCD's ``trainval`` and the training photos of a small
COCO. Selective search runs in OpenCV's settings, its hierarchies take turns, and the first boxes of
each order are measured. A minute on one core:

    python benchmarks/proposal_order.py [--data BCCD COCO_MINI]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from rich.table import Table

from detkit.data import Annotations, read_dataset
from detkit.evaluation.proposals import Proposals, cover
from detkit.evaluation.tables import console
from detkit.image import read_image
from detkit.proposals.ranking import rank
from detkit.proposals.selective_search import ProposalConfig, hierarchies
from detkit.types import Boxes

SHARED = Path(__file__).parents[1].parent / "shared" / "data"
CONFIG = ProposalConfig(scales=(150, 300, 450), min_size=100)
NEARS = (0.7, 0.75, 0.8, 0.85, 0.9, 1.0)  # at 1.0 none waits
FIRST = (300, 900, 1425, 2081)  # boxes; the last two are what OpenCV finds, on the test images


def read_both(bccd: Path, coco: Path) -> dict[str, Annotations]:
    """The training images of both."""
    return {
        "BCCD": read_dataset({"format": "voc", "root": bccd, "split": "trainval"}),
        "COCO": read_dataset({"format": "coco", "root": coco, "split": "train2017"}),
    }


def figures(boxes: list[Boxes], annotations: Annotations, first: int) -> tuple[float, float]:
    """Recall at IoU 0.5 and MABO of the ``first`` so many boxes of each image."""
    covered = cover(Proposals.of([each[:first] for each in boxes]), annotations, [first])
    return float(covered.recall_at(0.5)[0]), float(covered.mean_average_best_overlap()[0])


def main(argv: list[str] | None = None) -> None:
    """Find the hierarchies of every image once, order them in each way, print a table a set."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data",
        type=Path,
        nargs=2,
        metavar=("BCCD", "COCO_MINI"),
        default=(SHARED / "bccd", SHARED / "coco_mini"),
    )
    args = parser.parse_args(argv)
    for name, data in read_both(*args.data).items():
        found = [
            [each.boxes for each in hierarchies(read_image(str(path)), CONFIG)]
            for path in data.paths
        ]
        table = Table(title=f"{name}: {len(data)} images; recall@0.5 and MABO of the first")
        for heading in ("near", *(f"{first:,}" for first in FIRST)):
            table.add_column(heading, justify="right")
        for near in NEARS:
            ordered = [rank(each, "turns", 0, 1, near) for each in found]
            boxes = [torch.from_numpy(each).float() for each in ordered]
            cells = [figures(boxes, data, first) for first in FIRST]
            table.add_row(f"{near:g}", *(f"{recall:.3f} {mabo:.3f}" for recall, mabo in cells))
        console().print(table)


if __name__ == "__main__":
    main()
