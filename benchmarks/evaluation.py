"""Time the evaluators beside pycocotools: real VOC 2007 test labels, noisy detections.

    python benchmarks/evaluation.py [LABELS.json] [--detections 100000] [--seed 0]

LABELS.json is ground truth in COCO's form; the detections are its boxes with their corners moved,
a tenth of them under a wrong class, with random scores. Everything runs in this one process, one
after the other; each figure is the best of ``--repeats`` runs, pycocotools' is one run. The last
line is a bootstrap: mAP by VOC's and COCO's rules over ``--resamples`` draws of the images.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from detkit.data.base import Annotations
from detkit.evaluation.bootstrap import bootstrap_map
from detkit.evaluation.coco_map import coco_map
from detkit.evaluation.results import Results
from detkit.evaluation.run import EvalResult
from detkit.evaluation.tables import console
from detkit.evaluation.voc_map import voc_map

LABELS = Path(__file__).parents[1].parent / "shared" / "data" / "voc_labels" / "test2007.json"
CORNER_NOISE = 0.12  # deviation of a corner's shift, as a share of the box's side
WRONG_CLASS = 0.1  # share of detections under a wrong class


def read_labels(path: Path) -> Annotations:
    """Ground truth of a COCO file, images in the order of their ids."""
    content = json.loads(path.read_text(encoding="utf-8"))
    images = sorted(content["images"], key=lambda image: image["id"])
    index_of = {image["id"]: index for index, image in enumerate(images)}
    categories = sorted(content["categories"], key=lambda category: category["id"])
    label_of = {category["id"]: label for label, category in enumerate(categories)}
    entries = sorted(content["annotations"], key=lambda entry: index_of[entry["image_id"]])
    xywh = np.array([entry["bbox"] for entry in entries], dtype=np.float64)
    image_of = np.array([index_of[entry["image_id"]] for entry in entries])
    counts = np.bincount(image_of, minlength=len(images))
    stems = np.array([Path(image["file_name"]).stem for image in images], dtype=np.str_)
    return Annotations(
        class_names=tuple(category["name"] for category in categories),
        image_ids=stems,
        paths=stems,
        sizes=np.array([[image["height"], image["width"]] for image in images], dtype=np.int32),
        offsets=np.concatenate([[0], np.cumsum(counts)]),
        boxes=np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1).astype(np.float32),
        labels=np.array([label_of[entry["category_id"]] for entry in entries]),
        difficult=np.zeros(len(entries), dtype=np.bool_),
        crowd=np.array([bool(entry["iscrowd"]) for entry in entries]),
        area=np.array([entry["area"] for entry in entries], dtype=np.float32),
    )


def add_noise(annotations: Annotations, count: int, seed: int) -> Results:
    """``count`` detections around random truths, in the order of their images."""
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.integers(0, len(annotations.boxes), count))
    truth = annotations.boxes[rows]
    sides = np.tile(truth[:, 2:] - truth[:, :2], 2)
    moved = truth + rng.normal(0, CORNER_NOISE, (count, 4)) * sides
    low, high = np.minimum(moved[:, :2], moved[:, 2:]), np.maximum(moved[:, :2], moved[:, 2:])
    labels = annotations.labels[rows].copy()
    wrong = rng.random(count) < WRONG_CLASS
    labels[wrong] = rng.integers(0, len(annotations.class_names), int(wrong.sum()))
    boxes = np.concatenate([low, high], axis=1).astype(np.float32)
    return Results(annotations.image_of_row()[rows], boxes, rng.random(count), labels)


def best_time(call: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    """Seconds of the fastest of ``repeats`` calls, and what the last one returned."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        value = call()
        seconds.append(time.perf_counter() - start)
    return min(seconds), value


def plain_pycocotools(path: Path, annotations: Annotations, results: Results) -> float:
    """AP at IoU 0.5 by pycocotools alone: its own reader, its own index, one IoU threshold.

    One threshold and one range of areas is the least it can be asked for, as VOC needs no more.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(path))
        image_ids = np.array(sorted(truth.getImgIds()))[results.images]
        category_ids = np.array(sorted(truth.getCatIds()))[results.labels]
        corners = results.boxes.astype(np.float64)
        bboxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
        columns = [image_ids[:, None], bboxes, results.scores[:, None], category_ids[:, None]]
        referee = COCOeval(truth, truth.loadRes(np.concatenate(columns, axis=1)), "bbox")
        referee.params.iouThrs = np.array([0.5])
        referee.params.areaRng, referee.params.areaRngLbl = [[0, 1e10]], ["all"]
        referee.evaluate()
        referee.accumulate()
    precision = referee.eval["precision"]
    return float(precision[precision > -1].mean())


def main(argv: list[str] | None = None) -> int:
    """Time and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("labels", nargs="?", type=Path, default=LABELS)
    parser.add_argument("--detections", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--resamples", type=int, default=1000)
    args = parser.parse_args(argv)
    if not args.labels.is_file():
        print(f"{args.labels}: no such file of labels in COCO's form.", file=sys.stderr)
        return 2
    annotations = read_labels(args.labels)
    results = add_noise(annotations, args.detections, args.seed)
    ours, voc = best_time(lambda: voc_map(results, annotations), args.repeats)
    one, ap50 = best_time(lambda: plain_pycocotools(args.labels, annotations, results), 1)
    full, coco = best_time(lambda: coco_map(results, annotations), 1)
    result = EvalResult(voc, coco, results, len(annotations), len(annotations.boxes))
    draws, drawn = best_time(lambda: bootstrap_map(result, annotations, args.resamples), 1)
    interval = drawn.interval("voc10_map")
    table = Table(
        title=f"{len(annotations)} images, {len(annotations.boxes)} objects, "
        f"{len(annotations.class_names)} classes, {len(results)} detections"
    )
    for heading in ("evaluator", "figure", "seconds", "times ours"):
        table.add_column(heading, justify="left" if heading == "evaluator" else "right")
    table.add_row("detkit, VOC07 and VOC10+", f"mAP {voc.map10:.4f}", f"{ours:.3f}", "1.0")
    table.add_row(
        "pycocotools, IoU 0.5 only", f"AP50 {ap50:.4f}", f"{one:.1f}", f"{one / ours:.0f}"
    )
    table.add_row(
        "detkit's COCO route (pycocotools)",
        f"AP {coco.figures.ap:.4f}",
        f"{full:.1f}",
        f"{full / ours:.0f}",
    )
    table.add_row(
        f"detkit, bootstrap: {args.resamples:,} draws, VOC and COCO",
        f"mAP {interval.low:.4f} to {interval.high:.4f}",
        f"{draws:.1f}",
        f"{draws / ours:.0f}",
    )
    console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
