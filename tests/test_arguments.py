"""What Python is told wrongly is refused in one sentence, as on the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import detkit
from detkit import arguments
from detkit.data import DetectionDataset, for_training, join, read_dataset
from detkit.detections import Detections, to_coco, to_voc, to_yolo
from detkit.drawing import draw_target
from detkit.engine import read_experiment
from detkit.errors import ConfigError
from detkit.evaluation import (
    SpeedProtocol,
    detect_dataset,
    evaluate_results,
    measure_speed,
    read_detections,
    voc_map,
    write_detections,
)
from detkit.evaluation.results import no_results
from detkit.ops import kmeans_sizes, nms_per_class, scale_boxes, select_per_class, shift_boxes
from detkit.types import make_target
from tests.evaluation.noise import make_annotations

GREY = torch.full((3, 40, 60), 128, dtype=torch.uint8)
FOUND = Detections(
    torch.tensor([[1.0, 2.0, 50.0, 30.0], [5.0, 5.0, 9.0, 9.0]]),
    torch.tensor([0.9, 0.4]),
    torch.tensor([0, 1]),
    ("cat", "dog"),
)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (
            lambda: detkit.detect(GREY, "nobody", max_detections=-1),
            "detect: max_detections=-1: expected a whole number, 1 or more.",
        ),
        (
            lambda: detkit.detect(GREY, "nobody", max_detections=2.5),  # type: ignore[call-overload]
            "detect: max_detections=2.5: expected a whole number, 1 or more.",
        ),
        (
            lambda: detkit.detect(GREY, "nobody", max_detections=True),
            "detect: max_detections=True: expected a whole number, 1 or more.",
        ),
        (
            lambda: detkit.detect(GREY, "nobody", nms="agnostic"),  # type: ignore[call-overload]
            "detect: nms='agnostic': expected 'per_class' or 'across_classes'.",
        ),
        (
            lambda: detkit.detect(GREY, "nobody", nms="across_class"),  # type: ignore[call-overload]
            "detect: nms='across_class': expected 'per_class' or 'across_classes'. Did you mean "
            "'across_classes'?",
        ),
        (
            lambda: detkit.detect(GREY, "nobody", score_threshold=50),
            "detect: score_threshold=50: expected a number from 0 to 1.",
        ),
        (
            lambda: detkit.detect(GREY, "nobody", score_threshold=float("nan")),
            "detect: score_threshold=nan: expected a number from 0 to 1.",
        ),
        (
            lambda: detkit.detect(GREY, "nobody", score_threshold="0.5"),  # type: ignore[call-overload]
            "detect: score_threshold='0.5': expected a number from 0 to 1.",
        ),
        (
            lambda: detkit.detect_all([GREY], "nobody", max_detections=0),
            "detect_all: max_detections=0: expected a whole number, 1 or more.",
        ),
        (
            lambda: detkit.detect_all([GREY], "nobody", skip_unreadable="no"),  # type: ignore[arg-type]
            "detect_all: skip_unreadable='no': expected True or False.",
        ),
        (
            lambda: detkit.detect(GREY, 3),  # type: ignore[call-overload]
            "detect: the model is 3; expected a detector, which detkit.load(PATH) gives, or what "
            "has class_names, show_threshold, needs_proposals and detect_batch, or what is called "
            "with images and has class_names.",
        ),
        (
            lambda: detkit.load(None),  # type: ignore[arg-type]
            "load: path=None: expected a path, a text or a pathlib.Path.",
        ),
        (
            lambda: detkit.read_image(0),  # type: ignore[arg-type]
            "read_image: path=0: expected a path, a text or a pathlib.Path.",
        ),
        (
            lambda: detkit.train(["quickstart"]),  # type: ignore[arg-type]
            "train: config=['quickstart']: expected a path, a text or a pathlib.Path.",
        ),
        (
            lambda: detkit.train("quickstart", resume="no"),  # type: ignore[arg-type]
            "train: resume='no': expected True or False.",
        ),
        (
            lambda: detkit.train("quickstart", overrides=[("train.lr", 0.1)]),  # type: ignore[list-item]
            "('train.lr', 0.1): expected a text such as 'train.lr=0.01'.",
        ),
        (
            lambda: detkit.draw(GREY, FOUND, score_threshold=90),
            "draw: score_threshold=90: expected a number from 0 to 1.",
        ),
        (
            lambda: draw_target(GREY, make_target(FOUND.boxes, FOUND.labels), names="cat"),
            "draw_target: names='cat': expected a list of class names, such as ['cat'].",
        ),
        (
            lambda: to_coco(FOUND, 1, "coco2017"),  # type: ignore[arg-type]
            "to_coco: category_ids='coco2017': expected 'coco'. Did you mean 'coco'?",
        ),
        (
            lambda: to_coco(FOUND, 1.5),  # type: ignore[arg-type]
            "to_coco: image_id=1.5: expected a whole number or a text.",
        ),
        (
            lambda: to_voc(FOUND, (0, 60)),
            "to_voc: size=(0, 60): expected (height, width) in whole pixels.",
        ),
        (
            lambda: to_voc(FOUND, (60, 40)),  # as PIL's image.size has it, of an upright picture
            "to_voc: size=(60, 40): expected (height, width), but a box reaches to x = 50, "
            "y = 30, so it seems to be (width, height). Turn it around.",
        ),
        (
            lambda: to_yolo(FOUND, (60, 40)),
            "to_yolo: size=(60, 40): expected (height, width), but a box reaches to x = 50, "
            "y = 30, so it seems to be (width, height). Turn it around.",
        ),
        (
            lambda: to_yolo(FOUND, 60),  # type: ignore[arg-type]
            "to_yolo: size=60: expected (height, width) in whole pixels.",
        ),
    ],
)
def test_a_wrong_argument_is_refused(call: Callable[[], Any], sentence: str) -> None:
    with pytest.raises(ConfigError) as problem:
        call()
    assert str(problem.value) == sentence


class _FindsNothing:
    class_names = ("cat", "dog")

    def __call__(self, images: list[Tensor]) -> list[Detections]:
        none = Detections(
            torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.long), self.class_names
        )
        return [none for _ in images]


TRUTH = make_annotations([(0, 0, (0, 0, 10, 10))], images=1, classes=2)
DATA = DetectionDataset(TRUTH)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (
            lambda: detkit.evaluate(_FindsNothing(), "photos"),
            "evaluate: dataset='photos': no such folder, config file or recipe. Name the folder of "
            "the data, or give a detkit.data.DetectionDataset.",
        ),
        (
            lambda: detkit.evaluate("runs/mine", DATA),
            "evaluate: the model is 'runs/mine'; expected a detector, which detkit.load(PATH) "
            "gives, or what has class_names, show_threshold, needs_proposals and detect_batch, or "
            "what is called with images and has class_names.",
        ),
        (
            lambda: detkit.evaluate(_FindsNothing(), DATA, batch_size=0),
            "evaluate: batch_size=0: expected a whole number, 1 or more.",
        ),
        (
            lambda: detect_dataset(_FindsNothing(), DATA, workers=-1),
            "evaluate: workers=-1: expected a whole number, 0 or more.",
        ),
        (
            lambda: detkit.evaluate(_FindsNothing(), DATA, coco="no"),
            "evaluate: coco='no': expected True or False.",
        ),
        (
            lambda: detkit.evaluate(_FindsNothing(), DATA, max_detections="300"),
            "max_detections='300': expected a whole number, 11 or more.",
        ),
        (
            lambda: detkit.evaluate(_FindsNothing(), DATA, voc_rule="voceval"),
            "voc_rule: is 'voceval', which is none. Did you mean 'voc_eval'?",
        ),
        (
            lambda: evaluate_results(no_results(), TRUTH, coco=1),
            "evaluate_results: coco=1: expected True or False.",
        ),
        (
            lambda: voc_map(no_results(), TRUTH, iou_threshold=50),
            "voc_map: iou_threshold=50: expected a number from 0 to 1.",
        ),
        (
            lambda: read_detections(3, TRUTH),
            "read_detections: path=3: expected a path, a text or a pathlib.Path.",
        ),
        (
            lambda: write_detections(1, no_results(), TRUTH),
            "write_detections: path=1: expected a path, a text or a pathlib.Path.",
        ),
        (
            lambda: measure_speed(_FindsNothing(), DATA, "cpu", precision="half"),
            "measure_speed: precision='half': expected 'fp32' or 'bf16' or 'fp16'.",
        ),
        (
            lambda: measure_speed(_FindsNothing(), DATA, "cpu", protocol="fast"),
            "measure_speed: protocol='fast': expected a SpeedProtocol.",
        ),
        (
            lambda: SpeedProtocol(images=0),
            "SpeedProtocol: images=0: expected a whole number, 1 or more.",
        ),
        (
            lambda: SpeedProtocol(warmup=-1),
            "SpeedProtocol: warmup=-1: expected a whole number, 0 or more.",
        ),
        (
            lambda: read_dataset("photos"),
            "read_dataset: entry='photos': expected settings by name, such as "
            "{'format': 'voc', 'root': FOLDER, 'split': 'test'}.",
        ),
        (
            lambda: read_dataset({"format": "voc", "root": "x", "split": "y"}, "cat"),
            "read_dataset: classes='cat': expected a list of class names, such as ['cat'].",
        ),
        (
            lambda: join(TRUTH),
            "join: datasets is of type Annotations; expected a list of Annotations.",
        ),
        (lambda: join([]), "join: datasets is empty; expected one or more."),
        (
            lambda: join([TRUTH], "cat"),
            "join: classes='cat': expected a list of class names, such as ['cat'].",
        ),
        (
            lambda: for_training(TRUTH, crowds="no"),
            "for_training: crowds='no': expected True or False.",
        ),
        (
            lambda: nms_per_class(FOUND.boxes, FOUND.scores, FOUND.labels, 50),
            "nms_per_class: iou_threshold=50: expected a number from 0 to 1.",
        ),
        (
            lambda: select_per_class(FOUND.boxes, torch.rand(2, 2), 5, 0.5),
            "select_per_class: score_threshold=5: expected a number from 0 to 1.",
        ),
        (
            lambda: kmeans_sizes(torch.rand(5, 2), 2, generator=torch.Generator(), restarts=0),
            "kmeans_sizes: restarts=0: expected a whole number, 1 or more.",
        ),
        (
            lambda: detkit.build_detector("yolo_v3"),
            "build_detector: model='yolo_v3': expected settings by name, such as "
            "{'name': 'yolo_v3', 'num_classes': 20}.",
        ),
        (
            lambda: detkit.draw(GREY, [FOUND.boxes]),
            "draw: detections is of type list; expected Detections, as detkit.detect gives.",
        ),
        (
            lambda: read_experiment("quickstart", use="test"),
            "read_experiment: use='test': expected 'train' or 'eval'.",
        ),
    ],
)
def test_a_wrong_argument_of_data_evaluation_or_boxes_is_refused(
    call: Callable[[], Any], sentence: str
) -> None:
    with pytest.raises(ConfigError) as problem:
        call()
    assert str(problem.value) == sentence


@pytest.mark.parametrize("move", [shift_boxes, scale_boxes])
def test_one_number_where_x_and_y_are_meant_moves_no_box(move: Callable[..., Any]) -> None:
    with pytest.raises(TypeError):
        move(FOUND.boxes, 2.0)


def test_paths_may_be_texts(tmp_path: Path) -> None:
    file = str(tmp_path / "found.json")
    write_detections(file, no_results(), TRUTH)
    assert len(read_detections(file, TRUTH)) == 0


def test_numbers_of_numpy_and_torch_are_taken() -> None:
    arguments.check_whole(np.int64(3), "n", least=1)
    arguments.check_threshold(np.float32(0.5), "n")
    arguments.check_threshold(torch.tensor(0.5), "n")
    arguments.check_threshold(1, "n")
    assert to_coco(FOUND, np.int64(7))[0]["image_id"] == 7  # type: ignore[arg-type]
    assert to_voc(FOUND, torch.Size((40, 60))) == to_voc(FOUND, (40, 60))


def test_one_row_of_detections_is_detections_of_one() -> None:
    best = FOUND[0]
    assert len(best) == 1
    assert torch.equal(best.boxes, FOUND.boxes[:1])
    assert torch.equal(FOUND[-1].labels, FOUND.labels[1:])
    assert [each.labels.tolist() for each in FOUND] == [[0], [1]]
    with pytest.raises(IndexError):
        FOUND[2]
