"""Reduced precision: which one suits the device, and what it needs."""

from __future__ import annotations

from typing import Literal

import torch

from detkit.evaluation.speed import Precision


def choose_precision(asked: Precision | Literal["auto"], device: torch.device) -> Precision:
    """What ``train.precision: auto`` means on ``device``; anything else means itself.

    bf16 where the hardware has it, which needs no loss scaling: GPUs, and CPUs with AVX512-BF16 or
    AMX, where a step takes half as long. On other GPUs fp16 with scaling, elsewhere fp32.
    """
    if asked != "auto":
        return asked
    if device.type == "cpu":
        return "bf16" if cpu_has_bf16() else "fp32"
    if device.type != "cuda":
        return "fp32"
    return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"


def cpu_has_bf16() -> bool:
    """Whether the processor multiplies bf16 itself; others emulate it and are slower by it."""
    asked = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # not every torch has them
    return any(getattr(torch.cpu, name, bool)() for name in asked)


def build_scaler(precision: Precision, device: torch.device) -> torch.amp.GradScaler:
    """What keeps fp16 gradients in range; it does nothing in the other precisions."""
    return torch.amp.GradScaler(device.type, enabled=precision == "fp16")
