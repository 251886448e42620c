"""YOLOv3 against the reference code's golden values and against slow loops."""

from __future__ import annotations

import itertools
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
from detkit.detectors.darknet_cost import darknet_cost, yolo_v3_deltas
from detkit.detectors.yolo_v3 import (
    Owners,
    YoloV3,
    YoloV3Config,
    YoloV3SppConfig,
    YoloV3TinyConfig,
    assign,
    decode,
    select,
    yolo_v3_loss,
)
from detkit.errors import ConfigError, DetkitError
from detkit.layers import SpatialPyramid
from detkit.types import Losses, Target, make_target

TINY_ANCHORS = ((10, 14), (23, 27), (37, 58), (81, 82), (135, 169), (344, 319))
LOSS_NAMES = {"loss_coord", "loss_obj", "loss_noobj", "loss_class"}
FORMS = ("yolo_v3", "yolo_v3_tiny", "yolo_v3_spp")
EMPTY = make_target(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))


def small_model(**changes: Any) -> YoloV3:
    torch.manual_seed(0)
    settings = {"num_classes": 2, "backbone": "tiny", "input_size": 64}
    settings |= {"head_channels": (16, 12, 8), "head_convs": (4, 2, 1)}
    return YoloV3(YoloV3Config(**(settings | changes)))


# -------------------------------------------------------------------------------- golden values


def golden_config(**changes: Any) -> YoloV3Config:
    """The specification's head: one scale of 4 x 4 cells on 128 pixels, the tiny form's mask."""
    settings = {"num_classes": 3, "strides": (32,), "anchors": TINY_ANCHORS, "input_size": 128}
    settings |= {"anchor_masks": ((0, 1, 2),), "head_channels": (8,), "head_convs": (1,)}
    return YoloV3Config(**(settings | changes))


def golden_raw() -> tuple[Tensor]:
    """The specification's input: a(i) = 1.5 sin(0.37 i + 0.2) at flat index i."""
    index = torch.arange(3 * 8 * 4 * 4, dtype=torch.float64)
    flat = (1.5 * torch.sin(0.37 * index + 0.2)).float()
    return (flat.view(1, 3, 8, 4, 4).permute(0, 1, 3, 4, 2),)


def golden_target() -> Target:
    """Three objects; the first and the last claim the same slot."""
    truths = torch.tensor(
        [[0.30, 0.40, 0.20, 0.22], [0.80, 0.20, 0.30, 0.45], [0.31, 0.41, 0.19, 0.23]]
    )
    centre, half = truths[:, :2], truths[:, 2:] / 2
    boxes = torch.cat([centre - half, centre + half], dim=1) * 128  # canvas pixels
    return make_target(boxes, torch.tensor([1, 2, 0]))


def test_deltas_are_those_of_the_source() -> None:
    config, raw = golden_config(), golden_raw()
    owners = assign(raw, [golden_target()], torch.tensor(config.anchors), config)
    (deltas,) = yolo_v3_deltas(raw, owners, config)
    assert deltas.square().sum().item() == pytest.approx(45.6295, rel=1e-4)
    assert deltas.sum().item() == pytest.approx(-20.3251, rel=1e-4)
    assert int((deltas != 0).sum()) == 62
    squares = deltas.square()
    found = [squares[..., span].sum().item() for span in (slice(2), slice(2, 4), 4, slice(5, None))]
    assert found == pytest.approx((2.0585, 26.5090, 15.0669, 1.9951), rel=1e-4)


def test_loss_has_the_gradient_of_the_source() -> None:
    """The source stores minus the gradient by the raw outputs, which these losses have."""
    config = golden_config()
    raw = (golden_raw()[0].clone().requires_grad_(),)
    owners = assign((raw[0].detach(),), [golden_target()], torch.tensor(config.anchors), config)
    (gradient,) = torch.autograd.grad(sum(yolo_v3_loss(raw, owners, config).values()), raw)
    assert gradient.square().sum().item() == pytest.approx(45.6295, rel=1e-4)
    assert gradient.sum().item() == pytest.approx(20.3251, rel=1e-4)
    assert int((gradient.abs() > 1e-9).sum()) == 62


