"""What a detector is: raw images in; losses out while training, detections out otherwise."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from detkit.arguments import check_settings
from detkit.backbones.base import Backbone
from detkit.config import Config, parse
from detkit.detections import Detections
from detkit.errors import ConfigError, DetkitError
from detkit.ops.boxes import size_iou, xyxy_to_cxcywh
from detkit.preprocess import Batch, Geometry
from detkit.proposals.selective_search import ProposalConfig
from detkit.registry import Registry
from detkit.types import Boxes, Losses, Target

NO_CLASS = -1  # of a row of weights that is of no class: boxes, objectness, background
SEED_BITS = 63  # of a draw; what a generator takes


@dataclass(frozen=True, slots=True)
class Step:
    """Where training stands when a batch is shown."""

    size: tuple[int, int] | None = None  # canvas (height, width) drawn for this batch
    seen: int = 0  # images trained on before this batch
    seed: int = 0  # what a detector's draws derive from, together with ``seen``
    share: float = 1.0  # of the step's images that are shown at once; the others come apart

    def generator(self) -> torch.Generator:
        """Draws that are the same whenever this batch is shown; on the CPU, for every device."""
        draws = random.Random(f"{self.seed}/{self.seen}").getrandbits(SEED_BITS)
        return torch.Generator().manual_seed(draws)


@dataclass(frozen=True, slots=True, eq=False)
class Audit:
    """What a detector can make of M objects at best, before it has learned anything."""

    best_ious: Tensor  # [M] IoU of an object with the anchor that answers for it, centres together
    owners: Tensor  # [M] int64, which anchor that is
    lost: Tensor  # [M] bool, another object takes the only prediction that could answer for it
    strides: Tensor  # [M] canvas pixels between neighbouring predictions, where it is answered
    anchors: Tensor  # [A, 2] width and height, canvas pixels; with A = 0 the first two are zeros

    @property
    def has_anchors(self) -> bool:
        """Whether ``best_ious`` and ``owners`` mean anything."""
        return len(self.anchors) > 0


@dataclass(frozen=True, slots=True)
class Scale:
    """One of the grids that share out a detector's anchors."""

    stride: int  # canvas pixels per cell
    anchors: tuple[int, ...]  # which anchors it has, by their place in the config


@dataclass(frozen=True, slots=True)
class Passes:
    """What a detector's network is given for one image."""

    size: tuple[int, int]  # (height, width) of an input
    count: int  # inputs, at most


@dataclass(frozen=True, slots=True)
class Location:
    """Where a prediction comes from: a cell and an anchor of a grid, or a region."""

    level: int = 0  # of the network's outputs, in their order
    cell: tuple[int, int] | None = None  # (row, column) of the level's grid
    anchor: int | None = None  # by its place in the config; of YOLOv1 which box of the cell
    region: int | None = None  # of the image's proposals, in their order


