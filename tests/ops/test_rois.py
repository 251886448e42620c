"""Regions cut from maps: torchvision's levels and RoIAlign, and RoI pooling by a slow loop.

What ``roi: pool`` does is the specification's rule; where torchvision's operator leaves it (and
Caffe's, which has the same arithmetic) is in the test of 57 cells.
"""

from __future__ import annotations

import math
from collections import OrderedDict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from detkit.ops.rois import in_batch, of_images, pool_rois, roi_levels
from tests.oracles import random_boxes

STRIDES = (4, 8, 16, 32)


def random_map(channels: int, grid: tuple[int, int], seed: int, images: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(images, channels, *grid, generator=generator)


# -------------------------------------------------------------------------------- levels


def squares(sides: list[float]) -> Tensor:
    return torch.tensor([[7.0, 9.0, 7.0 + side, 9.0 + side] for side in sides])


def test_levels_by_hand() -> None:
    """224 pixels belong to stride 16; from there half the side is one level finer."""
    sides = [1, 10, 111, 112, 223, 224, 447, 448, 895, 896, 5000]
    expected = [0, 0, 0, 1, 1, 2, 2, 3, 3, 3, 3]
    assert roi_levels(squares([*map(float, sides)]), STRIDES).tolist() == expected
    assert roi_levels(squares([112.0, 448.0]), (8, 16)).tolist() == [0, 1]
    assert roi_levels(squares([3.0, 900.0]), (32,)).tolist() == [0, 0]


def test_an_oblong_region_counts_by_its_area() -> None:
    oblong = torch.tensor([[0.0, 0.0, 56.0, 896.0], [0.0, 0.0, 55.0, 896.0]])
    assert roi_levels(oblong, STRIDES).tolist() == [2, 1]


@pytest.mark.parametrize("strides", [STRIDES, (8, 16, 32), (32, 64), (16,)])
def test_levels_equal_torchvisions(strides: tuple[int, ...]) -> None:
    from torchvision.ops.poolers import LevelMapper

    low, high = int(math.log2(strides[0])), int(math.log2(strides[-1]))
    sides = torch.arange(1, 1200).float()
    boxes = torch.stack([torch.zeros(1199), torch.zeros(1199), sides, sides], dim=1)
    boxes = torch.cat([boxes, 3 * random_boxes(500, 1), boxes * torch.tensor([1.0, 1.0, 0.5, 2.0])])
    found = roi_levels(boxes, strides)
    assert torch.equal(found, LevelMapper(low, high)([boxes]))
    assert found.dtype == torch.int64


def test_two_maps_of_one_stride_count_as_one() -> None:
    """torchvision's MobileNet gives two maps at 32: its mapper, too, sends everything to the first.

    ``log2`` of both strides is 5, so there is one level to choose from.
    """
    from torchvision.ops.poolers import _setup_scales

    maps = [random_map(1, (10, 10), 1), random_map(1, (10, 10), 2)]
    _, mapper = _setup_scales(maps, [(320, 320)], 224, 4)
    boxes = 2 * random_boxes(200, 3)
    assert torch.equal(roi_levels(boxes, (32, 32)), mapper([boxes]))
    assert not roi_levels(boxes, (32, 32)).any()


def test_regions_without_size_are_cut_from_the_finest() -> None:
    assert roi_levels(torch.tensor([[5.0, 5.0, 5.0, 9.0]]), STRIDES).tolist() == [0]


# ------------------------------------------------------------------------------- RoIAlign


def in_canvas(n: int, seed: int, size: tuple[int, int]) -> Tensor:
    return random_boxes(n, seed) * torch.tensor([size[1], size[0]] * 2) / 500


@pytest.mark.parametrize("strides", [STRIDES, (32, 32), (16,)])
@pytest.mark.parametrize("side", [5, 7])
def test_align_equals_torchvisions_pyramid(strides: tuple[int, ...], side: int) -> None:
    from torchvision.ops import MultiScaleRoIAlign

    size = (608, 896)
    maps = [
        random_map(6, (size[0] // stride, size[1] // stride), seed, images=3)
        for seed, stride in enumerate(strides)
    ]
    rois = [in_canvas(40, 1, size), torch.zeros(0, 4), in_canvas(1, 2, size)]
    names = [str(level) for level in range(len(maps))]
    pooler = MultiScaleRoIAlign(names, side, 2)
    expected = pooler(OrderedDict(zip(names, maps, strict=True)), rois, [size] * 3)
    found = pool_rois(maps, strides, in_batch(rois), side, "align")
    assert found.shape == (41, 6, side, side)
    assert torch.equal(found, expected)


def bilinear(map_: Tensor, y: float, x: float) -> Tensor:
    """``[C]`` between four cells; 0 from more than a cell outside, else as at the border."""
    height, width = map_.shape[1:]
    if not (-1 <= y <= height and -1 <= x <= width):
        return map_.new_zeros(len(map_))
    y, x = min(max(y, 0.0), height - 1), min(max(x, 0.0), width - 1)
    top, left = int(y), int(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    down, over = y - top, x - left
    above = (1 - over) * map_[:, top, left] + over * map_[:, top, right]
    below = (1 - over) * map_[:, bottom, left] + over * map_[:, bottom, right]
    return (1 - down) * above + down * below


def test_align_equals_a_slow_loop() -> None:
    """Corners divided by the stride, no half cell taken off; the mean of 2 x 2 points a bin."""
    map_ = random_map(3, (9, 12), 5).double()
    rois = torch.tensor([[10.0, 20.0, 90.0, 77.0], [-30.0, 100.0, 40.0, 170.0], [5, 5, 6, 7]])
    found = pool_rois([map_.float()], (16,), in_batch([rois]), 3, "align").double()
    for row, roi in enumerate(rois.tolist()):
        x1, y1, x2, y2 = (edge / 16 for edge in roi)
        high, wide = max(y2 - y1, 1.0) / 3, max(x2 - x1, 1.0) / 3
        for i in range(3):
            for j in range(3):
                points = [
                    bilinear(map_[0], y1 + (i + down) * high, x1 + (j + over) * wide)
                    for down in (0.25, 0.75)
                    for over in (0.25, 0.75)
                ]
                expected = torch.stack(points).mean(dim=0)
                torch.testing.assert_close(found[row, :, i, j], expected, rtol=1e-5, atol=1e-5)


# ------------------------------------------------------------------------------ RoI pooling


def half_away(value: float) -> int:
    """Round to the nearest whole number; halves go away from nought, as in C."""
    return int(math.copysign(math.floor(abs(value) + 0.5), value))


def slow_pool(map_: Tensor, roi: list[float], side: int, stride: int) -> Tensor:
    """The specification, section "RoI pool": whole cells, corners inclusive, bins may overlap."""
    channels, height, width = map_.shape
    x1, y1, x2, y2 = roi[0], roi[1], roi[2] - 1, roi[3] - 1  # inclusive corners
    left, top = half_away(x1 / stride), half_away(y1 / stride)
    high = max(half_away(y2 / stride) - top + 1, 1)
    wide = max(half_away(x2 / stride) - left + 1, 1)
    out = torch.zeros(channels, side, side, dtype=map_.dtype)  # an empty bin is 0
    for i in range(side):
        for j in range(side):
            rows = range(top + i * high // side, top - (-(i + 1) * high // side))  # floor, ceiling
            columns = range(left + j * wide // side, left - (-(j + 1) * wide // side))
            cells = [
                map_[:, y, x] for y in rows for x in columns if 0 <= y < height and 0 <= x < width
            ]
            if cells:
                out[:, i, j] = torch.stack(cells).amax(dim=0)
    return out


@settings(max_examples=40)
@given(st.integers(0, 9999), st.sampled_from([16, 8, 32]), st.sampled_from([2, 5, 7]))
def test_pool_equals_a_slow_loop(seed: int, stride: int, side: int) -> None:
    """Corners on and off the halves of a cell, over every border, regions below a cell."""
    map_ = random_map(2, (6, 8), seed)
    draws = torch.Generator().manual_seed(seed)
    quarter = stride / 4  # so that halves are met often
    low = torch.randint(-8, 30, (8, 2), generator=draws) * quarter
    sides = torch.randint(1, 30, (8, 2), generator=draws) * quarter
    # one pixel to the right, so that the last pixel, not the edge, is on a quarter
    rois = torch.cat([low, low + sides + torch.randint(2, (8, 1), generator=draws)], dim=1)
    found = pool_rois([map_], (stride,), in_batch([rois]), side, "pool")
    expected = [slow_pool(map_[0], roi, side, stride) for roi in rois.tolist()]
    assert torch.equal(found, torch.stack(expected))


@pytest.mark.parametrize(
    ("corner", "cell"),
    [(7.9, 0), (8.0, 1), (23.9, 1), (24.0, 2), (40.0, 3), (-8.0, 0), (-24.0, 0)],
)
def test_halves_go_away_from_nought(corner: float, cell: int) -> None:
    """24 / 16 is 1.5: cell 2, where rounding to even would say the same, and 2.5 is cell 3."""
    map_ = torch.arange(8.0).view(1, 1, 1, 8)
    roi = torch.tensor([[corner, 0.0, corner + 1, 1.0]])  # one pixel: first and last are the same
    expected = float(cell) if corner >= 0 else 0.0  # a cell outside has nothing
    assert pool_rois([map_], (16,), in_batch([roi]), 1, "pool").item() == expected


def test_a_negative_half_goes_away_from_nought_as_well() -> None:
    """-0.5 is cell -1: a region up to cell 2 has four cells, of which the first bin's are -1, 0."""
    map_ = torch.tensor([5.0, 9.0, 7.0, 1.0]).view(1, 1, 1, 4)
    roi = torch.tensor([[-8.0, 0.0, 33.0, 1.0]])
    assert pool_rois([map_], (16,), in_batch([roi]), 2, "pool")[0, 0, 0].tolist() == [5.0, 9.0]
    roi = torch.tensor([[-7.9, 0.0, 33.0, 1.0]])  # from cell 0: three cells, the middle one in both
    assert pool_rois([map_], (16,), in_batch([roi]), 2, "pool")[0, 0, 0].tolist() == [9.0, 9.0]


def test_the_last_pixel_decides_and_not_the_edge_behind_it() -> None:
    """Pixels 0 to 39: 39 / 16 rounds to cell 2. The exclusive edge, 40, would round to cell 3."""
    map_ = torch.arange(8.0).view(1, 1, 1, 8)
    roi = torch.tensor([[0.0, 0.0, 40.0, 1.0]])
    assert pool_rois([map_], (16,), in_batch([roi]), 1, "pool").item() == 2.0


def test_bins_of_57_cells_take_one_more() -> None:
    """The one place where the operator is not the rule: it multiplies 57 / 7 by 7 in float32.

    The last bin then ends a cell behind the region, as in Caffe, whose arithmetic this is. Of the
    regions of up to 124 cells those of 57, 114 and 121 have it, on a side of 912 pixels and more.
    """
    differing = []
    for cells in range(1, 125):
        map_ = torch.zeros(1, 1, 1, 126)
        map_[..., cells] = 1.0  # the first cell behind the region
        roi = torch.tensor([[0.0, 0.0, 16.0 * cells - 15.0, 1.0]])
        found = pool_rois([map_], (16,), in_batch([roi]), 7, "pool")
        assert not slow_pool(map_[0], roi[0].tolist(), 7, 16).any()
        if found.any():
            assert found[0, 0, 0].tolist() == [0.0] * 6 + [1.0]
            differing.append(cells)
    assert differing == [57, 114, 121]


def test_gradient_goes_to_the_largest_cell_alone() -> None:
    map_ = random_map(2, (5, 6), 3).requires_grad_()
    rois = torch.tensor([[0.0, 0.0, 96.0, 80.0]])
    pool_rois([map_], (16,), in_batch([rois]), 1, "pool").sum().backward()
    expected = torch.zeros(2, 30)
    expected[[0, 1], map_.detach()[0].flatten(1).argmax(dim=1)] = 1.0
    assert map_.grad is not None
    assert torch.equal(map_.grad[0].flatten(1), expected)


@pytest.mark.parametrize("roi", ["pool", "align"])
@pytest.mark.parametrize("strides", [(16,), STRIDES])
def test_regions_stay_in_order_and_none_are_welcome(roi: str, strides: tuple[int, ...]) -> None:
    maps = [random_map(4, (256 // s, 320 // s), s, images=2) for s in strides]
    rois = [in_canvas(9, 1, (256, 320)), in_canvas(5, 2, (256, 320))]
    both = pool_rois(maps, strides, in_batch(rois), 7, roi)  # type: ignore[arg-type]
    for image, boxes in enumerate(rois):
        alone = [map_[image : image + 1] for map_ in maps]
        for row, box in enumerate(boxes):
            one = pool_rois(alone, strides, in_batch([box[None]]), 7, roi)  # type: ignore[arg-type]
            assert torch.equal(both[9 * image + row], one[0])
    none = pool_rois(maps, strides, in_batch([torch.zeros(0, 4)] * 2), 7, roi)  # type: ignore[arg-type]
    assert none.shape == (0, 4, 7, 7)


def test_maps_of_half_precision_are_cut_in_single() -> None:
    maps = [random_map(4, (256 // s, 320 // s), s) for s in STRIDES]
    halves = [map_.bfloat16() for map_ in maps]
    rois = [in_canvas(9, 1, (256, 320))]
    found = pool_rois(halves, STRIDES, in_batch(rois), 7, "align")
    assert found.dtype == torch.float32
    singles = [map_.float() for map_ in halves]
    assert torch.equal(found, pool_rois(singles, STRIDES, in_batch(rois), 7, "align"))


def test_regions_of_a_batch_come_apart_again_where_an_image_has_none() -> None:
    regions = [torch.rand(3, 4), torch.zeros(0, 4), torch.rand(2, 4), torch.zeros(0, 4)]
    rois = in_batch(regions)
    assert rois[:, 0].tolist() == [0, 0, 0, 2, 2]
    for found, expected in zip(of_images(rois, 4), regions, strict=True):
        assert torch.equal(found, expected)
