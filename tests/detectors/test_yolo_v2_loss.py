"""YOLOv2's assignment and loss against the source's golden values and against slow loops."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from detkit.detectors.darknet_cost import yolo_v2_deltas
from detkit.detectors.yolo_v2 import (
    STRIDE,
    Owners,
    YoloV2Config,
    assign,
    decode,
    yolo_v2_loss,
)
from detkit.types import Target, make_target

VOC_ANCHORS = torch.tensor(YoloV2Config(num_classes=1).anchors_cells)
LOSS_NAMES = {"loss_coord", "loss_prior", "loss_obj", "loss_noobj", "loss_class"}


def golden_input(*shape: int) -> Tensor:
    """The specification's input: a(i) = 1.5 sin(0.37 i + 0.2) at flat index i."""
    index = torch.arange(math.prod(shape), dtype=torch.float64)
    return (1.5 * torch.sin(0.37 * index + 0.2)).float().view(shape)


def golden_target() -> Target:
    """Three objects on a 4 x 4 grid; the first and the last claim the same slot."""
    truths = torch.tensor(
        [[0.30, 0.40, 0.20, 0.22], [0.80, 0.20, 0.60, 0.90], [0.31, 0.41, 0.19, 0.23]]
    )
    centre, half = truths[:, :2], truths[:, 2:] / 2
    boxes = torch.cat([centre - half, centre + half], dim=1) * 4 * STRIDE  # canvas pixels
    return make_target(boxes, torch.tensor([1, 2, 0]))


def golden_region() -> tuple[Tensor, Owners, YoloV2Config]:
    raw = golden_input(1, 5, 8, 4, 4).permute(0, 1, 3, 4, 2)
    config = YoloV2Config(num_classes=3)
    return raw, assign(raw, [golden_target()], VOC_ANCHORS, config), config


@pytest.mark.parametrize(
    ("seen", "cost", "total", "nonzero", "parts"),
    [
        (0, 69.9904, -49.6262, 406, (2.0504, 30.7672, 36.3932, 0.7797)),
        (12_800, 69.9718, -49.6222, 94, (2.0496, 30.7494, 36.3932, 0.7797)),
    ],
)
def test_darknet_cost_is_what_the_source_prints(
    seen: int, cost: float, total: float, nonzero: int, parts: tuple[float, ...]
) -> None:
    raw, owners, config = golden_region()
    deltas = yolo_v2_deltas(raw, owners, config, seen=seen)
    assert deltas.square().sum().item() == pytest.approx(cost, rel=1e-4)
    assert deltas.sum().item() == pytest.approx(total, rel=1e-4)
    assert int((deltas != 0).sum()) == nonzero
    squares = deltas.square()
    found = [squares[..., span].sum().item() for span in (slice(2), slice(2, 4), 4, slice(5, None))]
    assert found == pytest.approx(parts, rel=1e-4)


@pytest.mark.parametrize("seen", [0, 12_800])
@pytest.mark.parametrize("changes", [{}, {"rescore": False, "class_weights": (0.5, 7.0, 3.0)}])
def test_loss_has_the_gradient_of_the_source(seen: int, changes: dict[str, Any]) -> None:
    """What darknet stores is minus the gradient, taken after the sigmoid of x, y, objectness."""
    raw, owners, config = golden_region()
    config = YoloV2Config(num_classes=3, **changes)
    raw = raw.clone().requires_grad_()
    losses = yolo_v2_loss(raw, owners, config, seen=seen)
    (gradient,) = torch.autograd.grad(sum(losses.values()), raw)
    slope = torch.ones_like(raw)
    for channel in (0, 1, 4):
        activated = raw[..., channel].sigmoid()
        slope[..., channel] = activated * (1 - activated)
    expected = -yolo_v2_deltas(raw, owners, config, seen=seen).view_as(raw) * slope
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-6)


def test_class_weights_scale_the_class_term_of_their_objects() -> None:
    """Two objects of two classes: the weighted term is the weighted sum of the two alone."""
    raw = torch.randn(1, 5, 4, 4, 5 + 3, generator=torch.Generator().manual_seed(3))
    boxes = torch.tensor([[10.0, 10.0, 50.0, 50.0], [70.0, 70.0, 120.0, 110.0]])
    labels = torch.tensor([0, 2])

    def class_loss(rows: list[int], weights: tuple[float, ...]) -> float:
        config = YoloV2Config(num_classes=3, class_weights=weights)
        target = make_target(boxes[rows], labels[rows])
        owners = assign(raw, [target], VOC_ANCHORS, config)
        return yolo_v2_loss(raw, owners, config, seen=0)["loss_class"].item()

    first, second = class_loss([0], ()), class_loss([1], ())
    weighted = class_loss([0, 1], (0.5, 7.0, 3.0))
    assert weighted == pytest.approx(0.5 * first + 3.0 * second, rel=1e-6)
    assert class_loss([0, 1], (1.0, 1.0, 1.0)) == class_loss([0, 1], ())


