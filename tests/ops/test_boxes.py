"""Box arithmetic against torchvision, against loops, and by its invariants."""

from __future__ import annotations

import math

import pytest
import torch
import torchvision.ops
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from detkit.ops import (
    box_area,
    box_iou,
    ciou,
    clip_boxes,
    cxcywh_to_xyxy,
    giou,
    pairwise_iou,
    scale_boxes,
    shift_boxes,
    size_iou,
    xywh_to_xyxy,
    xyxy_to_cxcywh,
    xyxy_to_xywh,
)
from tests.oracles import random_boxes

COUNTS = [(0, 3), (3, 0), (0, 0), (1, 1), (50, 20)]
counts = st.integers(0, 30)
seeds = st.integers(0, 9999)


@pytest.mark.parametrize(("n", "m"), COUNTS)
def test_box_iou_agrees_with_torchvision(n: int, m: int) -> None:
    a, b = random_boxes(n, seed=1), random_boxes(m, seed=2)
    torch.testing.assert_close(box_iou(a, b), torchvision.ops.box_iou(a, b))


@pytest.mark.parametrize("n", [0, 1, 40])
def test_giou_agrees_with_torchvision(n: int) -> None:
    a, b = random_boxes(n, seed=1), random_boxes(n, seed=2)
    expected = torchvision.ops.generalized_box_iou(a, b).diagonal()
    torch.testing.assert_close(giou(a, b), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("n", [0, 1, 40])
def test_ciou_and_its_gradient_agree_with_torchvision(n: int) -> None:
    """The gradient too: the weight of the shape's term is a constant in both."""
    ours = random_boxes(n, seed=1).double().requires_grad_()
    theirs = ours.detach().clone().requires_grad_()
    other = torch.cat([ours.detach()[: n // 2] + 3, random_boxes(n - n // 2, seed=2).double()])
    found = ciou(ours, other)
    expected = 1 - torchvision.ops.complete_box_iou_loss(theirs, other)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    found.sum().backward()
    expected.sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-5, atol=1e-8)


def test_ciou_of_boxes_that_a_person_can_work_out() -> None:
    """Side by side, 1 x 1 and 1 x 3: no overlap, centres 1 and 1 apart in a hull of 2 x 3."""
    slant = math.atan(1) - math.atan(1 / 3)
    shape = 4 / math.pi**2 * slant**2
    expected = 0 - (1 + 1) / (4 + 9) - shape**2 / (1 + shape)
    boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0], [1.0, 0.0, 2.0, 3.0]])
    assert ciou(boxes[0], boxes[1]).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("n", [0, 1, 40])
def test_area_agrees_with_torchvision(n: int) -> None:
    boxes = random_boxes(n, seed=1)
    torch.testing.assert_close(box_area(boxes), torchvision.ops.box_area(boxes))


@pytest.mark.parametrize("n", [0, 1, 40])
@pytest.mark.parametrize(
    ("there", "back", "form"),
    [(xyxy_to_xywh, xywh_to_xyxy, "xywh"), (xyxy_to_cxcywh, cxcywh_to_xyxy, "cxcywh")],
)
def test_conversions_agree_with_torchvision(n: int, there, back, form: str) -> None:
    boxes = random_boxes(n, seed=1)
    other = torchvision.ops.box_convert(boxes, "xyxy", form)
    torch.testing.assert_close(there(boxes), other)
    torch.testing.assert_close(back(other), boxes, rtol=1e-5, atol=1e-3)


def slow_iou(a: list[float], b: list[float]) -> float:
    """The definition of the VOC challenge, for one pair with exclusive edges."""
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    return width * height / union if union > 0 else 0.0


def test_pairwise_iou_equals_a_slow_loop() -> None:
    a, b = random_boxes(30, seed=3), random_boxes(30, seed=4)
    expected = torch.tensor([slow_iou(x, y) for x, y in zip(a.tolist(), b.tolist(), strict=True)])
    torch.testing.assert_close(pairwise_iou(a, b), expected)


def test_leading_dimensions_are_kept() -> None:
    a, b = random_boxes(12, seed=1).view(3, 4, 4), random_boxes(6, seed=2).view(3, 2, 4)
    together = box_iou(a, b)
    assert together.shape == (3, 4, 2)
    for image in range(3):
        assert torch.equal(together[image], box_iou(a[image], b[image]))


def test_a_pixel_beside_a_pixel_does_not_overlap_it() -> None:
    """Edges are exclusive and nothing adds 1: two neighbours share a border, not an area."""
    left, right = torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.tensor([[1.0, 0.0, 2.0, 1.0]])
    assert box_area(left).item() == 1
    assert box_iou(left, right).item() == 0


