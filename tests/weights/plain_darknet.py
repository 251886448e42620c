"""Darknet in the plainest words: a second program, written from the specification alone.

It takes a network's compact list (``tests/weights/cfgs.py``), reads or writes a weight file byte by
byte, and detects. Nothing of detkit is used. Numbers are float64 but for the resize, which is
float32 as in the C code.
"""

from __future__ import annotations

import math
import re
import struct
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.weights.cfgs import LISTS

LONG_HEADER = struct.pack("<iiiq", 0, 2, 0, 32013312)
FORK_HEADER = struct.pack("<iiiq", 0, 2, 5, 6400)  # of AlexeyAB's and hank-ai's programs
SHORT_HEADER = struct.pack("<iiii", 0, 1, 0, 6400)
TRANSPOSED_HEADER = struct.pack("<iiii", 1001, 0, 0, 6400)
BOXES = {"yolov1": 3, "yolov1-tiny": 2}  # a cell
Box = tuple[float, float, float, float]


class Layer:
    """One word of a list, with the channels and the size of what it takes and gives."""

    def __init__(self, word: str, taken: tuple[int, int, int], given: tuple[int, int, int]) -> None:
        self.word, self.taken, self.given = word, taken, given
        self.arrays: dict[str, np.ndarray] = {}

    def file_shapes(self) -> dict[str, tuple[int, ...]]:
        """What a file holds for this layer, in its order (specification, 2.2 and 2.3)."""
        channels, height, width = self.taken
        if conv := re.fullmatch(r"([cC])(\d+)k(\d+)(?:s\d+)?", self.word):
            n, k = int(conv[2]), int(conv[3])
            weights = {"weights": (n, channels, k, k)}
            if conv[1] == "C":
                return {"bias": (n,), **weights}
            return {"bias": (n,), "scale": (n,), "mean": (n,), "variance": (n,), **weights}
        if self.word.startswith("L"):
            n = self.given[0]
            return {"bias": (n, height, width), "weights": (height * width, n, channels * 9)}
        if self.word.startswith("F"):
            n = self.given[0]
            return {"bias": (n,), "weights": (n, channels * height * width)}
        return {}


