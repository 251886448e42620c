"""What the grids of the YOLOs share, each against the slow loop that its name describes."""

from __future__ import annotations

import math

import pytest
import torch
import torchvision.ops
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from detkit.ops.boxes import cxcywh_to_xyxy
from detkit.ops.grid import (
    best_iou_with_objects,
    claim_anchors,
    class_factors,
    decode_cells,
    first_in_cell,
    image_of_object,
    last_claim,
    overlap_loss,
    own_cell,
)
from tests.oracles import random_boxes

seeds = st.integers(0, 9999)
counts = st.lists(st.integers(0, 5), min_size=1, max_size=4)  # objects of each image
sides = st.integers(1, 5)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


@given(st.integers(1, 2), st.integers(1, 3), sides, sides, seeds)
def test_decoding_is_the_papers_formula(
    batch: int, anchors: int, height: int, width: int, seed: int
) -> None:
    raw = torch.randn(batch, anchors, height, width, 6, generator=seeded(seed)).double()
    sizes = torch.rand(anchors, 2, generator=seeded(seed + 1)).double() + 0.1
    found = decode_cells(raw, sizes)
    assert found.shape == (batch, anchors, height, width, 4)
    for b in range(batch):
        for a in range(anchors):
            for row in range(height):
                for column in range(width):
                    tx, ty, tw, th = raw[b, a, row, column, :4].tolist()
                    pw, ph = sizes[a].tolist()
                    expected = [sigmoid(tx) + column, sigmoid(ty) + row]
                    expected += [pw * math.exp(tw), ph * math.exp(th)]
                    assert found[b, a, row, column].tolist() == pytest.approx(expected)


@given(sides, sides, seeds)
def test_a_prediction_never_leaves_its_cell(height: int, width: int, seed: int) -> None:
    raw = 20 * torch.randn(1, 2, height, width, 4, generator=seeded(seed))
    raw[..., 2:] = 0
    centres = decode_cells(raw, torch.ones(2, 2))[0, ..., :2].reshape(2, -1, 2)
    rows = torch.arange(height * width) // width
    columns = torch.arange(height * width) % width
    for axis, cells in enumerate((columns, rows)):
        assert (centres[..., axis] >= cells).all()
        assert (centres[..., axis] <= cells + 1).all()


@given(st.lists(st.tuples(st.floats(0, 7), st.floats(0, 5)), max_size=20), st.integers(1, 5), sides)
def test_own_cell_is_the_floor_and_lies_on_the_grid(
    points: list[tuple[float, float]], height: int, width: int
) -> None:
    centres = torch.tensor(points, dtype=torch.float64).reshape(-1, 2)
    expected = [[min(math.floor(x), width - 1), min(math.floor(y), height - 1)] for x, y in points]
    assert own_cell(centres, (height, width)).tolist() == expected


def test_a_centre_on_the_far_edge_is_inside() -> None:
    corners = torch.tensor([[0.0, 0.0], [4.0, 3.0], [3.999, 2.0], [-0.5, -0.5]])
    assert own_cell(corners, (3, 4)).tolist() == [[0, 0], [3, 2], [3, 2], [0, 0]]


@given(counts)
def test_image_of_object_counts_on(objects: list[int]) -> None:
    expected = [image for image, count in enumerate(objects) for _ in range(count)]
    found = image_of_object([torch.zeros(count, 4) for count in objects])
    assert found.dtype == torch.int64
    assert found.tolist() == expected


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=12))
def test_the_first_that_claims_a_cell_has_it(objects: list[tuple[int, bool]]) -> None:
    taken: set[int] = set()
    expected = []
    for cell, claims in objects:
        expected.append(claims and cell not in taken)
        if claims:
            taken.add(cell)
    cells = torch.tensor([cell for cell, _ in objects], dtype=torch.int64)
    claim = torch.tensor([claims for _, claims in objects], dtype=torch.bool)
    assert first_in_cell(cells, claim, 6).tolist() == expected


def test_class_factors_are_the_weights_of_the_labels_of_owners_that_stay() -> None:
    stays, labels = torch.tensor([1.0, 0.0, 1.0]), torch.tensor([2, 2, 0])
    assert class_factors(stays, labels, ()).tolist() == [1, 0, 1]
    assert class_factors(stays, labels, (0.5, 3, 7)).tolist() == [7, 0, 0.5]


