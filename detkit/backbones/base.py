"""What a backbone is: a classification network seen as a stack of feature maps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from detkit.errors import ConfigError
from detkit.registry import Registry

ROI_STRIDE = 16  # of the map that Fast and Faster R-CNN pool regions from, and ResNet's C4


@dataclass(frozen=True, slots=True)
class RoITail:
    """The pretrained layers that follow RoI pooling (VGG's fc6 and fc7, ResNet's last stage).

    A record, not a module: whoever keeps it as a plain attribute does not register the layers, so
    they stay the backbone's alone, by name, and are one with them in a deep copy as well.
    """

    module: nn.Module  # [R, C, size, size] to [R, width]; R may be 0
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

    @property
    def trunk(self) -> Backbone:
        """The classification network itself, which pretrained weights are for.

        A backbone that wraps another says which.
        """
        return self

    @abstractmethod
    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Map ``[B, 3, H, W]`` to one ``[B, C, H/stride, W/stride]`` per stride."""

    def crop_map(self, pixels: Tensor) -> Tensor:
        """The last map alone, of crops that are looked at whole, as in classification.

        ``[B, 3, H, W]`` to ``[B, C, h, w]``. A network that is padded otherwise in ``forward`` than
        it was published gives here what the published one computes.
        """
        return self(pixels)[-1]

    def classify(self, pixels: Tensor) -> Tensor:
        """Map ``[B, 3, H, W]`` to ``[B, K]`` logits of the whole classification network."""
        raise NotImplementedError(f"{type(self).__name__} has no classification layers.")

    def roi_tail(self) -> RoITail:
        """Build the pretrained layers that follow RoI pooling, as parts of this backbone.

        They are made when first asked for, so that nobody else carries them, and stand in
        ``state_dict`` under the names that published weights have. ``forward`` never runs them.
        ``BackboneEntry.has_roi_tail`` says beforehand whether there are any.

        Raises:
            ConfigError: its maps do not end where these layers begin.
            NotImplementedError: it has none.
        """
        raise NotImplementedError(f"{type(self).__name__} has no layers for pooled regions.")


@dataclass(frozen=True, slots=True)
class BackboneEntry:
    """What the registry knows about a backbone without building it."""

    name: str
    builder: Callable[[tuple[int, ...]], Backbone]
    strides: tuple[int, ...]  # every map it can give, fine to coarse; a stride twice: two maps
    paper: str
    imagenet: str | None = None  # torchvision's name of its ImageNet weights; None: none published
    top1_error: float | None = None  # percent, on ImageNet's validation set, one crop of 224
    has_roi_tail: bool = False  # layers of its own that can follow RoI pooling

    def build(self, strides: tuple[int, ...]) -> Backbone:
        """Build the network that gives a map at each of ``strides``, fine to coarse.

        Where it has several maps of one stride and fewer are asked for, they are the deepest.

        Raises:
            ConfigError: naming the strides this backbone does not have.
        """
        missing = [stride for stride in strides if stride not in self.strides]
        selected = bool(strides) and list(strides) == sorted(strides)
        selected &= all(
            strides.count(stride) <= max(self.strides.count(stride), 1) for stride in strides
        )
        if missing or not selected:
            once = len(set(self.strides)) == len(self.strides)
            often = "each once" if once else "none more often than it has it"
            advice = "" if selected else f" Name at least one, {often}, fine to coarse."
            raise ConfigError(
                f"backbone {self.name!r} has strides {_listed(self.strides)}; "
                f"asked for {_listed(strides) or 'none'}.{advice}"
            )
        return self.builder(strides)


def check_roi_stride(name: str, strides: tuple[int, ...]) -> None:
    """Let only maps pass that end where the layers after RoI pooling begin.

    A coarser map would have used those layers up, or gone past them; a finer one has not come so
    far.

    Args:
        name: of the backbone.
        strides: it was built with.

    Raises:
        ConfigError: another stride than ``ROI_STRIDE`` is the coarsest.
    """
    if strides[-1] != ROI_STRIDE:
        raise ConfigError(
            f"backbone {name!r}: its layers for pooled regions go on from stride {ROI_STRIDE}, so "
            f"that must be the coarsest; asked for {_listed(strides)}. End the strides at "
            f"{ROI_STRIDE}, or give the detector a head of its own."
        )


def _listed(strides: tuple[int, ...]) -> str:
    return ", ".join(map(str, strides))


BACKBONES: Registry[BackboneEntry] = Registry("backbone")


def register_backbone(
    name: str,
    *,
    strides: tuple[int, ...],
    paper: str,
    imagenet: str | None = None,
    top1_error: float | None = None,
    has_roi_tail: bool = False,
) -> Callable[[Callable[[tuple[int, ...]], Backbone]], Callable[[tuple[int, ...]], Backbone]]:
    """File a builder (strides in, backbone out) with its record in ``BACKBONES``."""

    def add(
        builder: Callable[[tuple[int, ...]], Backbone],
    ) -> Callable[[tuple[int, ...]], Backbone]:
        entry = BackboneEntry(name, builder, strides, paper, imagenet, top1_error, has_roi_tail)
        BACKBONES.register(name)(entry)
        return builder

    return add
