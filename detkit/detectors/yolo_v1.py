"""YOLOv1: a grid of cells, one object a cell, boxes straight from one pass of one network.

Paper: You Only Look Once: Unified, Real-Time Object Detection (Redmon, Divvala, Girshick and
Farhadi, CVPR 2016), https://arxiv.org/abs/1506.02640, section 2. Where the authors' code says more
than the paper, or something else, the code is followed (darknet, ``detection_layer.c``);
docs/fidelity.md lists where.

Reading order: ``YoloV1Config`` (the numbers), ``YoloV1Head`` (the network), ``split_blocks`` (how
its outputs lie), ``assign`` (which predictor answers for which object), ``yolo_v1_loss``,
``decode`` and ``select`` (boxes to show), ``YoloV1`` (what joins them).

Spaces: *canvas* pixels are those of the network's input; *fractions* are of its width and height;
*cells* are fractions times S. Letters: the paper's B and C are P (predictors of a cell) and K
(classes) here; B is the batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import PositiveInt
from torch import Tensor, nn

from detkit.backbones import BACKBONES, Backbone
from detkit.config import Config, Fraction
from detkit.detections import Detections
from detkit.detectors.base import (
    DETECTORS,
    NO_CLASS,
    Audit,
    Detector,
    Location,
    Step,
    layer_rows,
)
from detkit.detectors.settings import CanvasSize, ClassWeights
from detkit.errors import ConfigError
from detkit.layers import LEAKY_SLOPE, ConvBN, Local, connected
from detkit.ops.boxes import cxcywh_to_xyxy, pairwise_iou, xyxy_to_cxcywh
from detkit.ops.grid import class_factors, first_in_cell, image_of_object, own_cell
from detkit.ops.nms import select_per_class
from detkit.preprocess import Batch, stretch
from detkit.types import Boxes, Losses, Target

# ------------------------------------------------------------------------------ settings


class YoloV1Config(Config):
    """Defaults are those of the authors' ``yolov1.cfg``, which is not the paper's network.

    The paper's: ``head: paper``, ``boxes_per_cell: 2``, and no batch normalisation, which is
    ``batch_norm: false`` over ``backbone: darknet_v1_plain``.
    """

    num_classes: PositiveInt
    backbone: str = "darknet_v1"  # section 2.2: the first 20 convolutions; any registered backbone
    backbone_stride: PositiveInt = 32  # of its map; where it has not this one, the next finer
    backbone_weights: str = "none"  # "imagenet" or a path; applied by training, after building
    input_size: CanvasSize = (448, 448)  # section 2.2
    grid: PositiveInt = 7  # S, section 2
    boxes_per_cell: PositiveInt = 3  # P; the paper's B, section 2, is 2
    head_convs: tuple[tuple[PositiveInt, PositiveInt], ...] = (  # (filters, stride), all 3 x 3
        (1024, 1),
        (1024, 2),
        (1024, 1),
        (1024, 1),
    )  # section 2.2: "four convolutional layers"
    head: Literal["paper", "repository", "tiny"] = "repository"  # what follows the convolutions
    fc_width: PositiveInt = 4096  # paper: of the first fully connected layer, figure 3
    local_channels: PositiveInt = 256  # repository: of the local layer (the code)
    dropout: Fraction = 0.5  # section 2.2; the tiny head has none
    batch_norm: bool = True  # in the head's convolutions (the code); the paper has none
    coord_weight: float = 5.0  # lambda_coord, equation 3
    noobj_weight: float = 0.5  # lambda_noobj, equation 3
    rescore: bool = True  # confidence learns the IoU, section 2; false: 1
    class_weights: ClassWeights = ()  # K factors of the class loss; empty: 1 each
    min_side: Fraction = 0.005  # of the canvas; thinner objects are not learned (the code)
    score_threshold: Fraction = 0.001  # the authors' evaluation
    show_threshold: Fraction = 0.2  # the authors' demo; what `detect` uses unless told
    nms_iou: Fraction = 0.5  # the authors' evaluation; their demo's is 0.4 (model.nms_iou=0.4)

    @property
    def outputs(self) -> int:
        """Length of the output vector, ``S * S * (K + P * 5)``: 1470 in the paper."""
        return self.grid**2 * (self.num_classes + self.boxes_per_cell * 5)


# ------------------------------------------------------------------------------- network


def build_backbone(config: YoloV1Config) -> Backbone:
    """Build the config's backbone up to its ``backbone_stride`` or, without that, the next finer.

    Raises:
        ConfigError: it has only coarser ones, or the canvas is not made of whole cells.
    """
    entry = BACKBONES[config.backbone]
    fine = [stride for stride in entry.strides if stride <= config.backbone_stride]
    stride = max(fine, default=config.backbone_stride)  # the default: so that the entry refuses it
    if any(side % stride for side in config.input_size):
        raise ConfigError(
            f"model.input_size: {list(config.input_size)} is not made of multiples of {stride}, "
            f"the stride of backbone {config.backbone!r} here."
        )
    return entry.build((stride,))


class YoloV1Head(nn.Module):
    """Section 2.2: further convolutions, then layers that see the whole map at once.

    ``paper``: fully connected, leaky, dropout, fully connected. ``repository``: a local layer in
    place of the first one. ``tiny``: one fully connected layer alone. Where the map is not S x S
    already it is averaged over S x S equal areas, so that any backbone and canvas will do.

    Args:
        channels: of the backbone's map.
        config: what to build.

    Source:
        ``yolov1.cfg`` and ``yolov1-tiny.cfg`` for the second and third.
    """

    def __init__(self, channels: int, config: YoloV1Config) -> None:
        super().__init__()
        self.grid = (config.grid, config.grid)
        self.convs = nn.Sequential()
        for filters, stride in config.head_convs:
            self.convs.append(
                ConvBN(channels, filters, 3, stride=stride, batch_norm=config.batch_norm)
            )
            channels = filters
        self.whole = nn.Sequential()  # [B, C, S, S] to [B, S*S*(K+P*5)]
        if config.head == "repository":
            self.whole.append(Local(channels, config.local_channels, self.grid))
            self.whole.append(nn.LeakyReLU(LEAKY_SLOPE, inplace=True))
            self.whole.append(nn.Dropout(config.dropout))
            channels = config.local_channels
        self.whole.append(nn.Flatten())
        width = channels * config.grid**2
        if config.head == "paper":
            self.whole.append(connected(width, config.fc_width))
            self.whole.append(nn.LeakyReLU(LEAKY_SLOPE, inplace=True))
            self.whole.append(nn.Dropout(config.dropout))
            width = config.fc_width
        self.whole.append(connected(width, config.outputs))

    def forward(self, maps: tuple[Tensor, ...]) -> Tensor:
        """Map the backbone's one map, ``[B, C, H, W]``, to ``[B, S*S*(K+P*5)]``."""
        deep = self.convs(maps[-1])
        if deep.shape[2:] != self.grid:
            deep = F.adaptive_avg_pool2d(deep, self.grid)  # [B, C, S, S]
        out: Tensor = self.whole(deep)
        return out


