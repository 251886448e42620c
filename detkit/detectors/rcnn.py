"""R-CNN: regions that may hold an object, each warped, looked at by a network, and classified.

Paper: Rich feature hierarchies for accurate object detection and semantic segmentation (Girshick et
al., CVPR 2014), https://arxiv.org/abs/1311.2524. Where the authors' code says more than the paper
it is followed; docs/fidelity.md lists where.

Reading order: ``RCNNConfig`` (the numbers), ``crop_windows`` in ``rcnn_crops.py`` (a region as the
network sees it), ``sample_windows`` and ``rcnn_loss`` (fine-tuning), ``select_windows`` (what is
reported), ``RCNN`` (what joins them). The SVMs and box regressions that are fitted afterwards, to
the network's features: ``rcnn_stages.py``; who fits them: ``engine/rcnn_stages.py``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import NonNegativeInt, PositiveInt, model_validator
from torch import Tensor, nn

from detkit.backbones import BACKBONES
from detkit.backbones.base import ROI_STRIDE, RoITail
from detkit.config import Config, Fraction
from detkit.detections import Detections
from detkit.detectors.base import DETECTORS, NO_CLASS, Detector, Passes, Step, layer_rows
from detkit.detectors.rcnn_crops import crop_windows, side_by_side
from detkit.detectors.rcnn_stages import BoxConfig, SVMConfig
from detkit.detectors.settings import LogScale, Side
from detkit.ops.boxes import clip_boxes
from detkit.ops.deltas import decode_deltas
from detkit.ops.matching import match_by_iou, sample
from detkit.ops.nms import nms_per_class
from detkit.preprocess import Batch, Geometry
from detkit.proposals.selective_search import ProposalConfig
from detkit.types import Boxes, Losses, Target, make_target

CROPS_AT_ONCE = 256  # in detection: a few hundred MiB of activations, whatever the proposals
SHOWN_CROPS = 16  # of objects, and of backgrounds, in the picture of the first batch
CLASSIFIER_STD = 0.01  # of its first weights; the code's fine-tuning definition

Scores = Literal["softmax", "svm"]


# ------------------------------------------------------------------------------ settings


class RCNNConfig(Config):
    """Defaults are the authors' for AlexNet on PASCAL VOC; a recipe states what it changes."""

    num_classes: PositiveInt
    backbone: str = "alexnet"  # any registered backbone
    backbone_weights: str = "none"  # "imagenet" or a path; applied by training, after building
    # what follows the maps: the backbone's own fully connected layers, or a new one
    head: Literal["backbone", "fc"] = "backbone"
    head_size: PositiveInt = 3  # side of the pooled map, where head is fc
    head_width: PositiveInt = 1024  # likewise, of the layer
    warp_size: Side = 227  # pixels of a crop, section 2.1; 224 for VGG-16
    context_padding: NonNegativeInt = 16  # of them, around the region; appendix A
    proposals: ProposalConfig = ProposalConfig()  # section 2.1

    windows: PositiveInt = 128  # a step, over the images of a batch; section 2.3
    positive_share: Fraction = 0.25  # likewise
    positive_iou: Fraction = 0.5  # likewise; the rest is background
    svm: SVMConfig = SVMConfig()
    boxes: BoxConfig = BoxConfig()

    # what detects; training with train.fit_svm sets them when it has fitted the rest
    scores: Scores = "softmax"
    regress: bool = False

    max_per_class: PositiveInt = 100  # windows of an image before suppression (the code)
    # an SVM's margin m is reported as sigmoid(m): 0.5 where it says yes, in the same order
    score_threshold: Fraction = 0.0  # the code keeps the best, whatever their scores
    show_threshold: Fraction = 0.5  # what `detect` uses unless told
    nms_iou: Fraction = 0.3  # the code
    max_log_scale: LogScale = math.log(1000 / 16)  # a window grows at most so much; Detectron

    @model_validator(mode="after")
    def _head_and_padding_fit(self) -> RCNNConfig:
        known = [name for name in BACKBONES if BACKBONES[name].has_roi_tail]
        if self.head == "backbone" and self.backbone in BACKBONES and self.backbone not in known:
            raise ValueError(
                f"head: backbone {self.backbone!r} has no layers for pooled regions "
                f"({', '.join(known)} have); take fc."
            )
        if 2 * self.context_padding >= self.warp_size:
            raise ValueError(
                f"context_padding: {self.context_padding} pixels on either side leave nothing of "
                f"a crop of {self.warp_size}; take less than half of it."
            )
        return self


