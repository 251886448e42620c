"""How often the bootstrap's intervals hold what they should: mAP of all images, from a few.

    python benchmarks/bootstrap_coverage.py [LABELS.json] [--images 300] [--trials 200]

Ground truth is real (VOC 2007 test, in COCO's form), detections are simulated: boxes with their
corners moved, a tenth under a wrong class; right ones score higher on average. Each trial draws
some of the images, as if they were all there is, and asks whether the interval from them holds
the mAP of the whole set. Nominal is 95 %.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from evaluation import LABELS, add_noise, read_labels  # the benchmark beside this one
from numpy.typing import NDArray
from rich.table import Table

from detkit.data.base import Annotations
from detkit.evaluation.bootstrap import bootstrap_map
from detkit.evaluation.results import Results
from detkit.evaluation.run import evaluate_results
from detkit.evaluation.tables import console
from detkit.evaluation.voc_map import RIGHT, voc_fates, voc_map

DETECTIONS = 40_000  # in the whole set
RIGHT_SCORE, WRONG_SCORE, SCORE_NOISE = 0.62, 0.38, 0.15  # means of the scores, their deviation
FIGURES = {"voc07_map": "mAP VOC07", "voc10_map": "mAP VOC10+"}


def simulate(annotations: Annotations, rng: np.random.Generator) -> Results:
    """Detections whose scores say something about them."""
    found = add_noise(annotations, DETECTIONS, seed=0)
    is_right = voc_fates(found, annotations).fate == RIGHT
    means = np.where(is_right, RIGHT_SCORE, WRONG_SCORE)
    return replace(found, scores=np.clip(rng.normal(means, SCORE_NOISE), 0, 1))


def take(
    annotations: Annotations, results: Results, keep: NDArray[np.bool_]
) -> tuple[Annotations, Results]:
    """The images of a mask, and what was found in them."""
    mine = results.select(keep[results.images])
    return annotations.keep_images(keep), replace(mine, images=(np.cumsum(keep) - 1)[mine.images])


def main(argv: list[str] | None = None) -> int:
    """Count and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("labels", nargs="?", type=Path, default=LABELS)
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--resamples", type=int, default=1000)
    args = parser.parse_args(argv)
    if not args.labels.is_file():
        print(f"{args.labels}: no such file of labels in COCO's form.", file=sys.stderr)
        return 2
    rng = np.random.default_rng(0)
    annotations = read_labels(args.labels)
    results = simulate(annotations, rng)
    whole = voc_map(results, annotations)
    truth = {"voc07_map": whole.map07, "voc10_map": whole.map10}
    held = dict.fromkeys(FIGURES, 0)
    plain = dict.fromkeys(FIGURES, 0)
    excess = dict.fromkeys(FIGURES, 0.0)
    for trial in range(args.trials):
        keep = np.zeros(len(annotations), dtype=np.bool_)
        keep[rng.choice(len(annotations), args.images, replace=False)] = True
        few, found = take(annotations, results, keep)
        drawn = bootstrap_map(evaluate_results(found, few, coco=False), few, args.resamples, trial)
        for name, value in truth.items():
            interval = drawn.interval(name)
            low, high = np.percentile(drawn.samples[name], [2.5, 97.5])
            held[name] += interval.low <= value <= interval.high
            plain[name] += low <= value <= high
            excess[name] += drawn.values[name] - value
    table = Table(title=f"{args.images} of {len(annotations)} images, {args.trials} trials")
    for heading in ("figure", "of all images", "few images: too high by", "held", "plain held"):
        table.add_column(heading, justify="left" if heading == "figure" else "right")
    for name, title in FIGURES.items():
        shares = [f"{counts[name] / args.trials:.0%}" for counts in (held, plain)]
        table.add_row(title, f"{truth[name]:.3f}", f"{excess[name] / args.trials:.3f}", *shares)
    console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
