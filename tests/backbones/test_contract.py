"""Every registered backbone keeps its word: strides, channels, alignment, gradients."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

from detkit.backbones import BACKBONES, Backbone
from detkit.errors import ConfigError, UnknownNameError


def build(name: str, strides: tuple[int, ...]) -> Backbone:
    torch.manual_seed(0)
    return BACKBONES[name].build(strides)


def selections(strides: tuple[int, ...]) -> list[tuple[int, ...]]:
    """All strides, each end alone, one from the middle, and two that are not neighbours."""
    picks = [strides, strides[:1], strides[-1:], strides[2:3], (strides[1], strides[-1])]
    return [pick for pick in picks if pick]  # a network of two maps has no middle


@pytest.mark.parametrize("name", list(BACKBONES))
@torch.no_grad()
def test_maps_have_the_promised_shapes(name: str) -> None:
    for strides in selections(BACKBONES[name].strides):
        backbone = build(name, strides).eval()
        assert backbone.strides == strides
        for height, width in ((64, 96), (96, 64)):
            maps = backbone(torch.zeros(2, 3, height, width))
            expected = [
                (2, channels, height // stride, width // stride)
                for channels, stride in zip(backbone.channels, strides, strict=True)
            ]
            assert [tuple(feature.shape) for feature in maps] == expected


@pytest.mark.parametrize("name", [name for name in BACKBONES if BACKBONES[name].strides[1:-1]])
def test_a_map_does_not_depend_on_which_others_are_asked_for(name: str) -> None:
    """Nor does a later in-place activation write into a map that was handed out."""
    strides = BACKBONES[name].strides
    whole, part = build(name, strides).eval(), build(name, strides[1:-1]).eval()
    part.load_state_dict({key: whole.state_dict()[key] for key in part.state_dict()})
    fewer = len(list(part.parameters())) < len(list(whole.parameters()))
    assert fewer or name in ("alexnet", "vgg16")  # pool5 has none
    pixels = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    for alone, among in zip(part(pixels), whole(pixels)[1:-1], strict=True):
        assert torch.equal(alone, among)


@pytest.mark.parametrize("name", list(BACKBONES))
def test_a_cell_looks_at_its_own_place(name: str) -> None:
    """The input pixels that a cell depends on are centred within half a stride of the cell.

    Every layer is made an average, so that a gradient is a receptive field and nothing cancels.
    """
    for stride in BACKBONES[name].strides:
        backbone = build(name, (stride,)).eval().requires_grad_(False)
        make_averages(backbone)
        dim = 1e-4  # residual sums double it ten times; a ReLU6 stops at 6
        pixels = torch.full((1, 3, 9 * stride, 11 * stride), dim, requires_grad=True)
        row, column = 4, 5
        backbone(pixels)[0][0, :, row, column].sum().backward()
        centre_y, centre_x = centroid(pixels.grad)
        # A padded 3 x 3 convolution of stride 2 is off by half a pixel of its input: five of them
        # by 15.5 pixels at stride 32, and no layer may add to that.
        assert abs(centre_y - (row + 0.5) * stride) <= stride / 2
        assert abs(centre_x - (column + 0.5) * stride) <= stride / 2


def make_averages(network: nn.Module) -> None:
    """Turn convolutions and max-pools into means over the same windows."""
    for layer in list(network.modules()):
        if isinstance(layer, nn.Conv2d):
            nn.init.constant_(layer.weight, 1 / layer.weight[0].numel())
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        for name, part in layer.named_children():
            if isinstance(part, nn.MaxPool2d):  # among equals it would take the top left
                mean = nn.AvgPool2d(part.kernel_size, part.stride, part.padding)
                setattr(layer, name, mean)


def centroid(gradient: Tensor | None) -> tuple[float, float]:
    """Mean (y, x) of a ``[1, 3, H, W]`` gradient's weight; pixel k is centred at k + 1/2."""
    assert gradient is not None
    weight = gradient[0].abs().sum(dim=0)
    rows, columns = (torch.arange(side) + 0.5 for side in weight.shape)
    y = (weight.sum(dim=1) * rows).sum() / weight.sum()
    x = (weight.sum(dim=0) * columns).sum() / weight.sum()
    return float(y), float(x)


