"""What a detector says of objects before training, against loops over cells and anchors."""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from detkit.detectors import DETECTORS, Detector, Scale, YoloV2, build_detector
from detkit.detectors.yolo_v2 import STRIDE, assign
from detkit.types import Target, make_target
from tests.oracles import random_boxes
from tests.test_overfit import AUDITED, FORMS

SIZE = (128, 192)  # canvas
every_form = pytest.mark.parametrize("form", AUDITED)


@functools.cache
def make_model(form: str = "yolo_v2") -> Detector:
    options = {"num_classes": 3, **FORMS[form]}
    if DETECTORS[options["name"]].size_key == "input_size":  # elsewhere the canvas is the images'
        options["input_size"] = SIZE
    return build_detector(options)


def random_targets(images: int, objects: int, seed: int) -> list[Target]:
    scale = torch.tensor([SIZE[1], SIZE[0]] * 2) / 500
    labels = torch.arange(objects) % 3
    return [make_target(random_boxes(objects, seed + i) * scale, labels) for i in range(images)]


@dataclass
class Told:
    """An audit by loops, in plain lists."""

    best_ious: list[float]
    owners: list[int]
    lost: list[bool]
    strides: list[float]


def audit_anchors(
    targets: list[Target],
    anchors: list[list[float]],
    scales: tuple[Scale, ...],
    positive_iou: float | None,
) -> Told:
    """The nearest of all anchors answers, in its own scale's cell; the last object there stays.

    With ``positive_iou`` so do others that fit this well, in places that nobody's nearest needs.
    """
    told = Told([], [], [], [])
    first: dict[tuple[int, ...], int] = {}  # who has a place: as its nearest anchor's,
    further: dict[tuple[int, ...], int] = {}  # or as that of another anchor
    stride_of = {index: scale.stride for scale in scales for index in scale.anchors}
    for image, target in enumerate(targets):
        for x1, y1, x2, y2 in target.boxes.tolist():
            w, h = x2 - x1, y2 - y1
            fits = []
            for aw, ah in anchors:
                inter = min(w, aw) * min(h, ah)
                fits.append(inter / (w * h + aw * ah - inter))
            best = fits.index(max(fits))
            for index, stride in stride_of.items():
                place = (image, int((x1 + x2) / 2 / stride), int((y1 + y2) / 2 / stride), index)
                if index == best:
                    first[place] = len(told.owners)
                elif positive_iou is not None and fits[index] >= positive_iou:
                    further[place] = len(told.owners)
            told.best_ious.append(fits[best])
            told.owners.append(best)
            told.strides.append(stride_of[best])
    answered = {*(further | first).values()}
    told.lost = [row not in answered for row in range(len(told.owners))]
    return told


def audit_cells(targets: list[Target], side: int, least: float) -> Told:
    """Without anchors: a cell learns its first object, of those that are not too thin."""
    told = Told([], [], [], [])
    for target in targets:
        taken = set()
        for x1, y1, x2, y2 in target.boxes.tolist():
            cell = (
                int((x1 + x2) / 2 / SIZE[1] * side),
                int((y1 + y2) / 2 / SIZE[0] * side),
            )
            thin = x2 - x1 < least * SIZE[1] or y2 - y1 < least * SIZE[0]
            told.lost.append(thin or cell in taken)
            told.best_ious.append(0)
            told.owners.append(0)
            told.strides.append(max(SIZE) / side)
            if not thin:
                taken.add(cell)
    return told


@every_form
@settings(max_examples=20)
@given(st.integers(1, 4), st.integers(0, 30), st.integers(0, 999))
def test_every_detector_agrees_with_a_loop(form: str, images: int, objects: int, seed: int) -> None:
    model: Any = make_model(form)
    targets = random_targets(images, objects, seed)
    found = model.audit(targets, SIZE)
    if model.shape_keys:  # several objects may have anchors of one shape: nobody's is taken
        anchors = [[x2 - x1, y2 - y1] for cell in model.anchors for x1, y1, x2, y2 in cell.tolist()]
        told = audit_anchors(targets, anchors, model.anchor_scales(), None)
        told.lost = [False] * len(told.owners)
        torch.testing.assert_close(found.anchors, torch.tensor(anchors))
    elif model.anchors_key is None:
        told = audit_cells(targets, model.config.grid, model.config.min_side)
        assert found.anchors.shape == (0, 2)
    else:
        stated = getattr(model.config, model.anchors_key)
        anchors = [[side * model.anchors_unit for side in anchor] for anchor in stated]
        told = audit_anchors(targets, anchors, model.anchor_scales(), model.config.positive_iou)
        torch.testing.assert_close(found.anchors, torch.tensor(anchors, dtype=torch.float32))
    assert found.has_anchors is (model.anchors_key is not None or bool(model.shape_keys))
    expected = torch.tensor(told.best_ious, dtype=torch.float32)
    torch.testing.assert_close(found.best_ious, expected, rtol=1e-4, atol=1e-5)
    assert found.owners.tolist() == told.owners
    assert found.lost.tolist() == told.lost
    assert found.strides.tolist() == pytest.approx(told.strides)


@every_form
def test_scales_share_out_all_anchors(form: str) -> None:
    """Fine to coarse; the finest has the smallest."""
    model = make_model(form)
    scales = model.anchor_scales()
    audit = model.audit(random_targets(1, 2, seed=0), SIZE)
    assert audit is not None
    anchors = audit.anchors.tolist()
    if model.anchors_key is None and not model.shape_keys:
        assert scales == ()
        return
    if model.anchors_key is not None:
        assert len(anchors) == len(getattr(model.config, model.anchors_key))
    assert sorted(index for scale in scales for index in scale.anchors) == [*range(len(anchors))]
    strides = [scale.stride for scale in scales]
    assert strides == sorted(set(strides))
    areas = [[anchors[i][0] * anchors[i][1] for i in scale.anchors] for scale in scales]
    assert all(max(fine) <= min(coarse) for fine, coarse in itertools.pairwise(areas))


def test_what_is_lost_is_what_training_leaves_out() -> None:
    """Whatever the network predicts."""
    model = make_model()
    assert isinstance(model, YoloV2)
    targets = random_targets(2, 40, seed=7)
    raw = torch.randn(2, 5, SIZE[0] // STRIDE, SIZE[1] // STRIDE, 8)
    owners = assign(raw, targets, model.anchors, model.config)
    assert model.audit(targets, SIZE).lost.tolist() == (owners.stays == 0).tolist()
    assert 0 < model.audit(targets, SIZE).lost.sum() < 80


def test_a_detector_may_have_nothing_to_say() -> None:
    assert Detector.audit(make_model(), random_targets(1, 2, seed=0), SIZE) is None
