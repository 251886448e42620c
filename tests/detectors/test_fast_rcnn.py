"""The second stage against slow loops in float64 and against torchvision's RoI heads."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from detkit.backbones import BACKBONES
from detkit.detectors.fast_rcnn import (
    RoIHead,
    RoITargets,
    roi_layers,
    roi_loss,
    sample_rois,
    select_rois,
)
from detkit.detectors.shared_maps import RegionConfig
from detkit.layers import freeze_batch_norm, set_batch_norm_eps
from detkit.ops.boxes import box_iou
from detkit.ops.deltas import encode_deltas
from detkit.ops.rois import in_batch
from detkit.types import Target, make_target
from tests.oracles import random_boxes

CLASSES = 5  # background is class 5
WEIGHTS = (10.0, 10.0, 5.0, 5.0)  # torchvision's; one over our standard deviations


def config(**changes: Any) -> RegionConfig:
    return RegionConfig(num_classes=CLASSES, **changes)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_target(objects: int, seed: int, crowds: int = 0) -> Target:
    boxes = random_boxes(objects + crowds, seed)
    crowd = torch.arange(objects + crowds) >= objects
    labels = torch.randint(CLASSES, (objects + crowds,), generator=seeded(seed))
    return Target(boxes, labels, difficult=torch.zeros_like(crowd), crowd=crowd)


def near(target: Target, n: int, seed: int) -> Tensor:
    """``[n, 4]`` half of them near the objects, half anywhere."""
    anywhere = random_boxes(n, seed)
    if not len(target):
        return anywhere
    pick = torch.randint(len(target), (n // 2,), generator=seeded(seed))
    shake = 20 * torch.randn(n // 2, 2, generator=seeded(seed)).repeat(1, 2)
    return torch.cat([target.boxes[pick] + shake, anywhere[n // 2 :]])


# ------------------------------------------------------------------------------- sampling


def slow_kinds(proposals: Tensor, target: Target, config: RegionConfig) -> list[tuple[str, int]]:
    """Of each proposal, the objects last: positive, negative or ignored, and its object's row."""
    kinds = []
    gt = [row for row in range(len(target)) if not target.crowd[row]]
    crowds = [row for row in range(len(target)) if target.crowd[row]]
    boxes = target.boxes.double().tolist()
    for roi in [*proposals.double().tolist(), *(boxes[row] for row in gt)]:
        ious, covers = [], [0.0]
        size = (roi[2] - roi[0]) * (roi[3] - roi[1])
        for row in gt + crowds:
            x1, y1, x2, y2 = boxes[row]
            wide, high = min(roi[2], x2) - max(roi[0], x1), min(roi[3], y2) - max(roi[1], y1)
            shared = max(wide, 0.0) * max(high, 0.0)
            if row in crowds:
                covers.append(shared / size)
            else:
                ious.append(shared / (size + (x2 - x1) * (y2 - y1) - shared))
        best = max(ious, default=0.0)
        owner = gt[ious.index(best)] if gt else -1
        kind = "ignored"
        if max(covers) <= config.crowd_cover:
            if best >= config.roi_positive_iou:
                kind = "positive"
            elif config.roi_negative_iou[0] <= best < config.roi_negative_iou[1]:
                kind = "negative"
        kinds.append((kind, owner))
    return kinds


def check_sample(
    proposals: Tensor, target: Target, config: RegionConfig, seed: int = 0
) -> RoITargets:
    found = sample_rois(proposals, target, config, seeded(seed))
    gt = target.boxes[~target.crowd]
    every = torch.cat([proposals, gt])
    kinds = slow_kinds(proposals, target, config)
    pos = sum(kind == "positive" for kind, _ in kinds)
    neg = sum(kind == "negative" for kind, _ in kinds)
    most = int(config.roi_samples * config.roi_positive_share)
    count_pos = min(pos, most)
    count_neg = min(neg, config.roi_samples - count_pos)
    assert len(found.rois) == len(found.labels) == len(found.gt_boxes) == count_pos + count_neg
    assert (found.labels < CLASSES).tolist() == [True] * count_pos + [False] * count_neg
    assert (found.labels[count_pos:] == CLASSES).all()
    taken = set()
    for row, roi in enumerate(found.rois.tolist()):
        same = [index for index, box in enumerate(every.tolist()) if box == roi]
        wanted = "positive" if row < count_pos else "negative"
        (kind, owner), *_ = [kinds[index] for index in same]
        assert kind == wanted
        taken.add(same[0])
        if wanted == "positive":
            assert found.labels[row] == target.labels[owner]
            assert torch.equal(found.gt_boxes[row], target.boxes[owner])
    assert len(taken) == len(found.rois)  # no region twice
    return found


