"""Learning rates as plain functions of the step (darknet, ``network.c: get_current_rate``)."""

from __future__ import annotations

import math

from detkit.engine.experiment import TrainConfig
from detkit.engine.horizon import Horizon

DROP = 0.1  # what a step multiplies the rate by unless told


def learning_rate(step: int, config: TrainConfig, horizon: Horizon) -> float:
    """Rate of optimiser step ``step`` (from 0).

    Darknet counts the batch at hand, so its batch number is ``step + 1``.
    """
    batch = step + 1
    if batch < config.burn_in:
        return config.lr * (batch / config.burn_in) ** config.burn_in_power
    done = min(batch / horizon.steps, 1.0)
    if config.schedule == "poly":
        return config.lr * (1 - done) ** config.poly_power
    if config.schedule == "cosine":
        wave = 0.5 * (1 + math.cos(math.pi * done))
        return config.lr * (config.lr_final + (1 - config.lr_final) * wave)
    drops = config.lr_step_iterations or tuple(map(horizon.after, config.lr_step_epochs))
    factors = config.lr_step_factors or (DROP,) * len(drops)
    passed = (factor for drop, factor in zip(drops, factors, strict=True) if batch >= drop)
    return config.lr * math.prod(passed)