@given(counts, st.integers(1, 10), seeds)
def test_best_iou_is_torchvisions_largest_of_the_image(
    objects: list[int], predictions: int, seed: int
) -> None:
    gt_lists = [random_boxes(count, seed + image) for image, count in enumerate(objects)]
    preds = torch.stack(
        [random_boxes(predictions, seed + 50 + image) for image in range(len(objects))]
    )
    found = best_iou_with_objects(preds, gt_lists)
    assert found.shape == (len(objects), predictions)
    for image, gt in enumerate(gt_lists):
        iou = torchvision.ops.box_iou(preds[image], gt)
        expected = iou.amax(dim=1) if len(gt) else torch.zeros(predictions)
        torch.testing.assert_close(found[image], expected)


def test_no_objects_anywhere_overlap_nothing() -> None:
    """Not even a prediction at the origin, where the row that stands for no object lies."""
    preds = torch.tensor([[[-1.0, -1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]]])
    assert best_iou_with_objects(preds, [torch.zeros(0, 4)]).tolist() == [[0.0, 0.0]]


@given(st.integers(0, 6), st.integers(1, 5), seeds, st.sampled_from([None, 0.0, 0.3, 0.9]))
def test_claims_are_the_best_anchors_after_those_that_fit(
    objects: int, anchors: int, seed: int, positive_iou: float | None
) -> None:
    overlaps = torch.rand(objects, anchors, generator=seeded(seed))
    best, others = [], []
    for m, row in enumerate(overlaps.tolist()):
        winner = row.index(max(row))
        best.append((m, winner))
        for a in range(anchors):
            if a != winner and positive_iou is not None and overlaps[m, a] >= positive_iou:
                others.append((m, a))
    found = [claim.tolist() for claim in claim_anchors(overlaps, positive_iou)]
    assert list(zip(*found, strict=True)) == others + best


def test_of_equally_good_anchors_the_first_is_the_best() -> None:
    overlaps = torch.tensor([[0.2, 0.7, 0.7], [0.5, 0.5, 0.5]])
    assert claim_anchors(overlaps, None)[1].tolist() == [1, 0]
    objects, anchors = claim_anchors(overlaps, 0.7)  # at least, not above
    assert (objects.tolist(), anchors.tolist()) == ([0, 0, 1], [2, 1, 0])


@given(st.lists(st.integers(0, 7), max_size=12))
def test_the_last_claim_stands(slots: list[int]) -> None:
    expected = [-1] * 8
    for index, slot in enumerate(slots):
        expected[slot] = index
    assert last_claim(torch.tensor(slots, dtype=torch.int64), 8).tolist() == expected


def random_places(n: int, seed: int) -> Tensor:
    generator = seeded(seed)
    centres = torch.rand(n, 2, generator=generator, dtype=torch.float64)
    return torch.cat([centres, torch.randn(n, 2, generator=generator, dtype=torch.float64)], dim=1)


@given(st.integers(0, 8), seeds)
def test_overlap_loss_is_torchvisions_of_the_decoded_boxes(n: int, seed: int) -> None:
    """Wherever the cells lie: here each pair is moved to a cell of its own."""
    pred, truth = random_places(n, seed), random_places(n, seed + 1)
    anchors = torch.rand(n, 2, generator=seeded(seed + 2)).double() + 0.2
    cells = torch.randint(13, (n, 2), generator=seeded(seed + 3)).double()
    boxes = [
        cxcywh_to_xyxy(torch.cat([p[:, :2] + cells, p[:, 2:].exp() * anchors], dim=1))
        for p in (pred, truth)
    ]
    generalised = torchvision.ops.generalized_box_iou_loss(*boxes)
    complete = torchvision.ops.complete_box_iou_loss(*boxes)
    torch.testing.assert_close(
        overlap_loss(pred, truth, anchors, "giou"), generalised, rtol=1e-5, atol=1e-5
    )
    torch.testing.assert_close(
        overlap_loss(pred, truth, anchors, "ciou"), complete, rtol=1e-5, atol=1e-5
    )