# --------------------------------------------------------------------------- fine-tuning


class Windows(NamedTuple):
    """Regions of one image that are learned from, and their classes."""

    boxes: Boxes  # [R, 4] canvas pixels
    labels: Tensor  # [R] int64; K is background


@torch.no_grad()
def sample_windows(
    proposals: Sequence[Boxes],
    targets: Sequence[Target],
    config: RCNNConfig,
    generator: torch.Generator,
    share: float = 1.0,
) -> list[Windows]:
    """Draw the windows of a step from those of all its images, a quarter of them objects.

    The objects themselves are among the windows. Where there are too few positives, backgrounds
    take their places; where there are too few of those, there are fewer windows.

    Args:
        proposals: ``[R, 4]`` an image, canvas pixels.
        targets: one an image, canvas pixels.
        config: thresholds and numbers.
        generator: of the draw.
        share: of the step's images that these are; so large is their share of its windows.

    Returns:
        One entry an image.

    Paper:
        Section 2.3, "Domain-specific fine-tuning".
    """
    boxes = [torch.cat([p, t.boxes]) for p, t in zip(proposals, targets, strict=True)]
    labels, ious = [], []
    for each, target in zip(boxes, targets, strict=True):
        matches = match_by_iou(each, target.boxes)
        classes = target.labels[matches.objects] if len(target) else matches.objects
        positive = matches.ious >= config.positive_iou
        labels.append(classes.where(positive, config.num_classes))
        ious.append(matches.ious)
    pos = torch.cat(ious) >= config.positive_iou
    count = max(1, round(config.windows * share))
    drawn = sample(pos, ~pos, count, config.positive_share, generator)
    chosen = torch.zeros_like(pos)
    chosen[torch.cat([drawn.pos, drawn.neg])] = True
    split = chosen.split([len(each) for each in boxes])
    return [Windows(b[c], n[c]) for b, n, c in zip(boxes, labels, split, strict=True)]


def rcnn_loss(logits: Tensor, labels: Tensor) -> Losses:
    """Softmax over the classes and background, averaged over the windows.

    Args:
        logits: ``[R, K+1]``.
        labels: ``[R]`` int64, K being background.

    Returns:
        ``loss_class``, a scalar; 0 where there are no windows.
    """
    total = F.cross_entropy(logits, labels, reduction="sum")
    return {"loss_class": total / max(len(labels), 1)}


# ----------------------------------------------------------------------------- detection


class Regions(NamedTuple):
    """What the network says of R regions."""

    pool5: Tensor  # [R, C*s*s] the last map, pooled; box regression's features
    fc7: Tensor  # [R, D] the SVMs' features
    logits: Tensor  # [R, K+1] the softmax's; background is the last


class Way(NamedTuple):
    """How detections are made of what the network says."""

    scores: Scores
    regress: bool


def select_windows(
    windows: Boxes,
    scores: Tensor,
    deltas: Tensor | None,
    size: tuple[int, int],
    config: RCNNConfig,
) -> Detections:
    """What one image reports: each class's best windows, moved, then suppressed.

    Args:
        windows: ``[R, 4]`` canvas pixels.
        scores: ``[R, K]``.
        deltas: ``[R, K, 4]``, or None: windows stay where they are.
        size: (height, width) of the image on the canvas.
        config: thresholds.

    Source:
        ``rcnn_test.m`` and ``rcnn_test_bbox_regressor.m``.
    """
    best = scores.argsort(dim=0, descending=True, stable=True)[: config.max_per_class]  # [n, K]
    labels = torch.arange(scores.shape[1], device=scores.device).expand_as(best).flatten()
    rows = best.flatten()
    above = scores[rows, labels] > config.score_threshold
    rows, labels = rows[above], labels[above]
    boxes = windows[rows]
    if deltas is not None:
        boxes = decode_deltas(boxes, deltas[rows, labels], max_log_scale=config.max_log_scale)
    boxes = clip_boxes(boxes, size)
    solid = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)  # a box may be moved out of the image
    boxes, rows, labels = boxes[solid], rows[solid], labels[solid]
    found = scores[rows, labels]
    keep = nms_per_class(boxes, found, labels, config.nms_iou)
    return Detections(boxes[keep], found[keep], labels[keep], rows=rows[keep])