class Outputs(NamedTuple):
    """The output vector, cell by cell; cells row by row."""

    classes: Tensor  # [B, S*S, K]
    confidences: Tensor  # [B, S*S, P]
    places: Tensor  # [B, S*S, P, 4] (x, y in its cell; square roots of w and h, fractions)


def split_blocks(raw: Tensor, config: YoloV1Config) -> Outputs:
    """Read the output vector ``[B, S*S*(K+P*5)]``: all classes, all confidences, all boxes.

    The paper draws a tensor S x S x (P*5+K); the code lays it out in three blocks.

    Source:
        darknet, ``detection_layer.c: get_detection_detections``.
    """
    cells, boxes = config.grid**2, config.boxes_per_cell
    blocks = raw.split([cells * config.num_classes, cells * boxes, cells * boxes * 4], dim=1)
    return Outputs(
        blocks[0].reshape(-1, cells, config.num_classes),
        blocks[1].reshape(-1, cells, boxes),
        blocks[2].reshape(-1, cells, boxes, 4),
    )


# ---------------------------------------------------------------------------- assignment


@dataclass(frozen=True, slots=True, eq=False)
class Owners:
    """Which predictor answers for which object. Nothing here carries a gradient."""

    cells: Tensor  # [M] int64, the object's cell among the B*S*S
    slots: Tensor  # [M] int64, its responsible predictor among the B*S*S*P
    stays: Tensor  # [M] float, 0 where an earlier object has the cell or it is too thin, else 1
    gt_places: Tensor  # [M, 4] (x in its cell, y in its cell, sqrt w, sqrt h, fractions)
    ious: Tensor  # [M] IoU of that predictor's box with the object
    labels: Tensor  # [M] int64
    owned: Tensor  # [B*S*S*P] float, 1 where a predictor answers for an object


