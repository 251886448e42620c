"""The trunks of YOLOv1 and v2: plain convolutions, a 2 x 2 max-pool between resolutions.

Papers:
    You Only Look Once (Redmon et al., CVPR 2016), figure 3 is the first trunk (the authors call it
    "extraction"): https://arxiv.org/abs/1506.02640.
    YOLO9000: Better, Faster, Stronger (Redmon and Farhadi, CVPR 2017), table 6 is Darknet-19:
    https://arxiv.org/abs/1612.08242.
    The tiny trunks are those of the authors' ``yolov1-tiny`` and ``yolov2-tiny``.

Reading order: ``DARKNET_V1`` to ``DARKNET_TINY`` (the plans, in the order and numbering of the
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
    stride: int = 1


class Pool(NamedTuple):
    """One 2 x 2 max-pool of a plan."""

    stride: int


Plan = tuple[Conv | Pool, ...]

DARKNET_V1: Plan = (
    *(Conv(64, 7, 2), Pool(2)),  # layers 0 and 1
    *(Conv(192, 3), Pool(2)),
    *(Conv(128, 1), Conv(256, 3), Conv(256, 1), Conv(512, 3), Pool(2)),
    *(Conv(256, 1), Conv(512, 3)) * 4,
    *(Conv(512, 1), Conv(1024, 3), Pool(2)),
    *(Conv(512, 1), Conv(1024, 3)) * 2,  # 23: stride 32; pre-training ends here
)

DARKNET_V1_TINY: Plan = (
    *(Conv(16, 3), Pool(2)),
    *(Conv(32, 3), Pool(2)),
    *(Conv(64, 3), Pool(2)),
    *(Conv(128, 3), Pool(2)),
    *(Conv(256, 3), Pool(2)),
    *(Conv(512, 3), Pool(2)),  # 10: stride 32
    Conv(1024, 3),  # 12: stride 64
)

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
STRIDES_V1_TINY = (*STRIDES, 64)


class Darknet(Backbone):
    """The layers of a plan up to the coarsest stride asked for; darknet divides pixels by 255 only.

    ``layers[i]`` is layer ``i`` of the authors' config file, so that whoever reads their weight
    files walks them in order.

    Args:
        plan: the whole trunk.
        strides: which maps to give, fine to coarse.
        batch_norm: without it a convolution has a bias, as in the first paper.
    """

    mean = (0.0, 0.0, 0.0)
    std = (1.0, 1.0, 1.0)

    def __init__(self, plan: Plan, strides: tuple[int, ...], *, batch_norm: bool = True) -> None:
        super().__init__()
        taps = last_layer_of_each_stride(plan)
        self.strides = strides
        self.taps = tuple(taps[stride] for stride in strides)
        self.layers = nn.Sequential()
        channels = [3]  # channels[i] enter layer i
        for part in plan[: self.taps[-1] + 1]:
            if isinstance(part, Conv):
                enter, (leave, kernel, stride) = channels[-1], part
                conv = ConvBN(enter, leave, kernel, stride=stride, batch_norm=batch_norm)
                self.layers.append(conv)
                channels.append(leave)
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
        stride *= part.stride
        taps[stride] = index
    return taps


@register_backbone("darknet_v1", strides=STRIDES, paper="Redmon et al., 2016")
def darknet_v1(strides: tuple[int, ...] = (32,)) -> Backbone:
    """The 20 convolutions that ``yolov1`` shares with its pre-training; stride 32 has 1024."""
    return Darknet(DARKNET_V1, strides)


@register_backbone("darknet_v1_plain", strides=STRIDES, paper="Redmon et al., 2016")
def darknet_v1_plain(strides: tuple[int, ...] = (32,)) -> Backbone:
    """The same without batch normalisation, as the paper has it; the authors' files all use it."""
    return Darknet(DARKNET_V1, strides, batch_norm=False)


@register_backbone("darknet_v1_tiny", strides=STRIDES_V1_TINY, paper="Redmon et al., 2016")
def darknet_v1_tiny(strides: tuple[int, ...] = (64,)) -> Backbone:
    """Layers 0 to 12 of ``yolov1-tiny``, Fast YOLO. Stride 32 has 512 channels, 64 has 1024."""
    return Darknet(DARKNET_V1_TINY, strides)


@register_backbone("darknet19", strides=STRIDES, paper="Redmon and Farhadi, 2017", top1_error=27.1)
def darknet19(strides: tuple[int, ...] = (16, 32)) -> Backbone:
    """Layers 0 to 22 of ``yolov2``. Stride 16 is the passthrough's 512, stride 32 has 1024."""
    return Darknet(DARKNET19, strides)


@register_backbone("darknet_tiny", strides=STRIDES, paper="Redmon and Farhadi, 2017")
def darknet_tiny(strides: tuple[int, ...] = (32,)) -> Backbone:
    """Layers 0 to 12 of ``yolov2-tiny``. Stride 16 has 256 channels, stride 32 has 1024."""
    return Darknet(DARKNET_TINY, strides)
