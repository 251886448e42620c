"""R-CNN: crops against a slow loop, windows, loss, what is reported, and the batch around them."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torchvision
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from detkit.backbones import BACKBONES
from detkit.config import parse
from detkit.detectors import RCNN, RCNNConfig, Step, build_detector
from detkit.detectors.rcnn import (
    CROPS_AT_ONCE,
    SHOWN_CROPS,
    Regions,
    Way,
    rcnn_loss,
    sample_windows,
    select_windows,
)
from detkit.detectors.rcnn_crops import crop_windows, side_by_side
from detkit.errors import ConfigError
from detkit.ops import box_iou
from detkit.types import Boxes, Target, make_target
from tests.oracles import random_boxes

SMALL: dict[str, Any] = {
    **{"name": "rcnn", "num_classes": 2, "backbone": "tiny", "head": "fc", "head_size": 2},
    **{"head_width": 16, "warp_size": 64, "context_padding": 4, "windows": 32},
}
CONFIG = RCNNConfig(num_classes=3, backbone="tiny", head="fc")
NONE = torch.zeros(0, 4)


def small(**changes: Any) -> RCNN:
    torch.manual_seed(0)
    detector = build_detector({**SMALL, **changes})
    assert isinstance(detector, RCNN)
    return detector


def noise(height: int, width: int, seed: int = 0) -> Tensor:
    draws = torch.Generator().manual_seed(seed)
    return torch.randint(256, (3, height, width), generator=draws, dtype=torch.uint8)


def boxes_in(count: int, seed: int, size: tuple[int, int] = (100, 100)) -> Boxes:
    """``[count, 4]`` boxes of a pixel or more in an image of ``size`` (height, width)."""
    limits = torch.tensor([size[1], size[0]] * 2)
    boxes = random_boxes(count, seed) / 500 * limits
    boxes[:, 2:] = torch.maximum(boxes[:, 2:], boxes[:, :2] + 1).minimum(limits[2:])
    boxes[:, :2] = torch.minimum(boxes[:, :2], boxes[:, 2:] - 1)
    return boxes


def target_of(boxes: list[list[float]], labels: list[int]) -> Target:
    return make_target(torch.tensor(boxes).reshape(-1, 4), torch.tensor(labels, dtype=torch.int64))


# --------------------------------------------------------------------------------- crops


def round_half_up(value: float) -> int:
    return math.floor(value + 0.5)


def slow_crop(image: Tensor, box: list[float], size: int, padding: int) -> Tensor:
    """One crop, pixel by pixel, from the description of ``rcnn_im_crop.m``."""
    _, height, width = image.shape
    x1, y1, x2, y2 = box
    context = size / (size - 2 * padding)
    half_width, half_height = (x2 - x1) / 2 * context, (y2 - y1) / 2 * context
    centre_x, centre_y = (x1 + x2) / 2, (y1 + y2) / 2
    left, right = round_half_up(centre_x - half_width), round_half_up(centre_x + half_width)
    top, bottom = round_half_up(centre_y - half_height), round_half_up(centre_y + half_height)
    seen_left, seen_right = max(left, 0), min(right, width)
    seen_top, seen_bottom = max(top, 0), min(bottom, height)
    scale_x, scale_y = size / (right - left), size / (bottom - top)
    pad_x = round_half_up((seen_left - left) * scale_x)
    pad_y = round_half_up((seen_top - top) * scale_y)
    share_x = min(round_half_up((seen_right - seen_left) * scale_x), size - pad_x)
    share_y = min(round_half_up((seen_bottom - seen_top) * scale_y), size - pad_y)
    crop = torch.zeros(3, size, size)
    for row in range(share_y):
        for column in range(share_x):
            x = (column + 0.5) * (seen_right - seen_left) / share_x - 0.5
            y = (row + 0.5) * (seen_bottom - seen_top) / share_y - 0.5
            x = min(max(x, 0), seen_right - seen_left - 1) + seen_left
            y = min(max(y, 0), seen_bottom - seen_top - 1) + seen_top
            crop[:, pad_y + row, pad_x + column] = bilinear(image, x, y)
    return crop


def bilinear(image: Tensor, x: float, y: float) -> Tensor:
    left, top = math.floor(x), math.floor(y)
    right, bottom = min(left + 1, image.shape[2] - 1), min(top + 1, image.shape[1] - 1)
    along, down = x - left, y - top
    above = image[:, top, left] * (1 - along) + image[:, top, right] * along
    below = image[:, bottom, left] * (1 - along) + image[:, bottom, right] * along
    return above * (1 - down) + below * down


@pytest.mark.parametrize(
    "box",
    [
        [10.0, 8.0, 30.0, 20.0],  # inside
        [0.0, 0.0, 40.0, 30.0],  # the whole image: context beyond it on every side
        [0.0, 5.0, 12.0, 25.0],  # at the left border
        [25.5, 20.25, 40.0, 30.0],  # in the bottom right corner, not on whole pixels
        [17.0, 3.0, 18.0, 29.0],  # a pixel wide
        [12.2, 12.2, 12.9, 12.8],  # less than a pixel
        [39.0, 0.0, 40.0, 1.0],  # one pixel in a corner
    ],
)
def test_a_crop_is_the_slow_one(box: list[float]) -> None:
    image = torch.randn(3, 30, 40, generator=torch.Generator().manual_seed(0))
    for size, padding in ((24, 3), (16, 0)):
        (found,) = crop_windows(image, torch.tensor([box]), size, padding)
        if box == [12.2, 12.2, 12.9, 12.8] and padding == 0:
            continue  # rounds to no pixel at all: see below
        torch.testing.assert_close(found, slow_crop(image, box, size, padding), atol=1e-4, rtol=0)


@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 9999))
def test_crops_of_any_image_are_the_slow_ones(height: int, width: int, seed: int) -> None:
    image = torch.randn(3, height, width, generator=torch.Generator().manual_seed(seed))
    boxes = boxes_in(3, seed, (height, width))
    found = crop_windows(image, boxes, 12, 2)
    for crop, box in zip(found, boxes.tolist(), strict=True):
        torch.testing.assert_close(crop, slow_crop(image, box, 12, 2), atol=1e-4, rtol=0)


def test_a_box_that_rounds_to_nothing_is_one_pixel() -> None:
    image = torch.arange(12.0).view(1, 3, 4).repeat(3, 1, 1)
    (found,) = crop_windows(image, torch.tensor([[1.2, 1.2, 1.4, 1.4]]), 4, 0)
    assert torch.equal(found, torch.full((3, 4, 4), 5.0))  # row 1, column 1


def test_the_box_fills_the_crop_but_for_the_padding() -> None:
    """A white box of 195 = 227 - 2 * 16 pixels on black: nothing is resized."""
    image = torch.zeros(3, 400, 400)
    image[:, 100:295, 60:255] = 1
    (crop,) = crop_windows(image, torch.tensor([[60.0, 100.0, 255.0, 295.0]]), 227, 16)
    expected = torch.zeros(3, 227, 227)
    expected[:, 16:-16, 16:-16] = 1
    torch.testing.assert_close(crop, expected, atol=2e-3, rtol=0)


def test_no_boxes_no_crops() -> None:
    assert crop_windows(torch.zeros(3, 5, 5), NONE, 8, 1).shape == (0, 3, 8, 8)


def test_three_hundred_crops_are_those_one_by_one() -> None:
    image = torch.randn(3, 90, 120, generator=torch.Generator().manual_seed(0))
    boxes = boxes_in(300, 1, (90, 120))
    every = crop_windows(image, boxes, 32, 2)
    alone = torch.cat([crop_windows(image, box[None], 32, 2) for box in boxes])
    assert torch.equal(every, alone)


# --------------------------------------------------------------------------------- batch


def test_images_keep_their_size_on_one_canvas() -> None:
    images = [noise(20, 30), noise(25, 10, 1)]
    mean, std = (0.5, 0.25, 0.125), (0.5, 0.25, 1.0)
    batch = side_by_side(images, (1, 1), mean, std)
    assert batch.pixels.shape == (2, 3, 25, 30)
    assert side_by_side(images, (40, 20), mean, std).pixels.shape == (2, 3, 40, 30)
    for pixels, image, place in zip(batch.pixels, images, batch.geometry, strict=True):
        height, width = image.shape[1:]
        assert (place.scale, place.shift, place.size) == ((1, 1), (0, 0), (height, width))
        for channel in range(3):
            expected = (image[channel] / 255 - mean[channel]) / std[channel]
            torch.testing.assert_close(pixels[channel, :height, :width], expected)
        assert not pixels[:, height:].any()
        assert not pixels[:, :, width:].any()


def test_an_image_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a \\[3, H, W\\] uint8 RGB tensor"):
        small().preprocess([torch.zeros(3, 8, 8)])


# ------------------------------------------------------------------------------- windows


def slow_class(window: list[float], target: Target) -> int:
    """The class of the object that a window overlaps most, if by half; else background, 3."""
    best, label = 0.0, 3
    for box, name in zip(target.boxes.tolist(), target.labels.tolist(), strict=True):
        wide = min(window[2], box[2]) - max(window[0], box[0])
        high = min(window[3], box[3]) - max(window[1], box[1])
        inter = max(wide, 0) * max(high, 0)
        areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (window, box)]
        iou = inter / (sum(areas) - inter)
        if iou > best:
            best, label = iou, name
    return label if best >= 0.5 else 3


def test_windows_have_the_class_of_what_they_overlap_most() -> None:
    target = target_of([[10, 10, 50, 50], [40, 40, 90, 90], [0, 60, 20, 99]], [2, 0, 1])
    proposals = torch.cat([boxes_in(60, 3), target.boxes + 2])
    config = CONFIG.model_copy(update={"windows": 1000, "positive_share": 1.0})
    (windows,) = sample_windows([proposals], [target], config, torch.Generator())
    assert torch.equal(
        windows.boxes, torch.cat([proposals, target.boxes])
    )  # objects are among them
    expected = [slow_class(box, target) for box in windows.boxes.tolist()]
    assert windows.labels.tolist() == expected
    assert set(expected) == {0, 1, 2, 3}


def test_a_step_has_128_windows_a_quarter_of_them_objects() -> None:
    """Over all images of the batch, not of each."""
    target = target_of([[10, 10, 60, 60]], [1])
    near = target.boxes + torch.linspace(-3, 3, 50)[:, None]
    images = [torch.cat([near, boxes_in(100, seed)]) for seed in range(3)]
    drawn = sample_windows(images, [target] * 3, CONFIG, torch.Generator().manual_seed(0))
    labels = torch.cat([each.labels for each in drawn])
    assert len(labels) == 128
    assert (labels == 1).sum() == 32
    assert (labels == 3).sum() == 96
    assert all(len(each.labels) > 0 for each in drawn)


def test_the_crops_that_are_shown_are_those_that_are_learned_from() -> None:
    """Objects first, then backgrounds, each the network's own input; the box is the region."""
    model = small(windows=40)
    images = [noise(60, 90), noise(80, 70, seed=1)]
    targets = [
        make_target(torch.tensor([[10.0, 5.0, 50.0, 45.0]]), torch.tensor([label]))
        for label in (0, 1)
    ]
    boxes = [boxes_in(30, seed, (60, 70)) for seed in (0, 1)]
    batch, step = model.preprocess(images).with_proposals(boxes), Step(seen=7)
    drawn = model.draw(batch, targets, step)
    crops = torch.cat(
        [
            crop_windows(image[:, : place.placed[0], : place.placed[1]], each.boxes, 64, 4)
            for image, place, each in zip(batch.pixels, batch.geometry, drawn, strict=True)
        ]
    )
    labels = torch.cat([each.labels for each in drawn])
    shown = model.shown(batch, targets, step)
    objects = int((labels < 2).sum())
    assert 0 < objects < SHOWN_CROPS
    assert len(shown) == objects + SHOWN_CROPS
    expected = [*crops[labels < 2], *crops[labels == 2][:SHOWN_CROPS]]
    for (pixels, _), crop in zip(shown, expected, strict=True):
        assert torch.equal(pixels, crop)
    assert torch.cat([target.labels for _, target in shown]).tolist() == labels[labels < 2].tolist()
    assert all(target.boxes.tolist() == [[4, 4, 60, 60]] for _, target in shown[:objects])
    assert not any(len(target) for _, target in shown[objects:])


