"""Darknet-19 and the tiny trunk: plain convolutions, a 2 x 2 max-pool between resolutions.

Papers:
    YOLO9000: Better, Faster, Stronger (Redmon and Farhadi, CVPR 2017), table 6 is Darknet-19:
    https://arxiv.org/abs/1612.08242. The tiny trunk is that of the authors' ``yolov2-tiny``.

Reading order: ``ConvBN`` (the one block), ``DARKNET19`` and ``DARKNET_TINY`` (the plans, in the
order and numbering of the authors' config files), ``Darknet`` (a plan turned into a network).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from detkit.backbones.base import Backbone, register_backbone

LEAKY_SLOPE = 0.1  # darknet's; PyTorch's default is 0.01
BN_EPS = 1e-5  # of the GPU road, which the published results come from
BN_MOMENTUM = 0.01  # share of the newest batch; darknet writes it as 0.99 of the old


class ConvBN(nn.Module):
    """Convolution without bias, batch normalisation, leaky ReLU; "same" padding for odd kernels.

    Source:
        darknet, ``convolutional_layer.c`` and ``batchnorm_layer.c``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        bn_momentum: float = BN_MOMENTUM,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, bias=False
        )
        self.norm = nn.BatchNorm2d(out_channels, eps=BN_EPS, momentum=bn_momentum)
        self.activation = nn.LeakyReLU(LEAKY_SLOPE, inplace=True)
        fan_in = in_channels * kernel_size**2
        nn.init.normal_(self.conv.weight, std=math.sqrt(2 / fan_in))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, in, H, W]`` to ``[B, out, H/stride, W/stride]``."""
        out: Tensor = self.activation(self.norm(self.conv(x)))
        return out


class SameSizePool(nn.Module):
    """2 x 2 max-pool of stride 1 that keeps the size: the last row and column see the edge.

    The missing pixels count as minus infinity, not as zero, which would win over negative maps.

    Source:
        darknet, ``maxpool_layer.c``.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, C, H, W]`` to the same shape."""
        return F.max_pool2d(F.pad(x, (0, 1, 0, 1), value=-math.inf), kernel_size=2, stride=1)


class Conv(NamedTuple):
    """One convolution of a plan."""

    filters: int
    kernel: int


class Pool(NamedTuple):
    """One 2 x 2 max-pool of a plan."""

    stride: int


Plan = tuple[Conv | Pool, ...]

DARKNET19: Plan = (
    *(Conv(32, 3), Pool(2)),  # layers 0 and 1
    *(Conv(64, 3), Pool(2)),
    *(Conv(128, 3), Conv(64, 1), Conv(128, 3), Pool(2)),
    *(Conv(256, 3), Conv(128, 1), Conv(256, 3), Pool(2)),
    *(Conv(512, 3), Conv(256, 1), Conv(512, 3), Conv(256, 1), Conv(512, 3)),  # 16: stride 16
    Pool(2),
    *(Conv(1024, 3), Conv(512, 1), Conv(1024, 3), Conv(512, 1), Conv(1024, 3)),  # 22: stride 32
)

DARKNET_TINY: Plan = (
    *(Conv(16, 3), Pool(2)),
    *(Conv(32, 3), Pool(2)),
    *(Conv(64, 3), Pool(2)),
    *(Conv(128, 3), Pool(2)),
    *(Conv(256, 3), Pool(2)),  # 8: stride 16
    *(Conv(512, 3), Pool(1), Conv(1024, 3)),  # 12: stride 32
)

STRIDES = (2, 4, 8, 16, 32)


class Darknet(Backbone):
    """The layers of a plan up to the coarsest stride asked for; darknet divides pixels by 255 only.

    ``layers[i]`` is layer ``i`` of the authors' config file, so that whoever reads their weight
    files walks them in order.
    """

    mean = (0.0, 0.0, 0.0)
    std = (1.0, 1.0, 1.0)

    def __init__(self, plan: Plan, strides: tuple[int, ...]) -> None:
        super().__init__()
        taps = last_layer_of_each_stride(plan)
        self.strides = strides
        self.taps = tuple(taps[stride] for stride in strides)
        self.layers = nn.Sequential()
        channels = [3]  # channels[i] enter layer i
        for part in plan[: self.taps[-1] + 1]:
            if isinstance(part, Conv):
                self.layers.append(ConvBN(channels[-1], part.filters, part.kernel))
                channels.append(part.filters)
            else:
                self.layers.append(nn.MaxPool2d(2, 2) if part.stride == 2 else SameSizePool())
                channels.append(channels[-1])
        self.channels = tuple(channels[tap + 1] for tap in self.taps)

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Map ``[B, 3, H, W]`` to one ``[B, C, H/stride, W/stride]`` per stride."""
        maps = []
        for index, layer in enumerate(self.layers):
            pixels = layer(pixels)
            if index in self.taps:
                maps.append(pixels)
        return tuple(maps)


def last_layer_of_each_stride(plan: Plan) -> dict[int, int]:
    """Map each stride of ``plan`` to the index of the last layer before it is halved."""
    taps = {}
    stride = 1
    for index, part in enumerate(plan):
        if isinstance(part, Pool):
            stride *= part.stride
        taps[stride] = index
    return taps


@register_backbone("darknet19", strides=STRIDES, paper="Redmon and Farhadi, 2017", top1_error=27.1)
def darknet19(strides: tuple[int, ...] = (16, 32)) -> Backbone:
    """Layers 0 to 22 of ``yolov2``. Stride 16 is the passthrough's 512, stride 32 has 1024."""
    return Darknet(DARKNET19, strides)


@register_backbone("darknet_tiny", strides=STRIDES, paper="Redmon and Farhadi, 2017")
def darknet_tiny(strides: tuple[int, ...] = (32,)) -> Backbone:
    """Layers 0 to 12 of ``yolov2-tiny``. Stride 16 has 256 channels, stride 32 has 1024."""
    return Darknet(DARKNET_TINY, strides)
