"""Augmentation: one sample in, one sample out, every draw from (seed, epoch, dataset index).

The pipeline is albumentations'; darknet's own transforms are in ``darknet_augment.py``. Both are
imported when the first sample is augmented, so that reading a config stays light.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from pydantic import Field, model_validator

from detkit.config import Config, Fraction
from detkit.data.base import Sample
from detkit.ops.boxes import clip_boxes
from detkit.types import Boxes

if TYPE_CHECKING:
    from numpy.typing import NDArray

CROP_JITTER = 0.5  # two opposite edges that each move by half of a side may meet
PROPOSALS = "proposals"  # what the pipeline is given them as
MIN_SIDE = 0.001  # of the canvas; darknet drops objects whose width or height is less


class AugmentConfig(Config):
    """``train.augment``. Defaults are the authors' for YOLOv2 on PASCAL VOC."""

    # letterbox: onto grey, its shape kept but for jitter (YOLOv2 and later); crop: edges moved by
    # jitter, then stretched to the canvas (YOLOv1), without zoom; auto: as the detector places them
    placement: Literal["letterbox", "crop", "auto"] = "letterbox"
    flip: Fraction = 0.5  # chance of a mirror image
    vertical_flip: Fraction = 0.0  # for images that have no up: microscopes, aerial views
    quarter_turns: Fraction = 0.0  # chance of a draw among 0, 90, 180 and 270 degrees; likewise
    jitter: Fraction = 0.3  # of width and height, before the image is placed on the canvas
    zoom: tuple[float, float] = (1.0, 1.0)  # scale on the canvas; above 1 crops
    hue: Fraction = 0.1  # of the colour circle
    saturation: float = Field(1.5, gt=0)  # factor or its reciprocal
    exposure: float = Field(1.5, gt=0)  # factor or its reciprocal
    min_visible: Fraction = 0.0  # an object cropped to less of its area is dropped
    mosaic: Fraction = 0.0  # chance of four images on one canvas
    mosaic_offset: float = Field(0.2, ge=0, lt=0.5)  # their meeting point's distance to an edge
    mixup: Fraction = 0.0  # chance of a second image laid over
    mixup_alpha: float = Field(1.5, gt=0)  # its share of the pixels is drawn from Beta(a, a)
    mix_until: Fraction = 1.0  # share of the training after which mosaic and mixup end

    @model_validator(mode="after")
    def _crop_leaves_something(self) -> AugmentConfig:
        if self.placement != "crop":
            return self
        if self.jitter >= CROP_JITTER:
            raise ValueError(
                f"jitter: with placement crop each edge moves by up to this share of a side, so it "
                f"must be below {CROP_JITTER}, got {self.jitter}."
            )
        if self.zoom != (1.0, 1.0):
            raise ValueError(
                f"zoom: placement crop fills the canvas and knows no zoom, got {self.zoom}; "
                "leave it out, or take placement: letterbox."
            )
        return self

    @model_validator(mode="after")
    def _zoom_is_a_range(self) -> AugmentConfig:
        if not 0 < self.zoom[0] <= self.zoom[1]:
            raise ValueError(f"zoom: expected [low, high] with 0 < low <= high, got {self.zoom}.")
        return self


def as_placed(config: AugmentConfig, *, stretches: bool) -> AugmentConfig:
    """``config`` with ``placement: auto`` replaced by what goes with a detector.

    Args:
        config: any other placement is kept.
        stretches: whether the detector's images fill its canvas, whatever their shape.
    """
    if config.placement != "auto":
        return config
    if not stretches:
        return config.model_copy(update={"placement": "letterbox"})
    return config.model_copy(update={"placement": "crop", "zoom": (1.0, 1.0)})