@pytest.mark.parametrize("overlap", [box_iou, pairwise_iou])
def test_boxes_without_area_overlap_nothing_and_are_not_nan(overlap) -> None:
    empty = torch.tensor([[5.0, 5.0, 5.0, 5.0]])
    assert overlap(empty, empty).item() == 0
    assert overlap(empty, torch.tensor([[0.0, 0.0, 10.0, 10.0]])).item() == 0
    assert torch.isfinite(giou(empty, empty)).all()
    assert torch.isfinite(ciou(empty, empty)).all()


def test_reversed_boxes_have_no_area() -> None:
    assert box_area(torch.tensor([[5.0, 0.0, 3.0, 4.0], [5.0, 4.0, 3.0, 2.0]])).tolist() == [0, 0]


def test_gradients_are_finite_where_boxes_miss_each_other() -> None:
    a = torch.tensor([[0.0, 0.0, 1.0, 1.0], [2.0, 2.0, 2.0, 2.0]], requires_grad=True)
    b = torch.tensor([[5.0, 5.0, 6.0, 6.0], [2.0, 2.0, 2.0, 2.0]])
    (pairwise_iou(a, b) + giou(a, b) + ciou(a, b)).sum().backward()
    assert a.grad is not None
    assert a.grad.isfinite().all()


@given(counts, counts, seeds)
def test_iou_is_symmetric_and_in_bounds(n: int, m: int, seed: int) -> None:
    a, b = random_boxes(n, seed), random_boxes(m, seed + 1)
    iou = box_iou(a, b)
    assert torch.equal(iou, box_iou(b, a).T)
    assert ((iou >= 0) & (iou <= 1)).all()


@given(st.integers(1, 30), seeds, st.floats(0.1, 10), st.floats(-300, 300), st.floats(-300, 300))
def test_iou_survives_scaling_and_shifting(
    n: int, seed: int, scale: float, dx: float, dy: float
) -> None:
    a, b = random_boxes(n, seed), random_boxes(n, seed + 1)

    def moved(boxes: Tensor) -> Tensor:
        return shift_boxes(scale_boxes(boxes, (scale, scale)), (dx, dy))

    torch.testing.assert_close(
        pairwise_iou(moved(a), moved(b)), pairwise_iou(a, b), rtol=0, atol=2e-3
    )


@given(counts, seeds)
def test_a_box_overlaps_itself_wholly(n: int, seed: int) -> None:
    boxes = random_boxes(n, seed)
    torch.testing.assert_close(pairwise_iou(boxes, boxes), torch.ones(n))
    torch.testing.assert_close(giou(boxes, boxes), torch.ones(n))
    torch.testing.assert_close(ciou(boxes, boxes), torch.ones(n))


@given(counts, seeds)
def test_giou_is_never_above_iou(n: int, seed: int) -> None:
    a, b = random_boxes(n, seed), random_boxes(n, seed + 1)
    assert (giou(a, b) <= pairwise_iou(a, b) + 1e-6).all()
    assert (giou(a, b) >= -1).all()


@given(counts, seeds)
def test_ciou_is_never_above_iou(n: int, seed: int) -> None:
    a, b = random_boxes(n, seed), random_boxes(n, seed + 1)
    assert (ciou(a, b) <= pairwise_iou(a, b) + 1e-6).all()
    assert (ciou(a, b) >= -1.5).all()


@given(counts, seeds, st.integers(1, 500), st.integers(1, 500))
def test_clipped_boxes_lie_inside(n: int, seed: int, height: int, width: int) -> None:
    boxes = shift_boxes(random_boxes(n, seed), (-50.0, -20.0))
    clipped = clip_boxes(boxes, (height, width))
    expected = torchvision.ops.clip_boxes_to_image(boxes, (height, width))
    torch.testing.assert_close(clipped, expected)


@given(counts, counts, seeds)
def test_size_iou_is_box_iou_of_centred_boxes(n: int, m: int, seed: int) -> None:
    a, b = (
        xyxy_to_xywh(random_boxes(n, seed))[:, 2:],
        xyxy_to_xywh(random_boxes(m, seed + 1))[:, 2:],
    )
    centred = box_iou(torch.cat([-a / 2, a / 2], dim=1), torch.cat([-b / 2, b / 2], dim=1))
    torch.testing.assert_close(size_iou(a, b), centred, rtol=1e-4, atol=1e-5)


def test_scale_is_x_then_y() -> None:
    boxes = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    assert scale_boxes(boxes, (10.0, 100.0)).tolist() == [[10, 200, 30, 400]]
    assert shift_boxes(boxes, (10.0, 100.0)).tolist() == [[11, 102, 13, 104]]


def test_arguments_are_left_alone() -> None:
    boxes = random_boxes(5, seed=1)
    before = boxes.clone()
    for change in (xyxy_to_xywh, xyxy_to_cxcywh, xywh_to_xyxy, cxcywh_to_xyxy, box_area):
        change(boxes)
    clip_boxes(boxes, (10, 10))
    shift_boxes(boxes, (1.0, 1.0))
    scale_boxes(boxes, (2.0, 2.0))
    assert torch.equal(boxes, before)