@settings(max_examples=30)
@given(st.integers(0, 60), st.integers(0, 6), st.integers(0, 2), st.integers(0, 9999))
def test_sampling_equals_a_slow_loop(n: int, objects: int, crowds: int, seed: int) -> None:
    target = random_target(objects, seed, crowds)
    check_sample(near(target, n, seed + 1), target, config(roi_samples=16), seed)


@settings(max_examples=15)
@given(st.integers(0, 60), st.integers(0, 4), st.integers(0, 9999))
def test_fast_rcnns_own_threshold_from_a_tenth(n: int, objects: int, seed: int) -> None:
    target = random_target(objects, seed)
    check_sample(near(target, n, seed + 1), target, config(roi_negative_iou=(0.1, 0.5)), seed)


def test_a_thousand_proposals_and_one_object() -> None:
    """32 positive of 128, as in the paper; with fewer than 32, all there are."""
    target = make_target(torch.tensor([[200.0, 200.0, 300.0, 320.0]]), torch.tensor([3]))
    close = target.boxes + torch.linspace(-4, 4, 40)[:, None]
    far = random_boxes(960, 4) + 500
    found = check_sample(torch.cat([close, far]), target, config())
    assert int((found.labels < CLASSES).sum()) == 32
    assert len(found.rois) == 128
    found = check_sample(torch.cat([close[:9], far]), target, config())
    assert int((found.labels < CLASSES).sum()) == 10  # nine, and the object itself
    assert len(found.rois) == 128


def test_no_proposals_leave_the_objects_themselves() -> None:
    target = random_target(3, 5)
    found = check_sample(torch.zeros(0, 4), target, config())
    assert sorted(found.rois.tolist()) == sorted(target.boxes.tolist())
    assert sorted(found.labels.tolist()) == sorted(target.labels.tolist())
    torch.testing.assert_close(encode_deltas(found.rois, found.gt_boxes), torch.zeros(3, 4))


def test_no_objects_are_all_background() -> None:
    nothing = random_target(0, 6)
    found = check_sample(random_boxes(300, 7), nothing, config())
    assert found.labels.tolist() == [CLASSES] * 128
    found = check_sample(torch.zeros(0, 4), nothing, config())
    assert [len(part) for part in found] == [0, 0, 0]


def test_crowds_are_no_objects_and_their_regions_no_background() -> None:
    """Regions that lie in the crowd by more than 70 % are left out; it is never an object."""
    target = Target(
        torch.tensor([[0.0, 0.0, 200.0, 200.0]]),
        torch.tensor([2]),
        difficult=torch.tensor([False]),
        crowd=torch.tensor([True]),
    )
    inside = torch.tensor([[10.0, 10.0, 60.0, 60.0], [160.0, 0.0, 210.0, 50.0]])  # all; 80 %
    outside = torch.tensor([[165.0, 0.0, 215.0, 50.0], [300.0, 300.0, 400.0, 400.0]])  # 70 %; none
    found = check_sample(torch.cat([inside, outside]), target, config())
    assert sorted(found.rois.tolist()) == sorted(outside.tolist())
    assert found.labels.tolist() == [CLASSES, CLASSES]


def test_the_same_seed_the_same_regions() -> None:
    target = random_target(4, 8)
    proposals = near(target, 500, 9)
    first, again, other = (sample_rois(proposals, target, config(), seeded(s)) for s in (1, 1, 2))
    assert all(map(torch.equal, first, again))
    assert not torch.equal(first.rois, other.rois)


