"""How anchors fit boxes, against loops over boxes and anchors."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from detkit.detectors import Scale
from detkit.doctor.anchor_fit import fit_anchors

SCALES = (Scale(8, (1, 3)), Scale(16, (0,)), Scale(32, (2,)))


def draw(count: int, seed: int) -> Tensor:
    return torch.rand(count, 2, generator=torch.Generator().manual_seed(seed)) * 50 + 1


def best_by_loop(sizes: Tensor, anchors: Tensor) -> tuple[list[float], list[int]]:
    best, owners = [], []
    for w, h in sizes.tolist():
        ious = []
        for aw, ah in anchors.tolist():
            inter = min(w, aw) * min(h, ah)
            ious.append(inter / (w * h + aw * ah - inter))
        best.append(max(ious))
        owners.append(ious.index(max(ious)))
    return best, owners


def test_figures_against_a_loop() -> None:
    sizes, anchors = draw(50, 0), draw(4, 1)
    best, owners = best_by_loop(sizes, anchors)
    fit = fit_anchors(sizes, anchors, SCALES)
    assert fit.average_iou == pytest.approx(np.mean(best))
    assert fit.recall == pytest.approx(np.mean([iou >= 0.5 for iou in best]))
    assert fit.shares.tolist() == pytest.approx([owners.count(a) / 50 for a in range(4)])


def test_a_scale_has_the_objects_of_its_anchors() -> None:
    sizes, anchors = draw(50, 2), draw(4, 3)
    best, owners = best_by_loop(sizes, anchors)
    parts = list(fit_anchors(sizes, anchors, SCALES).of_scales())
    assert [scale for scale, _ in parts] == list(SCALES)
    for scale, part in parts:
        mine = [iou for iou, owner in zip(best, owners, strict=True) if owner in scale.anchors]
        assert part.ious.tolist() == pytest.approx(mine)
        assert part.recall == pytest.approx(np.mean([iou >= 0.5 for iou in mine]))
    assert sum(len(part.ious) for _, part in parts) == 50


def test_no_objects_have_no_figures() -> None:
    fit = fit_anchors(torch.zeros(0, 2), draw(4, 0), SCALES)
    assert math.isnan(fit.average_iou)
    assert math.isnan(fit.recall)
    assert [len(part.ious) for _, part in fit.of_scales()] == [0, 0, 0]
