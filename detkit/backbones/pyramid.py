"""A feature pyramid: coarse maps handed down, so that fine ones know what they look at.

Paper: Feature Pyramid Networks for Object Detection (Lin et al., CVPR 2017),
https://arxiv.org/abs/1612.03144, section 3. torchvision's implementation.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from detkit.backbones.base import Backbone


class FeaturePyramid(Backbone):
    """A backbone around a backbone: every map of equal width, and one more at twice the stride.

    Attributes:
        body: the network itself.
        fpn: ``torchvision.ops.FeaturePyramidNetwork``.

    Args:
        body: the network whose maps are taken.
        width: channels of each map.
        batch_norm: after each convolution of the pyramid, which has no bias then.
    """

    def __init__(self, body: Backbone, width: int, *, batch_norm: bool = False) -> None:
        super().__init__()
        from torchvision.ops import FeaturePyramidNetwork
        from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

        self.body = body
        self.fpn = FeaturePyramidNetwork(
            [*body.channels],
            width,
            extra_blocks=LastLevelMaxPool(),
            norm_layer=nn.BatchNorm2d if batch_norm else None,
        )
        self.strides = (*body.strides, 2 * body.strides[-1])
        self.channels = (width,) * len(self.strides)
        self.mean, self.std = body.mean, body.std

    @property
    def trunk(self) -> Backbone:
        """The network that pretrained weights are for."""
        return self.body

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Map ``[B, 3, H, W]`` to one map per stride.

        The last is half of the one before, rounded up: a map of 13 cells gives one of 7.
        """
        maps = self.body(pixels)
        named = OrderedDict((str(level), map_) for level, map_ in enumerate(maps))
        return tuple(self.fpn(named).values())
