"""Adapters of torchvision's classification networks: its code, its weights, our feature maps.

Papers:
    VGG: Simonyan and Zisserman, 2014, https://arxiv.org/abs/1409.1556
    ResNet: He et al., 2015, https://arxiv.org/abs/1512.03385
    MobileNetV2: Sandler et al., 2018, https://arxiv.org/abs/1801.04381
    MobileNetV3: Howard et al., 2019, https://arxiv.org/abs/1905.02244

Reading order: a table of taps and a builder for each family; ``Tapped`` in ``tapped.py`` is the
adapter. It names the layer that ends each stride and keeps what stands before it under
torchvision's own names, so that the keys of its state dicts fit as they are.

torchvision is imported when a network is built, never before: a Darknet needs none of it.
"""

from __future__ import annotations

from torch import Tensor, nn

from detkit.backbones.base import Backbone, RoITail, check_roi_stride, register_backbone
from detkit.backbones.tapped import Tap, Tapped, fully_connected


def strides_of(taps: tuple[Tap, ...]) -> tuple[int, ...]:
    """Strides of all maps, for the registry."""
    return tuple(tap.stride for tap in taps)


# ---------------------------------------------------------------------------------- VGG

VGG16_TAPS = (
    Tap(1, "3", 64),  # relu1_2
    Tap(2, "8", 128),
    Tap(4, "15", 256),
    Tap(8, "22", 512),
    Tap(16, "29", 512),  # relu5_3, where Fast R-CNN pools
    Tap(32, "30", 512),  # pool5
)
VGG_ROI_SIDE = 7  # Fast R-CNN, section 2.1: what pool5 leaves of 224 pixels
VGG_FC_WIDTH = 4096


class VGG16(Tapped):
    """VGG-16's convolutions; fc6 and fc7 are built when they are to follow RoI pooling."""

    classifier: nn.Sequential

    def __init__(self, strides: tuple[int, ...]) -> None:
        from torchvision.models import vgg

        # Not vgg.vgg16(): it would first fill 120 million fully connected weights.
        features = vgg.make_layers(vgg.cfgs["D"], batch_norm=False)
        for part in features:
            if isinstance(part, nn.Conv2d) and part.bias is not None:  # as torchvision's VGG does
                nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(part.bias)
        super().__init__(dict(features.named_children()), VGG16_TAPS, strides, holder="features")

    def roi_tail(self) -> RoITail:
        """Build torchvision's ``classifier`` less its last layer; RoI pooling is in pool5's place.

        Raises:
            ConfigError: the coarsest map is not conv5_3's.
        """
        check_roi_stride("vgg16", self.strides)
        if not hasattr(self, "classifier"):
            inputs = self.channels[-1] * VGG_ROI_SIDE**2  # flattened C, H, W
            built = fully_connected(inputs, VGG_FC_WIDTH, next(self.parameters()))
            self.classifier = built.train(self.training)
        layers = nn.Sequential(nn.Flatten(), self.classifier)
        return RoITail(layers, VGG_ROI_SIDE, VGG_FC_WIDTH)


@register_backbone(
    "vgg16",
    strides=strides_of(VGG16_TAPS),
    paper="Simonyan and Zisserman, 2014",
    imagenet="VGG16_Weights.IMAGENET1K_V1",
    top1_error=28.4,
    has_roi_tail=True,
)
def vgg16(strides: tuple[int, ...] = (16,)) -> Backbone:
    """Configuration D of table 1, without its fully connected layers."""
    return VGG16(strides)


# ------------------------------------------------------------------------------- ResNet

BASIC, BOTTLENECK = 1, 4  # how much wider a block ends than it is inside: two 3 x 3; 1, 3, 1
RESNET_ROI_SIDE = 14  # He et al., appendix A: conv5 halves it to 7 x 7


def resnet_taps(expansion: int) -> tuple[Tap, ...]:
    """Taps of a ResNet whose blocks widen by ``expansion``."""
    return (
        Tap(2, "relu", 64),
        Tap(4, "layer1", 64 * expansion),
        Tap(8, "layer2", 128 * expansion),
        Tap(16, "layer3", 256 * expansion),
        Tap(32, "layer4", 512 * expansion),
    )


class ResNet(Tapped):
    """A ResNet whose last stage is the map of stride 32, or what follows RoI pooling.

    Args:
        name: torchvision's, and ours.
        expansion: ``BASIC`` or ``BOTTLENECK``.
        strides: fine to coarse.
    """

    layer4: nn.Module

    def __init__(self, name: str, expansion: int, strides: tuple[int, ...]) -> None:
        layers = dict(build_resnet(name).named_children())
        super().__init__(layers, resnet_taps(expansion), strides)
        self.name = name
        self.expansion = expansion

    def roi_tail(self) -> RoITail:
        """Build ``layer4`` and the mean over its map: the C4 form of the paper's appendix A.

        Raises:
            ConfigError: ``layer4`` gives a map already, or the maps end before ``layer3``.
        """
        check_roi_stride(self.name, self.strides)
        if not hasattr(self, "layer4"):
            like = next(self.parameters())
            stage = build_resnet(self.name).get_submodule("layer4")
            self.layer4 = stage.to(like.device, like.dtype).train(self.training)
        width = resnet_taps(self.expansion)[-1].channels
        return RoITail(nn.Sequential(self.layer4, MapMean()), RESNET_ROI_SIDE, width)


