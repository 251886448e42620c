from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from detkit.data.base import DetectionDataset
from detkit.detections import Detections
from detkit.detectors import build_detector
from detkit.errors import DataError, DetkitError
from detkit.evaluation import evaluate, evaluate_results
from detkit.evaluation.run import left_out, match_labels
from tests.evaluation.noise import make_annotations, make_results

WHOLE = (0.0, 0.0, 10.0, 10.0)
FAR = (20.0, 20.0, 30.0, 30.0)


class Oracle:
    """Finds in an image what its first pixel says: the number of the image."""

    class_names = ("class1", "class0")  # the dataset's, in another order

    def __init__(self, answers: dict[int, list[tuple[tuple[float, ...], float, int]]]) -> None:
        self.answers = answers
        self.batches: list[int] = []

    def __call__(self, images: list[Tensor]) -> list[Detections]:
        self.batches.append(len(images))
        return [self.answer(int(image[0, 0, 0])) for image in images]

    def answer(self, number: int) -> Detections:
        rows = self.answers.get(number, [])
        return Detections(
            boxes=torch.tensor([row[0] for row in rows]).reshape(-1, 4),
            scores=torch.tensor([row[1] for row in rows], dtype=torch.float32),
            labels=torch.tensor([row[2] for row in rows], dtype=torch.int64),
            names=self.class_names,
        )


@pytest.fixture
def dataset(tmp_path: Path) -> DetectionDataset:
    """Three images; the one in the middle has no object."""
    paths = []
    for number in range(3):
        paths.append(str(tmp_path / f"image{number}.png"))
        pixels = np.full((40 + number, 50, 3), number, dtype=np.uint8)
        Image.fromarray(pixels).save(paths[-1])
    annotations = make_annotations([(0, 0, WHOLE), (2, 0, WHOLE), (2, 1, FAR)], images=3, classes=2)
    sizes = np.array([[40, 50], [41, 50], [42, 50]], dtype=np.int32)
    return DetectionDataset(replace(annotations, paths=np.array(paths), sizes=sizes))


def test_labels_are_matched_by_name(dataset: DetectionDataset) -> None:
    # label 1 of the predictor is class0, label 0 is class1
    oracle = Oracle({0: [(WHOLE, 0.9, 1)], 2: [(WHOLE, 0.8, 1), (FAR, 0.7, 0)]})
    result = evaluate(oracle, dataset)
    assert result.results.images.tolist() == [0, 2, 2]
    assert result.results.labels.tolist() == [0, 0, 1]
    assert result.metrics()["voc07_map"] == 1.0
    assert result.metrics()["coco_ap"] == pytest.approx(1.0)
    assert (result.images, result.objects) == (3, 3)


def test_batches_and_progress_and_workers_change_nothing(dataset: DetectionDataset) -> None:
    answers = {0: [(WHOLE, 0.9, 1)], 1: [(FAR, 0.95, 1)], 2: [(WHOLE, 0.8, 0)]}
    first, second = Oracle(answers), Oracle(answers)
    told: list[tuple[int, int]] = []
    one = evaluate(first, dataset, batch_size=2, progress=lambda *at: told.append(at))
    two = evaluate(second, dataset, batch_size=3, workers=1, coco=False)
    assert (first.batches, second.batches) == ([2, 1], [3])
    assert told == [(2, 3), (3, 3)]
    np.testing.assert_array_equal(one.results.boxes, two.results.boxes)
    assert one.voc.map10 == two.voc.map10
    assert two.coco is None


def test_leaves_the_random_state_alone(dataset: DetectionDataset) -> None:
    before = torch.get_rng_state()
    evaluate(Oracle({}), dataset)
    assert torch.equal(torch.get_rng_state(), before)


def test_metrics_and_classes_by_name() -> None:
    annotations = make_annotations([(0, 0, WHOLE)], images=1, classes=2)
    result = evaluate_results(make_results([(0, 0, WHOLE, 0.9)]), annotations)
    assert list(result.metrics()) == [
        *("voc07_map", "voc10_map", "coco_ap", "coco_ap50", "coco_ap75"),
        *("coco_ap_small", "coco_ap_medium", "coco_ap_large"),
        *("coco_ar1", "coco_ar10", "coco_ar100"),
        *("coco_ar_small", "coco_ar_medium", "coco_ar_large"),
    ]
    assert np.isnan(result.metrics()["coco_ap_large"])
    nothing = {"voc07_ap": None, "voc10_ap": None, "coco_ap": None, "coco_ap50": None}
    assert result.per_class()["class1"] == {"truths": 0} | nothing
    assert result.per_class()["class0"]["voc07_ap"] == 1.0
    without = evaluate_results(result.results, annotations, coco=False)
    assert list(without.metrics()) == ["voc07_map", "voc10_map"]
    assert without.per_class()["class0"] == {"truths": 1, "voc07_ap": 1.0, "voc10_ap": 1.0}


