"""AlexNet, the network of R-CNN, in torchvision's form and with its weights.

Paper: One weird trick for parallelizing convolutional neural networks (Krizhevsky, 2014),
https://arxiv.org/abs/1404.5997: the network of 2012 for one GPU, without its local response
normalisation. R-CNN's own, CaffeNet, is the network of 2012 with pooling and normalisation
exchanged; docs/fidelity.md says what differs.

Reading order: ``TAPS``, ``PADDING``, ``AlexNet``.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from detkit.backbones.base import Backbone, RoITail, check_roi_stride, register_backbone
from detkit.backbones.tapped import Tap, Tapped, fully_connected

TAPS = (
    Tap(4, "1", 64),
    Tap(8, "4", 192),
    Tap(16, "11", 256),  # relu5, where regions are pooled
    Tap(32, "12", 256),  # pool5
)
# Of the layers that shrink a map: what keeps H / stride cells, each at its own place, and what the
# network was published with. The latter loses cells at the border, which a crop can do without.
PADDING = {"0": (4, 2), "2": (1, 0), "5": (1, 0), "12": (1, 0)}
ROI_SIDE = 6  # of pool5, of 227 pixels; its figure 2
FC_WIDTH = 4096


class AlexNet(Tapped):
    """Five convolutions and three max-pools; fc6 and fc7 are built when regions are pooled."""

    classifier: nn.Sequential

    def __init__(self, strides: tuple[int, ...]) -> None:
        layers = {
            "0": nn.Conv2d(3, 64, 11, stride=4, padding=PADDING["0"][0]),
            "1": nn.ReLU(inplace=True),
            "2": nn.MaxPool2d(3, stride=2, padding=PADDING["2"][0]),
            "3": nn.Conv2d(64, 192, 5, padding=2),
            "4": nn.ReLU(inplace=True),
            "5": nn.MaxPool2d(3, stride=2, padding=PADDING["5"][0]),
            "6": nn.Conv2d(192, 384, 3, padding=1),
            "7": nn.ReLU(inplace=True),
            "8": nn.Conv2d(384, 256, 3, padding=1),
            "9": nn.ReLU(inplace=True),
            "10": nn.Conv2d(256, 256, 3, padding=1),
            "11": nn.ReLU(inplace=True),
            "12": nn.MaxPool2d(3, stride=2, padding=PADDING["12"][0]),
        }
        super().__init__(layers, TAPS, strides, holder="features")

    def crop_map(self, pixels: Tensor) -> Tensor:
        """The last map with the padding that the network was published with.

        ``[B, 3, 227, 227]`` to ``[B, 256, 13, 13]`` at stride 16, to ``[B, 256, 6, 6]`` at 32.
        """
        for name, layer in self.get_submodule(self.holder).named_children():
            if isinstance(layer, nn.Conv2d) and name in PADDING:
                weight, bias = layer.weight, layer.bias
                pixels = F.conv2d(pixels, weight, bias, layer.stride, PADDING[name][1])
            elif isinstance(layer, nn.MaxPool2d):
                pixels = F.max_pool2d(pixels, layer.kernel_size, layer.stride, PADDING[name][1])
            else:
                pixels = layer(pixels)
        return pixels

    def roi_tail(self) -> RoITail:
        """Build torchvision's ``classifier`` less its last layer; RoI pooling is in pool5's place.

        Raises:
            ConfigError: the coarsest map is not conv5's.
        """
        check_roi_stride("alexnet", self.strides)
        if not hasattr(self, "classifier"):
            inputs = self.channels[-1] * ROI_SIDE**2  # flattened C, H, W
            fc6, relu6, drop6, fc7, relu7, drop7 = fully_connected(
                inputs, FC_WIDTH, next(self.parameters())
            )
            # dropout stands before each layer, so what leaves is never thinned out
            layers = nn.Sequential(drop6, fc6, relu6, drop7, fc7, relu7)
            self.classifier = layers.train(self.training)
        return RoITail(nn.Sequential(nn.Flatten(), self.classifier), ROI_SIDE, FC_WIDTH)


@register_backbone(
    "alexnet",
    strides=tuple(tap.stride for tap in TAPS),
    paper="Krizhevsky, 2014",
    imagenet="AlexNet_Weights.IMAGENET1K_V1",
    top1_error=43.5,
    has_roi_tail=True,
)
def alexnet(strides: tuple[int, ...] = (16,)) -> Backbone:
    """64, 192, 384, 256 and 256 filters of 11, 5, 3, 3 and 3 pixels."""
    return AlexNet(strides)
