"""Fast R-CNN: proposals cut from one feature map of the image, classified and moved into place.

Paper: Fast R-CNN (Girshick, ICCV 2015), https://arxiv.org/abs/1504.08083, section 2. Where the
authors' code says more than the paper it is followed (py-faster-rcnn); docs/fidelity.md lists
where.

Reading order: ``RegionConfig`` (the numbers), ``RoIHead`` (RoI pooling and what follows it),
``sample_rois`` (which regions are learned from, and what they should say), ``roi_loss``,
``select_rois`` (boxes to show), ``FastRCNN`` (what joins them). Faster R-CNN is this with proposals
of its own: ``rpn.py`` and ``faster_rcnn.py``.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Annotated, Literal, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import (
    AfterValidator,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    model_validator,
)
from torch import Tensor, nn

from detkit.backbones import BACKBONES, Backbone
from detkit.backbones.base import RoITail
from detkit.backbones.pyramid import FeaturePyramid
from detkit.config import Config, Fraction
from detkit.detectors.base import DETECTORS, Detector, Step
from detkit.errors import DetkitError
from detkit.layers import freeze_batch_norm, set_batch_norm_eps, truncate_svd
from detkit.ops.boxes import clip_boxes
from detkit.ops.deltas import decode_deltas, encode_deltas
from detkit.ops.matching import covered_by, match_by_iou, sample
from detkit.ops.rois import distinct_rois, pool_rois
from detkit.preprocess import Batch, shortest_side, side_size
from detkit.proposals.selective_search import ProposalConfig
from detkit.types import Boxes, Detections, Losses, Target

PYRAMID_CANVAS = 32  # canvas pixels; its sides are multiples of it, as torchvision's
CONV_LAYERS = 4  # of the head "conv", torchvision's second version
CONV_WIDTH = 256
LEAST_SIDE = 1e-2  # canvas pixels: of a box that is worth a detection; torchvision's


# ------------------------------------------------------------------------------ settings


def _fine_to_coarse(value: tuple[int, ...]) -> tuple[int, ...]:
    if not value or list(value) != sorted(value):
        raise ValueError(f"expected one or more strides, fine to coarse, got {list(value)}.")
    return value


MapStrides = Annotated[tuple[PositiveInt, ...], AfterValidator(_fine_to_coarse)]


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
    min_size: PositiveInt = 600  # of the image's shorter side on the canvas
    max_size: PositiveInt = 1000  # of the longer one, at most

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
    max_log_scale: PositiveFloat = math.log(1000 / 16)  # a region grows at most so much; Detectron
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


class FastRCNNConfig(RegionConfig):
    """The paper's numbers; a recipe states what it changes."""

    proposals: ProposalConfig = ProposalConfig()  # where none are given
    roi_samples: PositiveInt = 64  # section 2.3: 128 from two images
    roi_negative_iou: tuple[Fraction, Fraction] = (0.1, 0.5)  # likewise


# ------------------------------------------------------------------------------- network


def roi_layers(config: RegionConfig, channels: int) -> nn.Sequential:
    """New layers for pooled regions, ``[R, channels, size, size]`` to ``[R, head_width]``."""
    layers: list[nn.Module] = []
    if config.roi_head == "conv":
        for _ in range(CONV_LAYERS):
            conv = nn.Conv2d(channels, CONV_WIDTH, 3, padding=1, bias=False)
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
            layers.append(nn.Sequential(conv, nn.BatchNorm2d(CONV_WIDTH), nn.ReLU(inplace=True)))
            channels = CONV_WIDTH
    layers.append(nn.Flatten())
    width = channels * config.roi_size**2
    for _ in range(1 if config.roi_head == "conv" else 2):
        layers += [nn.Linear(width, config.head_width), nn.ReLU(inplace=True)]
        width = config.head_width
    return nn.Sequential(*layers)


