"""The batch of a detection training that needs the most memory."""

from __future__ import annotations

import math

import numpy as np
import torch

from detkit.data import Annotations
from detkit.data.base import Sample
from detkit.data.loader import TrainBatch
from detkit.detectors import Detector
from detkit.detectors.base import proposals_of
from detkit.types import make_target

MANY_OBJECTS = 100  # in each image of the dry run, where the data's fullest image has fewer
SIZES_LOOKED_AT = 1000  # steps among which the dry run looks for the largest canvas
OBJECT_SIDE = 0.25  # of the canvas; to the memory the number of objects matters, not their size


def worst_batch(
    model: Detector, data: Annotations, images: int, steps: int, seed: int
) -> TrainBatch:
    """The batch that needs the most memory: the largest canvas, full of objects.

    Args:
        model: its ``train_size`` says which canvases training draws; where it says none, images
            of the data's largest size stand in.
        data: what is trained on.
        images: of the batch.
        steps: of the whole training.
        seed: of the draws of the canvas, and of the places of the objects.
    """
    size = largest_canvas(model, steps, seed)
    height, width = size or max(map(tuple, data.sizes.tolist()), key=math.prod)
    objects = max(MANY_OBJECTS, int(np.diff(data.offsets).max(initial=0)))
    corners = torch.rand(objects, 2, generator=torch.Generator().manual_seed(seed))
    corners = corners * (1 - OBJECT_SIDE)  # [M, 2] of the canvas
    boxes = torch.cat([corners, corners + OBJECT_SIDE], dim=1)  # [M, 4]
    boxes = boxes * boxes.new_tensor([width, height, width, height])
    target = make_target(boxes, torch.arange(objects) % len(data.class_names))
    image = torch.zeros(3, height, width, dtype=torch.uint8)
    config = proposals_of(model)
    proposals = None if config is None else boxes[torch.arange(config.most) % objects]
    sample = Sample(image, target, "dry run", "", proposals)
    return TrainBatch((sample,) * images, size, seen=0)


def largest_canvas(model: Detector, steps: int, seed: int) -> tuple[int, int] | None:
    """Largest of the canvases (height, width) that training draws; None: as the images are."""
    looked_at = np.linspace(0, steps - 1, min(steps, SIZES_LOOKED_AT)).astype(int).tolist()
    sizes = {model.train_size(step, steps, seed) for step in looked_at}
    return max((size for size in sizes if size is not None), key=math.prod, default=None)
