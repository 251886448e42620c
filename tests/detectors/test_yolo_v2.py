"""YOLOv2 against the reference code's golden values and against slow loops."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from detkit.detectors.yolo_v2 import (
    STRIDE,
    YoloV2,
    YoloV2Config,
    assign,
    decode,
    reorg,
    select,
    yolo_v2_loss,
)
from detkit.types import Losses, Target, make_target

VOC_ANCHORS = torch.tensor(YoloV2Config(num_classes=1).anchors_cells)


def golden_input(*shape: int) -> Tensor:
    """The specification's input: a(i) = 1.5 sin(0.37 i + 0.2) at flat index i."""
    index = torch.arange(math.prod(shape), dtype=torch.float64)
    return (1.5 * torch.sin(0.37 * index + 0.2)).float().view(shape)


def golden_target() -> Target:
    """Three objects on a 4 x 4 grid; the first and the last claim the same slot."""
    truths = torch.tensor([[0.30, 0.40, 0.20, 0.22], [0.80, 0.20, 0.60, 0.90], [0.31, 0.41, 0.19, 0.23]])
    centre, half = truths[:, :2], truths[:, 2:] / 2
    boxes = torch.cat([centre - half, centre + half], dim=1) * 4 * STRIDE  # canvas pixels
    return make_target(boxes, torch.tensor([1, 2, 0]))


def region_losses(seen: int) -> tuple[Tensor, Losses]:
    raw = golden_input(1, 5, 8, 4, 4).permute(0, 1, 3, 4, 2).requires_grad_()
    config = YoloV2Config(num_classes=3)
    owners = assign(raw.detach(), [golden_target()], VOC_ANCHORS, config)
    return raw, yolo_v2_loss(raw, owners, config, seen=seen)


def darknet_deltas(raw: Tensor, losses: Losses) -> Tensor:
    """What darknet stores: minus the gradient, taken after the sigmoid for x, y and objectness."""
    (gradient,) = torch.autograd.grad(sum(losses.values()), raw, retain_graph=True)
    slope = torch.ones_like(raw)
    for channel in (0, 1, 4):
        activated = raw[..., channel].sigmoid()
        slope[..., channel] = activated * (1 - activated)
    return (-gradient / slope).detach()


@pytest.mark.parametrize(
    ("seen", "cost", "total", "nonzero", "parts"),
    [
        (0, 69.9904, -49.6262, 406, (2.0504, 30.7672, 36.3932, 0.7797)),
        (12_800, 69.9718, -49.6222, 94, (2.0496, 30.7494, 36.3932, 0.7797)),
    ],
)
def test_loss_has_the_gradient_of_the_source(
    seen: int, cost: float, total: float, nonzero: int, parts: tuple[float, ...]
) -> None:
    raw, losses = region_losses(seen)
    deltas = darknet_deltas(raw, losses)
    squares = deltas.square()
    assert squares.sum().item() == pytest.approx(cost, rel=1e-4)
    assert deltas.sum().item() == pytest.approx(total, rel=1e-4)
    assert int((deltas.abs() > 1e-9).sum()) == nonzero
    found = [squares[..., span].sum().item() for span in (slice(2), slice(2, 4), 4, slice(5, None))]
    assert found == pytest.approx(parts, rel=1e-4)


def test_reorg_golden_vector() -> None:
    out = reorg(torch.arange(64.0).view(1, 4, 4, 4))
    assert out.shape == (1, 16, 2, 2)
    expected = [
        [0, 2, 4, 6, 16, 18, 20, 22, 32, 34, 36, 38, 48, 50, 52, 54],
        [1, 3, 5, 7, 17, 19, 21, 23, 33, 35, 37, 39, 49, 51, 53, 55],
        [8, 10, 12, 14, 24, 26, 28, 30, 40, 42, 44, 46, 56, 58, 60, 62],
        [9, 11, 13, 15, 25, 27, 29, 31, 41, 43, 45, 47, 57, 59, 61, 63],
    ]
    assert out.flatten().view(4, 16).tolist() == expected
