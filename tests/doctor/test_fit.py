"""Data on a detector's canvas: against the detector's real preprocessing, and against loops."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from detkit.detectors import Audit, Detector, YoloV2, YoloV2Config, build_detector
from detkit.doctor.fit import fit_anchors_alone, fit_detector, learned
from detkit.image import read_image
from detkit.preprocess import Batch
from detkit.types import Target
from tests.evaluation.datasets import annotate
from tests.test_overfit import AUDITED, FORMS

IMAGES = [
    ((60, 80), [("cat", (1, 1, 41, 31)), ("dog", (30, 20, 80, 60))]),
    ((120, 90), [("cat", (10, 20, 30, 50))]),
    ((60, 80), []),
    ((33, 200), [("dog", (5.5, 5, 44, 20)), ("dog", (50, 5, 79, 24)), ("cat", (0, 0, 200, 33))]),
]


@pytest.fixture
def model() -> YoloV2:
    return YoloV2(YoloV2Config(num_classes=2, backbone="tiny", input_size=(128, 160)))


def check_against_the_real_road(tmp_path: Path, model: Detector) -> None:
    data = annotate(tmp_path, IMAGES)
    fit = fit_detector(model, data)
    for image, path in enumerate(data.paths):
        pixels = read_image(str(path))
        batch = model.preprocess([pixels])
        rows = slice(*data.offsets[image : image + 2])
        expected = batch.geometry[0].to_canvas(torch.from_numpy(data.boxes[rows]))
        np.testing.assert_allclose(fit.boxes[rows], expected.numpy(), rtol=1e-6)
        assert fit.canvas[image].tolist() == list(batch.pixels.shape[2:])
        height, width = pixels.shape[1:]
        whole = batch.geometry[0].to_canvas(torch.tensor([[0.0, 0.0, width, height]]))
        np.testing.assert_allclose(fit.places[image], whole[0].numpy(), rtol=1e-6)
    assert fit.offsets.tolist() == data.offsets.tolist()


class BySize(YoloV2):
    """A detector whose canvas follows from the image, as two-stage ones have it."""

    def preprocess(self, images: list[Tensor], size: tuple[int, int] | None = None) -> Batch:
        height, width = images[0].shape[1:]
        return super().preprocess(images, (height // 32 * 32 + 32, width // 32 * 32 + 32))

    def audit(self, targets: list[Target], size: tuple[int, int]) -> Audit:
        found = super().audit(targets, size)
        return replace(found, strides=torch.full_like(found.strides, size[0]))  # tells the canvas


class Silent(YoloV2):
    def audit(self, targets: list[Target], size: tuple[int, int]) -> None:  # type: ignore[override]
        return None


def test_boxes_and_places_are_those_of_the_real_road(tmp_path: Path, model: YoloV2) -> None:
    check_against_the_real_road(tmp_path, model)
    fit = fit_detector(model, annotate(tmp_path, IMAGES))
    assert fit.covered[0] == pytest.approx(160 * 120 / (128 * 160))  # 60 x 80 made twice as large
    assert fit.scales[0].tolist() == pytest.approx([2, 2])


@pytest.mark.parametrize("form", AUDITED)
def test_every_detector_says_where_its_images_lie(form: str, tmp_path: Path) -> None:
    model = build_detector({"num_classes": 2, **FORMS[form]})
    check_against_the_real_road(tmp_path, model)
    fit = fit_detector(model, annotate(tmp_path, IMAGES))
    assert fit.audit is not None
    assert len(fit.lost) == len(fit.below_stride()) == 6
    assert fit.grids == model.anchor_scales()
    assert (fit.anchors is None) == (model.anchors_key is None and not model.shape_keys)
    if fit.anchors is not None:
        parts = [part for _, part in fit.anchors.of_scales()]
        assert sum(len(part.ious) for part in parts) == 6


def test_a_detector_that_has_nothing_to_say(tmp_path: Path) -> None:
    """R-CNN looks at its windows one by one; where its images lie is known all the same."""
    model = build_detector({"num_classes": 2, **FORMS["rcnn"]})
    check_against_the_real_road(tmp_path, model)
    fit = fit_detector(model, annotate(tmp_path, IMAGES))
    assert fit.audit is None
    assert fit.anchors is None
    assert fit.canvas.tolist() == [list(size) for size, _ in IMAGES]


def test_a_detector_that_stretches(tmp_path: Path) -> None:
    """60 x 80 on 128 x 128: scales 1.6 and 2.13; 120 x 90: 1.42 and 1.07."""
    fit = fit_detector(
        build_detector({"num_classes": 2, **FORMS["yolo_v1"]}), annotate(tmp_path, IMAGES[:2])
    )
    assert fit.stretches
    np.testing.assert_allclose(fit.scales, [[1.6, 128 / 60], [128 / 90, 128 / 120]], rtol=1e-6)
    assert fit.widening.tolist() == pytest.approx([0.75, 120 / 90])
    assert fit.covered.tolist() == pytest.approx([1, 1])


@pytest.mark.parametrize("form", ["yolo_v1", "yolo_v2"])
def test_an_image_of_the_canvas_shape_is_not_stretched(form: str, tmp_path: Path) -> None:
    square = annotate(tmp_path, [((100, 100), [("cat", (1, 1, 41, 31))])])
    assert not fit_detector(build_detector({"num_classes": 2, **FORMS[form]}), square).stretches


def test_a_letterbox_does_not_stretch(tmp_path: Path, model: YoloV2) -> None:
    assert not fit_detector(model, annotate(tmp_path, IMAGES)).stretches


def test_no_pixels_are_made_to_place_an_image(tmp_path: Path, model: YoloV2) -> None:
    """Images of 1.2 gigapixels, which nobody could letterbox here."""
    data = annotate(tmp_path, [((60, 80), [("cat", (0, 0, 80, 60))])] * 2)
    sizes = np.array([[40_000, 30_000], [30_000, 40_000]], dtype=np.int32)
    fit = fit_detector(model, replace(data, sizes=sizes))
    assert fit.canvas.tolist() == [[128, 160], [128, 160]]
    expected = [[32, 0, 128, 128], [0, 4, 160, 124]]  # 128 x 96 and 120 x 160
    np.testing.assert_allclose(fit.places, expected, rtol=1e-6)
    assert {tensor.device.type for tensor in model.state_dict().values()} == {"cpu"}


def test_rows_keep_their_order_over_several_canvases(tmp_path: Path) -> None:
    model = BySize(YoloV2Config(num_classes=2, backbone="tiny"))
    fit = fit_detector(model, annotate(tmp_path, IMAGES))
    assert fit.canvas.tolist() == [[64, 96], [128, 96], [64, 96], [64, 224]]
    assert fit.audit is not None
    assert fit.audit.strides.tolist() == [64, 64, 128, 64, 64, 64]
    alone = [
        fit_detector(model, annotate(tmp_path / str(i), [image])) for i, image in enumerate(IMAGES)
    ]
    single = [f.audit.best_ious.tolist() for f in alone if f.audit is not None]
    assert fit.audit.best_ious.tolist() == [iou for ious in single for iou in ious]


def test_what_training_leaves_out_is_left_out(tmp_path: Path, model: YoloV2) -> None:
    data = annotate(tmp_path, [((60, 80), [("cat", (1, 1, 41, 31))] * 3 + [("cat", (5, 5, 6, 9))])])
    flags = np.array([True, False, False, False]), np.array([False, True, False, False])
    data = replace(data, difficult=flags[0], crowd=flags[1])
    assert learned(data).boxes.tolist() == [[1, 1, 41, 31]]
    assert len(fit_detector(model, data).boxes) == 1


@pytest.mark.parametrize("form", list(FORMS))
def test_anchors_alone_fit_as_the_whole_audit_says(form: str, tmp_path: Path) -> None:
    """By sizes alone, and by the detector's own assignment of every object."""
    data = annotate(tmp_path, IMAGES)
    detector = build_detector({"num_classes": 2, **FORMS[form]})
    whole, alone = fit_detector(detector, data).anchors, fit_anchors_alone(detector, data)
    assert (whole is None) == (alone is None)
    if whole is not None and alone is not None:
        torch.testing.assert_close(alone.ious.float(), whole.ious.float(), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(alone.anchors, whole.anchors)
        assert (alone.owners == whole.owners).all()
    none = data.keep_rows(np.zeros(len(data.boxes), dtype=np.bool_))
    assert fit_anchors_alone(detector, none) is None


def test_smaller_than_a_cell_is_smaller_both_ways(tmp_path: Path, model: YoloV2) -> None:
    """On this canvas an image of 60 x 80 is twice as large, and a cell is 32 pixels."""
    objects = [("cat", (0, 0, w, h)) for w, h in ((15, 15), (17, 15), (15, 17), (40, 40))]
    fit = fit_detector(model, annotate(tmp_path, [((60, 80), objects)]))
    assert fit.below_stride().tolist() == [True, False, False, False]


def test_a_detector_that_says_nothing_still_has_a_canvas(tmp_path: Path) -> None:
    model = Silent(YoloV2Config(num_classes=2, backbone="tiny", input_size=128))
    fit = fit_detector(model, annotate(tmp_path, IMAGES))
    assert fit.audit is None
    assert len(fit.boxes) == 6
    assert not fit.below_stride().any()


def test_no_images_and_no_objects(tmp_path: Path, model: YoloV2) -> None:
    fit = fit_detector(model, annotate(tmp_path, []))
    assert (len(fit.canvas), len(fit.boxes), len(fit.covered)) == (0, 0, 0)
    fit = fit_detector(model, annotate(tmp_path, [((60, 80), [])]))
    assert fit.audit is not None
    assert len(fit.audit.lost) == 0