def test_parts_of_a_step_share_its_windows() -> None:
    """Micro-batches must not look at more than the step does: memory is in the crops."""
    image = boxes_in(300, 4)
    target = make_target(torch.tensor([[10.0, 10.0, 60.0, 60.0]]), torch.tensor([1]))
    shares = [0.25, 0.25, 0.5]
    counts = []
    for share in shares:
        images = [image] * int(4 * share)
        draws = torch.Generator().manual_seed(0)
        drawn = sample_windows(images, [target] * len(images), CONFIG, draws, share)
        counts.append(sum(len(each.boxes) for each in drawn))
    assert counts == [32, 32, 64]
    assert sum(counts) == CONFIG.windows


def test_backgrounds_take_the_places_of_missing_objects() -> None:
    far = torch.tensor([[500.0, 500.0, 600.0, 600.0]]).repeat(200, 1)
    target = target_of([[10, 10, 60, 60]], [1])
    (drawn,) = sample_windows([far], [target], CONFIG, torch.Generator())
    assert drawn.labels.tolist() == [3] * 127 + [1]


@pytest.mark.parametrize(
    ("proposals", "objects"), [(NONE, 0), (NONE, 1), (boxes_in(5, 1), 0)], ids=str
)
def test_windows_of_images_without(proposals: Boxes, objects: int) -> None:
    target = target_of([[10, 10, 60, 60]] * objects, [0] * objects)
    (drawn,) = sample_windows([proposals], [target], CONFIG, torch.Generator())
    assert drawn.boxes.shape == (len(proposals) + objects, 4)
    assert drawn.labels.tolist() == [3] * len(proposals) + [0] * objects


