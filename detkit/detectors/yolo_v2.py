"""YOLOv2: anchors, direct location prediction and a passthrough layer, in one convolutional pass.

Paper: YOLO9000: Better, Faster, Stronger (Redmon and Farhadi, CVPR 2017),
https://arxiv.org/abs/1612.08242, section 2. Where the authors' code says more than the paper, or
something else, the code is followed (darknet, ``region_layer.c``); docs/fidelity.md lists where.

Reading order: ``YoloV2Config`` (the numbers), ``YoloV2Head`` (the network), ``decode_cells`` in
``ops/grid.py`` (what its outputs mean), ``assign`` (which output answers for which object),
``yolo_v2_loss``, ``decode`` and ``select`` (boxes to show), ``YoloV2`` (what joins them).

Spaces: *canvas* pixels are those of the network's input; *cells* are canvas pixels over 32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt
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
    Anchors,
    CanvasSize,
    ClassWeights,
    Placement,
    above_zero,
    draw_size,
    multiples_of,
)
from detkit.layers import ConvBN, reorg
from detkit.ops.boxes import cxcywh_to_xyxy, pairwise_iou, size_iou, xyxy_to_cxcywh
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

STRIDE = 32  # canvas pixels per cell: the layers downsample the image by a factor of 32
FINE_STRIDE = 16  # of the earlier map that the passthrough layer brings in, 26 x 26 at 416
ANCHOR_PLACE = (0.5, 0.5, 0.0, 0.0)  # outputs (x, y, w, h) that say: the anchor, mid-cell


# ------------------------------------------------------------------------------ settings


class YoloV2Config(Config):
    """Defaults are the authors' for PASCAL VOC at one size; a recipe states what it changes."""

    num_classes: PositiveInt
    backbone: str = "darknet19"  # section 3; any registered backbone with strides 16 and 32
    backbone_weights: str = "none"  # "imagenet" or a path; applied by training, after building
    input_size: Annotated[CanvasSize, multiples_of(STRIDE)] = (416, 416)  # section 2
    # images on the canvas: their shape kept, on grey; or stretched to fill it, as the programs of
    # AlexeyAB and hank-ai do unless a config says letter_box=1
    placement: Placement = "letterbox"
    # "Multi-Scale Training"; empty: input_size
    train_sizes: Annotated[tuple[CanvasSize, ...], multiples_of(STRIDE)] = ()
    train_size_every: PositiveInt = 10  # batches between two draws, "every 10 batches"
    train_size_last: NonNegativeInt = 200  # iterations at the largest size, at the end (the code)
    anchors_cells: Annotated[
        Anchors, above_zero("cells")
    ] = (  # "Dimension Clusters", yolov2-voc.cfg
        (1.3221, 1.73145),
        (3.19275, 4.00944),
        (5.05587, 8.09892),
        (9.47112, 4.84053),
        (11.2364, 10.0071),
    )
    passthrough: bool = True  # "Fine-Grained Features"; false is the tiny form's head
    passthrough_channels: PositiveInt = 64  # of the 1x1 convolution before reorg (the code)
    head_channels: PositiveInt = 1024  # section 3, "Training for detection"
    ignore_iou: Fraction = 0.6  # above it a prediction is not pushed to "no object" (the code)
    object_scale: float = 5.0  # the code's object_scale
    noobject_scale: float = 1.0  # the code's noobject_scale
    coord_scale: float = 1.0  # the code's coord_scale
    class_scale: float = 1.0  # the code's class_scale
    class_weights: ClassWeights = ()  # K factors of the class loss; empty: 1 each (the code)
    prior_scale: float = 0.01  # the pull towards the anchors (the code)
    prior_images: NonNegativeInt = 12800  # for how many images that pull lasts (the code)
    rescore: bool = True  # objectness learns the IoU, not 1; false in yolov2-tiny.cfg for COCO
    score_threshold: Fraction = 0.005  # the authors' evaluation
    show_threshold: Fraction = 0.5  # the authors' demo; what `detect` uses unless told
    nms_iou: Fraction = 0.45  # the authors' evaluation
    # Not the authors', for recipes that say so in their names:
    box_loss: Literal["squared", "giou", "ciou"] = "squared"  # or 1 - that IoU of the boxes
    box_scale: NonNegativeFloat = 1.0  # its weight then, in coord_scale's place
    positive_iou: Fraction | None = None  # anchors that fit an object this well answer for it, too


# ------------------------------------------------------------------------------- network


