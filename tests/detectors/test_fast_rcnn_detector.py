"""Fast R-CNN as a whole: proposals given or found, equal regions looked at once, short layers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from detkit.detectors import Step, build_detector
from detkit.detectors.fast_rcnn import FastRCNN
from detkit.errors import ConfigError, DetkitError
from detkit.layers import truncate_svd
from detkit.ops.rois import distinct_rois, in_batch, pool_rois
from detkit.proposals.selective_search import ProposalConfig
from tests.test_overfit import FORMS, two_images


def small(**changes: Any) -> FastRCNN:
    torch.manual_seed(0)
    built = build_detector({"num_classes": 2, **FORMS["fast_rcnn"], **changes})
    assert isinstance(built, FastRCNN)
    return built


def some_rois(count: int, seed: int, side: float = 200.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(count, 2, generator=generator) * side
    return torch.cat([corners, corners + 1 + torch.rand(count, 2, generator=generator) * 60], dim=1)


def test_vgg16_has_the_papers_parameters() -> None:
    """Section 10 of the specification: 134,690,729 with 21 classes."""
    with torch.device("meta"):
        model = build_detector({"name": "fast_rcnn", "num_classes": 20})
    assert sum(parameter.numel() for parameter in model.parameters()) == 134_690_729


# ------------------------------------------------------------------------------ proposals


def test_proposals_are_found_where_none_are_given() -> None:
    model = small(score_threshold=0.0).eval()
    images, _ = two_images()
    settings = ProposalConfig(mode="single", most=100)
    found = [settings.find(image) for image in images]
    assert all(len(boxes) for boxes in found)
    for alone, with_given in zip(model(images), model(images, None, found), strict=True):
        assert torch.equal(alone.boxes, with_given.boxes)
        assert torch.equal(alone.scores, with_given.scores)


def test_given_proposals_are_the_ones_that_are_reported() -> None:
    """Where the deltas say "stay", the boxes are the proposals themselves."""
    model = small(score_threshold=0.0, nms_iou=1.0).eval()
    nn.init.zeros_(model.roi_head.deltas.weight)
    (image, _), _ = two_images()
    box = torch.tensor([[10.0, 20.0, 50.0, 90.0]])
    (found,) = model([image], None, [box])
    assert len(found) == 2  # one a class
    torch.testing.assert_close(found.boxes, box.expand(2, 4), rtol=0, atol=1e-3)


def test_an_image_without_proposals_has_no_detections() -> None:
    model = small().eval()
    (image, other), _ = two_images()
    found = model([image, other], None, [torch.zeros(0, 4), some_rois(5, seed=1, side=60)])
    assert len(found[0]) == 0


def test_an_image_without_proposals_is_learned_from() -> None:
    """From its objects, which are among the regions; and without those from nothing at all."""
    model = small().train()
    images, targets = two_images()
    none = [torch.zeros(0, 4)] * 2
    losses = model(images, targets, none)
    assert losses["loss_class"] > 0
    empty = [target.select(torch.zeros(1, dtype=torch.bool)) for target in targets]
    losses = model(images, empty, none)
    assert [loss.item() for loss in losses.values()] == [0.0, 0.0]
    torch.stack(list(losses.values())).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_draws_follow_from_the_step() -> None:
    model = small(roi_samples=4).train()
    images, targets = two_images()
    for part in model.modules():  # so that nothing but the draws differs
        if isinstance(part, nn.BatchNorm2d):
            part.eval()
    boxes = [some_rois(60, seed=seed, side=80) for seed in (1, 2)]

    def loss(seen: int) -> float:
        return model(images, targets, boxes, Step(seen=seen))["loss_class"].item()

    assert loss(0) == loss(0)
    assert len({loss(seen) for seen in range(0, 40, 8)}) > 1


def test_a_batch_without_proposals_gets_a_sentence() -> None:
    model = small().eval()
    images, _ = two_images()
    with pytest.raises(DetkitError) as caught:
        model.outputs(model.preprocess(images[:1]))
    assert str(caught.value) == (
        "fast_rcnn: this batch has no proposals; call the detector on images, which finds them "
        "where none are given, or pass them as its third argument."
    )


# ------------------------------------------------------------------- regions that are alike


@given(st.integers(0, 60), st.integers(0, 9999))
def test_regions_that_are_one_are_pooled_alike(count: int, seed: int) -> None:
    rois = some_rois(count, seed)
    kept, groups = distinct_rois(rois, 16)
    assert len(kept) <= count
    assert set(groups.tolist()) == set(range(len(kept)))
    generator = torch.Generator().manual_seed(seed)
    maps = [torch.rand(1, 2, 17, 17, generator=generator)]
    each = pool_rois(maps, [16], in_batch([rois]), 3, "pool")
    assert torch.equal(pool_rois(maps, [16], in_batch([kept]), 3, "pool")[groups], each)


def test_what_differs_by_a_cell_stays_apart() -> None:
    rois = torch.tensor([[0.0, 0, 33, 33], [1, 2, 34, 35], [8, 0, 33, 33], [0, 0, 33, 49.1]])
    kept, groups = distinct_rois(rois, 16)
    assert len(kept) == 3
    assert groups[0] == groups[1]
    assert len(set(groups.tolist())) == 3


def test_looking_once_at_equal_regions_changes_nothing() -> None:
    model = small(score_threshold=0.0).eval()
    images, _ = two_images()
    boxes = [some_rois(80, seed=seed, side=60) for seed in (1, 2)]
    batch = model.preprocess(images).with_proposals(boxes)
    assert batch.proposals is not None
    maps = model.network((batch.pixels,))
    logits, _ = model.region_network((in_batch(batch.proposals), *maps))
    every = logits.split([80, 80])
    for found, said in zip(model.postprocess(model.outputs(batch), batch), every, strict=True):
        highest = said.softmax(dim=1)[:, :-1].max()
        torch.testing.assert_close(found.scores[0], highest)


# -------------------------------------------------------------------------- truncated SVD


def tail(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(48, 20), nn.ReLU(), nn.Linear(20, 12), nn.ReLU())


@pytest.mark.parametrize("rank", [1, 5, 13])
def test_short_layers_are_the_truncated_svd(rank: int) -> None:
    layers = tail()
    (_, short, *rest) = truncate_svd(layers, [rank]).children()
    assert isinstance(short, nn.Sequential)
    first, second = short.children()
    left, values, right = torch.linalg.svd(layers[1].weight.double(), full_matrices=False)
    expected = left[:, :rank] @ values[:rank].diag() @ right[:rank]
    torch.testing.assert_close((second.weight @ first.weight).double(), expected, atol=1e-5, rtol=0)
    assert first.weight.shape == (rank, 48)
    assert torch.equal(second.bias, layers[1].bias)
    assert torch.equal(rest[1].weight, layers[3].weight)  # no rank was given for it
    assert isinstance(layers[1], nn.Linear)  # what was given is not changed


def test_several_layers_may_be_short() -> None:
    short = truncate_svd(tail(), [13, 2])
    assert isinstance(short[1], nn.Sequential)
    assert isinstance(short[3], nn.Sequential)


@pytest.mark.parametrize(
    ("ranks", "said"),
    [
        ([124], "124 makes a layer from 3200 to 128 no cheaper; take 123 or less."),
        ([8, 64], "64 makes a layer from 128 to 128 no cheaper; take 63 or less."),  # 64 x 256
        (
            [8, 4, 4],
            "3 numbers for 2 fully connected layers after RoI pooling; give so many at most.",
        ),
    ],
)
def test_ranks_that_would_save_nothing_are_refused(ranks: list[int], said: str) -> None:
    small(svd_ranks=[123, 63])
    with pytest.raises(ConfigError) as caught:
        small(svd_ranks=ranks)
    assert str(caught.value) == f"model.svd_ranks: {said}"


def test_short_layers_serve_detection_alone_and_follow_the_weights() -> None:
    full, short = small().eval(), small(svd_ranks=[16]).eval()
    assert full.state_dict().keys() == short.state_dict().keys()
    images, _ = two_images()
    boxes = [some_rois(30, seed=seed, side=60) for seed in (1, 2)]
    batch = full.preprocess(images).with_proposals(boxes)
    assert batch.proposals is not None

    def logits(model: FastRCNN) -> Tensor:
        return model.outputs(batch)[1]

    assert not torch.equal(logits(full), logits(short))
    expected = truncate_svd(full.roi_head.tail.module, [16])
    pooled = pool_rois(full.backbone(batch.pixels), (16,), in_batch(batch.proposals), 5, "pool")
    torch.testing.assert_close(logits(short), full.roi_head.scores(expected(pooled)))
    with torch.no_grad():
        for model in (full, short):
            layer = model.roi_head.layers[1]
            layer.weight.copy_(layer.weight.flip(0))
    short.train()
    full.train()
    assert torch.equal(logits(full), logits(short))  # in training the layers are whole
    short.eval()
    again = truncate_svd(full.eval().roi_head.tail.module, [16])
    pooled = pool_rois(full.backbone(batch.pixels), (16,), in_batch(batch.proposals), 5, "pool")
    torch.testing.assert_close(logits(short), full.roi_head.scores(again(pooled)))