class RoIHead(nn.Module):
    """Cut regions from maps, and say of each its class, and for each class its box; section 2.1.

    Attributes:
        tail: the layers between. The backbone's own are not registered here: they learn with it.

    Args:
        backbone: whose maps they are; with ``roi_head: backbone`` it gives the layers as well.
        config: which layers, and how regions are cut.
    """

    def __init__(self, backbone: Backbone, config: RegionConfig) -> None:
        super().__init__()
        self.strides = config.strides  # of a pyramid without its last level, as in FPN, section 4.2
        self.roi = config.roi
        self.ranks = config.svd_ranks
        self.short: RoITail | None = None  # of the tail, in detection; made when first needed
        if config.roi_head == "backbone":
            self.tail = backbone.roi_tail()  # a record, not a module
        else:
            self.layers = roi_layers(config, backbone.channels[0])
            self.tail = RoITail(self.layers, config.roi_size, config.head_width)
        self.scores = nn.Linear(self.tail.width, config.num_classes + 1)  # background is the last
        self.deltas = nn.Linear(self.tail.width, 4 * (config.num_classes + 1))  # one never used
        nn.init.normal_(self.scores.weight, std=0.01)  # section 2.3
        nn.init.normal_(self.deltas.weight, std=0.001)
        nn.init.zeros_(self.scores.bias)
        nn.init.zeros_(self.deltas.bias)

    def forward(self, maps: Sequence[Tensor], rois: Sequence[Boxes]) -> tuple[Tensor, Tensor]:
        """Map ``[R, 4]`` regions of each image to ``[all R, K+1]`` logits and ``[all R, K+1, 4]``.

        Args:
            maps: the backbone's, fine to coarse.
            rois: canvas pixels.
        """
        maps = maps[: len(self.strides)]
        pooled = pool_rois(maps, self.strides, rois, self.tail.size, self.roi)
        vectors = self._tail().module(pooled)  # [all R, width]
        return self.scores(vectors).float(), self.deltas(vectors).float().unflatten(1, (-1, 4))

    def _tail(self) -> RoITail:
        if self.training or not self.ranks:
            return self.tail
        if self.short is None:
            self.short = replace(self.tail, module=truncate_svd(self.tail.module, self.ranks))
        return self.short

    def train(self, mode: bool = True) -> RoIHead:
        """Set training mode; what was shortened is made anew, since the weights may change."""
        self.short = None
        super().train(mode)
        return self

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> RoIHead:
        self.short = None  # it would stay on the old device
        super()._apply(fn, recurse)
        return self


def build_maps(config: RegionConfig) -> Backbone:
    """The backbone, or a feature pyramid on it."""
    backbone = BACKBONES[config.backbone].build(config.strides)
    if not config.is_pyramid:
        return backbone
    return FeaturePyramid(backbone, config.pyramid_channels, batch_norm=config.pyramid_batch_norm)


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


# -------------------------------------------------------------------------------- targets


class RoITargets(NamedTuple):
    """Regions of one image that are learned from, and what they should say."""

    rois: Boxes  # [R, 4] canvas pixels, the positive ones first
    labels: Tensor  # [R] int64; K is background
    gt_boxes: Boxes  # [R, 4] the object of each; of background something that is not used


@torch.no_grad()
def sample_rois(
    proposals: Boxes, target: Target, config: RegionConfig, generator: torch.Generator
) -> RoITargets:
    """Draw the regions of one image that are learned from, a quarter of them objects.

    The objects themselves are among the proposals. Where there are too few negatives there are
    fewer regions.

    Args:
        proposals: ``[R, 4]`` canvas pixels.
        target: the image's objects, canvas pixels.
        config: thresholds and numbers.
        generator: of the draw.

    Paper:
        Fast R-CNN, section 2.3, "Mini-batch sampling".
    """
    gt, labels = target.boxes[~target.crowd], target.labels[~target.crowd]
    rois = torch.cat([proposals, gt])
    ious, objects, _ = match_by_iou(rois, gt)
    pos = ious >= config.roi_positive_iou
    low, high = config.roi_negative_iou
    neg = (ious >= low) & (ious < high)
    free = covered_by(rois, target.boxes[target.crowd]) <= config.crowd_cover
    drawn = sample(pos & free, neg & free, config.roi_samples, config.roi_positive_share, generator)
    rows = torch.cat([drawn.pos, drawn.neg])
    if not len(gt):
        background = objects.new_full((len(rows),), config.num_classes)
        return RoITargets(rois[rows], background, rois[rows])
    classes = labels[objects[rows]]
    classes[len(drawn.pos) :] = config.num_classes
    return RoITargets(rois[rows], classes, gt[objects[rows]])


# ----------------------------------------------------------------------------------- loss


def roi_loss(logits: Tensor, deltas: Tensor, targets: RoITargets, config: RegionConfig) -> Losses:
    """Cross-entropy of the classes, and smooth L1 of the true class's box where there is one.

    Both are divided by the number of regions, backgrounds too.

    Args:
        logits: ``[R, K+1]``.
        deltas: ``[R, K+1, 4]``.
        targets: of the same regions, of all images of a batch.
        config: the stds of deltas, and where the loss turns straight.

    Returns:
        ``loss_class`` and ``loss_box``, scalars; 0 where there are no regions.

    Paper:
        Fast R-CNN, equations 1 to 3.
    """
    count = max(len(targets.labels), 1)
    classes = F.cross_entropy(logits, targets.labels, reduction="sum") / count
    rows = (targets.labels < config.num_classes).nonzero()[:, 0]
    goals = encode_deltas(targets.rois[rows], targets.gt_boxes[rows], config.box_stds)
    own = deltas[rows, targets.labels[rows]]  # [P, 4]
    boxes = F.smooth_l1_loss(own, goals, beta=config.roi_beta, reduction="sum") / count
    return {"loss_class": classes, "loss_box": boxes}


# ------------------------------------------------------------------------------ detection


