"""Zeiler and Fergus' network against a plain transcript of py-faster-rcnn's files."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from detkit.backbones.zf import LocalResponse, zf

# numbers of weights and biases, by hand: filters x inputs x side x side + filters
CONVS = (96 * 3 * 49 + 96, 256 * 96 * 25 + 256, 384 * 256 * 9 + 384, 384 * 384 * 9 + 384)
LEARNABLE = sum(CONVS) + 256 * 384 * 9 + 256
TAIL = (4096 * 256 * 36 + 4096) + (4096 * 4096 + 4096)


def slow_response(x: Tensor) -> Tensor:
    """Caffe's WITHIN_CHANNEL: 3 x 3 squares over nine, the outside as zeros."""
    out = torch.zeros_like(x)
    _, _, height, width = x.shape
    for row in range(height):
        for column in range(width):
            window = x[:, :, max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
            mean = window.square().sum(dim=(2, 3)) / 9
            out[:, :, row, column] = x[:, :, row, column] / (1 + 0.00005 * mean) ** 0.75
    return out


@given(st.integers(1, 6), st.integers(1, 6), st.floats(0.1, 1000), st.integers(0, 99))
def test_local_response_equals_a_slow_loop(
    height: int, width: int, scale: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = scale * torch.randn(2, 3, height, width, generator=generator)
    torch.testing.assert_close(LocalResponse()(x), slow_response(x))


def test_local_response_survives_half_precision() -> None:
    """300 squared is beyond what a half can hold."""
    x = torch.full((1, 1, 5, 5), 300.0)
    halved = LocalResponse()(x.half())
    assert halved.dtype == torch.float16
    torch.testing.assert_close(halved.float(), slow_response(x), rtol=1e-3, atol=0)


def transcript(pixels: Tensor, w: dict[str, Tensor]) -> dict[str, Tensor]:
    """The layers of ``ZF/faster_rcnn_end2end/train.prototxt`` from top to bottom."""
    tops = {}
    x = F.relu(F.conv2d(pixels, w["conv1.weight"], w["conv1.bias"], stride=2, padding=3))
    tops["norm1"] = x = slow_response(x)
    tops["pool1"] = x = F.max_pool2d(x, 3, 2, 1)
    x = F.relu(F.conv2d(x, w["conv2.weight"], w["conv2.bias"], stride=2, padding=2))
    tops["norm2"] = x = slow_response(x)
    x = F.max_pool2d(x, 3, 2, 1)
    for layer in ("conv3", "conv4", "conv5"):
        x = F.relu(F.conv2d(x, w[f"{layer}.weight"], w[f"{layer}.bias"], padding=1))
    tops["conv5"] = x
    return tops


@torch.no_grad()
def test_maps_equal_the_transcript() -> None:
    torch.manual_seed(0)
    backbone = zf((2, 4, 8, 16)).eval()
    for key, tensor in backbone.state_dict().items():
        if key.endswith("bias"):
            tensor.uniform_(-0.1, 0.1)
    pixels = torch.empty(2, 3, 48, 80).uniform_(-128, 128)
    expected = transcript(pixels, backbone.state_dict())
    assert list(expected) == ["norm1", "pool1", "norm2", "conv5"]
    for found, other in zip(backbone(pixels), expected.values(), strict=True):
        torch.testing.assert_close(found, other, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_the_tail_is_two_layers_of_4096() -> None:
    torch.manual_seed(0)
    backbone = zf((16,)).eval()
    tail = backbone.roi_tail()
    w = backbone.state_dict()
    pooled = torch.rand(3, 256, 6, 6)
    x = F.relu(F.linear(pooled.reshape(3, 256 * 6 * 6), w["fc6.weight"], w["fc6.bias"]))
    x = F.relu(F.linear(x, w["fc7.weight"], w["fc7.bias"]))
    torch.testing.assert_close(tail.module(pooled), x)
    assert sum(parameter.numel() for parameter in backbone.parameters()) == LEARNABLE + TAIL


def test_it_has_as_many_weights_as_the_files_and_starts_as_the_paper() -> None:
    torch.manual_seed(0)
    backbone = zf((16,))
    assert sum(parameter.numel() for parameter in backbone.parameters()) == LEARNABLE
    for key, tensor in backbone.state_dict().items():
        if key.endswith("bias"):
            assert not tensor.any()
        else:
            assert tensor.std().item() == pytest.approx(0.01, rel=0.03)


def test_pixels_are_on_caffes_scale() -> None:
    """Red of 255 enters as 255 - 122.7717."""
    backbone = zf((16,))
    white = [(1 - mean) / std for mean, std in zip(backbone.mean, backbone.std, strict=True)]
    assert white == pytest.approx([255 - 122.7717, 255 - 115.9465, 255 - 102.9801])


def test_it_fits_a_batch_it_has_seen() -> None:
    """Four pictures told apart after a few steps, from the paper's first weights."""
    torch.manual_seed(0)
    backbone, head = zf((16,)), torch.nn.Linear(256, 4)
    blots = torch.empty(4, 3, 4, 4).uniform_(-128, 128)
    pixels, labels = F.interpolate(blots, (64, 64), mode="bilinear"), torch.arange(4)
    parameters = [*backbone.parameters(), *head.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=0.01, momentum=0.9)
    for _ in range(40):
        optimizer.zero_grad()
        logits = head(backbone(pixels)[0].mean(dim=(2, 3)))
        F.cross_entropy(logits, labels).backward()
        optimizer.step()
    assert logits.argmax(dim=1).tolist() == [0, 1, 2, 3]
