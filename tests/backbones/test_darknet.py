"""Darknet's trunks against the authors' layer lists, sizes and block rules."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from detkit.backbones.darknet import (
    darknet19,
    darknet_tiny,
    darknet_v1,
    darknet_v1_plain,
    darknet_v1_tiny,
)
from detkit.layers import ConvBN, SameSizePool

# Layer lists of the authors' config files: filters x kernel, with s and the stride where it is not
# 1, or m for a max-pool with its stride.
YOLO_V1_LAYERS = (
    "64x7s2 m2 192x3 m2 128x1 256x3 256x1 512x3 m2 256x1 512x3 256x1 512x3 256x1 512x3 256x1 512x3 "
    "512x1 1024x3 m2 512x1 1024x3 512x1 1024x3"
)
YOLO_V1_TINY_LAYERS = "16x3 m2 32x3 m2 64x3 m2 128x3 m2 256x3 m2 512x3 m2 1024x3"
YOLO_V2_LAYERS = (
    "32x3 m2 64x3 m2 128x3 64x1 128x3 m2 256x3 128x1 256x3 m2 512x3 256x1 512x3 256x1 512x3 m2 "
    "1024x3 512x1 1024x3 512x1 1024x3"
)
YOLO_V2_TINY_LAYERS = "16x3 m2 32x3 m2 64x3 m2 128x3 m2 256x3 m2 512x3 m1 1024x3"
# Learnable parameters of the classification network, less its 1 x 1 convolution to 1000 classes.
DARKNET19_TRUNK = 20_842_376 - (1024 * 1000 + 1000)
EXTRACTION_TRUNK = 23_437_224 - (1024 * 1000 + 1000)
EXTRACTION_FILE = 23_455_400 - (1024 * 1000 + 1000)  # floats, with batch norm's statistics


def layer_list(layers: nn.Module) -> str:
    words = []
    for layer in layers.children():
        if isinstance(layer, ConvBN):
            stride = layer.conv.stride[0]
            words.append(f"{layer.conv.out_channels}x{layer.conv.kernel_size[0]}")
            words[-1] += f"s{stride}" if stride > 1 else ""
        else:
            words.append("m2" if isinstance(layer, nn.MaxPool2d) else "m1")
    return " ".join(words)


def test_layers_stand_in_the_order_of_the_config_files() -> None:
    assert layer_list(darknet19((16, 32)).layers) == YOLO_V2_LAYERS
    assert layer_list(darknet_tiny((32,)).layers) == YOLO_V2_TINY_LAYERS
    assert layer_list(darknet_v1((32,)).layers) == YOLO_V1_LAYERS
    assert layer_list(darknet_v1_plain((32,)).layers) == YOLO_V1_LAYERS
    assert layer_list(darknet_v1_tiny((64,)).layers) == YOLO_V1_TINY_LAYERS


def test_darknet19_has_the_published_number_of_parameters() -> None:
    trunk = darknet19((32,))
    assert sum(parameter.numel() for parameter in trunk.parameters()) == DARKNET19_TRUNK
    assert sum(isinstance(layer, nn.Conv2d) for layer in trunk.modules()) == 18  # 19 less one


def test_the_first_trunk_has_the_published_number_of_parameters() -> None:
    trunk = darknet_v1((32,))
    learnable = sum(parameter.numel() for parameter in trunk.parameters())
    statistics = sum(buffer.numel() for buffer in trunk.buffers() if buffer.ndim)
    assert learnable == EXTRACTION_TRUNK
    assert learnable + statistics == EXTRACTION_FILE
    assert sum(isinstance(layer, nn.Conv2d) for layer in trunk.modules()) == 20


def test_the_plain_trunk_has_biases_in_place_of_batch_norm() -> None:
    plain = darknet_v1_plain((32,))
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in plain.modules())
    filters = sum(layer.conv.out_channels for layer in plain.layers if isinstance(layer, ConvBN))
    count = sum(parameter.numel() for parameter in plain.parameters())
    assert count == EXTRACTION_TRUNK - filters  # a scale and a shift become one bias


def test_the_first_networks_pad_as_darknet() -> None:
    """7 x 7 with stride 2 and 3 pixels around: 448 becomes 224 before the pool."""
    (fine,) = darknet_v1((2,))(torch.zeros(1, 3, 448, 64))
    assert fine.shape == (1, 64, 224, 32)
    assert darknet_v1((2,)).layers[0].conv.padding == (3, 3)


def test_taps_are_the_layers_that_the_detectors_route_from() -> None:
    assert darknet19((16, 32)).taps == (16, 22)
    assert darknet19((16, 32)).channels == (512, 1024)
    assert darknet_tiny((16, 32)).taps == (8, 12)
    assert darknet_tiny((16, 32)).channels == (256, 1024)
    assert darknet_v1((16, 32)).taps == (18, 23)
    assert darknet_v1((16, 32)).channels == (1024, 1024)
    assert darknet_v1_tiny((32, 64)).taps == (10, 12)
    assert darknet_v1_tiny((32, 64)).channels == (512, 1024)


def test_nothing_is_built_beyond_the_coarsest_stride() -> None:
    assert len(darknet19((8, 16)).layers) == 17
    assert len(darknet_tiny((16,)).layers) == 9


def test_pixels_are_divided_by_255_only() -> None:
    for trunk in (darknet19((32,)), darknet_tiny((32,)), darknet_v1((32,)), darknet_v1_tiny((64,))):
        assert (trunk.mean, trunk.std) == ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def test_block_equals_darknets_formulas_in_training() -> None:
    torch.manual_seed(0)
    block = ConvBN(5, 7, 3).train()
    nn.init.uniform_(block.norm.weight, 0.5, 1.5)
    nn.init.uniform_(block.norm.bias, -1, 1)
    x = torch.randn(4, 5, 6, 9)
    y = F.conv2d(x, block.conv.weight, padding=1)
    mean, var = y.mean(dim=(0, 2, 3)), y.var(dim=(0, 2, 3), unbiased=False)
    shape = (1, -1, 1, 1)
    y = (y - mean.view(shape)) / (var.view(shape) + 1e-5).sqrt()
    y = y * block.norm.weight.view(shape) + block.norm.bias.view(shape)
    torch.testing.assert_close(block(x), torch.where(y > 0, y, 0.1 * y), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(block.norm.running_mean, 0.01 * mean, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kernel", [1, 3])
def test_block_starts_with_darknets_deviation(kernel: int) -> None:
    torch.manual_seed(0)
    block = ConvBN(64, 256, kernel)
    expected = math.sqrt(2 / (kernel * kernel * 64))
    assert block.conv.weight.std().item() == pytest.approx(expected, rel=0.03)
    assert block.conv.bias is None
    assert torch.equal(block.norm.weight, torch.ones(256))
    assert torch.equal(block.norm.bias, torch.zeros(256))


def test_pool_of_stride_one_equals_a_slow_loop_on_negative_maps() -> None:
    x = -1 - torch.rand(1, 2, 4, 5, generator=torch.Generator().manual_seed(0))
    pooled = SameSizePool()(x)
    assert pooled.shape == x.shape
    for row in range(4):
        for column in range(5):
            window = x[:, :, row : row + 2, column : column + 2]  # cut off at the edges
            assert torch.equal(pooled[:, :, row, column], window.amax(dim=(2, 3)))
