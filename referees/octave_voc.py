"""Make cases, have VOC's figures computed by GNU Octave and by a loop, and compare with detkit's.

Called by ``octave_voc.sh``; the rules of the devkit are in ``voc_devkit.m``, those of
``voc_eval.py`` here, each written from its description.
"""

from __future__ import annotations

import random
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from detkit.data.base import Annotations
from detkit.evaluation.results import Results
from detkit.evaluation.voc_map import VocResult, voc_map

Box = tuple[float, float, float, float]  # one-based, the last pixel included

RANDOM_CASES = 1000
WHOLE: Box = (1, 1, 10, 10)
HALF: Box = (1, 1, 10, 5)  # an IoU of 0.5 with WHOLE
MOST: Box = (1, 1, 10, 6)
LESS: Box = (1, 1, 10, 4.875)
FAR: Box = (51, 51, 60, 60)


@dataclass
class Case:
    """The objects of one class and what was found of it."""

    name: str
    objects: list[tuple[int, Box, bool]] = field(default_factory=list)  # image, box, difficult
    found: list[tuple[int, Box, float]] = field(default_factory=list)  # image, box, score


# ------------------------------------------------------------------------------------ the cases


def constructed() -> Iterator[Case]:
    """What the two programs and others have been seen to differ in."""
    for name, box in (("0.5", HALF), ("0.6", MOST), ("less than 0.5", LESS), ("0", FAR)):
        for difficult in (False, True):
            yield Case(f"IoU {name}", [(0, WHOLE, difficult), (0, FAR, False)], [(0, box, 0.5)])
    for truths in (10, 20, 30, 100):
        for tenths in range(1, 11):
            objects = [(image, WHOLE, False) for image in range(truths)]
            found = [(i, WHOLE, 1 - i / 256) for i in range(truths * tenths // 10)]
            yield Case(f"recall {tenths}/10 of {truths}", objects, found)
            wrong = [(i, FAR, 1 - i / 256) for i in range(0, truths, 3)]
            yield Case(f"recall {tenths}/10 of {truths}, some wrong", objects, wrong + found)
    for truths in range(1, 60):
        objects = [(image, WHOLE, False) for image in range(truths)]
        yield Case(f"all {truths}", objects, [(i, WHOLE, 1 - i / 256) for i in range(truths)])
        halves = [(i, HALF if i % 3 == 1 else WHOLE, 1 - i / 256) for i in range(truths)]
        yield Case(f"a third of {truths} by 0.5", objects, halves)
    two = [(0, WHOLE, False), (1, WHOLE, False)]
    yield Case("a tie, wrong first", two, [(0, FAR, 0.5), (0, WHOLE, 0.5), (1, WHOLE, 0.5)])
    yield Case("a tie, right first", two, [(0, WHOLE, 0.5), (0, FAR, 0.5), (1, WHOLE, 0.5)])
    yield Case("found twice", two, [(0, WHOLE, 0.9), (0, MOST, 0.8), (0, HALF, 0.7)])
    yield Case("the better one second", two, [(0, MOST, 0.2), (0, WHOLE, 0.9)])
    same = [(0, WHOLE, False), (0, WHOLE, False)]
    yield Case("two equal objects", same, [(0, WHOLE, 0.9), (0, WHOLE, 0.8)])
    mixed = [(0, WHOLE, False), (0, WHOLE, True)]
    yield Case("an equal one is difficult", mixed, [(0, WHOLE, 0.9)])
    yield Case("the first of equals is difficult", mixed[::-1], [(0, WHOLE, 0.9)])
    hard = [(0, WHOLE, True), (1, WHOLE, False)]
    yield Case("a difficult one first", hard, [(0, WHOLE, 0.9), (0, WHOLE, 0.8), (1, WHOLE, 0.7)])
    yield Case("difficult ones alone found", hard, [(0, WHOLE, 0.9), (0, MOST, 0.8)])
    yield Case("nothing found", two)
    yield Case("no object, nothing found")
    yield Case("no object", [], [(0, WHOLE, 0.9)])
    yield Case("difficult objects alone", [(0, WHOLE, True)], [(0, WHOLE, 0.9), (0, FAR, 0.8)])


def drawn(draw: random.Random, number: int) -> Case:
    """Few small boxes on a grid of quarter pixels, so that IoUs of 0.5, ties, repeats abound."""
    most = draw.choices((3, 12, 40, 300), (30, 40, 27, 3))[0]
    images = draw.choice((1, 4, 30))
    step = draw.choice((0.25, 1, 2))

    def box() -> Box:
        x, y = (1 + step * draw.randrange(8) for _ in range(2))
        return x, y, x + step * draw.randrange(1, 9) - 1, y + step * draw.randrange(1, 9) - 1

    objects = [
        (draw.randrange(images), box(), draw.random() < 0.15) for _ in range(draw.randrange(most))
    ]
    found = []
    for _ in range(draw.randrange(2 * most)):
        if objects and draw.random() < 0.6:
            image, place, _ = draw.choice(objects)
        else:
            image, place = draw.randrange(images), box()
        if draw.random() < 0.3:  # half of it
            place = (place[0], place[1], place[2], (place[1] + place[3] - 1) / 2)
        found.append((image, place, draw.randrange(1, 64) / 64))
    return Case(f"random {number}", objects, found)


# -------------------------------------------------------------------------- Octave, and detkit


def write_cases(path: Path, cases: Sequence[Case]) -> None:
    """Write the lines that ``voc_devkit.m`` reads."""
    lines = []
    for number, case in enumerate(cases, start=1):
        lines.append(f"0 {number} 0 0 0 0 0 0")
        for kind, rows in ((1, case.objects), (2, case.found)):
            lines += [
                f"{kind} {number} {image} {' '.join(f'{side:.17g}' for side in box)} {last:.17g}"
                for image, box, last in rows
            ]
    path.write_text("\n".join(lines) + "\n")


def read_answers(path: Path) -> list[tuple[float, float, list[float], list[float]]]:
    """11 points, area, recall and precision of each case."""
    answers = []
    for line in path.read_text().splitlines():
        _, points, area, count, *curve = map(float, line.split())
        answers.append((points, area, curve[: int(count)], curve[int(count) :]))
    return answers


def as_detkit(case: Case) -> tuple[Results, Annotations]:
    """The same in zero-based pixels with exclusive edges."""
    objects = sorted(case.objects, key=lambda row: row[0])
    images = 1 + max([image for image, *_ in (*case.objects, *case.found)], default=0)
    counts = np.bincount([image for image, *_ in objects], minlength=images) if objects else 0
    shift = np.array([1, 1, 0, 0])
    boxes = np.array([box for _, box, _ in objects], dtype=np.float64).reshape(-1, 4) - shift
    found = np.array([box for _, box, _ in case.found], dtype=np.float64).reshape(-1, 4) - shift
    annotations = Annotations(
        class_names=("thing",),
        image_ids=np.array([f"{image}" for image in range(images)], dtype=np.str_),
        paths=np.array([f"{image}.jpg" for image in range(images)], dtype=np.str_),
        sizes=np.full((images, 2), 100, dtype=np.int32),
        offsets=np.concatenate([[0], np.cumsum(np.zeros(images, np.int64) + counts)]),
        boxes=boxes.astype(np.float32),  # quarters of a pixel: exact
        labels=np.zeros(len(boxes), dtype=np.int64),
        difficult=np.array([difficult for *_, difficult in objects], dtype=np.bool_),
        crowd=np.zeros(len(boxes), dtype=np.bool_),
        area=(boxes[:, 2:] - boxes[:, :2]).prod(axis=1).astype(np.float32),
    )
    results = Results(
        images=np.array([image for image, *_ in case.found], dtype=np.int64),
        boxes=found.astype(np.float32),
        scores=np.array([score for *_, score in case.found], dtype=np.float64),
        labels=np.zeros(len(found), dtype=np.int64),
    )
    return results, annotations


# --------------------------------------------------------- voc_eval.py's rule, in plain Python


def voc_eval_curve(case: Case) -> tuple[list[float], list[float]]:
    """Recall and precision after each detection: an IoU of more than 0.5."""
    found = sorted(case.found, key=lambda row: -row[2])
    taken: set[int] = set()
    positives = sum(not difficult for *_, difficult in case.objects)
    right = wrong = 0
    recall, precision = [], []
    for image, box, _ in found:
        overlaps = [
            (iou(box, theirs), row)
            for row, (where, theirs, _) in enumerate(case.objects)
            if where == image
        ]
        best, chosen = max(overlaps, key=lambda pair: (pair[0], -pair[1]), default=(-1.0, -1))
        if best > 0.5:
            if not case.objects[chosen][2]:
                right, wrong = (right, wrong + 1) if chosen in taken else (right + 1, wrong)
                taken.add(chosen)
        else:
            wrong += 1
        recall.append(right / positives if positives else float("nan"))
        precision.append(right / (right + wrong) if right + wrong else 0.0)
    return recall, precision


def iou(a: Box, b: Box) -> float:
    """Of one-based boxes whose last pixel is inside."""
    wide, high = (min(a[i + 2], b[i + 2]) - max(a[i], b[i]) + 1 for i in (0, 1))
    both = max(wide, 0.0) * max(high, 0.0)
    own, theirs = ((box[2] - box[0] + 1) * (box[3] - box[1] + 1) for box in (a, b))
    return both / (own + theirs - both)


def voc_eval_figures(recall: list[float], precision: list[float]) -> tuple[float, float]:
    """11 points over ``arange(0, 1.1, 0.1)``, and the area, added up by numpy."""
    points = 0.0
    for level in np.arange(0.0, 1.1, 0.1).tolist():
        best = [p for r, p in zip(recall, precision, strict=True) if r >= level]
        points = points + max(best, default=0.0) / 11.0
    r, p = [0.0, *recall, 1.0], [0.0, *precision, 0.0]
    for i in range(len(p) - 1, 0, -1):
        p[i - 1] = max(p[i - 1], p[i])
    steps = [i for i in range(1, len(r)) if r[i] != r[i - 1]]
    return points, float(np.sum(np.array([(r[i] - r[i - 1]) * p[i] for i in steps])))


# ---------------------------------------------------------------------------------- comparing


def differences(
    ours: VocResult, points: float, area: float, recall: list[float], precision: list[float]
) -> tuple[list[str], list[str]]:
    """What differs, and which of the known exceptions were met."""
    curve, known = ours.curves[0], []
    ap07, ap10 = float(ours.ap07[0]), float(ours.ap10[0])
    if not curve.truths:
        left_out = np.isnan(ap07) and np.isnan(ap10)
        return ([] if left_out else ["a class without objects has a figure"]), ["no objects"]
    if np.isnan(points) and len(curve.scores) == 0:  # each detection on a difficult object
        known.append("difficult alone found")
        points = 0.0
    if points > 1 or area > 1:
        known.append("above 1 by the last digit")
        points, area = min(points, 1.0), min(area, 1.0)
    pairs = zip([0.0, *recall], [0.0, *precision], strict=True)
    theirs = [pair for pair in pairs if not np.isnan(pair[1])][1:]
    # detections on difficult objects are no point of our curve, and a repeated one of theirs
    steps = list(zip(curve.recall.tolist(), curve.precision.tolist(), strict=True))
    said = []
    if not set(steps) <= set(theirs) or not set(theirs) - {(0.0, 0.0)} <= set(steps):
        said.append("the curve")
    if ap07 != points:
        said.append(f"11 points: {ap07!r}, not {points!r}")
    if ap10 != area:
        said.append(f"area: {ap10!r}, not {area!r}")
    return said, known


def main(folder: Path, step: str) -> int:
    """``make`` writes the cases; ``compare`` reads the answers. Exit code 1: something differs."""
    draw = random.Random(0)
    cases = [*constructed(), *(drawn(draw, number) for number in range(RANDOM_CASES))]
    if step == "make":
        write_cases(folder / "cases.txt", cases)
        return 0
    wrong, met, between = 0, Counter[str](), 0
    for case, (points, area, recall, precision) in zip(
        cases, read_answers(folder / "answers.txt"), strict=True
    ):
        results, annotations = as_detkit(case)
        reorder = sorted(range(len(case.objects)), key=lambda row: case.objects[row][0])
        case.objects = [case.objects[row] for row in reorder]
        devkit = voc_map(results, annotations)
        other = voc_map(results, annotations, rule="voc_eval")
        slow = voc_eval_curve(case)
        for rule, ours, theirs in (
            ("devkit", devkit, (points, area, recall, precision)),
            ("voc_eval", other, (*voc_eval_figures(*slow), *slow)),
        ):
            said, known = differences(ours, *theirs)
            met.update(f"{rule}: {one}" for one in known)
            if said:
                wrong += 1
                print(f"DIFFERS, {rule}, {case.name}: {'; '.join(said)}")
        between += not np.array_equal(
            (devkit.map07, devkit.map10), (other.map07, other.map10), equal_nan=True
        )
    objects, found = (sum(len(getattr(c, name)) for c in cases) for name in ("objects", "found"))
    print(f"{len(cases)} cases, {objects:,} objects, {found:,} detections")
    print(f"the two rules differ in {between} of them")
    for name, count in sorted(met.items()):
        print(f"known exception, {name}: {count} cases")
    print(f"{wrong} differences" if wrong else "equal to the last digit, by both rules")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
