#!/usr/bin/env bash
# OpenCV 4's darknet reader takes `thresh` of a .cfg for the least score that it gives out.
#
# In darknet a [region]'s `thresh` is a setting of training: predictions that overlap an object by
# more are not called empty. The authors' texts of YOLOv2 say .6, so OpenCV gives them no score at
# or below 0.6. A [yolo] has no such key in darknet; where it is missing OpenCV takes 0.2. What is
# compared with it is objectness times class probability, and a score that loses becomes 0.0, so a
# lower threshold in one's own code, or in DetectionModel.detect, finds nothing more.
set -euo pipefail

OPENCV=${OPENCV:-4.14.0.94}
NUMPY=${NUMPY:-2.4.6}

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
if ! { "${PYTHON:-python3}" -m venv "$folder/venv" &&
    "$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
        "opencv-python-headless==$OPENCV" "numpy==$NUMPY"; }; then
    echo "not tried: the packages could not be installed" >&2
    exit 2
fi

cat >"$folder/finding.py" <<'PYTHON'
import math
import struct
import sys
from pathlib import Path

import cv2
import numpy as np

FOLDER = Path(sys.argv[1])
HEADER = struct.pack("<iiiq", 0, 2, 0, 0)  # version 0.2.0, no image seen
NET = """[net]
width=32
height=32
channels=3
[convolutional]
filters=7
size=1
stride=1
pad=1
activation=linear
"""
YOLO = NET + "[yolo]\nmask=0\nanchors=16,16\nclasses=2\nnum=1\n"
REGION = NET + "[region]\nanchors=1,1\nclasses=2\ncoords=4\nnum=1\nsoftmax=1\n"


def logit(share):
    return math.log(share / (1 - share))


def write(text, objectness, first, second):
    """A network whose every cell gives the same box: the weights are zero, the biases speak."""
    numbers = [0, 0, 0, 0, logit(objectness), first, second] + [0] * 21
    (FOLDER / "net.cfg").write_text(text)
    (FOLDER / "net.weights").write_bytes(HEADER + np.array(numbers, "<f4").tobytes())


def scores(text, objectness, first, second):
    write(text, objectness, first, second)
    net = cv2.dnn.readNetFromDarknet(str(FOLDER / "net.cfg"), str(FOLDER / "net.weights"))
    net.setInput(np.zeros((1, 3, 32, 32), np.float32))
    row = net.forward().reshape(-1, 7)[0]  # x, y, w, h, objectness, two scores
    assert abs(row[4] - objectness) < 1e-5
    return [round(float(score), 4) for score in row[5:]]


def boxes(text):
    write(text, 0.19, 5.0, -5.0)
    model = cv2.dnn.DetectionModel(str(FOLDER / "net.weights"), str(FOLDER / "net.cfg"))
    model.setInputParams(scale=1 / 255, size=(32, 32))
    image = np.zeros((32, 32, 3), np.uint8)
    found = model.detect(image, confThreshold=0.05, nmsThreshold=0.45)
    return "some" if len(found[2]) else "none"


half = math.log(0.55 / 0.45)  # a softmax over (half, 0) gives 0.55 and 0.45
low, high = logit(0.4), logit(0.9)
cases = [  # what is run, what it gave when this was written, what darknet gives
    ("[yolo], objectness 0.4, classes 0.4 and 0.9", scores(YOLO, 0.4, low, high), [0, 0.36], [0.16, 0.36]),
    ("[yolo] with thresh=0.001", scores(YOLO + "thresh=0.001\n", 0.4, low, high), [0.16, 0.36], [0.16, 0.36]),
    ("[region], objectness 0.9, classes 0.55 and 0.45", scores(REGION, 0.9, half, 0), [0.495, 0.405], [0.495, 0.405]),
    ("[region] with thresh=.6, as the authors' texts", scores(REGION + "thresh=.6\n", 0.9, half, 0), [0, 0], [0.495, 0.405]),
    ("boxes of DetectionModel.detect at 0.05, score 0.19", boxes(YOLO), "none", "some"),
    ("boxes with thresh=0.001", boxes(YOLO + "thresh=0.001\n"), "some", "some"),
]
print(f"OpenCV {cv2.__version__}, numpy {np.__version__}")
print(f"{'':52}{'now':18}{'recorded':18}darknet")
for what, now, recorded, darknet in cases:
    print(f"{what:52}{now!s:18}{recorded!s:18}{darknet}")
if any(now != recorded for _, now, recorded, _ in cases):
    sys.exit("CHANGED: not what was recorded")
print("as recorded")
PYTHON
"$folder/venv/bin/python" "$folder/finding.py" "$folder"
