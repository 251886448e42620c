from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detkit.data.base import Annotations
from detkit.evaluation.errors import (
    BACKGROUND,
    BOTH,
    CLASS,
    DUPLICATE,
    ERROR_KINDS,
    LOCATION,
    MISSED,
    NO_ERROR,
    find_examples,
    split_errors,
)
from detkit.evaluation.results import Results, no_results
from detkit.evaluation.voc_map import VocRule, voc_map
from tests.evaluation.noise import make_annotations, make_results, noisy_detections, with_difficult
from tests.evaluation.test_confusion import enough, iou_of, scene

WHOLE = (0.0, 0.0, 10.0, 10.0)
NEAR = (0.0, 0.0, 10.0, 9.0)
FAR = (50.0, 50.0, 60.0, 60.0)
LOOSE = (50.0, 50.0, 60.0, 90.0)  # IoU 0.25 with FAR
ELSEWHERE = (80.0, 10.0, 90.0, 20.0)


def slow_split(
    results: Results, annotations: Annotations, rule: VocRule
) -> tuple[list[str], list[int], set[int], dict[str, np.ndarray]]:
    """Kinds, truths, missed rows and AP of each class per fix: loops over every pair."""
    iou = iou_of(results, annotations)
    image_of, labels = annotations.image_of_row(), annotations.labels
    unscored = annotations.difficult | annotations.crowd
    order = sorted(range(len(results)), key=lambda row: -results.scores[row])
    kinds, abouts = ["right"] * len(results), [-1] * len(results)
    taken: set[int] = set()
    for row in order:
        mine = [t for t in range(len(labels)) if image_of[t] == results.images[row]]
        same = [t for t in mine if labels[t] == results.labels[row]]
        best = max(same, key=lambda t: (iou[row, t], -t), default=None)
        if best is not None and enough(iou[row, best], rule):
            if unscored[best]:
                kinds[row] = "ignored"
                continue
            if best not in taken:
                taken.add(best)
                abouts[row] = best
                continue
        same = [t for t in same if not unscored[t]]
        others = [t for t in mine if not unscored[t] and t not in same]
        own = max(same, key=lambda t: (iou[row, t], -t), default=-1)
        other = max(others, key=lambda t: (iou[row, t], -t), default=-1)
        own_iou = iou[row, own] if own >= 0 else 0.0
        other_iou = iou[row, other] if other >= 0 else 0.0
        if own_iou >= 0.1 and not enough(own_iou, rule):
            kinds[row], abouts[row] = "location", own
        elif enough(other_iou, rule):
            kinds[row], abouts[row] = "class", other
        elif enough(own_iou, rule):
            kinds[row], abouts[row] = "duplicate", own
        elif max(own_iou, other_iou) <= 0.1:
            kinds[row] = "background"
        else:
            kinds[row], abouts[row] = "both", other
    covered = {a for a, k in zip(abouts, kinds, strict=True) if k in ("class", "location")}
    missed = {t for t in range(len(labels)) if not unscored[t]} - taken - covered

    truths = [int(((labels == label) & ~unscored).sum()) for label in range(3)]
    aps = {"as it is": slow_ap(order, results.labels, [k == "right" for k in kinds], kinds, truths)}
    for kind in ("both", "duplicate", "background"):
        rest = [row for row in order if kinds[row] != kind]
        aps[kind] = slow_ap(rest, results.labels, [k == "right" for k in kinds], kinds, truths)
    for kind in ("class", "location"):
        holders: dict[int, int] = {}
        rest, right, said = [], [False] * len(kinds), results.labels.copy()
        for row in order:  # best first, so the first on each truth stays
            if kinds[row] in ("right", kind):
                if abouts[row] in holders:
                    continue
                holders[abouts[row]] = row
                right[row], said[row] = True, labels[abouts[row]]
            rest.append(row)
        aps[kind] = slow_ap(rest, said, right, kinds, truths)
    left = [n - sum(1 for t in missed if labels[t] == k) for k, n in enumerate(truths)]
    found = slow_ap(order, results.labels, [k == "right" for k in kinds], kinds, left)
    aps["missed"] = np.where(np.array(left) > 0, found, aps["as it is"])
    return kinds, abouts, missed, aps


