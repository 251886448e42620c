"""Colour spaces against Python's own colorsys and the CIE's formulas."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest
from numpy.typing import NDArray

from detkit.proposals.colours import to_space
from tests.proposals.images import noise

IMAGE = noise((9, 13), seed=5)


def test_hsv_agrees_with_colorsys() -> None:
    hsv = to_space(IMAGE, "hsv").astype(int)
    assert hsv.shape == (3, 9, 13)
    for y, x in np.ndindex(9, 13):
        hue, saturation, value = colorsys.rgb_to_hsv(*(IMAGE[y, x] / 255))
        turn = abs(hsv[0, y, x] - hue * 256)
        assert min(turn, 256 - turn) <= 1.01  # a circle
        assert abs(hsv[1, y, x] - saturation * 255) <= 1
        assert hsv[2, y, x] == round(value * 255)


def lab_of(rgb: NDArray[np.uint8]) -> tuple[float, float, float]:
    """CIE 15: sRGB to L*a*b* under D65, as the numbers stand in the standards."""
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in rgb / 255]
    matrix = [
        (0.412453, 0.357580, 0.180423),
        (0.212671, 0.715160, 0.072169),
        (0.019334, 0.119193, 0.950227),
    ]
    white = (0.950456, 1.0, 1.088754)
    ratios = [
        sum(m * v for m, v in zip(row, linear, strict=True)) / w
        for row, w in zip(matrix, white, strict=True)
    ]
    fx, fy, fz = (t ** (1 / 3) if t > 0.008856 else 7.787 * t + 16 / 116 for t in ratios)
    return 116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)


def test_lab_agrees_with_the_cie() -> None:
    lab = to_space(IMAGE, "lab").astype(int)
    for y, x in np.ndindex(9, 13):
        lightness, a, b = lab_of(IMAGE[y, x])
        wanted = (lightness * 255 / 100, a + 128, b + 128)
        # OpenCV computes 8 bits from tables, which are coarse where it is dark
        np.testing.assert_allclose(lab[:, y, x], wanted, atol=2)


def test_normalised_red_and_green_with_intensity() -> None:
    rgi = to_space(IMAGE, "rgi")
    for y, x in np.ndindex(9, 13):
        red, green, blue = (int(v) for v in IMAGE[y, x])
        total = red + green + blue
        assert rgi[0, y, x] == red * 255 // total
        assert rgi[1, y, x] == green * 255 // total
        assert abs(rgi[2, y, x] - (0.299 * red + 0.587 * green + 0.114 * blue)) <= 1


def test_single_channels_are_those_of_the_spaces() -> None:
    np.testing.assert_array_equal(to_space(IMAGE, "hue"), to_space(IMAGE, "hsv")[:1])
    np.testing.assert_array_equal(to_space(IMAGE, "intensity"), to_space(IMAGE, "rgi")[2:])


@pytest.mark.parametrize("space", ["hsv", "lab", "rgi", "hue", "intensity"])
def test_black_and_white_are_no_trouble(space: str) -> None:
    pair = np.array([[[0, 0, 0], [255, 255, 255]]], np.uint8)
    planes = to_space(pair, space)  # type: ignore[arg-type]
    assert planes.dtype == np.uint8
    assert planes.flags.c_contiguous
    expected = {
        "hsv": [[0, 0], [0, 0], [0, 255]],
        "lab": [[0, 255], [128, 128], [128, 128]],
        "rgi": [[0, 85], [0, 85], [0, 255]],
        "hue": [[0, 0]],
        "intensity": [[0, 255]],
    }
    np.testing.assert_array_equal(planes[:, 0], expected[space])
