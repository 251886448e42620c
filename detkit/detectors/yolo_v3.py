"""YOLOv3: a residual trunk, three scales, anchors shared out among them, independent classes.

Paper: YOLOv3: An Incremental Improvement (Redmon and Farhadi, 2018),
https://arxiv.org/abs/1804.02767, section 2. Where the authors' code says more than the paper, or
something else, the code is followed (darknet, ``yolo_layer.c``); docs/fidelity.md lists where.

Reading order: ``YoloV3Config`` (the numbers), ``YoloV3Head`` (the network), ``decode_cells`` in
``ops/grid.py`` (what its outputs mean), ``assign`` (which output answers for which object),
``yolo_v3_loss``, ``decode`` and ``select`` (boxes to show), ``YoloV3`` (what joins them).

Spaces: *canvas* pixels are those of the network's input; *cells* are canvas pixels over the stride
of a scale. Scales stand coarse to fine, as in the authors' files; strides fine to coarse, as in
every backbone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt
from torch import Tensor, nn

from detkit.backbones import BACKBONES
from detkit.config import Config, Fraction
from detkit.detections import Detections
from detkit.detectors.base import (
    DETECTORS,
    Audit,
    Detector,
    Location,
    Step,
    anchored_rows,
    audit_anchors,
    layer_rows,
    locate_on_scales,
)
from detkit.detectors.settings import (
    AnchorMasks,
    Anchors,
    CanvasSize,
    ClassWeights,
    PerScale,
    Placement,
    Strides,
    above_zero,
    draw_size,
    room_after,
    whole_cells,
)
from detkit.layers import SPP_POOLS, ConvBN, SpatialPyramid
from detkit.ops.boxes import cxcywh_to_xyxy, size_iou, xyxy_to_cxcywh
from detkit.ops.grid import (
    best_iou_with_objects,
    claim_anchors,
    class_factors,
    decode_cells,
    image_of_object,
    last_claim,
    overlap_loss,
    own_cell,
)
from detkit.ops.nms import select_per_class
from detkit.preprocess import Batch, letterbox, stretch
from detkit.types import Boxes, Losses, Target

SPP_AFTER = 3  # convolutions of the coarsest scale come before the pyramid (yolov3-spp.cfg)

# ------------------------------------------------------------------------------ settings


class YoloV3Config(Config):
    """Defaults are the authors' for COCO at one size; a recipe states what it changes.

    ``strides`` run fine to coarse, as in every backbone. What has one entry a scale,
    ``anchor_masks``, ``head_channels`` and ``head_convs``, runs coarse to fine, as the layers of
    the authors' files do: the first of it belongs to the last stride.
    """

    num_classes: PositiveInt
    backbone: str = "darknet53"  # section 2.4; any registered backbone with the strides
    backbone_weights: str = "none"  # "imagenet" or a path; applied by training, after building
    strides: Strides = (8, 16, 32)  # one a scale, fine to coarse; section 2.3
    input_size: Annotated[CanvasSize, whole_cells] = (416, 416)  # (height, width)
    # images on the canvas: their shape kept, on grey; or stretched to fill it, as the programs of
    # AlexeyAB and hank-ai do unless a config says letter_box=1
    placement: Placement = "letterbox"
    # multi-scale training; empty: input_size
    train_sizes: Annotated[tuple[CanvasSize, ...], whole_cells] = ()
    train_size_every: PositiveInt = 10  # batches between two draws (the code)
    train_size_last: NonNegativeInt = 200  # iterations at the largest size, at the end (the code)
    anchors: Annotated[Anchors, above_zero("canvas pixels")] = (  # section 2.3
        *((10, 13), (16, 30), (33, 23)),
        *((30, 61), (62, 45), (59, 119)),
        *((116, 90), (156, 198), (373, 326)),
    )
    # indices of the anchors of each scale, coarse to fine; empty: even shares, of which the
    # coarsest scale has the largest (as the code's masks share out its anchors)
    anchor_masks: AnchorMasks = Field((), validate_default=True)
    head_channels: PerScale = (512, 256, 128)  # of the 1x1s, coarse to fine
    head_convs: PerScale = (6, 6, 6)  # before the output of each scale; coarse to fine
    # spatial pyramid pooling on the coarsest scale (yolov3-spp.cfg)
    spp: Annotated[bool, room_after(SPP_AFTER)] = False
    ignore_iou: Fraction = 0.7  # above it a prediction is not pushed to "no object"; paper: 0.5
    class_weights: ClassWeights = ()  # K factors of the class loss; empty: 1 each (the code)
    score_threshold: Fraction = 0.005  # the authors' evaluation
    show_threshold: Fraction = 0.5  # the authors' demo; what `detect` uses unless told
    nms_iou: Fraction = 0.45  # the authors' evaluation
    # Not the authors', for recipes that say so in their names:
    box_loss: Literal["squared", "giou", "ciou"] = "squared"  # or 1 - that IoU of the boxes
    box_scale: NonNegativeFloat = 1.0  # its weight then, in the place of 2 - w * h
    positive_iou: Fraction | None = None  # anchors that fit an object this well answer for it, too


def stride_of_scale(config: YoloV3Config, scale: int) -> int:
    """Canvas pixels a cell of scale number ``scale``, coarse to fine."""
    return config.strides[-1 - scale]


# ------------------------------------------------------------------------------- network


class ScaleHead(nn.Module):
    """What one scale adds: its way in from the scale before, its convolutions, its output.

    Parameters are created in the order of the authors' weight files.
    """

    def __init__(
        self, route_channels: int, trunk_channels: int, scale: int, config: YoloV3Config
    ) -> None:
        """Build scale number ``scale``, coarse to fine.

        Args:
            route_channels: channels that leave the scale before it; 0 for the first.
            trunk_channels: of the backbone's map.
        """
        super().__init__()
        width, convs = config.head_channels[scale], config.head_convs[scale]
        self.lateral: nn.Module | None = None
        channels = trunk_channels
        if scale > 0:
            self.lateral = ConvBN(route_channels, width, 1)
            self.up = stride_of_scale(config, scale - 1) // stride_of_scale(config, scale)
            channels += width
        self.body = nn.Sequential()  # all but the last convolution
        for index in range(convs - 1):
            # 1x1 and 3x3 take turns so that the last one, below, is a 3x3
            kernel, out = (1, width) if (convs - index) % 2 == 0 else (3, 2 * width)
            self.body.append(ConvBN(channels, out, kernel))
            channels = out
            if config.spp and scale == 0 and index + 1 == SPP_AFTER:
                self.body.append(SpatialPyramid())
                self.body.append(ConvBN((len(SPP_POOLS) + 1) * channels, width, 1))
                channels = width
        self.route_channels = channels
        self.last = ConvBN(channels, 2 * width, 3)
        self.num_anchors = len(config.anchor_masks[scale])
        self.out = nn.Conv2d(2 * width, self.num_anchors * (5 + config.num_classes), 1)
        nn.init.normal_(self.out.weight, std=(2 / (2 * width)) ** 0.5)  # darknet's
        nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]

    def forward(self, trunk: Tensor, route: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return this scale's raw outputs and what the next scale goes on from.

        Args:
            trunk: ``[B, C, H, W]`` of the backbone.
            route: ``[B, D, h, w]`` from the coarser scale, None for the first.

        Returns:
            ``[B, A, H, W, 5+K]`` and ``[B, E, H, W]``.
        """
        joined = trunk
        if self.lateral is not None and route is not None:
            up = F.interpolate(self.lateral(route), scale_factor=self.up, mode="nearest")
            joined = torch.cat([up, trunk], dim=1)
        route = self.body(joined)
        out = self.out(self.last(route))  # [B, A * (5+K), H, W]
        batch, _, height, width = out.shape
        raw = out.view(batch, self.num_anchors, -1, height, width)  # [B, A, 5+K, H, W]
        return raw.permute(0, 1, 3, 4, 2), route


