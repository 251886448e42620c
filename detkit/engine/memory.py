"""GPU memory: a step that does not fit is taken again in more parts, and the run goes on.

The functions here never call a model. What computes a step is given to them as a function of the
number of parts, so they can be tried without a GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from detkit.errors import DetkitError

T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """What a forward pass changes in training: batch-norm statistics and random state."""

    buffers: tuple[Tensor, ...]
    random: Tensor
    device_random: Tensor | None  # of the GPU

    @classmethod
    def of(cls, model: nn.Module, device: torch.device) -> Snapshot:
        """Remember the buffers of ``model`` and the random states."""
        return cls(
            tuple(buffer.detach().clone() for buffer in model.buffers()),
            torch.get_rng_state(),
            torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        )

    @torch.no_grad()
    def put_back(self, model: nn.Module, device: torch.device) -> None:
        """Bring ``model`` and the random states to where they were."""
        for buffer, before in zip(model.buffers(), self.buffers, strict=True):
            buffer.copy_(before)
        torch.set_rng_state(self.random)
        if self.device_random is not None:
            torch.cuda.set_rng_state(self.device_random, device)


def in_parts_that_fit(
    compute: Callable[[int], T],
    parts: int,
    images: int,
    undo: Callable[[], None],
    agree: Callable[[bool], bool] = lambda here: here,
) -> tuple[T, int]:
    """Call ``compute(parts)``, with twice the parts each time that GPU memory runs out.

    Args:
        compute: takes a step in that many parts. It may raise ``torch.OutOfMemoryError`` anywhere.
        parts: how many to begin with.
        images: of the step; it cannot be cut into more parts than this.
        undo: brings everything that ``compute`` changed to where it was, and gives memory back.
        agree: whether any process ran out, given whether this one did. All of them call it, once
            after each try, so they go on with the same number of parts.

    Returns:
        What ``compute`` returned, and the parts it took.

    Raises:
        DetkitError: one image at a time is too much.
    """
    while True:
        done: list[T] = []
        with suppress(torch.OutOfMemoryError):  # handled below, once the failed frames are gone
            done.append(compute(parts))
        if not agree(not done):
            return done[0], parts
        done.clear()  # another process ran out: this one's result goes, too
        undo()
        if parts >= images:
            raise DetkitError(
                "out of GPU memory with one image at a time; use a smaller model.input_size, "
                "model.min_size or train size, train.precision=bf16, or a GPU with more memory."
            )
        parts = min(2 * parts, images)


def release(device: torch.device) -> None:
    """Give the memory that torch keeps for later back to the GPU, so that large blocks fit."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
