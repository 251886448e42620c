"""What a run decides for itself as it goes, saved so that a resumed run does not decide again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from detkit.device import Precision, choose_precision
from detkit.engine.stopping import Plateau
from detkit.experiment.config import TrainConfig


@dataclass
class Decisions:
    """Micro-batches, precision, overflows in a row, and how long the metric has not risen."""

    micro_batches: int = 1  # 0: not chosen yet, which a dry run does
    precision: Precision = "fp32"
    fell_back: bool = False  # to fp32, because the reduced precision computed something else
    skipped: int = 0  # batches in a row whose loss was not finite in fp16
    plateau: Plateau = field(default_factory=Plateau)
    measured: int = 0  # steps taken at the last evaluation

    @classmethod
    def at_start(cls, config: TrainConfig, device: torch.device) -> Decisions:
        """What the config says; ``micro_batches: auto`` is 1, but on a GPU to be chosen."""
        undecided = 0 if device.type == "cuda" else 1
        parts = undecided if config.micro_batches == "auto" else config.micro_batches
        return cls(parts, choose_precision(config.precision, device))

    def fall_back(self) -> None:
        """Compute in fp32 from here on."""
        self.precision, self.fell_back = "fp32", True

    def to_state(self, config: TrainConfig, device: torch.device, world: int) -> dict[str, Any]:
        """Plain numbers and texts for ``state.pt``: also what the config asked for, and where."""
        return {
            "micro_batches": self.micro_batches,
            "micro_batches_asked": config.micro_batches,
            "micro_batches_on": place(device, world),
            "fell_back": self.fell_back,
            "precision_asked": config.precision,
            "skipped": self.skipped,
            "plateau": [self.plateau.best, self.plateau.step, self.plateau.waited],
            "measured": self.measured,
        }

    def take_up(
        self,
        state: Mapping[str, Any],
        config: TrainConfig,
        device: torch.device,
        world: int,
        step: int = 0,
    ) -> None:
        """Go on from ``state`` at ``step``; it is empty in checkpoints older than these decisions.

        What the config has asked for anew since then counts more than what was decided; and what
        fitted into the memory of one kind of device, or into one rank's share, says nothing about
        another.
        """
        same_place = state.get("micro_batches_on") == place(device, world)
        if same_place and state.get("micro_batches_asked") == config.micro_batches:
            self.micro_batches = int(state["micro_batches"])
        if state.get("precision_asked") == config.precision and state["fell_back"]:
            self.fall_back()
        self.skipped = int(state.get("skipped", 0))
        self.plateau = Plateau(*state.get("plateau", (None, 0, 0)))
        self.measured = int(state.get("measured", step))  # older ones are saved after it


def place(device: torch.device, world: int) -> list[str | int]:
    """What decides how much of a batch a device has to hold, as far as all ranks know it."""
    return [device.type, world]
