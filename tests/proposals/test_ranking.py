"""The three orders of boxes, by hand and by a slow loop."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from detkit.ops.boxes import box_iou
from detkit.proposals.ranking import NEAR, near_repeats, priorities, rank
from tests.oracles import random_boxes


def boxes_of(*rows: tuple[int, int, int, int]) -> np.ndarray:
    return np.array(rows, np.int32)


# Three first regions, then two merges.
ONE = boxes_of((0, 0, 30, 30), (30, 0, 60, 30), (0, 30, 60, 90), (0, 0, 60, 30), (0, 0, 60, 90))
TWO = boxes_of((0, 0, 60, 90))  # a single region: no merge


def test_priorities_count_from_the_last_merge() -> None:
    assert priorities(5).tolist() == [3, 3, 3, 2, 1]
    assert priorities(1).tolist() == [1]


def test_authors_multiply_by_random_numbers() -> None:
    drawn = np.random.default_rng(7).random(6) * [3, 3, 3, 2, 1, 1]
    wanted = []
    for index in sorted(range(6), key=lambda i: drawn[i]):
        box = np.concatenate([ONE, TWO])[index].tolist()
        if box not in wanted:
            wanted.append(box)
    assert rank([ONE, TWO], "authors", seed=7, min_side=1).tolist() == wanted
    assert len(wanted) == 5  # the whole image is there twice


def test_turns_go_from_the_last_merge_to_the_first_regions() -> None:
    other = boxes_of((0, 0, 40, 30), (0, 30, 40, 90), (0, 0, 40, 90))  # near none of the others
    order = rank([ONE, other], "turns", seed=0, min_side=1).tolist()
    wanted = (ONE[4], other[2], ONE[3], *other[:2], *ONE[:3])  # priorities 1, 1, 2, 2, 2, 3, 3, 3
    assert order == [box.tolist() for box in wanted]


@pytest.mark.parametrize("ranking", ["authors", "distinct", "turns"])
def test_small_boxes_are_dropped_by_either_side(ranking: str) -> None:
    boxes = boxes_of((0, 0, 20, 20), (0, 0, 19, 50), (0, 0, 50, 19))
    assert rank([boxes], ranking, 0, 20).tolist() == [[0, 0, 20, 20]]  # type: ignore[arg-type]
    assert len(rank([boxes], ranking, 0, 1)) == 3  # type: ignore[arg-type]


@given(st.integers(1, 60), st.integers(0, 999), st.sampled_from([0.5, NEAR]))
def test_repeats_agree_with_the_slow_loop(count: int, seed: int, iou: float) -> None:
    boxes = (random_boxes(count, seed) / 10).round()  # small, so that many overlap
    boxes[:, 2:] = torch.maximum(boxes[:, 2:], boxes[:, :2] + 1)
    overlaps = box_iou(boxes.double(), boxes.double())
    kept: list[int] = []
    for i in range(count):
        if not any(overlaps[j, i] > iou for j in kept):
            kept.append(i)
    repeats = near_repeats(boxes.numpy().astype(np.int32), iou)
    assert np.flatnonzero(~repeats).tolist() == kept


@given(st.integers(1, 40), st.integers(0, 999))
def test_distinct_is_the_authors_order_with_repeats_behind(count: int, seed: int) -> None:
    boxes = (random_boxes(2 * count - 1, seed) / 8).numpy().astype(np.int32)
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
    authors = rank([boxes], "authors", seed, 1)
    repeats = near_repeats(authors, NEAR)
    wanted = authors[~repeats].tolist() + authors[repeats].tolist()
    assert rank([boxes], "distinct", seed, 1).tolist() == wanted
