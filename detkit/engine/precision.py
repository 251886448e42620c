"""Reduced precision: which one suits the device, and what it needs."""

from __future__ import annotations

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