def test_as_torchvisions_heads_label_them() -> None:
    """Their samples differ; what is positive, and whose, does not."""
    from torchvision.models.detection.roi_heads import RoIHeads

    heads = RoIHeads(None, None, None, 0.5, 0.5, 512, 0.25, None, 0.05, 0.5, 100)
    target = random_target(6, 10)
    proposals = near(target, 200, 11)
    (every,) = heads.add_gt_proposals([proposals], [target.boxes])
    (owners,), (labels,) = heads.assign_targets_to_proposals(
        [every], [target.boxes], [target.labels + 1]
    )
    found = sample_rois(proposals, target, config(roi_samples=1000), seeded())
    assert len(found.rois) == 206  # all of them
    for roi, label, gt in zip(*found, strict=True):
        row = int((every == roi).all(dim=1).nonzero()[0, 0])
        assert label == (labels[row] - 1) % (CLASSES + 1)  # its background is 0
        if label < CLASSES:
            assert torch.equal(gt, target.boxes[owners[row]])


# ----------------------------------------------------------------------------------- loss


def random_rows(n: int, seed: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, RoITargets]:
    """Logits, deltas and targets of ``n`` regions, about a quarter of them objects."""
    draws = seeded(seed)
    labels = torch.randint(CLASSES, (n,), generator=draws)
    labels[torch.rand(n, generator=draws) < 0.75] = CLASSES
    rois, gt = random_boxes(n, seed).to(dtype), random_boxes(n, seed + 1).to(dtype)
    logits = torch.randn(n, CLASSES + 1, generator=draws, dtype=dtype)
    deltas = torch.randn(n, CLASSES + 1, 4, generator=draws, dtype=dtype)
    return logits, deltas, RoITargets(rois, labels, gt)


def smooth_l1(x: float, beta: float) -> float:
    """The sources' with sigma: half sigma squared x squared below 1 / sigma squared = beta."""
    return 0.5 * x * x / beta if abs(x) < beta else abs(x) - 0.5 * beta


@pytest.mark.parametrize("beta", [1.0, 1 / 9])
@pytest.mark.parametrize("n", [1, 40])
def test_loss_equals_a_slow_loop(n: int, beta: float) -> None:
    logits, deltas, targets = random_rows(n, 1, torch.float64)
    classes = boxes = 0.0
    for row in range(n):
        label = int(targets.labels[row])
        exps = [math.exp(value) for value in logits[row].tolist()]
        classes -= math.log(exps[label] / sum(exps))
        if label == CLASSES:
            continue
        (x1, y1, x2, y2), (u1, v1, u2, v2) = (
            targets.rois[row].tolist(),
            targets.gt_boxes[row].tolist(),
        )
        goal = [
            ((u1 + u2) / 2 - (x1 + x2) / 2) / (x2 - x1) / 0.1,
            ((v1 + v2) / 2 - (y1 + y2) / 2) / (y2 - y1) / 0.1,
            math.log((u2 - u1) / (x2 - x1)) / 0.2,
            math.log((v2 - v1) / (y2 - y1)) / 0.2,
        ]
        said = deltas[row, label].tolist()
        boxes += sum(smooth_l1(a - b, beta) for a, b in zip(said, goal, strict=True))
    losses = roi_loss(logits, deltas, targets, config(roi_beta=beta))
    assert losses["loss_class"].item() == pytest.approx(classes / n)
    assert losses["loss_box"].item() == pytest.approx(boxes / n)
    assert set(losses) == {"loss_class", "loss_box"}


@pytest.mark.parametrize("seed", range(3))
def test_loss_equals_torchvisions(seed: int) -> None:
    """Its background is class 0, its deltas are flat; both are divided by all regions drawn."""
    from torchvision.models.detection._utils import BoxCoder
    from torchvision.models.detection.roi_heads import fastrcnn_loss

    logits, deltas, targets = random_rows(128, seed, torch.float32)
    (goals,) = BoxCoder(WEIGHTS).encode([targets.gt_boxes], [targets.rois])
    expected = fastrcnn_loss(
        logits.roll(1, dims=1),
        deltas.roll(1, dims=1).flatten(1),
        [(targets.labels[:50] + 1) % (CLASSES + 1), (targets.labels[50:] + 1) % (CLASSES + 1)],
        [goals[:50], goals[50:]],
    )
    losses = roi_loss(logits, deltas, targets, config(roi_beta=1 / 9))
    torch.testing.assert_close(losses["loss_class"], expected[0])
    torch.testing.assert_close(losses["loss_box"], expected[1])


def test_gradients_in_double_precision() -> None:
    logits, deltas, targets = random_rows(6, 2, torch.float64)
    targets.labels[0] = 1

    def losses(logits: Tensor, deltas: Tensor) -> tuple[Tensor, ...]:
        return tuple(roi_loss(logits, deltas, targets, config()).values())

    assert torch.autograd.gradcheck(losses, (logits.requires_grad_(), deltas.requires_grad_()))


