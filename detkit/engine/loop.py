"""The training loop: one page, every statement of training is here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack

import torch
from torch import Tensor, nn

from detkit.distributed.ranks import ElsewhereError
from detkit.engine.clock import BACKWARD, DATA, FORWARD, OPTIMIZER, OTHER
from detkit.engine.memory import Snapshot, in_parts_that_fit, release
from detkit.engine.not_finite import NOT_FINITE, not_finite
from detkit.engine.precision_check import check_precision
from detkit.engine.schedule import learning_rate
from detkit.engine.state import TrainState
from detkit.engine.tasks.base import Part
from detkit.errors import DetkitError


def train_epoch(run: TrainState, batches: Iterable[Part], log: Callable[..., None]) -> None:
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
        run.is_whole = False  # from the first weight that is changed to the last
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
        run.is_whole = True
        run.turn(OPTIMIZER, "waiting for data")
        ended = run.horizon.ends_epoch(run.step) or run.step == run.horizon.steps
        if ended or run.step % config.log_every == 0:
            passed = run.clock.read()  # it waits for the device, so only here
            shown = run.ranks.mean({name: loss.item() for name, loss in mean.items()})
            log(lr=rate, seconds=passed.seconds, data_share=passed.share(DATA), **shown)
        if run.step % config.save_every == 0 or run.stopping():
            return


def forward_backward(run: TrainState, parts: Sequence[Part]) -> dict[str, Tensor]:
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


def gradients(run: TrainState, batch: Part) -> dict[str, Tensor]:
    """:func:`forward_backward` on ``batch``, in more parts where GPU memory runs out.

    The effective batch stays the config's. What a failed try changed is undone before the next,
    and before any error that goes on from here.
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

    with ExitStack() as where_it_fails:
        where_it_fails.callback(undo)
        mean, parts = in_parts_that_fit(
            lambda parts: forward_backward(run, batch.split(parts)),
            run.decided.micro_batches,
            len(batch),
            undo,
            failed,
        )
        where_it_fails.pop_all()
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