class Augmentation:
    """Augment samples as ``config`` says; the pipeline is built at the first call."""

    def __init__(self, config: AugmentConfig) -> None:
        self.config = config
        self._pipeline: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return {"config": self.config, "_pipeline": None}  # a spawned worker builds its own

    def __call__(
        self, sample: Sample, canvas: tuple[int, int] | None, seed: Sequence[int]
    ) -> Sample:
        """Return a changed copy of ``sample``.

        Args:
            sample: image and boxes in its pixels.
            canvas: (height, width) to place the image on; None keeps its size.
            seed: whole numbers that every draw derives from: (seed, epoch, dataset index).

        The objects come out in a drawn order, as in darknet: where two claim one place, YOLOv1
        gives it to the first, YOLOv2 to the last.
        """
        if self._pipeline is None:
            self._pipeline = build_pipeline(self.config)
        rng = np.random.default_rng(list(seed))
        self._pipeline.set_random_state(rng, random.Random(int(rng.integers(2**63))))
        target = sample.target
        shown = {} if sample.proposals is None else {PROPOSALS: as_shares(sample)}
        done = self._pipeline(
            image=np.ascontiguousarray(sample.image.permute(1, 2, 0).numpy()),
            bboxes=target.boxes.numpy(),
            rows=np.arange(len(target)),
            canvas=canvas,
            **shown,
        )
        image: NDArray[np.uint8] = np.ascontiguousarray(done["image"])
        boxes = np.asarray(done["bboxes"], dtype=np.float32).reshape(-1, 4)
        rows = np.asarray(done["rows"], dtype=np.int64)
        keep = rng.permutation(large_enough(boxes, image.shape[:2]).nonzero()[0])  # the last draw
        kept = target.select(torch.from_numpy(rows[keep]))
        return replace(
            sample,
            image=torch.from_numpy(image).permute(2, 0, 1),
            target=replace(kept, boxes=torch.from_numpy(boxes[keep])),
            proposals=None if not shown else on_image(done[PROPOSALS], image.shape[:2]),
        )


def as_shares(sample: Sample) -> NDArray[np.float32]:
    """``[R, 4]`` proposals as shares of the image's sides, which is how transforms take boxes."""
    assert sample.proposals is not None
    height, width = sample.size
    shares: NDArray[np.float32] = (sample.proposals / torch.tensor([width, height] * 2)).numpy()
    return shares


def on_image(shares: NDArray[np.float32], size: tuple[int, int]) -> Boxes:
    """Proposals in pixels of an image of ``size`` (height, width), cut at its edges.

    Those of which nothing is left are dropped; the others keep their order. However little is
    left of one, it is no object and ``min_visible`` is not asked.
    """
    height, width = size
    boxes = clip_boxes(torch.from_numpy(shares) * torch.tensor([width, height] * 2), size)
    return boxes[(boxes[:, 2:] > boxes[:, :2]).all(dim=1)]


def large_enough(boxes: NDArray[np.float32], canvas: tuple[int, int]) -> NDArray[np.bool_]:
    """``[M]`` which of ``[M, 4]`` boxes are not too small on a canvas of (height, width)."""
    sides = boxes[:, 2:] - boxes[:, :2]
    least = MIN_SIDE * np.array([canvas[1], canvas[0]])
    return np.asarray((sides >= least).all(axis=1) & (sides > 0).all(axis=1))


def build_pipeline(config: AugmentConfig) -> Any:
    """Build the albumentations pipeline: turn, place, distort, flip, in darknet's order."""
    # this module first: it sets the switch
    from detkit.data.darknet_augment import CropAndStretch, DistortHSV, PlaceOnCanvas

    import albumentations as A  # isort: skip

    if config.placement == "crop":
        place: Any = CropAndStretch(config.jitter)
    else:
        place = PlaceOnCanvas(config.jitter, config.zoom)
    steps = [
        A.RandomRotate90(p=config.quarter_turns),
        place,
        DistortHSV(config.hue, config.saturation, config.exposure),
        A.HorizontalFlip(p=config.flip),
        A.VerticalFlip(p=config.vertical_flip),
    ]
    for step in steps:  # each by itself: the pipeline would filter proposals as it does objects
        step.add_targets({PROPOSALS: "bboxes"})
    return A.Compose(
        steps,
        bbox_params=A.BboxParams(
            format="pascal_voc",
            label_fields=["rows"],
            clip=True,  # boxes a little outside must not end a run
            filter_invalid_bboxes=True,
            min_visibility=config.min_visible,
        ),
    )
