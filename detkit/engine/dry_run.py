"""The first choice of ``train.micro_batches: auto``: what the largest batch fits into."""

from __future__ import annotations

import math

import numpy as np
import torch

from detkit.data import Annotations
from detkit.data.base import Sample
from detkit.data.loader import TrainBatch
from detkit.detectors import Detector
from detkit.engine.memory import Snapshot, in_parts_that_fit, release
from detkit.engine.state import TrainState
from detkit.evaluation.proposals import proposals_of
from detkit.types import make_target

MANY_OBJECTS = 100  # in each image of the dry run, where the data's fullest image has fewer
SIZES_LOOKED_AT = 1000  # steps among which the dry run looks for the largest canvas
OBJECT_SIDE = 0.25  # of the canvas; to the memory the number of objects matters, not their size


def choose_micro_batches(run: TrainState, data: Annotations) -> str:
    """Find the fewest parts in which the worst batch fits; say what was chosen.

    Forward and backward run, the optimiser does not. Weights, batch-norm statistics and random
    states stay as they are. Several ranks choose together, before the model is spread over them.

    Raises:
        DetkitError: one image at a time is too much.
    """
    share = run.config.batch_size // run.ranks.world
    batch = worst_batch(run.model, data, share, run.horizon.steps, run.config.seed)
    before = Snapshot.of(run.model, run.device)
    ballast = future_tensors(run.optimizer, run.ranks.world)

    def compute(parts: int) -> None:
        for part in batch.split(parts):
            losses = run.losses(part, last=False)
            total = torch.stack(list(losses.values())).sum() * part.share
            run.scaler.scale(total).backward()

    def undo() -> None:
        run.optimizer.zero_grad(set_to_none=True)
        before.put_back(run.model, run.device)
        release(run.device)

    was_training = run.model.training
    run.model.train()
    _, parts = in_parts_that_fit(compute, 1, share, undo, run.ranks.any)
    run.model.train(was_training)
    del ballast
    undo()
    run.decided.micro_batches = parts
    _, height, width = batch.samples[0].image.shape
    return (
        f"train.micro_batches: auto is {parts}, by a dry run of {share} images of {width} x "
        f"{height} with {len(batch.samples[0].target.boxes)} objects each"
    )


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


def future_tensors(optimizer: torch.optim.Optimizer, world: int) -> list[torch.Tensor]:
    """Ballast: tensors as large as what training will hold besides what the dry run does.

    That is what the optimiser keeps from its first step on, two moments or one momentum (a resumed
    run holds them already); and with several ranks the gradients on their way to one another,
    which ``DistributedDataParallel`` keeps apart from each rank's own.
    """
    held = 2 if isinstance(optimizer, torch.optim.AdamW) else 1
    copies = (0 if optimizer.state else held) + (world > 1)
    learning = [p for group in optimizer.param_groups for p in group["params"]]
    return [torch.empty_like(p) for p in learning for _ in range(copies)]
