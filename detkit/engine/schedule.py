"""How long a training lasts, and its learning rate at each step, as plain functions of it.

The rates are darknet's (``network.c: get_current_rate``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from detkit.experiment.config import TrainConfig

AUTO_IMAGES = 6_000  # shown in all where the epochs follow from the data
AUTO_LEAST, AUTO_MOST = 10, 100  # epochs
DROP = 0.1  # what a step multiplies the rate by unless told


@dataclass(frozen=True, slots=True)
class Horizon:
    """How long training lasts, in steps and in epochs: once through ``images`` images.

    Batches run on across the ends of epochs, so an epoch seldom is a whole number of steps.
    """

    steps: int
    images: int
    batch_size: int

    def after(self, epochs: float) -> int:
        """Steps that have shown ``epochs`` epochs' worth of images."""
        return math.ceil(epochs * self.images / self.batch_size)

    def epoch(self, step: int) -> int:
        """Epochs that are over when ``step`` steps are taken."""
        return step * self.batch_size // self.images

    def ends_epoch(self, step: int) -> bool:
        """Whether the last image of an epoch was shown in the last of ``step`` steps."""
        return self.epoch(step) > self.epoch(step - 1)

    @property
    def epochs(self) -> float:
        """How many epochs training lasts."""
        return self.steps * self.batch_size / self.images


def horizon(config: TrainConfig, images: int) -> Horizon:
    """Count the steps of a training on ``images`` images."""
    one_step = Horizon(1, images, config.batch_size)
    epochs = auto_epochs(images) if config.epochs == "auto" else config.epochs or 1
    return replace(one_step, steps=config.iterations or one_step.after(epochs))


def auto_epochs(images: int) -> int:
    """Epochs that ``train.epochs: auto`` means for so many training images.

    Tuning published weights, what counts is how often they are corrected: a small set is shown
    more often, a large one at least ten times. The numbers are this project's own, chosen on sets
    of 130 and 290 images.
    """
    return min(max(math.ceil(AUTO_IMAGES / images), AUTO_LEAST), AUTO_MOST)


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