def plan(name: str, size: tuple[int, int], classes: int) -> list[Layer]:
    """The layers of a network for images of ``size`` (height, width)."""
    words = [re.sub(r"«\d+»", "", word) for word in LISTS[name].split()]
    for index, word in enumerate(words):
        if word == "region":
            words[index - 1] = f"C{5 * (5 + classes)}k1"
        elif word.startswith("Y["):
            words[index - 1] = f"C{3 * (5 + classes)}k1"
        elif word == "detection":
            side = size[0] // 64
            words[index - 1] = f"F{side * side * (5 * BOXES[name] + classes)}"
    layers: list[Layer] = []
    shape = (3, *size)
    for word in words:
        taken = shape
        channels, height, width = shape
        numbers = [int(number) for number in re.findall(r"\d+", word)]
        if word[0] in "cC":
            stride = numbers[2] if len(numbers) > 2 else 1
            shape = (numbers[0], (height - 1) // stride + 1, (width - 1) // stride + 1)
        elif word[0] == "m":
            shape = (channels, (height - 1) // numbers[1] + 1, (width - 1) // numbers[1] + 1)
        elif word[0] == "R":
            parts = [layers[number].given for number in numbers]
            shape = (sum(part[0] for part in parts), *parts[0][1:])
        elif word[0] == "G":
            shape = (channels * 4, height // 2, width // 2)
        elif word[0] == "U":
            shape = (channels, height * 2, width * 2)
        elif word[0] == "L":
            shape = (numbers[0], height, width)
        elif word[0] == "F":
            shape = (numbers[0], 1, 1)
        layers.append(Layer(word, taken, shape))
    return layers


# ---------------------------------------------------------------------------------- files


def write_random(path: Path, layers: list[Layer], header: bytes = LONG_HEADER) -> None:
    """A weight file through which activations neither die nor explode."""
    draw = np.random.default_rng(0)
    drawn = {
        "bias": lambda shape: draw.standard_normal(shape, np.float32) * np.float32(0.2),
        "scale": lambda shape: draw.uniform(0.8, 1.2, shape),
        "mean": lambda shape: draw.standard_normal(shape, np.float32) * np.float32(0.1),
        "variance": lambda shape: draw.uniform(0.5, 2, shape),
    }
    with path.open("wb") as file:
        file.write(header)
        for layer, after in zip(layers, [*layers[1:], None], strict=True):
            # A sum of two maps is larger than either, and there are 23 of them in a row.
            calm = 0.3 if after is not None and after.word[0] == "A" else 1.0
            for kind, shape in layer.file_shapes().items():
                if kind == "weights":
                    fan_in = math.prod(shape[1:]) if layer.word[0] != "L" else shape[2]
                    values = draw.standard_normal(shape, np.float32) * (2 / fan_in) ** 0.5
                else:
                    values = drawn[kind](shape) * (calm if kind == "scale" else 1)
                file.write(values.astype("<f4").tobytes())


def read_file(path: Path, layers: list[Layer]) -> None:
    """Fill the layers; the file must end where they do."""
    data = path.read_bytes()
    major, minor = struct.unpack("<ii", data[:8])
    at = 20 if 10 * major + minor >= 2 and major < 1000 and minor < 1000 else 16
    for layer in layers:
        for kind, shape in layer.file_shapes().items():
            count = math.prod(shape)
            values = np.frombuffer(data, "<f4", count, at).astype(np.float64)
            if layer.word[0] == "F" and kind == "weights" and (major > 1000 or minor > 1000):
                values = values.reshape(shape[::-1]).T
            layer.arrays[kind] = values.reshape(shape)
            at += 4 * count
    assert at == len(data)


# ------------------------------------------------------------------------------- network


def run(layers: list[Layer], image: np.ndarray) -> list[tuple[Layer, Tensor]]:
    """What enters each output layer; ``image`` is [3, H, W] in 0..1."""
    maps: list[Tensor] = []
    outputs = []
    x = torch.from_numpy(image.astype(np.float64))[None]
    for layer in layers:
        word = layer.word
        numbers = [int(number) for number in re.findall(r"\d+", word)]
        arrays = {kind: torch.from_numpy(values.copy()) for kind, values in layer.arrays.items()}
        if word[0] in "cC":
            stride = numbers[2] if len(numbers) > 2 else 1
            x = F.conv2d(x, arrays["weights"], stride=stride, padding=numbers[1] // 2)
            if word[0] == "c":
                x = (x - _c(arrays["mean"])) / (_c(arrays["variance"]) + 1e-5).sqrt()
                x = x * _c(arrays["scale"])
            x = x + _c(arrays["bias"])
            x = _leaky(x) if word[0] == "c" else x
        elif word[0] == "m":
            x = _max(x, *numbers)
        elif word[0] == "R":
            x = torch.cat([maps[number] for number in numbers], dim=1)
        elif word[0] == "A":
            x = x + maps[numbers[0]]
        elif word[0] == "G":
            x = _reorg(x)
        elif word[0] == "U":
            x = x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
        elif word[0] == "L":
            x = _leaky(_local(x, arrays["weights"]) + arrays["bias"])
        elif word[0] == "F":
            x = (arrays["weights"] @ x.flatten() + arrays["bias"])[None, :, None, None]
        elif word[0] in "Yrd":
            outputs.append((layer, x[0]))
        maps.append(x)
    return outputs


def _c(values: Tensor) -> Tensor:
    return values[None, :, None, None]


def _leaky(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, 0.1 * x)


def _max(x: Tensor, size: int, stride: int) -> Tensor:
    before = (size - 1) // 2
    sides = (before, size - 1 - before) * 2
    return F.max_pool2d(F.pad(x, sides, value=-math.inf), size, stride)


def _reorg(x: Tensor) -> Tensor:
    """``reorg_cpu`` with forward=0, index by index over the flat buffer."""
    _, channels, height, width = x.shape
    flat, out = x.flatten().numpy(), np.empty(x.numel())
    narrow = channels // 4
    k, j, i = np.meshgrid(
        np.arange(channels), np.arange(height), np.arange(width), indexing="ij"
    )  # of the output, seen as if it had the input's shape
    offset = k // narrow
    column, row = i * 2 + offset % 2, j * 2 + offset // 2
    source = column + width * 2 * (row + height * 2 * (k % narrow))
    out[(i + width * (j + height * k)).ravel()] = flat[source.ravel()]
    return torch.from_numpy(out.reshape(1, channels * 4, height // 2, width // 2))


def _local(x: Tensor, weights: Tensor) -> Tensor:
    _, _, height, width = x.shape
    padded = F.pad(x, (1, 1, 1, 1))[0]
    out = torch.empty(weights.shape[1], height, width, dtype=x.dtype)
    for row in range(height):
        for column in range(width):
            patch = padded[:, row : row + 3, column : column + 3].flatten()  # c, ky, kx
            out[:, row, column] = weights[row * width + column] @ patch
    return out[None]


# --------------------------------------------------------------------------------- images


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """``resize_image``: corners on corners, in two passes, width then height; float32."""
    f = np.float32
    _, old_height, old_width = image.shape
    part = np.empty((3, old_height, width), f)
    scale = f(old_width - 1) / f(width - 1)
    for column in range(width):
        if column == width - 1 or old_width == 1:
            part[:, :, column] = image[:, :, -1]
            continue
        place = f(column) * scale
        left = int(place)
        share = f(place - f(left))
        part[:, :, column] = (f(1) - share) * image[:, :, left] + share * image[:, :, left + 1]
    out = np.empty((3, height, width), f)
    scale = f(old_height - 1) / f(height - 1)
    for row in range(height):
        place = f(row) * scale
        top = int(place)
        share = f(place - f(top))
        out[:, row] = (f(1) - share) * part[:, top]
        if row < height - 1 and old_height > 1:
            out[:, row] += share * part[:, top + 1]
    return out


def letterbox(image: np.ndarray, height: int, width: int) -> tuple[np.ndarray, int, int]:
    """The canvas, and the (height, width) of the image on it."""
    _, old_height, old_width = image.shape
    if width / old_width < height / old_height:
        new_width, new_height = width, old_height * width // old_width
    else:
        new_width, new_height = old_width * height // old_height, height
    canvas = np.full((3, height, width), 0.5, np.float32)
    top, left = (height - new_height) // 2, (width - new_width) // 2
    canvas[:, top : top + new_height, left : left + new_width] = resize(
        image, new_height, new_width
    )
    return canvas, new_height, new_width


# ------------------------------------------------------------------------------ detection


class Found:
    """A box in fractions of the image (centre x, centre y, width, height), and its scores."""

    def __init__(self, box: Box, scores: list[float]) -> None:
        self.box, self.scores = box, scores


def detect(
    name: str,
    layers: list[Layer],
    pixels: np.ndarray,
    size: tuple[int, int],
    anchors: list[tuple[float, float]],
    classes: int,
    threshold: float,
    nms: float,
    *,
    stretched: bool = False,
) -> list[tuple[int, float, Box]]:
    """Detect in a photo as the authors' program does; ``stretched``, as AlexeyAB's.

    Args:
        pixels: [H, W, 3] uint8.
        size: (height, width) of the canvas.
        anchors: of v2 in cells, of v3 in canvas pixels.

    Returns:
        (class, score, corners in pixels of the photo, clipped to it) of what is kept.
    """
    image = (pixels.transpose(2, 0, 1).astype(np.float32) / np.float32(255)).astype(np.float32)
    height, width = size
    found: list[Found] = []
    if name.startswith("yolov1"):
        canvas = resize(image, height, width)
        for layer, out in run(layers, canvas):
            found += decode_detection(out.flatten().tolist(), layer, size, BOXES[name], classes)
    else:
        canvas, inner_height, inner_width = (
            (resize(image, height, width), height, width)
            if stretched
            else letterbox(image, height, width)
        )
        for layer, out in run(layers, canvas):
            found += decode_anchors(out.numpy(), layer, size, anchors, classes)
        for each in found:  # correct_yolo_boxes
            x, y, w, h = each.box
            x = (x - (width - inner_width) / 2 / width) / (inner_width / width)
            y = (y - (height - inner_height) / 2 / height) / (inner_height / height)
            each.box = (x, y, w * width / inner_width, h * height / inner_height)
    for each in found:
        each.scores = [score if score > threshold else 0.0 for score in each.scores]
    return _suppress(found, classes, nms, pixels.shape[1], pixels.shape[0])


def decode_anchors(
    out: np.ndarray,
    layer: Layer,
    size: tuple[int, int],
    anchors: list[tuple[float, float]],
    classes: int,
) -> list[Found]:
    """``get_region_box`` (anchors in cells) and ``get_yolo_box`` (in canvas pixels)."""
    is_yolo = layer.word.startswith("Y")
    mask = [int(number) for number in re.findall(r"\d+", layer.word)] or list(range(len(anchors)))
    _, rows, columns = out.shape
    found = []
    for slot, anchor in enumerate(mask):
        part = out[slot * (5 + classes) : (slot + 1) * (5 + classes)]
        across, down = (size[1], size[0]) if is_yolo else (columns, rows)
        for row in range(rows):
            for column in range(columns):
                tx, ty, tw, th, objectness, *logits = part[:, row, column].tolist()
                box = (
                    (column + _sigmoid(tx)) / columns,
                    (row + _sigmoid(ty)) / rows,
                    anchors[anchor][0] * math.exp(tw) / across,
                    anchors[anchor][1] * math.exp(th) / down,
                )
                total = sum(math.exp(logit) for logit in logits)
                shares = [
                    _sigmoid(logit) if is_yolo else math.exp(logit) / total for logit in logits
                ]
                found.append(Found(box, [_sigmoid(objectness) * share for share in shares]))
    return found


def decode_detection(
    out: list[float], layer: Layer, size: tuple[int, int], boxes: int, classes: int
) -> list[Found]:
    """``get_detection_detections``: three blocks, classes, confidences, boxes."""
    side = size[0] // 64
    places = side * side
    found = []
    for cell in range(places):
        row, column = divmod(cell, side)
        for box in range(boxes):
            confidence = out[places * classes + cell * boxes + box]
            at = places * (classes + boxes) + (cell * boxes + box) * 4
            x, y, w, h = out[at : at + 4]
            scores = [confidence * out[cell * classes + label] for label in range(classes)]
            found.append(Found(((x + column) / side, (y + row) / side, w * w, h * h), scores))
    return found


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def _suppress(
    found: list[Found], classes: int, nms: float, width: int, height: int
) -> list[tuple[int, float, Box]]:
    """``do_nms_sort``, then corners in pixels."""
    kept = []
    for label in range(classes):
        order = sorted(found, key=lambda each: -each.scores[label])
        for turn, best in enumerate(order):
            if best.scores[label] == 0:
                continue
            for other in order[turn + 1 :]:
                if other.scores[label] and _iou(best.box, other.box) > nms:
                    other.scores[label] = 0.0
            x, y, w, h = best.box
            corners = (
                min(max((x - w / 2) * width, 0), width),
                min(max((y - h / 2) * height, 0), height),
                min(max((x + w / 2) * width, 0), width),
                min(max((y + h / 2) * height, 0), height),
            )
            kept.append((label, best.scores[label], corners))
    return kept


def _iou(a: Box, b: Box) -> float:
    across = min(a[0] + a[2] / 2, b[0] + b[2] / 2) - max(a[0] - a[2] / 2, b[0] - b[2] / 2)
    down = min(a[1] + a[3] / 2, b[1] + b[3] / 2) - max(a[1] - a[3] / 2, b[1] - b[3] / 2)
    inter = max(across, 0) * max(down, 0)
    return inter / (a[2] * a[3] + b[2] * b[3] - inter)
