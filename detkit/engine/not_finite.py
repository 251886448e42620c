"""A loss that is no number: the batch is kept, and one sentence says what broke where."""

from __future__ import annotations

import json

import torch
from safetensors.torch import save_file

from detkit.engine.state import TrainState
from detkit.engine.tasks.base import Part
from detkit.errors import DetkitError
from detkit.files import whole_file, write_atomically
from detkit.types import Losses

NOT_FINITE = "the loss on another rank is not finite"


class NotFiniteError(DetkitError):
    """A loss that is no number: the weights may be past help."""


def not_finite(run: TrainState, losses: Losses, part: Part) -> NotFiniteError:
    """Save the batch that broke training and say which loss term, step and images it was."""
    broken = [name for name, loss in losses.items() if not torch.isfinite(loss)]
    rank = f"_rank_{run.ranks.rank}" if run.ranks.world > 1 else ""
    folder = run.folder / f"not_finite_step_{run.step}{rank}"
    folder.mkdir(parents=True, exist_ok=True)
    with whole_file(folder / "batch.safetensors") as place:
        save_file(part.tensors(), place)
    images = part.described()
    ids = [image["image_id"] for image in images]
    said = {
        "step": run.step,
        "losses": {name: str(loss.item()) for name, loss in losses.items()},
        "images": images,
    }
    write_atomically(folder / "batch.json", json.dumps(said, indent=2) + "\n")
    saved = "" if run.saved is None else f"; the checkpoint of step {run.saved} is whole"
    return NotFiniteError(
        f"step {run.step}: {', '.join(broken) or 'the sum of the losses'} is not finite on images "
        f"{', '.join(ids)}; the batch is in {folder}. Try a lower train.lr, or train.clip_norm=10"
        f"{saved}."
    )