def test_the_loss_is_the_mean_of_minus_log_p() -> None:
    logits = torch.tensor([[0.0, 1.0, 2.0], [3.0, 0.0, -1.0]])
    losses = rcnn_loss(logits, torch.tensor([2, 1]))
    expected = 0.0
    for row, label in zip(logits.tolist(), (2, 1), strict=True):
        expected -= math.log(math.exp(row[label]) / sum(map(math.exp, row))) / 2
    assert losses["loss_class"].item() == pytest.approx(expected)
    assert set(losses) == {"loss_class"}
    assert rcnn_loss(logits[:0], torch.tensor([], dtype=torch.int64))["loss_class"] == 0


def test_steps_draw_by_their_seed_alone() -> None:
    model = small(windows=8).train()
    images, targets = [noise(60, 80)], [target_of([[10, 10, 50, 50]], [1])]
    found = [
        model(images, targets, [boxes_in(80, 2, (60, 80))], Step(seen=seen, seed=seed))[
            "loss_class"
        ].item()
        for seen, seed in ((0, 0), (0, 0), (8, 0), (0, 1))
    ]
    assert found[0] == found[1]
    assert len(set(found)) == 3


@pytest.mark.parametrize("objects", [0, 1])
@pytest.mark.parametrize("proposals", [[], [[5.0, 5.0, 40.0, 30.0]]], ids=["none", "one"])
def test_every_parameter_learns_whatever_is_there(objects: int, proposals: list[Any]) -> None:
    model = small().train()
    targets = [target_of([[10, 10, 50, 50]] * objects, [0] * objects)] * 2
    given_boxes = [torch.tensor(proposals).reshape(-1, 4)] * 2
    losses = model([noise(60, 80), noise(50, 40, 1)], targets, given_boxes)
    assert isinstance(losses, dict)
    losses["loss_class"].backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


