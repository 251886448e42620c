"""Anchors: the published ones, the code that made them line by line, and torchvision's."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from detkit.detectors.faster_rcnn import FasterRCNNConfig, FasterRCNNFPNConfig
from detkit.detectors.rpn import cell_anchors, place_anchors
from detkit.ops.anchors import centred_anchors, grid_anchors, inside, published_anchors

SIZES, RATIOS = (128, 256, 512), (0.5, 1.0, 2.0)
PUBLISHED = [  # first and last pixel, both inclusive
    (-83, -39, 100, 56),
    (-175, -87, 192, 104),
    (-359, -183, 376, 200),
    (-55, -55, 72, 72),
    (-119, -119, 136, 136),
    (-247, -247, 264, 264),
    (-35, -79, 52, 96),
    (-79, -167, 96, 184),
    (-167, -343, 184, 360),
]


def exclusive(inclusive: Sequence[Sequence[float]]) -> Tensor:
    return torch.tensor([[x1, y1, x2 + 1, y2 + 1] for x1, y1, x2, y2 in inclusive]).float()


def slow_published(
    base: tuple[float, float, float, float], scales: Sequence[int], ratios: Sequence[float]
) -> list[tuple[float, ...]]:
    """The paper's ``generate_anchors``: inclusive corners, widths with + 1, centres without."""

    def whctrs(box: Sequence[float]) -> tuple[float, float, float, float]:
        w, h = box[2] - box[0] + 1, box[3] - box[1] + 1
        return w, h, box[0] + (w - 1) / 2, box[1] + (h - 1) / 2

    def mkbox(w: float, h: float, x: float, y: float) -> tuple[float, ...]:
        return x - (w - 1) / 2, y - (h - 1) / 2, x + (w - 1) / 2, y + (h - 1) / 2

    anchors = []
    for ratio in ratios:
        w, h, x, y = whctrs(base)
        wide = round((w * h / ratio) ** 0.5)
        shaped = mkbox(wide, round(wide * ratio), x, y)
        for scale in scales:
            w, h, x, y = whctrs(shaped)
            anchors.append(mkbox(w * scale, h * scale, x, y))
    return anchors


def test_the_nine_published_anchors() -> None:
    assert torch.equal(published_anchors(16, SIZES, RATIOS), exclusive(PUBLISHED))
    (anchors,) = cell_anchors(FasterRCNNConfig(num_classes=20))
    assert torch.equal(anchors, exclusive(PUBLISHED))


def test_the_published_ones_follow_from_their_code_with_pixels_counted_from_one() -> None:
    """Counted from nought, as in its Python port, all come out one pixel to the left and above."""
    assert slow_published((1, 1, 16, 16), (8, 16, 32), RATIOS) == PUBLISHED
    moved = [tuple(side - 1 for side in anchor) for anchor in PUBLISHED]
    assert slow_published((0, 0, 15, 15), (8, 16, 32), RATIOS) == moved


def test_twelve_anchors_for_coco() -> None:
    """With scale 4 before the others."""
    twelve = published_anchors(16, (64, *SIZES), RATIOS)
    slow = slow_published((1, 1, 16, 16), (4, 8, 16, 32), RATIOS)
    assert torch.equal(twelve, exclusive(slow))
    rest = [row for row in range(12) if row % 4]
    assert torch.equal(twelve[rest], exclusive(PUBLISHED))


@given(st.integers(1, 4), st.integers(1, 64), st.floats(0.2, 5.0))
def test_published_anchors_of_any_stride(power: int, scale: int, ratio: float) -> None:
    stride = 2 ** (power + 1)
    found = published_anchors(stride, [stride * scale], [ratio])
    slow = slow_published((1, 1, stride, stride), [scale], [ratio])
    torch.testing.assert_close(found, exclusive(slow), rtol=1e-5, atol=1e-3)


# --------------------------------------------------------------------------------- grids


def test_the_order_is_row_column_anchor() -> None:
    cell = torch.tensor([[-8.0, -4.0, 8.0, 4.0], [-2.0, -2.0, 2.0, 2.0], [0.0, 0.0, 9.0, 1.0]])
    rows = []
    for y, x, anchor in itertools.product(range(3), range(4), range(3)):
        x1, y1, x2, y2 = cell[anchor].tolist()
        rows.append([x1 + 10 * x, y1 + 20 * y, x2 + 10 * x, y2 + 20 * y])
    assert torch.equal(grid_anchors(cell, (3, 4), (20, 10)), torch.tensor(rows))