Box = tuple[float, ...]  # (centre x, centre y, width, height), cells
SlowOwners = dict[tuple[int, int, int], int]  # (anchor, row, column) -> the object it answers for


def slow_owners(truths: list[Box], anchors: list[list[float]], config: YoloV2Config) -> SlowOwners:
    """Who answers for what: first the anchors that merely fit, then the best, over them."""
    best: SlowOwners = {}
    more: SlowOwners = {}
    for m, (x, y, w, h) in enumerate(truths):
        overlaps = []
        for pw, ph in anchors:
            inter = min(w, pw) * min(h, ph)
            overlaps.append(inter / (w * h + pw * ph - inter))
        best[overlaps.index(max(overlaps)), int(y), int(x)] = m  # the later one stays
        for a, overlap in enumerate(overlaps):
            if config.positive_iou is not None and overlap >= config.positive_iou:
                more[a, int(y), int(x)] = m
    return more | best


def slow_box_cost(pred: Box, truth: Box, config: YoloV2Config) -> float:
    """1 less the generalised or complete IoU, as its paper writes it."""
    hull = []
    for axis in (0, 1):
        low = min(pred[axis] - pred[axis + 2] / 2, truth[axis] - truth[axis + 2] / 2)
        high = max(pred[axis] + pred[axis + 2] / 2, truth[axis] + truth[axis + 2] / 2)
        hull.append(high - low)
    iou = slow_iou(pred, truth)
    if config.box_loss == "giou":
        areas = pred[2] * pred[3] + truth[2] * truth[3]
        union = areas / (1 + iou)  # areas = union + intersection, iou = intersection / union
        return 1 - iou + (hull[0] * hull[1] - union) / (hull[0] * hull[1])
    apart = ((pred[0] - truth[0]) ** 2 + (pred[1] - truth[1]) ** 2) / (hull[0] ** 2 + hull[1] ** 2)
    slant = math.atan(truth[2] / truth[3]) - math.atan(pred[2] / pred[3])
    shape = 4 / math.pi**2 * slant**2
    return 1 - iou + apart + shape**2 / (1 - iou + shape)


def slow_loss(
    raw: Tensor, targets: list[Target], anchors: Tensor, config: YoloV2Config, seen: int
) -> float:
    """The region layer as nested loops over cells and objects, in plain Python."""
    batch, num_anchors, height, width, _ = raw.shape
    total = 0.0
    for b in range(batch):
        truths: list[Box] = []
        for x1, y1, x2, y2 in (targets[b].boxes / STRIDE).tolist():
            truths.append(((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1))
        owner = slow_owners(truths, anchors.tolist(), config)
        for a in range(num_anchors):
            pw, ph = anchors[a].tolist()
            for row in range(height):
                for column in range(width):
                    out = raw[b, a, row, column].tolist()
                    sx, sy, so = (1 / (1 + math.exp(-out[i])) for i in (0, 1, 4))
                    box = (column + sx, row + sy, pw * math.exp(out[2]), ph * math.exp(out[3]))
                    ious = [slow_iou(box, truth) for truth in truths]
                    m = owner.get((a, row, column))
                    if m is None:
                        if max(ious, default=0.0) <= config.ignore_iou:
                            total += 0.5 * config.noobject_scale * so**2
                        if seen < config.prior_images:
                            pull = (sx - 0.5) ** 2 + (sy - 0.5) ** 2 + out[2] ** 2 + out[3] ** 2
                            total += 0.5 * config.prior_scale * pull
                        continue
                    x, y, w, h = truths[m]
                    if config.box_loss == "squared":
                        scale = 2 - w * h / (width * height)
                        errors = (x - column - sx, y - row - sy)
                        errors += (math.log(w / pw) - out[2], math.log(h / ph) - out[3])
                        total += 0.5 * scale * sum(error**2 for error in errors)
                    else:
                        total += config.box_scale * slow_box_cost(box, truths[m], config)
                    goal = ious[m] if config.rescore else 1.0
                    total += 0.5 * config.object_scale * (goal - so) ** 2
                    label, classes = int(targets[b].labels[m]), out[5:]
                    factor = config.class_weights[label] if config.class_weights else 1.0
                    total += factor * (math.log(sum(math.exp(c) for c in classes)) - classes[label])
    return total / batch


def slow_iou(a: Box, b: Box) -> float:
    overlap = 1.0
    for axis in (0, 1):
        low = max(a[axis] - a[axis + 2] / 2, b[axis] - b[axis + 2] / 2)
        high = min(a[axis] + a[axis + 2] / 2, b[axis] + b[axis + 2] / 2)
        overlap *= max(high - low, 0.0)
    return overlap / (a[2] * a[3] + b[2] * b[3] - overlap)


def crowded_targets(counts: list[int], generator: torch.Generator) -> list[Target]:
    """Objects on a grid of 3 x 4 cells: some cross the edge, several share a cell."""
    canvas = torch.tensor([4 * STRIDE, 3 * STRIDE], dtype=torch.float64)
    targets = []
    for count in counts:
        centre = torch.rand(count, 2, generator=generator, dtype=torch.float64) * canvas
        half = (torch.rand(count, 2, generator=generator, dtype=torch.float64) * 60 + 2).round()
        labels = torch.randint(2, (count,), generator=generator)
        targets.append(make_target(torch.cat([centre - half, centre + half], dim=1), labels))
    return targets


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=3),
    st.integers(0, 999),
    st.fixed_dictionaries(
        {
            "rescore": st.booleans(),
            "box_loss": st.sampled_from(["squared", "giou", "ciou"]),
            "box_scale": st.sampled_from([1.0, 2.5]),
            "positive_iou": st.sampled_from([None, 0.2, 0.5]),
            "class_weights": st.sampled_from([(), (0.5, 3.0)]),
        }
    ),
)
@settings(max_examples=60)
def test_loss_is_the_slow_loop(counts: list[int], seed: int, options: dict[str, Any]) -> None:
    generator = torch.Generator().manual_seed(seed)
    raw = torch.randn(len(counts), 5, 3, 4, 5 + 2, generator=generator, dtype=torch.float64)
    anchors = VOC_ANCHORS.double() / 3
    targets = crowded_targets(counts, generator)
    config = YoloV2Config(num_classes=2, **options)
    owners = assign(raw, targets, anchors, config)
    for seen in (0, config.prior_images):
        losses = yolo_v2_loss(raw, owners, config, seen=seen)
        assert set(losses) == LOSS_NAMES
        total = sum(losses.values()).item()
        assert total == pytest.approx(slow_loss(raw, targets, anchors, config, seen), rel=1e-6)


