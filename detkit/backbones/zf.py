"""Zeiler and Fergus' network, the small one of Faster R-CNN's paper.

Paper: Visualizing and Understanding Convolutional Networks (Zeiler and Fergus, ECCV 2014; on arXiv
in 2013), figure 3: https://arxiv.org/abs/1311.2901. Layers as in py-faster-rcnn's
``models/pascal_voc/ZF``, which pads where the paper does not.

Reading order: ``TAPS``, ``ZF``, ``LocalResponse``.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from detkit.backbones.base import Backbone, RoITail, check_roi_stride, register_backbone
from detkit.backbones.tapped import Tap, Tapped, fully_connected

TAPS = (
    Tap(2, "norm1", 96),
    Tap(4, "pool1", 96),
    Tap(8, "norm2", 256),
    Tap(16, "relu5", 256),  # where the RPN stands and regions are pooled
)
PIXEL_MEAN = (122.7717, 115.9465, 102.9801)  # RGB; py-faster-rcnn's config.py has them as BGR
CONV_STD = 0.01  # section 3. The files say nothing: they go on from ImageNet's weights
ROI_SIDE = 6  # of the files; VGG's is 7
FC_WIDTH = 4096
FC_NAMES = ("fc6", "relu6", "drop6", "fc7", "relu7", "drop7")
LRN_SIDE = 3  # cells
LRN_ALPHA = 5e-5
LRN_BETA = 0.75


class ZF(Tapped):
    """Five convolutions, to stride 16; two fully connected layers when regions are pooled.

    Pixels are 0 to 255 less a mean, as in Caffe: the constants of ``LocalResponse`` and the
    deviation of the first weights are made for that scale. Layers have the names of the files, so
    weights of theirs fit when conv1's input channels are turned from BGR to RGB.

    Caffe rounds the sides of a pooled map up, which on even sides adds a row and a column at the
    bottom and the right that see the last pixels a second time. Here they are rounded down, so that
    a canvas of ``16 n`` pixels has ``n`` cells; cells near that border differ from Caffe's.
    """

    mean = (PIXEL_MEAN[0] / 255, PIXEL_MEAN[1] / 255, PIXEL_MEAN[2] / 255)
    std = (1 / 255, 1 / 255, 1 / 255)

    def __init__(self, strides: tuple[int, ...]) -> None:
        layers = {
            "conv1": nn.Conv2d(3, 96, 7, stride=2, padding=3),
            "relu1": nn.ReLU(inplace=True),
            "norm1": LocalResponse(),
            "pool1": nn.MaxPool2d(3, stride=2, padding=1),
            "conv2": nn.Conv2d(96, 256, 5, stride=2, padding=2),
            "relu2": nn.ReLU(inplace=True),
            "norm2": LocalResponse(),
            "pool2": nn.MaxPool2d(3, stride=2, padding=1),
            "conv3": nn.Conv2d(256, 384, 3, padding=1),
            "relu3": nn.ReLU(inplace=True),
            "conv4": nn.Conv2d(384, 384, 3, padding=1),
            "relu4": nn.ReLU(inplace=True),
            "conv5": nn.Conv2d(384, 256, 3, padding=1),
            "relu5": nn.ReLU(inplace=True),
        }
        super().__init__(layers, TAPS, strides)
        for layer in self.children():
            if isinstance(layer, nn.Conv2d) and layer.bias is not None:
                nn.init.normal_(layer.weight, std=CONV_STD)
                nn.init.zeros_(layer.bias)

    def roi_tail(self) -> RoITail:
        """Build fc6 and fc7, each with ReLU and dropout.

        Raises:
            ConfigError: the coarsest map is not conv5's.
        """
        check_roi_stride("zf", self.strides)
        if not hasattr(self, "fc6"):
            inputs = self.channels[-1] * ROI_SIDE**2  # flattened C, H, W
            built = fully_connected(inputs, FC_WIDTH, next(self.parameters()))
            for name, layer in zip(FC_NAMES, built.train(self.training), strict=True):
                self.add_module(name, layer)
        layers = nn.Sequential(nn.Flatten(), *(self.get_submodule(name) for name in FC_NAMES))
        return RoITail(layers, ROI_SIDE, FC_WIDTH)


class LocalResponse(nn.Module):
    """Divide each activation by what its 3 x 3 neighbours in the same channel amount to.

    ``x / (1 + alpha * s) ** beta``, where s is the mean square over the window; the border counts
    as zeros. ``nn.LocalResponseNorm`` is the other kind: across channels, as the paper's
    predecessor has it.

    Source:
        Caffe, ``lrn_layer.cpp``, ``WITHIN_CHANNEL``, where s is an average, not a sum.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, C, H, W]`` to the same shape."""
        squares = x.float().square()  # in half precision the square of 256 is infinite already
        s = F.avg_pool2d(squares, LRN_SIDE, stride=1, padding=LRN_SIDE // 2)
        return x * (1 + LRN_ALPHA * s).pow(-LRN_BETA).to(x.dtype)


@register_backbone(
    "zf",
    strides=tuple(tap.stride for tap in TAPS),
    paper="Zeiler and Fergus, 2013",
    has_roi_tail=True,
)
def zf(strides: tuple[int, ...] = (16,)) -> Backbone:
    """96, 256, 384, 384 and 256 filters of 7, 5, 3, 3 and 3 pixels."""
    return ZF(strides)
