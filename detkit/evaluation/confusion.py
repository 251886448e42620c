"""What objects of each class are taken for, background among the classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detkit.data.base import Annotations
from detkit.evaluation.pairs import Pairs, overlapping_pairs
from detkit.evaluation.results import Results
from detkit.evaluation.truth import truth_of
from detkit.evaluation.voc_map import DEVKIT, IOU_THRESHOLD, VocRule, by_score, passes


@dataclass(frozen=True, slots=True, eq=False)
class Confusion:
    """What objects of each class were taken for, at one score threshold."""

    class_names: tuple[str, ...]  # [K]
    counts: NDArray[np.int64]  # [K + 1, K + 1] truth, detection; K is background, K, K is 0
    threshold: float  # detections with a lower score do not exist here
    rule: VocRule = DEVKIT

    @property
    def recall(self) -> NDArray[np.float64]:
        """``[K]`` share of each class's truths that were found; NaN where there is none."""
        return _share(self.counts.diagonal()[:-1], self.counts.sum(axis=1)[:-1])

    @property
    def precision(self) -> NDArray[np.float64]:
        """``[K]`` share of each class's detections that are right; NaN where there is none."""
        return _share(self.counts.diagonal()[:-1], self.counts.sum(axis=0)[:-1])

    def confused(self, count: int) -> list[tuple[str, str, int]]:
        """The most frequent mix-ups of two classes: (truth, taken for, how often)."""
        inner = self.counts[:-1, :-1] * (1 - np.eye(len(self.class_names), dtype=np.int64))
        rows, columns = np.nonzero(inner)
        order = np.argsort(-inner[rows, columns], kind="stable")[:count]
        names = self.class_names
        return [
            (names[row], names[column], int(inner[row, column]))
            for row, column in zip(rows[order], columns[order], strict=True)
        ]


def _share(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)


def confusion_matrix(
    results: Results,
    annotations: Annotations,
    *,
    threshold: float,
    rule: VocRule = DEVKIT,
    iou_threshold: float = IOU_THRESHOLD,
) -> Confusion:
    """Count what each truth was taken for, and each detection taken from.

    Detections below ``threshold`` are left out. The others are taken in order of score, those of
    all classes together; of equals the earlier in ``results`` goes first. Each takes one truth of
    its image that no earlier one took and that it overlaps enough (by the devkit's rule with an IoU
    of ``iou_threshold``, by that of ``voc_eval`` with more): one of its own class where there is
    such a one, else one of another class; of several the one it overlaps most, of equals the
    first. That counts at ``[truth's class, detection's class]``. Difficult and crowd truths cannot
    be taken: a detection that takes nothing and overlaps one of its own class enough counts for
    nothing. Any other detection that takes nothing counts at ``[K, its class]``, and each scored
    truth that nothing took at ``[its class, K]``.

    On the diagonal stands, other than in VOC's AP, a detection that got its second choice; and a
    truth that a better-scored detection of another class took is not there, although a detection
    of its own class may follow.
    """
    num_classes = len(annotations.class_names)
    confident = results.select(results.scores >= threshold)
    objects = truth_of(annotations)
    scored = objects.scored
    pairs = overlapping_pairs(confident, objects, floor=iou_threshold)
    pairs = pairs.select(passes(pairs.iou, rule, iou_threshold))
    own = confident.labels[pairs.detection] == objects.labels[pairs.truth]  # [J]
    taken = _match_greedily(confident, pairs.select(scored[pairs.truth]), own[scored[pairs.truth]])
    excused = np.zeros(len(confident), np.bool_)
    excused[pairs.detection[own & ~scored[pairs.truth]]] = True

    counts = np.zeros((num_classes + 1, num_classes + 1), np.int64)
    took = taken >= 0
    np.add.at(counts, (objects.labels[taken[took]], confident.labels[took]), 1)
    counts[num_classes, :num_classes] += np.bincount(
        confident.labels[~took & ~excused], minlength=num_classes
    )
    missed = scored.copy()
    missed[taken[took]] = False
    counts[:num_classes, num_classes] += np.bincount(objects.labels[missed], minlength=num_classes)
    return Confusion(annotations.class_names, counts, threshold, rule)


def _match_greedily(results: Results, pairs: Pairs, own: NDArray[np.bool_]) -> NDArray[np.int64]:
    """``[N]`` row of the truth that each detection takes; -1: none."""
    rank = np.empty(len(results), np.int64)
    rank[by_score(results.scores)] = np.arange(len(results))
    order = np.lexsort((pairs.truth, -pairs.iou, ~own, rank[pairs.detection]))
    truth_of = np.full(len(results), -1, np.int64)
    taken: set[int] = set()
    # In this order the first pair whose two sides are both free is always the next match.
    detections, truths = pairs.detection[order].tolist(), pairs.truth[order].tolist()
    for detection, truth in zip(detections, truths, strict=True):
        if truth not in taken and truth_of[detection] < 0:
            truth_of[detection] = truth
            taken.add(truth)
    return truth_of
