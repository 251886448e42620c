"""Histograms, sizes and boxes of regions against plain loops."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage

from detkit.proposals.features import colour_bins, describe_regions, texture_bins
from detkit.proposals.filters import filter_separable
from tests.proposals import slow
from tests.proposals.images import noise, patches


def planes_of(seed: int, size: tuple[int, int] = (9, 12), channels: int = 3) -> np.ndarray:
    image = patches(size, seed)[:, :, :channels]
    return np.ascontiguousarray(image.transpose(2, 0, 1))


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (2, 3), (30, 41)])
def test_filter_agrees_with_scipy(size: tuple[int, int]) -> None:
    planes = noise(size, seed=1).transpose(2, 0, 1).astype(np.float32).copy()
    rng = np.random.default_rng(2)
    along_x, along_y = rng.random(7, dtype=np.float32), rng.random(5, dtype=np.float32)
    wanted = scipy.ndimage.correlate1d(planes.astype(float), along_x, axis=2, mode="nearest")
    wanted = scipy.ndimage.correlate1d(wanted, along_y, axis=1, mode="nearest")
    np.testing.assert_allclose(filter_separable(planes, along_x, along_y), wanted, rtol=1e-5)


def test_colour_bins_are_25_equal_parts_of_256() -> None:
    values = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    bins = colour_bins(values)
    assert bins.tolist() == [[value * 25 // 256 for value in range(256)]]


@pytest.mark.parametrize("channels", [1, 3])
def test_texture_bins_agree_with_derivatives_in_two_dimensions(channels: int) -> None:
    planes = planes_of(3, channels=channels)
    wanted = slow.texture_bins(planes)  # [C * 8, H, W]
    folded = texture_bins(planes).reshape(channels, 4, 9, 12)
    got = np.zeros_like(wanted)
    for c, axis, y, x in np.ndindex(folded.shape):
        orientation, number = divmod(int(folded[c, axis, y, x]), 10)
        got[c * 8 + orientation, y, x] = number
    # A response within float32's rounding of a bin's edge may fall on either side of it.
    assert (got != wanted).mean() < 0.002
    assert np.abs(got.astype(int) - wanted).max() <= 1


def test_texture_of_one_grey_is_in_bin_0() -> None:
    bins = texture_bins(np.full((3, 5, 6), 77, np.uint8))
    assert (bins == np.array([0, 20, 40, 60])[:, None]).all()  # 10 a bin, 2 orientations an axis


def test_a_ramp_has_one_orientation() -> None:
    ramp = np.tile(np.arange(40, dtype=np.uint8) * 5, (30, 1))[None]
    along_x, down_right, down, down_left = texture_bins(ramp).reshape(4, 30, 40)[:, 10:20, 10:30]
    assert (along_x == 9).all()  # to the right, steepest
    assert (down_right == 27).all()  # cos 45 degrees of it
    assert (down % 10 == 0).all()
    assert (down_left == 77).all()  # the other sense of the fourth axis: up and right


@pytest.mark.parametrize("channels", [1, 3])
def test_regions_agree_with_counting(channels: int) -> None:
    planes = planes_of(4, channels=channels)
    labels = np.random.default_rng(6).integers(0, 5, (9, 12)).astype(np.int32)
    labels[0, :5] = range(5)  # every label is there
    size, boxes, colour, texture = describe_regions(
        labels.reshape(-1), 5, 12, colour_bins(planes), texture_bins(planes)
    )
    directions = texture_bins(planes).reshape(channels, 4, 9, 12)
    for region in range(5):
        pixels = [(int(y), int(x)) for y, x in np.argwhere(labels == region)]
        rows, columns = [y for y, _ in pixels], [x for _, x in pixels]
        assert size[region] == len(pixels)
        box = [min(columns), min(rows), max(columns) + 1, max(rows) + 1]
        assert boxes[region].tolist() == box
        wanted_colour = np.zeros((channels, 25), int)
        wanted_texture = np.zeros((channels, 8, 10), int)
        for pixel in pixels:
            for c in range(channels):
                wanted_colour[c, int(planes[(c, *pixel)]) * 25 // 256] += 1
                for axis in range(4):
                    orientation, number = divmod(int(directions[(c, axis, *pixel)]), 10)
                    wanted_texture[c, orientation, number] += 1
                    wanted_texture[c, orientation ^ 1, 0] += 1  # the opposite one is cut off
        np.testing.assert_array_equal(colour[region], wanted_colour.reshape(-1))
        np.testing.assert_array_equal(texture[region], wanted_texture.reshape(-1))
