"""Numbers as text: read back by each format's own rule they are the same float32."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from detkit.data.writers import coco_texts, csv_texts, plain_texts, voc_texts, yolo_texts

sides = st.integers(1, 6000)
LEAST = 2.0**-10  # pixels; from here on YOLO's shares bring every float32 back to the bit


@st.composite
def edge(draw: st.DrawFn, side: int) -> float:
    """A coordinate in an image: anywhere, a whole pixel, a half, or an edge of the image."""
    kind = draw(st.sampled_from(["any", "whole", "half", "near", "low", "high"]))
    if kind == "low":
        return 0.0
    if kind == "high":
        return float(side)
    if kind == "near":
        return draw(st.floats(LEAST, 1, width=32)) * draw(st.sampled_from([1.0, float(side)]))
    value = draw(st.floats(LEAST, side, width=32))
    return (
        value if kind == "any" else round(value * (1 + (kind == "half"))) / (1 + (kind == "half"))
    )


@st.composite
def boxes_in_images(draw: st.DrawFn) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """``[N, 4]`` boxes and ``[N, 2]`` (height, width) of their images."""
    boxes, sizes = [], []
    for _ in range(draw(st.integers(1, 8))):
        height, width = draw(sides), draw(sides)
        x = sorted(np.float32(min(draw(edge(width)), width)) for _ in range(2))
        y = sorted(np.float32(min(draw(edge(height)), height)) for _ in range(2))
        if x[0] < x[1] and y[0] < y[1]:
            boxes.append([x[0], y[0], x[1], y[1]])
            sizes.append([height, width])
    return (
        np.array(boxes, dtype=np.float32).reshape(-1, 4),
        np.array(sizes, dtype=np.int32).reshape(-1, 2),
    )


def numbers(texts: list[list[str]]) -> list[list[float]]:
    return [[float(text) for text in row] for row in texts]


def same(found: list[list[float]], boxes: NDArray[np.float32]) -> None:
    read = np.array(found, dtype=np.float64).reshape(-1, 4).astype(np.float32)
    assert read.tolist() == boxes.tolist()


@given(boxes_in_images())
def test_every_format_brings_every_box_back(
    drawn: tuple[NDArray[np.float32], NDArray[np.int32]],
) -> None:
    boxes, sizes = drawn
    same([[a - 1, b - 1, c, d] for a, b, c, d in numbers(voc_texts(boxes))], boxes)
    same([[x, y, x + w, y + h] for x, y, w, h in numbers(coco_texts(boxes))], boxes)
    same(numbers(csv_texts(boxes)), boxes)
    found = []
    for (cx, cy, w, h), (height, width) in zip(
        numbers(yolo_texts(boxes, sizes)), sizes.tolist(), strict=True
    ):
        shares = [cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]
        inside = [min(max(share, 0.0), 1.0) for share in shares]  # as every reader clips
        found.append([s * side for s, side in zip(inside, [width, height] * 2, strict=True)])
    same(found, boxes)


def test_nearly_nothing_comes_back_within_a_billionth_of_a_pixel() -> None:
    boxes = np.array([[3.7425068e-06, 7.6e-08, 5.8e-07 + 1, 12.3]], dtype=np.float32)
    ((cx, cy, w, h),) = numbers(yolo_texts(boxes, np.array([[480, 640]], dtype=np.int32)))
    assert (cx - w / 2) * 640 == pytest.approx(boxes[0, 0], abs=1e-9)
    assert (cy - h / 2) * 480 == pytest.approx(boxes[0, 1], abs=1e-9)


def test_whole_pixels_are_whole_numbers() -> None:
    boxes = np.array([[47, 239, 195, 371], [0, 0, 500, 353]], dtype=np.float32)
    assert voc_texts(boxes) == [["48", "240", "195", "371"], ["1", "1", "500", "353"]]
    assert coco_texts(boxes) == [["47", "239", "148", "132"], ["0", "0", "500", "353"]]
    assert csv_texts(boxes) == [["47", "239", "195", "371"], ["0", "0", "500", "353"]]
    sizes = np.array([[400, 500], [353, 500]], dtype=np.int32)
    assert yolo_texts(boxes, sizes) == [
        ["0.242000", "0.762500", "0.296000", "0.330000"],
        ["0.500000", "0.500000", "1.000000", "1.000000"],
    ]


def test_fractions_have_no_more_digits_than_they_need() -> None:
    boxes = np.array([[217.62, 240.54, 256.61, 298.29]], dtype=np.float32)  # COCO's own digits
    assert csv_texts(boxes) == [["217.62", "240.54", "256.61", "298.29"]]
    assert coco_texts(boxes) == [["217.62", "240.54", "38.99", "57.75"]]
    assert voc_texts(boxes) == [["218.62", "241.54", "256.61", "298.29"]]
    assert plain_texts(np.array([2251.75, 0.1], dtype=np.float32)) == ["2251.75", "0.1"]
