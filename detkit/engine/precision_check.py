"""Whether the reduced precision computes what fp32 computes; where it does not, fp32 is used."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from detkit.device import Precision, autocast, build_scaler
from detkit.engine.memory import Snapshot
from detkit.engine.state import TrainState
from detkit.engine.tasks.base import Part


def disagreement(
    loss_in: Callable[[Precision], float], precision: Precision, tolerance: float
) -> str | None:
    """Say how the loss in ``precision`` differs from that in fp32, where it does by too much.

    Args:
        loss_in: the loss of one and the same batch, with the same weights, in a precision.
        precision: the reduced one.
        tolerance: the largest difference that is none, as a share of the loss in fp32.

    Returns:
        None where they agree, and where the loss in fp32 is not finite either: then the
        precision is not at fault.
    """
    full, reduced = loss_in("fp32"), loss_in(precision)
    if not math.isfinite(full):
        return None
    if not math.isfinite(reduced):
        return f"the loss in {precision} is {reduced:.4g}, in fp32 {full:.4g}"
    off = abs(reduced - full)
    if off <= tolerance * abs(full):
        return None
    share = f"{off / abs(full):.0%}" if full else "more than all of it"
    return (
        f"the loss in {precision} is {reduced:.4g}, in fp32 {full:.4g} ({share} off; "
        f"train.precision_tolerance is {tolerance:.0%})"
    )


def check_precision(run: TrainState, part: Part) -> None:
    """Fall back to fp32 where the reduced precision computes another loss of ``part``."""
    if run.decided.precision == "fp32":
        return
    inputs = run.inputs(part)
    before = Snapshot.of(run.model, run.device)

    @torch.no_grad()
    def loss_in(precision: Precision) -> float:
        with autocast(run.device, precision):
            losses = run.model(*inputs)
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
