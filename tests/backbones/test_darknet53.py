"""Darknet-53 against the authors' layer list, sizes and block rules."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from detkit.backbones.darknet53 import Darknet53, Residual, darknet53
from detkit.layers import ConvBN

# The convolutions of layers 0 to 74 of yolov3.cfg: filters x kernel, s2 where they halve the map.
FIRST = "32x3 64x3s2 32x1 64x3"
STAGES = (("128x3s2", "64x1 128x3", 2), ("256x3s2", "128x1 256x3", 8))
STAGES += (("512x3s2", "256x1 512x3", 8), ("1024x3s2", "512x1 1024x3", 4))
LAYERS = " ".join([FIRST, *(" ".join([down, *[pair] * times]) for down, pair, times in STAGES)])
# Of the classification network; less its 1 x 1 convolution to 1000 classes
FILE_FLOATS, LEARNABLE = 41_645_640, 41_609_928
LAST_LAYER = 1024 * 1000 + 1000


@pytest.fixture(scope="module")
def trunk() -> nn.Module:
    with torch.device("meta"):
        return darknet53((8, 16, 32)).eval()


def test_modules_stand_in_the_order_of_the_weight_file(trunk: nn.Module) -> None:
    kinds = (nn.Conv2d, nn.BatchNorm2d)
    parts = [part for part in trunk.modules() if isinstance(part, kinds)]
    words = []
    for conv, norm in zip(parts[::2], parts[1::2], strict=True):
        assert isinstance(conv, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        assert conv.bias is None
        halves = "s2" if conv.stride == (2, 2) else ""
        words.append(f"{conv.out_channels}x{conv.kernel_size[0]}{halves}")
    assert " ".join(words) == LAYERS
    assert len(words) == 52


def test_it_has_the_published_number_of_parameters(trunk: nn.Module) -> None:
    learnable = sum(parameter.numel() for parameter in trunk.parameters())
    assert learnable == LEARNABLE - LAST_LAYER
    running = sum(buffer.numel() for buffer in trunk.buffers() if buffer.ndim)
    assert learnable + running == FILE_FLOATS - LAST_LAYER == 40_620_640  # darknet53.conv.74


@pytest.mark.parametrize(("size", "gflops"), [(256, 18.570), (448, 56.867)])
def test_it_costs_what_the_authors_print(trunk: nn.Module, size: int, gflops: float) -> None:
    with FlopCounterMode(display=False) as counter, torch.device("meta"):
        maps = trunk(torch.zeros(1, 3, size, size))
    last_layer = 2 * 1024 * 1000 / 1e9
    assert counter.get_total_flops() / 1e9 + last_layer == pytest.approx(gflops, abs=1e-3)
    assert [scale.shape[1] for scale in maps] == [256, 512, 1024]


def test_a_residual_adds_its_input_after_the_activation() -> None:
    """Layer 4 is a sum without an activation: what was negative in the input may stay so."""
    torch.manual_seed(0)
    block = Residual(8).eval()
    x = torch.randn(1, 8, 5, 5)
    with torch.no_grad():
        assert torch.equal(block(x), x + block.wide(block.narrow(x)))
        for part in block.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.weight.zero_()
        assert torch.equal(block(x), x)  # also where x is below 0


def test_taps_are_the_sums_that_end_their_stages(trunk: nn.Module) -> None:
    assert isinstance(trunk, Darknet53)
    assert [len(stage) - 1 for stage in trunk.stages] == [1, 2, 8, 8, 4]
    for stage in trunk.stages:
        assert isinstance(stage[0], ConvBN)
        assert isinstance(stage[-1], Residual)


def test_pixels_are_divided_by_255_only(trunk: Darknet53) -> None:
    assert (trunk.mean, trunk.std) == ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