@torch.no_grad()
def assign(
    raw: Tensor, targets: list[Target], size: tuple[int, int], config: YoloV1Config
) -> Owners:
    """Give every object its centre's cell, and the one predictor there whose box is nearest to it.

    A cell learns one object: the first in the order of ``targets``. Its *responsible* predictor is
    the one with the highest IoU; where none overlaps, the one at the least Euclidean distance over
    (x, y, w, h).

    Args:
        raw: ``[B, S*S*(K+P*5)]`` network outputs.
        targets: one an image, boxes in canvas pixels.
        size: canvas (height, width).

    Source:
        darknet, ``data.c: fill_truth_region`` and ``detection_layer.c: forward_detection_layer``.
    """
    side, num_boxes = config.grid, config.boxes_per_cell
    gt_lists = [target.boxes for target in targets]
    extent = gt_lists[0].new_tensor([size[1], size[0]] * 2)  # [4]
    gt_boxes = torch.cat(gt_lists) / extent  # [M, 4] fractions
    centre, sides = xyxy_to_cxcywh(gt_boxes).split(2, dim=1)  # [M, 2] (x, y), [M, 2] (w, h)
    cell = own_cell(centre * side, (side, side))  # [M, 2] column, row
    cells = (image_of_object(gt_lists) * side + cell[:, 1]) * side + cell[:, 0]  # [M]
    stays = first_in_cell(cells, (sides >= config.min_side).all(dim=1), len(raw) * side**2)

    # Both boxes without their cell's corner, which they share; fractions.
    offset = centre * side - cell  # [M, 2] in its cell
    gt = torch.cat([offset / side, sides], dim=1)[:, None]  # [M, 1, 4] centre form
    pred_places = split_blocks(raw, config).places.flatten(0, 1)[cells]  # [M, P, 4]
    pred = torch.cat([pred_places[..., :2] / side, pred_places[..., 2:].square()], dim=2)
    ious = pairwise_iou(cxcywh_to_xyxy(pred), cxcywh_to_xyxy(gt))  # [M, P]
    nearest = (pred - gt).square().sum(dim=2).argmin(dim=1)  # [M]
    mine = torch.where(ious.amax(dim=1) > 0, ious.argmax(dim=1), nearest)  # [M] the first of equals
    slots = cells * num_boxes + mine
    stays_float = stays.to(raw.dtype)
    owned = raw.new_zeros(len(raw) * side**2 * num_boxes)
    return Owners(
        cells=cells,
        slots=slots,
        stays=stays_float,
        gt_places=torch.cat([offset, sides.clamp(min=0).sqrt()], dim=1),
        ious=ious.gather(1, mine[:, None]).squeeze(1),
        labels=torch.cat([target.labels for target in targets]),
        owned=owned.scatter_reduce(0, slots, stays_float, reduce="amax"),
    )