class YoloV3Head(nn.Module):
    """Section 2.3, "Predictions Across Scales": coarse to fine, each scale sees the one before."""

    def __init__(self, channels: tuple[int, ...], config: YoloV3Config) -> None:
        super().__init__()
        self.scales = nn.ModuleList()
        route_channels = 0
        for scale, trunk_channels in enumerate(reversed(channels)):
            head = ScaleHead(route_channels, trunk_channels, scale, config)
            route_channels = head.route_channels
            self.scales.append(head)

    def forward(self, maps: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Map the backbone's maps, fine to coarse, to ``[B, A_i, H_i, W_i, 5+K]``, coarse first."""
        route: Tensor | None = None
        raw = []
        for scale, trunk in zip(self.scales, reversed(maps), strict=True):
            out, route = scale(trunk, route)
            raw.append(out)
        return tuple(raw)


# ---------------------------------------------------------------------------- assignment


@dataclass(frozen=True, slots=True, eq=False)
class Owners:
    """Which predictions of one scale answer for which objects. Nothing here carries a gradient.

    A row is a claim of an object on a prediction. Claims on other scales have rows here as well,
    which do not stay: a mask instead of an index, so that nothing waits for the GPU.
    """

    objects: Tensor  # [N] int64, the object of each claim; N is M unless positive_iou is set
    slots: Tensor  # [N] int64, index of the owner among the B*A_i*H*W predictions of the scale
    stays: Tensor  # [N] float, 0 where it is another scale's or another claim took the slot, else 1
    anchors: Tensor  # [N, 2] (pw, ph) of the owner, cells
    gt_places: Tensor  # [N, 4] (x in its cell, y in its cell, log w/pw, log h/ph)
    weights: Tensor  # [N] 2 - w * h, as fractions of the canvas: small boxes count double
    labels: Tensor  # [N] int64
    gt_classes: Tensor  # [N, K] float, 1 for the label of every object that claims the slot
    owned: Tensor  # [B*A_i*H*W] float, 1 where a prediction owns an object
    ignore: Tensor  # [B*A_i*H*W] float, 1 where it overlaps one too well to be called empty


@torch.no_grad()
def assign(
    raw: tuple[Tensor, ...], targets: list[Target], anchors: Tensor, config: YoloV3Config
) -> tuple[Owners, ...]:
    """Give every object to one prediction: of all anchors the nearest in shape, its centre's cell.

    Only the scale that has that anchor answers; the others learn nothing from the object, nor are
    they excused: every prediction of any scale is pushed to "no object", but for the owners and
    for those that overlap some object by more than ``ignore_iou``. Of two objects with the same
    prediction the later one has its box; it is taught the classes of both.

    With ``positive_iou`` other anchors that fit an object answer for it as well, on their scales,
    where they are free.

    Args:
        raw: ``[B, A_i, H_i, W_i, 5+K]`` network outputs, coarse to fine.
        targets: one an image, boxes in canvas pixels.
        anchors: ``[A, 2]`` in canvas pixels.

    Returns:
        One :class:`Owners` a scale, coarse to fine.

    Source:
        darknet, ``yolo_layer.c: forward_yolo_layer``.
    """
    sizes = torch.cat([xyxy_to_cxcywh(target.boxes)[:, 2:] for target in targets])  # [M, 2]
    claims = claim_anchors(size_iou(sizes, anchors), config.positive_iou)
    return tuple(
        assign_scale(outputs, targets, claims, anchors, scale, config)
        for scale, outputs in enumerate(raw)
    )


def assign_scale(
    raw: Tensor,
    targets: list[Target],
    claims: tuple[Tensor, Tensor],
    anchors: Tensor,
    scale: int,
    config: YoloV3Config,
) -> Owners:
    """What :func:`assign` does on one scale, ``[B, A_i, H, W, 5+K]``.

    Args:
        claims: ``[N]`` objects and ``[N]`` anchors, of all scales.
    """
    num_anchors, height, width = raw.shape[1:4]
    predictions = raw[..., 0].numel()
    own = anchors_of_scale(anchors, config, scale)  # [A_i, 2] cells
    gt_lists = [target.boxes / stride_of_scale(config, scale) for target in targets]  # cells
    pred_boxes = cxcywh_to_xyxy(decode_cells(raw, own))  # [B, A_i, H, W, 4] cells
    best_iou = best_iou_with_objects(pred_boxes.flatten(1, 3), gt_lists)  # [B, A_i*H*W]

    objects = claims[0]  # [N]
    match = torch.stack([claims[1] == index for index in config.anchor_masks[scale]])  # [A_i, N]
    here, anchor = match.any(dim=0), match.to(torch.int8).argmax(dim=0)  # [N], [N] of the scale's
    centre, size = xyxy_to_cxcywh(torch.cat(gt_lists))[objects].split(2, dim=1)  # [N, 2], [N, 2]
    cell = own_cell(centre, (height, width))  # [N, 2] column, row
    image = image_of_object(gt_lists)[objects]  # [N]
    slots = ((image * num_anchors + anchor) * height + cell[:, 1]) * width + cell[:, 0]  # [N]
    slots = slots.where(here, predictions)  # a place past the end, for claims on other scales
    last = last_claim(slots, predictions + 1)
    labels = torch.cat([target.labels for target in targets])[objects]  # [N]
    gt_classes = raw.new_zeros(len(slots), raw.shape[-1] - 5)
    gt_classes[last[slots], labels] = 1  # on the row of the claim that has the slot
    order = torch.arange(len(slots), device=slots.device)  # [N]
    grid = size.new_tensor([width, height])
    return Owners(
        objects=objects,
        slots=slots.clamp(max=predictions - 1),
        stays=((last[slots] == order) & here).to(raw.dtype),
        anchors=own[anchor],
        gt_places=torch.cat([centre - cell, (size / own[anchor]).log()], dim=1),
        weights=2 - (size / grid).prod(dim=1),
        labels=labels,
        gt_classes=gt_classes,
        owned=(last[:-1] >= 0).to(raw.dtype),
        ignore=(best_iou > config.ignore_iou).flatten().to(raw.dtype),
    )


def anchors_of_scale(anchors: Tensor, config: YoloV3Config, scale: int) -> Tensor:
    """``[A_i, 2]`` in cells, of the scale's share of ``[A, 2]`` anchors in canvas pixels."""
    share = torch.stack([anchors[index] for index in config.anchor_masks[scale]])
    return share / stride_of_scale(config, scale)


def audit_assignment(
    targets: list[Target], anchors: Tensor, size: tuple[int, int], config: YoloV3Config
) -> Audit:
    """What :func:`assign` makes of objects; who answers for which depends on no prediction.

    Args:
        targets: one an image, boxes in canvas pixels.
        anchors: ``[A, 2]`` in canvas pixels.
        size: canvas (height, width).
    """
    strides = [stride_of_scale(config, 0)] * len(anchors)  # an anchor of no scale: the coarsest
    raw = []
    for scale, mask in enumerate(config.anchor_masks):
        stride = stride_of_scale(config, scale)
        grid = (size[0] // stride, size[1] // stride)
        raw.append(anchors.new_zeros(len(targets), len(mask), *grid, 5 + config.num_classes))
        for anchor in mask:
            strides[anchor] = stride
    owners = assign(tuple(raw), targets, anchors, config)
    return audit_anchors(targets, anchors, strides, [(own.objects, own.stays) for own in owners])


# ---------------------------------------------------------------------------------- loss


def yolo_v3_loss(
    raw: tuple[Tensor, ...], owners: tuple[Owners, ...], config: YoloV3Config
) -> Losses:
    """The sum over all scales and predictions, averaged over the batch.

    The source writes gradients, not a loss; these are the terms whose gradients they are: binary
    cross-entropy on x and y (whose targets are fractions), objectness and every class, half
    squared errors on raw w and h. (The cost it prints is another number: ``darknet_cost.py``.)

    Args:
        raw: ``[B, A_i, H_i, W_i, 5+K]`` network outputs, coarse to fine.
        owners: from :func:`assign`.

    Returns:
        ``loss_coord``, ``loss_obj``, ``loss_noobj``, ``loss_class``: scalars.

    Paper:
        YOLOv3, sections 2.1 and 2.2.

    Source:
        darknet, ``yolo_layer.c: forward_yolo_layer``, ``delta_yolo_box``, ``delta_yolo_class``.
    """
    share = 1 / raw[0].shape[0]
    pairs = list(zip(raw, owners, strict=True))
    terms = [scale_loss(scale_raw, scale_owners, config) for scale_raw, scale_owners in pairs]
    return {name: torch.stack([term[name] for term in terms]).sum() * share for name in terms[0]}


def scale_loss(raw: Tensor, owners: Owners, config: YoloV3Config) -> Losses:
    """The terms of one scale, ``[B, A_i, H, W, 5+K]``, summed over its predictions."""
    flat = raw.reshape(-1, raw.shape[-1])  # [B*A_i*H*W, 5+K]
    mine, stays = flat[owners.slots], owners.stays  # [N, 5+K], [N]
    empty = (1 - owners.owned) * (1 - owners.ignore)  # [B*A_i*H*W]
    classes = F.binary_cross_entropy_with_logits(mine[:, 5:], owners.gt_classes, reduction="none")
    factors = class_factors(stays, owners.labels, config.class_weights)  # [N]
    return {
        "loss_coord": (box_errors(mine, owners, config) * stays).sum(),
        "loss_obj": (F.softplus(-mine[:, 4]) * stays).sum(),  # cross-entropy with 1
        "loss_noobj": (F.softplus(flat[:, 4]) * empty).sum(),  # cross-entropy with 0
        "loss_class": (classes.sum(dim=1) * factors).sum(),
    }


def box_errors(mine: Tensor, owners: Owners, config: YoloV3Config) -> Tensor:
    """``[N]`` what the boxes of the owners, whose raw outputs are ``[N, 5+K]``, cost."""
    if config.box_loss == "squared":
        centre = F.binary_cross_entropy_with_logits(
            mine[:, :2], owners.gt_places[:, :2], reduction="none"
        )
        size = 0.5 * (mine[:, 2:4] - owners.gt_places[:, 2:]).square()
        return (centre + size).sum(dim=1) * owners.weights
    places = torch.cat([mine[:, :2].sigmoid(), mine[:, 2:4]], dim=1)  # [N, 4]
    errors = overlap_loss(places, owners.gt_places, owners.anchors, config.box_loss)
    return config.box_scale * errors


# ----------------------------------------------------------------------------- detection


def decode(raw: tuple[Tensor, ...], anchors: Tensor, config: YoloV3Config) -> tuple[Boxes, Tensor]:
    """Turn network outputs into boxes and scores.

    Args:
        raw: ``[B, A_i, H_i, W_i, 5+K]``, coarse to fine.
        anchors: ``[A, 2]`` in canvas pixels.

    Returns:
        ``[B, N, 4]`` boxes in canvas pixels and ``[B, N, K]`` scores, objectness times class
        probability, each class for itself, with N the sum of A_i*H_i*W_i.

    Paper:
        YOLOv3, sections 2.1 and 2.2.
    """
    boxes, scores = [], []
    for scale, outputs in enumerate(raw):
        cells = decode_cells(outputs, anchors_of_scale(anchors, config, scale))
        pixels = cxcywh_to_xyxy(cells) * stride_of_scale(config, scale)
        boxes.append(pixels.flatten(1, 3))
        scores.append((outputs[..., 4:5].sigmoid() * outputs[..., 5:].sigmoid()).flatten(1, 3))
    return torch.cat(boxes, dim=1), torch.cat(scores, dim=1)


def select(boxes: Boxes, scores: Tensor, config: YoloV3Config) -> Detections:
    """Keep what one image should report: above the threshold, then suppression per class.

    Args:
        boxes: ``[N, 4]``.
        scores: ``[N, K]``.
    """
    return select_per_class(boxes, scores, config.score_threshold, config.nms_iou)


# -------------------------------------------------------------------------------- module


@DETECTORS.register("yolo_v3")
class YoloV3(Detector):
    """YOLOv3, section 2: three scales, the best of all anchors, independent classes."""

    config_type = YoloV3Config
    anchors_key = "anchors"
    masks_key = "anchor_masks"
    derived = ("anchors",)
    config: YoloV3Config
    anchors: Tensor  # [A, 2] width and height, canvas pixels

    def __init__(self, config: YoloV3Config) -> None:
        super().__init__()
        self.config = config
        self.backbone = BACKBONES[config.backbone].build(config.strides)
        self.head = YoloV3Head(self.backbone.channels, config)
        self.register_buffer("anchors", torch.tensor(config.anchors, dtype=torch.float32))

    @property
    def stretches(self) -> bool:
        return self.config.placement == "stretch"

    def train_size(self, step: int, steps: int, seed: int) -> tuple[int, int]:
        """Multi-scale training: the canvas of batch ``step`` of ``steps``, drawn from ``seed``."""
        return draw_size(self.config, step, steps, seed)

    def class_rows(self) -> dict[str, Tensor]:
        rows: dict[str, Tensor] = {}
        for scale, mask in enumerate(self.config.anchor_masks):
            labels = anchored_rows(len(mask), self.config.num_classes)
            rows |= layer_rows(f"head.scales.{scale}.out", labels)
        return rows

    def audit(self, targets: list[Target], size: tuple[int, int]) -> Audit:
        return audit_assignment(targets, self.anchors, size, self.config)

    def preprocess(self, images: list[Tensor], size: tuple[int, int] | None = None) -> Batch:
        images = [image.to(self.anchors.device, non_blocking=True) for image in images]
        mean, std = self.backbone.mean, self.backbone.std
        place = stretch if self.stretches else letterbox
        return place(images, size or self.config.input_size, mean, std)

    def locate(self, row: int, size: tuple[int, int]) -> Location:
        return locate_on_scales(row, size, self.anchor_scales()[::-1])

    def network(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        (pixels,) = inputs
        return self.head(self.backbone(pixels))  # [B, A_i, H_i, W_i, 5+K], coarse to fine

    def losses(self, batch: Batch, targets: list[Target], step: Step) -> Losses:
        raw = tuple(scale.float() for scale in self.outputs(batch))
        with torch.autocast(raw[0].device.type, enabled=False):  # in full precision from here
            detached = tuple(scale.detach() for scale in raw)
            owners = assign(detached, targets, self.anchors, self.config)
            return yolo_v3_loss(raw, owners, self.config)

    def postprocess(self, outputs: tuple[Tensor, ...], batch: Batch) -> list[Detections]:
        raw = tuple(scale.float() for scale in outputs)
        boxes, scores = decode(raw, self.anchors, self.config)
        return [select(b, s, self.config) for b, s in zip(boxes, scores, strict=True)]


class YoloV3TinyConfig(YoloV3Config):
    """What the authors' ``yolov3-tiny.cfg`` changes."""

    backbone: str = "darknet_tiny"
    strides: Strides = (16, 32)
    anchors: Annotated[Anchors, above_zero("canvas pixels")] = (
        *((10, 14), (23, 27), (37, 58)),
        *((81, 82), (135, 169), (344, 319)),
    )
    head_channels: PerScale = (256, 128)
    head_convs: PerScale = (2, 1)


@DETECTORS.register("yolo_v3_tiny")
class YoloV3Tiny(YoloV3):
    """Tiny YOLOv3: a small trunk, two scales, few convolutions."""

    config_type = YoloV3TinyConfig


class YoloV3SppConfig(YoloV3Config):
    """What the authors' ``yolov3-spp.cfg`` changes."""

    spp: Annotated[bool, room_after(SPP_AFTER)] = Field(True, validate_default=True)


@DETECTORS.register("yolo_v3_spp")
class YoloV3Spp(YoloV3):
    """YOLOv3 with spatial pyramid pooling."""

    config_type = YoloV3SppConfig