# ------------------------------------------------------------------------------- reports


def slow_report(
    windows: Boxes, scores: Tensor, deltas: Tensor | None, size: tuple[int, int], most: int
) -> list[tuple[float, int, list[float]]]:
    """Class by class, as ``rcnn_test.m``: the best, moved, clipped, suppressed at 0.3."""
    found = []
    for label in range(scores.shape[1]):
        order = sorted(range(len(windows)), key=lambda row: -scores[row, label].item())[:most]
        kept: list[list[float]] = []
        for row in order:
            x1, y1, x2, y2 = windows[row].tolist()
            if deltas is not None:
                dx, dy, dw, dh = deltas[row, label].tolist()
                centre_x, centre_y = (x1 + x2) / 2 + dx * (x2 - x1), (y1 + y2) / 2 + dy * (y2 - y1)
                wide, high = (x2 - x1) * math.exp(dw), (y2 - y1) * math.exp(dh)
                x1, x2 = centre_x - wide / 2, centre_x + wide / 2
                y1, y2 = centre_y - high / 2, centre_y + high / 2
            box = [max(x1, 0.0), max(y1, 0.0), min(x2, size[1]), min(y2, size[0])]
            if box[2] <= box[0] or box[3] <= box[1]:
                continue
            overlaps = box_iou(torch.tensor([box]), torch.tensor(kept).reshape(-1, 4))
            if not (overlaps > 0.3).any():
                kept.append(box)
                found.append((scores[row, label].item(), label, box))
    return sorted(found, key=lambda each: -each[0])