def test_one_cell() -> None:
    cell = published_anchors(16, SIZES, RATIOS)
    assert torch.equal(grid_anchors(cell, (1, 1), (16, 16)), cell)


def torchvisions(
    sizes: Sequence[Sequence[float]], maps: Sequence[Tensor], size: tuple[int, int]
) -> list[Tensor]:
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.detection.image_list import ImageList

    generator = AnchorGenerator(tuple(map(tuple, sizes)), (RATIOS,) * len(sizes))
    images = ImageList(torch.zeros(1, 3, *size), [size])
    (every,) = generator(images, [*maps])
    counts = [map_.shape[2] * map_.shape[3] * len(RATIOS) * len(sizes[0]) for map_ in maps]
    return list(every.split(counts))


def halves(size: tuple[int, int], levels: int, stride: int) -> list[Tensor]:
    """Maps at ``stride`` and on, each half of the one before, rounded up, as pooling makes them."""
    grid = (-(-size[0] // stride), -(-size[1] // stride))
    maps = []
    for _ in range(levels):
        maps.append(torch.zeros(1, 1, *grid))
        grid = (-(-grid[0] // 2), -(-grid[1] // 2))
    return maps


@pytest.mark.parametrize(
    "size",
    [
        (800, 1344),
        (416, 608),  # 13 x 19 cells at stride 32, 7 x 10 in the pooled level
        (32, 64),
        (352, 32),  # 11 x 1, then 6 x 1
    ],
)
def test_a_pyramids_anchors_equal_torchvisions(size: tuple[int, int]) -> None:
    config = FasterRCNNFPNConfig(num_classes=90)
    maps = halves(size, 5, 4)
    found = place_anchors(cell_anchors(config), maps, size)
    expected = torchvisions(config.anchor_sizes, maps, size)
    assert len(found) == len(expected) == 5
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.equal(ours, theirs)


def test_several_sizes_a_level_equal_torchvisions() -> None:
    """As its MobileNet models have them: five sizes on each of three levels."""
    sizes = ((32.0, 64.0, 128.0, 256.0, 512.0),) * 3
    maps = halves((160, 224), 3, 32)
    cells = [centred_anchors(level, RATIOS) for level in sizes]
    found = place_anchors(cells, maps, (160, 224))
    for ours, theirs in zip(found, torchvisions(sizes, maps, (160, 224)), strict=True):
        assert torch.equal(ours, theirs)


@given(st.floats(4, 600), st.floats(0.2, 5.0))
def test_centred_anchors_have_whole_edges_about_the_origin(size: float, ratio: float) -> None:
    (anchor,) = centred_anchors([size], [ratio]).tolist()
    assert anchor == [round(edge) for edge in anchor]
    assert [-edge for edge in anchor[:2]] == anchor[2:]
    assert anchor[2] == pytest.approx(size / ratio**0.5 / 2, abs=0.501)
    assert anchor[3] == pytest.approx(size * ratio**0.5 / 2, abs=0.501)


# --------------------------------------------------------------------------------- borders


def test_an_anchor_may_touch_the_border_and_not_cross_it() -> None:
    """An exclusive edge of 40 is the last of the pixels 0 to 39, which are an image's of 40."""
    anchors = torch.tensor(
        [
            [0.0, 0.0, 40.0, 30.0],
            [-1.0, 0.0, 40.0, 30.0],
            [0.0, -0.5, 40.0, 30.0],
            [0.0, 0.0, 41.0, 30.0],
            [0.0, 0.0, 40.0, 30.5],
            [3.0, 4.0, 5.0, 6.0],
        ]
    )
    assert inside(anchors, (30, 40)).tolist() == [True, False, False, False, False, True]


def test_how_many_published_anchors_lie_in_an_image() -> None:
    """Nearly 20,000 anchors on 600 x 1000, of which about 6,000 do not cross: section 3.3."""
    cell = published_anchors(16, SIZES, RATIOS)
    anchors = grid_anchors(cell, (600 // 16, 1000 // 16), (16, 16))
    assert len(anchors) == pytest.approx(20_000, rel=0.05)
    found = int(inside(anchors, (600, 1000)).sum())
    slow = sum(
        x1 >= 0 and y1 >= 0 and x2 <= 1000 and y2 <= 600 for x1, y1, x2, y2 in anchors.tolist()
    )
    assert found == slow
    assert 5_000 < found < 9_000
