"""What is no detector can be evaluated, timed and used to detect as one is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import detkit
from detkit.data import DetectionDataset, read_dataset
from detkit.detections import Detections
from detkit.detectors import Detector, build_detector
from detkit.errors import ConfigError, DetkitError
from detkit.evaluation import SpeedProtocol, evaluate, measure_speed
from detkit.predictors import CallablePredictor
from detkit.types import Boxes

PROTOCOL = SpeedProtocol(warmup=1, images=3, part_images=2)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> DetectionDataset:
    root = str(tmp_path_factory.mktemp("shapes"))
    numbers = {"test_images": 4, "train_images": 1, "val_images": 1, "sides": [64, 80]}
    return DetectionDataset(
        read_dataset({"format": "shapes", "root": root, "split": "test", **numbers})
    )


@pytest.fixture(scope="module")
def detector(dataset: DetectionDataset) -> Detector:
    torch.manual_seed(0)
    classes = dataset.class_names
    model = {"name": "yolo_v2", "num_classes": len(classes), "backbone": "tiny"}
    model |= {"head_channels": 8, "input_size": 64, "show_threshold": 0.1}
    found = build_detector(model).eval()
    found.class_names = classes
    return found


class Wrapped:
    """A plain class around any function."""

    needs_proposals = False

    def __init__(self, call: Callable[[list[Tensor]], Any], like: Detector) -> None:
        self.call, self.class_names = call, like.class_names
        self.show_threshold = like.show_threshold

    def detect_batch(
        self, images: list[Tensor], proposals: list[Boxes] | None = None
    ) -> list[Detections]:
        assert proposals is None
        return list(self.call(images))


class Called:
    """What only knows its classes and how to be called."""

    def __init__(self, call: Callable[[list[Tensor]], Any], names: tuple[str, ...]) -> None:
        self.call, self.class_names = call, names

    def __call__(self, images: list[Tensor]) -> list[Detections]:
        return list(self.call(images))


def nameless(detector: Detector) -> Callable[[list[Tensor]], list[Detections]]:
    """The detector as a function whose detections know no names."""
    return lambda images: [
        Detections(each.boxes, each.scores, each.labels) for each in detector.detect_batch(images)
    ]


def same(found: Detections, expected: Detections) -> bool:
    pairs = ((found.boxes, expected.boxes), (found.scores, expected.scores))
    return all(torch.equal(*pair) for pair in pairs) and found.names == expected.names


def test_a_plain_class_is_evaluated_timed_and_detected_with(
    detector: Detector, dataset: DetectionDataset
) -> None:
    plain = Wrapped(detector.detect_batch, detector)
    assert evaluate(plain, dataset).metrics() == pytest.approx(
        evaluate(detector, dataset).metrics(), nan_ok=True
    )
    speed = measure_speed(plain, dataset, "cpu", protocol=PROTOCOL)
    assert speed.fps > 0
    assert speed.parts is None
    assert speed.proposals_ms is None
    path = str(dataset.annotations.paths[0])
    expected = detkit.detect(path, detector)
    assert 0 < len(expected) < len(detector.detect_batch([detkit.read_image(path)])[0])
    assert same(detkit.detect(path, plain), expected)
    ((_, found),) = detkit.detect_all([path], plain)
    assert same(found, expected)


def test_a_callable_that_knows_its_classes_will_do(
    detector: Detector, dataset: DetectionDataset
) -> None:
    called = Called(nameless(detector), detector.class_names)
    assert evaluate(called, dataset).metrics() == pytest.approx(
        evaluate(detector, dataset).metrics(), nan_ok=True
    )
    assert measure_speed(called, dataset, "cpu", protocol=PROTOCOL).fps > 0
    path = str(dataset.annotations.paths[0])
    expected = detkit.detect(path, detector, score_threshold=0.0)
    assert same(detkit.detect(path, called), expected)
    kept = CallablePredictor(nameless(detector), detector.class_names, show_threshold=0.1)
    assert same(detkit.detect(path, kept), detkit.detect(path, detector))


def test_parts_are_timed_of_whatever_has_them(
    detector: Detector, dataset: DetectionDataset
) -> None:
    class Runtime(Wrapped):
        def preprocess(self, images: list[Tensor]) -> object:
            return detector.preprocess(images)

        def outputs(self, batch: Any) -> tuple[Tensor, ...]:
            return detector.outputs(batch)

        def postprocess(self, outputs: tuple[Tensor, ...], batch: Any) -> list[Detections]:
            return detector.postprocess(outputs, batch)

    speed = measure_speed(
        Runtime(detector.detect_batch, detector), dataset, "cpu", protocol=PROTOCOL
    )
    assert speed.parts is not None
    assert speed.parts.network_ms > 0
    assert speed.parts.postprocess_ms > 0


class Asks:
    """Finds in an image the regions that it was given."""

    class_names = ("square",)
    show_threshold = 0.0
    needs_proposals = True

    def detect_batch(
        self, images: list[Tensor], proposals: list[Boxes] | None = None
    ) -> list[Detections]:
        assert proposals is not None
        return [
            Detections(boxes, torch.ones(len(boxes)), torch.zeros(len(boxes), dtype=torch.int64))
            for boxes in proposals
        ]


def test_proposals_are_found_on_the_clock_by_whatever_finds_them(dataset: DetectionDataset) -> None:
    class Finds(Asks):
        asked = 0

        def find_proposals(self, images: list[Tensor]) -> list[Boxes]:
            self.asked += len(images)
            return [torch.tensor([[0.0, 0.0, 9.0, 9.0]]) for _ in images]

    finds = Finds()
    speed = measure_speed(finds, dataset, "cpu", protocol=PROTOCOL)
    assert finds.asked == PROTOCOL.warmup + PROTOCOL.images
    assert speed.given_ms is not None
    assert speed.parts is None
    with pytest.raises(ConfigError, match="has no find_proposals"):
        measure_speed(Asks(), dataset, "cpu", protocol=PROTOCOL)


def test_what_is_no_predictor_is_told_what_one_has(
    detector: Detector, dataset: DetectionDataset, tmp_path: Path
) -> None:
    for call in (
        lambda model: evaluate(model, dataset),
        lambda model: measure_speed(model, dataset, "cpu"),
        lambda model: detkit.detect(torch.zeros(3, 8, 8, dtype=torch.uint8), model),
        lambda model: detkit.detect_all(tmp_path, model),
    ):
        for model, shown in (
            (7, "7"),
            (object(), "object"),
            (len, "builtin_function_or_method"),
            (Asks, "the class Asks"),
            (type(detector), "the class YoloV2"),
        ):
            with pytest.raises(ConfigError) as caught:
                call(model)
            assert f"the model is {shown}; expected a detector, which " in str(caught.value)
    with pytest.raises(DetkitError, match="training mode"):
        detkit.detect(torch.zeros(3, 8, 8, dtype=torch.uint8), build_detector({
            "name": "yolo_v2", "num_classes": 1, "backbone": "tiny", "head_channels": 4
        }))  # fmt: skip


def test_a_callable_that_leaves_images_out_is_refused(detector: Detector) -> None:
    short = Called(lambda images: [], ("a",))
    with pytest.raises(DetkitError, match="gave 0 detections for 1 images"):
        detkit.detect(torch.zeros(3, 8, 8, dtype=torch.uint8), short)