def select_rois(
    rois: Boxes, logits: Tensor, deltas: Tensor, size: tuple[int, int], config: RegionConfig
) -> Detections:
    """What one image should report: each region once for every class that it scores for.

    Args:
        rois: ``[R, 4]`` canvas pixels.
        logits: ``[R, K+1]``.
        deltas: ``[R, K+1, 4]``.
        size: (height, width) of the image on the canvas.
        config: thresholds.

    Paper:
        Fast R-CNN, section 3.
    """
    from torchvision.ops import batched_nms

    # background first, so that the sum below is rounded as torchvision rounds it
    scores = logits.roll(1, dims=1).softmax(dim=1)[:, 1:]  # [R, K]
    rows, labels = (scores > config.score_threshold).nonzero(as_tuple=True)
    boxes = decode_deltas(
        rois[rows], deltas[rows, labels], config.box_stds, max_log_scale=config.max_log_scale
    )
    boxes = clip_boxes(boxes, size)
    large = (boxes[:, 2:] - boxes[:, :2] >= LEAST_SIDE).all(dim=1)
    boxes, found, labels = boxes[large], scores[rows, labels][large], labels[large]
    # torchvision's own: boxes are clipped, so its shifting of classes by coordinates is safe
    keep = batched_nms(boxes, found, labels, config.nms_iou)[: config.max_detections]
    return Detections(boxes[keep], found[keep], labels[keep])


def report(
    rois: Sequence[Boxes], logits: Tensor, deltas: Tensor, batch: Batch, config: RegionConfig
) -> list[Detections]:
    """:func:`select_rois` for each image of a batch, of the regions of all of them."""
    counts = [len(each) for each in rois]
    split = zip(rois, logits.split(counts), deltas.split(counts), batch.geometry, strict=True)
    return [
        select_rois(boxes, scores, moves, place.placed, config)
        for boxes, scores, moves, place in split
    ]


# ---------------------------------------------------------------------------------- module


@DETECTORS.register("fast_rcnn")
class FastRCNN(Detector):
    """Proposals from elsewhere, classified and moved into place on shared feature maps."""

    config_type = FastRCNNConfig
    needs_proposals = True
    uses_crowds = True
    size_key = "min_size"  # and the canvas has the images' shape
    config: FastRCNNConfig

    def __init__(self, config: FastRCNNConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = build_maps(config)
        self.roi_head = RoIHead(self.backbone, config)
        if config.freeze_batch_norm:  # the network's, with what it has after RoI pooling
            freeze_batch_norm(self.backbone.trunk)
        if config.batch_norm_eps is not None:
            set_batch_norm_eps(self, config.batch_norm_eps)

    def find_proposals(self, images: list[Tensor]) -> list[Boxes]:
        return [self.config.proposals.find(image) for image in images]

    def preprocess(self, images: list[Tensor], size: tuple[int, int] | None = None) -> Batch:
        return place_images(images, size, self.backbone, self.config)

    def alike(self, images: list[Tensor]) -> list[list[int]]:
        return by_canvas(images, self.config)

    def network(self, pixels: Tensor, rois: Sequence[Boxes] | None = None) -> tuple[Tensor, Tensor]:
        """Logits ``[all R, K+1]`` and deltas ``[all R, K+1, 4]`` of each image's regions.

        Args:
            pixels: ``[B, 3, H, W]``.
            rois: ``[R, 4]`` an image, canvas pixels; without them as many as there may be, each the
                whole canvas, which costs what a full list of proposals costs.
        """
        if rois is None:
            whole = pixels.new_tensor([0.0, 0.0, pixels.shape[3], pixels.shape[2]])
            rois = [whole.expand(self.config.proposals.most, 4)] * len(pixels)
        return self.roi_head(self.backbone(pixels), rois)

    def losses(self, batch: Batch, targets: list[Target], step: Step) -> Losses:
        found, draws = regions(batch), step.generator()
        drawn = [
            sample_rois(rois, target, self.config, draws)
            for rois, target in zip(found, targets, strict=True)
        ]
        logits, deltas = self.network(batch.pixels, [each.rois for each in drawn])
        every = RoITargets(*map(torch.cat, zip(*drawn, strict=True)))
        return roi_loss(logits, deltas, every, self.config)

    def predict(self, batch: Batch) -> list[Detections]:
        rois = regions(batch)
        if self.config.roi != "pool" or self.config.is_pyramid:
            return report(rois, *self.network(batch.pixels, rois), batch, self.config)
        distinct = [distinct_rois(each, self.config.strides[0]) for each in rois]
        said = self.network(batch.pixels, [some for some, _ in distinct])
        starts = itertools.accumulate([0] + [len(some) for some, _ in distinct[:-1]])
        rows = [start + who for start, (_, who) in zip(starts, distinct, strict=True)]
        logits, deltas = (each[torch.cat(rows)] for each in said)
        return report(rois, logits, deltas, batch, self.config)


def regions(batch: Batch) -> tuple[Boxes, ...]:
    """``[R, 4]`` the proposals of each image, canvas pixels.

    Raises:
        DetkitError: there are none.
    """
    if batch.proposals is None:
        raise DetkitError(
            "fast_rcnn: this batch has no proposals; call the detector on images, which finds them "
            "where none are given, or pass them as its third argument."
        )
    return batch.proposals