def audit_assignment(targets: list[Target], size: tuple[int, int], config: YoloV1Config) -> Audit:
    """What :func:`assign` makes of objects, which depends on no prediction: who has its cell.

    There are no anchors. Cells of a canvas that is not square have the stride of their longer side.

    Args:
        targets: one an image, boxes in canvas pixels.
        size: canvas (height, width).
    """
    raw = torch.zeros(len(targets), config.outputs)
    stays = assign(raw, targets, size, config).stays
    return Audit(
        best_ious=torch.zeros_like(stays),
        owners=torch.zeros_like(stays, dtype=torch.int64),
        lost=stays == 0,
        strides=torch.full_like(stays, max(size) / config.grid),
        anchors=torch.zeros(0, 2),
    )


# ---------------------------------------------------------------------------------- loss


def yolo_v1_loss(raw: Tensor, owners: Owners, config: YoloV1Config) -> Losses:
    """Equation 3, summed over cells and averaged over the batch.

    The source writes gradients, not a loss; these are the terms whose gradients they are: half
    squared errors, on raw outputs and on square roots of width and height. (The cost it prints is
    another number: ``darknet_cost.py``.)

    Args:
        raw: ``[B, S*S*(K+P*5)]`` network outputs.
        owners: from :func:`assign`.

    Returns:
        ``loss_coord``, ``loss_obj``, ``loss_noobj``, ``loss_class``: scalars.

    Source:
        darknet, ``detection_layer.c: forward_detection_layer``.
    """
    out = split_blocks(raw, config)
    places = out.places.reshape(-1, 4)[owners.slots]  # [M, 4]
    confidences = out.confidences.reshape(-1)  # [B*S*S*P]
    classes = out.classes.flatten(0, 1)[owners.cells]  # [M, K]
    goal = owners.ious if config.rescore else torch.ones_like(owners.ious)  # [M]
    one_hot = F.one_hot(owners.labels, config.num_classes)  # [M, K]
    factors = class_factors(owners.stays, owners.labels, config.class_weights)  # [M]

    coord = (places - owners.gt_places).square().sum(dim=1) * owners.stays  # [M]
    obj = (confidences[owners.slots] - goal).square() * owners.stays  # [M]
    noobj = confidences.square() * (1 - owners.owned)  # [B*S*S*P]
    classes_off = (classes - one_hot).square().sum(dim=1) * factors  # [M]
    half = 0.5 / len(raw)
    return {
        "loss_coord": half * config.coord_weight * coord.sum(),
        "loss_obj": half * obj.sum(),
        "loss_noobj": half * config.noobj_weight * noobj.sum(),
        "loss_class": half * classes_off.sum(),
    }


# ----------------------------------------------------------------------------- detection


