"""The layers of a network that is built from the authors' text, as modules.

Each takes maps ``[B, C, H, W]`` and gives one. A vector is a map of one pixel, ``[B, N, 1, 1]``,
as it is in darknet. The detectors of this house do not use these modules: they are written down
on their own, and tests compare the two.

Source: darknet, the file named at each.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detkit.layers import BN_EPS, BN_MOMENTUM, LEAKY_SLOPE, Local, reorg

ACTIVATIONS = ("leaky", "linear", "logistic", "relu", "tanh")  # those served


def activation_module(name: str) -> nn.Module:
    """The function that a layer's ``activation=`` names (``activations.h``)."""
    if name == "leaky":
        return nn.LeakyReLU(LEAKY_SLOPE)
    return {"linear": nn.Identity, "logistic": nn.Sigmoid, "relu": nn.ReLU, "tanh": nn.Tanh}[name]()


@dataclass(frozen=True, slots=True)
class ConvForm:
    """What a ``[convolutional]`` section says, without its channels."""

    filters: int
    kernel: int
    stride: int
    padding: int
    groups: int
    batch_norm: bool
    activation: str


def convolution(channels: int, form: ConvForm) -> nn.Module:
    """Convolution, batch normalisation or bias, activation (``convolutional_layer.c``)."""
    conv = nn.Conv2d(
        channels,
        form.filters,
        form.kernel,
        form.stride,
        form.padding,
        groups=form.groups,
        bias=not form.batch_norm,
    )
    if not form.batch_norm:
        return nn.Sequential(conv, activation_module(form.activation))
    return nn.Sequential(conv, batch_norm(form.filters), activation_module(form.activation))


def batch_norm(channels: int) -> nn.Module:
    """Batch normalisation by itself (``batchnorm_layer.c``)."""
    return nn.BatchNorm2d(channels, eps=BN_EPS, momentum=BN_MOMENTUM)


def connected(inputs: int, outputs: int, *, normalised: bool, activation: str) -> nn.Module:
    """A layer that sees the whole map (``connected_layer.c``)."""
    layers: list[nn.Module] = [nn.Flatten(), nn.Linear(inputs, outputs, bias=not normalised)]
    if normalised:
        layers.append(nn.BatchNorm1d(outputs, eps=BN_EPS, momentum=BN_MOMENTUM))
    pixel = nn.Unflatten(1, (outputs, 1, 1))
    return nn.Sequential(*layers, activation_module(activation), pixel)


def local(channels: int, filters: int, size: tuple[int, int], activation: str) -> nn.Module:
    """A convolution whose places share nothing (``local_layer.c``), size as (height, width)."""
    return nn.Sequential(Local(channels, filters, size), activation_module(activation))


class MaxPool(nn.Module):
    """Darknet's max-pool: more of its padding lies right and below, and it never wins.

    Source:
        darknet, ``maxpool_layer.c``: windows start ``padding / 2`` pixels outside, rounded down.
    """

    def __init__(self, kernel: int, stride: int, padding: int) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride
        self.before, self.after = padding // 2, padding - padding // 2

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, C, H, W]`` to ``[B, C, (H + padding - kernel) // stride + 1, ...]``."""
        sides = (self.before, self.after, self.before, self.after)
        return F.max_pool2d(F.pad(x, sides, value=-math.inf), self.kernel, self.stride)


class AveragePool(nn.Module):
    """The mean of each channel (``avgpool_layer.c``)."""

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, C, H, W]`` to ``[B, C, 1, 1]``."""
        return x.mean(dim=(2, 3), keepdim=True)


class Route(nn.Module):
    """Channels of several maps one after the other (``route_layer.c``).

    With ``groups`` (of later darknets) each map gives its ``group_id``-th part alone.
    """

    def __init__(self, groups: int, group_id: int) -> None:
        super().__init__()
        self.groups, self.group_id = groups, group_id

    def forward(self, *maps: Tensor) -> Tensor:
        """Map several ``[B, C_i, H, W]`` to ``[B, sum of C_i / groups, H, W]``."""
        return torch.cat([each.chunk(self.groups, 1)[self.group_id] for each in maps], dim=1)


class Shortcut(nn.Module):
    """The sum of two maps (``shortcut_layer.c``)."""

    def __init__(self, activation: str) -> None:
        super().__init__()
        self.activation = activation_module(activation)

    def forward(self, x: Tensor, earlier: Tensor) -> Tensor:
        """Map two ``[B, C, H, W]`` to one."""
        out: Tensor = self.activation(x + earlier)
        return out


class Upsample(nn.Module):
    """Every pixel becomes a square of ``stride`` times ``stride`` (``upsample_layer.c``)."""

    def __init__(self, stride: int, scale: float) -> None:
        super().__init__()
        self.stride, self.scale = stride, scale

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, C, H, W]`` to ``[B, C, H * stride, W * stride]``."""
        return F.interpolate(x, scale_factor=self.stride, mode="nearest") * self.scale


class Reorg(nn.Module):
    """Darknet's reorganisation, ``layers.reorg`` (``reorg_layer.c``)."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, C, H, W]`` to ``[B, C * stride**2, H / stride, W / stride]``."""
        return reorg(x, self.stride)


class Crop(nn.Module):
    """The middle of an image, and unless told otherwise 0..1 becomes -1..1 (``crop_layer.c``)."""

    def __init__(self, size: tuple[int, int], *, adjust: bool) -> None:
        super().__init__()
        self.size, self.adjust = size, adjust

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, C, H, W]`` to ``[B, C, *size]``."""
        (height, width), (top, left) = self.size, self._corner(x)
        middle = x[:, :, top : top + height, left : left + width]
        return middle * 2 - 1 if self.adjust else middle

    def _corner(self, x: Tensor) -> tuple[int, int]:
        return (x.shape[2] - self.size[0]) // 2, (x.shape[3] - self.size[1]) // 2
