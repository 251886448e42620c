"""Adapters of torchvision's classification networks: its code, its weights, our feature maps.

Papers:
    VGG: Simonyan and Zisserman, 2014, https://arxiv.org/abs/1409.1556
    ResNet: He et al., 2015, https://arxiv.org/abs/1512.03385
    MobileNetV2: Sandler et al., 2018, https://arxiv.org/abs/1801.04381

Reading order: ``Tap``, ``Tapped`` (the one adapter), then a table of taps and a builder for each
family. An adapter names the layer that ends each stride and keeps what stands before it under
torchvision's own names, so that the keys of its state dicts fit as they are.

torchvision is imported when a network is built, never before: a Darknet needs none of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor, nn

from detkit.backbones.base import Backbone, register_backbone


class Tap(NamedTuple):
    """The last layer at one stride."""

    layer: str
    channels: int


class Tapped(Backbone):
    """The first layers of a network that runs its parts one after another, tapped by name.

    Args:
        layers: the parts in the order they run; what follows the last tap is dropped.
        taps: stride to the last layer of that stride.
        strides: the strides wanted, fine to coarse.
        holder: the attribute under which torchvision keeps the parts (``"features"``); empty
            where they are the network's own attributes, as in a ResNet.
    """

    def __init__(
        self,
        layers: Mapping[str, nn.Module],
        taps: Mapping[int, Tap],
        strides: tuple[int, ...],
        *,
        holder: str = "",
    ) -> None:
        super().__init__()
        self.strides = strides
        self.channels = tuple(taps[stride].channels for stride in strides)
        self.tap_names = tuple(taps[stride].layer for stride in strides)
        self.holder = holder
        into: nn.Module = nn.Sequential() if holder else self
        for name, layer in layers.items():
            into.add_module(name, layer)
            if name == self.tap_names[-1]:
                break
        if holder:
            self.add_module(holder, into)

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Map ``[B, 3, H, W]`` to one ``[B, C, H/stride, W/stride]`` per stride."""
        maps = []
        parts = self.get_submodule(self.holder)  # "" is the module itself
        for name, layer in parts.named_children():
            pixels = layer(pixels)
            if name in self.tap_names:
                maps.append(pixels)
        return tuple(maps)


VGG16_TAPS = {
    1: Tap("3", 64),  # relu1_2
    2: Tap("8", 128),
    4: Tap("15", 256),
    8: Tap("22", 512),
    16: Tap("29", 512),  # relu5_3, where Fast R-CNN pools
    32: Tap("30", 512),  # pool5
}


@register_backbone(
    "vgg16",
    strides=tuple(VGG16_TAPS),
    paper="Simonyan and Zisserman, 2014",
    imagenet="VGG16_Weights.IMAGENET1K_V1",
    top1_error=28.4,
)
def vgg16(strides: tuple[int, ...] = (16,)) -> Backbone:
    """Configuration D of table 1, without its fully connected layers."""
    from torchvision.models import vgg

    # Not vgg.vgg16(): it would first fill 120 million fully connected weights that are not kept.
    features = vgg.make_layers(vgg.cfgs["D"], batch_norm=False)
    for part in features:
        if isinstance(part, nn.Conv2d) and part.bias is not None:  # as torchvision's VGG does
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(part.bias)
    return Tapped(dict(features.named_children()), VGG16_TAPS, strides, holder="features")


def resnet_taps(expansion: int) -> dict[int, Tap]:
    """Taps of a ResNet whose blocks widen by ``expansion``: 1 for two 3 x 3, 4 for bottlenecks."""
    return {
        2: Tap("relu", 64),
        4: Tap("layer1", 64 * expansion),
        8: Tap("layer2", 128 * expansion),
        16: Tap("layer3", 256 * expansion),
        32: Tap("layer4", 512 * expansion),
    }


@register_backbone(
    "resnet18",
    strides=tuple(resnet_taps(1)),
    paper="He et al., 2015",
    imagenet="ResNet18_Weights.IMAGENET1K_V1",
    top1_error=30.2,
)
def resnet18(strides: tuple[int, ...] = (8, 16, 32)) -> Backbone:
    """The 18-layer column of table 1."""
    from torchvision.models import resnet

    network = resnet.resnet18(weights=None)
    return Tapped(dict(network.named_children()), resnet_taps(1), strides)


@register_backbone(
    "resnet50",
    strides=tuple(resnet_taps(4)),
    paper="He et al., 2015",
    imagenet="ResNet50_Weights.IMAGENET1K_V1",
    top1_error=23.9,
)
def resnet50(strides: tuple[int, ...] = (8, 16, 32)) -> Backbone:
    """The 50-layer column of table 1; torchvision strides in the 3 x 3, not in the first 1 x 1."""
    from torchvision.models import resnet

    network = resnet.resnet50(weights=None)
    return Tapped(dict(network.named_children()), resnet_taps(4), strides)


MOBILENET_V2_TAPS = {
    2: Tap("1", 16),
    4: Tap("3", 24),
    8: Tap("6", 32),
    16: Tap("13", 96),
    32: Tap("18", 1280),  # the last convolution, before the average pool
}


@register_backbone(
    "mobilenet_v2",
    strides=tuple(MOBILENET_V2_TAPS),
    paper="Sandler et al., 2018",
    imagenet="MobileNet_V2_Weights.IMAGENET1K_V1",
    top1_error=28.1,
)
def mobilenet_v2(strides: tuple[int, ...] = (8, 16, 32)) -> Backbone:
    """Table 2 with width 1.0; a map is the output of the last block at its stride."""
    from torchvision.models import mobilenetv2

    features = mobilenetv2.mobilenet_v2(weights=None).features
    return Tapped(dict(features.named_children()), MOBILENET_V2_TAPS, strides, holder="features")
