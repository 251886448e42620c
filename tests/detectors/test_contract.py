"""What every detector promises, whoever wrote it: asked of all that are registered.

A detector is picked up by its small form in ``tests/test_overfit.py``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from detkit.backbones import BACKBONES
from detkit.detections import Detections
from detkit.detectors import DETECTORS, Detector, Step, build_detector
from detkit.detectors.base import Location
from detkit.detectors.fast_rcnn import FastRCNN
from detkit.detectors.faster_rcnn import FasterRCNN
from detkit.detectors.rcnn import RCNN, Regions
from detkit.detectors.yolo_v1 import YoloV1
from detkit.detectors.yolo_v3 import YoloV3
from detkit.errors import ConfigError
from detkit.preprocess import Batch
from detkit.types import Losses, Target, make_target
from tests.test_overfit import AUDITED, FORMS, two_images

CANVAS, OTHER_CANVAS = (64, 128), (128, 192)  # small, oblong, whole cells of every stride
every_form = pytest.mark.parametrize("form", FORMS)
# a form of each detector itself, and none of those that are another's with other defaults
OF_ONE_SIZE = [form for form in FORMS if DETECTORS[FORMS[form]["name"]].size_key == "input_size"]
FAMILIES = [name for name in DETECTORS if Detector in DETECTORS[name].__bases__ and name in FORMS]


def small(name: str, **changes: Any) -> Detector:
    torch.manual_seed(0)
    return build_detector({"num_classes": 2, **FORMS[name], **changes})


def no_objects(images: int) -> list[Target]:
    return [make_target(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))] * images


def check_gradients(model: Detector, losses: Losses) -> None:
    """Scalars, finite, to be added; and no parameter that a distributed run would wait for."""
    assert all(name.startswith("loss_") and loss.ndim == 0 for name, loss in losses.items())
    assert all(torch.isfinite(loss) for loss in losses.values())
    model.zero_grad()
    torch.stack(list(losses.values())).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def noise(size: tuple[int, int], seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (3, *size), generator=generator, dtype=torch.uint8)


def check_twins(expected: Detections, found: Detections) -> None:
    """Each has a twin in the other: the label, the score, the box. Their order is free."""
    assert len(found) == len(expected)
    apart = (found.boxes[:, None] - expected.boxes).abs().amax(dim=2)  # [N, N] pixels
    twins = (apart < 0.02) & (found.labels[:, None] == expected.labels)
    twins &= (found.scores[:, None] - expected.scores).abs() < 1e-4 * expected.scores + 1e-6
    for name, alone in (("found", ~twins.any(dim=1)), ("expected", ~twins.any(dim=0))):
        assert not alone.any(), f"{name}: no twin of rows {alone.nonzero()[:, 0].tolist()}"


@every_form
def test_losses_have_the_same_names_whatever_is_in_the_images(form: str) -> None:
    model = small(form).train()
    images, targets = two_images()
    crowded = make_target(
        targets[0].boxes.repeat(5, 1) + torch.arange(5)[:, None] % 3, torch.arange(5) % 2
    )
    names = set()
    for case in (targets, no_objects(2), [targets[0], *no_objects(1)], [crowded, targets[1]]):
        losses = model(images, case)
        check_gradients(model, losses)
        names.add(frozenset(losses))
    assert len(names) == 1


def halves(model: Detector, image: Tensor) -> tuple[Batch, tuple[Tensor, ...], Detections]:
    """An image's batch, outputs and detections in the image's pixels, by the parts."""
    given = model.find_proposals([image])
    with torch.no_grad():
        batch = model.preprocess([image]).with_proposals(given)
        outputs = model.outputs(batch)
        (found,) = model.postprocess(outputs, batch)
    return batch, outputs, replace(found, boxes=batch.geometry[0].to_image(found.boxes))


@every_form
def test_detection_is_preprocessing_network_and_postprocessing(form: str) -> None:
    """To the bit; and a network takes tensors and gives tensors, whichever of two it is."""
    model = small(form, score_threshold=0.0).eval()
    image = noise((64, 96))
    batch, outputs, found = halves(model, image)
    (expected,) = model.detect_batch([image])
    for name in ("boxes", "scores", "labels", "rows"):
        assert torch.equal(getattr(found, name), getattr(expected, name)), name
    assert all(isinstance(each, Tensor) for each in outputs)
    if isinstance(model, RCNN):
        windows = batch.proposals
        assert windows is not None
        inputs: tuple[Tensor, ...] = (model.crops(batch.pixels, batch.geometry, windows),)
    else:
        inputs = (batch.pixels,)
    with torch.no_grad():
        said = model.network(inputs)
        assert type(said) is tuple or isinstance(said, Regions)
        assert all(isinstance(each, Tensor) for each in said)
        if isinstance(model, FastRCNN | FasterRCNN):
            maps = said[: len(model.config.strides)]
            every = tuple(model.backbone(batch.pixels))
            assert all(map(torch.equal, maps, every))
            regions = model.region_network((outputs[0], *said[: len(every)]))
            assert all(map(torch.allclose, regions, outputs[1:]))


@every_form
def test_a_detection_knows_the_prediction_that_it_is(form: str) -> None:
    """Its row leads to the cell and anchor, or region, whose outputs say its box and score."""
    model = small(form, score_threshold=0.0).eval()
    image = noise((64, 96))
    batch, outputs, found = halves(model, image)
    assert found.rows is not None
    assert len(found) > 0
    for index in {0, len(found) // 2, len(found) - 1}:
        row, label = int(found.rows[index]), int(found.labels[index])
        place = model.locate(row, batch.size)
        score = score_at(model, outputs, place, label)
        torch.testing.assert_close(found.scores[index], score)
    kept = found[found.scores > found.scores[-1]]
    assert kept.rows is not None
    assert torch.equal(kept.rows, found.rows[: len(kept)])
    assert torch.equal(found[0].rows, found.rows[:1])
    with pytest.raises(IndexError):
        model.locate(-1, batch.size)
    if place.region is None:
        with pytest.raises(IndexError):
            model.locate(10**9, batch.size)


def score_at(model: Detector, outputs: tuple[Tensor, ...], place: Location, label: int) -> Tensor:
    """Score of a class by the outputs of one cell and anchor, or region, alone."""
    if place.cell is None:
        assert place.region is not None
        said = outputs[-1] if isinstance(model, RCNN) else outputs[1]
        return said[place.region].softmax(dim=0)[label]
    row, column = place.cell
    assert place.anchor is not None
    if isinstance(model, YoloV1):
        config, raw = model.config, outputs[0][0]
        cells, boxes = config.grid**2, config.boxes_per_cell
        cell = row * config.grid + column
        classes = raw[: cells * config.num_classes].view(cells, -1)
        confidences = raw[cells * config.num_classes :][: cells * boxes].view(cells, -1)
        return classes[cell, label] * confidences[cell, place.anchor]
    masks = model.config.anchor_masks if isinstance(model, YoloV3) else [range(99)]
    anchor = list(masks[place.level]).index(place.anchor)
    raw = outputs[place.level][0, anchor, row, column]
    if isinstance(model, YoloV3):
        return raw[4].sigmoid() * raw[5 + label].sigmoid()
    return raw[4].sigmoid() * raw[5:].softmax(dim=0)[label]


@every_form
def test_losses_of_validation_have_the_names_of_training(form: str) -> None:
    model = small(form)
    images, targets = two_images()
    trained = model.train()(images, targets)
    with torch.no_grad():
        validated = model.eval().compute_losses(images, targets)
    assert set(validated) == set(trained)
    assert all(torch.isfinite(loss) and not loss.requires_grad for loss in validated.values())


@every_form
def test_difficult_objects_and_their_images_order_change_nothing(form: str) -> None:
    """A difficult object is not there; the loss of a batch is a mean over its images.

    Of all that they offer: a draw from it would be another one in another place of a batch.
    """
    fields = DETECTORS[FORMS[form]["name"]].config_type.model_fields
    undrawn = {key: 9999 for key in ("rpn_samples", "roi_samples") if key in fields}
    model = small(form, **undrawn).eval()
    images, targets = two_images()
    boxes = torch.cat([targets[0].boxes, torch.tensor([[80.0, 10.0, 120.0, 60.0]])])
    flags = torch.tensor([False, True])
    hard = Target(boxes, torch.tensor([0, 1]), difficult=flags, crowd=torch.zeros_like(flags))
    expected = model.compute_losses(images, targets)
    for found in (
        model.compute_losses(images, [hard, targets[1]]),
        model.compute_losses(images[::-1], targets[::-1]),
        model.compute_losses(images * 2, targets * 2),
    ):
        for name, loss in expected.items():
            assert found[name].item() == pytest.approx(loss.item(), rel=1e-3, abs=1e-5), name


@every_form
def test_arguments_are_left_alone(form: str) -> None:
    model = small(form)
    images, targets = two_images()
    before = [image.clone() for image in images], [target.boxes.clone() for target in targets]
    model.train()(images, targets)
    model.eval()(images)
    assert all(map(torch.equal, images, before[0]))
    assert all(map(torch.equal, [target.boxes for target in targets], before[1]))


@every_form
def test_detections_lie_in_their_image_best_first(form: str) -> None:
    model = small(form, score_threshold=0.0).eval()
    model.class_names = ("cat", "dog")
    images = [noise((64, 96)), noise((40, 100), 1), noise((120, 31), 2)]
    for image, found in zip(images, model(images), strict=True):
        assert len(found) > 0
        limits = torch.tensor([image.shape[2], image.shape[1]] * 2)
        assert ((found.boxes >= 0) & (found.boxes <= limits)).all()
        assert (found.scores > 0).all()
        assert model.anchors_key is None or (found.scores <= 1).all()  # YOLOv1's may pass 1
        assert (found.scores.diff() <= 0).all()
        assert set(found.labels.tolist()) <= {0, 1}
        assert found.names == ("cat", "dog")
        assert (found.boxes.dtype, found.labels.dtype) == (torch.float32, torch.int64)
        assert not found.boxes.requires_grad


@every_form
def test_boxes_are_in_the_pixels_of_the_image(form: str) -> None:
    """An image without structure looks the same at twice the size: its boxes are twice as large."""
    # In such an image scores nearly tie, and a millionth decides what comes first and what is
    # suppressed by what: so nothing is, and the order is free.
    model = small(form, score_threshold=0.0, nms_iou=1.0).eval()
    once, twice = (
        model([torch.full((3, 60 * k, 90 * k), 77, dtype=torch.uint8)])[0] for k in (1, 2)
    )
    assert len(once) > 0
    check_twins(replace(once, boxes=2 * once.boxes), twice)


@every_form
def test_a_batch_is_its_images_one_by_one(form: str) -> None:
    model = small(form, score_threshold=0.0).eval()
    images = [noise((64, 96)), noise((40, 100), 1), noise((120, 31), 2)]
    for image, found in zip(images, model(images), strict=True):
        (alone,) = model([image])
        assert len(alone) == len(found)
        torch.testing.assert_close(alone.scores, found.scores, rtol=1e-4, atol=1e-5)
        order = [found.boxes[:10], alone.boxes[:10]]
        torch.testing.assert_close(*order, rtol=1e-3, atol=0.01)


@pytest.mark.parametrize("form", OF_ONE_SIZE)
def test_the_canvas_is_the_one_that_is_asked_for(form: str) -> None:
    """Of the config; or of the batch, where several sizes are trained on."""
    model = small(form, input_size=CANVAS)
    images, targets = two_images()
    assert model.preprocess(images).pixels.shape == (2, 3, *CANVAS)
    assert model.preprocess(images, OTHER_CANVAS).pixels.shape == (2, 3, *OTHER_CANVAS)
    check_gradients(model.train(), model(images, targets, step=Step(size=OTHER_CANVAS, seen=9)))
    assert all(model.train_size(step, 20, seed=1) == CANVAS for step in range(20))


@pytest.mark.parametrize("form", AUDITED)
def test_the_audit_has_a_row_for_every_object(form: str) -> None:
    model = small(form)
    _, targets = two_images()
    audit = model.audit([*targets, *no_objects(1)], (128, 160))
    assert audit is not None
    assert len(audit.lost) == len(audit.strides) == len(audit.owners) == len(audit.best_ious) == 2
    assert not audit.lost.any()
    assert (audit.strides > 0).all()


@every_form
def test_what_is_shown_of_a_batch_can_be_drawn_side_by_side(form: str) -> None:
    model = small(form)
    images, targets = two_images()
    batch = model.preprocess(images).with_proposals(model.find_proposals(images))
    placed = [place.place(each) for place, each in zip(batch.geometry, targets, strict=True)]
    shown = model.shown(batch, placed, Step(seed=3))
    assert len({pixels.shape for pixels, _ in shown}) == 1
    assert shown[0][0].shape[0] == 3
    seen = set()
    for pixels, target in shown:
        limits = torch.tensor([pixels.shape[2], pixels.shape[1]] * 2)
        assert (target.boxes >= 0).all()
        assert (target.boxes <= limits).all()
        seen |= set(target.labels.tolist())
    assert seen == {0, 1}


@every_form
def test_a_detector_is_its_config_and_its_weights(form: str) -> None:
    """Nothing else is needed to make it again, as a checkpoint does."""
    model = small(form, score_threshold=0.0).eval()
    images, targets = two_images()
    torch.manual_seed(1)
    again = build_detector({**FORMS[form], "num_classes": 2, "score_threshold": 0.0}).eval()
    again.load_state_dict(model.state_dict())
    for found, expected in zip(again(images), model(images), strict=True):
        assert torch.equal(found.boxes, expected.boxes)
        assert torch.equal(found.scores, expected.scores)
    losses = again.compute_losses(images, targets)
    assert losses == model.compute_losses(images, targets)


@pytest.mark.slow
@pytest.mark.parametrize("backbone", list(BACKBONES))
@pytest.mark.parametrize("form", FAMILIES)
def test_a_detector_stands_on_any_backbone(form: str, backbone: str) -> None:
    lacking = set(small(form).backbone.strides) - set(BACKBONES[backbone].strides)
    if lacking and form != "rcnn":  # which takes the last map that there is
        with pytest.raises(ConfigError, match=f"backbone '{backbone}' has strides "):
            small(form, backbone=backbone)
        return
    size = {"input_size": CANVAS} if form in OF_ONE_SIZE else {}
    model = small(form, backbone=backbone, score_threshold=0.0, **size)
    images, targets = two_images()
    check_gradients(model.train(), model(images, targets))
    found = model.eval()(images)
    assert all(len(detections) > 0 for detections in found)
