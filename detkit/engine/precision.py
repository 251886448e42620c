"""Reduced precision: which one suits the device, and whether it computes what fp32 computes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch

from detkit.evaluation.speed import Precision


def choose_precision(asked: Precision | Literal["auto"], device: torch.device) -> Precision:
    """What ``train.precision: auto`` means on ``device``; anything else means itself.

    On a GPU bf16 where the hardware has it, which needs no loss scaling, else fp16 with scaling.
    Everywhere else fp32: few CPUs gain from bf16, and one that does can be told.
    """
    if asked != "auto":
        return asked
    if device.type != "cuda":
        return "fp32"
    return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"


def build_scaler(precision: Precision, device: torch.device) -> torch.amp.GradScaler:
    """What keeps fp16 gradients in range; it does nothing in the other precisions."""
    return torch.amp.GradScaler(device.type, enabled=precision == "fp16")


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