def slow_ap(
    order: list[int], labels: np.ndarray, right: list[bool], kinds: list[str], truths: list[int]
) -> np.ndarray:
    """Area under the falling precision, from recall step to recall step."""
    areas = []
    for label, count in enumerate(truths):
        mine = [right[r] for r in order if labels[r] == label and kinds[r] != "ignored"]
        precision = [sum(mine[: n + 1]) / (n + 1) for n in range(len(mine))]
        steps = [max(precision[n:]) for n, hit in enumerate(mine) if hit]
        areas.append(sum(steps) / count if count else np.nan)
    return np.array(areas)


@pytest.mark.parametrize(
    ("seed", "rule"), [*((seed, "devkit") for seed in range(8)), (0, "voc_eval"), (2, "voc_eval")]
)
def test_agrees_with_the_slow_loop(seed: int, rule: VocRule) -> None:
    annotations = scene(seed)
    results = noisy_detections(annotations, 250, seed)
    if seed % 2:  # others' boxes, so that every kind occurs
        results = Results(
            results.images, np.roll(results.boxes, 3, axis=0), results.scores, results.labels
        )
    split = split_errors(results, annotations, rule=rule)
    kinds, abouts, missed, aps = slow_split(results, annotations, rule)
    named = dict(enumerate(ERROR_KINDS))
    ours = [named.get(kind, "none") for kind in split.kind.tolist()]
    assert ours == [kind if kind in ERROR_KINDS else "none" for kind in kinds]
    assert split.truth.tolist() == abouts
    assert set(np.flatnonzero(split.missed).tolist()) == missed
    np.testing.assert_allclose(split.ap, aps["as it is"], rtol=1e-12)
    for number, name in enumerate(ERROR_KINDS):
        np.testing.assert_allclose(split.fixed_ap[number], aps[name], rtol=1e-12, err_msg=name)
    assert len(set(ours)) >= 5


def every_kind() -> tuple[Annotations, Results]:
    """One error of each kind, and one right detection."""
    annotations = make_annotations(
        [
            (0, 0, WHOLE),  # found twice
            (0, 1, FAR),  # found loosely
            (1, 0, WHOLE),  # taken for the other class
            (2, 1, FAR),  # overlapped loosely, as the other class
            (3, 1, WHOLE),  # missed
            (3, 0, FAR),  # missed, difficult
        ],
        images=4,
        classes=2,
        difficult=(5,),
    )
    results = make_results(
        [
            (0, 0, WHOLE, 0.9),
            (0, 0, NEAR, 0.8),
            (0, 1, LOOSE, 0.7),
            (1, 1, NEAR, 0.6),
            (2, 0, LOOSE, 0.5),
            (3, 0, ELSEWHERE, 0.4),
        ]
    )
    return annotations, results


def test_one_of_each_kind() -> None:
    annotations, results = every_kind()
    split = split_errors(results, annotations)
    assert split.kind.tolist() == [NO_ERROR, DUPLICATE, LOCATION, CLASS, BOTH, BACKGROUND]
    assert split.truth.tolist() == [0, 0, 1, 2, 3, -1]
    np.testing.assert_allclose(split.iou, [1, 0.9, 0.25, 0.9, 0.25, 0], rtol=1e-6)
    assert np.flatnonzero(split.missed).tolist() == [3, 4]  # a "both" covers nothing
    expected = {"class": [0, 1], "location": [0, 1], "both": [1, 0]}
    expected |= {"duplicate": [1, 0], "background": [1, 0], "missed": [0, 2]}
    assert dict(zip(ERROR_KINDS, split.counts.tolist(), strict=True)) == expected
    # class 0 has 2 truths and R W W W, class 1 has 3 truths and W W; by hand:
    np.testing.assert_allclose(split.ap, [0.5, 0.0])
    np.testing.assert_allclose(split.fixed_ap[CLASS], [(1 + 2 / 3) / 2, 0.0])  # R W R W W
    np.testing.assert_allclose(split.fixed_ap[LOCATION], [0.5, 1 / 3])  # R W
    np.testing.assert_allclose(split.fixed_ap[MISSED], [0.5, 0.0])
    np.testing.assert_allclose(split.gains, [1 / 6, 1 / 6, 0, 0, 0, 0], atol=1e-12)


