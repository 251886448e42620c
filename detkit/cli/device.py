"""Which device a command uses: the only place that asks whether there is a GPU."""

from __future__ import annotations

from detkit.errors import ConfigError


def choose_device(asked: str | None) -> str:
    """The device a person asked for, checked; without a wish, a GPU where there is one.

    Raises:
        ConfigError: a device that torch does not know or this machine does not have.
    """
    import torch

    if asked is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(asked)
    except RuntimeError:
        raise ConfigError(f"--device {asked}: no such device; use cpu, cuda or cuda:1.") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"--device {asked}: torch sees {torch.cuda.device_count()} GPUs here; use --device cpu."
        )
    return asked