def test_a_detector_is_a_predictor(dataset: DetectionDataset) -> None:
    torch.manual_seed(0)
    detector = build_detector(
        {"name": "yolo_v2", "backbone": "tiny", "num_classes": 2, "input_size": 64}
    ).eval()
    detector.class_names = ("class0", "class1")
    result = evaluate(detector, dataset)
    assert result.voc.class_names == ("class0", "class1")
    assert set(result.results.images.tolist()) <= {0, 1, 2}


def test_other_classes_are_refused(dataset: DetectionDataset) -> None:
    oracle = Oracle({})
    oracle.class_names = ("cat", "N/A", "class0", "N/A")
    with pytest.raises(DataError) as caught:
        evaluate(oracle, dataset)
    assert str(caught.value) == (
        "the detector does not know class1 of the data. The detector knows 2: cat, class0; the "
        "data has 2: class0, class1. "
        "Take a detector that knows all of them. "
        "Or leave the objects of other classes out: 'data.only=[class0]'."
    )


def test_synonyms_of_the_official_lists_are_one_class(
    dataset: DetectionDataset, caplog: pytest.LogCaptureFixture
) -> None:
    """The authors' names on COCO's data measure what the data's own names measure."""
    answers = {0: [(WHOLE, 0.9, 2)], 1: [(FAR, 0.6, 1)], 2: [(WHOLE, 0.8, 2), (FAR, 0.7, 0)]}
    named = replace(dataset.annotations, class_names=("motorcycle", "tv"))
    exact, theirs = Oracle(answers), Oracle(answers)
    exact.class_names, theirs.class_names = (
        ("tv", "cat", "motorcycle"),
        ("tvmonitor", "cat", "motorbike"),
    )
    right = evaluate(exact, DetectionDataset(named))
    assert caplog.messages == []
    found = evaluate(theirs, DetectionDataset(named))
    assert caplog.messages == ["read as one class: motorbike = motorcycle, tvmonitor = tv"]
    assert found.metrics() == pytest.approx(right.metrics(), nan_ok=True)
    assert found.voc.map07 == 1.0
    assert found.class_names == ("motorcycle", "tv")
    assert left_out(theirs.class_names, named.class_names) == 1


def test_a_synonym_that_is_a_class_of_its_own_is_none() -> None:
    # the detector has both: what is spelt alike meets, the other is dropped
    assert match_labels(("motorbike", "motorcycle"), ("motorcycle",)).tolist() == [-1, 0]
    with pytest.raises(DataError) as caught:  # the data has both
        match_labels(("motorcycle", "cat"), ("cat", "motorbike", "motorcycle"))
    assert str(caught.value) == (
        "the detector does not know motorbike of the data. The detector knows 2: motorcycle, cat; "
        "the data has 3: cat, motorbike, motorcycle. Take a detector that knows all of them. "
        "Or leave the objects of other classes out: 'data.only=[cat, motorcycle]'."
    )


def test_what_is_found_of_other_classes_is_dropped(dataset: DetectionDataset) -> None:
    """Labels 0, 2 and 4 stand for no class of the data; two of them not for any class."""
    oracle = Oracle(
        {
            0: [(WHOLE, 0.95, 2), (WHOLE, 0.9, 1), (FAR, 0.85, 0)],
            1: [(WHOLE, 0.9, 4)],
            2: [(WHOLE, 0.8, 1), (FAR, 0.7, 3)],
        }
    )
    oracle.class_names = ("N/A", "class0", "cat", "class1", "N/A")
    result = evaluate(oracle, dataset)
    assert result.results.images.tolist() == [0, 2, 2]
    assert result.results.labels.tolist() == [0, 0, 1]
    assert result.results.scores.tolist() == pytest.approx([0.9, 0.8, 0.7])
    assert (result.metrics()["voc07_map"], result.metrics()["coco_ap"]) == pytest.approx((1, 1))
    assert left_out(oracle.class_names, dataset.class_names) == 1


def test_a_class_that_is_called_as_torchvision_calls_none() -> None:
    assert match_labels(["a", "N/A"], ["N/A", "a"]).tolist() == [1, 0]
    assert match_labels(["N/A", "a", "N/A"], ["a"]).tolist() == [-1, 0, -1]
    with pytest.raises(DataError, match="does not know N/A of the data"):
        match_labels(["N/A", "a", "N/A"], ["a", "N/A"])


def test_a_detector_in_training_mode_is_refused(dataset: DetectionDataset) -> None:
    detector = build_detector(
        {"name": "yolo_v2", "backbone": "tiny", "num_classes": 2, "input_size": 64}
    )
    with pytest.raises(DetkitError) as caught:
        evaluate(detector, dataset)
    assert str(caught.value) == ("evaluate: the detector is in training mode; call .eval() first.")
