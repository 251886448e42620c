"""The training loop: one page, every statement of training is here."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from detkit.data.loader import TrainBatch
from detkit.detectors import Detector, Step
from detkit.engine.clock import BACKWARD, DATA, FORWARD, OPTIMIZER, OTHER, Clock
from detkit.engine.decisions import Decisions
from detkit.engine.distributed import ElsewhereError, Ranks
from detkit.engine.experiment import Horizon, TrainConfig
from detkit.engine.memory import Snapshot, in_parts_that_fit, release
from detkit.engine.precision import build_scaler, disagreement
from detkit.engine.schedule import learning_rate
from detkit.errors import DetkitError
from detkit.evaluation.speed import Precision, autocast
from detkit.types import Losses

NOT_FINITE = "the loss on another rank is not finite"


@dataclass
class TrainState:
    """All that changes while training, and what the loop needs to change it."""

    model: Detector
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    average: AveragedModel | None
    config: TrainConfig
    horizon: Horizon
    device: torch.device
    folder: Path  # of the run
    ranks: Ranks = field(default_factory=Ranks)  # alone
    spread: nn.Module | None = None  # the model as several ranks call it; None: alone
    stop_asked: Callable[[], bool] = lambda: False  # Ctrl-C on this rank
    step: int = 0  # optimiser steps taken
    best: float | None = None  # the metric of the best checkpoint so far
    clock: Clock = field(default_factory=Clock)
    decided: Decisions = field(default_factory=Decisions)  # micro-batches, precision, ...
    say: Callable[[str], None] = lambda text: None  # a line for a person
    unfixed: set[str] = field(default_factory=set)  # operations without a deterministic form

    def autocast(self) -> AbstractContextManager[None]:
        """Reduced precision for the forward pass, as the config says."""
        return autocast(self.device, self.decided.precision)

    def losses(self, part: TrainBatch, *, last: bool) -> Losses:
        """Loss terms of ``part``, the ``last`` of a step or not.

        Gradients add up on each rank; the backward of the last part averages them over all ranks.
        """
        images = [sample.image for sample in part.samples]
        targets = [sample.target for sample in part.samples]
        model = self.model if self.spread is None else self.spread
        apart: AbstractContextManager[None] = nullcontext()
        if isinstance(model, DistributedDataParallel) and not last:
            apart = model.no_sync()
        with self.autocast(), apart:
            return model(images, targets, None, Step(part.size, part.seen))

    def turn(self, done: str, doing: str) -> None:
        """From one phase to the next: for the clock, and for ranks that ask where this one is."""
        self.clock.mark(done)
        self.ranks.turn(f"step {self.step}, {doing}", together=True)

    def stopping(self) -> bool:
        """Whether a stop was asked for on any rank; the same answer on every rank."""
        return self.ranks.any(self.stop_asked() or self.ranks.orphaned)


def train_epoch(run: TrainState, batches: Iterable[TrainBatch], log: Callable[..., None]) -> None:
    """One pass over ``batches``, from wherever training stopped, or until Ctrl-C.

    Of several ranks each has its own part of every batch, and all of them take the same steps.
    """
    config = run.config
    run.model.train()
    for batch in run.clock.timed(batches):
        rate = learning_rate(run.step, config, run.horizon)
        for group in run.optimizer.param_groups:
            group["lr"] = rate * group["lr_factor"]
        mean = gradients(run, batch)  # of each loss term over the whole step
        if mean:  # empty: fp16 overflowed, and this batch is left out
            run.scaler.unscale_(run.optimizer)
            if config.clip_norm is not None:
                nn.utils.clip_grad_norm_(run.model.parameters(), config.clip_norm)
            run.scaler.step(run.optimizer)
            run.scaler.update()
            run.optimizer.zero_grad(set_to_none=True)
            if run.average is not None:
                run.average.update_parameters(run.model)
        run.step += 1
        run.turn(OPTIMIZER, "waiting for data")
        ended = run.horizon.ends_epoch(run.step) or run.step == run.horizon.steps
        if ended or run.step % config.log_every == 0:
            passed = run.clock.read()  # it waits for the device, so only here
            shown = run.ranks.mean({name: loss.item() for name, loss in mean.items()})
            log(lr=rate, seconds=passed.seconds, data_share=passed.share(DATA), **shown)
        if run.step % config.save_every == 0 or run.stopping():
            return


def forward_backward(run: TrainState, parts: Sequence[TrainBatch]) -> dict[str, Tensor]:
    """Add up the gradients of ``parts``; return the mean of each loss term over all of them.

    Empty where a loss in fp16 overflowed that may; the gradients then mean nothing.
    """
    if run.step < run.config.precision_check_steps:
        check_precision(run, parts[0])
    mean: dict[str, Tensor] = {}
    for part in parts:
        run.turn(OTHER, "in forward")
        losses = run.losses(part, last=part is parts[-1])
        total = torch.stack(list(losses.values())).sum() * part.share
        finite = bool(torch.isfinite(total))
        if run.ranks.any(not finite):  # before backward, every step, on every rank
            if run.decided.precision == "fp16" and run.decided.skipped < run.config.fp16_skips:
                return {}
            raise ElsewhereError(NOT_FINITE) if finite else not_finite(run, losses, part)
        run.turn(FORWARD, "in backward")
        run.scaler.scale(total).backward()
        run.turn(BACKWARD, "in the optimiser step")
        for name, loss in losses.items():
            mean[name] = mean.get(name, 0) + loss.detach() * part.share
    return mean


def gradients(run: TrainState, batch: TrainBatch) -> dict[str, Tensor]:
    """:func:`forward_backward` on ``batch``, in more parts where GPU memory runs out.

    The effective batch stays the config's. What a failed try changed is undone before the next.
    """
    before = Snapshot.of(run.model, run.device)

    def undo() -> None:
        run.optimizer.zero_grad(set_to_none=True)
        before.put_back(run.model, run.device)
        release(run.device)

    def failed(here: bool) -> bool:
        if here and run.spread is not None:  # the other ranks are in the middle of theirs
            raise DetkitError(
                f"step {run.step}: out of GPU memory; with several ranks a step cannot be taken "
                "again. Go on with --resume and train.micro_batches="
                f"{2 * run.decided.micro_batches} (now {run.decided.micro_batches})."
            )
        return here

    mean, parts = in_parts_that_fit(
        lambda parts: forward_backward(run, batch.split(parts)),
        run.decided.micro_batches,
        len(batch),
        undo,
        failed,
    )
    if parts > run.decided.micro_batches:
        run.decided.micro_batches = parts
        run.say(
            f"step {run.step}: out of GPU memory; the batch of {len(batch)} is now computed in "
            f"{parts} parts"
        )
    if mean:
        run.decided.skipped = 0
    else:
        undo()
        run.decided.skipped += 1
        run.say(f"step {run.step}: the loss in fp16 is not finite; this batch is left out")
    return mean


def check_precision(run: TrainState, part: TrainBatch) -> None:
    """Fall back to fp32 where the reduced precision computes another loss of ``part``."""
    if run.decided.precision == "fp32":
        return
    images = [sample.image for sample in part.samples]
    targets = [sample.target for sample in part.samples]
    before = Snapshot.of(run.model, run.device)

    @torch.no_grad()
    def loss_in(precision: Precision) -> float:
        with autocast(run.device, precision):
            losses = run.model(images, targets, None, Step(part.size, part.seen))
        before.put_back(run.model, run.device)
        return float(torch.stack(list(losses.values())).sum())

    found = disagreement(loss_in, run.decided.precision, run.config.precision_tolerance)
    if run.ranks.any(found is not None):
        run.decided.fall_back()
        run.scaler = build_scaler(run.decided.precision, run.device)
        run.say(
            f"step {run.step}: {found or 'the losses disagree on another rank'}; "
            "training goes on in fp32"
        )


def not_finite(run: TrainState, losses: Losses, part: TrainBatch) -> DetkitError:
    """Save the batch that broke training and say which loss term, step and images it was."""
    broken = [name for name, loss in losses.items() if not torch.isfinite(loss)]
    rank = f"_rank_{run.ranks.rank}" if run.ranks.world > 1 else ""
    folder = run.folder / f"not_finite_step_{run.step}{rank}"
    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, Tensor] = {}
    for index, sample in enumerate(part.samples):
        tensors[f"image_{index}"] = sample.image.contiguous()
        tensors[f"boxes_{index}"] = sample.target.boxes
        tensors[f"labels_{index}"] = sample.target.labels
    save_file(tensors, folder / "batch.safetensors")
    ids = [sample.image_id for sample in part.samples]
    said = {
        "step": run.step,
        "losses": {name: str(loss.item()) for name, loss in losses.items()},
        "images": [{"image_id": sample.image_id, "path": sample.path} for sample in part.samples],
    }
    (folder / "batch.json").write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")
    return DetkitError(
        f"step {run.step}: {', '.join(broken) or 'the sum of the losses'} is not finite on images "
        f"{', '.join(ids)}; the batch is in {folder}. Try a lower train.lr, or train.clip_norm=10; "
        "the last checkpoint is whole."
    )
