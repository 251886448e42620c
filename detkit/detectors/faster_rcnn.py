"""Faster R-CNN: a network that proposes regions, and Fast R-CNN on what it proposes.

Paper: Faster R-CNN (Ren et al., NIPS 2015), https://arxiv.org/abs/1506.01497, section 3. The
pyramid form is Feature Pyramid Networks (Lin et al., CVPR 2017), https://arxiv.org/abs/1612.03144,
section 4, as torchvision builds it, and gives its output on its weights. docs/fidelity.md lists
where papers, sources and detkit differ.

Reading order: ``rpn.py`` (the first stage), ``fast_rcnn.py`` (the second), then here
``FasterRCNNConfig`` and ``FasterRCNN``, which joins them on the same maps.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

from detkit.config import Fraction
from detkit.detections import Detections
from detkit.detectors.base import DETECTORS, Audit, Detector, Scale, Step, audit_anchors
from detkit.detectors.fast_rcnn import RoIHead, RoITargets, report, roi_loss, sample_rois
from detkit.detectors.rpn import (
    RPN,
    AnchorSizes,
    FirstStage,
    RPNConfig,
    assign_anchors,
    cell_anchors,
    place_anchors,
    propose,
    rpn_loss,
)
from detkit.detectors.settings import Side
from detkit.detectors.shared_maps import MapStrides, build_maps, by_canvas, place_images
from detkit.layers import freeze_batch_norm, set_batch_norm_eps
from detkit.ops.boxes import xyxy_to_cxcywh
from detkit.ops.rois import in_batch
from detkit.preprocess import Batch
from detkit.types import Boxes, Losses, Target


class FasterRCNNConfig(RPNConfig):
    """Defaults are the authors' for VGG-16 on PASCAL VOC; a recipe states what it changes."""

    # what training teaches: both at once ("approximate joint training"), or one stage of four
    learns: Literal["both", "rpn", "roi"] = "both"


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
        self.backbone = build_maps(config)
        anchors = cell_anchors(config)
        for level, cell in enumerate(anchors):
            self.register_buffer(f"anchors_{level}", cell, persistent=False)
        self.rpn = RPN(self.backbone.channels[0], len(anchors[0]), config)
        self.roi_head = RoIHead(self.backbone, config)
        if config.freeze_batch_norm:  # the network's, with what it has after RoI pooling
            freeze_batch_norm(self.backbone.trunk)
        if config.batch_norm_eps is not None:
            set_batch_norm_eps(self, config.batch_norm_eps)
        if config.learns == "rpn":
            self.roi_head.requires_grad_(False)
            self.roi_head.tail.module.requires_grad_(False)
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

    def class_rows(self) -> dict[str, Tensor]:
        return self.roi_head.class_rows("roi_head", self.config.num_classes)

    def preprocess(self, images: list[Tensor], size: tuple[int, int] | None = None) -> Batch:
        return place_images(images, size, self.backbone, self.config)

    def alike(self, images: list[Tensor]) -> list[list[int]]:
        return by_canvas(images, self.config)

    @torch.no_grad()
    def propose(self, images: list[Tensor]) -> list[Boxes]:
        """``[R, 4]`` what the first stage suggests for each image, best first, in its pixels."""
        found = []
        for image in images:
            batch = self.preprocess([image])
            _, said = self.first_stage(batch)
            (boxes,) = propose(said, batch.geometry, self.config, training=False)
            found.append(batch.geometry[0].to_image(boxes))
        return found

    def network(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Maps of L levels, fine to coarse, then ``[B, N]`` logits of each, then ``[B, N, 4]``."""
        (pixels,) = inputs
        maps = self.backbone(pixels)
        logits, deltas = self.rpn(maps)
        return *maps, *logits, *deltas

    def region_network(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """``[R, K+1]`` logits and ``[R, K+1, 4]`` deltas of regions.

        Args:
            inputs: ``[R, 5]`` regions, the image's place first, canvas pixels; then the maps.
        """
        rois, *maps = inputs
        return self.roi_head(maps, rois)

    def first_stage(self, batch: Batch) -> tuple[tuple[Tensor, ...], FirstStage]:
        """The maps, and what the region proposal network says of them."""
        said, count = self.network((batch.pixels,)), len(self.config.anchor_sizes)
        maps, logits, deltas = said[:count], said[count : 2 * count], said[2 * count :]
        anchors = place_anchors(self.anchors, maps, batch.size)
        return maps, FirstStage([*logits], [*deltas], anchors)

    def outputs(self, batch: Batch) -> tuple[Tensor, ...]:
        """``[R, 5]`` regions of all images, their logits and their deltas.

        Proposals that a batch has take the place of the first stage's.
        """
        if batch.proposals is None:
            maps, said = self.first_stage(batch)
            proposals = propose(said, batch.geometry, self.config, training=False)
        else:
            maps, proposals = self.backbone(batch.pixels), [*batch.proposals]
        rois = in_batch(proposals)
        return rois, *self.region_network((rois, *maps))

    def losses(self, batch: Batch, targets: list[Target], step: Step) -> Losses:
        config, draws, losses = self.config, step.generator(), Losses()
        proposals = batch.proposals
        if config.learns == "roi" and proposals is not None:
            maps = self.backbone(batch.pixels)
        else:
            maps, said = self.first_stage(batch)
            if config.learns != "roi":
                losses |= self._first_losses(said, batch, targets, draws)
            if proposals is None:
                proposals = tuple(propose(said, batch.geometry, config, training=True))
        if config.learns != "rpn":
            drawn = [
                sample_rois(found, target, config, draws)
                for found, target in zip(proposals, targets, strict=True)
            ]
            logits, deltas = self.region_network((in_batch([each.rois for each in drawn]), *maps))
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

    def postprocess(self, outputs: tuple[Tensor, ...], batch: Batch) -> list[Detections]:
        return report(outputs, batch, self.config)


class FasterRCNNFPNConfig(FasterRCNNConfig):
    """What torchvision's ``fasterrcnn_resnet50_fpn`` has otherwise; fidelity.md lists sources."""

    backbone: str = "resnet50"
    strides: MapStrides = (4, 8, 16, 32)
    min_size: Side = 800
    max_size: Side = 1333
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
