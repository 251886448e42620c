"""Darknet-19 and the tiny trunk: plain convolutions, a 2 x 2 max-pool between resolutions.

Papers:
    YOLO9000: Better, Faster, Stronger (Redmon and Farhadi, CVPR 2017), table 6 is Darknet-19:
    https://arxiv.org/abs/1612.08242. The tiny trunk is that of the authors' ``yolov2-tiny``.

Reading order: ``DARKNET19`` and ``DARKNET_TINY`` (the plans, in the order and numbering of the
authors' config files), ``Darknet`` (a plan turned into a network). The one block they are made of
is ``ConvBN`` in ``detkit/layers.py``.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from detkit.backbones.base import Backbone, register_backbone
from detkit.layers import ConvBN, SameSizePool


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