def test_a_corrected_detection_displaces_a_weaker_right_one() -> None:
    annotations = make_annotations([(0, 0, WHOLE)], images=1, classes=2)
    results = make_results([(0, 0, FAR, 0.9), (0, 1, WHOLE, 0.8), (0, 0, WHOLE, 0.7)])
    split = split_errors(results, annotations)
    assert split.kind.tolist() == [BACKGROUND, CLASS, NO_ERROR]
    assert split.fixed_ap[CLASS, 0] == 0.5  # W R: one right, at rank two, not two
    assert split.fixed_ap[BACKGROUND, 0] == 1.0


@given(st.integers(0, 9999), st.integers(0, 80), st.integers(1, 40))
def test_what_always_holds(seed: int, count: int, truths: int) -> None:
    annotations = with_difficult(scene(seed, truths=max(truths, 31)), 0.1, seed)
    results = noisy_detections(annotations, count, seed)
    split = split_errors(results, annotations)
    np.testing.assert_array_equal(split.ap, voc_map(results, annotations).ap10)
    assert split.map == voc_map(results, annotations).map10
    gains = np.nan_to_num(split.fixed_ap - split.ap)
    for kind in (BOTH, DUPLICATE, BACKGROUND, MISSED):
        assert (gains[kind] >= -1e-12).all()  # leaving out what is wrong never costs
    wrong = int((split.kind != NO_ERROR).sum())
    assert split.counts[:MISSED].sum() == wrong
    assert split.counts[MISSED].sum() == split.missed.sum()


def test_without_detections_everything_is_missed() -> None:
    annotations, _ = every_kind()
    split = split_errors(no_results(), annotations)
    assert split.counts[MISSED].tolist() == [2, 3]
    assert split.gains.tolist() == [0.0] * 6
    nothing = split_errors(no_results(), make_annotations([], images=0, classes=0))
    assert np.isnan(nothing.map)
    assert np.isnan(nothing.gains).all()


def test_examples_are_the_most_confident_first() -> None:
    annotations = make_annotations(
        [(0, 0, WHOLE), (1, 0, FAR), (1, 0, (0.0, 0.0, 40.0, 40.0))], images=3, classes=1
    )
    results = make_results(
        [(2, 0, FAR, 0.3), (2, 0, WHOLE, 0.9), (2, 0, ELSEWHERE, 0.8), (0, 0, FAR, 0.2)]
    )
    split = split_errors(results, annotations)
    found = find_examples(split, results, annotations, BACKGROUND, 3)
    assert [one.detection for one in found] == [1, 3, 2]  # every image once before one twice
    assert [one.image for one in found] == [2, 0, 2]
    assert {(one.truth, one.iou) for one in found} == {(None, 0.0)}
    missed = find_examples(split, results, annotations, MISSED, 9)
    assert [one.truth for one in missed] == [2, 0, 1]  # the largest of each image first
    assert [one.detection for one in missed] == [None] * 3
    assert find_examples(split, results, annotations, CLASS, 3) == []


def test_examples_name_the_truth_they_are_about() -> None:
    annotations, results = every_kind()
    split = split_errors(results, annotations)
    (one,) = find_examples(split, results, annotations, CLASS, 5)
    assert (one.image, one.detection, one.truth, round(one.iou, 3)) == (1, 3, 2, 0.9)


def test_a_hundred_thousand_detections_take_seconds() -> None:
    rng = np.random.default_rng(0)
    truths, images = 20_000, 1_000
    corners = rng.uniform(0, 400, (truths, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(20, 200, (truths, 2))], axis=1)
    image_of = np.sort(rng.integers(0, images, truths))
    annotations = make_annotations(
        [
            (int(image), int(label), tuple(box))
            for image, label, box in zip(
                image_of, rng.integers(0, 20, truths), boxes.tolist(), strict=True
            )
        ],
        images=images,
        classes=20,
    )
    results = noisy_detections(annotations, 100_000, 0)
    start = time.process_time()
    split = split_errors(results, annotations)
    assert time.process_time() - start < 10  # about one on the slowest machine seen
    assert split.counts.sum() > 1000
