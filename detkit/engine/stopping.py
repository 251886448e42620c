"""When training stops early, and when frozen parts begin to learn."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from torch import nn


@dataclass
class Plateau:
    """How long a metric has not risen. The first evaluation sets the mark to rise above."""

    best: float | None = None  # highest so far; None: not measured yet
    step: int = 0  # of that evaluation
    waited: int = 0  # evaluations since

    def saw(self, value: float | None, step: int, min_gain: float) -> None:
        """Take in one evaluation.

        Args:
            value: the metric, higher is better; None where there was nothing to measure, which
                counts as no gain.
            step: optimiser steps taken.
            min_gain: a rise of this or less is none.
        """
        if value is not None and (self.best is None or value > self.best + min_gain):
            self.best, self.step, self.waited = value, step, 0
        else:
            self.waited += 1

    def reason(self, patience: int | None, metric: str | None) -> str | None:
        """Why training ends here; None: it goes on."""
        if patience is None or self.waited < patience:
            return None
        evaluations = f"{self.waited} evaluation{'' if self.waited == 1 else 's'}"
        if self.best is None:
            return f"stopping early: {metric} could not be measured in {evaluations}"
        return (
            f"stopping early: {metric} has not risen above {self.best:.4f} (step {self.step}) "
            f"for {evaluations}"
        )


def part_of(name: str, parts: Collection[str]) -> bool:
    """Whether the parameter ``name`` belongs to one of ``parts`` of a model."""
    return any(name == part or name.startswith(f"{part}.") for part in parts)


def frozen_parts(
    freeze: Collection[str], unfreeze: Mapping[str, int], epoch: int
) -> tuple[str, ...]:
    """Those of ``freeze`` that do not learn after ``epoch`` whole epochs."""
    return tuple(part for part in freeze if epoch < unfreeze.get(part, epoch + 1))


def thaw(
    model: nn.Module, freeze: Collection[str], unfreeze: Mapping[str, int], epoch: int
) -> tuple[str, ...]:
    """Let the parts learn whose time has come after ``epoch`` whole epochs.

    Only parameters within ``freeze`` change. Batch norm follows at the next ``model.train()``:
    parts whose parameters are all frozen stay in eval mode.

    Returns:
        The parts that begin to learn now and did not before.
    """
    frozen = frozen_parts(freeze, unfreeze, epoch)
    begun = []
    for part in freeze:
        own = [p for name, p in model.named_parameters() if part_of(name, [part])]
        free = [
            parameter
            for name, parameter in model.named_parameters()
            if part_of(name, [part]) and not part_of(name, frozen)
        ]
        if part not in frozen and not any(parameter.requires_grad for parameter in own):
            begun.append(part)
        for parameter in free:
            parameter.requires_grad_(True)
    return tuple(begun)
