"""The feature pyramid against torchvision's, and the paper's sums cell by cell."""

from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detkit.backbones import BACKBONES
from detkit.backbones.base import Backbone
from detkit.backbones.pyramid import FeaturePyramid


class Given(Backbone):
    """A body that gives the maps it was told."""

    def __init__(self, maps: tuple[Tensor, ...], strides: tuple[int, ...]) -> None:
        super().__init__()
        self.maps, self.strides = maps, strides
        self.channels = tuple(map_.shape[1] for map_ in maps)
        self.mean, self.std = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        return self.maps


STRIDES, WIDTHS = (8, 16, 32), (5, 7, 11)


def random_maps(size: tuple[int, int]) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    return tuple(
        torch.randn(2, width, -(-size[0] // stride), -(-size[1] // stride), generator=generator)
        for stride, width in zip(STRIDES, WIDTHS, strict=True)
    )


def pyramid_of(maps: tuple[Tensor, ...], *, batch_norm: bool = False) -> FeaturePyramid:
    torch.manual_seed(1)
    return FeaturePyramid(Given(maps, STRIDES), 6, batch_norm=batch_norm).eval()


@pytest.mark.parametrize("size", [(64, 128), (416, 608), (32, 32)])
def test_maps_equal_the_papers_sums(size: tuple[int, int]) -> None:
    """1x1 on each map, plus the coarser one enlarged by nearest neighbours; then 3x3 on each."""
    maps = random_maps(size)
    pyramid = pyramid_of(maps)
    with torch.no_grad():
        found = pyramid(torch.zeros(2, 3, *size))
        coarser: Tensor | None = None
        expected: list[Tensor] = []
        for level in (2, 1, 0):
            inner, smooth = pyramid.fpn.inner_blocks[level][0], pyramid.fpn.layer_blocks[level][0]
            assert (inner.kernel_size, smooth.kernel_size) == ((1, 1), (3, 3))
            here = F.conv2d(maps[level], inner.weight, inner.bias)
            if coarser is not None:
                rows = torch.arange(here.shape[2]) * coarser.shape[2] // here.shape[2]
                columns = torch.arange(here.shape[3]) * coarser.shape[3] // here.shape[3]
                here = here + coarser[:, :, rows][:, :, :, columns]
            coarser = here
            expected.insert(0, F.conv2d(here, smooth.weight, smooth.bias, padding=1))
        expected.append(expected[-1][:, :, ::2, ::2])  # a max-pool of one cell: every other one
    assert len(found) == 4
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_thirteen_cells_give_seven() -> None:
    found = pyramid_of(random_maps((416, 608)))(torch.zeros(2, 3, 416, 608))
    assert [tuple(map_.shape[2:]) for map_ in found] == [(52, 76), (26, 38), (13, 19), (7, 10)]


def test_it_says_what_it_gives() -> None:
    pyramid = pyramid_of(random_maps((64, 64)))
    assert pyramid.strides == (8, 16, 32, 64)
    assert pyramid.channels == (6, 6, 6, 6)
    assert (pyramid.mean, pyramid.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert pyramid.trunk is pyramid.body


def test_names_are_torchvisions() -> None:
    """So that its weights' names need no more than a change of their beginning."""
    from torchvision.ops import FeaturePyramidNetwork

    theirs = FeaturePyramidNetwork([*WIDTHS], 6).state_dict()
    ours = pyramid_of(random_maps((64, 64))).state_dict()
    assert set(ours) == {f"fpn.{name}" for name in theirs}
    theirs = FeaturePyramidNetwork([*WIDTHS], 6, norm_layer=nn.BatchNorm2d).state_dict()
    ours = pyramid_of(random_maps((64, 64)), batch_norm=True).state_dict()
    assert set(ours) == {f"fpn.{name}" for name in theirs}
    assert not any(name.endswith("0.bias") for name in ours)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_maps_equal_torchvisions_backbone(batch_norm: bool) -> None:
    """The same network in torchvision's words, with the same weights: ResNet-18 and a pyramid."""
    from torchvision.models import resnet18
    from torchvision.models.detection.backbone_utils import BackboneWithFPN

    norm = nn.BatchNorm2d if batch_norm else None
    theirs = BackboneWithFPN(
        resnet18(weights=None),
        {f"layer{stage}": str(stage) for stage in (1, 2, 3, 4)},
        [64, 128, 256, 512],
        32,
        norm_layer=norm,
    ).eval()
    body = BACKBONES["resnet18"].build((4, 8, 16, 32))
    ours = FeaturePyramid(body, 32, batch_norm=batch_norm).eval()
    ours.body.load_state_dict(theirs.body.state_dict())
    ours.fpn.load_state_dict(theirs.fpn.state_dict())
    pixels = torch.randn(2, 3, 96, 160, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        expected = theirs(pixels)
        found = ours(pixels)
    assert isinstance(expected, OrderedDict)
    assert len(expected) == len(found) == 5
    for one, other in zip(found, expected.values(), strict=True):
        torch.testing.assert_close(one, other)


def test_every_weight_learns() -> None:
    pyramid = FeaturePyramid(BACKBONES["tiny"].build((8, 16, 32)), 8)
    sum(map_.sum() for map_ in pyramid(torch.randn(2, 3, 64, 96))).backward()
    for name, parameter in pyramid.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
