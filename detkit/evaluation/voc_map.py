"""Average precision as the PASCAL VOC devkit or Fast R-CNN computes it, all classes at once.

The rules, per class: detections are taken in order of score, equals in the order they came in.
Each looks at every truth of its class in its image, difficult ones included, and picks the one it
overlaps most (of equals the first), whether or not that one is taken (no second choice). Where
their IoU passes: a difficult truth makes the detection count for nothing; a free truth makes it
right and is taken; a taken truth makes it wrong. Otherwise it is wrong. Crowds are treated as
difficult. There is no score threshold and no limit on detections.

What passes is where the two programs differ:

========  ==================================  ====================================================
rule      program                             an IoU passes
========  ==================================  ====================================================
devkit    VOC's own, ``VOCevaldet.m``         of 0.5 and more
voc_eval  Fast R-CNN's, ``voc_eval.py``       of more than 0.5
========  ==================================  ====================================================

Both ask for the best precision at recalls of at least 0, 0.1, ..., 1 as ``0:0.1:1`` and
``arange(0, 1.1, 0.1)`` have them: multiples of the double 0.1, of which 0.3, 0.6 and 0.7 come out
one digit too large, so that a recall of exactly 3/10 does not reach its level. They add up the
area under the curve in two orders, which can differ in the last digit; so does this.

Three answers differ from theirs. A class without truth has 0 or no number there, and NaN here: it
is left out of the means. A class of which every detection lies on a difficult truth has 0 here and
in later versions of ``voc_eval.py``, no number by the devkit's 11 points. A figure above 1 by the
last digit, which their sums give where all is found, is 1 here. And ``voc_eval.py`` does not sort
equals stably.

The programs' boxes are one-based with inclusive corners, so their sides are ``x2 - x1 + 1``. Ours
have exclusive edges: the conversion in the reader holds that 1 already, and none is added here.
They are those of the files, unclipped; objects without size or outside their image count, too.

Source: the devkit's ``VOCevaldet.m`` and ``VOCap.m``; Fast R-CNN's ``voc_eval.py``.
Paper: The PASCAL VOC challenge (Everingham et al., 2010), section 4.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from detkit.arguments import check_threshold
from detkit.data.base import Annotations
from detkit.data.stated import corners
from detkit.errors import ConfigError, did_you_mean
from detkit.evaluation.results import Results
from detkit.evaluation.truth import Truth, truth_of

VocRule = Literal["devkit", "voc_eval"]  # whose figures: VOC's own program, or Fast R-CNN's

DEVKIT: VocRule = "devkit"
IOU_THRESHOLD = 0.5  # VOC's

# Multiples of the double 0.1, as both programs have them, not tenths: 0.3, 0.6 and 0.7 are
# 0.30000000000000004, 0.6000000000000001 and 0.7000000000000001.
RECALL_LEVELS: NDArray[np.float64] = np.arange(11) * np.float64(0.1)

RIGHT, WRONG, IGNORED = 1, 0, -1  # what becomes of a detection


@dataclass(frozen=True, slots=True, eq=False)
class Fates:
    """What became of each of N detections."""

    fate: NDArray[np.int8]  # [N] RIGHT, WRONG or IGNORED
    truth: NDArray[np.int64]  # [N] row of the Truth it overlaps most; -1: its image has none


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """Precision and recall of one class as its score threshold falls."""

    truths: int  # those that are scored: neither difficult nor crowd
    scores: NDArray[np.float64]  # [n] falling; detections on difficult truths left out
    precision: NDArray[np.float64]  # [n]
    recall: NDArray[np.float64]  # [n] NaN where no truth is scored


@dataclass(frozen=True, slots=True, eq=False)
class VocResult:
    """VOC's two average precisions, which differ in how the curve is summed.

    A class without scored truth has NaN and is left out of the means.
    """

    class_names: tuple[str, ...]  # [K]
    ap07: NDArray[np.float64]  # [K] mean of the best precision at 11 recall levels
    ap10: NDArray[np.float64]  # [K] area under the curve made to fall
    curves: tuple[Curve, ...]  # [K]
    rule: VocRule = DEVKIT

    @property
    def map07(self) -> float:
        """Mean 11-point AP over the classes, VOC 2007's figure; NaN where no class has truth."""
        return mean_of_known(self.ap07)

    @property
    def map10(self) -> float:
        """Mean all-point AP over the classes, VOC 2010's and later; NaN as above."""
        return mean_of_known(self.ap10)


