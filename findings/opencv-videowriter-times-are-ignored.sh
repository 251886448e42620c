#!/usr/bin/env bash
# OpenCV's VideoWriter takes a frame's time, says that it did, and writes frames evenly all the same.
#
# `set(VIDEOWRITER_PROP_PTS, n)` is there for videos whose frames do not last equally long, such as
# those of screen recorders and cameras on a network. It answers True for MPEG-4 in MP4 and MKV and
# for Motion JPEG, and the times read back are those of the rate given at the start. A video that is
# meant to last 0.44 s lasts 0.011 s. Whoever needs such times repeats frames at an even rate.
set -euo pipefail

OPENCV=${OPENCV:-5.0.0.93}
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
import sys
from pathlib import Path

import cv2
import numpy as np

FOLDER = Path(sys.argv[1])
TICKS, FRAMES, APART = 1000, 12, 40  # a clock of milliseconds, a frame every 40 of them

print(f"OpenCV {cv2.__version__}")
same = True
for ending, code in (("mp4", "mp4v"), ("mkv", "mp4v"), ("mkv", "MJPG")):
    path = str(FOLDER / f"{code}.{ending}")
    writer = cv2.VideoWriter(path, cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*code), TICKS, (64, 48))
    taken = []
    for number in range(FRAMES):
        taken.append(writer.set(cv2.VIDEOWRITER_PROP_PTS, number * APART))
        writer.write(np.full((48, 64, 3), 20 * number, np.uint8))
    writer.release()
    video, times = cv2.VideoCapture(path, cv2.CAP_FFMPEG), []
    while video.read()[0]:
        times.append(round(video.get(cv2.CAP_PROP_POS_MSEC)))
    good = all(taken) and times == list(range(FRAMES))
    same = same and good
    print(f"{code} in {ending}: set() said {all(taken)}; asked for 0, {APART}, ..., "
          f"{APART * (FRAMES - 1)} ms, read back {times[0]}, {times[1]}, ..., {times[-1]} ms: "
          f"{'as recorded' if good else 'changed'}")
sys.exit(0 if same else 1)
PYTHON
"$folder/venv/bin/python" "$folder/finding.py" "$folder"
