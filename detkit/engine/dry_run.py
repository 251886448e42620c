"""The first choice of ``train.micro_batches: auto``: what the largest batch fits into."""

from __future__ import annotations

from typing import Any

import torch

from detkit.engine.memory import Snapshot, in_parts_that_fit, release
from detkit.engine.state import TrainState

MANY_OBJECTS = 100  # in each image of the dry run, where the data's fullest image has fewer
SIZES_LOOKED_AT = 1000  # steps among which the dry run looks for the largest canvas
OBJECT_SIDE = 0.25  # of the canvas; to the memory the number of objects matters, not their size


def choose_micro_batches(run: TrainState, data: Any) -> str:
    """Find the fewest parts in which the worst batch fits; say what was chosen.

    Forward and backward run, the optimiser does not. Weights, batch-norm statistics and random
    states stay as they are. Several ranks choose together, before the model is spread over them.

    Raises:
        DetkitError: one image at a time is too much.
    """
    share = run.config.batch_size // run.ranks.world
    batch, said = run.task.worst_batch(run, data, share)
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
    return f"train.micro_batches: auto is {parts}, by a dry run of {said}"


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
