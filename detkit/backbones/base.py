"""What a backbone is: a classification network seen as a stack of feature maps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from detkit.errors import ConfigError
from detkit.registry import Registry


@dataclass(frozen=True, slots=True)
class RoITail:
    """The pretrained layers that follow RoI pooling (VGG's fc6 and fc7, ResNet's last stage)."""

    module: nn.Module  # [R, C, size, size] to [R, width]
    size: int  # side of the pooled map it takes
    width: int  # length of the vector it gives


class Backbone(nn.Module, ABC):
    """A classification network seen as a stack of feature maps.

    Attributes:
        strides: pixels per feature cell, fine to coarse, e.g. ``(8, 16, 32)``.
        channels: channels of each map, same order.
        mean, std: input normalisation its weights were trained with, RGB in 0..1.
    """

    strides: tuple[int, ...]
    channels: tuple[int, ...]
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)

    @abstractmethod
    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Map ``[B, 3, H, W]`` to one ``[B, C, H/stride, W/stride]`` per stride."""

    def classify(self, pixels: Tensor) -> Tensor:
        """Map ``[B, 3, H, W]`` to ``[B, K]`` logits of the whole classification network."""
        raise NotImplementedError(f"{type(self).__name__} has no classification layers.")

    def roi_tail(self) -> RoITail:
        """Return the pretrained layers that follow RoI pooling."""
        raise NotImplementedError(f"{type(self).__name__} has no layers for pooled regions.")


@dataclass(frozen=True, slots=True)
class BackboneEntry:
    """What the registry knows about a backbone without building it."""

    name: str
    builder: Callable[[tuple[int, ...]], Backbone]
    strides: tuple[int, ...]  # every stride it can give, fine to coarse
    paper: str
    imagenet: str | None = None  # torchvision's name of its ImageNet weights; None: none published
    top1_error: float | None = None  # percent, on ImageNet's validation set, one crop of 224

    def build(self, strides: tuple[int, ...]) -> Backbone:
        """Build the network that gives a map at each of ``strides``, fine to coarse.

        Raises:
            ConfigError: naming the strides this backbone does not have.
        """
        missing = [stride for stride in strides if stride not in self.strides]
        in_order = bool(strides) and list(strides) == sorted(set(strides))
        if missing or not in_order:
            advice = "" if in_order else " Name at least one, each once, fine to coarse."
            raise ConfigError(
                f"backbone {self.name!r} has strides {', '.join(map(str, self.strides))}; "
                f"asked for {', '.join(map(str, strides)) or 'none'}.{advice}"
            )
        return self.builder(strides)


BACKBONES: Registry[BackboneEntry] = Registry("backbone")


def register_backbone(
    name: str,
    *,
    strides: tuple[int, ...],
    paper: str,
    imagenet: str | None = None,
    top1_error: float | None = None,
) -> Callable[[Callable[[tuple[int, ...]], Backbone]], Callable[[tuple[int, ...]], Backbone]]:
    """File a builder (strides in, backbone out) with its record in ``BACKBONES``."""

    def add(
        builder: Callable[[tuple[int, ...]], Backbone],
    ) -> Callable[[tuple[int, ...]], Backbone]:
        entry = BackboneEntry(name, builder, strides, paper, imagenet, top1_error)
        BACKBONES.register(name)(entry)
        return builder

    return add