@pytest.mark.parametrize("moved", [False, True])
def test_what_is_reported_is_the_slow_loops(moved: bool) -> None:
    draws = torch.Generator().manual_seed(4)
    windows, scores = boxes_in(70, 4), torch.rand(70, 3, generator=draws)
    deltas = torch.randn(70, 3, 4, generator=draws) * 0.3 if moved else None
    config = CONFIG.model_copy(update={"max_per_class": 40})
    found = select_windows(windows, scores, deltas, (80, 90), config)
    expected = slow_report(windows, scores, deltas, (80, 90), 40)
    assert found.labels.tolist() == [label for _, label, _ in expected]
    torch.testing.assert_close(found.scores, torch.tensor([score for score, _, _ in expected]))
    torch.testing.assert_close(found.boxes, torch.tensor([box for _, _, box in expected]))


def test_nothing_is_reported_of_no_windows_or_low_scores() -> None:
    assert len(select_windows(NONE, torch.zeros(0, 3), None, (50, 50), CONFIG)) == 0
    config = CONFIG.model_copy(update={"score_threshold": 0.5})
    found = select_windows(
        boxes_in(4, 1), torch.tensor([[0.5, 0.4, 0.6]]).repeat(4, 1), None, (99, 99), config
    )
    assert set(found.labels.tolist()) == {2}


def test_svms_and_boxes_speak_when_they_are_asked() -> None:
    """Margins of scaled features, in 0..1; moves of scaled pool5 features and a 1."""
    model = small()
    draws = torch.Generator().manual_seed(1)
    for buffer in (model.svm_weights, model.svm_biases, model.box_weights):
        buffer.copy_(torch.randn(buffer.shape, generator=draws) * 0.05)
    model.svm_scale.fill_(2.0)
    model.box_scale.fill_(0.5)
    windows = torch.tensor([[10.0, 10.0, 30.0, 40.0]])
    pool5, fc7 = torch.rand(1, 1024, generator=draws), torch.rand(1, 16, generator=draws)
    said = Regions(pool5, fc7, torch.tensor([[1.0, 2.0, 0.0]]))
    plain = model.report(said, windows, (60, 60), Way("softmax", regress=False))
    bottom = math.e + math.e**2 + 1
    assert plain.scores.tolist() == pytest.approx([math.e**2 / bottom, math.e / bottom])
    assert plain.boxes.tolist() == [windows[0].tolist()] * 2
    svm = model.report(said, windows, (60, 60), Way("svm", regress=False))
    for score, label in zip(svm.scores.tolist(), svm.labels.tolist(), strict=True):
        margin = sum((2.0 * fc7[0] * model.svm_weights[label]).tolist()) + model.svm_biases[label]
        assert score == pytest.approx(1 / (1 + math.exp(-margin)), rel=1e-5)
    moved = model.report(said, windows, (600, 600), Way("svm", regress=True))
    for box, label in zip(moved.boxes, moved.labels.tolist(), strict=True):
        features = torch.cat([0.5 * pool5[0], torch.ones(1)])
        dx, dy, dw, dh = (features @ model.box_weights[label]).tolist()
        centre = [20 + 20 * dx, 25 + 30 * dy]
        sides = [20 * math.exp(dw), 30 * math.exp(dh)]
        expected = torch.tensor(
            [centre[axis] + sign * sides[axis] / 2 for sign in (-1, 1) for axis in (0, 1)]
        ).clamp(min=0)
        torch.testing.assert_close(box, expected, rtol=1e-4, atol=1e-3)


