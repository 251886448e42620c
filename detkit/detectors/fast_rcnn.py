"""Fast R-CNN: proposals cut from one feature map of the image, classified and moved into place.

Paper: Fast R-CNN (Girshick, ICCV 2015), https://arxiv.org/abs/1504.08083, section 2. Where the
authors' code says more than the paper it is followed (py-faster-rcnn); docs/fidelity.md lists
where.

Reading order: ``shared_maps.py`` (the numbers, and what comes before regions), ``RoIHead`` (RoI
pooling and what follows it), ``sample_rois`` (which regions are learned from, and what they should
say), ``roi_loss``, ``select_rois`` (boxes to show), ``FastRCNN`` (what joins them). Faster R-CNN is
this with proposals of its own: ``rpn.py`` and ``faster_rcnn.py``.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from pydantic import PositiveInt
from torch import Tensor, nn

from detkit.backbones import Backbone
from detkit.backbones.base import RoITail
from detkit.config import Fraction
from detkit.detections import Detections
from detkit.detectors.base import DETECTORS, NO_CLASS, Detector, Step, layer_rows
from detkit.detectors.shared_maps import RegionConfig, build_maps, by_canvas, place_images
from detkit.errors import ConfigError, DetkitError
from detkit.layers import freeze_batch_norm, set_batch_norm_eps, truncate_svd
from detkit.ops.boxes import clip_boxes
from detkit.ops.deltas import decode_deltas, encode_deltas
from detkit.ops.matching import covered_by, match_by_iou, sample
from detkit.ops.rois import distinct_rois, in_batch, of_images, pool_rois
from detkit.preprocess import Batch
from detkit.proposals.selective_search import ProposalConfig
from detkit.types import Boxes, Losses, Target

CONV_LAYERS = 4  # of the head "conv", torchvision's second version
CONV_WIDTH = 256
LEAST_SIDE = 1e-2  # canvas pixels: of a box that is worth a detection; torchvision's


# ------------------------------------------------------------------------------ settings


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
        _check_ranks(self.tail.module, self.ranks)
        self.scores = nn.Linear(self.tail.width, config.num_classes + 1)  # background is the last
        self.deltas = nn.Linear(self.tail.width, 4 * (config.num_classes + 1))  # one never used
        nn.init.normal_(self.scores.weight, std=0.01)  # section 2.3
        nn.init.normal_(self.deltas.weight, std=0.001)
        nn.init.zeros_(self.scores.bias)
        nn.init.zeros_(self.deltas.bias)

    def forward(self, maps: Sequence[Tensor], rois: Tensor) -> tuple[Tensor, Tensor]:
        """Map ``[R, 5]`` regions to ``[R, K+1]`` logits and ``[R, K+1, 4]`` deltas.

        Args:
            maps: the backbone's, fine to coarse.
            rois: the image's place in the batch, then the region in canvas pixels.
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

    def class_rows(self, name: str, num_classes: int) -> dict[str, Tensor]:
        """For ``Detector.class_rows``: rows of scores and, four by four, of deltas.

        Args:
            name: of this module in its detector.
        """
        labels = torch.tensor([*range(num_classes), NO_CLASS])  # background is the last
        deltas = labels.repeat_interleave(4)
        return layer_rows(f"{name}.scores", labels) | layer_rows(f"{name}.deltas", deltas)

    def train(self, mode: bool = True) -> RoIHead:
        """Set training mode; what was shortened is made anew, since the weights may change."""
        self.short = None
        super().train(mode)
        return self

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> RoIHead:
        self.short = None  # it would stay on the old device
        super()._apply(fn, recurse)
        return self


