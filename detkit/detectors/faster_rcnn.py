"""Faster R-CNN: a network that proposes regions, and Fast R-CNN on what it proposes.

Paper: Faster R-CNN (Ren et al., NIPS 2015), https://arxiv.org/abs/1506.01497, section 3. Where the
authors' code says more than the paper, or something else, the code is followed (py-faster-rcnn);
docs/fidelity.md lists where. The pyramid form is Feature Pyramid Networks (Lin et al., CVPR 2017),
https://arxiv.org/abs/1612.03144, section 4, as torchvision builds it, and gives its output on its
weights.

Reading order: ``FasterRCNNConfig`` (the numbers), ``RPN`` (the network that proposes),
``place_anchors``, ``assign_anchors`` (which anchor answers for which object), ``rpn_loss``,
``propose`` (the regions it suggests), ``FasterRCNN`` (what joins them with ``RoIHead`` of
``fast_rcnn.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import (
    AfterValidator,
    BeforeValidator,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    ValidationInfo,
    model_validator,
)
from torch import Tensor, nn

from detkit.backbones import BACKBONES
from detkit.backbones.base import RoITail
from detkit.backbones.pyramid import FeaturePyramid
from detkit.config import Fraction
from detkit.detectors.base import DETECTORS, Audit, Detector, Scale, Step, audit_anchors
from detkit.detectors.fast_rcnn import (
    RoIConfig,
    RoIHead,
    RoITargets,
    freeze_batch_norm,
    roi_layers,
    roi_loss,
    sample_rois,
    select_rois,
    set_batch_norm_eps,
)
from detkit.ops.anchors import centred_anchors, grid_anchors, inside, published_anchors
from detkit.ops.boxes import clip_boxes, xyxy_to_cxcywh
from detkit.ops.deltas import decode_deltas, encode_deltas
from detkit.ops.matching import covered_by, match_by_iou, sample
from detkit.ops.rois import pool_rois
from detkit.preprocess import Batch, Geometry, shortest_side, side_size
from detkit.types import Boxes, Detections, Losses, Target

PYRAMID_CANVAS = 32  # canvas pixels; its sides are multiples of it, as torchvision's


# ------------------------------------------------------------------------------ settings


def _one_level(value: Any) -> Any:
    """``[128, 256, 512]`` are the sizes of one level."""
    if isinstance(value, list | tuple) and value and not isinstance(value[0], list | tuple):
        return (tuple(value),)
    return value


def _sizes_of_levels(value: tuple[Any, ...], info: ValidationInfo) -> tuple[Any, ...]:
    strides = info.data.get("strides", ())
    levels = len(strides) + (len(strides) > 1)
    if strides and (len(value) != levels or len({len(sizes) for sizes in value}) != 1):
        raise ValueError(
            f"expected a list of as many sizes for each of the {levels} levels, fine to coarse, "
            f"got {[[*sizes] for sizes in value]}."
        )
    return value


def _fine_to_coarse(value: tuple[int, ...]) -> tuple[int, ...]:
    if not value or list(value) != sorted(value):
        raise ValueError(f"expected one or more strides, fine to coarse, got {list(value)}.")
    return value


AnchorSizes = Annotated[
    tuple[tuple[PositiveFloat, ...], ...],
    BeforeValidator(_one_level),
    AfterValidator(_sizes_of_levels),
]


class FasterRCNNConfig(RoIConfig):
    """Defaults are the authors' for VGG-16 on PASCAL VOC; a recipe states what it changes."""

    backbone: str = "vgg16"  # any registered backbone
    backbone_weights: str = "none"  # "imagenet" or a path; applied by training, after building
    freeze_batch_norm: bool = False  # the backbone's stays as it was loaded
    # of every batch norm; none: as the network was published
    batch_norm_eps: NonNegativeFloat | None = None
    # canvas pixels per cell of the backbone's maps; several make a feature pyramid
    strides: Annotated[tuple[PositiveInt, ...], AfterValidator(_fine_to_coarse)] = (16,)
    pyramid_channels: PositiveInt = 256  # FPN, section 3
    pyramid_batch_norm: bool = False
    min_size: PositiveInt = 600  # of the image's shorter side on the canvas
    max_size: PositiveInt = 1000  # of the longer one, at most

    anchor_sizes: AnchorSizes = ((128.0, 256.0, 512.0),)  # square roots of areas, section 3.1.1
    anchor_ratios: tuple[PositiveFloat, ...] = (0.5, 1.0, 2.0)  # height over width
    rpn_channels: PositiveInt = 512  # 256 for ZF; section 3.1
    rpn_convs: PositiveInt = 1  # 3 x 3, before the two outputs
    rpn_outputs: Literal["pair", "logit"] = "pair"  # scores an anchor: softmax of two, or sigmoid
    rpn_positive_iou: Fraction = 0.7  # section 3.1.2
    rpn_negative_iou: Fraction = 0.3
    rpn_inside: bool = True  # anchors that cross the border are not learned from, section 3.3
    rpn_samples: PositiveInt = 256  # anchors an image, section 3.1.3
    rpn_positive_share: Fraction = 0.5
    rpn_beta: PositiveFloat = 1 / 9  # where the smooth L1 loss turns straight; sigma 3 (the code)

    pre_nms_train: PositiveInt = 12000  # proposals before suppression, of each level (the code)
    pre_nms_test: PositiveInt = 6000
    post_nms_train: PositiveInt = 2000  # and after it, of the image; section 3.3
    post_nms_test: PositiveInt = 300
    rpn_nms_iou: Fraction = 0.7  # section 3.3
    rpn_min_side: NonNegativeFloat = 16.0  # smaller proposals are dropped (the code)
    # small ones, in image pixels, are dropped before the best are taken (the code); else after it,
    # and in canvas pixels (torchvision)
    rpn_filter_first: bool = True
    rpn_score_threshold: Fraction = 0.0  # less likely proposals are dropped

    # what training teaches: both at once ("approximate joint training"), or one stage of four
    learns: Literal["both", "rpn", "roi"] = "both"

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
    def _head_fits(self) -> FasterRCNNConfig:
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