def test_what_is_fitted_travels_with_the_weights() -> None:
    names = set(small().state_dict()) - {name for name, _ in small().named_parameters()}
    fitted = {"svm_weights", "svm_biases", "svm_scale", "box_weights", "box_scale"}
    assert fitted <= names
    assert all(not small().state_dict()[name].any() for name in fitted)


# ------------------------------------------------------------------------------ detection


def test_images_and_many_windows_do_not_depend_on_each_other() -> None:
    model = small(score_threshold=0.0, max_per_class=1000, nms_iou=1.0).eval()
    images = [noise(60, 90), noise(70, 50, 1), noise(64, 64, 2)]
    boxes = [boxes_in(CROPS_AT_ONCE + 40, 1, (60, 90)), boxes_in(3, 2, (70, 50)), NONE]
    for found, image, given_boxes in zip(model(images, None, boxes), images, boxes, strict=True):
        (alone,) = model([image], None, [given_boxes])
        assert len(found) == 2 * len(given_boxes)
        torch.testing.assert_close(found.scores, alone.scores)
        torch.testing.assert_close(found.boxes, alone.boxes)


def test_without_proposals_selective_search_finds_them() -> None:
    model = small().eval()
    image = noise(64, 96)
    image[:, 10:40, 20:60] = 255
    (own,) = model([image])
    (given_them,) = model([image], None, [model.config.proposals.find(image)])
    assert torch.equal(own.boxes, given_them.boxes)
    assert len(own) > 0


@pytest.mark.slow
@torch.no_grad()
def test_alexnet_classifies_a_crop_as_torchvision_does() -> None:
    """The whole road from pixels to fc7, at the paper's 227 pixels."""
    torch.manual_seed(0)
    model = RCNN(RCNNConfig(num_classes=2)).eval()
    network = torchvision.models.alexnet(weights=None).eval()
    network.load_state_dict(model.backbone.state_dict(), strict=False)
    image = noise(195, 195)
    batch = model.preprocess([image])
    said = model.look(batch.pixels[0], batch.geometry[0], torch.tensor([[0.0, 0, 195, 195]]))
    crop = torch.zeros(1, 3, 227, 227)
    crop[:, :, 16:-16, 16:-16] = batch.pixels
    pool5 = network.features(crop).flatten(1)
    torch.testing.assert_close(said.pool5, pool5, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(said.fc7, network.classifier[:-1](pool5), atol=1e-3, rtol=1e-3)
    assert model.box_weights.shape == (2, 9217, 4)


@pytest.mark.slow
def test_any_backbone_will_do() -> None:
    for name in BACKBONES:
        model = small(backbone=name).train()
        losses = model(
            [noise(70, 90)], [target_of([[10, 10, 60, 60]], [1])], [boxes_in(9, 1, (70, 90))]
        )
        assert isinstance(losses, dict)
        losses["loss_class"].backward()
        assert all(parameter.grad is not None for parameter in model.parameters()), name


# ------------------------------------------------------------------------------- messages


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"backbone": "tiny"},
            "model: head: backbone 'tiny' has no layers for pooled regions "
            f"({', '.join(name for name in BACKBONES if BACKBONES[name].has_roi_tail)} have); "
            "take fc.",
        ),
        (
            {"backbone": "tiny", "head": "fc", "warp_size": 32},
            "model: context_padding: 16 pixels on either side leave nothing of a crop of 32; take "
            "less than half of it.",
        ),
        ({"svm": {"biass": 1}}, "model.svm.biass: unknown key. Did you mean 'bias'?"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(RCNNConfig, {"num_classes": 2, **settings}, path="model.")
    assert str(caught.value) == said


def test_what_is_said_of_regions_is_held_of_one_image_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of 2,000 windows it is 100 MB: of a batch of eight it would be most of a gigabyte."""
    model, held = small().eval(), list[int]()
    outputs = RCNN.outputs

    def counted(self: RCNN, batch: Any) -> tuple[Tensor, ...]:
        held.append(len(batch.geometry))
        return outputs(self, batch)

    monkeypatch.setattr(RCNN, "outputs", counted)
    images = [torch.zeros(3, 40, 50, dtype=torch.uint8)] * 3
    boxes = [torch.tensor([[1.0, 2.0, 30.0, 35.0]])] * 3
    assert len(model.detect_batch(images, boxes)) == 3
    assert held == [1, 1, 1]