def _check_ranks(layers: nn.Module, ranks: Sequence[int]) -> None:
    """Refuse ranks that have no layer, or would not make theirs cheaper; section 3.1."""
    whole = [layer for layer in layers.modules() if isinstance(layer, nn.Linear)]
    if len(ranks) > len(whole):
        raise ConfigError(
            f"model.svd_ranks: {len(ranks)} numbers for {len(whole)} fully connected "
            f"layer{'' if len(whole) == 1 else 's'} after RoI pooling; give so many at most."
        )
    for rank, layer in zip(ranks, whole, strict=False):  # ranks may end early
        most = (layer.weight.numel() - 1) // (layer.in_features + layer.out_features)
        if rank > most:
            raise ConfigError(
                f"model.svd_ranks: {rank} makes a layer from {layer.in_features} to "
                f"{layer.out_features} no cheaper; take {most} or less."
            )


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
    return Detections(boxes[keep], found[keep], labels[keep], rows=rows[large][keep])


def report(outputs: tuple[Tensor, ...], batch: Batch, config: RegionConfig) -> list[Detections]:
    """:func:`select_rois` for each image of a batch.

    Args:
        outputs: of all images ``[R, 5]`` regions, ``[R, K+1]`` logits and ``[R, K+1, 4]`` deltas.
        batch: where the images lie.
        config: thresholds.
    """
    rois, logits, deltas = outputs
    regions_of = of_images(rois, len(batch.geometry))
    counts = [len(each) for each in regions_of]
    split = zip(regions_of, logits.split(counts), deltas.split(counts), batch.geometry, strict=True)
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

    def class_rows(self) -> dict[str, Tensor]:
        return self.roi_head.class_rows("roi_head", self.config.num_classes)

    def preprocess(self, images: list[Tensor], size: tuple[int, int] | None = None) -> Batch:
        return place_images(images, size, self.backbone, self.config)

    def alike(self, images: list[Tensor]) -> list[list[int]]:
        return by_canvas(images, self.config)

    def full_batch(self, size: tuple[int, int]) -> Batch:
        """With as many proposals as there may be, each the whole canvas: what a full list costs."""
        batch = super().full_batch(size)
        whole = batch.pixels.new_tensor([[0.0, 0.0, size[1], size[0]]])
        return batch.with_proposals([whole.expand(self.config.proposals.most, 4)])

    def network(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        (pixels,) = inputs
        return tuple(self.backbone(pixels))  # maps, fine to coarse

    def region_network(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """``[R, K+1]`` logits and ``[R, K+1, 4]`` deltas of regions.

        Args:
            inputs: ``[R, 5]`` regions, the image's place first, canvas pixels; then the maps.
        """
        rois, *maps = inputs
        return self.roi_head(maps, rois)

    def outputs(self, batch: Batch) -> tuple[Tensor, ...]:
        """``[R, 5]`` regions of all images, their logits and their deltas."""
        maps = self.network((batch.pixels,))
        given = regions(batch)
        rois = in_batch(given)
        if self.config.roi != "pool" or self.config.is_pyramid:
            return rois, *self.region_network((rois, *maps))
        distinct = [distinct_rois(each, self.config.strides[0]) for each in given]
        some = in_batch([boxes for boxes, _ in distinct])
        starts = itertools.accumulate([0] + [len(boxes) for boxes, _ in distinct[:-1]])
        rows = torch.cat([start + who for start, (_, who) in zip(starts, distinct, strict=True)])
        logits, deltas = self.region_network((some, *maps))
        return rois, logits[rows], deltas[rows]

    def losses(self, batch: Batch, targets: list[Target], step: Step) -> Losses:
        found, draws = regions(batch), step.generator()
        drawn = [
            sample_rois(rois, target, self.config, draws)
            for rois, target in zip(found, targets, strict=True)
        ]
        maps = self.network((batch.pixels,))
        logits, deltas = self.region_network((in_batch([each.rois for each in drawn]), *maps))
        every = RoITargets(*map(torch.cat, zip(*drawn, strict=True)))
        return roi_loss(logits, deltas, every, self.config)

    def postprocess(self, outputs: tuple[Tensor, ...], batch: Batch) -> list[Detections]:
        return report(outputs, batch, self.config)


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
