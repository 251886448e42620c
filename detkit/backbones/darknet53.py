"""Darknet-53: YOLOv3's trunk, residual pairs of a 1x1 and a 3x3 convolution.

Paper:
    YOLOv3: An Incremental Improvement (Redmon and Farhadi, 2018), table 1:
    https://arxiv.org/abs/1804.02767.

Reading order: ``STAGES`` (how many pairs at which width), ``Residual``, ``Darknet53``.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from detkit.backbones.base import Backbone, register_backbone
from detkit.layers import ConvBN


class Stage(NamedTuple):
    """A 3x3 convolution of stride 2 to ``width`` channels, then ``blocks`` residual pairs."""

    width: int
    blocks: int


STEM = 32  # channels of layer 0, at stride 1
STAGES = (
    Stage(64, 1),  # layers 1 to 4
    Stage(128, 2),  # 5 to 11
    Stage(256, 8),  # 12 to 36: stride 8
    Stage(512, 8),  # 37 to 61: stride 16
    Stage(1024, 4),  # 62 to 74: stride 32
)
STRIDES = (2, 4, 8, 16, 32)


class Residual(nn.Module):
    """Half the channels through a 1x1, all of them through a 3x3, and the input added.

    Source:
        darknet, ``shortcut_layer.c``; the sum has no activation of its own.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.narrow = ConvBN(width, width // 2, 1)
        self.wide = ConvBN(width // 2, width, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, C, H, W]`` to the same shape."""
        out: Tensor = x + self.wide(self.narrow(x))
        return out


class Darknet53(Backbone):
    """The stages up to the coarsest stride asked for; darknet divides pixels by 255 only."""

    mean = (0.0, 0.0, 0.0)
    std = (1.0, 1.0, 1.0)

    def __init__(self, strides: tuple[int, ...]) -> None:
        super().__init__()
        self.strides = strides
        depth = STRIDES.index(strides[-1]) + 1
        self.stem = ConvBN(3, STEM, 3)
        self.stages = nn.ModuleList()
        previous = STEM
        for stage in STAGES[:depth]:
            blocks = [Residual(stage.width) for _ in range(stage.blocks)]
            self.stages.append(nn.Sequential(ConvBN(previous, stage.width, 3, stride=2), *blocks))
            previous = stage.width
        self.channels = tuple(STAGES[STRIDES.index(stride)].width for stride in strides)

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Map ``[B, 3, H, W]`` to one ``[B, C, H/stride, W/stride]`` per stride."""
        x = self.stem(pixels)
        maps = []
        for stride, stage in zip(STRIDES, self.stages, strict=False):  # stages may end early
            x = stage(x)
            if stride in self.strides:
                maps.append(x)
        return tuple(maps)


# No top1_error: the published 22.8 % is that of crops of 256 pixels, not of 224.
@register_backbone("darknet53", strides=STRIDES, paper="Redmon and Farhadi, 2018")
def darknet53(strides: tuple[int, ...] = (8, 16, 32)) -> Backbone:
    """Layers 0 to 74 of ``yolov3``: 256, 512 and 1024 channels at strides 8, 16 and 32."""
    return Darknet53(strides)
