"""Deltas against a loop, against torchvision's coder, and against Caffe's inclusive corners."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from detkit.ops.deltas import decode_deltas, encode_deltas
from tests.oracles import random_boxes

LIMIT = math.log(1000 / 16)
STDS = (0.1, 0.1, 0.2, 0.2)  # one over torchvision's weights
WEIGHTS = (10.0, 10.0, 5.0, 5.0)

Numbers = list[float]


def slow_encode(box: Numbers, gt: Numbers) -> Numbers:
    """The paper's four lines, one box."""
    w, h = box[2] - box[0], box[3] - box[1]
    gt_w, gt_h = gt[2] - gt[0], gt[3] - gt[1]
    return [
        ((gt[0] + gt_w / 2) - (box[0] + w / 2)) / w,
        ((gt[1] + gt_h / 2) - (box[1] + h / 2)) / h,
        math.log(gt_w / w),
        math.log(gt_h / h),
    ]


def slow_decode(box: Numbers, delta: Numbers, limit: float) -> Numbers:
    w, h = box[2] - box[0], box[3] - box[1]
    x, y = box[0] + w / 2 + delta[0] * w, box[1] + h / 2 + delta[1] * h
    w, h = w * math.exp(min(delta[2], limit)), h * math.exp(min(delta[3], limit))
    return [x - w / 2, y - h / 2, x + w / 2, y + h / 2]