class Detector(nn.Module, ABC):
    """Raw images in; losses out while training, detections out otherwise.

    Images are ``[3, H, W]`` uint8 RGB tensors of any size. Boxes, in and out, are in the pixels
    of those raw images: resizing and its inverse happen here, and only here.
    """

    config_type: ClassVar[type[Any]]  # a Config; every detector knows its own
    needs_proposals: ClassVar[bool] = False
    uses_crowds: ClassVar[bool] = False  # its training wants to know where crowds are
    size_key: ClassVar[str] = "input_size"  # the config field that sets its canvas
    anchors_key: ClassVar[str | None] = None  # the config field that holds its anchors, if any
    anchors_unit: ClassVar[int] = 1  # canvas pixels that one unit of that field means
    masks_key: ClassVar[str | None] = None  # the field with the anchors of each scale, coarse first
    shape_keys: ClassVar[tuple[str, ...]] = ()  # fields that anchors follow from, where none lists
    derived: ClassVar[tuple[str, ...]] = ()  # tensors that follow from the config: no weights
    class_names: tuple[str, ...] = ()
    config: Config
    backbone: Backbone

    def forward(
        self,
        images: list[Tensor],
        targets: list[Target] | None = None,
        proposals: list[Boxes] | None = None,
        step: Step = Step(),
    ) -> Losses | list[Detections]:
        """One door, so that DDP and autocast wrap both roads."""
        if not self.training:
            return self.detect_batch(images, proposals)
        if targets is None:
            raise DetkitError("training needs targets; call .eval() first to detect")
        return self.compute_losses(images, targets, proposals, step)

    def compute_losses(
        self,
        images: list[Tensor],
        targets: list[Target],
        proposals: list[Boxes] | None = None,
        step: Step = Step(),
    ) -> Losses:
        """Losses of a batch; also called in eval mode, under ``no_grad``, for validation."""
        given = self.find_proposals(images) if proposals is None else proposals
        batch = self.preprocess(images, step.size).with_proposals(given)
        return self.losses(batch, on_canvas(targets, batch), step)

    @torch.no_grad()  # not inference_mode: a grid cached here must stay usable in training
    def detect_batch(
        self, images: list[Tensor], proposals: list[Boxes] | None = None
    ) -> list[Detections]:
        """Detections of each image, in its own pixels, best score first."""
        found: dict[int, Detections] = {}
        every = self.find_proposals(images) if proposals is None else proposals
        for rows in self.alike(images):
            given = None if every is None else [every[row] for row in rows]
            batch = self.preprocess([images[row] for row in rows]).with_proposals(given)
            every_one = self.postprocess(self.outputs(batch), batch)
            for row, one, place in zip(rows, every_one, batch.geometry, strict=True):
                boxes = place.to_image(one.boxes)
                found[row] = replace(one, boxes=boxes, names=self.class_names)
        return [found[row] for row in range(len(images))]

    def outputs(self, batch: Batch) -> tuple[Tensor, ...]:
        """All that the networks say of a batch: what :meth:`postprocess` makes detections of.

        One pass of :meth:`network`; with a second network, the passes and what lies between them.
        """
        return self.network((batch.pixels,))

    @property
    def show_threshold(self) -> float:
        """Least score that is shown unless told."""
        return float(getattr(self.config, "show_threshold", 0.0))

    @property
    def stretches(self) -> bool:
        """Whether images fill its canvas, whatever their shape."""
        return False

    def find_proposals(self, images: list[Tensor]) -> list[Boxes] | None:
        """What a detector that needs proposals takes where none are given, in image pixels."""
        return None

    def alike(self, images: list[Tensor]) -> list[list[int]]:
        """Which images are detected in together, by their place in the list: all of them.

        A detector whose canvas follows from the images keeps those of other canvases apart, so
        that what is found in one does not depend on the others.
        """
        return [[*range(len(images))]] if images else []

    def train(self, mode: bool = True) -> Detector:
        """Set training mode; parts whose parameters are all frozen stay in eval mode."""
        super().train(mode)
        for part in [part for part in self.modules() if part is not self]:
            parameters = list(part.parameters())
            if parameters and not any(parameter.requires_grad for parameter in parameters):
                part.eval()
        return self

    def train_size(self, step: int, steps: int, seed: int) -> tuple[int, int] | None:
        """Canvas (height, width) of training batch ``step`` of ``steps``: a draw from ``seed``.

        None where the canvas follows from the images.
        """
        return None

    def audit(self, targets: list[Target], size: tuple[int, int]) -> Audit | None:
        """What the rules of training make of objects, by the detector's own assignment.

        What the doctor of ``detkit data check`` asks; None where a detector has nothing to say.

        Args:
            targets: one an image, boxes in canvas pixels; the rows of the answer are theirs.
            size: canvas (height, width).
        """
        return None

    def anchor_scales(self) -> tuple[Scale, ...]:
        """The grids that share out the anchors, fine to coarse; none without anchors."""
        if self.anchors_key is None:
            return ()
        every = tuple(range(len(getattr(self.config, self.anchors_key))))
        masks = getattr(self.config, self.masks_key)[::-1] if self.masks_key else (every,)
        strides = self.backbone.strides[-len(masks) :]
        return tuple(Scale(*scale) for scale in zip(strides, masks, strict=True))

    def class_rows(self) -> Mapping[str, Tensor]:
        """Which rows of which weights speak of which class.

        Returns:
            For each tensor of ``state_dict`` that speaks of classes ``[rows of its dimension 0]``
            int64: the label that a row speaks of, :data:`NO_CLASS` where it speaks of none.
        """
        return {}

    def shown(self, batch: Batch, targets: list[Target], step: Step) -> list[tuple[Tensor, Target]]:
        """What the network sees of a training batch, to be drawn: each image on its canvas.

        Args:
            batch: of ``preprocess``, with proposals where they are given.
            targets: one an image, canvas pixels.
            step: of the batch.

        Returns:
            ``[3, h, w]`` normalised pixels, all of one size, and what is in them.
        """
        return list(zip(batch.pixels, targets, strict=True))

    def passes(self) -> Passes:
        """What the network is given for a square image: one canvas."""
        square = torch.zeros(3, 64, 64, dtype=torch.uint8)  # any: its canvas is what counts
        return Passes(self.preprocess([square]).size, 1)

    def full_batch(self, size: tuple[int, int]) -> Batch:
        """A batch of one image that fills a canvas of ``size`` and costs what an image may cost."""
        pixels = torch.zeros(1, 3, *size, device=next(self.parameters()).device)
        return Batch(pixels, (Geometry((1.0, 1.0), (0.0, 0.0), size),))

    def locate(self, row: int, size: tuple[int, int]) -> Location:
        """Where a prediction comes from, such as that of a detection: here, a region.

        Args:
            row: of the predictions of an image, as in ``Detections.rows``.
            size: canvas (height, width), ``Batch.size``.

        Raises:
            IndexError: there is no such prediction.
        """
        if row < 0:
            raise IndexError(row)
        return Location(region=row)

    @abstractmethod
    def preprocess(self, images: list[Tensor], size: tuple[int, int] | None = None) -> Batch:
        """Place images on a canvas of ``size`` (height, width), or of the config's size.

        Where an image lies follows from its shape alone, never from its pixels.
        """

    @abstractmethod
    def network(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The part that is compiled, timed and exported: tensors in, raw tensors out.

        Its input is a batch's pixels, ``[B, 3, H, W]``. A detector of two stages says what comes
        before its regions here, and of regions in ``region_network``, of the same form.
        """

    @abstractmethod
    def losses(self, batch: Batch, targets: list[Target], step: Step) -> Losses:
        """Weighted, finite scalars named ``loss_*``; ``targets`` are in canvas pixels."""

    @abstractmethod
    def postprocess(self, outputs: tuple[Tensor, ...], batch: Batch) -> list[Detections]:
        """Detections of each image, in canvas pixels, best score first.

        Args:
            outputs: of :meth:`outputs`, in any precision.
            batch: that they are of: where the images lie, and their proposals.
        """


def proposals_of(detector: Detector) -> ProposalConfig | None:
    """How the proposals of a detector are found; None for one that needs none from outside."""
    if not detector.needs_proposals:
        return None
    config = getattr(detector.config, "proposals", None)
    return config if isinstance(config, ProposalConfig) else None


def layer_rows(layer: str, labels: Tensor) -> dict[str, Tensor]:
    """``labels`` of the rows of a layer's weights and of its bias, for ``Detector.class_rows``."""
    return {f"{layer}.weight": labels, f"{layer}.bias": labels}


def anchored_rows(anchors: int, num_classes: int) -> Tensor:
    """``[A*(5+K)]`` labels of the channels of an output on anchors: box, objectness, K classes."""
    one = torch.cat([torch.full((5,), NO_CLASS), torch.arange(num_classes)])
    return one.repeat(anchors)


def locate_on_scales(row: int, size: tuple[int, int], scales: Sequence[Scale]) -> Location:
    """Where a prediction comes from whose row counts scales, then anchors, then cells.

    Args:
        row: of the predictions of an image.
        size: canvas (height, width).
        scales: in the order of the network's outputs.

    Raises:
        IndexError: there is no such prediction.
    """
    first = 0
    for level, scale in enumerate(scales):
        width = size[1] // scale.stride
        cells = size[0] // scale.stride * width
        if first <= row < first + cells * len(scale.anchors):
            anchor, cell = divmod(row - first, cells)
            return Location(level, divmod(cell, width), scale.anchors[anchor])
        first += cells * len(scale.anchors)
    raise IndexError(row)


def on_canvas(targets: list[Target], batch: Batch) -> list[Target]:
    """What training may see of ``targets``, one an image of ``batch``, in its canvas pixels."""
    placed = [
        geometry.place(target.without_difficult())
        for target, geometry in zip(targets, batch.geometry, strict=True)
    ]
    return [target.to(batch.pixels.device) for target in placed]


def audit_anchors(
    targets: list[Target],
    anchors: Tensor,
    strides: Sequence[int],
    claims: Sequence[tuple[Tensor, Tensor]],
) -> Audit:
    """The audit of a detector in which the anchor nearest in shape answers for an object.

    Args:
        targets: one an image, boxes in canvas pixels.
        anchors: ``[A, 2]`` in canvas pixels.
        strides: A of them, canvas pixels per cell where each anchor stands.
        claims: of each scale ``[N]`` int64, the object of each claim on a prediction, and ``[N]``,
            0 where that prediction is another claim's.
    """
    sizes = torch.cat([xyxy_to_cxcywh(target.boxes)[:, 2:] for target in targets])  # [M, 2]
    best_ious, best = size_iou(sizes, anchors).max(dim=1)  # [M], [M]
    answered = torch.zeros_like(best_ious)  # [M]
    for objects, stays in claims:
        answered = answered.index_add(0, objects, stays)
    return Audit(
        best_ious=best_ious,
        owners=best,
        lost=answered == 0,
        strides=best_ious.new_tensor(strides)[best],
        anchors=anchors,
    )


DETECTORS: Registry[type[Detector]] = Registry("detector")


def build_detector(model: Mapping[str, Any]) -> Detector:
    """Build the detector a config's ``model:`` block describes.

    Raises:
        ConfigError: the block is missing its name or has a key or value that cannot be.
        UnknownNameError: no detector, or no backbone, has that name.
    """
    check_settings(model, "build_detector: model", "{'name': 'yolo_v3', 'num_classes': 20}")
    settings = dict(model)
    if "name" not in settings:
        raise ConfigError(f"model.name: missing; known detectors: {', '.join(DETECTORS)}.")
    detector = DETECTORS[settings.pop("name")]
    return detector(parse(detector.config_type, settings, path="model."))


def rebuild_detector(detector: Detector, model: Mapping[str, Any]) -> Detector:
    """``detector`` by the settings of another ``model:`` block: the same weights, in eval mode.

    Raises:
        ConfigError: as of :func:`build_detector`.
        RuntimeError: the settings make other weights.
    """
    rebuilt = build_detector(model)
    rebuilt.load_state_dict(detector.state_dict())
    rebuilt.class_names = detector.class_names
    return rebuilt.eval().to(next(detector.parameters()).device)