def test_backgrounds_deltas_never_learn() -> None:
    logits, deltas, targets = random_rows(30, 3, torch.float32)
    deltas.requires_grad_()
    roi_loss(logits, deltas, targets, config())["loss_box"].backward()
    assert deltas.grad is not None
    assert not deltas.grad[:, CLASSES].any()
    others = torch.arange(CLASSES + 1) != targets.labels[:, None]
    assert not deltas.grad[others].any()


def small_head(classes: int, head_width: int = 8) -> RoIHead:
    """On one map of 128 channels, 16 pixels a cell."""
    settings = {"roi_head": "mlp", "roi_size": 2, "head_width": head_width}
    numbers = RegionConfig(num_classes=classes, **settings)
    return RoIHead(BACKBONES["tiny"].build((16,)), numbers)


def test_loss_of_no_regions_is_nought_and_has_a_gradient() -> None:
    head = small_head(CLASSES)
    logits, deltas = head([torch.zeros(1, 128, 4, 4)], in_batch([torch.zeros(0, 4)]))
    none = RoITargets(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0, 4))
    losses = roi_loss(logits, deltas, none, config())
    assert [loss.item() for loss in losses.values()] == [0.0, 0.0]
    sum(losses.values()).backward()
    for parameter in head.parameters():
        assert parameter.grad is not None
        assert not parameter.grad.any()


# ------------------------------------------------------------------------------- detection


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("threshold", [0.05, 0.0])
def test_selection_equals_torchvisions(seed: int, threshold: float) -> None:
    from torchvision.models.detection.roi_heads import RoIHeads

    heads = RoIHeads(
        *(None, None, None, 0.5, 0.5, 512, 0.25, WEIGHTS),
        *(threshold, 0.5, 100),
    )
    draws, size = seeded(seed), (400, 450)
    rois = random_boxes(150, seed)
    logits = 3 * torch.randn(150, CLASSES + 1, generator=draws)
    deltas = 2 * torch.randn(150, CLASSES + 1, 4, generator=draws)
    deltas[:5, :, 0] = 90.0  # nine widths to the right: nothing of these is left after clipping
    (boxes,), (scores,), (labels,) = heads.postprocess_detections(
        logits.roll(1, dims=1), deltas.roll(1, dims=1).flatten(1), [rois], [size]
    )
    options = config(score_threshold=threshold, nms_iou=0.5)
    found = select_rois(rois, logits, deltas, size, options)
    assert len(found) == len(boxes) == 100
    torch.testing.assert_close(found.scores, scores)
    torch.testing.assert_close(found.boxes, boxes, rtol=1e-4, atol=1e-2)
    assert torch.equal(found.labels, labels - 1)


def test_a_region_is_reported_for_every_class_it_scores_for() -> None:
    roi = torch.tensor([[10.0, 10.0, 50.0, 40.0]])
    logits = torch.tensor([[2.0, 2.0, -9.0, -9.0, -9.0, -9.0]])
    found = select_rois(roi, logits, torch.zeros(1, CLASSES + 1, 4), (100, 100), config())
    assert sorted(found.labels.tolist()) == [0, 1]
    torch.testing.assert_close(found.boxes, roi.expand(2, 4))
    assert found.scores.tolist() == pytest.approx([0.5, 0.5], abs=1e-4)


def test_background_and_low_scores_are_not_reported() -> None:
    roi = torch.tensor([[10.0, 10.0, 50.0, 40.0]])
    logits = torch.tensor([[0.0, 0.0, 0.0, 0.0, 0.0, 9.0]])
    deltas = torch.zeros(1, CLASSES + 1, 4)
    assert len(select_rois(roi, logits, deltas, (100, 100), config())) == 0
    none = select_rois(roi[:0], logits[:0], deltas[:0], (100, 100), config())
    assert none.boxes.shape == (0, 4)
    assert (len(none.scores), len(none.labels)) == (0, 0)


