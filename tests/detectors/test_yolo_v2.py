"""YOLOv2 against the published sizes, the source's rules and a person's sums."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from detkit.backbones import BACKBONES
from detkit.config import parse
from detkit.detectors import build_detector
from detkit.detectors.darknet_cost import darknet_cost, yolo_v2_deltas
from detkit.detectors.yolo_v2 import YoloV2, YoloV2Config, assign, decode, select
from detkit.errors import ConfigError, DetkitError
from detkit.experiment.read import read_experiment
from detkit.layers import reorg
from detkit.types import Target, make_target

CONFIGS = Path(__file__).parents[2] / "configs"
TINY = {"backbone": "darknet_tiny", "passthrough": False}
LOSS_NAMES = {"loss_coord", "loss_prior", "loss_obj", "loss_noobj", "loss_class"}


def small_model(**changes: Any) -> YoloV2:
    torch.manual_seed(0)
    settings = {"num_classes": 2, "backbone": "tiny", "head_channels": 32, "input_size": 64}
    return YoloV2(YoloV2Config(**(settings | changes)))


def test_darknet_cost_is_that_of_an_image() -> None:
    """Darknet's log divides by the images of a batch, and difficult objects were never labels."""
    model = small_model(prior_images=0).eval()
    pictures = [torch.randint(256, (3, 64, 64), dtype=torch.uint8) for _ in range(2)]
    boxes = torch.tensor([[4.0, 4.0, 40.0, 40.0], [30.0, 10.0, 60.0, 50.0]])
    targets = [make_target(boxes[:1], torch.tensor([1])), make_target(boxes, torch.tensor([0, 1]))]
    (raw,) = model.network((torch.stack(pictures) / 255,))
    owners = assign(raw, targets, model.anchors, model.config)
    deltas = yolo_v2_deltas(raw, owners, model.config, seen=0)
    expected = deltas.square().sum().item() / 2
    assert darknet_cost(model, pictures, targets).item() == pytest.approx(expected, rel=1e-4)
    no, yes = torch.tensor([False, False]), torch.tensor([False, True])
    hard = [targets[0], Target(boxes, torch.tensor([0, 1]), difficult=yes, crowd=no)]
    easy = [targets[0], make_target(boxes[:1], torch.tensor([0]))]
    found = [darknet_cost(model, pictures, case).item() for case in (hard, easy)]
    assert found[0] == found[1] != pytest.approx(expected, rel=1e-4)


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
        (out,) = model.network((pixels,))
    assert counter.get_total_flops() / 1e9 == pytest.approx(gflops, abs=5e-4)
    assert out.shape == (1, 5, size // 32, size // 32, 5 + settings["num_classes"])


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


@pytest.mark.parametrize(
    "backbone", [name for name in BACKBONES if {16, 32} <= {*BACKBONES[name].strides}]
)
def test_any_backbone_goes_under_the_head(backbone: str) -> None:
    model = small_model(backbone=backbone).eval()
    (out,) = model.network((torch.zeros(1, 3, 64, 96),))
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


COCO_ANCHORS = (
    *((0.57273, 0.677385), (1.87446, 2.06253), (3.33843, 5.47434)),
    *((7.88282, 3.52778), (9.77052, 9.16828)),
)


@pytest.mark.parametrize(
    ("recipe", "learnable", "jitter", "steps", "anchors"),
    [
        ("yolo_v2_voc", 50_655_389, 0.3, (80_200, 40_000, 60_000), None),
        ("yolo_v2_tiny_voc", 15_861_773, 0.2, (40_200, 100, 20_000, 30_000), None),
        ("yolo_v2_coco", 50_962_889, 0.3, (500_200, 400_000, 450_000), COCO_ANCHORS),
        ("yolo_v2_tiny_coco", 11_232_057, 0.2, (500_200, 400_000, 450_000), COCO_ANCHORS),
    ],
)
def test_recipes_have_the_authors_numbers(
    recipe: str, learnable: int, jitter: float, steps: tuple[int, ...], anchors: Any
) -> None:
    experiment, _ = read_experiment(CONFIGS / f"{recipe}.yaml")
    with torch.device("meta"):
        model = build_detector(experiment.model)
    assert sum(parameter.numel() for parameter in model.parameters()) == learnable
    assert isinstance(model.config, YoloV2Config)
    assert model.config.anchors_cells == (
        anchors or type(model.config)(num_classes=1).anchors_cells
    )
    assert model.config.train_sizes == tuple((32 * k, 32 * k) for k in range(10, 20))
    assert model.config.rescore == (recipe != "yolo_v2_tiny_coco")
    assert (model.config.box_loss, model.config.positive_iou) == ("squared", None)
    train = experiment.train
    assert (train.iterations, *train.lr_step_iterations) == steps
    assert (train.batch_size, train.momentum, train.weight_decay) == (64, 0.9, 5e-4)
    assert (train.lr, train.burn_in) == ((1e-4, 0) if "tiny_voc" in recipe else (1e-3, 1000))
    look = train.augment
    assert (look.jitter, look.hue, look.saturation, look.exposure) == (jitter, 0.1, 1.5, 1.5)
