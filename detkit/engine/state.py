"""The state of a run: all that changes while training, and what the loop asks of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from detkit.checkpoints.fingerprint import Fingerprint
from detkit.device import autocast
from detkit.distributed.ranks import Ranks
from detkit.engine.clock import Clock
from detkit.engine.decisions import Decisions
from detkit.engine.schedule import Horizon
from detkit.engine.tasks.base import Part, Task
from detkit.experiment.config import TrainConfig
from detkit.types import Boxes, Losses


@runtime_checkable
class Proposer(Protocol):
    """What suggests regions to a model that learns from another's: a Faster R-CNN in eval mode."""

    def propose(self, images: list[Tensor], /) -> list[Boxes]:
        """Regions of each image, in its pixels, best first, without gradient."""


@dataclass(kw_only=True)
class ModelState:
    """What a run is at a step: all that a checkpoint saves and a resumed run takes up."""

    model: nn.Module  # with class_names and config
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    average: AveragedModel | None
    data: Mapping[str, Fingerprint] = field(default_factory=dict)  # of each split
    step: int = 0  # optimiser steps taken
    best: float | None = None  # the metric of the best checkpoint so far
    decided: Decisions = field(default_factory=Decisions)  # micro-batches, precision, ...

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the model's labels."""
        return cast(tuple[str, ...], self.model.class_names)


@dataclass(kw_only=True)
class Services:
    """What serves a run in this process, and is made anew by the next."""

    config: TrainConfig
    horizon: Horizon
    device: torch.device
    folder: Path  # of the run
    task: Task
    ranks: Ranks = field(default_factory=Ranks)  # alone
    spread: nn.Module | None = None  # the model as several ranks call it; None: alone
    stop_asked: Callable[[], bool] = lambda: False  # Ctrl-C on this rank
    is_whole: bool = True  # no step is half taken, so what stands in memory can be saved
    saved: int | None = None  # the step of the last checkpoint; None: there is none
    clock: Clock = field(default_factory=Clock)
    say: Callable[[str], None] = lambda text: None  # a line for a person
    unfixed: set[str] = field(default_factory=set)  # operations without a deterministic form


@dataclass(kw_only=True)
class TrainState(ModelState, Services):
    """A run: its state, what serves it, and what the loop asks of both."""

    def autocast(self) -> AbstractContextManager[None]:
        """Reduced precision for the forward pass, as the config says."""
        return autocast(self.device, self.decided.precision)

    def losses(self, part: Part, *, last: bool) -> Losses:
        """Loss terms of ``part``, the ``last`` of a step or not.

        Gradients add up on each rank; the backward of the last part averages them over all ranks.
        """
        model = self.model if self.spread is None else self.spread
        apart: AbstractContextManager[None] = nullcontext()
        if isinstance(model, DistributedDataParallel) and not last:
            apart = model.no_sync()
        with self.autocast(), apart:
            return model(*self.inputs(part))

    def inputs(self, part: Part) -> tuple[Any, ...]:
        """What the model is called with to learn from ``part``."""
        return self.task.inputs(self, part)

    def turn(self, done: str, doing: str) -> None:
        """From one phase to the next: for the clock, and for ranks that ask where this one is."""
        self.clock.mark(done)
        self.ranks.turn(f"step {self.step}, {doing}", together=True)

    def stopping(self) -> bool:
        """Whether a stop was asked for on any rank; the same answer on every rank."""
        return self.ranks.any(self.stop_asked() or self.ranks.orphaned)
