from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given
from hypothesis import strategies as st

from detkit.data.base import Annotations
from detkit.evaluation import pairs
from detkit.evaluation.confusion import confusion_matrix
from detkit.evaluation.pairs import overlapping_pairs
from detkit.evaluation.results import Results, no_results
from detkit.evaluation.voc_map import VocRule
from tests.evaluation.noise import make_annotations, make_results, noisy_detections, with_difficult

WHOLE = (0.0, 0.0, 10.0, 10.0)
NEAR = (0.0, 0.0, 10.0, 9.0)
FAR = (50.0, 50.0, 60.0, 60.0)


def scene(seed: int, images: int = 8, truths: int = 60) -> Annotations:
    """Crowded images: truths of three classes overlap each other."""
    rng = np.random.default_rng(seed)
    image_of = np.sort(rng.integers(0, images, truths))
    corners = rng.integers(0, 40, (truths, 2))
    sides = rng.integers(8, 30, (truths, 2))
    labels = rng.integers(0, 3, truths)
    rows = [
        (int(image), int(label), (float(x), float(y), float(x + w), float(y + h)))
        for image, label, (x, y), (w, h) in zip(image_of, labels, corners, sides, strict=True)
    ]
    made = make_annotations(rows, images=images, classes=3, crowd=(3, 30))
    return with_difficult(made, 0.15, seed)


def enough(iou: float, rule: VocRule) -> bool:
    return bool(iou >= 0.5 if rule == "devkit" else iou > 0.5)


def iou_of(results: Results, annotations: Annotations) -> np.ndarray:
    found = torch.from_numpy(results.boxes).double()
    return torchvision.ops.box_iou(found, torch.from_numpy(annotations.boxes).double()).numpy()


def slow_confusion(
    results: Results, annotations: Annotations, threshold: float, rule: VocRule
) -> np.ndarray:
    """The definition, read aloud."""
    classes = len(annotations.class_names)
    counts = np.zeros((classes + 1, classes + 1), dtype=int)
    iou = iou_of(results, annotations)
    image_of = annotations.image_of_row()
    unscored = annotations.difficult | annotations.crowd
    taken: set[int] = set()
    for row in sorted(range(len(results)), key=lambda row: -results.scores[row]):
        if results.scores[row] < threshold:
            continue
        label = results.labels[row]
        over = [
            truth
            for truth in range(len(image_of))
            if image_of[truth] == results.images[row] and enough(iou[row, truth], rule)
        ]
        free = [truth for truth in over if truth not in taken and not unscored[truth]]
        own = [truth for truth in free if annotations.labels[truth] == label]
        if free:
            mine = max(own or free, key=lambda truth: (iou[row, truth], -truth))
            taken.add(mine)
            counts[annotations.labels[mine], label] += 1
        elif not any(unscored[truth] and annotations.labels[truth] == label for truth in over):
            counts[classes, label] += 1
    for truth in range(len(image_of)):
        if truth not in taken and not unscored[truth]:
            counts[annotations.labels[truth], classes] += 1
    return counts


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("threshold", [0.0, 0.5])
@pytest.mark.parametrize("rule", ["devkit", "voc_eval"])
def test_agrees_with_the_slow_loop(seed: int, threshold: float, rule: VocRule) -> None:
    annotations = scene(seed)
    results = noisy_detections(annotations, 300, seed)
    confusion = confusion_matrix(results, annotations, threshold=threshold, rule=rule)
    slow = slow_confusion(results, annotations, threshold, rule)
    np.testing.assert_array_equal(confusion.counts, slow)
    assert confusion.rule == rule
    assert confusion.counts[:3, :3].sum() > 20  # something was matched
    assert (confusion.counts[:3, :3] - np.diag(confusion.counts.diagonal()[:3])).any()


@given(st.integers(0, 9999), st.integers(0, 60), st.floats(0, 1))
def test_every_truth_and_detection_is_counted_once(seed: int, count: int, threshold: float) -> None:
    annotations = replace(scene(seed, truths=31), difficult=np.zeros(31, np.bool_))
    annotations = replace(annotations, crowd=annotations.difficult)
    results = noisy_detections(annotations, count, seed)
    counts = confusion_matrix(results, annotations, threshold=threshold).counts
    confident = results.labels[results.scores >= threshold]
    np.testing.assert_array_equal(counts.sum(axis=1)[:3], np.bincount(annotations.labels))
    np.testing.assert_array_equal(counts.sum(axis=0)[:3], np.bincount(confident, minlength=3))
    assert counts[3, 3] == 0


def test_own_class_comes_first() -> None:
    annotations = make_annotations([(0, 0, WHOLE), (0, 1, NEAR)], images=1, classes=2)
    results = make_results([(0, 1, WHOLE, 0.9), (0, 0, NEAR, 0.8)])
    counts = confusion_matrix(results, annotations, threshold=0.5).counts
    np.testing.assert_array_equal(counts, [[1, 0, 0], [0, 1, 0], [0, 0, 0]])


def test_second_choice_duplicate_and_difficult() -> None:
    annotations = make_annotations(
        [(0, 0, WHOLE), (0, 0, FAR), (1, 0, WHOLE)], images=2, classes=2, difficult=(2,)
    )
    results = make_results(
        [
            (0, 0, WHOLE, 0.9),
            (0, 0, NEAR, 0.8),  # a duplicate is a false alarm
            (1, 0, WHOLE, 0.9),  # excused by the difficult truth
            (1, 0, NEAR, 0.8),  # and so is the next
            (1, 1, WHOLE, 0.7),  # another class than the difficult truth: a false alarm
            (0, 1, FAR, 0.4),  # below the threshold
        ]
    )
    confusion = confusion_matrix(results, annotations, threshold=0.5)
    np.testing.assert_array_equal(confusion.counts, [[1, 0, 1], [0, 0, 0], [1, 1, 0]])
    np.testing.assert_array_equal(confusion.recall, [0.5, np.nan])
    np.testing.assert_array_equal(confusion.precision, [0.5, 0.0])
    low = confusion_matrix(results, annotations, threshold=0.1)
    assert low.confused(5) == [("class0", "class1", 1)]


def test_nothing_at_all() -> None:
    empty = make_annotations([], images=2, classes=2)
    assert not confusion_matrix(no_results(), empty, threshold=0.5).counts.any()
    alarms = confusion_matrix(make_results([(1, 1, WHOLE, 0.9)]), empty, threshold=0.5)
    np.testing.assert_array_equal(alarms.counts, [[0, 0, 0], [0, 0, 0], [0, 1, 0]])
    truth = make_annotations([(1, 1, WHOLE)], images=2, classes=2)
    missed = confusion_matrix(no_results(), truth, threshold=0.5)
    np.testing.assert_array_equal(missed.counts, [[0, 0, 0], [0, 0, 1], [0, 0, 0]])


@pytest.mark.parametrize("at_once", [1, 7, 10**6])
def test_pairs_are_all_there_however_they_are_cut(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pairs, "PAIRS_AT_ONCE", at_once)
    annotations = scene(0)
    results = noisy_detections(annotations, 50, 1)
    found = overlapping_pairs(results, annotations, floor=0.2)
    iou = iou_of(results, annotations)
    iou[results.images[:, None] != annotations.image_of_row()[None]] = 0
    detection, truth = np.nonzero(iou >= 0.2)
    np.testing.assert_array_equal(found.detection, detection)
    np.testing.assert_array_equal(found.truth, truth)
    np.testing.assert_allclose(found.iou, iou[detection, truth], rtol=1e-12)