def random_deltas(n: int, seed: int) -> Tensor:
    return torch.randn(n, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("n", [0, 1, 40])
def test_encode_equals_a_slow_loop(n: int) -> None:
    boxes, gt = random_boxes(n, 1).double(), random_boxes(n, 2).double()
    rows = [slow_encode(*pair) for pair in zip(boxes.tolist(), gt.tolist(), strict=True)]
    expected = torch.tensor(rows, dtype=torch.float64).reshape(-1, 4)
    torch.testing.assert_close(encode_deltas(boxes, gt), expected)
    divided = expected / torch.tensor(STDS, dtype=torch.float64)
    torch.testing.assert_close(encode_deltas(boxes, gt, STDS), divided)


@pytest.mark.parametrize("n", [0, 1, 40])
def test_decode_equals_a_slow_loop(n: int) -> None:
    boxes, deltas = random_boxes(n, 3).double(), 3 * random_deltas(n, 4)
    rows = [
        slow_decode(box, delta, LIMIT)
        for box, delta in zip(boxes.tolist(), deltas.tolist(), strict=True)
    ]
    expected = torch.tensor(rows, dtype=torch.float64).reshape(-1, 4)
    found = decode_deltas(boxes, deltas, max_log_scale=LIMIT)
    torch.testing.assert_close(found, expected)
    small = deltas / deltas.new_tensor(STDS)
    torch.testing.assert_close(decode_deltas(boxes, small, STDS, max_log_scale=LIMIT), expected)


def test_both_equal_torchvisions_coder() -> None:
    """Its weights are one over our standard deviations; both clamp what a box may grow."""
    from torchvision.models.detection._utils import BoxCoder

    coder = BoxCoder(WEIGHTS)
    boxes, gt = random_boxes(60, 5), random_boxes(60, 6)
    (expected,) = coder.encode([gt], [boxes])
    torch.testing.assert_close(encode_deltas(boxes, gt, STDS), expected)
    deltas = 20 * random_deltas(60, 7).float()
    deltas[:10, 2:] = 100.0  # e to the 20th; the clamp makes 62.5 of it
    expected = coder.decode(deltas, [boxes])[:, 0]
    found = decode_deltas(boxes, deltas, STDS, max_log_scale=LIMIT)
    torch.testing.assert_close(found, expected)
    sides = (found[:, 2:] - found[:, :2]) / (boxes[:, 2:] - boxes[:, :2])
    torch.testing.assert_close(sides[:10], torch.full((10, 2), 62.5), rtol=1e-3, atol=0)
    plain = BoxCoder((1.0, 1.0, 1.0, 1.0))
    expected = plain.decode(deltas / 20, [boxes])[:, 0]
    torch.testing.assert_close(decode_deltas(boxes, deltas / 20, max_log_scale=LIMIT), expected)


def test_boxes_of_several_classes_are_decoded_at_once() -> None:
    boxes = random_boxes(7, 8).double()
    deltas = random_deltas(7 * 3, 9).view(7, 3, 4)
    found = decode_deltas(boxes[:, None], deltas, max_log_scale=LIMIT)
    for label in range(3):
        one = decode_deltas(boxes, deltas[:, label], max_log_scale=LIMIT)
        torch.testing.assert_close(found[:, label], one)


@given(st.integers(0, 20), st.integers(0, 9999), st.booleans())
def test_decoding_undoes_encoding(n: int, seed: int, normalised: bool) -> None:
    boxes, gt = random_boxes(n, seed), random_boxes(n, seed + 1)
    stds = STDS if normalised else (1.0, 1.0, 1.0, 1.0)
    deltas = encode_deltas(boxes, gt, stds)
    back = decode_deltas(boxes, deltas, stds, max_log_scale=math.log(1000))
    torch.testing.assert_close(back, gt, rtol=1e-4, atol=0.01)  # a hundredth of a pixel


def test_a_box_says_nothing_of_itself() -> None:
    boxes = random_boxes(9, 10)
    assert torch.equal(encode_deltas(boxes, boxes), torch.zeros(9, 4))
    still = decode_deltas(boxes, torch.zeros(9, 4), max_log_scale=LIMIT)
    torch.testing.assert_close(still, boxes)


def test_endless_deltas_give_no_infinite_box() -> None:
    boxes = torch.tensor([[10.0, 10.0, 26.0, 26.0]])
    deltas = torch.tensor([[0.0, 0.0, 1e9, float("inf")]])
    found = decode_deltas(boxes, deltas, max_log_scale=LIMIT)
    torch.testing.assert_close(found, torch.tensor([[-482.0, -482.0, 518.0, 518.0]]))


# --------------------------------------------------------- Caffe's boxes of inclusive corners


def caffe_transform(box: Numbers, gt: Numbers) -> Numbers:
    """py-faster-rcnn's ``bbox_transform``: corners are pixels, so a width is one more."""
    w, h = box[2] - box[0] + 1, box[3] - box[1] + 1
    gt_w, gt_h = gt[2] - gt[0] + 1, gt[3] - gt[1] + 1
    return [
        (gt[0] + 0.5 * gt_w - (box[0] + 0.5 * w)) / w,
        (gt[1] + 0.5 * gt_h - (box[1] + 0.5 * h)) / h,
        math.log(gt_w / w),
        math.log(gt_h / h),
    ]


def caffe_transform_inverse(box: Numbers, delta: Numbers) -> Numbers:
    """``bbox_transform_inv``: widths as above, but no 1 is taken from x2 and y2 at the end."""
    w, h = box[2] - box[0] + 1, box[3] - box[1] + 1
    x, y = delta[0] * w + box[0] + 0.5 * w, delta[1] * h + box[1] + 0.5 * h
    w, h = math.exp(delta[2]) * w, math.exp(delta[3]) * h
    return [x - 0.5 * w, y - 0.5 * h, x + 0.5 * w, y + 0.5 * h]


def exclusive(boxes: Tensor) -> Tensor:
    return boxes + boxes.new_tensor([0.0, 0.0, 1.0, 1.0])


def inclusive_boxes(n: int, seed: int) -> Tensor:
    return random_boxes(n, seed).double().round()


def test_encoding_equals_caffes_of_inclusive_corners() -> None:
    boxes, gt = inclusive_boxes(50, 11), inclusive_boxes(50, 12)
    rows = [caffe_transform(*pair) for pair in zip(boxes.tolist(), gt.tolist(), strict=True)]
    found = encode_deltas(exclusive(boxes), exclusive(gt))
    torch.testing.assert_close(found, torch.tensor(rows, dtype=torch.float64))


def test_what_caffe_decodes_has_exclusive_edges_already() -> None:
    """Ours equals its numbers as they are: a box goes in inclusive there and comes out exclusive.

    So the two agree on every edge of a decoded box. They part afterwards: Caffe's suppression and
    its evaluation take those numbers for inclusive corners and add the 1 once more.
    """
    boxes, deltas = inclusive_boxes(50, 13), random_deltas(50, 14)
    rows = [
        caffe_transform_inverse(box, delta)
        for box, delta in zip(boxes.tolist(), deltas.tolist(), strict=True)
    ]
    expected = torch.tensor(rows, dtype=torch.float64)
    found = decode_deltas(exclusive(boxes), deltas, max_log_scale=10.0)
    torch.testing.assert_close(found, expected)
    still = decode_deltas(exclusive(boxes), torch.zeros_like(deltas), max_log_scale=10.0)
    torch.testing.assert_close(still, exclusive(boxes))
    unmoved = [caffe_transform_inverse(box, [0.0] * 4) for box in boxes.tolist()]
    grown = torch.tensor(unmoved, dtype=torch.float64) - boxes
    torch.testing.assert_close(grown, torch.tensor([[0.0, 0.0, 1.0, 1.0]]).double().expand(50, 4))
