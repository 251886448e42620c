"""Detectors that are built to be given weights: without the random numbers they would begin with.

Drawing them takes ten times as long as reading the weights. First the tensors of a ``model:`` block
are known on torch's meta device, where none takes memory, so that a block that describes another
network than the weights are of, or one of a million classes, is refused before any does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from textwrap import shorten
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from detkit.checkpoints.files import Form
from detkit.detectors import Detector, build_detector
from detkit.errors import ConfigError, DetkitError

MOST_TENSORS = 5_000  # that a detector is built with; one on ResNet-101 has 700
# What torch and Python say of settings that fit one by one and make no sense together.
SENSELESS = (ArithmeticError, LookupError, MemoryError, RuntimeError, TypeError, ValueError)
DRAWING = ("normal_", "uniform_", "trunc_normal_", "orthogonal_", "sparse_")  # how names of it end


def forms_of(model: Mapping[str, Any]) -> dict[str, Form]:
    """Form of each tensor that a detector has, by its name; no memory is taken for them.

    Args:
        model: the ``model:`` block of a config.

    Raises:
        ConfigError: no detector can be built by it.
    """
    try:
        with torch.device("meta"), _Undrawn():
            detector = build_detector(model)
    except DetkitError:
        raise
    except SENSELESS as problem:
        said = shorten((str(problem).splitlines() or [""])[0], 120) or type(problem).__name__
        raise ConfigError(f"model: describes no network that can be built ({said}).") from None
    return {
        name: Form(tuple(tensor.shape), tensor.is_floating_point())
        for name, tensor in detector.state_dict().items()
    }


def build_undrawn(model: Mapping[str, Any]) -> Detector:
    """Build a detector whose weights have no values yet; torch's random state stays as it is."""
    with _Undrawn():
        return build_detector(model)


class _Undrawn(TorchFunctionMode):
    """Leaves out what fills a tensor with random numbers, and ends what goes on for too long."""

    def __init__(self) -> None:
        super().__init__()
        self._tensors = 0

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is torch.empty:  # not at any call: one may be there to switch gradients on again
            self._tensors += 1
            if self._tensors > MOST_TENSORS:
                raise ConfigError("model: describes more layers than any detector has.")
        if getattr(func, "__name__", "").endswith(DRAWING):
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))