def test_at_most_so_many_best_first() -> None:
    rois = random_boxes(300, 1)
    logits = torch.randn(300, CLASSES + 1, generator=seeded(1))
    options = config(max_detections=17, score_threshold=0.0, nms_iou=1.0)
    deltas = torch.zeros(300, CLASSES + 1, 4)
    found = select_rois(rois, logits, deltas, (500, 500), options)
    best = logits.softmax(dim=1)[:, :CLASSES].flatten().sort(descending=True).values[:17]
    torch.testing.assert_close(found.scores, best)
    # the same without a limit, and suppression within a class only
    every = select_rois(rois, logits, deltas, (500, 500), config(nms_iou=0.3, max_detections=9999))
    for label in range(CLASSES):
        same = every.boxes[every.labels == label]
        assert not (box_iou(same, same).fill_diagonal_(0) > 0.3).any()


# --------------------------------------------------------------------------------- network


def test_the_mlp_is_torchvisions() -> None:
    from torchvision.models.detection.faster_rcnn import TwoMLPHead

    layers = roi_layers(config(roi_head="mlp", roi_size=3, head_width=11), channels=4)
    theirs = TwoMLPHead(4 * 9, 11)
    for ours, name in ((1, "fc6"), (3, "fc7")):
        theirs.get_submodule(name).load_state_dict(layers[ours].state_dict())
    pooled = torch.randn(5, 4, 3, 3, generator=seeded())
    torch.testing.assert_close(layers(pooled), theirs(pooled))


def test_the_conv_head_is_torchvisions() -> None:
    """The same names, so its weights load as they are; the same output in both modes."""
    from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead

    torch.manual_seed(0)
    layers = roi_layers(config(roi_head="conv", roi_size=3, head_width=11), channels=4)
    theirs = FastRCNNConvFCHead((4, 3, 3), [256] * 4, [11], norm_layer=torch.nn.BatchNorm2d)
    theirs.load_state_dict(layers.state_dict())
    pooled = torch.randn(5, 4, 3, 3, generator=seeded())
    for training in (True, False):
        layers.train(training), theirs.train(training)
        torch.testing.assert_close(layers(pooled), theirs(pooled))


@pytest.mark.parametrize("head", ["mlp", "conv"])
@pytest.mark.parametrize("training", [True, False])
def test_layers_live_through_no_regions(head: str, training: bool) -> None:
    """Nothing becomes NaN, statistics stay as they were, and every weight has its nought."""
    torch.manual_seed(0)
    layers = roi_layers(config(roi_head=head, roi_size=3, head_width=11), channels=4)
    layers.train(training)
    before = {name: value.clone() for name, value in layers.state_dict().items()}
    vectors = layers(torch.zeros(0, 4, 3, 3))
    assert vectors.shape == (0, 11)
    vectors.sum().backward()
    for name, parameter in layers.named_parameters():
        assert parameter.grad is not None, name
        assert not parameter.grad.any(), name
    for name, value in layers.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            assert torch.equal(value, before[name]), name


def test_the_heads_start_as_the_paper_says() -> None:
    torch.manual_seed(0)
    head = small_head(20, head_width=1024)
    assert head.scores.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert head.deltas.weight.std().item() == pytest.approx(0.001, rel=0.05)
    assert not head.scores.bias.any()
    assert not head.deltas.bias.any()
    rois = torch.tensor([[0.0, 0.0, 32.0, 48.0]]).expand(3, 4)
    scores, deltas = head([torch.randn(1, 128, 4, 4)], in_batch([rois]))
    assert (scores.shape, deltas.shape) == ((3, 21), (3, 21, 4))


def test_deltas_are_class_by_class() -> None:
    head = small_head(2)
    with torch.no_grad():
        head.deltas.weight.zero_()
        head.deltas.bias.copy_(torch.arange(12.0))
    _, deltas = head([torch.zeros(1, 128, 4, 4)], in_batch([torch.tensor([[0.0, 0.0, 9.0, 9.0]])]))
    assert deltas.tolist() == [[[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]]


def test_batch_norm_is_frozen_and_its_epsilon_set() -> None:
    layers = roi_layers(config(roi_head="conv", roi_size=3), channels=4)
    freeze_batch_norm(layers)
    set_batch_norm_eps(layers, 0.25)
    norms = [part for part in layers.modules() if isinstance(part, torch.nn.BatchNorm2d)]
    assert len(norms) == 4
    assert all(norm.eps == 0.25 for norm in norms)
    frozen = {id(parameter) for norm in norms for parameter in norm.parameters()}
    for parameter in layers.parameters():
        assert parameter.requires_grad is (id(parameter) not in frozen)