@DETECTORS.register("rcnn")
class RCNN(Detector):
    """Regions with CNN features; figure 1."""

    config_type = RCNNConfig
    needs_proposals = True
    size_key = "warp_size"  # of what the network sees; a canvas has its images' size
    config: RCNNConfig
    svm_weights: Tensor  # [K, D] all zeros until they are fitted, like the rest
    svm_biases: Tensor  # [K]
    svm_scale: Tensor  # of fc7, so that a vector is 20 long in the mean
    box_weights: Tensor  # [K, D5+1, 4] from pool5 and a 1 to deltas
    box_scale: Tensor  # of pool5

    def __init__(self, config: RCNNConfig) -> None:
        super().__init__()
        self.config = config
        entry, classes = BACKBONES[config.backbone], config.num_classes
        if config.head == "backbone":
            self.backbone = entry.build((ROI_STRIDE,))
            self.tail = self.backbone.roi_tail()  # a record: the layers are the backbone's
            length = self.backbone.channels[-1] * self.tail.size**2
        else:
            self.backbone = entry.build(entry.strides[-1:])
            length = self.backbone.channels[-1] * config.head_size**2
            self.fc = nn.Sequential(nn.Flatten(), nn.Linear(length, config.head_width), nn.ReLU())
            self.tail = RoITail(self.fc, config.head_size, config.head_width)
        self.classifier = nn.Linear(self.tail.width, classes + 1)
        nn.init.normal_(self.classifier.weight, std=CLASSIFIER_STD)
        nn.init.zeros_(self.classifier.bias)
        self.register_buffer("svm_weights", torch.zeros(classes, self.tail.width))
        self.register_buffer("svm_biases", torch.zeros(classes))
        self.register_buffer("svm_scale", torch.zeros(()))
        self.register_buffer("box_weights", torch.zeros(classes, length + 1, 4))
        self.register_buffer("box_scale", torch.zeros(()))

    @property
    def way(self) -> Way:
        """How the config has detections made."""
        return Way(self.config.scores, self.config.regress)

    def find_proposals(self, images: list[Tensor]) -> list[Boxes]:
        return [self.config.proposals.find(image) for image in images]

    def shown(self, batch: Batch, targets: list[Target], step: Step) -> list[tuple[Tensor, Target]]:
        """Some of the step's crops, objects and backgrounds; the box is the region in its crop."""
        padding, side = self.config.context_padding, self.config.warp_size
        region = batch.pixels.new_tensor([[padding, padding, side - padding, side - padding]])
        drawn = self.draw(batch, targets, step)
        crops = self.crops(batch.pixels, batch.geometry, [each.boxes for each in drawn])
        labels = torch.cat([each.labels for each in drawn])
        is_object = labels < self.config.num_classes
        objects = is_object.nonzero()[:SHOWN_CROPS, 0]
        backgrounds = (~is_object).nonzero()[:SHOWN_CROPS, 0]
        nothing = make_target(region[:0], labels[:0])
        return [
            *((crops[row], make_target(region, labels[row, None])) for row in objects),
            *((crops[row], nothing) for row in backgrounds),
        ]

    def passes(self) -> Passes:
        """One crop a proposal."""
        return Passes((self.config.warp_size,) * 2, self.config.proposals.most)

    def class_rows(self) -> dict[str, Tensor]:
        labels = torch.arange(self.config.num_classes)
        with_background = torch.cat([labels, torch.tensor([NO_CLASS])])
        fitted = dict.fromkeys(("svm_weights", "svm_biases", "box_weights"), labels)
        return layer_rows("classifier", with_background) | fitted

    def preprocess(self, images: list[Tensor], size: tuple[int, int] | None = None) -> Batch:
        images = [image.to(self.svm_scale.device, non_blocking=True) for image in images]
        return side_by_side(images, size or (1, 1), self.backbone.mean, self.backbone.std)

    def alike(self, images: list[Tensor]) -> list[list[int]]:
        """Each by itself: what is said of the regions of one image is 100 MB already."""
        return [[row] for row in range(len(images))]

    def network(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """``Regions`` of ``[R, 3, S, S]`` crops."""
        (crops,) = inputs
        maps = self.backbone.crop_map(crops)
        pool5 = F.adaptive_max_pool2d(maps, self.tail.size)  # of 227 pixels AlexNet's own pool5
        fc7 = self.tail.module(pool5)
        return Regions(pool5.flatten(1).float(), fc7.float(), self.classifier(fc7).float())

    def outputs(self, batch: Batch) -> tuple[Tensor, ...]:
        """``Regions`` of the windows of all images, one image after another."""
        every = zip(batch.pixels, batch.geometry, _given(batch), strict=True)
        return _joined([self.look(image, place, windows) for image, place, windows in every])

    def crops(self, pixels: Tensor, places: Sequence[Geometry], windows: Sequence[Boxes]) -> Tensor:
        """``[all R, 3, S, S]`` the windows of all images, one image after another."""
        size, padding = self.config.warp_size, self.config.context_padding
        every = zip(pixels, places, windows, strict=True)
        return torch.cat(
            [
                crop_windows(image[:, : place.placed[0], : place.placed[1]], boxes, size, padding)
                for image, place, boxes in every
            ]
        )

    def draw(self, batch: Batch, targets: list[Target], step: Step) -> list[Windows]:
        """The windows that a step learns from, an entry an image."""
        proposals = [
            boxes if len(boxes) or len(target) else whole(place, batch.pixels)
            for boxes, target, place in zip(_given(batch), targets, batch.geometry, strict=True)
        ]
        return sample_windows(proposals, targets, self.config, step.generator(), step.share)

    def losses(self, batch: Batch, targets: list[Target], step: Step) -> Losses:
        drawn = self.draw(batch, targets, step)
        windows = [each.boxes for each in drawn]
        *_, logits = self.network((self.crops(batch.pixels, batch.geometry, windows),))
        return rcnn_loss(logits, torch.cat([each.labels for each in drawn]))

    def look(self, image: Tensor, place: Geometry, windows: Boxes) -> Regions:
        """What the network says of ``[R, 4]`` windows of one image, a few hundred at a time.

        Args:
            image: ``[3, H, W]`` of a batch.
            place: how it lies on the canvas.
            windows: canvas pixels.
        """
        parts = [
            self.network((self.crops(image[None], [place], [some]),))
            for some in windows.split(CROPS_AT_ONCE)
        ]
        return _joined(parts)

    def report(self, said: Regions, windows: Boxes, size: tuple[int, int], way: Way) -> Detections:
        """Detections of one image, in the way asked for.

        Args:
            said: of its R windows.
            windows: ``[R, 4]`` canvas pixels.
            size: (height, width) of the image on the canvas.
            way: the scores, and whether boxes are moved.
        """
        with torch.autocast(said.fc7.device.type, enabled=False):  # margins are fine differences
            if way.scores == "svm":
                margins = (said.fc7 * self.svm_scale) @ self.svm_weights.T + self.svm_biases
                scores = margins.sigmoid()  # [R, K]
            else:
                scores = said.logits.softmax(dim=1)[:, :-1]
            deltas = None
            if way.regress:
                ones = said.pool5.new_ones(len(windows), 1)
                features = torch.cat([said.pool5 * self.box_scale, ones], dim=1)
                deltas = torch.einsum("rd,kdc->rkc", features, self.box_weights)
        return select_windows(windows, scores, deltas, size, self.config)

    def postprocess(self, outputs: tuple[Tensor, ...], batch: Batch) -> list[Detections]:
        windows = _given(batch)
        parts = zip(*(each.split([*map(len, windows)]) for each in outputs), strict=True)
        every = zip(parts, windows, batch.geometry, strict=True)
        return [
            self.report(Regions(*said), boxes, place.placed, self.way)
            for said, boxes, place in every
        ]


def _joined(parts: Sequence[tuple[Tensor, ...]]) -> Regions:
    return Regions(*map(torch.cat, zip(*parts, strict=True)))


def _given(batch: Batch) -> Sequence[Boxes]:
    """The proposals of each image; where a batch has none, each image is one region."""
    if batch.proposals is None:
        return [whole(place, batch.pixels) for place in batch.geometry]
    return batch.proposals


def whole(place: Geometry, like: Tensor) -> Boxes:
    """``[1, 4]`` the box of a whole image on its canvas."""
    height, width = place.placed
    return like.new_tensor([[0, 0, width, height]])
