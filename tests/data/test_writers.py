"""Numbers as text: read back by each format's own rule they are the same float32."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from detkit.data.box_texts import coco_texts, csv_texts, plain_texts, voc_texts, yolo_texts
from detkit.data.stated import corners, without_noise

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


def test_numbers_of_files_are_written_as_they_stand_there() -> None:
    """Not as float32 has them; what adding and taking away leaves is not written."""
    boxes = np.array([[1234.5678, 0.1, 1234.5678 + 10.7, 0.1 + 0.2]])
    assert csv_texts(boxes) == [["1234.5678", "0.1", "1245.2678", "0.3"]]
    assert voc_texts(boxes) == [["1235.5678", "1.1", "1245.2678", "0.3"]]
    stated = np.array([[1234.5678, 0.1, 10.7, 0.2]])
    assert coco_texts(boxes, stated) == [["1234.5678", "0.1", "10.7", "0.2"]]
    odd = np.array([[12.480000000000002, 1 / 3, 20.000000000000004, 1e-7]])
    assert coco_texts(corners(odd), odd) == [
        ["12.480000000000002", "0.3333333333333333", "20.000000000000004", "0.0000001"]
    ]
    assert plain_texts(np.array([1023.9999999999999, 0.1])) == ["1023.9999999999999", "0.1"]


def test_a_box_that_was_clipped_has_the_sides_that_are_left() -> None:
    stated = np.array([[-5.5, 10.1, 20.75, 100.0]])
    clipped = np.array([[0, 10.1, 15.25, 60]])
    assert coco_texts(clipped, stated) == [["0", "10.1", "15.25", "49.9"]]


@given(st.lists(st.integers(0, 10**9), min_size=4, max_size=4), sides, sides)
def test_shares_bring_back_every_number_of_six_decimals(
    millionths: list[int], width: int, height: int
) -> None:
    x, y = (sorted(part) for part in (millionths[:2], millionths[2:]))
    limits = np.array([width, height] * 2) * 10**6
    box = np.minimum([x[0], y[0], x[1] + 1, y[1] + 1], limits) / 10**6
    if not (box[2:] > box[:2]).all():
        return
    texts = yolo_texts(box[None], np.array([[height, width]], dtype=np.int32))
    ((cx, cy, w, h),) = numbers(texts)
    scale = np.array([width, height] * 2)
    read = np.clip([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], 0, 1) * scale
    np.testing.assert_array_equal(without_noise(read), without_noise(box))
    np.testing.assert_allclose(without_noise(read), box, rtol=0, atol=1e-9)
