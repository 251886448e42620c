"""The authors' own ``yolov3-tiny.weights``: what OpenCV finds with it.

The values in ``tiny_yolo_v3_opencv.json`` are OpenCV's; ``opencv_tiny.py`` wrote them and says how.
The file was trained with anchors 1,2,3 on its fine scale. The present text of the network says
0,1,2, with which the boxes of that scale come out too small, and AP50 falls from 0.405 to 0.239
(``tests/cli/test_zoo_measure.py`` measures it).
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch

import detkit
from detkit.detectors import Detector

OPENCV = json.loads(Path(__file__).with_name("tiny_yolo_v3_opencv.json").read_text())
# OpenCV adds 1e-6 to a variance, darknet's GPU and detkit 1e-5: 6e-5 of a score and 0.004 pixels.
SCORE_TOLERANCE = 5e-4
PIXEL_TOLERANCE = 0.05

pytestmark = pytest.mark.data


@pytest.fixture(scope="module")
def weights(data_root: Path) -> Path:
    """The published file, as it was given to OpenCV."""
    path = data_root / OPENCV["weights"]["file"]
    if not path.is_file():
        pytest.skip(f"no published weights: {path} is not there")
    assert hashlib.sha256(path.read_bytes()).hexdigest() == OPENCV["weights"]["sha256"]
    return path


@pytest.fixture(scope="module")
def published(weights: Path) -> Detector:
    """The detector that the file becomes when nothing is said but its path."""
    return detkit.load(weights)


@pytest.mark.parametrize("photo", OPENCV["photos"])
def test_detections_are_those_of_opencv(photo: str, published: Detector, data_root: Path) -> None:
    expected = OPENCV["photos"][photo]
    assert len(expected) > 10
    assert published.config.nms_iou == OPENCV["nms_iou"]
    found = detkit.detect(data_root / photo, published, score_threshold=OPENCV["score_threshold"])
    assert found.labels.tolist() == [each["label"] for each in expected]  # both best first
    scores = torch.tensor([each["score"] for each in expected])
    boxes = torch.tensor([each["box"] for each in expected])
    torch.testing.assert_close(found.scores, scores, rtol=0, atol=SCORE_TOLERANCE)
    torch.testing.assert_close(found.boxes, boxes, rtol=0, atol=PIXEL_TOLERANCE)
