#!/usr/bin/env bash
# OpenCV 4's darknet reader passes over keys that change the answer, without a word.
#
# `dilation`, `stride_x`, `stride_y` and a [shortcut]'s `weights_type` are of AlexeyAB's darknet and
# of what descends from it; an [upsample]'s `scale` and a [softmax]'s `temperature` are of the
# authors'. All of them are read as if they were not there. Weights of a [shortcut] stand in the
# file, too: whatever follows is read from the wrong place, and that numbers are left over at the
# end is not said either. (An activation that the reader does not know is an error.)
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
import struct
import sys
from pathlib import Path

import cv2
import numpy as np

FOLDER = Path(sys.argv[1])
HEADER = struct.pack("<iiiq", 0, 2, 0, 0)  # version 0.2.0, no image seen
SIDE = 8
IMAGE = np.arange(SIDE * SIDE, dtype=np.float32).reshape(SIDE, SIDE) % 7 + 1
NINE = np.arange(1, 10, dtype=np.float32)  # a 3x3 kernel
ONE = [0, 1]  # of a 1x1 convolution that changes nothing: bias, weight


def convolution(size, more=""):
    return (
        f"[convolutional]\nfilters=1\nsize={size}\npad=1\nactivation=linear\n{more or 'stride=1'}\n"
    )


def run(layers, numbers, image=IMAGE[None]):
    """What OpenCV makes of ``[C, H, W]`` with these layers and these numbers in the file."""
    channels = len(image)
    net = f"[net]\nwidth={SIDE}\nheight={SIDE}\nchannels={channels}\n"
    (FOLDER / "net.cfg").write_text(net + layers)
    (FOLDER / "net.weights").write_bytes(HEADER + np.array(numbers, "<f4").tobytes())
    net = cv2.dnn.readNetFromDarknet(str(FOLDER / "net.cfg"), str(FOLDER / "net.weights"))
    net.setInput(image[None])
    return net.forward()


def convolve(step_y, step_x, dilation):
    """The same by a slow loop: ``dilation`` pixels of zeros around, as darknet pads."""
    padded = np.pad(IMAGE, dilation)
    rows, columns = range(0, SIDE, step_y), range(0, SIDE, step_x)
    out = np.zeros((len(rows), len(columns)), np.float32)
    for y, row in enumerate(rows):
        for x, column in enumerate(columns):
            reach = 2 * dilation + 1
            patch = padded[row : row + reach : dilation, column : column + reach : dilation]
            out[y, x] = (patch.ravel() * NINE).sum()
    return out


def compare(what, now, without, darknet):
    """A line: whether ``now`` is what the text without the key would give, or what it asks for."""
    same = [
        now.size == other.size and np.allclose(now.ravel(), other.ravel(), atol=1e-4)
        for other in (without, darknet)
    ]
    verdict = {(True, False): "no effect", (False, True): "as darknet"}.get(tuple(same), "neither")
    pair = " and ".join(f"{number:.4g}" for number in now.ravel()[:2])
    asked = " and ".join(f"{number:.4g}" for number in darknet.ravel()[:2])
    print(f"{what:52}{verdict:12}{now.size} numbers, {pair}; darknet {darknet.size}, {asked}")
    return verdict


print(f"OpenCV {cv2.__version__}, numpy {np.__version__}")
plain = convolve(1, 1, 1)
assert np.allclose(run(convolution(3), [0, *NINE])[0, 0], plain)
verdicts = [
    compare(
        "[convolutional] dilation=2",
        run(convolution(3, "stride=1\ndilation=2"), [0, *NINE]),
        plain,
        convolve(1, 1, 2),
    ),
    compare(
        "[convolutional] stride_x=2, stride_y=1",
        run(convolution(3, "stride_x=2\nstride_y=1"), [0, *NINE]),
        plain,
        convolve(1, 2, 1),
    ),
    compare(
        "[upsample] scale=2",
        run("[upsample]\nstride=2\nscale=2\n", []),
        IMAGE.repeat(2, 0).repeat(2, 1),
        2 * IMAGE.repeat(2, 0).repeat(2, 1),
    ),
]
means = np.array([1, 2, 4], np.float32)  # of three channels
powers = [np.exp(means / temperature) for temperature in (1, 2)]
verdicts.append(
    compare(
        "[softmax] temperature=2",
        run(
            "[avgpool]\n[softmax]\ngroups=1\ntemperature=2\n",
            [],
            means[:, None, None].repeat(SIDE, 1).repeat(SIDE, 2),
        ),
        *(power / power.sum() for power in powers),
    )
)
# 0.5 of the layer before and 0.25 of the one named, each of which is the image; then bias 0 and
# weight 3. Read without the shortcut's two numbers: bias 0.5 and weight 0.25 of the plain sum.
weighted = "[shortcut]\nfrom=-2\nactivation=linear\nweights_type=per_feature\n"
verdicts.append(
    compare(
        "[shortcut] weights_type, then a convolution",
        run(convolution(1) * 2 + weighted + convolution(1), [*ONE, *ONE, 0.5, 0.25, 0, 3]),
        0.5 + 0.25 * (2 * IMAGE),
        3 * (0.75 * IMAGE),
    )
)
if verdicts != ["no effect"] * 5:
    sys.exit("CHANGED: not what was recorded, which is no effect in any line")
print("as recorded")
PYTHON
"$folder/venv/bin/python" "$folder/finding.py" "$folder"
