"""Where a detector's average precision goes: its errors split by kind.

The split follows TIDE (Bolya et al., "TIDE: A General Toolbox for Identifying Object Detection
Errors", ECCV 2020, sections 2.2 and 2.3), on VOC's matching at an IoU of 0.5 and its all-point
AP, so that its figures add to ``voc10_map``. Differences to the authors' code are in
:func:`split_errors`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detkit.data.base import Annotations
from detkit.evaluation.pairs import Pairs, overlapping_pairs
from detkit.evaluation.results import Results
from detkit.evaluation.truth import truth_of
from detkit.evaluation.voc_map import (
    DEVKIT,
    IGNORED,
    RIGHT,
    WRONG,
    Fates,
    VocRule,
    ap_all_point,
    by_score,
    curves_of,
    mean_of_known,
    passes,
    voc_fates,
)

BACKGROUND_IOU = 0.1  # the paper's t_b: below it a detection and a truth have nothing in common

ERROR_KINDS = ("class", "location", "both", "duplicate", "background", "missed")
CLASS, LOCATION, BOTH, DUPLICATE, BACKGROUND, MISSED = range(6)
NO_ERROR = -1


@dataclass(frozen=True, slots=True, eq=False)
class ErrorSplit:
    """Every error of N detections on M truths by kind, and the AP50 that each kind costs.

    Kinds are indices into ``ERROR_KINDS``.
    """

    class_names: tuple[str, ...]  # [K]
    kind: NDArray[np.int8]  # [N] of each detection; NO_ERROR: right, or counted for nothing
    truth: NDArray[np.int64]  # [N] row it took or is about; -1: background, or not counted
    iou: NDArray[np.float64]  # [N] with that truth; 0 where there is none
    missed: NDArray[np.bool_]  # [M] not found, nor covered by a class or location error
    counts: NDArray[np.int64]  # [6, K] by the detection's class; missed: the truth's
    ap: NDArray[np.float64]  # [K] AP50 as it is; NaN: no scored truth
    fixed_ap: NDArray[np.float64]  # [6, K] AP50 if the errors of one kind were put right
    rule: VocRule = DEVKIT

    @property
    def map(self) -> float:
        """Mean AP50 as it is, ``voc10_map``."""
        return mean_of_known(self.ap)

    @property
    def gains(self) -> NDArray[np.float64]:
        """``[6]`` dAP: mean AP50 gained if one kind of errors, and no other, were put right."""
        return np.array([mean_of_known(fixed - self.ap) for fixed in self.fixed_ap])


def split_errors(
    results: Results, annotations: Annotations, *, rule: VocRule = DEVKIT
) -> ErrorSplit:
    """Say of each wrong detection and each truth not found what went wrong.

    Right, wrong and ignored are as in VOC's AP by ``rule``, which says whether an IoU of exactly
    0.5 is *enough*. A wrong detection is, by its overlap with the scored truths of its image
    (neither difficult nor crowd), the first that holds of:

    ==========  ===================================================================================
    location    IoU >= 0.1, not enough, with the truth of its class that it overlaps most
    class       IoU enough with a truth of another class
    duplicate   IoU enough with a truth of its class, which a better-scored one took
    background  IoU <= 0.1 with every truth
    both        otherwise: IoU > 0.1, not enough, with a truth of another class
    ==========  ===================================================================================

    A truth is *missed* when nothing took it and no class or location error is about it.

    Each kind is put right alone. Class and location errors become right, with their own score; of
    several detections that then hold one truth the best-scored stays and the others vanish. Both,
    duplicate and background errors vanish. Missed truths are no longer counted, as if they had
    been found as precisely as the others; a class of which every truth was missed gains nothing.

    The fixes are the paper's, the order of the tests its code's (``tidecv``), so that counts agree.
    The code's dAP differs a little: its AP has 101 recall levels, its matching a second choice and
    100 detections an image; an IoU of exactly 0.5 is enough there, as by the devkit's rule. And
    its class and location errors gain less: there a corrected detection never displaces a right
    one of a lower score, and of class and location errors about one truth only the best-scored is
    put right, whichever kind is asked for.
    """
    fates = voc_fates(results, annotations, rule=rule)
    objects = truth_of(annotations)
    scored = objects.scored
    pairs = overlapping_pairs(results, objects, floor=BACKGROUND_IOU)
    pairs = pairs.select(scored[pairs.truth])
    own = results.labels[pairs.detection] == objects.labels[pairs.truth]
    own_iou, own_truth = _best_of(pairs.select(own), len(results))
    other_iou, other_truth = _best_of(pairs.select(~own), len(results))

    wrong = fates.fate == WRONG
    enough, other_enough = passes(own_iou, rule), passes(other_iou, rule)
    # The first condition that holds counts; a right detection's truth is its own class's best.
    rules = (
        (fates.fate == IGNORED, NO_ERROR, -1),
        (~wrong, NO_ERROR, own_truth),
        ((own_iou >= BACKGROUND_IOU) & ~enough, LOCATION, own_truth),
        (other_enough, CLASS, other_truth),
        (enough, DUPLICATE, own_truth),
        (other_iou <= BACKGROUND_IOU, BACKGROUND, -1),
    )
    conditions = [condition for condition, _, _ in rules]
    kind = np.select(conditions, [kind for _, kind, _ in rules], BOTH).astype(np.int8)
    truth = np.select(conditions, [truth for _, _, truth in rules], other_truth).astype(np.int64)
    iou = np.where(truth == own_truth, own_iou, other_iou) * (truth >= 0)

    missed = scored.copy()
    missed[truth[(fates.fate == RIGHT) | (kind == CLASS) | (kind == LOCATION)]] = False
    return _measure_split(results, annotations, rule, fates, kind, truth, iou, missed)


def _best_of(pairs: Pairs, count: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """``[N]`` greatest IoU of each of ``count`` detections and its truth; 0 and -1: no pair."""
    iou, truth = np.zeros(count), np.full(count, -1, np.int64)
    order = np.lexsort((pairs.truth, -pairs.iou, pairs.detection))
    detection, first = np.unique(pairs.detection[order], return_index=True)
    iou[detection] = pairs.iou[order[first]]
    truth[detection] = pairs.truth[order[first]]
    return iou, truth


def _measure_split(
    results: Results,
    annotations: Annotations,
    rule: VocRule,
    fates: Fates,
    kind: NDArray[np.int8],
    truth: NDArray[np.int64],
    iou: NDArray[np.float64],
    missed: NDArray[np.bool_],
) -> ErrorSplit:
    num_classes, objects = len(annotations.class_names), truth_of(annotations)
    truths = np.bincount(objects.labels[objects.scored], minlength=num_classes)
    missed_truths = np.bincount(objects.labels[missed], minlength=num_classes)
    right, counted = fates.fate == RIGHT, fates.fate != IGNORED
    scores, labels = results.scores, results.labels

    def class_aps(
        keep: NDArray[np.bool_],
        labels: NDArray[np.int64],
        right: NDArray[np.bool_],
        truths: NDArray[np.int64],
    ) -> NDArray[np.float64]:
        curves = curves_of(scores[keep], labels[keep], right[keep], truths)
        return np.array([ap_all_point(curve, rule) for curve in curves])

    ap = class_aps(counted, labels, right, truths)
    fixed = np.empty((len(ERROR_KINDS), num_classes))
    for one in (CLASS, LOCATION):
        holds = right | (kind == one)
        new_labels = labels.copy()
        new_labels[holds] = objects.labels[truth[holds]]
        winners = _best_holders(scores, truth, holds)
        fixed[one] = class_aps(counted & (winners | ~holds), new_labels, winners, truths)
    for one in (BOTH, DUPLICATE, BACKGROUND):
        fixed[one] = class_aps(counted & (kind != one), labels, right, truths)
    with_found = class_aps(counted, labels, right, truths - missed_truths)
    fixed[MISSED] = np.where(truths > missed_truths, with_found, ap)

    counts = np.array([np.bincount(labels[kind == one], minlength=num_classes) for one in range(6)])
    counts[MISSED] = missed_truths
    return ErrorSplit(
        class_names=annotations.class_names,
        kind=kind,
        truth=truth,
        iou=iou,
        missed=missed,
        counts=counts,
        ap=ap,
        fixed_ap=fixed,
        rule=rule,
    )


def _best_holders(
    scores: NDArray[np.float64], truth: NDArray[np.int64], holds: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """``[N]`` of the detections that hold a truth the best-scored on each."""
    order = by_score(scores)
    order = order[holds[order]]
    _, first = np.unique(truth[order], return_index=True)
    best = np.zeros(len(scores), np.bool_)
    best[order[first]] = True
    return best


@dataclass(frozen=True, slots=True)
class ErrorExample:
    """One error to look at."""

    kind: int  # index into ERROR_KINDS
    image: int  # index into the Annotations
    detection: int | None  # row of the Results; None: a missed truth
    truth: int | None  # row of the Truth; None: on background
    iou: float  # of the two; 0 where there are not two
    rival: int | None = None  # row of the detection that took the truth before a duplicate


def find_examples(
    split: ErrorSplit, results: Results, annotations: Annotations, kind: int, count: int
) -> list[ErrorExample]:
    """The most confident errors of one kind; of missed truths, which have no score, the largest.

    The first of each image come before the second of any, so that they are not all of one image.
    """
    if kind == MISSED:
        rows = np.flatnonzero(split.missed)
        objects = truth_of(annotations)
        images = objects.image_of_row()[rows]
        order = by_score(objects.area[rows])
    else:
        rows = np.flatnonzero(split.kind == kind)
        images = results.images[rows]
        order = by_score(results.scores[rows])
    rows, images = rows[order], images[order]
    chosen = np.argsort(_turn_within(images), kind="stable")[:count]
    pairs = zip(rows[chosen].tolist(), images[chosen].tolist(), strict=True)
    if kind == MISSED:
        return [ErrorExample(kind, image, None, row, 0.0) for row, image in pairs]
    return [_example(split, kind, image, row) for row, image in pairs]


def _example(split: ErrorSplit, kind: int, image: int, row: int) -> ErrorExample:
    truth = int(split.truth[row])
    if truth < 0:
        return ErrorExample(kind, image, row, None, 0.0)
    rival = None
    if kind == DUPLICATE:
        rival = int(np.flatnonzero((split.truth == truth) & (split.kind == NO_ERROR))[0])
    return ErrorExample(kind, image, row, truth, float(split.iou[row]), rival)


def _turn_within(groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """``[n]`` how many of the same group came before: [7, 7, 3, 7] gives [0, 1, 0, 2]."""
    order = np.argsort(groups, kind="stable")
    _, begin, inverse = np.unique(groups[order], return_index=True, return_inverse=True)
    turn = np.empty(len(groups), np.int64)
    turn[order] = np.arange(len(groups)) - begin[inverse]
    return turn
