"""Fast R-CNN's second stage: regions cut from a feature map, classified and moved into place.

Paper: Fast R-CNN (Girshick, ICCV 2015), https://arxiv.org/abs/1504.08083, section 2. Where the
authors' code says more than the paper it is followed (py-faster-rcnn); docs/fidelity.md lists
where.

Reading order: ``RoIConfig`` (the numbers), ``RoIHead`` (the network after RoI pooling),
``sample_rois`` (which regions are learned from, and what they should say), ``roi_loss``,
``select_rois`` (boxes to show).

Faster R-CNN is this with proposals of its own: ``faster_rcnn.py``.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn

from detkit.config import Config, Fraction
from detkit.ops.boxes import clip_boxes
from detkit.ops.deltas import decode_deltas, encode_deltas
from detkit.ops.matching import covered_by, match_by_iou, sample
from detkit.types import Boxes, Detections, Losses, Target

CONV_LAYERS = 4  # of the head "conv", torchvision's second version
CONV_WIDTH = 256
LEAST_SIDE = 1e-2  # canvas pixels: of a box that is worth a detection; torchvision's


# ------------------------------------------------------------------------------ settings


class RoIConfig(Config):
    """The second stage's numbers; defaults are those of Faster R-CNN's authors."""

    num_classes: PositiveInt
    roi: Literal["pool", "align"] = "pool"  # section 2.1; align is Mask R-CNN's
    # what follows: the backbone's own layers; two fully connected ones; four 3x3 and one of those
    roi_head: Literal["backbone", "mlp", "conv"] = "backbone"
    roi_size: PositiveInt = 7  # of the pooled map, where roi_head is not the backbone's
    head_width: PositiveInt = 1024  # likewise, of the fully connected layers
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


# ------------------------------------------------------------------------------- network


def roi_layers(config: RoIConfig, channels: int) -> nn.Sequential:
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
    """Two sibling layers on the vector of each region: its class, and for each class its box."""

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        self.scores = nn.Linear(width, num_classes + 1)  # background is the last
        self.deltas = nn.Linear(width, 4 * (num_classes + 1))  # background's are never used
        nn.init.normal_(self.scores.weight, std=0.01)  # section 2.3
        nn.init.normal_(self.deltas.weight, std=0.001)
        nn.init.zeros_(self.scores.bias)
        nn.init.zeros_(self.deltas.bias)

    def forward(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Map ``[R, width]`` to ``[R, K+1]`` logits and ``[R, K+1, 4]`` deltas."""
        return self.scores(vectors), self.deltas(vectors).unflatten(1, (-1, 4))


class FrozenBatchNorm(nn.BatchNorm2d):
    """Batch norm that stays as it was loaded, in training too.

    A factor and a summand of each channel, computed as torchvision's ``FrozenBatchNorm2d`` does:
    PyTorch's batch norm rounds otherwise, and a deep network makes 1e-3 of a score out of that.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, eps: float) -> None:
        super().__init__(channels, eps)
        self.requires_grad_(False)

    def forward(self, input: Tensor) -> Tensor:
        """Map ``[B, C, H, W]`` to the same shape."""
        scale = (self.weight * (self.running_var + self.eps).rsqrt()).view(1, -1, 1, 1)
        shift = self.bias.view(1, -1, 1, 1) - self.running_mean.view(1, -1, 1, 1) * scale
        return (input * scale).add_(shift).to(input.dtype)


def freeze_batch_norm(module: nn.Module) -> None:
    """Put a :class:`FrozenBatchNorm` in the place of every batch norm in a module."""
    for part in [*module.modules()]:
        for name, norm in part.named_children():
            if type(norm) is nn.BatchNorm2d:
                frozen = FrozenBatchNorm(norm.num_features, norm.eps)
                frozen.load_state_dict(norm.state_dict())
                setattr(part, name, frozen)


def set_batch_norm_eps(module: nn.Module, eps: float) -> None:
    """What every batch norm adds to its variances."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.eps = eps


# -------------------------------------------------------------------------------- targets


class RoITargets(NamedTuple):
    """Regions of one image that are learned from, and what they should say."""

    rois: Boxes  # [R, 4] canvas pixels, the positive ones first
    labels: Tensor  # [R] int64; K is background
    gt_boxes: Boxes  # [R, 4] the object of each; of background something that is not used


@torch.no_grad()
def sample_rois(
    proposals: Boxes, target: Target, config: RoIConfig, generator: torch.Generator
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


def roi_loss(logits: Tensor, deltas: Tensor, targets: RoITargets, config: RoIConfig) -> Losses:
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
    rois: Boxes, logits: Tensor, deltas: Tensor, size: tuple[int, int], config: RoIConfig
) -> Detections:
    """What one image should report: each region once for every class that it scores for.

    Args:
        rois: ``[R, 4]`` canvas pixels.
        logits: ``[R, K+1]``.
        deltas: ``[R, K+1, 4]``.
        size: (height, width) of the image on the canvas.
        config: thresholds.

    Paper:
        Fast R-CNN, section 2.4.
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