def test_decoded_boxes_are_those_of_the_source() -> None:
    """On an image of 100 x 200 in a canvas of 128: 64 rows between two grey bands of 32."""
    config, raw = golden_config(), golden_raw()
    boxes, scores = decode(raw, torch.tensor(config.anchors), config)
    objects = raw[0][..., 4].sigmoid().flatten()  # [48]
    assert int((objects > 0.5).sum()) == 23
    x1, y1, x2, y2 = boxes[0].unbind(dim=1)
    relative = torch.stack(
        [(x1 + x2) / 256, ((y1 + y2) / 2 - 32) / 64, (x2 - x1) / 128, (y2 - y1) / 64], dim=1
    )
    first = next(index for index in (0, 16, 32) if objects[index] > 0.5)  # of cell 0
    expected = (0.086672, -0.263648, 0.276033, 1.050055)
    assert relative[first].tolist() == pytest.approx(expected, abs=2e-6)
    assert objects[first].item() == pytest.approx(0.781685, abs=2e-6)
    assert scores[0, first].tolist() == pytest.approx((0.635879, 0.636481, 0.612970), abs=2e-6)


@pytest.mark.parametrize(
    ("form", "classes", "floats", "learnable", "convs", "gflops"),
    [
        ("yolo_v3", 80, 62_001_757, 61_949_149, 75, {320: 38.973, 416: 65.864, 608: 140.692}),
        ("yolo_v3", 20, 61_678_657, 61_626_049, 75, {416: 65.428}),
        ("yolo_v3_spp", 80, 63_052_381, 62_998_749, 76, {416: 66.218, 608: 141.449}),
        ("yolo_v3_tiny", 80, 8_858_734, 8_852_366, 13, {416: 5.565}),
    ],
)
def test_sizes_of_the_published_networks(
    form: str, classes: int, floats: int, learnable: int, convs: int, gflops: dict[int, float]
) -> None:
    with torch.device("meta"):
        model = build_detector({"name": form, "num_classes": classes}).eval()
    weights = sum(parameter.numel() for parameter in model.parameters())
    running = sum(
        part.running_mean.numel() + part.running_var.numel()
        for part in model.modules()
        if isinstance(part, nn.BatchNorm2d)
    )
    assert (weights, weights + running) == (learnable, floats)
    assert sum(isinstance(part, nn.Conv2d) for part in model.modules()) == convs
    for size, expected in gflops.items():
        with FlopCounterMode(display=False) as counter, torch.device("meta"):
            out = model.network((torch.zeros(1, 3, size, size),))
        assert counter.get_total_flops() / 1e9 == pytest.approx(expected, abs=5e-4)
        sides = (size // 32, size // 16, size // 8)[: len(out)]
        assert [tuple(scale.shape) for scale in out] == [(1, 3, s, s, 5 + classes) for s in sides]


# ------------------------------------------------------------------------------ order of layers

V3_HEAD = (  # filters x kernel, in the order of the authors' files
    "512x1 1024x3 512x1 1024x3 512x1 1024x3 out 256x1 256x1 512x3 256x1 512x3 256x1 512x3 out "
    "128x1 128x1 256x3 128x1 256x3 128x1 256x3 out"
)
SPP_HEAD = V3_HEAD.replace("512x1 1024x3 512x1 ", "512x1 1024x3 512x1 512x1 ", 1)
TINY_HEAD = "256x1 512x3 out 128x1 256x3 out"


@pytest.mark.parametrize(
    ("form", "layers"), list(zip(FORMS, (V3_HEAD, TINY_HEAD, SPP_HEAD), strict=True))
)
def test_modules_stand_in_the_order_of_the_weight_files(form: str, layers: str) -> None:
    with torch.device("meta"):
        model = build_detector({"name": form, "num_classes": 80})
    kinds = (nn.Conv2d, nn.BatchNorm2d)
    parts = [part for part in model.head.modules() if isinstance(part, kinds)]
    words = []
    for part, after in zip(parts, [*parts[1:], None], strict=True):
        if isinstance(part, nn.Conv2d):
            is_last = part.bias is not None
            assert is_last != isinstance(after, nn.BatchNorm2d)
            words.append("out" if is_last else f"{part.out_channels}x{part.kernel_size[0]}")
            assert not is_last or part.out_channels == 255
    assert " ".join(words) == layers
    everything = [part for part in model.modules() if isinstance(part, kinds)]
    assert everything == [
        part for whole in (model.backbone, model.head) for part in whole.modules()
        if isinstance(part, kinds)
    ]  # fmt: skip


def test_the_pyramid_joins_large_pools_first() -> None:
    x = torch.full((1, 2, 20, 20), -5.0)
    x[0, 0, 10, 10] = 3.0
    out = SpatialPyramid()(x)
    assert out.shape == (1, 8, 20, 20)
    reach = [int((out[0, 2 * place] == 3.0).sum()) for place in range(4)]
    assert reach == [13 * 13, 9 * 9, 5 * 5, 1]
    assert (out[0, 1::2] == -5.0).all()  # the missing pixels around never win


def test_the_finer_scale_goes_on_from_before_the_last_convolution() -> None:
    """A change of the coarsest scale's last two layers changes nothing below it."""
    model = small_model().eval()
    pixels = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        before = model.network((pixels,))
        model.head.scales[0].last.conv.weight.mul_(3)
        last = model.network((pixels,))
        model.head.scales[0].body[0].conv.weight.mul_(3)
        body = model.network((pixels,))
    assert not torch.equal(before[0], last[0])
    assert torch.equal(before[1], last[1])
    assert torch.equal(before[2], last[2])
    assert not torch.equal(last[1], body[1])
    assert not torch.equal(last[2], body[2])


# ------------------------------------------------------------------------------ the slow twin


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def cross_entropy(logit: float, goal: float) -> float:
    p = sigmoid(logit)
    return -goal * math.log(p) - (1 - goal) * math.log(1 - p)


def slow_iou(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """IoU of two (centre x, centre y, width, height)."""
    overlap = 1.0
    for axis in (0, 1):
        low = max(a[axis] - a[axis + 2] / 2, b[axis] - b[axis + 2] / 2)
        high = min(a[axis] + a[axis + 2] / 2, b[axis] + b[axis + 2] / 2)
        overlap *= max(high - low, 0.0)
    return overlap / (a[2] * a[3] + b[2] * b[3] - overlap)


def slow_likeness(a: tuple[float, ...], b: tuple[float, ...], kind: str) -> float:
    """GIoU or CIoU of two (centre x, centre y, width, height)."""
    iou = slow_iou(a, b)
    hull = []
    for axis in (0, 1):
        low = min(a[axis] - a[axis + 2] / 2, b[axis] - b[axis + 2] / 2)
        hull.append(max(a[axis] + a[axis + 2] / 2, b[axis] + b[axis + 2] / 2) - low)
    if kind == "giou":
        sizes = a[2] * a[3] + b[2] * b[3]
        union = sizes - iou * sizes / (1 + iou)
        return iou - (hull[0] * hull[1] - union) / (hull[0] * hull[1])
    apart = ((a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2) / (hull[0] ** 2 + hull[1] ** 2)
    v = 4 / math.pi**2 * (math.atan(a[2] / a[3]) - math.atan(b[2] / b[3])) ** 2
    return iou - apart - v / (1 - iou + v) * v


def truths_of(target: Target) -> list[tuple[tuple[float, ...], int]]:
    """Each object's (centre x, centre y, width, height) in canvas pixels, and its class."""
    found = []
    for (x1, y1, x2, y2), label in zip(target.boxes.tolist(), target.labels.tolist(), strict=True):
        found.append((((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1), label))
    return found


def shape_ious(size: tuple[float, ...], anchors: list[list[float]]) -> list[float]:
    found = []
    for pw, ph in anchors:
        inter = min(size[0], pw) * min(size[1], ph)
        found.append(inter / (size[0] * size[1] + pw * ph - inter))
    return found


def slow_loss(raw: tuple[Tensor, ...], targets: list[Target], config: YoloV3Config) -> Losses:
    """The yolo layers as nested loops over images, objects, scales and cells, in plain Python."""
    total = dict.fromkeys(sorted(LOSS_NAMES), 0.0)
    anchors = [list(anchor) for anchor in config.anchors]
    for b, target in enumerate(targets):
        truths = truths_of(target)
        fits = [shape_ious(box[2:], anchors) for box, _ in truths]
        bests = [fit.index(max(fit)) for fit in fits]
        for scale, mask in enumerate(config.anchor_masks):
            stride, outputs = config.strides[::-1][scale], raw[scale][b]
            owner: dict[tuple[int, int, int], int] = {}
            classes: dict[tuple[int, int, int], set[int]] = {}
            for best_turn in (False, True):  # best anchors come last and take what they need
                for m, (box, label) in enumerate(truths):
                    for a, index in enumerate(mask):
                        further = config.positive_iou is not None
                        further = further and fits[m][index] >= config.positive_iou
                        if index == bests[m] if best_turn else further and index != bests[m]:
                            slot = (a, int(box[1] / stride), int(box[0] / stride))
                            owner[slot] = m  # the later one has the box
                            classes.setdefault(slot, set()).add(label)  # of both
            _, height, width, _ = outputs.shape
            for slot in itertools.product(range(len(mask)), range(height), range(width)):
                a, row, column = slot
                out, (pw, ph) = outputs[slot].tolist(), anchors[mask[a]]
                pred = (
                    (column + sigmoid(out[0])) * stride,
                    (row + sigmoid(out[1])) * stride,
                    pw * math.exp(out[2]),
                    ph * math.exp(out[3]),
                )
                if slot not in owner:
                    if max((slow_iou(pred, box) for box, _ in truths), default=0) <= (
                        config.ignore_iou
                    ):
                        total["loss_noobj"] += cross_entropy(out[4], 0)
                    continue
                box, label = truths[owner[slot]]
                total["loss_obj"] += cross_entropy(out[4], 1)
                factor = config.class_weights[label] if config.class_weights else 1.0
                for k, logit in enumerate(out[5:]):
                    total["loss_class"] += factor * cross_entropy(logit, k in classes[slot])
                if config.box_loss != "squared":
                    error = 1 - slow_likeness(pred, box, config.box_loss)
                    total["loss_coord"] += config.box_scale * error
                    continue
                error = cross_entropy(out[0], box[0] / stride - column)
                error += cross_entropy(out[1], box[1] / stride - row)
                error += 0.5 * (out[2] - math.log(box[2] / pw)) ** 2
                error += 0.5 * (out[3] - math.log(box[3] / ph)) ** 2
                scale_of_box = 2 - box[2] * box[3] / (width * height * stride**2)
                total["loss_coord"] += scale_of_box * error
    return {name: value / len(targets) for name, value in total.items()}


SIZE = (64, 96)  # canvas of the random cases


def random_case(
    counts: list[int], seed: int, config: YoloV3Config
) -> tuple[tuple[Tensor, ...], list[Target]]:
    """Raw outputs, and objects of all sizes that crowd into few cells; some cross the edge."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    raw = tuple(
        torch.randn(
            (len(counts), len(mask), SIZE[0] // stride, SIZE[1] // stride, 5 + config.num_classes),
            generator=generator,
            dtype=torch.float64,
        )
        for stride, mask in zip(config.strides[::-1], config.anchor_masks, strict=True)
    )
    targets = []
    for count in counts:
        centre = (draw(count, 2) * torch.tensor([SIZE[1], SIZE[0]]) / 24).floor() * 24 + 10
        centre = centre + 5 * draw(count, 2)
        half = 2 * torch.exp(3 * draw(count, 2))  # 2 to 40 pixels
        labels = torch.randint(config.num_classes, (count,), generator=generator)
        targets.append(make_target(torch.cat([centre - half, centre + half], dim=1), labels))
    return raw, targets


CASE = {"num_classes": 3, "input_size": SIZE, "ignore_iou": 0.4}
CASE |= {"anchors": ((5, 7), (9, 8), (12, 20), (24, 22), (36, 60), (70, 50))}
OPTIONS: list[dict[str, Any]] = [
    {},
    {"class_weights": (0.5, 2.0, 7.0), "ignore_iou": 0.7},
    {"box_loss": "ciou", "box_scale": 2.5, "positive_iou": 0.3},
    {"box_loss": "giou"},
    {"box_scale": 2.5},  # of the overlap losses only
    {"positive_iou": 0.0},  # every anchor answers where it is free
    {"anchor_masks": ((5, 3), (3, 1, 2), (2,))},  # 0 nobody's; 2 and 3 belong to two scales
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@given(st.lists(st.integers(0, 8), min_size=1, max_size=2), st.integers(0, 999))
@settings(max_examples=12)
def test_loss_is_the_slow_loop(options: dict[str, Any], counts: list[int], seed: int) -> None:
    config = YoloV3Config(**(CASE | options))
    raw, targets = random_case(counts, seed, config)
    anchors = torch.tensor(config.anchors, dtype=torch.float64)
    losses = yolo_v3_loss(raw, assign(raw, targets, anchors, config), config)
    expected = slow_loss(raw, targets, config)
    assert {name: value.item() for name, value in losses.items()} == pytest.approx(
        expected, rel=1e-6, abs=1e-9
    )


def test_the_random_cases_have_what_they_are_for() -> None:
    """Objects of every scale, and several objects in one slot."""
    config = YoloV3Config(**CASE)
    scales, shared = set(), 0
    for seed in range(8):
        raw, targets = random_case([8], seed, config)
        anchors = torch.tensor(config.anchors, dtype=torch.float64)
        for scale, owners in enumerate(assign(raw, targets, anchors, config)):
            if owners.stays.any():
                scales.add(scale)
            shared += int((owners.gt_classes.sum(dim=1) > 1).sum())
    assert scales == {0, 1, 2}
    assert shared > 3


# -------------------------------------------------------------------------------- assignment


def owners_of(boxes: list[list[float]], labels: list[int], **changes: Any) -> tuple[Owners, ...]:
    model = small_model(num_classes=3, input_size=416, **changes)
    raw = tuple(torch.zeros(1, 3, side, side, 8) for side in (13, 26, 52))
    target = make_target(torch.tensor(boxes), torch.tensor(labels))
    return assign(raw, [target], model.anchors, model.config)


def test_only_the_scale_of_the_best_of_all_anchors_answers() -> None:
    sizes = ((10, 13), (62, 45), (373, 326))  # anchors 0, 4 and 8: scales 2, 1 and 0
    boxes = [[20.0, 20.0, 20.0 + w, 20.0 + h] for w, h in sizes]
    owners = owners_of(boxes, [0, 1, 2])
    assert [scale.stays.tolist() for scale in owners] == [[0, 0, 1], [0, 1, 0], [1, 0, 0]]
    assert [int(scale.owned.sum()) for scale in owners] == [1, 1, 1]


def test_two_objects_in_a_slot_share_their_classes_and_the_later_one_has_the_box() -> None:
    boxes = [[100.0, 100.0, 160.0, 145.0], [101.0, 101.0, 165.0, 146.0]]
    _, middle, _ = owners_of(boxes, [0, 2])
    assert middle.stays.tolist() == [0.0, 1.0]
    assert middle.gt_classes[1].tolist() == [1.0, 0.0, 1.0]
    assert middle.gt_places[1, 2].exp().item() * 62 == pytest.approx(64.0)


def test_further_anchors_do_not_take_a_place_that_is_the_best_of_another_object() -> None:
    boxes = [[100.0, 100.0, 162.0, 145.0], [100.0, 100.0, 159.0, 219.0]]  # anchors 4 and 5
    boxes[1][1:4:2] = [box - 37 for box in boxes[1][1:4:2]]  # the same centre, but for a pixel
    plain = owners_of(boxes, [0, 1])
    further = owners_of(boxes, [0, 1], positive_iou=0.1)
    for before, after in zip(plain, further, strict=True):
        assert ((after.owned - before.owned) >= 0).all()
        kept = after.objects[-2:][before.stays > 0]
        assert after.stays[-2:][before.stays > 0].all()
        assert torch.equal(kept, before.objects[before.stays > 0])
    assert sum(int(scale.owned.sum()) for scale in further) > 2


def test_a_good_prediction_of_any_scale_is_not_called_empty() -> None:
    """The object belongs to the middle scale; a cell of the coarsest happens to predict it."""
    model = small_model(num_classes=3, input_size=416)
    raw = tuple(torch.zeros(1, 3, side, side, 8) for side in (13, 26, 52))
    box = torch.tensor([[112.0 - 31, 112.0 - 22.5, 112.0 + 31, 112.0 + 22.5]])
    raw[0][0, 0, 3, 3, 2:4] = torch.tensor([62 / 116, 45 / 90]).log()
    owners = assign(raw, [make_target(box, torch.tensor([0]))], model.anchors, model.config)
    assert owners[0].ignore.nonzero()[:, 0].tolist() == [3 * 13 + 3]
    assert owners[0].owned.sum() == 0


def audit_by_loop(
    targets: list[Target], config: YoloV3Config
) -> tuple[list[float], list[int], list[bool], list[int]]:
    ious, best, strides, slots = [], [], [], []
    for image, target in enumerate(targets):
        for box, _ in truths_of(target):
            fits = shape_ious(box[2:], [list(anchor) for anchor in config.anchors])
            ious.append(max(fits))
            best.append(fits.index(max(fits)))
            scale = next(s for s, mask in enumerate(config.anchor_masks) if best[-1] in mask)
            strides.append(config.strides[::-1][scale])
            slots.append((image, best[-1], int(box[0] / strides[-1]), int(box[1] / strides[-1])))
    return ious, best, [slot in slots[i + 1 :] for i, slot in enumerate(slots)], strides


@given(st.lists(st.integers(0, 12), min_size=1, max_size=3), st.integers(0, 999))
@settings(max_examples=20)
def test_audit_agrees_with_a_loop(counts: list[int], seed: int) -> None:
    config = YoloV3Config(**(CASE | {"backbone": "tiny", "head_channels": (8, 8, 8)}))
    _, targets = random_case(counts, seed, config)
    targets = [make_target(target.boxes.float(), target.labels) for target in targets]
    found = YoloV3(config).audit(targets, SIZE)
    ious, best, lost, strides = audit_by_loop(targets, config)
    torch.testing.assert_close(found.best_ious, torch.tensor(ious), rtol=1e-4, atol=1e-5)
    assert found.owners.tolist() == best
    assert found.lost.tolist() == lost
    assert found.strides.tolist() == strides
    assert found.anchors.tolist() == [list(anchor) for anchor in config.anchors]


# ------------------------------------------------------------------------- training, detection


@pytest.mark.parametrize("images", [1, 3])
def test_images_without_objects_train(images: int) -> None:
    model = small_model().train()
    pictures = [torch.full((3, 50, 70), 90, dtype=torch.uint8) for _ in range(images)]
    losses = model(pictures, [EMPTY] * images)
    assert set(losses) == LOSS_NAMES
    assert losses["loss_coord"] == losses["loss_obj"] == losses["loss_class"] == 0
    sum(losses.values()).backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


@pytest.mark.parametrize("options", [{}, {"box_loss": "ciou", "positive_iou": 0.4}], ids=str)
def test_an_image_without_objects_among_others_changes_their_mean_only(
    options: dict[str, Any],
) -> None:
    config = YoloV3Config(**(CASE | options))
    raw, (target,) = random_case([5], 3, config)
    anchors = torch.tensor(config.anchors, dtype=torch.float64)
    empty = make_target(target.boxes[:0], target.labels[:0])
    alone = yolo_v3_loss(raw, assign(raw, [target], anchors, config), config)
    twice = tuple(torch.cat([scale, scale]) for scale in raw)
    both = yolo_v3_loss(twice, assign(twice, [empty, target], anchors, config), config)
    for name in ("loss_coord", "loss_obj", "loss_class"):
        assert both[name].item() == pytest.approx(alone[name].item() / 2)


def test_darknet_cost_is_the_mean_over_images_and_scales() -> None:
    """One image of gradient sums is enough: the same image twice has the same mean."""
    model = small_model().eval()
    picture = torch.randint(256, (3, 64, 64), dtype=torch.uint8)
    target = make_target(torch.tensor([[8.0, 8.0, 40.0, 40.0]]), torch.tensor([1]))
    raw = model.outputs(model.preprocess([picture]))
    owners = assign(raw, [target], model.anchors, model.config)
    (gradient_sum,) = [
        sum(g.square().sum() for g in torch.autograd.grad(sum(losses.values()), raw))
        for losses in [yolo_v3_loss(raw, owners, model.config)]
    ]
    once = darknet_cost(model, [picture], [target])
    assert once.item() == pytest.approx(gradient_sum.item() / 3, rel=1e-4)
    twice = darknet_cost(model, [picture, picture], [target, target])
    assert twice.item() == pytest.approx(once.item(), rel=1e-4)


def test_darknet_cost_knows_the_authors_box_term_alone() -> None:
    picture = torch.randint(256, (3, 64, 64), dtype=torch.uint8)
    target = make_target(torch.tensor([[8.0, 8.0, 40.0, 40.0]]), torch.tensor([1]))
    plain, modern = (
        darknet_cost(small_model(**changes).eval(), [picture], [target])
        for changes in ({}, {"box_loss": "ciou", "box_scale": 4.0})
    )
    assert plain == modern > 0


def test_decode_puts_a_centred_box_where_the_formula_says() -> None:
    config = golden_config(num_classes=2, anchor_masks=((1,),))
    raw = torch.zeros(1, 1, 2, 3, 7)
    raw[0, 0, 1, 2, 2] = math.log(2.0)  # twice as wide as its anchor of 23 x 27
    raw[0, 0, 1, 2, 6] = 100.0
    boxes, scores = decode((raw,), torch.tensor(config.anchors), config)
    assert boxes.shape == (1, 6, 4)
    assert boxes[0, 5].tolist() == pytest.approx([80 - 23, 48 - 13.5, 80 + 23, 48 + 13.5])
    assert scores[0, 5].tolist() == pytest.approx([0.25, 0.5])  # a class does not push another


def test_select_reports_a_box_for_each_of_its_classes() -> None:
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [1.0, 0.0, 11.0, 10.0], [50.0, 50.0, 60.0, 60.0]])
    scores = torch.tensor([[0.9, 0.3], [0.8, 0.0], [0.004, 0.5]])
    found = select(boxes, scores, YoloV3Config(num_classes=2))
    assert found.scores.tolist() == pytest.approx([0.9, 0.5, 0.3])
    assert found.labels.tolist() == [0, 1, 1]


def test_batch_equals_one_by_one_and_the_canvas_may_be_oblong() -> None:
    model = small_model(input_size=(64, 96), score_threshold=0.2).eval()
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
    assert model(picture, [Target(box, label, difficult=yes, crowd=no)])["loss_class"] == 0
    assert model(picture, [make_target(box, label)])["loss_class"] > 0


def test_multi_scale_draws_every_ten_batches_and_ends_at_the_largest() -> None:
    sizes = [320, 416, 608]
    model = small_model(train_sizes=sizes, train_size_last=20)
    drawn = [model.train_size(step, 400, seed=5) for step in range(400)]
    assert all(len(set(drawn[i : i + 10])) == 1 for i in range(0, 380, 10))
    assert set(drawn) == {(size, size) for size in sizes}
    assert set(drawn[380:]) == {(608, 608)}
    assert small_model().train_size(3, 400, seed=5) == (64, 64)


@pytest.mark.parametrize(
    "backbone", [name for name in BACKBONES if {8, 16, 32} <= set(BACKBONES[name].strides)]
)
def test_any_backbone_goes_under_the_head(backbone: str) -> None:
    model = small_model(backbone=backbone).eval()
    out = model.network((torch.zeros(1, 3, 64, 96),))
    assert [tuple(scale.shape) for scale in out] == [
        (1, 3, 64 // stride, 96 // stride, 7) for stride in (32, 16, 8)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_the_full_networks_detect_and_learn_a_step(form: str) -> None:
    torch.manual_seed(0)
    model = build_detector({"name": form, "num_classes": 80, "input_size": (64, 96)})
    picture = torch.randint(256, (3, 60, 90), dtype=torch.uint8)
    (found,) = model.eval()([picture])
    assert (found.labels < 80).all()
    target = make_target(torch.tensor([[5.0, 5.0, 50.0, 40.0]]), torch.tensor([17]))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-5)
    losses = model.train()([picture, picture], [target, EMPTY])
    sum(losses.values()).backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())
    optimizer.step()
    with torch.no_grad():
        after = model([picture, picture], [target, EMPTY])
    assert sum(after.values()) < sum(losses.values())


# ------------------------------------------------------------------------------------ settings


def test_masks_follow_from_the_anchors() -> None:
    assert YoloV3Config(num_classes=1).anchor_masks == ((6, 7, 8), (3, 4, 5), (0, 1, 2))
    assert YoloV3SppConfig(num_classes=1).anchor_masks == ((6, 7, 8), (3, 4, 5), (0, 1, 2))
    assert YoloV3TinyConfig(num_classes=1).anchor_masks == ((3, 4, 5), (0, 1, 2))
    unsorted = YoloV3Config(num_classes=1, anchors=((90, 90), (10, 10), (40, 40)))
    assert unsorted.anchor_masks == ((0,), (2,), (1,))


def test_a_form_may_be_written_out_as_a_config_of_the_first() -> None:
    """What a form's config says is all there is to the form."""
    written = YoloV3TinyConfig(num_classes=4).model_dump()
    with torch.device("meta"):
        one, other = (
            build_detector({"name": "yolo_v3", **written}),
            build_detector({"name": "yolo_v3_tiny", "num_classes": 4}),
        )
    assert [(k, v.shape) for k, v in one.state_dict().items()] == [
        (k, v.shape) for k, v in other.state_dict().items()
    ]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"nms_iuo": 0.5}, "model.nms_iuo: unknown key. Did you mean 'nms_iou'?"),
        ({"input_size": 400}, "model.input_size: [400, 400] is not made of multiples of 32."),
        (
            {"train_sizes": [416, 430]},
            "model.train_sizes: [430, 430] is not made of multiples of 32.",
        ),
        (
            {"anchors": [[10, 0]]},
            "model.anchors: expected one or more [width, height] above 0, in canvas pixels.",
        ),
        (
            {"anchors": [[10, 10]] * 7},
            "model.anchor_masks: 7 anchors cannot be shared evenly by 3 scales; give 6 or 9 of "
            "them, or say which scale has which.",
        ),
        (
            {"anchors": [[10, 10]] * 2},
            "model.anchor_masks: 2 anchors cannot be shared evenly by 3 scales; give 3 of them, or "
            "say which scale has which.",
        ),
        (
            {"anchor_masks": [[6, 7, 9], [3, 4, 5], [0, 1, 2]]},
            "model.anchor_masks: [6, 7, 9] is not made of different indices from 0 to 8, for 9 "
            "anchors; leave it out for even shares.",
        ),
        (
            {"anchor_masks": [[3, 4, 5], [0, 1, 2]]},
            "model.anchor_masks: expected the anchors of each of the 3 scales, coarse to fine, got "
            "[[3, 4, 5], [0, 1, 2]]; leave it out for even shares.",
        ),
        (
            {"strides": [16, 8]},
            "model.strides: expected one or more strides, fine to coarse, each a multiple of the "
            "one before, e.g. [8, 16, 32]; got [16, 8].",
        ),
        (
            {"strides": [16, 8], "head_convs": []},  # the first mistake is told
            "model.strides: expected one or more strides, fine to coarse, each a multiple of the "
            "one before, e.g. [8, 16, 32]; got [16, 8].",
        ),
        (
            {"head_channels": [64, 32]},
            "model.head_channels: expected one number for each of the 3 scales, coarse to fine, "
            "got [64, 32].",
        ),
        (
            {"spp": True, "head_convs": [2, 2, 2]},
            "model.spp: needs 4 or more convolutions on the coarsest scale, but head_convs begins "
            "with 2.",
        ),
        (
            {"backbone": "darknet_tiny", "strides": [16, 32, 64]},
            "backbone 'darknet_tiny' has strides 2, 4, 8, 16, 32; asked for 16, 32, 64.",
        ),
        (
            {"box_loss": "iou"},
            "model.box_loss: expected 'squared', 'giou' or 'ciou'; got 'iou'.",
        ),
        ({"backbone": "resnet5"}, "no backbone named 'resnet5'. Did you mean 'resnet50'?"),
    ],
)
def test_mistakes_get_a_sentence(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(DetkitError) as caught:
        build_detector({"name": "yolo_v3", "num_classes": 2, **settings})
    assert str(caught.value) == sentence


def test_class_weights_are_one_a_class() -> None:
    with pytest.raises(ConfigError) as caught:
        parse(YoloV3Config, {"num_classes": 3, "class_weights": [1, 2]}, path="model.")
    assert str(caught.value) == (
        "model.class_weights: expected one weight of 0 or more for each class, got [1.0, 2.0]."
    )


@pytest.mark.gpu
def test_gpu_gives_what_the_cpu_gives() -> None:
    model = small_model().eval()
    picture = torch.randint(256, (3, 80, 60), dtype=torch.uint8)
    (here,) = model([picture])
    (there,) = model.cuda()([picture])
    torch.testing.assert_close(there.to("cpu").boxes, here.boxes, rtol=1e-3, atol=0.05)
