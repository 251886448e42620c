"""Weights that are numbers: what is NaN or infinite is refused where it is loaded.

One such number in a layer makes all that is computed after it NaN, so nothing is detected, and
nothing says why; training from it ends at its first loss.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from detkit.errors import ConfigError


def refuse_not_finite(where: str, tensors: Mapping[str, Tensor]) -> None:
    """Refuse weights that no network can compute with.

    Args:
        where: what the sentence begins with: the file.
        tensors: by name.

    Raises:
        ConfigError: the first tensor with a number that is not finite, and how many are in all.
    """
    broken = [name for name, tensor in tensors.items() if not is_finite(tensor)]
    if not broken:
        return
    first = tensors[broken[0]]
    bad = first.numel() - int(torch.isfinite(first).sum())
    more = f", and so are numbers of {len(broken) - 1} other tensors" if len(broken) > 1 else ""
    raise ConfigError(
        f"{where}: {bad:,} of {first.numel():,} numbers of {broken[0]} are NaN or infinite{more}: "
        "nothing can be computed with them. Take other weights, as from an earlier checkpoint."
    )


def is_finite(tensor: Tensor) -> bool:
    """Whether every number is finite; the sum says so in a fifth of the time, where it is."""
    if not tensor.is_floating_point() or not tensor.numel():
        return True
    return bool(torch.isfinite(tensor.sum())) or bool(torch.isfinite(tensor).all())