def decode(raw: Tensor, size: tuple[int, int], config: YoloV1Config) -> tuple[Boxes, Tensor]:
    """Turn network outputs into boxes and scores.

    Nothing bounds the outputs: no sigmoid, no softmax. A score may be negative or above 1.

    Args:
        raw: ``[B, S*S*(K+P*5)]``.
        size: canvas (height, width).

    Returns:
        ``[B, N, 4]`` boxes in canvas pixels and ``[B, N, K]`` scores, confidence times class, with
        N = S*S*P.

    Source:
        darknet, ``detection_layer.c: get_detection_detections``.
    """
    out = split_blocks(raw, config)
    cell = torch.arange(config.grid**2, device=raw.device)  # [S*S]
    corner = torch.stack([cell % config.grid, cell // config.grid], dim=1)  # [S*S, 2] column, row
    centre = (out.places[..., :2] + corner[:, None]) / config.grid  # [B, S*S, P, 2] fractions
    sides = out.places[..., 2:].square()  # [B, S*S, P, 2] fractions
    boxes = cxcywh_to_xyxy(torch.cat([centre, sides], dim=3)) * raw.new_tensor(
        [size[1], size[0]] * 2
    )
    scores = out.confidences[..., None] * out.classes[:, :, None]  # [B, S*S, P, K]
    return boxes.flatten(1, 2), scores.flatten(1, 2)


def select(boxes: Boxes, scores: Tensor, config: YoloV1Config) -> Detections:
    """Keep what one image should report: above the threshold, then suppression per class.

    Scores stay as they are, also above 1: a bound would make ties of them.

    Args:
        boxes: ``[N, 4]``.
        scores: ``[N, K]``.
    """
    return select_per_class(boxes, scores, config.score_threshold, config.nms_iou)


# -------------------------------------------------------------------------------- module


@DETECTORS.register("yolo_v1")
class YoloV1(Detector):
    """You Only Look Once, section 2: a grid of cells, and layers that see the whole image."""

    config_type = YoloV1Config
    config: YoloV1Config

    def __init__(self, config: YoloV1Config) -> None:
        super().__init__()
        self.config = config
        self.backbone = build_backbone(config)
        self.head = YoloV1Head(self.backbone.channels[-1], config)

    @property
    def stretches(self) -> bool:
        return True

    def train_size(self, step: int, steps: int, seed: int) -> tuple[int, int]:
        """One canvas throughout; multi-scale training came with YOLOv2."""
        return self.config.input_size

    def class_rows(self) -> dict[str, Tensor]:
        config, cells = self.config, self.config.grid**2
        classes = torch.arange(config.num_classes).repeat(cells)  # cell by cell, before the rest
        others = torch.full((config.outputs - len(classes),), NO_CLASS)
        last = f"head.whole.{len(self.head.whole) - 1}"
        return layer_rows(last, torch.cat([classes, others]))

    def audit(self, targets: list[Target], size: tuple[int, int]) -> Audit:
        return audit_assignment(targets, size, self.config)

    def preprocess(self, images: list[Tensor], size: tuple[int, int] | None = None) -> Batch:
        device = next(self.parameters()).device
        images = [image.to(device, non_blocking=True) for image in images]
        mean, std = self.backbone.mean, self.backbone.std
        return stretch(images, size or self.config.input_size, mean, std)

    def locate(self, row: int, size: tuple[int, int]) -> Location:
        cell, box = divmod(row, self.config.boxes_per_cell)
        if not 0 <= cell < self.config.grid**2:
            raise IndexError(row)
        return Location(0, divmod(cell, self.config.grid), box)

    def network(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        (pixels,) = inputs
        return (self.head(self.backbone(pixels)),)  # [B, S*S*(K+P*5)]

    def losses(self, batch: Batch, targets: list[Target], step: Step) -> Losses:
        raw = self.outputs(batch)[0].float()
        with torch.autocast(raw.device.type, enabled=False):  # in full precision from here
            owners = assign(raw.detach(), targets, batch.size, self.config)
            return yolo_v1_loss(raw, owners, self.config)

    def postprocess(self, outputs: tuple[Tensor, ...], batch: Batch) -> list[Detections]:
        boxes, scores = decode(outputs[0].float(), batch.size, self.config)
        return [select(b, s, self.config) for b, s in zip(boxes, scores, strict=True)]


class YoloV1TinyConfig(YoloV1Config):
    """What the authors' ``yolov1-tiny.cfg`` changes: Fast YOLO."""

    backbone: str = "darknet_v1_tiny"
    backbone_stride: PositiveInt = 64
    boxes_per_cell: PositiveInt = 2
    head_convs: tuple[tuple[PositiveInt, PositiveInt], ...] = ((256, 1),)
    head: Literal["paper", "repository", "tiny"] = "tiny"


@DETECTORS.register("yolo_v1_tiny")
class YoloV1Tiny(YoloV1):
    """Fast YOLO: a small trunk, one convolution and one fully connected layer."""

    config_type = YoloV1TinyConfig
