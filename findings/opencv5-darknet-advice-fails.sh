#!/usr/bin/env bash
# OpenCV 5 no longer reads darknet's files, and the way out that its message names ends in itself.
#
# `pip install opencv-python-headless` without a version brings 5.x. readNetFromDarknet is gone;
# readNet says: use readNet("darknet", ...). Called so, it says again that the reader is gone.
# DetectionModel does not show either message: a SystemError about "an exception set" comes out.
# OpenCV 4 takes the same two files in all four ways.
set -euo pipefail

OPENCV5=${OPENCV5:-5.0.0.93}
OPENCV4=${OPENCV4:-4.14.0.94}
NUMPY=${NUMPY:-2.4.6}

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for opencv in "$OPENCV4" "$OPENCV5"; do
    if ! { "${PYTHON:-python3}" -m venv "$folder/$opencv" &&
        "$folder/$opencv/bin/python" -m pip install --quiet --disable-pip-version-check \
            "opencv-python-headless==$opencv" "numpy==$NUMPY"; }; then
        echo "not tried: the packages could not be installed" >&2
        exit 2
    fi
done

cat >"$folder/finding.py" <<'PYTHON'
import struct
import sys
from pathlib import Path

import cv2
import numpy as np

FOLDER, SHOULD_READ = Path(sys.argv[1]), sys.argv[2] == "reads"
TEXT, WEIGHTS = str(FOLDER / "net.cfg"), str(FOLDER / "net.weights")
Path(TEXT).write_text(
    "[net]\nwidth=32\nheight=32\nchannels=3\n"
    "[convolutional]\nfilters=1\nsize=1\nstride=1\npad=1\nactivation=linear\n"
)
numbers = np.array([0, 1, 1, 1], "<f4")  # a bias and three weights
Path(WEIGHTS).write_bytes(struct.pack("<iiiq", 0, 2, 0, 0) + numbers.tobytes())
BYTES = np.fromfile(WEIGHTS, np.uint8), np.fromfile(TEXT, np.uint8)

WAYS = [  # how it is called, what OpenCV 5 answered when this was written
    (
        "readNetFromDarknet(cfg, weights)",
        lambda: cv2.dnn.readNetFromDarknet(TEXT, WEIGHTS),
        "AttributeError: module 'cv2.dnn' has no attribute 'readNetFromDarknet'",
    ),
    (
        "readNet(weights, cfg)",
        lambda: cv2.dnn.readNet(WEIGHTS, TEXT),
        'error: Darknet importer has been removed. Please use readNet("darknet", ...) with '
        "ONNX-converted models or use an older OpenCV version.",
    ),
    (
        'readNet("darknet", weights, cfg)',
        lambda: cv2.dnn.readNet("darknet", *BYTES),
        "error: Darknet importer has been removed. Please use ONNX-converted models or use an "
        "older OpenCV version.",
    ),
    (
        "DetectionModel(weights, cfg)",
        lambda: cv2.dnn.DetectionModel(WEIGHTS, TEXT),
        "SystemError: <class 'cv2.dnn.DetectionModel'> returned a result with an exception set",
    ),
]


def answer(call):
    try:
        call()
    except cv2.error as problem:
        return f"error: {problem.err}"
    except (AttributeError, SystemError) as problem:
        return f"{type(problem).__name__}: {problem}"
    return "is read"


print(f"OpenCV {cv2.__version__}, numpy {np.__version__}")
changed = False
for name, call, recorded in WAYS:
    now = answer(call)
    print(f"  {name}\n    {now}")
    changed |= now != ("is read" if SHOULD_READ else recorded)
if changed:
    sys.exit("CHANGED: not what was recorded")
print("as recorded")
PYTHON
"$folder/$OPENCV4/bin/python" "$folder/finding.py" "$folder" reads
"$folder/$OPENCV5/bin/python" "$folder/finding.py" "$folder" refuses