def mean_of_known(values: NDArray[np.float64]) -> float:
    """Mean of the entries that are not NaN; NaN where there is none."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def check_rule(rule: object) -> None:
    """Refuse what is the name of no rule.

    Raises:
        ConfigError: it is none.
    """
    if rule not in get_args(VocRule):
        near = did_you_mean(str(rule), get_args(VocRule))
        raise ConfigError(f"voc_rule: is {rule!r}, which is none.{near}")


def passes(
    iou: NDArray[np.float64], rule: VocRule, threshold: float = IOU_THRESHOLD
) -> NDArray[np.bool_]:
    """Where an IoU is enough for a detection to be on a truth.

    Raises:
        ConfigError: no such rule.
    """
    check_rule(rule)
    return iou >= threshold if rule == DEVKIT else iou > threshold


def bound(rule: VocRule) -> str:
    """What an IoU must be to pass, in signs: ``>= 0.5`` or ``> 0.5``."""
    return f"{'>=' if rule == DEVKIT else '>'} {IOU_THRESHOLD:g}"


def voc_map(
    results: Results,
    annotations: Annotations,
    *,
    rule: VocRule = DEVKIT,
    iou_threshold: float = IOU_THRESHOLD,
) -> VocResult:
    """Measure ``results`` by VOC's rules, those of its devkit or those of ``voc_eval.py``.

    Raises:
        ConfigError: no such rule.

    Raises:
        ConfigError: no such rule, or a threshold that is no number from 0 to 1.
    """
    check_threshold(iou_threshold, "voc_map: iou_threshold")
    fates = voc_fates(results, annotations, rule=rule, iou_threshold=iou_threshold)
    truth = truth_of(annotations)
    truths = np.bincount(truth.labels[truth.scored], minlength=len(annotations.class_names))
    counted = fates.fate != IGNORED
    curves = curves_of(
        results.scores[counted], results.labels[counted], fates.fate[counted] == RIGHT, truths
    )
    return VocResult(
        class_names=annotations.class_names,
        ap07=np.array([ap_11_point(curve) for curve in curves]),
        ap10=np.array([ap_all_point(curve, rule) for curve in curves]),
        curves=curves,
        rule=rule,
    )


def curves_of(
    scores: NDArray[np.float64],
    labels: NDArray[np.int64],
    right: NDArray[np.bool_],
    truths: NDArray[np.int64],
) -> tuple[Curve, ...]:
    """The curve of each class from detections that are known to be right or wrong.

    Args:
        scores: ``[N]``; of equals the earlier ranks first.
        labels: ``[N]``.
        right: ``[N]``.
        truths: ``[K]`` scored truths of each class.
    """
    order = by_score(scores)
    order = order[np.argsort(labels[order], kind="stable")]  # by class, then by score
    ends = np.cumsum(np.bincount(labels[order], minlength=len(truths)))
    ranked = np.split(order, ends[:-1]) if len(truths) else []
    return tuple(
        _curve(scores[rows], right[rows], int(count))
        for rows, count in zip(ranked, truths, strict=True)
    )


def voc_fates(
    results: Results,
    annotations: Annotations,
    *,
    rule: VocRule = DEVKIT,
    iou_threshold: float = IOU_THRESHOLD,
) -> Fates:
    """Decide for every detection whether it is right, wrong or ignored."""
    objects = truth_of(annotations)
    best_iou, truth = _best_truths(results, objects, len(annotations.class_names))
    hit = passes(best_iou, rule, iou_threshold) & (truth >= 0)
    unscored = np.append(~objects.scored, False)  # [M + 1]; -1: the last
    ignored = hit & unscored[truth]
    claims = by_score(results.scores)
    claims = claims[(hit & ~ignored)[claims]]
    _, first = np.unique(truth[claims], return_index=True)  # the best-scored claim on each truth
    fate = np.full(len(results), WRONG, dtype=np.int8)
    fate[claims[first]] = RIGHT
    fate[ignored] = IGNORED
    return Fates(fate, truth)


def by_score(scores: NDArray[np.float64]) -> NDArray[np.int64]:
    """Rows by falling score; ties stay in the order they came in."""
    return np.argsort(-scores, kind="stable")


def _best_truths(
    results: Results, objects: Truth, num_classes: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """For every detection the truth of its image and class that it overlaps most.

    Instead of a loop over images and classes, detections and truths are joined by one key; each
    detection meets its few truths as neighbours in one long list of J pairs.

    Returns:
        ``[N]`` IoU, 0 where there is none, and ``[N]`` row of the truth, -1 where there is none.
    """
    truth_keys = objects.image_of_row() * num_classes + objects.labels  # [M]
    by_key = np.argsort(truth_keys, kind="stable")
    sorted_keys = truth_keys[by_key]
    keys = results.images * num_classes + results.labels  # [N]
    begin = np.searchsorted(sorted_keys, keys, "left")
    count = np.searchsorted(sorted_keys, keys, "right") - begin  # [N] truths that each one meets

    start = np.cumsum(count) - count  # [N] first pair of each detection
    detection = np.repeat(np.arange(len(results)), count)  # [J]
    truth = by_key[np.arange(len(detection)) + (begin - start)[detection]]  # [J]
    iou = pair_iou(corners(results.measured)[detection], objects.boxes[truth])  # [J]

    best_iou = np.zeros(len(results))
    best_truth = np.full(len(results), -1, dtype=np.int64)
    meets = count > 0
    if not meets.any():
        return best_iou, best_truth
    best_iou[meets] = np.maximum.reduceat(iou, start[meets])
    is_best = np.flatnonzero(iou == best_iou[detection])
    _, first = np.unique(detection[is_best], return_index=True)  # arg-max takes the first of equals
    best_truth[meets] = truth[is_best[first]]
    return best_iou, best_truth


def pair_iou(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """IoU of boxes ``[J, 4]`` that stand side by side, in float64 as the devkit's."""
    sides = np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])  # [J, 2]
    inter = np.maximum(sides, 0).prod(axis=1)
    with np.errstate(over="ignore", invalid="ignore"):  # files may state boxes without end
        union = (a[:, 2:] - a[:, :2]).prod(axis=1) + (b[:, 2:] - b[:, :2]).prod(axis=1) - inter
    return np.divide(inter, union, out=np.zeros_like(inter), where=inter > 0)


