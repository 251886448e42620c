"""What Fast and Faster R-CNN do before any region is cut: settings, canvas, feature maps.

Papers: Fast R-CNN (Girshick, ICCV 2015), https://arxiv.org/abs/1504.08083; of the pyramid Feature
Pyramid Networks (Lin et al., CVPR 2017), https://arxiv.org/abs/1612.03144. Section numbers below
are Fast R-CNN's.

Reading order: ``RegionConfig`` (the numbers of both stages' common part), ``place_images`` (images
to a canvas), ``build_maps`` (the network that makes maps of it).
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import AfterValidator, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator
from torch import Tensor

from detkit.backbones import BACKBONES, Backbone
from detkit.backbones.pyramid import FeaturePyramid
from detkit.config import Config, Fraction
from detkit.detectors.settings import LogScale, Side
from detkit.preprocess import Batch, shortest_side, side_size

PYRAMID_CANVAS = 32  # canvas pixels; its sides are multiples of it, as torchvision's


# ------------------------------------------------------------------------------ settings


def _ascending(value: tuple[int, ...]) -> tuple[int, ...]:
    if not value or list(value) != sorted(value):
        raise ValueError(f"expected one or more strides, fine to coarse, got {list(value)}.")
    return value


# equal ones may stand beside each other, as in torchvision's MobileNet
MapStrides = Annotated[tuple[PositiveInt, ...], AfterValidator(_ascending)]


class RegionConfig(Config):
    """What Fast and Faster R-CNN share; defaults are the authors' for VGG-16 on PASCAL VOC."""

    num_classes: PositiveInt
    backbone: str = "vgg16"  # any registered backbone
    backbone_weights: str = "none"  # "imagenet" or a path; applied by training, after building
    freeze_batch_norm: bool = False  # the backbone's stays as it was loaded
    # of every batch norm; none: as the network was published
    batch_norm_eps: NonNegativeFloat | None = None
    # canvas pixels per cell of the backbone's maps; several make a feature pyramid
    strides: MapStrides = (16,)
    pyramid_channels: PositiveInt = 256  # FPN, section 3
    pyramid_batch_norm: bool = False
    min_size: Side = 600  # of the image's shorter side on the canvas
    max_size: Side = 1000  # of the longer one, at most

    roi: Literal["pool", "align"] = "pool"  # section 2.1; align is Mask R-CNN's
    # what follows: the backbone's own layers; two fully connected ones; four 3x3 and one of those
    roi_head: Literal["backbone", "mlp", "conv"] = "backbone"
    roi_size: PositiveInt = 7  # of the pooled map, where roi_head is not the backbone's
    head_width: PositiveInt = 1024  # likewise, of the fully connected layers
    # in detection fc6, fc7 are computed from so many singular values: (1024, 256); section 3.1
    svd_ranks: tuple[PositiveInt, ...] = ()
    roi_samples: PositiveInt = 128  # regions an image that are learned from
    roi_positive_share: Fraction = 0.25  # section 2.3, "Mini-batch sampling"
    roi_positive_iou: Fraction = 0.5  # likewise
    roi_negative_iou: tuple[Fraction, Fraction] = (0.0, 0.5)  # from, to; Fast R-CNN's is from 0.1
    crowd_cover: Fraction = 0.7  # regions covered more by a crowd are not learned from (the code)
    box_stds: tuple[PositiveFloat, PositiveFloat, PositiveFloat, PositiveFloat] = (
        *(0.1, 0.1),  # the code: what regression targets are divided by
        *(0.2, 0.2),
    )
    roi_beta: PositiveFloat = 1.0  # where the smooth L1 loss turns straight, equation 3
    max_log_scale: LogScale = math.log(1000 / 16)  # a region grows at most so much; Detectron
    score_threshold: Fraction = 0.05  # the authors' evaluation
    show_threshold: Fraction = 0.8  # the authors' demo; what `detect` uses unless told
    nms_iou: Fraction = 0.3  # the authors' evaluation
    max_detections: PositiveInt = 100  # an image, likewise

    @property
    def is_pyramid(self) -> bool:
        """Whether there are several maps."""
        return len(self.strides) > 1

    @property
    def sides(self) -> tuple[int, int]:
        """What an image's shorter side becomes, and what its longer one is at most."""
        return self.min_size, self.max_size

    @property
    def canvas_multiple(self) -> int:
        """A canvas has whole cells; of a pyramid at least torchvision's."""
        return max(self.strides[-1], PYRAMID_CANVAS if self.is_pyramid else 1)

    @model_validator(mode="after")
    def _head_fits(self) -> RegionConfig:
        if self.roi_head == "backbone":
            if self.is_pyramid:
                raise ValueError(
                    "roi_head: a backbone's own layers do not fit the maps of a pyramid; take mlp "
                    "or conv."
                )
            if self.backbone in BACKBONES and not BACKBONES[self.backbone].has_roi_tail:
                known = ", ".join(name for name in BACKBONES if BACKBONES[name].has_roi_tail)
                raise ValueError(
                    f"roi_head: backbone {self.backbone!r} has no layers for pooled regions "
                    f"({known} have); take mlp or conv."
                )
        return self


# ---------------------------------------------------------------------------- the canvas


def place_images(
    images: list[Tensor], size: tuple[int, int] | None, backbone: Backbone, config: RegionConfig
) -> Batch:
    """Images on one canvas, by their sides; sections 4.1 and 5.2."""
    device = next(backbone.parameters()).device
    images = [image.to(device, non_blocking=True) for image in images]
    sides = config.sides if size is None else (min(size), max(size))
    return shortest_side(images, sides, config.canvas_multiple, backbone.mean, backbone.std)


def by_canvas(images: list[Tensor], config: RegionConfig) -> list[list[int]]:
    """The places of images whose canvases are equal."""
    alike: dict[tuple[int, ...], list[int]] = {}
    for row, image in enumerate(images):
        sides = side_size((image.shape[-2], image.shape[-1]), config.sides)
        canvas = tuple(-(-side // config.canvas_multiple) for side in sides)
        alike.setdefault(canvas, []).append(row)
    return [*alike.values()]


# ------------------------------------------------------------------------------- network


def build_maps(config: RegionConfig) -> Backbone:
    """The backbone, or a feature pyramid on it."""
    backbone = BACKBONES[config.backbone].build(config.strides)
    if not config.is_pyramid:
        return backbone
    return FeaturePyramid(backbone, config.pyramid_channels, batch_norm=config.pyramid_batch_norm)