class YoloV2Head(nn.Module):
    """Section 3, "Training for detection": three 3x3 convolutions, a passthrough, one 1x1.

    The tiny form (``passthrough=False``) keeps one 3x3 convolution and the 1x1.
    """

    def __init__(self, channels: tuple[int, ...], config: YoloV2Config) -> None:
        super().__init__()
        width, coarse = config.head_channels, channels[-1]
        self.num_anchors = len(config.anchors_cells)
        self.deep: nn.Module = nn.Identity()
        self.passthrough: nn.Module | None = None
        if config.passthrough:
            self.deep = nn.Sequential(ConvBN(coarse, width, 3), ConvBN(width, width, 3))
            self.passthrough = ConvBN(channels[0], config.passthrough_channels, 1)
            coarse = width + config.passthrough_channels * (STRIDE // FINE_STRIDE) ** 2
        self.fuse = ConvBN(coarse, width, 3)
        self.out = nn.Conv2d(width, self.num_anchors * (5 + config.num_classes), 1)
        nn.init.normal_(self.out.weight, std=(2 / width) ** 0.5)  # darknet's
        nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]

    def forward(self, maps: tuple[Tensor, ...]) -> Tensor:
        """Map the backbone's maps, stride 16 (full form only) and 32, to ``[B, A, H, W, 5+K]``."""
        deep = self.deep(maps[-1])
        if self.passthrough is not None:
            deep = torch.cat(
                [reorg(self.passthrough(maps[0]), STRIDE // FINE_STRIDE), deep], dim=1
            )  # reorg first
        out = self.out(self.fuse(deep))  # [B, A * (5+K), H, W]
        batch, _, height, width = out.shape
        raw = out.view(batch, self.num_anchors, -1, height, width)  # [B, A, 5+K, H, W]
        return raw.permute(0, 1, 3, 4, 2)


# ---------------------------------------------------------------------------- assignment


@dataclass(frozen=True, slots=True, eq=False)
class Owners:
    """Which prediction answers for which object. Nothing here carries a gradient."""

    objects: Tensor  # [N] int64, the object of each claim; N is M unless positive_iou is set
    slots: Tensor  # [N] int64, index of the owner among the B*A*H*W predictions
    stays: Tensor  # [N] float, 0 where another claim took the same slot, else 1
    anchors: Tensor  # [N, 2] (pw, ph) of the owner, cells
    gt_places: Tensor  # [N, 4] (x in its cell, y in its cell, log w/pw, log h/ph)
    weights: Tensor  # [N] 2 - w * h, as fractions of the canvas: small boxes count double
    ious: Tensor  # [N] IoU of the owner's predicted box with its object
    labels: Tensor  # [N] int64
    owned: Tensor  # [B*A*H*W] float, 1 where a prediction owns an object
    ignore: Tensor  # [B*A*H*W] float, 1 where it overlaps one too well to be called empty


@torch.no_grad()
def assign(raw: Tensor, targets: list[Target], anchors: Tensor, config: YoloV2Config) -> Owners:
    """Give every object to one prediction: its centre's cell, the anchor nearest in shape.

    Several objects may share a cell when their anchors differ; of two with the same anchor the
    later one stays. With ``positive_iou`` other anchors that fit an object answer for it as well,
    where they are free. Every prediction that overlaps some object by more than ``ignore_iou`` is
    left alone by the "no object" term.

    Args:
        raw: ``[B, A, H, W, 5+K]`` network outputs.
        targets: one an image, boxes in canvas pixels.
        anchors: ``[A, 2]`` in cells.

    Source:
        darknet, ``region_layer.c: forward_region_layer``.
    """
    num_anchors, height, width = raw.shape[1:4]
    gt_lists = [target.boxes / STRIDE for target in targets]  # [M_i, 4] cells, one an image
    pred_boxes = cxcywh_to_xyxy(decode_cells(raw, anchors))  # [B, A, H, W, 4] cells
    best_iou = best_iou_with_objects(pred_boxes.flatten(1, 3), gt_lists)  # [B, A*H*W]

    gt_boxes = torch.cat(gt_lists)  # [M, 4] cells
    objects, anchor = claim_anchors(  # [N], [N]; N = M unless positive_iou is set
        size_iou(xyxy_to_cxcywh(gt_boxes)[:, 2:], anchors), config.positive_iou
    )
    gt_boxes = gt_boxes[objects]  # [N, 4]
    centre, size = xyxy_to_cxcywh(gt_boxes).split(2, dim=1)  # [N, 2] (x, y), [N, 2] (w, h)
    cell = own_cell(centre, (height, width))  # [N, 2] column, row
    image = image_of_object(gt_lists)[objects]  # [N]
    slots = ((image * num_anchors + anchor) * height + cell[:, 1]) * width + cell[:, 0]  # [N]
    last = last_claim(slots, raw[..., 0].numel())  # [B*A*H*W]
    order = torch.arange(len(slots), device=slots.device)  # [N]
    grid = size.new_tensor([width, height])
    return Owners(
        objects=objects,
        slots=slots,
        stays=(last[slots] == order).to(raw.dtype),
        anchors=anchors[anchor],
        gt_places=torch.cat([centre - cell, (size / anchors[anchor]).log()], dim=1),
        weights=2 - (size / grid).prod(dim=1),
        ious=pairwise_iou(pred_boxes.reshape(-1, 4)[slots], gt_boxes),
        labels=torch.cat([target.labels for target in targets])[objects],
        owned=(last >= 0).to(raw.dtype),
        ignore=(best_iou > config.ignore_iou).flatten().to(raw.dtype),
    )


# ---------------------------------------------------------------------------------- loss


def yolo_v2_loss(raw: Tensor, owners: Owners, config: YoloV2Config, *, seen: int) -> Losses:
    """The region loss, summed over predictions and averaged over the batch.

    The source writes gradients, not a loss; these are the terms whose gradients they are: half
    squared errors on activated x, y and objectness and on raw w and h, cross-entropy on classes.
    (The cost it prints is another number: ``darknet_cost.py``.)

    Args:
        raw: ``[B, A, H, W, 5+K]`` network outputs.
        owners: from :func:`assign`.
        seen: images trained on so far, this batch included.

    Returns:
        ``loss_coord``, ``loss_prior``, ``loss_obj``, ``loss_noobj``, ``loss_class``: scalars.

    Source:
        darknet, ``region_layer.c: forward_region_layer`` and ``backward_region_layer_gpu``.
    """
    flat = raw.reshape(-1, raw.shape[-1])  # [B*A*H*W, 5+K]
    pred_places = torch.cat([flat[:, :2].sigmoid(), flat[:, 2:4]], dim=1)  # [B*A*H*W, 4]
    pred_objectness = flat[:, 4].sigmoid()  # [B*A*H*W]

    mine, stays = owners.slots, owners.stays  # [N]
    coord = box_errors(pred_places[mine], owners, config)  # [N]
    obj = (pred_objectness[mine] - objectness_goal(owners, config)).square()  # [N]
    noobj = pred_objectness.square() * (1 - owners.owned) * (1 - owners.ignore)  # [B*A*H*W]
    classes = F.cross_entropy(flat[mine, 5:], owners.labels, reduction="none")  # [N]
    factors = class_factors(stays, owners.labels, config.class_weights)  # [N]
    middle = flat.new_tensor(ANCHOR_PLACE)
    prior = (pred_places - middle).square().sum(dim=1) * (1 - owners.owned)  # [B*A*H*W]
    prior_scale = config.prior_scale if seen < config.prior_images else 0.0
    share = 1 / raw.shape[0]
    return {
        "loss_coord": (coord * stays).sum() * share,
        "loss_prior": 0.5 * prior_scale * prior.sum() * share,
        "loss_obj": 0.5 * config.object_scale * (obj * stays).sum() * share,
        "loss_noobj": 0.5 * config.noobject_scale * noobj.sum() * share,
        "loss_class": config.class_scale * (classes * factors).sum() * share,
    }


def objectness_goal(owners: Owners, config: YoloV2Config) -> Tensor:
    """``[N]`` what the objectness of owners is drawn to: their IoU, or 1 without ``rescore``."""
    return owners.ious if config.rescore else torch.ones_like(owners.ious)


def box_errors(places: Tensor, owners: Owners, config: YoloV2Config) -> Tensor:
    """``[N]`` what the boxes of the owners, whose outputs say ``[N, 4]`` ``places``, cost."""
    if config.box_loss == "squared":
        squares = (places - owners.gt_places).square().sum(dim=1)
        return 0.5 * config.coord_scale * squares * owners.weights
    errors = overlap_loss(places, owners.gt_places, owners.anchors, config.box_loss)
    return config.box_scale * errors


# ----------------------------------------------------------------------------- detection


def decode(raw: Tensor, anchors: Tensor) -> tuple[Boxes, Tensor]:
    """Turn network outputs into boxes and scores.

    Args:
        raw: ``[B, A, H, W, 5+K]``.
        anchors: ``[A, 2]`` in cells.

    Returns:
        ``[B, N, 4]`` boxes in canvas pixels and ``[B, N, K]`` scores, objectness times class
        probability, with N = A*H*W.
    """
    boxes = cxcywh_to_xyxy(decode_cells(raw, anchors)) * STRIDE  # canvas pixels
    scores = raw[..., 4:5].sigmoid() * raw[..., 5:].softmax(dim=-1)
    return boxes.flatten(1, 3), scores.flatten(1, 3)


def select(boxes: Boxes, scores: Tensor, config: YoloV2Config) -> Detections:
    """Keep what one image should report: above the threshold, then suppression per class.

    Args:
        boxes: ``[N, 4]``.
        scores: ``[N, K]``.
    """
    return select_per_class(boxes, scores, config.score_threshold, config.nms_iou)


# -------------------------------------------------------------------------------- module


@DETECTORS.register("yolo_v2")
class YoloV2(Detector):
    """YOLO9000, section 2: anchors, direct location prediction, a passthrough layer."""

    config_type = YoloV2Config
    anchors_key = "anchors_cells"
    anchors_unit = STRIDE
    derived = ("anchors",)
    config: YoloV2Config
    anchors: Tensor  # [A, 2] width and height, in cells

    def __init__(self, config: YoloV2Config) -> None:
        super().__init__()
        self.config = config
        strides = (FINE_STRIDE, STRIDE) if config.passthrough else (STRIDE,)
        self.backbone = BACKBONES[config.backbone].build(strides)
        self.head = YoloV2Head(self.backbone.channels, config)
        self.register_buffer("anchors", torch.tensor(config.anchors_cells))

    @property
    def stretches(self) -> bool:
        return self.config.placement == "stretch"

    def train_size(self, step: int, steps: int, seed: int) -> tuple[int, int]:
        """Multi-scale training: the canvas of batch ``step`` of ``steps``, drawn from ``seed``."""
        return draw_size(self.config, step, steps, seed)

    def class_rows(self) -> dict[str, Tensor]:
        return layer_rows("head.out", anchored_rows(len(self.anchors), self.config.num_classes))

    def audit(self, targets: list[Target], size: tuple[int, int]) -> Audit:
        count, grid = len(self.anchors), (size[0] // STRIDE, size[1] // STRIDE)
        raw = self.anchors.new_zeros(len(targets), count, *grid, 5)  # who answers depends on none
        owners = assign(raw, targets, self.anchors, self.config)
        claims = [(owners.objects, owners.stays)]
        return audit_anchors(targets, self.anchors * STRIDE, [STRIDE] * count, claims)

    def preprocess(self, images: list[Tensor], size: tuple[int, int] | None = None) -> Batch:
        images = [image.to(self.anchors.device, non_blocking=True) for image in images]
        mean, std = self.backbone.mean, self.backbone.std
        place = stretch if self.stretches else letterbox
        return place(images, size or self.config.input_size, mean, std)

    def locate(self, row: int, size: tuple[int, int]) -> Location:
        return locate_on_scales(row, size, self.anchor_scales())

    def network(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        (pixels,) = inputs
        return (self.head(self.backbone(pixels)),)  # [B, A, H, W, 5+K] of the grid

    def losses(self, batch: Batch, targets: list[Target], step: Step) -> Losses:
        raw = self.outputs(batch)[0].float()
        seen = step.seen + len(targets)  # the source counts the batch at hand
        with torch.autocast(raw.device.type, enabled=False):  # in full precision from here
            owners = assign(raw.detach(), targets, self.anchors, self.config)
            return yolo_v2_loss(raw, owners, self.config, seen=seen)

    def postprocess(self, outputs: tuple[Tensor, ...], batch: Batch) -> list[Detections]:
        boxes, scores = decode(outputs[0].float(), self.anchors)
        return [select(b, s, self.config) for b, s in zip(boxes, scores, strict=True)]


class YoloV2TinyConfig(YoloV2Config):
    """What the authors' ``yolov2-tiny-voc.cfg`` changes."""

    backbone: str = "darknet_tiny"
    passthrough: bool = False
    anchors_cells: Annotated[Anchors, above_zero("cells")] = (
        (1.08, 1.19),
        (3.42, 4.41),
        (6.63, 11.38),
        (9.42, 5.11),
        (16.62, 10.52),
    )


@DETECTORS.register("yolo_v2_tiny")
class YoloV2Tiny(YoloV2):
    """Tiny YOLOv2: a small trunk, no passthrough."""

    config_type = YoloV2TinyConfig
