"""Devices: what computes, in which precision, and what a table calls it."""

from __future__ import annotations

import contextlib
import platform
from typing import Literal

import torch

from detkit.errors import ConfigError

Precision = Literal["fp32", "bf16", "fp16"]
AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(device: torch.device, precision: Precision) -> contextlib.AbstractContextManager[None]:
    """The context in which a network computes in ``precision``."""
    if precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=AUTOCAST[precision])


def device_name(device: torch.device) -> str:
    """What a table calls the device, e.g. ``NVIDIA H200`` or ``x86_64 CPU, 2 threads``."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    if device.type == "cpu":
        threads = torch.get_num_threads()
        return f"{platform.machine()} CPU, {threads} thread{'' if threads == 1 else 's'}"
    return device.type


def check_device(device: torch.device | str) -> None:
    """Try a device with one number: torch itself knows best whether it can be used.

    Raises:
        ConfigError: it cannot.
    """
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as problem:  # each backend its own
        raise ConfigError(
            f"device={str(device)!r}: torch cannot use it on this machine. Take 'cpu', or look at "
            "the driver and at how torch was installed."
        ) from problem


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
