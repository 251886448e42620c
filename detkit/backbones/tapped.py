"""A plain chain of layers seen as a backbone: which layer ends each stride, and what comes after.

Reading order: ``Tap``, ``Tapped``, then ``fully_connected``, what follows RoI pooling in networks
of before 2015. ``torchvision.py`` and ``zf.py`` are what this is for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from detkit.backbones.base import Backbone

FC_STD = 0.01  # of their first weights: Zeiler and Fergus, section 3, and torchvision's VGG
FC_DROPOUT = 0.5  # Krizhevsky et al., 2012, section 4.2; both networks have it from there


class Tap(NamedTuple):
    """A layer whose output is one of the maps: the last one at its stride, as a rule."""

    stride: int
    layer: str
    channels: int


class Tapped(Backbone):
    """The first layers of a network that runs its parts one after another, tapped by name.

    Args:
        layers: the parts in the order they run; what follows the last tap is dropped.
        taps: every map there is to be had, in the order of the layers.
        strides: the strides wanted, fine to coarse; of several maps of one stride the deepest.
        holder: the attribute under which the network's author keeps the parts (``"features"``);
            empty where they are the network's own attributes, as in a ResNet.
    """

    def __init__(
        self,
        layers: Mapping[str, nn.Module],
        taps: tuple[Tap, ...],
        strides: tuple[int, ...],
        *,
        holder: str = "",
    ) -> None:
        super().__init__()
        chosen = choose(taps, strides)
        self.strides = strides
        self.channels = tuple(tap.channels for tap in chosen)
        self.tap_names = tuple(tap.layer for tap in chosen)
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
            if name == self.tap_names[-1]:
                break  # what ``roi_tail`` has added stands behind it
        return tuple(maps)


def choose(taps: tuple[Tap, ...], strides: tuple[int, ...]) -> tuple[Tap, ...]:
    """Return a tap for each of ``strides``, in order; where one stride has several, the deepest."""
    chosen: list[Tap] = []
    left = list(taps)
    for stride in reversed(strides):
        while (tap := left.pop()).stride != stride:
            pass
        chosen.append(tap)
    return tuple(reversed(chosen))


def fully_connected(inputs: int, width: int, like: Tensor) -> nn.Sequential:
    """Build fc6 and fc7: twice a linear layer, ReLU and dropout.

    Args:
        inputs: numbers that enter.
        width: numbers that leave each of the two.
        like: a weight of the network they belong to, for its device and type.
    """
    with torch.device("meta"):  # PyTorch would fill a hundred million weights, to be filled again
        layers = nn.Sequential(
            *(nn.Linear(inputs, width), nn.ReLU(inplace=True), nn.Dropout(FC_DROPOUT)),
            *(nn.Linear(width, width), nn.ReLU(inplace=True), nn.Dropout(FC_DROPOUT)),
        )
    layers = layers.to(like.dtype).to_empty(device=like.device)
    for layer in layers:
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=FC_STD)
            nn.init.zeros_(layer.bias)
    return layers
