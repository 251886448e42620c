"""YOLOv2 against the reference code's golden values and against slow loops."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from detkit.backbones import BACKBONES
from detkit.config import parse
from detkit.detectors import build_detector
from detkit.detectors.yolo_v2 import (
    STRIDE,
    YoloV2,
    YoloV2Config,
    assign,
    decode,
    select,
    yolo_v2_loss,
)
from detkit.errors import ConfigError, DetkitError
from detkit.layers import reorg
from detkit.types import Losses, Target, make_target

VOC_ANCHORS = torch.tensor(YoloV2Config(num_classes=1).anchors_cells)
TINY = {"backbone": "darknet_tiny", "passthrough": False}
LOSS_NAMES = {"loss_coord", "loss_prior", "loss_obj", "loss_noobj", "loss_class"}


def small_model(**changes: Any) -> YoloV2:
    torch.manual_seed(0)
    settings = {"num_classes": 2, "backbone": "tiny", "head_channels": 32, "input_size": 64}
    return YoloV2(YoloV2Config(**(settings | changes)))


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


def test_class_weights_are_one_a_class() -> None:
    with pytest.raises(ConfigError) as caught:
        parse(YoloV2Config, {"num_classes": 3, "class_weights": [1, 2]}, path="model.")
    assert str(caught.value) == (
        "model.class_weights: expected one weight of 0 or more for each class, got [1.0, 2.0]."
    )


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


def test_reorg_is_the_loop_of_the_source_and_not_pixel_unshuffle() -> None:
    x = torch.randn(2, 8, 6, 4, generator=torch.Generator().manual_seed(0))
    batch, channels, height, width = x.shape
    flat, out, stride = x.flatten(), torch.zeros(x.numel()), 2
    narrow = channels // stride**2
    for b in range(batch):  # blas.c: reorg_cpu, written out
        for k in range(channels):
            for j in range(height):
                for i in range(width):
                    column = i * stride + (k // narrow) % stride
                    row = j * stride + (k // narrow) // stride
                    source = column + width * stride * (
                        row + height * stride * (k % narrow + narrow * b)
                    )
                    out[i + width * (j + height * (k + channels * b))] = flat[source]
    expected = out.view(batch, channels * 4, height // 2, width // 2)
    assert torch.equal(reorg(x), expected)
    assert not torch.equal(reorg(x), torch.nn.functional.pixel_unshuffle(x, 2))


@pytest.mark.parametrize(
    ("settings", "size", "learnable", "gflops"),
    [
        ({"num_classes": 20}, 416, 50_655_389, 29.360),
        ({"num_classes": 20}, 288, 50_655_389, 14.072),
        ({"num_classes": 20}, 544, 50_655_389, 50.208),
        ({"num_classes": 80}, 608, 50_962_889, 62.938),
        ({"num_classes": 80}, 416, 50_962_889, 29.464),
        (TINY | {"num_classes": 20}, 416, 15_861_773, 6.971),
        (TINY | {"num_classes": 80, "head_channels": 512}, 416, 11_232_057, 5.406),
    ],
)
def test_sizes_of_the_published_networks(
    settings: dict[str, Any], size: int, learnable: int, gflops: float
) -> None:
    with torch.device("meta"):
        model = YoloV2(YoloV2Config(**settings)).eval()
        pixels = torch.zeros(1, 3, size, size)
    assert sum(parameter.numel() for parameter in model.parameters()) == learnable
    with FlopCounterMode(display=False) as counter:
        out = model.network(pixels)
    assert counter.get_total_flops() / 1e9 == pytest.approx(gflops, abs=5e-4)
    assert out.shape == (1, 5, size // 32, size // 32, 5 + settings["num_classes"])


def slow_loss(
    raw: Tensor, targets: list[Target], anchors: Tensor, config: YoloV2Config, seen: int
) -> float:
    """The region layer as nested loops over cells and objects, in plain Python."""
    batch, num_anchors, height, width, _ = raw.shape
    total = 0.0
    for b in range(batch):
        truths = []
        for box in (targets[b].boxes / STRIDE).tolist():
            x1, y1, x2, y2 = box
            truths.append(((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1))
        owner: dict[tuple[int, int, int], int] = {}
        for m, (x, y, w, h) in enumerate(truths):
            overlaps = []
            for pw, ph in anchors.tolist():
                inter = min(w, pw) * min(h, ph)
                overlaps.append(inter / (w * h + pw * ph - inter))
            owner[overlaps.index(max(overlaps)), int(y), int(x)] = m  # the later one stays
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
                    scale = 2 - w * h / (width * height)
                    errors = (x - column - sx, y - row - sy)
                    errors += (math.log(w / pw) - out[2], math.log(h / ph) - out[3])
                    total += 0.5 * scale * sum(error**2 for error in errors)
                    goal = ious[m] if config.rescore else 1.0
                    total += 0.5 * config.object_scale * (goal - so) ** 2
                    classes = out[5:]
                    log_sum = math.log(sum(math.exp(c) for c in classes))
                    total += log_sum - classes[int(targets[b].labels[m])]
    return total / batch


def slow_iou(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """IoU of two (centre x, centre y, width, height)."""
    overlap = 1.0
    for axis in (0, 1):
        low = max(a[axis] - a[axis + 2] / 2, b[axis] - b[axis + 2] / 2)
        high = min(a[axis] + a[axis + 2] / 2, b[axis] + b[axis + 2] / 2)
        overlap *= max(high - low, 0.0)
    return overlap / (a[2] * a[3] + b[2] * b[3] - overlap)


@given(st.lists(st.integers(0, 6), min_size=1, max_size=3), st.integers(0, 999), st.booleans())
@settings(max_examples=25)
def test_loss_is_the_slow_loop(counts: list[int], seed: int, rescore: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    raw = torch.randn(len(counts), 5, 3, 4, 5 + 2, generator=generator, dtype=torch.float64)
    anchors = VOC_ANCHORS.double() / 3
    canvas = torch.tensor([4 * STRIDE, 3 * STRIDE], dtype=torch.float64)
    targets = []
    for count in counts:  # also objects that cross the edge, and several in one cell
        centre = torch.rand(count, 2, generator=generator, dtype=torch.float64) * canvas
        half = (torch.rand(count, 2, generator=generator, dtype=torch.float64) * 60 + 2).round()
        labels = torch.randint(2, (count,), generator=generator)
        targets.append(make_target(torch.cat([centre - half, centre + half], dim=1), labels))
    config = YoloV2Config(num_classes=2, rescore=rescore)
    for seen in (0, config.prior_images):
        owners = assign(raw, targets, anchors, config)
        losses = yolo_v2_loss(raw, owners, config, seen=seen)
        assert set(losses) == LOSS_NAMES
        total = sum(losses.values()).item()
        assert total == pytest.approx(slow_loss(raw, targets, anchors, config, seen), rel=1e-6)


def test_several_objects_in_one_cell_keep_their_own_anchors() -> None:
    raw = torch.zeros(1, 5, 4, 4, 7)
    boxes = torch.tensor([[40.0, 40.0, 56.0, 60.0], [0.0, 0.0, 100.0, 128.0]])  # centres in (1, 1)
    owners = assign(
        raw, [make_target(boxes, torch.tensor([0, 1]))], VOC_ANCHORS, YoloV2Config(num_classes=2)
    )
    assert len(set(owners.slots.tolist())) == 2
    assert owners.stays.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("images", [1, 3])
def test_images_without_objects_train(images: int) -> None:
    model = small_model().train()
    empty = make_target(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    pictures = [torch.full((3, 50, 70), 90, dtype=torch.uint8) for _ in range(images)]
    losses = model(pictures, [empty] * images)
    assert set(losses) == LOSS_NAMES
    total = sum(losses.values())
    assert torch.isfinite(total)
    total.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_decode_puts_a_centred_box_where_the_formula_says() -> None:
    raw = torch.zeros(1, 1, 2, 3, 5 + 2)
    raw[0, 0, 1, 2, 2] = math.log(2.0)  # twice as wide as its anchor
    boxes, scores = decode(raw, torch.tensor([[1.5, 0.5]]))
    assert boxes.shape == (1, 6, 4)
    assert boxes[0, 5].tolist() == pytest.approx([80 - 48, 48 - 8, 80 + 48, 48 + 8])
    assert scores.flatten().tolist() == pytest.approx([0.25] * 12)  # 0.5 objectness, 2 classes


def test_select_is_greedy_per_class_and_reports_a_box_for_each_of_its_classes() -> None:
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [1.0, 0.0, 11.0, 10.0], [50.0, 50.0, 60.0, 60.0]])
    scores = torch.tensor([[0.9, 0.3], [0.8, 0.0], [0.004, 0.5]])
    found = select(boxes, scores, YoloV2Config(num_classes=2))
    assert found.scores.tolist() == pytest.approx([0.9, 0.5, 0.3])
    assert found.labels.tolist() == [0, 1, 1]
    assert found.boxes[:, 0].tolist() == [0.0, 50.0, 0.0]


def test_batch_equals_one_by_one_and_the_canvas_may_be_oblong() -> None:
    model = small_model(input_size=(64, 96)).eval()
    generator = torch.Generator().manual_seed(3)
    sizes = [(64, 96), (40, 100), (120, 31)]
    pictures = [torch.randint(256, (3, *s), generator=generator, dtype=torch.uint8) for s in sizes]
    together = model(pictures)
    for picture, found in zip(pictures, together, strict=True):
        (alone,) = model([picture])
        assert len(alone) == len(found) > 0
        torch.testing.assert_close(alone.boxes, found.boxes, rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(alone.scores, found.scores, rtol=1e-4, atol=1e-5)
        limits = torch.tensor([picture.shape[2], picture.shape[1]] * 2)
        assert (found.boxes >= 0).all()
        assert (found.boxes <= limits).all()
        assert (found.scores.diff() <= 0).all()


def test_difficult_objects_are_absent_from_training() -> None:
    model = small_model().train()
    picture = [torch.full((3, 64, 64), 90, dtype=torch.uint8)]
    box, label = torch.tensor([[8.0, 8.0, 40.0, 40.0]]), torch.tensor([1])
    yes, no = torch.tensor([True]), torch.tensor([False])
    hard = Target(box, label, difficult=yes, crowd=no)
    assert model(picture, [hard])["loss_class"] == 0
    assert model(picture, [make_target(box, label)])["loss_class"] > 0


def test_multi_scale_draws_every_ten_batches_and_ends_at_the_largest() -> None:
    sizes = [320, 416, 608]
    model = small_model(train_sizes=sizes, train_size_last=20)
    drawn = [model.train_size(step, 400, seed=5) for step in range(400)]
    assert all(len(set(drawn[i : i + 10])) == 1 for i in range(0, 380, 10))
    assert set(drawn) == {(size, size) for size in sizes}
    assert set(drawn[380:]) == {(608, 608)}
    assert drawn == [model.train_size(step, 400, seed=5) for step in range(400)]
    assert drawn != [model.train_size(step, 400, seed=6) for step in range(400)]


@pytest.mark.parametrize("backbone", [name for name in BACKBONES if 16 in BACKBONES[name].strides])
def test_any_backbone_goes_under_the_head(backbone: str) -> None:
    model = small_model(backbone=backbone).eval()
    out = model.network(torch.zeros(1, 3, 64, 96))
    assert out.shape == (1, 5, 2, 3, 7)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"nms_iuo": 0.5}, "model.nms_iuo: unknown key. Did you mean 'nms_iou'?"),
        ({"input_size": 400}, "model.input_size: [400, 400] is not made of multiples of 32."),
        (
            {"anchors_cells": []},
            "model.anchors_cells: expected one or more [width, height] above 0, in cells.",
        ),
        ({"backbone": "resnet5"}, "no backbone named 'resnet5'. Did you mean 'resnet50'?"),
    ],
)
def test_mistakes_get_a_sentence(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(DetkitError) as caught:
        build_detector({"name": "yolo_v2", "num_classes": 2, **settings})
    assert str(caught.value) == sentence


@pytest.mark.gpu
def test_gpu_gives_what_the_cpu_gives() -> None:
    model = small_model().eval()
    picture = torch.randint(256, (3, 80, 60), dtype=torch.uint8)
    (here,) = model([picture])
    (there,) = model.cuda()([picture])
    torch.testing.assert_close(there.to("cpu").boxes, here.boxes, rtol=1e-3, atol=0.05)
