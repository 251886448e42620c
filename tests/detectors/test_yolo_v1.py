"""YOLOv1 against the reference code's golden values and against slow loops."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from detkit.backbones import BACKBONES
from detkit.config import parse
from detkit.detectors import build_detector
from detkit.detectors.darknet_cost import darknet_cost, yolo_v1_deltas
from detkit.detectors.yolo_v1 import (
    YoloV1,
    YoloV1Config,
    YoloV1Tiny,
    YoloV1TinyConfig,
    assign,
    decode,
    select,
    yolo_v1_loss,
)
from detkit.errors import ConfigError, DetkitError
from detkit.layers import Local
from detkit.types import Target, make_target

LOSS_NAMES = {"loss_coord", "loss_obj", "loss_noobj", "loss_class"}
PAPER = {"head": "paper", "boxes_per_cell": 2, "batch_norm": False, "backbone": "darknet_v1_plain"}
NARROW: dict[str, dict[str, Any]] = {  # each head, small
    "paper": {"head": "paper", "fc_width": 24},
    "repository": {"head": "repository", "local_channels": 6},
    "tiny": {"head": "tiny"},
}


def small_model(**changes: Any) -> YoloV1:
    torch.manual_seed(0)
    narrow = {"head_convs": ((16, 1), (16, 2)), "local_channels": 6, "grid": 3, "input_size": 96}
    settings = {"num_classes": 2, "backbone": "tiny", "backbone_stride": 16}
    return YoloV1(YoloV1Config(**(settings | narrow | changes)))


def centred(x: float, y: float, w: float, h: float) -> list[float]:
    return [x - w / 2, y - h / 2, x + w / 2, y + h / 2]


# ------------------------------------------------------------------------- golden values

GOLDEN = YoloV1Config(num_classes=3, grid=3, boxes_per_cell=2)
GOLDEN_CANVAS = (240, 360)  # oblong: the outputs are fractions, so the shape must not matter


def golden_target() -> Target:
    """Two objects on a 3 x 3 grid, in cells row 1, column 0, and row 0, column 2."""
    fractions = [
        centred((0 + 0.9) / 3, (1 + 0.2) / 3, 0.2, 0.22),
        centred((2 + 0.4) / 3, (0 + 0.6) / 3, 0.3, 0.45),
    ]
    height, width = GOLDEN_CANVAS
    return make_target(
        torch.tensor(fractions) * torch.tensor([width, height] * 2), torch.tensor([1, 2])
    )


def test_loss_has_the_gradient_of_the_source() -> None:
    index = torch.arange(GOLDEN.outputs, dtype=torch.float64)
    raw = (0.5 + 0.4 * torch.sin(0.37 * index + 0.2)).float()[None].requires_grad_()
    owners = assign(raw.detach(), [golden_target()], GOLDEN_CANVAS, GOLDEN)
    losses = yolo_v1_loss(raw, owners, GOLDEN)
    (gradient,) = torch.autograd.grad(sum(losses.values()), raw)
    deltas = -gradient[0]  # what darknet stores
    assert deltas.square().sum().item() == pytest.approx(27.3077, rel=1e-4)
    assert deltas.sum().item() == pytest.approx(-8.0706, rel=1e-4)
    assert int((deltas.abs() > 1e-9).sum()) == 32
    classes, confidences, boxes = deltas.square().split([9 * 3, 9 * 2, 9 * 2 * 4])
    found = [part.sum().item() for part in (classes, confidences, boxes)]
    assert found == pytest.approx([1.9896, 1.4825, 23.8356], rel=1e-4)
    torch.testing.assert_close(yolo_v1_deltas(raw, owners, GOLDEN)[0], deltas)


# ----------------------------------------------------------------------------- sizes


@pytest.mark.parametrize(
    ("model", "learnable", "stored", "gflops", "convolutions", "outputs"),
    [
        (YoloV1Config(num_classes=20), 197_301_875, 197_328_243, 40.147, 24, 1715),
        (YoloV1TinyConfig(num_classes=20), 27_095_374, 27_099_950, 3.179, 8, 1470),
    ],
)
def test_sizes_of_the_published_networks(
    model: YoloV1Config, learnable: int, stored: int, gflops: float, convolutions: int, outputs: int
) -> None:
    kind = YoloV1Tiny if isinstance(model, YoloV1TinyConfig) else YoloV1
    with torch.device("meta"):
        network = kind(model).eval()
        pixels = torch.zeros(1, 3, 448, 448)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    statistics = sum(buffer.numel() for buffer in network.buffers() if buffer.ndim)
    assert parameters == learnable
    assert parameters + statistics == stored
    assert sum(isinstance(part, nn.Conv2d) for part in network.modules()) == convolutions
    with FlopCounterMode(display=False) as counter:
        (out,) = network.network((pixels,))
    conv = sum(
        count
        for operator, count in counter.get_flop_counts()["Global"].items()
        if "convolution" in str(operator)
    )
    assert conv / 1e9 == pytest.approx(gflops, abs=5e-4)
    assert out.shape == (1, outputs)


def test_the_papers_network_has_two_connected_layers_and_no_batch_norm() -> None:
    with torch.device("meta"):
        model = YoloV1(YoloV1Config(num_classes=20, **PAPER))
    parts = list(model.modules())
    assert not any(isinstance(part, nn.BatchNorm2d) for part in parts)
    assert sum(isinstance(part, nn.Conv2d) for part in parts) == 24
    connected = [part for part in parts if isinstance(part, nn.Linear)]
    assert [(part.in_features, part.out_features) for part in connected] == [
        (7 * 7 * 1024, 4096),
        (4096, 1470),
    ]
    assert [part.p for part in parts if isinstance(part, nn.Dropout)] == [0.5]


@pytest.mark.parametrize("head", NARROW)
def test_parameters_stand_in_the_order_of_a_weight_file(head: str) -> None:
    """Convolution, its batch norm, ..., local, connected: the order in which data flows."""
    model = small_model(**NARROW[head])
    kinds = (nn.Conv2d, nn.BatchNorm2d, Local, nn.Linear)
    order: list[nn.Module] = []
    hooks = [
        part.register_forward_hook(lambda module, *_: order.append(module))
        for part in model.modules()
        if isinstance(part, kinds)
    ]
    model.eval().network((torch.zeros(1, 3, 96, 96),))
    for hook in hooks:
        hook.remove()
    assert order == [part for part in model.modules() if isinstance(part, kinds)]


def test_connected_layers_start_as_darknets() -> None:
    layer = small_model(head="tiny", grid=7, num_classes=20).head.whole[-1]
    limit = math.sqrt(2 / layer.in_features)
    assert layer.weight.abs().max().item() == pytest.approx(limit, rel=0.01)
    assert layer.weight.std().item() == pytest.approx(limit / math.sqrt(3), rel=0.02)
    assert torch.equal(layer.bias, torch.zeros_like(layer.bias))


# ------------------------------------------------------------------------------ loss


def slow_terms(
    raw: Tensor, targets: list[Target], size: tuple[int, int], config: YoloV1Config
) -> tuple[float, float]:
    """The detection layer as nested loops over cells, in plain Python: (loss, cost)."""
    side, count, num_classes = config.grid, config.boxes_per_cell, config.num_classes
    locations = side * side
    loss, cost = 0.0, 0.0
    for b in range(len(raw)):
        out = raw[b].tolist()
        truth: dict[int, tuple[float, float, float, float, int]] = {}
        for box, label in zip(targets[b].boxes.tolist(), targets[b].labels.tolist(), strict=True):
            x, w = (box[0] + box[2]) / 2 / size[1], (box[2] - box[0]) / size[1]
            y, h = (box[1] + box[3]) / 2 / size[0], (box[3] - box[1]) / size[0]
            if w < config.min_side or h < config.min_side:
                continue
            column, row = int(x * side), int(y * side)
            if row * side + column not in truth:  # the first stays
                place = (x * side - column, y * side - row, w, h, label)
                truth[row * side + column] = place
        deltas: list[tuple[float, float]] = []  # (error, weight)
        for i in range(locations):
            responsible = -1
            if i in truth:
                x, y, w, h, label = truth[i]
                for k in range(num_classes):
                    factor = config.class_weights[label] if config.class_weights else 1.0
                    deltas.append(((k == label) - out[i * num_classes + k], factor))
                best_iou, best_distance = 0.0, math.inf  # 20 in the source, see fidelity
                for j in range(count):
                    at = locations * (num_classes + count) + (i * count + j) * 4
                    px, py, pw, ph = out[at : at + 4]
                    pred = (px / side, py / side, pw**2, ph**2)
                    iou = slow_iou(pred, (x / side, y / side, w, h))
                    distance = math.dist(pred, (x / side, y / side, w, h))
                    if best_iou > 0 or iou > 0:
                        if iou > best_iou:
                            best_iou, responsible = iou, j
                    elif distance < best_distance:
                        best_distance, responsible = distance, j
                at = locations * (num_classes + count) + (i * count + responsible) * 4
                for error in (x - out[at], y - out[at + 1]):
                    deltas.append((error, config.coord_weight))
                for error in (math.sqrt(w) - out[at + 2], math.sqrt(h) - out[at + 3]):
                    deltas.append((error, config.coord_weight))
            for j in range(count):
                confidence = out[locations * num_classes + i * count + j]
                if j == responsible:
                    deltas.append(((best_iou if config.rescore else 1.0) - confidence, 1.0))
                else:
                    deltas.append((0 - confidence, config.noobj_weight))
        loss += sum(0.5 * weight * error**2 for error, weight in deltas)
        cost += sum((weight * error) ** 2 for error, weight in deltas)
    return loss / len(raw), cost


def slow_iou(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """IoU of two (centre x, centre y, width, height)."""
    overlap = 1.0
    for axis in (0, 1):
        low = max(a[axis] - a[axis + 2] / 2, b[axis] - b[axis + 2] / 2)
        high = min(a[axis] + a[axis + 2] / 2, b[axis] + b[axis + 2] / 2)
        overlap *= max(high - low, 0.0)
    return overlap / (a[2] * a[3] + b[2] * b[3] - overlap)


@given(
    counts=st.lists(st.integers(0, 12), min_size=1, max_size=3),
    seed=st.integers(0, 999),
    boxes_per_cell=st.integers(1, 3),
    rescore=st.booleans(),
    class_weights=st.sampled_from([(), (0.5, 3.0)]),
    spread=st.sampled_from([0.3, 1.0, 4.0]),  # small boxes: often none overlaps
)
@settings(max_examples=40)
def test_loss_and_cost_are_the_slow_loop(
    counts: list[int],
    seed: int,
    boxes_per_cell: int,
    rescore: bool,
    class_weights: tuple[float, ...],
    spread: float,
) -> None:
    config = YoloV1Config(
        num_classes=2,
        grid=3,
        boxes_per_cell=boxes_per_cell,
        rescore=rescore,
        class_weights=class_weights,
    )
    generator = torch.Generator().manual_seed(seed)
    raw = spread * torch.randn(len(counts), config.outputs, generator=generator).double()
    size = (90, 120)
    targets = []
    for count in counts:  # up to twelve objects in nine cells; some thinner than min_side
        centre = torch.rand(count, 2, generator=generator, dtype=torch.float64)
        half = torch.rand(count, 2, generator=generator, dtype=torch.float64) ** 3 / 4 + 1e-4
        fractions = torch.cat([centre - half, centre + half], dim=1)
        labels = torch.randint(2, (count,), generator=generator)
        targets.append(make_target(fractions * torch.tensor([120.0, 90.0, 120.0, 90.0]), labels))
    owners = assign(raw, targets, size, config)
    losses = yolo_v1_loss(raw, owners, config)
    assert set(losses) == LOSS_NAMES
    loss, cost = slow_terms(raw, targets, size, config)
    assert sum(losses.values()).item() == pytest.approx(loss, rel=1e-6)
    deltas = yolo_v1_deltas(raw, owners, config)
    assert deltas.square().sum().item() == pytest.approx(cost, rel=1e-6)


def test_one_object_a_cell_and_the_first_of_them() -> None:
    config = YoloV1Config(num_classes=3, grid=3, boxes_per_cell=2)
    boxes = torch.tensor(
        [
            centred(20, 20, 10, 0.3),  # thinner than min_side: claims nothing
            centred(15, 15, 10, 20),
            centred(25, 25, 30, 30),  # the same cell, later
            centred(45, 45, 10, 10),
        ]
    )
    target = make_target(boxes, torch.tensor([0, 1, 2, 0]))
    owners = assign(torch.rand(1, config.outputs), [target], (90, 90), config)
    assert owners.cells.tolist() == [0, 0, 0, 4]
    assert owners.stays.tolist() == [0, 1, 0, 1]
    assert owners.owned.sum() == 2


def test_without_overlap_the_nearest_predictor_answers() -> None:
    config = YoloV1Config(num_classes=1, grid=1, boxes_per_cell=3)
    raw = torch.zeros(1, config.outputs)
    places = raw[0, 4:].view(3, 4)  # after one class and three confidences
    places[:] = torch.tensor([[9.0, 9.0, 0.1, 0.1], [2.0, 2.0, 0.1, 0.1], [-5.0, 0.0, 0.1, 0.1]])
    target = make_target(torch.tensor([[20.0, 20.0, 40.0, 60.0]]), torch.tensor([0]))
    owners = assign(raw, [target], (100, 100), config)
    assert owners.slots.tolist() == [1]
    assert owners.ious.tolist() == [0.0]


def test_audit_tells_which_objects_have_a_cell() -> None:
    model = small_model()
    boxes = torch.tensor([centred(10, 10, 9, 9), centred(20, 20, 9, 9), centred(50, 20, 9, 9)])
    targets = [
        make_target(boxes, torch.tensor([0, 1, 0])),
        make_target(boxes[:0], torch.tensor([], dtype=torch.long)),
    ]
    audit = model.audit(targets, (96, 96))
    assert audit.lost.tolist() == [False, True, False]
    assert audit.strides.tolist() == [32, 32, 32]
    assert audit.anchors.shape == (0, 2)
    assert audit.best_ious.tolist() == [0, 0, 0]
    assert audit.owners.tolist() == [0, 0, 0]


# ------------------------------------------------------------------------- detection


def test_decode_is_the_loop_of_the_source() -> None:
    config = YoloV1Config(num_classes=3, grid=4, boxes_per_cell=2)
    raw = torch.randn(2, config.outputs, generator=torch.Generator().manual_seed(0))
    height, width = 100, 200
    boxes, scores = decode(raw, (height, width), config)
    assert boxes.shape == (2, 32, 4)
    assert scores.shape == (2, 32, 3)
    for b in range(2):
        out = raw[b].tolist()
        for i in range(16):
            row, column = divmod(i, 4)
            for n in range(2):
                confidence = out[16 * 3 + i * 2 + n]
                x, y, w, h = out[16 * (3 + 2) + (i * 2 + n) * 4 :][:4]
                expected = centred(
                    (x + column) / 4 * width,
                    (y + row) / 4 * height,
                    w * w * width,
                    h * h * height,
                )
                assert boxes[b, i * 2 + n].tolist() == pytest.approx(expected, rel=1e-4, abs=1e-3)
                products = [confidence * out[i * 3 + k] for k in range(3)]
                assert scores[b, i * 2 + n].tolist() == pytest.approx(products, rel=1e-4)


def test_what_training_asks_for_is_what_decoding_gives() -> None:
    """An output vector made of the targets comes back as the objects, whatever the canvas."""
    config = YoloV1Config(num_classes=2, grid=3, boxes_per_cell=1)
    size = (96, 192)
    boxes = torch.tensor([centred(40, 20, 30, 18), centred(150, 80, 60, 30)])
    target = make_target(boxes, torch.tensor([1, 0]))
    raw = torch.zeros(1, config.outputs)
    owners = assign(raw, [target], size, config)
    raw[0, owners.cells * 2 + target.labels] = 1
    raw[0, 9 * 2 + owners.slots] = 1
    for slot, place in zip(owners.slots.tolist(), owners.gt_places, strict=True):
        raw[0, 9 * 3 + slot * 4 : 9 * 3 + slot * 4 + 4] = place
    (found_boxes,), (found_scores,) = decode(raw, size, config)
    found = select(found_boxes, found_scores, config)
    assert sorted(found.labels.tolist()) == [0, 1]
    for label, box in zip(found.labels.tolist(), found.boxes.tolist(), strict=True):
        assert box == pytest.approx(boxes[1 - label].tolist(), abs=1e-3)


def test_scores_beyond_one_are_reported_as_they_are() -> None:
    boxes = torch.tensor(
        [centred(10, 10, 10, 10), centred(10.5, 10, 10, 10), centred(50, 50, 9, 9)]
    )
    scores = torch.tensor([[1.2], [1.7], [-0.4]])
    found = select(boxes, scores, YoloV1Config(num_classes=1))
    assert found.scores.tolist() == pytest.approx([1.7])
    assert found.boxes.tolist() == boxes[1:2].tolist()


# ---------------------------------------------------------------------------- module


@pytest.mark.parametrize("head", NARROW)
@pytest.mark.parametrize("images", [1, 3])
def test_images_without_objects_train(images: int, head: str) -> None:
    model = small_model(**NARROW[head]).train()
    empty = make_target(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    pictures = [torch.full((3, 50, 70), 90, dtype=torch.uint8) for _ in range(images)]
    losses = model(pictures, [empty] * images)
    assert set(losses) == LOSS_NAMES
    total = sum(losses.values())
    assert torch.isfinite(total)
    total.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("head", NARROW)
def test_batch_equals_one_by_one_and_the_canvas_may_be_oblong(head: str) -> None:
    model = small_model(input_size=(64, 96), **NARROW[head]).eval()
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
        assert (found.scores > 0).all()
        assert (found.scores.diff() <= 0).all()


def test_an_image_is_stretched_to_the_canvas_and_boxes_come_back() -> None:
    model = small_model().eval()
    batch = model.preprocess([torch.zeros(3, 30, 120, dtype=torch.uint8)])
    assert batch.pixels.shape == (1, 3, 96, 96)
    whole = torch.tensor([[0.0, 0.0, 120.0, 30.0]])
    assert batch.geometry[0].to_canvas(whole).tolist() == [[0, 0, 96, 96]]
    assert model.train_size(7, 100, seed=1) == (96, 96)


def test_difficult_objects_are_absent_from_training_and_from_the_cost() -> None:
    model = small_model().eval()
    picture = [torch.full((3, 64, 64), 90, dtype=torch.uint8)]
    box, label = torch.tensor([[8.0, 8.0, 40.0, 40.0]]), torch.tensor([1])
    yes, no = torch.tensor([True]), torch.tensor([False])
    hard, plain = Target(box, label, difficult=yes, crowd=no), make_target(box, label)
    empty = make_target(box[:0], label[:0])
    assert model.compute_losses(picture, [hard])["loss_class"] == 0
    assert model.compute_losses(picture, [plain])["loss_class"] > 0
    assert darknet_cost(model, picture, [hard]) == darknet_cost(model, picture, [empty])


def test_the_cost_is_that_of_an_image_in_the_mean() -> None:
    model = small_model().eval()
    pictures = [torch.full((3, 64, 64), level, dtype=torch.uint8) for level in (40, 200)]
    targets = [make_target(torch.tensor([[8.0, 8.0, 40.0, 40.0]]), torch.tensor([1]))] * 2
    alone = [darknet_cost(model, [p], [t]) for p, t in zip(pictures, targets, strict=True)]
    assert darknet_cost(model, pictures, targets).item() == pytest.approx(
        float(sum(alone)) / 2, rel=1e-5
    )


@pytest.mark.parametrize("backbone", list(BACKBONES))
def test_any_backbone_goes_under_the_head(backbone: str) -> None:
    settings = {"backbone": backbone, "backbone_stride": 64, "head_convs": ((8, 1),), "grid": 2}
    model = small_model(**settings, input_size=(64, 128)).eval()
    assert model.backbone.strides == (BACKBONES[backbone].strides[-1],)
    assert model.network((torch.zeros(2, 3, 64, 128),))[0].shape == (2, 2 * 2 * (2 + 3 * 5))


def test_a_map_of_another_size_is_averaged_over_equal_areas() -> None:
    model = small_model(head_convs=(), head="tiny", grid=2, input_size=(64, 128)).eval()
    (deep,) = model.backbone(torch.rand(1, 3, 64, 128, generator=torch.Generator().manual_seed(0)))
    pooled = deep.view(1, -1, 2, 2, 2, 4).mean(dim=(3, 5))  # 4 x 8 to 2 x 2
    (layer,) = (part for part in model.head.modules() if isinstance(part, nn.Linear))
    torch.testing.assert_close(model.head((deep,)), layer(pooled.flatten(1)))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"nms_iuo": 0.5}, "model.nms_iuo: unknown key. Did you mean 'nms_iou'?"),
        (
            {"input_size": 400},
            "model.input_size: [400, 400] is not made of multiples of 32, the stride of backbone "
            "'darknet_v1' here.",
        ),
        ({"head": "papr"}, "model.head: expected 'paper', 'repository' or 'tiny'; got 'papr'."),
        (
            {"backbone": "tiny", "backbone_stride": 1},
            "backbone 'tiny' has strides 2, 4, 8, 16, 32; asked for 1.",
        ),
        ({"backbone": "resnet5"}, "no backbone named 'resnet5'. Did you mean 'resnet50'?"),
    ],
)
def test_mistakes_get_a_sentence(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(DetkitError) as caught:
        build_detector({"name": "yolo_v1", "num_classes": 2, **settings})
    assert str(caught.value) == sentence


def test_class_weights_are_one_a_class() -> None:
    with pytest.raises(ConfigError) as caught:
        parse(YoloV1Config, {"num_classes": 3, "class_weights": [1, 2]}, path="model.")
    assert str(caught.value) == (
        "model.class_weights: expected one weight of 0 or more for each class, got [1.0, 2.0]."
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["yolo_v1", "yolo_v1_tiny"])
def test_the_full_network_detects_and_takes_a_step(name: str) -> None:
    """One image, one step of plain descent: the loss of that image falls."""
    torch.manual_seed(0)
    model = build_detector({"name": name, "num_classes": 20})
    picture = [torch.randint(256, (3, 300, 500), dtype=torch.uint8)]
    target = [make_target(torch.tensor([[50.0, 60.0, 300.0, 250.0]]), torch.tensor([11]))]
    (found,) = model.eval()(picture)
    assert found.boxes.shape[1] == 4
    before = model.compute_losses(picture, target)
    total = torch.stack(list(before.values())).sum()
    total.backward()
    with torch.no_grad():
        scale = sum(p.grad.square().sum() for p in model.parameters() if p.grad is not None)
        for parameter in model.parameters():
            assert parameter.grad is not None
            parameter -= (
                0.01 * total / scale * parameter.grad
            )  # a hundredth of the way, to first order
            parameter.grad = None
        after = torch.stack(list(model.compute_losses(picture, target).values())).sum()
    assert total - after > 0
    assert (total - after).item() == pytest.approx(0.01 * total.item(), rel=0.5)


@pytest.mark.gpu
def test_gpu_gives_what_the_cpu_gives() -> None:
    model = small_model().eval()
    picture = torch.randint(256, (3, 80, 60), dtype=torch.uint8)
    (here,) = model([picture])
    (there,) = model.cuda()([picture])
    torch.testing.assert_close(there.to("cpu").boxes, here.boxes, rtol=1e-3, atol=0.05)
