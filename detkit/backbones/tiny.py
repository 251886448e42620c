"""Five strided convolutions to stride 32: a backbone for tests and first steps, of no paper.

It learns simple pictures on a CPU in minutes. The strided convolution keeps the fine and costly
resolutions cheap; a second convolution is added where it costs little, from stride 8 on.

Reading order: ``WIDTHS``, ``Tiny``.
"""

from __future__ import annotations

from torch import Tensor, nn

from detkit.backbones.base import Backbone, register_backbone
from detkit.layers import ConvBN

WIDTHS = (16, 32, 64, 128, 256)  # channels at strides 2, 4, 8, 16, 32
STRIDES = (2, 4, 8, 16, 32)
SECOND_CONV_FROM = 8  # stride
# Ten times darknet's. Its trainings last a few hundred steps, and running statistics that
# remember the last hundred steps (0.01) would still describe a network that is no more.
BN_MOMENTUM = 0.1


class Tiny(Backbone):
    """One stage per stride: a 3 x 3 convolution of stride 2, and from stride 8 on a second one."""

    mean = (0.0, 0.0, 0.0)
    std = (1.0, 1.0, 1.0)

    def __init__(self, strides: tuple[int, ...]) -> None:
        super().__init__()
        self.strides = strides
        self.channels = tuple(WIDTHS[STRIDES.index(stride)] for stride in strides)
        self.stages = nn.ModuleList()
        previous = 3
        for stride, width in zip(STRIDES, WIDTHS, strict=True):
            if stride > strides[-1]:
                break
            stage = nn.Sequential(ConvBN(previous, width, 3, stride=2, bn_momentum=BN_MOMENTUM))
            if stride >= SECOND_CONV_FROM:
                stage.append(ConvBN(width, width, 3, bn_momentum=BN_MOMENTUM))
            self.stages.append(stage)
            previous = width

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Map ``[B, 3, H, W]`` to one ``[B, C, H/stride, W/stride]`` per stride."""
        maps = []
        for stride, stage in zip(STRIDES, self.stages, strict=False):  # stages may end early
            pixels = stage(pixels)
            if stride in self.strides:
                maps.append(pixels)
        return tuple(maps)


@register_backbone("tiny", strides=STRIDES, paper="none; for tests and first steps")
def tiny(strides: tuple[int, ...] = (16, 32)) -> Backbone:
    """16, 32, 64, 128 and 256 channels at strides 2 to 32."""
    return Tiny(strides)