class MapMean(nn.Module):
    """Average of each channel over its map."""

    def forward(self, maps: Tensor) -> Tensor:
        """Map ``[R, C, H, W]`` to ``[R, C]``."""
        return maps.mean(dim=(2, 3))


def build_resnet(name: str) -> nn.Module:
    """Build torchvision's whole network, with fresh weights."""
    from torchvision.models import resnet

    builders = {
        "resnet18": resnet.resnet18,
        "resnet34": resnet.resnet34,
        "resnet50": resnet.resnet50,
        "resnet101": resnet.resnet101,
    }
    network: nn.Module = builders[name](weights=None)
    return network


@register_backbone(
    "resnet18",
    strides=strides_of(resnet_taps(BASIC)),
    paper="He et al., 2015",
    imagenet="ResNet18_Weights.IMAGENET1K_V1",
    top1_error=30.2,
    has_roi_tail=True,
)
def resnet18(strides: tuple[int, ...] = (8, 16, 32)) -> Backbone:
    """The 18-layer column of table 1."""
    return ResNet("resnet18", BASIC, strides)


@register_backbone(
    "resnet34",
    strides=strides_of(resnet_taps(BASIC)),
    paper="He et al., 2015",
    imagenet="ResNet34_Weights.IMAGENET1K_V1",
    top1_error=26.7,
    has_roi_tail=True,
)
def resnet34(strides: tuple[int, ...] = (8, 16, 32)) -> Backbone:
    """The 34-layer column of table 1."""
    return ResNet("resnet34", BASIC, strides)


@register_backbone(
    "resnet50",
    strides=strides_of(resnet_taps(BOTTLENECK)),
    paper="He et al., 2015",
    imagenet="ResNet50_Weights.IMAGENET1K_V1",
    top1_error=23.9,
    has_roi_tail=True,
)
def resnet50(strides: tuple[int, ...] = (8, 16, 32)) -> Backbone:
    """The 50-layer column of table 1; torchvision strides in the 3 x 3, not in the first 1 x 1."""
    return ResNet("resnet50", BOTTLENECK, strides)


@register_backbone(
    "resnet101",
    strides=strides_of(resnet_taps(BOTTLENECK)),
    paper="He et al., 2015",
    imagenet="ResNet101_Weights.IMAGENET1K_V1",
    top1_error=22.6,
    has_roi_tail=True,
)
def resnet101(strides: tuple[int, ...] = (8, 16, 32)) -> Backbone:
    """The 101-layer column of table 1, strided like the 50 layers."""
    return ResNet("resnet101", BOTTLENECK, strides)


# ---------------------------------------------------------------------------- MobileNet

MOBILENET_V2_TAPS = (
    Tap(2, "1", 16),
    Tap(4, "3", 24),
    Tap(8, "6", 32),
    Tap(16, "13", 96),
    Tap(32, "18", 1280),  # the last convolution, before the average pool
)
MOBILENET_V3_LARGE_TAPS = (
    Tap(2, "1", 16),
    Tap(4, "3", 24),
    Tap(8, "6", 40),
    Tap(16, "12", 112),
    Tap(32, "16", 960),  # the last convolution, before the average pool
)
# What torchvision's own Faster R-CNN lays its pyramid on: no map finer than stride 32.
MOBILENET_V3_LARGE_PAIR = (
    Tap(32, "13", 160),  # the block that halves the map
    Tap(32, "16", 960),
)


@register_backbone(
    "mobilenet_v2",
    strides=strides_of(MOBILENET_V2_TAPS),
    paper="Sandler et al., 2018",
    imagenet="MobileNet_V2_Weights.IMAGENET1K_V1",
    top1_error=28.1,
)
def mobilenet_v2(strides: tuple[int, ...] = (8, 16, 32)) -> Backbone:
    """Table 2 with width 1.0; a map is the output of the last block at its stride."""
    from torchvision.models import mobilenetv2

    features = mobilenetv2.mobilenet_v2(weights=None).features
    return Tapped(dict(features.named_children()), MOBILENET_V2_TAPS, strides, holder="features")


def mobilenet_v3(taps: tuple[Tap, ...], strides: tuple[int, ...]) -> Backbone:
    """MobileNetV3-Large as torchvision has it, batch norm with epsilon 0.001 and momentum 0.01."""
    from torchvision.models import mobilenetv3

    features = mobilenetv3.mobilenet_v3_large(weights=None).features
    return Tapped(dict(features.named_children()), taps, strides, holder="features")


@register_backbone(
    "mobilenet_v3_large",
    strides=strides_of(MOBILENET_V3_LARGE_TAPS),
    paper="Howard et al., 2019",
    imagenet="MobileNet_V3_Large_Weights.IMAGENET1K_V1",
    top1_error=26.0,
)
def mobilenet_v3_large(strides: tuple[int, ...] = (8, 16, 32)) -> Backbone:
    """Table 1 with width 1.0; a map is the output of the last block at its stride."""
    return mobilenet_v3(MOBILENET_V3_LARGE_TAPS, strides)


@register_backbone(
    "mobilenet_v3_large_pair",
    strides=strides_of(MOBILENET_V3_LARGE_PAIR),
    paper="Howard et al., 2019",
    imagenet="MobileNet_V3_Large_Weights.IMAGENET1K_V1",
    top1_error=26.0,
)
def mobilenet_v3_large_pair(strides: tuple[int, ...] = (32, 32)) -> Backbone:
    """The same network seen at stride 32 twice, as under torchvision's Faster R-CNN."""
    return mobilenet_v3(MOBILENET_V3_LARGE_PAIR, strides)
