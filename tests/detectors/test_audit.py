"""What a detector says of objects before training, against loops over cells and anchors."""

from __future__ import annotations

import functools

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from detkit.detectors import Detector, YoloV2, YoloV2Config
from detkit.detectors.yolo_v2 import STRIDE, assign
from detkit.types import Target, make_target
from tests.oracles import random_boxes

SIZE = (160, 192)  # canvas


@functools.cache
def make_model() -> YoloV2:
    return YoloV2(YoloV2Config(num_classes=3, backbone="tiny", input_size=SIZE))


def random_targets(images: int, objects: int, seed: int) -> list[Target]:
    scale = torch.tensor([SIZE[1], SIZE[0]] * 2) / 500
    return [
        make_target(random_boxes(objects, seed + i) * scale, torch.zeros(objects, dtype=torch.long))
        for i in range(images)
    ]


def audit_by_loop(
    targets: list[Target], anchors: list[list[float]]
) -> tuple[list[float], list[int], list[bool]]:
    ious, owners, slots = [], [], []
    for image, target in enumerate(targets):
        for x1, y1, x2, y2 in (target.boxes / STRIDE).tolist():
            w, h = x2 - x1, y2 - y1
            fits = []
            for aw, ah in anchors:
                inter = min(w, aw) * min(h, ah)
                fits.append(inter / (w * h + aw * ah - inter))
            best = fits.index(max(fits))
            ious.append(fits[best])
            owners.append(best)
            slots.append((image, int((x1 + x2) / 2), int((y1 + y2) / 2), best))
    lost = [slot in slots[index + 1 :] for index, slot in enumerate(slots)]
    return ious, owners, lost


@settings(max_examples=30)
@given(st.integers(1, 4), st.integers(0, 30), st.integers(0, 999))
def test_yolo_v2_agrees_with_a_loop(images: int, objects: int, seed: int) -> None:
    model = make_model()
    targets = random_targets(images, objects, seed)
    found = model.audit(targets, SIZE)
    ious, owners, lost = audit_by_loop(targets, model.anchors.tolist())
    torch.testing.assert_close(found.best_ious, torch.tensor(ious), rtol=1e-4, atol=1e-5)
    assert found.owners.tolist() == owners
    assert found.lost.tolist() == lost
    assert found.strides.tolist() == [STRIDE] * images * objects
    assert torch.equal(found.anchors, model.anchors * STRIDE)


def test_what_is_lost_is_what_training_leaves_out() -> None:
    """Whatever the network predicts."""
    model = make_model()
    targets = random_targets(2, 40, seed=7)
    raw = torch.randn(2, 5, SIZE[0] // STRIDE, SIZE[1] // STRIDE, 8)
    owners = assign(raw, targets, model.anchors, model.config)
    assert model.audit(targets, SIZE).lost.tolist() == (owners.stays == 0).tolist()
    assert 0 < model.audit(targets, SIZE).lost.sum() < 80


def test_a_detector_may_have_nothing_to_say() -> None:
    assert Detector.audit(make_model(), random_targets(1, 2, seed=0), SIZE) is None