@pytest.mark.parametrize("name", list(BACKBONES))
@torch.no_grad()
def test_moving_the_image_by_a_stride_moves_the_map_by_a_cell(name: str) -> None:
    coarsest = BACKBONES[name].strides[-1]
    backbone = build(name, (coarsest,)).eval()
    cells = 18
    patch = torch.rand(3, coarsest, coarsest, generator=torch.Generator().manual_seed(1))
    maps = []
    for row, column in ((8, 8), (9, 9)):
        pixels = torch.zeros(1, 3, cells * coarsest, cells * coarsest)
        top, left = row * coarsest, column * coarsest
        pixels[0, :, top : top + coarsest, left : left + coarsest] = patch
        maps.append(backbone(pixels)[0][0])
    near, far = maps[0][:, 8, 8], maps[1][:, 9, 9]
    torch.testing.assert_close(near, far, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", list(BACKBONES))
def test_every_parameter_gets_a_gradient(name: str) -> None:
    backbone = build(name, BACKBONES[name].strides[-2:]).train()
    pixels = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    torch.stack([feature.square().mean() for feature in backbone(pixels)]).sum().backward()
    without = [
        key
        for key, parameter in backbone.named_parameters()
        if parameter.grad is None or not parameter.grad.isfinite().all()
    ]
    assert without == []


@pytest.mark.parametrize("name", list(BACKBONES))
def test_record_is_complete(name: str) -> None:
    entry = BACKBONES[name]
    assert entry.name == name
    assert entry.paper
    assert list(entry.strides) == sorted(entry.strides)
    twice = len(set(entry.strides)) < len(entry.strides)
    assert twice == (name == "mobilenet_v3_large_pair")
    assert len(build(name, entry.strides).mean) == 3


def test_strides_it_does_not_have() -> None:
    with pytest.raises(ConfigError) as caught:
        BACKBONES["tiny"].build((8, 64))
    assert str(caught.value) == "backbone 'tiny' has strides 2, 4, 8, 16, 32; asked for 8, 64."


@pytest.mark.parametrize(
    ("strides", "said"), [((), "none"), ((32, 16), "32, 16"), ((8, 8), "8, 8")]
)
def test_strides_that_are_no_selection(strides: tuple[int, ...], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        BACKBONES["tiny"].build(strides)
    assert str(caught.value) == (
        f"backbone 'tiny' has strides 2, 4, 8, 16, 32; asked for {said}. "
        "Name at least one, each once, fine to coarse."
    )


@pytest.mark.parametrize(
    ("strides", "said"), [((), "none"), ((32, 32, 32), "32, 32, 32"), ((16, 16), "16, 16")]
)
def test_more_maps_of_a_stride_than_there_are(strides: tuple[int, ...], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        BACKBONES["mobilenet_v3_large_pair"].build(strides)
    assert str(caught.value) == (
        f"backbone 'mobilenet_v3_large_pair' has strides 32, 32; asked for {said}. "
        "Name at least one, none more often than it has it, fine to coarse."
    )


def test_a_backbone_is_its_own_trunk() -> None:
    backbone = build("tiny", (16, 32))
    assert backbone.trunk is backbone


def test_unknown_backbone_names_its_neighbour() -> None:
    with pytest.raises(UnknownNameError) as caught:
        BACKBONES["resnet5"]
    assert str(caught.value) == "no backbone named 'resnet5'. Did you mean 'resnet50'?"


def test_building_our_own_imports_no_torchvision() -> None:
    code = (
        "import sys\n"
        "from detkit.backbones import BACKBONES\n"
        "for name in ('darknet19', 'darknet_tiny', 'tiny'):\n"
        "    BACKBONES[name].build((16, 32))\n"
        "BACKBONES['zf'].build((16,)).roi_tail()\n"
        "print([name for name in sys.modules if name.split('.')[0] == 'torchvision'])\n"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"
