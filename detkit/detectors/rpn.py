"""A region proposal network: which of the anchors on every cell are objects, and where exactly.

Paper: Faster R-CNN (Ren et al., NIPS 2015), https://arxiv.org/abs/1506.01497, section 3.1. Where
the authors' code says more than the paper it is followed (py-faster-rcnn); docs/fidelity.md lists
where.

Reading order: ``RPNConfig`` (the numbers), ``RPN`` (the network), ``place_anchors``,
``assign_anchors`` (which anchor answers for which object), ``rpn_loss``, ``propose`` (the regions
it suggests).
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
)
from torch import Tensor, nn

from detkit.config import Fraction
from detkit.detectors.shared_maps import RegionConfig
from detkit.ops.anchors import centred_anchors, grid_anchors, inside, published_anchors
from detkit.ops.boxes import clip_boxes
from detkit.ops.deltas import decode_deltas, encode_deltas
from detkit.ops.matching import covered_by, match_by_iou, sample
from detkit.preprocess import Geometry
from detkit.types import Boxes, Losses, Target

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


AnchorSizes = Annotated[
    tuple[tuple[PositiveFloat, ...], ...],
    BeforeValidator(_one_level),
    AfterValidator(_sizes_of_levels),
]


class RPNConfig(RegionConfig):
    """The first stage's numbers, and those of the second; defaults are the authors'."""

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


# --------------------------------------------------------------------------------- network


class RPN(nn.Module):
    """Section 3.1: on every cell of every map a score and a box for each of A anchors."""

    def __init__(self, channels: int, anchors: int, config: RPNConfig) -> None:
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


def cell_anchors(config: RPNConfig) -> list[Boxes]:
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
    config: RPNConfig,
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
    logits: Tensor, deltas: Tensor, targets: Sequence[AnchorTargets], config: RPNConfig
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
    said: FirstStage, places: Sequence[Geometry], config: RPNConfig, *, training: bool
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
    config: RPNConfig,
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