def _curve(scores: NDArray[np.float64], right: NDArray[np.bool_], truths: int) -> Curve:
    found = np.cumsum(right, dtype=np.float64)  # [n]
    recall = found / truths if truths else np.full(len(found), np.nan)
    return Curve(truths, scores, precision=found / np.arange(1, len(found) + 1), recall=recall)


def falling_precision(curve: Curve) -> NDArray[np.float64]:
    """``[n]`` best precision at each recall or beyond: the curve without its saw teeth."""
    return np.maximum.accumulate(curve.precision[::-1])[::-1]


def ap_11_point(curve: Curve) -> float:
    """Mean of the best precision at recall 0, 0.1, ..., 1 or beyond; 0 where it is not reached."""
    if not curve.truths:
        return float("nan")
    precision = np.append(falling_precision(curve), 0.0)  # the last: recall never reached
    best = precision[np.searchsorted(curve.recall, RECALL_LEVELS, "left")]
    return _at_most_1(_added(best / len(RECALL_LEVELS)))


def ap_all_point(curve: Curve, rule: VocRule = DEVKIT) -> float:
    """Area under the falling precision, from recall 0."""
    if not curve.truths:
        return float("nan")
    rises = np.diff(curve.recall, prepend=0.0, append=1.0)
    parts = (rises * np.append(falling_precision(curve), 0.0))[rises != 0]
    return _at_most_1(_added(parts) if rule == DEVKIT else float(parts.sum()))


def _added(parts: NDArray[np.float64]) -> float:
    """Their sum from the first to the last, one by one; numpy's own goes in pairs."""
    return float(parts.cumsum()[-1])


def _at_most_1(share: float) -> float:
    return min(share, 1.0)  # eleven times 1/11 are 1.0000000000000002