@given(st.integers(1, 20), st.integers(0, 999))
@settings(max_examples=25)
def test_more_anchors_never_take_the_place_of_a_best_one(objects: int, seed: int) -> None:
    """Every prediction that the best anchors own is theirs with and without ``positive_iou``."""
    generator = torch.Generator().manual_seed(seed)
    raw = torch.zeros(1, 5, 3, 4, 5 + 2, dtype=torch.float64)
    targets = crowded_targets([objects], generator)
    owned = []
    for positive_iou in (None, 0.3):
        config = YoloV2Config(num_classes=2, positive_iou=positive_iou)
        owners = assign(raw, targets, VOC_ANCHORS.double(), config)
        stays = owners.stays > 0
        pairs = zip(owners.slots[stays].tolist(), owners.objects[stays].tolist(), strict=True)
        owned.append(set(pairs))
    assert owned[0] <= owned[1]


def test_several_anchors_answer_for_one_object_where_they_fit() -> None:
    anchors = torch.tensor([[1.0, 1.0], [1.0, 0.8], [3.0, 3.0]])
    box = torch.tensor([[40.0, 40.0, 72.0, 72.0]])  # one cell wide and high, in cell (1, 1)
    config = YoloV2Config(num_classes=2, positive_iou=0.8)
    owners = assign(
        torch.zeros(1, 3, 4, 4, 7), [make_target(box, torch.tensor([1]))], anchors, config
    )
    assert sorted(owners.slots.tolist()) == [5, 16 + 5]
    assert owners.stays.tolist() == [1.0, 1.0]
    assert owners.labels.tolist() == [1, 1]


@pytest.mark.parametrize("box_loss", ["giou", "ciou"])
def test_an_overlap_loss_draws_the_box_to_its_object(box_loss: str) -> None:
    """Followed downhill from a bad start, the box arrives."""
    anchors = torch.tensor([[1.0, 1.0]])
    target = make_target(torch.tensor([[30.0, 40.0, 84.0, 60.0]]), torch.tensor([0]))
    config = YoloV2Config(num_classes=2, box_loss=box_loss)
    raw = torch.zeros(1, 1, 3, 3, 7).requires_grad_()
    for step in range(400):
        losses = yolo_v2_loss(raw, assign(raw, [target], anchors, config), config, seen=0)
        (gradient,) = torch.autograd.grad(losses["loss_coord"], raw)
        raw = (raw - 0.1 * (1 - step / 400) * gradient).detach().requires_grad_()
    boxes, _ = decode(raw.detach(), anchors)
    torch.testing.assert_close(boxes[0, 4], target.boxes[0], rtol=0, atol=1.0)


def test_several_objects_in_one_cell_keep_their_own_anchors() -> None:
    raw = torch.zeros(1, 5, 4, 4, 7)
    boxes = torch.tensor([[40.0, 40.0, 56.0, 60.0], [0.0, 0.0, 100.0, 128.0]])  # centres in (1, 1)
    owners = assign(
        raw, [make_target(boxes, torch.tensor([0, 1]))], VOC_ANCHORS, YoloV2Config(num_classes=2)
    )
    assert len(set(owners.slots.tolist())) == 2
    assert owners.stays.tolist() == [1.0, 1.0]
