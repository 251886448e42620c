"""Suppression against a greedy loop that anyone can follow."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from detkit.ops import box_iou, nms_per_class, select_per_class
from tests.oracles import random_boxes


def slow_nms(boxes: Tensor, scores: Tensor, labels: Tensor, threshold: float) -> list[int]:
    """Best first; a box falls to a better one of its class that it overlaps by more."""
    iou = box_iou(boxes, boxes)
    kept: list[int] = []
    for candidate in scores.argsort(descending=True, stable=True).tolist():
        rivals = [index for index in kept if labels[index] == labels[candidate]]
        if not any(iou[candidate, index] > threshold for index in rivals):
            kept.append(candidate)
    return kept


def crowded(n: int, seed: int, classes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes that overlap: a few places, each with several boxes near it."""
    generator = torch.Generator().manual_seed(seed)
    places = random_boxes(5, seed)
    boxes = places[torch.randint(5, (n,), generator=generator)]
    boxes = boxes + torch.rand(n, 1, generator=generator) * 20
    scores = torch.randperm(n, generator=generator) / max(n, 1)  # no ties
    return boxes, scores, torch.randint(classes, (n,), generator=generator)


@given(st.integers(0, 40), st.integers(0, 9999), st.floats(0.05, 0.95), st.integers(1, 4))
def test_nms_equals_a_slow_greedy_loop(n: int, seed: int, threshold: float, classes: int) -> None:
    boxes, scores, labels = crowded(n, seed, classes)
    kept = nms_per_class(boxes, scores, labels, threshold)
    assert kept.tolist() == slow_nms(boxes, scores, labels, threshold)


@given(st.integers(0, 40), st.integers(0, 9999), st.floats(0.1, 0.9))
def test_no_two_kept_boxes_of_a_class_overlap(n: int, seed: int, threshold: float) -> None:
    boxes, scores, labels = crowded(n, seed, classes=2)
    kept = nms_per_class(boxes, scores, labels, threshold)
    for label in range(2):
        same = boxes[kept][labels[kept] == label]
        assert not (box_iou(same, same).fill_diagonal_(0) > threshold + 1e-4).any()


def test_an_overlap_that_equals_the_threshold_is_kept() -> None:
    boxes = torch.tensor([[0.0, 0.0, 2.0, 1.0], [0.0, 0.0, 1.0, 1.0]])  # IoU one half, exactly
    scores, labels = torch.tensor([0.9, 0.8]), torch.zeros(2, dtype=torch.int64)
    assert nms_per_class(boxes, scores, labels, 0.5).tolist() == [0, 1]
    assert nms_per_class(boxes, scores, labels, 0.499).tolist() == [0]


def test_classes_do_not_suppress_each_other() -> None:
    boxes = torch.tensor([[0.0, 0.0, 9.0, 9.0]]).repeat(3, 1)
    scores, labels = torch.tensor([0.1, 0.9, 0.5]), torch.tensor([0, 1, 0])
    assert nms_per_class(boxes, scores, labels, 0.5).tolist() == [1, 2]


def test_no_boxes_one_box() -> None:
    none = torch.zeros(0, dtype=torch.int64)
    assert nms_per_class(torch.zeros(0, 4), torch.zeros(0), none, 0.5).tolist() == []
    box, label = torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.zeros(1, dtype=torch.int64)
    assert nms_per_class(box, torch.tensor([0.3]), label, 0.5).tolist() == [0]


def test_classes_keep_apart_where_coordinates_are_negative() -> None:
    """What moving each class by the largest coordinate would mix up."""
    boxes = torch.tensor([[300.0, 300.0, 400.0, 400.0], [-80.0, -80.0, 20.0, 20.0]])
    keep = nms_per_class(boxes, torch.tensor([0.9, 0.8]), torch.tensor([0, 1]), 0.45)
    assert keep.tolist() == [0, 1]


def test_one_huge_box_spoils_no_other_class() -> None:
    boxes = torch.tensor(
        [[-3e8, 0.0, 3e8, 50.0], [0.0, 0.0, 100.0, 100.0], [0.0, 0.0, 100.0, 80.0]]
    )
    labels = torch.tensor([0, 19, 19])
    assert nms_per_class(boxes, torch.tensor([0.1, 0.9, 0.8]), labels, 0.45).tolist() == [1, 0]


def slow_selection(
    boxes: Tensor, scores: Tensor, score_threshold: float, iou_threshold: float
) -> list[tuple[float, int, list[float]]]:
    """Class by class: who scores above the threshold, best first, unless a better one is near."""
    iou = box_iou(boxes, boxes)
    found = []
    for label in range(scores.shape[1]):
        kept: list[int] = []
        for row in scores[:, label].argsort(descending=True, stable=True).tolist():
            clear = all(iou[row, better] <= iou_threshold for better in kept)
            if scores[row, label] > score_threshold and clear:
                kept.append(row)
                found.append((float(scores[row, label]), label, boxes[row].tolist()))
    return sorted(found, key=lambda item: -item[0])


@given(st.integers(0, 25), st.integers(1, 4), st.integers(0, 9999), st.floats(0.0, 0.9))
def test_selection_equals_a_slow_loop(n: int, classes: int, seed: int, threshold: float) -> None:
    boxes, _, _ = crowded(n, seed, classes)
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randperm(n * classes, generator=generator).view(n, classes) / max(n * classes, 1)
    found = select_per_class(boxes, scores, threshold, 0.45)
    expected = slow_selection(boxes, scores, threshold, 0.45)
    rows = zip(found.scores.tolist(), found.labels.tolist(), found.boxes.tolist(), strict=True)
    assert list(rows) == expected


@given(st.integers(1, 25), st.integers(0, 9999))
def test_a_higher_threshold_only_takes_from_the_end(n: int, seed: int) -> None:
    """Suppression never depends on boxes that score less."""
    boxes, _, _ = crowded(n, seed, classes=3)
    scores = torch.rand(n, 3, generator=torch.Generator().manual_seed(seed))
    every = select_per_class(boxes, scores, 0.0, 0.45)
    few = select_per_class(boxes, scores, 0.5, 0.45)
    assert torch.equal(few.scores, every.scores[every.scores > 0.5])
    assert torch.equal(few.boxes, every.boxes[every.scores > 0.5])


def test_a_score_at_the_threshold_is_dropped_and_a_box_counts_once_a_class() -> None:
    boxes = torch.tensor([[0.0, 0.0, 9.0, 9.0], [20.0, 20.0, 29.0, 29.0]])
    found = select_per_class(boxes, torch.tensor([[0.9, 0.8], [0.5, 0.0]]), 0.5, 0.45)
    assert found.labels.tolist() == [0, 1]
    assert torch.equal(found.boxes, boxes[[0, 0]])
