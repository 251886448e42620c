"""What OpenCV 4 finds with the authors' published tiny YOLOv3: run by hand, once.

It wrote ``tiny_yolo_v3_opencv.json``, which ``test_tiny_published.py`` compares detkit with. It
uses neither detkit nor torch, and has an environment of its own::

    python3 -m venv opencv4
    opencv4/bin/pip install numpy==2.4.6 opencv-python-headless==4.14.0.94
    opencv4/bin/python tests/weights/opencv_tiny.py ../shared/data

OpenCV 5 no longer reads darknet's files. JPEG decoding, network, decoding of the boxes and
suppression are OpenCV's. The text of the network is written here, from its list of layers, with
the masks that the file was trained with, 3,4,5 and 1,2,3. The canvas is darknet's letterbox
(``image.c: letterbox_image``, ``resize_image``), whose bilinear rule is none of OpenCV's; it is
spelled out below in float32. So both programs take the same canvas, and what is compared is all
that follows.

    python tests/weights/opencv_tiny.py DATA --masks 0,1,2    shows what another mask gives
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import tempfile
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np

OUT = Path(__file__).with_name("tiny_yolo_v3_opencv.json")
WEIGHTS = "weights/yolov3-tiny.weights"
PHOTOS = (
    "coco_mini/val2017/000000025603.jpg",  # 640 x 480: margins of 52 rows
    "coco_mini/val2017/000000183709.jpg",  # 480 x 640: upright, small objects
    "coco_mini/val2017/000000553664.jpg",  # 640 x 414: 147 rows of margin, an odd number
)
SIDE = 416
CLASSES = 80
ANCHORS = "10,14, 23,27, 37,58, 81,82, 135,169, 344,319"
COARSE = "3,4,5"
SCORE = 0.1  # boxes at or below it are not stored
NMS = 0.45
CLEARANCE = 0.002  # no score may lie this near to SCORE, nor an overlap this near to NMS

# c: 3x3 or 1x1 convolution with batch norm and leaky; C: with bias, linear; m: max-pool
LAYERS = (
    "c16k3 m2s2 c32k3 m2s2 c64k3 m2s2 c128k3 m2s2 c256k3 m2s2 c512k3 m2s1 c1024k3 c256k1 c512k3 "
    "C255k1 Ycoarse R-4 c128k1 U2 R-1,8 c256k3 C255k1 Yfine"
)


def text_of_network(fine: str) -> str:
    """The network as darknet's text, with the numbers of the fine scale's anchors."""
    # Without `thresh` OpenCV takes 0.2 and zeroes every score at or below it.
    yolo = f"anchors={ANCHORS}\nclasses={CLASSES}\nnum=6\nthresh=0.001\n"
    text = f"[net]\nwidth={SIDE}\nheight={SIDE}\nchannels=3\n"
    for word in LAYERS.split():
        kind, rest = word[0], word[1:]
        if kind in "cC":
            filters, size = rest.split("k")
            norm = "batch_normalize=1\nactivation=leaky" if kind == "c" else "activation=linear"
            text += f"[convolutional]\nfilters={filters}\nsize={size}\nstride=1\npad=1\n{norm}\n"
        elif kind == "m":
            size, stride = rest.split("s")
            text += f"[maxpool]\nsize={size}\nstride={stride}\n"
        elif kind == "R":
            text += f"[route]\nlayers={rest}\n"
        elif kind == "U":
            text += f"[upsample]\nstride={rest}\n"
        else:
            text += f"[yolo]\nmask={COARSE if rest == 'coarse' else fine}\n{yolo}"
    return text


# ------------------------------------------------------------------------------ the canvas


def places(old: int, new: int) -> tuple[np.ndarray, np.ndarray]:
    """For each of ``new`` pixels the old one to its left, and how far it lies to the right of it.

    ``resize_image`` puts the first pixel's centre on the first one's and the last on the last.
    """
    place = np.arange(new, dtype=np.float32) * (np.float32(old - 1) / np.float32(new - 1))
    left = place.astype(np.int64)
    return left, place - left.astype(np.float32)


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """``[H, W, 3]`` float32 in two passes, the width first, as ``resize_image`` does."""
    left, share = places(image.shape[1], width)
    right = np.minimum(left + 1, image.shape[1] - 1)
    share = share[None, :, None]
    part = (1 - share) * image[:, left] + share * image[:, right]
    part[:, -1] = image[:, -1]
    top, share = places(image.shape[0], height)
    out = (1 - share[:, None, None]) * part[top]
    # The last row gets its upper neighbour's part alone, as in the source. Where float32 puts
    # its place just above the image's last row, it comes out nearly black.
    out[:-1] += share[:-1, None, None] * part[top[:-1] + 1]
    return out


def letterbox(photo: np.ndarray) -> tuple[np.ndarray, int, int]:
    """The canvas of ``[H, W, 3]`` uint8, with the (height, width) of the photo on it."""
    height, width = photo.shape[:2]
    if SIDE / width < SIDE / height:
        new_height, new_width = height * SIDE // width, SIDE
    else:
        new_height, new_width = SIDE, width * SIDE // height
    canvas = np.full((SIDE, SIDE, 3), 0.5, np.float32)
    top, left = (SIDE - new_height) // 2, (SIDE - new_width) // 2
    pixels = photo.astype(np.float32) / np.float32(255)
    canvas[top : top + new_height, left : left + new_width] = resize(pixels, new_height, new_width)
    return canvas, new_height, new_width


# -------------------------------------------------------------------------------- detection


def detect(net: cv2.dnn.Net, photo: np.ndarray) -> list[dict[str, object]]:
    """What is found in ``[H, W, 3]`` uint8 RGB, best first."""
    canvas, new_height, new_width = letterbox(photo)
    net.setInput(canvas.transpose(2, 0, 1)[None])
    rows = np.concatenate(net.forward(net.getUnconnectedOutLayersNames())).astype(np.float64)
    assert rows.shape == (3 * (13 * 13 + 26 * 26), 5 + CLASSES)
    # From fractions of the canvas to pixels of the photo: ``correct_yolo_boxes``.
    size = np.array([new_width / photo.shape[1], new_height / photo.shape[0]])
    margin = np.array([SIDE - new_width, SIDE - new_height]) / 2
    centres = (rows[:, :2] * SIDE - margin) / size
    sizes = rows[:, 2:4] * SIDE / size
    boxes = np.concatenate([centres - sizes / 2, centres + sizes / 2], axis=1)
    found = []
    for label in range(CLASSES):
        scores = rows[:, 5 + label]  # objectness times class probability
        assert not (abs(scores - SCORE) < CLEARANCE).any(), "take another SCORE"
        above = np.flatnonzero(scores > SCORE)
        kept = suppress(boxes[above], scores[above], NMS)
        for near in (NMS - CLEARANCE, NMS + CLEARANCE):
            assert kept == suppress(boxes[above], scores[above], near), "take another NMS"
        for row in above[kept]:
            corners = boxes[row].clip(0, [photo.shape[1], photo.shape[0]] * 2)
            found.append(
                {
                    "label": label,
                    "score": round(float(scores[row]), 6),
                    "box": [round(float(edge), 3) for edge in corners],
                }
            )
    return sorted(found, key=lambda each: -each["score"])


def suppress(boxes: np.ndarray, scores: np.ndarray, threshold: float) -> list[int]:
    """Which are kept of one class: an overlap above ``threshold`` with a better one is dropped."""
    corner_and_size = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
    return sorted(
        int(row)
        for row in cv2.dnn.NMSBoxes(corner_and_size.tolist(), scores.tolist(), SCORE, threshold)
    )


def one_line_each(value: object) -> str:
    """JSON with a line for every box and every short value, so that a change can be read."""

    def lines(value: object, depth: int) -> str:
        short = json.dumps(value)
        if len(short) <= 96 or not isinstance(value, dict | list):
            return short
        inner, outer = "\n" + " " * (depth + 1), "\n" + " " * depth
        if isinstance(value, list):
            return f"[{inner}{(',' + inner).join(lines(each, depth + 1) for each in value)}{outer}]"
        pairs = [f"{json.dumps(key)}: {lines(each, depth + 1)}" for key, each in value.items()]
        return f"{{{inner}{(',' + inner).join(pairs)}{outer}}}"

    return lines(value, 0) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="the folder with weights/ and coco_mini/")
    parser.add_argument("--masks", default="1,2,3", help="of the fine scale; others are printed")
    args = parser.parse_args()

    weights = args.data / WEIGHTS
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "yolov3-tiny.cfg"
        text.write_text(text_of_network(args.masks))
        net = cv2.dnn.readNetFromDarknet(str(text), str(weights))
    net.setPreferableBackend(cv2.dnn.DNN_BACKEND_OPENCV)
    net.setPreferableTarget(cv2.dnn.DNN_TARGET_CPU)
    net.enableWinograd(False)  # its shortcuts cost an exactness of 1e-5
    photos = {}
    for name in PHOTOS:
        pixels = cv2.imread(str(args.data / name), cv2.IMREAD_COLOR)[:, :, ::-1]
        photos[name] = detect(net, np.ascontiguousarray(pixels))
    stored = {
        "script": Path(__file__).name,
        "versions": {
            "python": platform.python_version(),
            "opencv-python-headless": version("opencv-python-headless"),
            "numpy": version("numpy"),
        },
        "weights": {
            "file": WEIGHTS,
            "sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
        },
        "input_size": [SIDE, SIDE],
        "anchors": [float(number) for number in ANCHORS.split(",")],
        "masks": {"coarse": COARSE, "fine": args.masks},
        "score_threshold": SCORE,
        "nms_iou": NMS,
        "boxes": "x1, y1, x2, y2 in pixels of the photo, clipped to it",
        "photos": photos,
    }
    if args.masks == "1,2,3":
        OUT.write_text(one_line_each(stored))
        print(f"{OUT}: {sum(len(found) for found in photos.values())} boxes")
    else:
        print(one_line_each(photos), end="")


if __name__ == "__main__":
    main()
