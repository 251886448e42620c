"""What Python is told wrongly is refused in one sentence, as on the command line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import detkit
from detkit import arguments
from detkit.convert_detections import to_coco, to_voc, to_yolo
from detkit.drawing import draw_target
from detkit.errors import ConfigError
from detkit.types import Detections, make_target

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
            "model=3: expected a detector, a folder or a name of the zoo. detkit.load gives a "
            "detector.",
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