# --------------------------------------------------------------------------------- network


class RPN(nn.Module):
    """Section 3.1: on every cell of every map a score and a box for each of A anchors."""

    def __init__(self, channels: int, anchors: int, config: FasterRCNNConfig) -> None:
        super().__init__()
        self.convs = nn.Sequential()
        for _ in range(config.rpn_convs):
            self.convs.append(nn.Conv2d(channels, config.rpn_channels, 3, padding=1))
            self.convs.append(nn.ReLU(inplace=True))
            channels = config.rpn_channels
        scores = 2 if config.rpn_outputs == "pair" else 1
        self.objectness = nn.Conv2d(channels, scores * anchors, 1)
        self.deltas = nn.Conv2d(channels, 4 * anchors, 1)
        for layer in (*self.convs, self.objectness, self.deltas):
            if isinstance(layer, nn.Conv2d) and layer.bias is not None:
                nn.init.normal_(layer.weight, std=0.01)  # section 3.1.3
                nn.init.zeros_(layer.bias)

    def forward(self, maps: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Map the levels' maps to logits ``[B, H*W*A]`` and deltas ``[B, H*W*A, 4]`` of each."""
        logits, deltas = [], []
        for map_ in maps:
            hidden = self.convs(map_)
            scores = self.objectness(hidden).float()  # [B, A or 2A, H, W]
            moves = self.deltas(hidden).float()  # [B, 4A, H, W], anchor by anchor
            count = moves.shape[1] // 4
            if scores.shape[1] == 2 * count:  # background's, then the objects'
                scores = scores[:, count:] - scores[:, :count]  # softmax of two is sigmoid of this
            logits.append(scores.permute(0, 2, 3, 1).flatten(1))
            deltas.append(moves.unflatten(1, (count, 4)).permute(0, 3, 4, 1, 2).flatten(1, 3))
        return logits, deltas


# --------------------------------------------------------------------------------- anchors


def cell_anchors(config: FasterRCNNConfig) -> list[Boxes]:
    """``[A, 4]`` the anchors of the top left cell of each level, canvas pixels; section 3.1.1."""
    if config.is_pyramid:
        return [centred_anchors(sizes, config.anchor_ratios) for sizes in config.anchor_sizes]
    sizes = config.anchor_sizes[0]
    return [published_anchors(config.strides[0], sizes, config.anchor_ratios)]


def place_anchors(
    anchors: Sequence[Boxes], maps: Sequence[Tensor], size: tuple[int, int]
) -> list[Boxes]:
    """``[H*W*A, 4]`` the anchors of every cell of each level, canvas pixels.

    Args:
        anchors: of the top left cell of each level.
        maps: ``[B, C, H, W]`` of each level.
        size: canvas (height, width). Cells are as large as whole pixels allow, as in torchvision: a
            map of 7 rows on 416 pixels has one every 59.
    """
    placed = []
    for cell, map_ in zip(anchors, maps, strict=True):
        grid = (map_.shape[2], map_.shape[3])
        placed.append(grid_anchors(cell, grid, (size[0] // grid[0], size[1] // grid[1])))
    return placed


class AnchorTargets(NamedTuple):
    """Anchors of one image that are learned from, and what they should say."""

    rows: Tensor  # [S] int64, which of the N anchors
    goals: Tensor  # [S] 1 for objects, which come first, 0 for background
    deltas: Tensor  # [P, 4] of those that are objects


@torch.no_grad()
def assign_anchors(
    anchors: Boxes,
    target: Target,
    size: tuple[int, int],
    config: FasterRCNNConfig,
    generator: torch.Generator,
) -> AnchorTargets:
    """Draw the anchors of one image that are learned from, half of them objects where it can be.

    Positive is every anchor that ties an object's best overlap, and every one of IoU 0.7 and more;
    negative is one below 0.3 with every object. A crowd's anchors are neither.

    Args:
        anchors: ``[N, 4]`` of all levels, canvas pixels.
        target: the image's objects, canvas pixels.
        size: (height, width) of the image on the canvas.
        config: thresholds and numbers.
        generator: of the draw.

    Paper:
        Faster R-CNN, sections 3.1.2 and 3.1.3.
    """
    every = torch.arange(len(anchors), device=anchors.device)
    rows = every[inside(anchors, size)] if config.rpn_inside else every
    anchors, gt = anchors[rows], target.boxes[~target.crowd]
    ious, objects, ties = match_by_iou(anchors, gt)
    free = covered_by(anchors, target.boxes[target.crowd]) <= config.crowd_cover
    pos = (ties | (ious >= config.rpn_positive_iou)) & free
    neg = (ious < config.rpn_negative_iou) & ~pos & free
    drawn = sample(pos, neg, config.rpn_samples, config.rpn_positive_share, generator)
    goals = torch.cat([ious.new_ones(len(drawn.pos)), ious.new_zeros(len(drawn.neg))])
    own = gt[objects[drawn.pos]] if len(gt) else gt  # without objects nothing is positive
    deltas = encode_deltas(anchors[drawn.pos], own)
    return AnchorTargets(rows[torch.cat([drawn.pos, drawn.neg])], goals, deltas)


# ------------------------------------------------------------------------------------ loss


def rpn_loss(
    logits: Tensor, deltas: Tensor, targets: Sequence[AnchorTargets], config: FasterRCNNConfig
) -> Losses:
    """Cross-entropy of object or not, and smooth L1 of the boxes of objects.

    Both are divided by the number of anchors drawn, as the code does; the paper divides the second
    by the number of places and multiplies by 10, which is nearly the same.

    Args:
        logits: ``[B, N]``.
        deltas: ``[B, N, 4]``.
        targets: of each image.
        config: where the smooth L1 loss turns straight.

    Returns:
        ``loss_rpn_object`` and ``loss_rpn_box``, scalars; 0 where no anchor was drawn.

    Paper:
        Faster R-CNN, equation 1.
    """
    count = max(sum(len(each.rows) for each in targets), 1)
    picked = torch.cat([logits[image, each.rows] for image, each in enumerate(targets)])
    goals = torch.cat([each.goals for each in targets])
    moves = [deltas[image, each.rows[: len(each.deltas)]] for image, each in enumerate(targets)]
    wanted = torch.cat([each.deltas for each in targets])
    objects = F.binary_cross_entropy_with_logits(picked, goals, reduction="sum")
    boxes = F.smooth_l1_loss(torch.cat(moves), wanted, beta=config.rpn_beta, reduction="sum")
    return {"loss_rpn_object": objects / count, "loss_rpn_box": boxes / count}


# ------------------------------------------------------------------------------- proposals


class FirstStage(NamedTuple):
    """What the region proposal network says of a batch, level by level, fine to coarse."""

    logits: list[Tensor]  # [B, N] of each level
    deltas: list[Tensor]  # [B, N, 4] of each level
    anchors: list[Boxes]  # [N, 4] of each level, canvas pixels


@torch.no_grad()
def propose(
    said: FirstStage, places: Sequence[Geometry], config: FasterRCNNConfig, *, training: bool
) -> list[Boxes]:
    """The regions of each image that the second stage is to look at, best first.

    Args:
        said: by the first stage.
        places: how each image lies on the canvas.
        config: how many before and after suppression, thresholds.
        training: there are more of them.

    Returns:
        ``[R, 4]`` canvas pixels an image, without gradient.

    Paper:
        Faster R-CNN, section 3.3, "Implementation Details".
    """
    from torchvision.ops import batched_nms  # not ours, to drop the same where scores tie

    proposals = []
    for image, place in enumerate(places):
        levels = zip(said.logits, said.deltas, said.anchors, strict=True)
        ranked = [
            best_of_level(logits[image], deltas[image], anchors, place, config, training=training)
            for logits, deltas, anchors in levels
        ]
        boxes = torch.cat([boxes for boxes, _ in ranked])
        scores = torch.cat([scores for _, scores in ranked])
        level_of = [torch.full_like(s, i, dtype=torch.int64) for i, (_, s) in enumerate(ranked)]
        keep = batched_nms(boxes, scores, torch.cat(level_of), config.rpn_nms_iou)
        most = config.post_nms_train if training else config.post_nms_test
        proposals.append(boxes[keep[:most]])
    return proposals


def best_of_level(
    logits: Tensor,
    deltas: Tensor,
    anchors: Boxes,
    place: Geometry,
    config: FasterRCNNConfig,
    *,
    training: bool,
) -> tuple[Boxes, Tensor]:
    """The most likely regions of one level, clipped to the image, none too small.

    The paper's code drops what is too small and ranks the others (``rpn_filter_first``);
    torchvision ranks all and then drops, and means pixels of the canvas.

    Args:
        logits: ``[N]``.
        deltas: ``[N, 4]``.
        anchors: ``[N, 4]`` canvas pixels.
        place: how the image lies on the canvas.
        config: how many, and what is too small.
        training: there are more of them.

    Returns:
        ``[n, 4]`` canvas pixels, and ``[n]`` how likely each is an object, 0..1.
    """
    most = config.pre_nms_train if training else config.pre_nms_test
    unit = place.scale if config.rpn_filter_first else (1.0, 1.0)
    least = logits.new_tensor(unit) * config.rpn_min_side  # (x, y), canvas pixels
    if not config.rpn_filter_first:
        logits, rows = logits.topk(min(most, len(logits)))
        deltas, anchors = deltas[rows], anchors[rows]
    boxes = decode_deltas(anchors, deltas, max_log_scale=config.max_log_scale)
    boxes = clip_boxes(boxes, place.placed)
    large = (boxes[:, 2:] - boxes[:, :2] >= least).all(dim=1)
    boxes, scores = boxes[large], logits[large].sigmoid()
    if config.rpn_filter_first:
        scores, rows = scores.topk(min(most, len(scores)))
        boxes = boxes[rows]
    likely = scores >= config.rpn_score_threshold
    return boxes[likely], scores[likely]


# ---------------------------------------------------------------------------------- module


@DETECTORS.register("faster_rcnn")
class FasterRCNN(Detector):
    """A region proposal network, and Fast R-CNN on the same maps; section 3."""

    config_type = FasterRCNNConfig
    uses_crowds = True
    size_key = "min_size"  # and the canvas has the images' shape
    shape_keys = ("anchor_sizes", "anchor_ratios")
    config: FasterRCNNConfig

    def __init__(self, config: FasterRCNNConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = BACKBONES[config.backbone].build(config.strides)
        if config.is_pyramid:
            self.backbone = FeaturePyramid(
                self.backbone, config.pyramid_channels, batch_norm=config.pyramid_batch_norm
            )
        channels, anchors = self.backbone.channels[0], cell_anchors(config)
        for level, cell in enumerate(anchors):
            self.register_buffer(f"anchors_{level}", cell, persistent=False)
        self.rpn = RPN(channels, len(anchors[0]), config)
        if config.roi_head == "backbone":
            self.tail = self.backbone.roi_tail()  # a record: the layers are the backbone's
        else:
            self.roi_layers = roi_layers(config, channels)
            self.tail = RoITail(self.roi_layers, config.roi_size, config.head_width)
        self.roi_head = RoIHead(self.tail.width, config.num_classes)
        if config.freeze_batch_norm:  # the network's, with what it has after RoI pooling
            freeze_batch_norm(self.backbone.trunk)
        if config.batch_norm_eps is not None:
            set_batch_norm_eps(self, config.batch_norm_eps)
        if config.learns == "rpn":
            self.roi_head.requires_grad_(False)
            self.tail.module.requires_grad_(False)
        elif config.learns == "roi":
            self.rpn.requires_grad_(False)

    @property
    def anchors(self) -> list[Boxes]:
        """``[A, 4]`` of the top left cell of each level, canvas pixels."""
        return [getattr(self, f"anchors_{i}") for i in range(len(self.config.anchor_sizes))]

    def anchor_scales(self) -> tuple[Scale, ...]:
        count = len(self.anchors[0])
        first = range(0, count * len(self.anchors), count)
        shares = [tuple(range(start, start + count)) for start in first]
        return tuple(Scale(*scale) for scale in zip(self.backbone.strides, shares, strict=True))

    def audit(self, targets: list[Target], size: tuple[int, int]) -> Audit:
        levels = [xyxy_to_cxcywh(cell)[:, 2:] for cell in self.anchors]  # [A, 2] each
        strides = [stride for stride in self.backbone.strides for _ in levels[0]]
        objects = torch.arange(sum(len(target.boxes) for target in targets))
        answered = objects, torch.ones(len(objects))  # several may have the same anchor's shape
        return audit_anchors(targets, torch.cat(levels), strides, [answered])

    def preprocess(self, images: list[Tensor], size: tuple[int, int] | None = None) -> Batch:
        mean, std = self.backbone.mean, self.backbone.std
        images = [image.to(self.anchors[0].device, non_blocking=True) for image in images]
        sides = self.config.sides if size is None else (min(size), max(size))
        return shortest_side(images, sides, self.config.canvas_multiple, mean, std)

    def detect_batch(
        self, images: list[Tensor], proposals: list[Boxes] | None = None
    ) -> list[Detections]:
        """Detections of each image, in its own pixels, best score first.

        Only images whose canvases are equal go through the network together, so what is found in
        one does not depend on the others.
        """
        alike: dict[tuple[int, ...], list[int]] = {}
        for row, image in enumerate(images):
            sides = side_size((image.shape[-2], image.shape[-1]), self.config.sides)
            canvas = tuple(-(-side // self.config.canvas_multiple) for side in sides)
            alike.setdefault(canvas, []).append(row)
        found: dict[int, Detections] = {}
        for rows in alike.values():
            given = None if proposals is None else [proposals[row] for row in rows]
            some = super().detect_batch([images[row] for row in rows], given)
            found |= dict(zip(rows, some, strict=True))
        return [found[row] for row in range(len(images))]

    @torch.no_grad()
    def propose(self, images: list[Tensor]) -> list[Boxes]:
        """``[R, 4]`` what the first stage suggests for each image, best first, in its pixels."""
        found = []
        for image in images:
            batch = self.preprocess([image])
            said = self.first_stage(self.backbone(batch.pixels), batch.size)
            (boxes,) = propose(said, batch.geometry, self.config, training=False)
            found.append(batch.geometry[0].to_image(boxes))
        return found

    def first_stage(self, maps: Sequence[Tensor], size: tuple[int, int]) -> FirstStage:
        """What the region proposal network says; ``size`` is the canvas's (height, width)."""
        logits, deltas = self.rpn(maps)
        return FirstStage(logits, deltas, place_anchors(self.anchors, maps, size))

    def second_stage(self, maps: Sequence[Tensor], rois: Sequence[Boxes]) -> tuple[Tensor, Tensor]:
        """``[all R, K+1]`` logits and ``[all R, K+1, 4]`` deltas of the regions of all images."""
        strides = self.config.strides  # of a pyramid without its last level, as in FPN, section 4.2
        pooled = pool_rois(maps[: len(strides)], strides, rois, self.tail.size, self.config.roi)
        logits, deltas = self.roi_head(self.tail.module(pooled))
        return logits.float(), deltas.float()

    def network(
        self,
        pixels: Tensor,
        places: Sequence[Geometry] | None = None,
        proposals: Sequence[Boxes] | None = None,
    ) -> tuple[Sequence[Boxes], Tensor, Tensor]:
        """Both stages, from pixels to regions of each image, their logits and their deltas.

        Args:
            pixels: ``[B, 3, H, W]``.
            places: how the images lie on the canvas; without them they fill it.
            proposals: ``[R, 4]`` an image, canvas pixels, in the place of the first stage's.
        """
        size = (pixels.shape[2], pixels.shape[3])
        maps = self.backbone(pixels)
        if proposals is None:
            filled = Geometry((1.0, 1.0), (0.0, 0.0), size)
            said = self.first_stage(maps, size)
            proposals = propose(said, places or [filled] * len(pixels), self.config, training=False)
        return proposals, *self.second_stage(maps, proposals)

    def losses(self, batch: Batch, targets: list[Target], step: Step) -> Losses:
        config, draws, losses = self.config, step.generator(), Losses()
        maps = self.backbone(batch.pixels)
        proposals = batch.proposals
        if config.learns != "roi" or proposals is None:
            said = self.first_stage(maps, batch.size)
            if config.learns != "roi":
                losses |= self._first_losses(said, batch, targets, draws)
            if proposals is None:
                proposals = tuple(propose(said, batch.geometry, config, training=True))
        if config.learns != "rpn":
            drawn = [
                sample_rois(found, target, config, draws)
                for found, target in zip(proposals, targets, strict=True)
            ]
            logits, deltas = self.second_stage(maps, [each.rois for each in drawn])
            every = RoITargets(*map(torch.cat, zip(*drawn, strict=True)))
            losses |= roi_loss(logits, deltas, every, config)
        return losses

    def _first_losses(
        self, said: FirstStage, batch: Batch, targets: list[Target], draws: torch.Generator
    ) -> Losses:
        anchors = torch.cat(said.anchors)
        drawn = [
            assign_anchors(anchors, target, place.placed, self.config, draws)
            for target, place in zip(targets, batch.geometry, strict=True)
        ]
        logits, deltas = torch.cat(said.logits, dim=1), torch.cat(said.deltas, dim=1)
        return rpn_loss(logits, deltas, drawn, self.config)

    def predict(self, batch: Batch) -> list[Detections]:
        rois, logits, deltas = self.network(batch.pixels, batch.geometry, batch.proposals)
        counts = [len(each) for each in rois]
        split = zip(rois, logits.split(counts), deltas.split(counts), batch.geometry, strict=True)
        return [
            select_rois(boxes, scores, moves, place.placed, self.config)
            for boxes, scores, moves, place in split
        ]


class FasterRCNNFPNConfig(FasterRCNNConfig):
    """What torchvision's ``fasterrcnn_resnet50_fpn`` has otherwise; fidelity.md lists sources."""

    backbone: str = "resnet50"
    strides: Annotated[tuple[PositiveInt, ...], AfterValidator(_fine_to_coarse)] = (4, 8, 16, 32)
    min_size: PositiveInt = 800
    max_size: PositiveInt = 1333
    anchor_sizes: AnchorSizes = ((32.0,), (64.0,), (128.0,), (256.0,), (512.0,))  # FPN, section 4.1
    rpn_channels: PositiveInt = 256
    rpn_outputs: Literal["pair", "logit"] = "logit"
    rpn_inside: bool = False
    pre_nms_train: PositiveInt = 2000
    pre_nms_test: PositiveInt = 1000
    post_nms_test: PositiveInt = 1000
    rpn_min_side: NonNegativeFloat = 1e-3
    rpn_filter_first: bool = False
    roi: Literal["pool", "align"] = "align"
    roi_head: Literal["backbone", "mlp", "conv"] = "mlp"
    roi_samples: PositiveInt = 512
    roi_beta: PositiveFloat = 1 / 9
    nms_iou: Fraction = 0.5
    show_threshold: Fraction = 0.5


@DETECTORS.register("faster_rcnn_fpn")
class FasterRCNNFPN(FasterRCNN):
    """Faster R-CNN on a feature pyramid, with RoIAlign."""

    config_type = FasterRCNNFPNConfig
