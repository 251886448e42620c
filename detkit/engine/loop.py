"""The training loop: one page, every statement of training is here."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from detkit.data.loader import TrainBatch
from detkit.detectors import Detector, Step
from detkit.engine.experiment import Horizon, TrainConfig
from detkit.engine.schedule import learning_rate
from detkit.errors import DetkitError
from detkit.evaluation.speed import autocast
from detkit.types import Losses


@dataclass
class Clock:
    """Where the time of training goes: waiting for data, or computing."""

    waited: float = 0.0  # seconds since the last reading
    started: float = field(default_factory=time.perf_counter)

    def timed(self, batches: Iterable[TrainBatch]) -> Iterator[TrainBatch]:
        """Pass ``batches`` on, counting how long each let us wait."""
        source = iter(batches)
        while True:
            asked = time.perf_counter()
            batch = next(source, None)
            self.waited += time.perf_counter() - asked
            if batch is None:
                return
            yield batch

    def read(self) -> tuple[float, float]:
        """Seconds passed and share of them spent waiting, since the last reading."""
        now = time.perf_counter()
        passed, waited = now - self.started, self.waited
        self.started, self.waited = now, 0.0
        return passed, waited / max(passed, 1e-9)


@dataclass
class TrainState:
    """All that changes while training, and what the loop needs to change it."""

    model: Detector
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    average: AveragedModel | None
    config: TrainConfig
    horizon: Horizon
    device: torch.device
    folder: Path  # of the run
    stop_asked: Callable[[], bool] = lambda: False  # Ctrl-C
    step: int = 0  # optimiser steps taken
    best: float | None = None  # the metric of the best checkpoint so far
    clock: Clock = field(default_factory=Clock)

    def autocast(self) -> AbstractContextManager[None]:
        """Reduced precision for the forward pass, as the config says."""
        return autocast(self.device, self.config.precision)


def train_epoch(run: TrainState, batches: Iterable[TrainBatch], log: Callable[..., None]) -> None:
    """One pass over ``batches``, from wherever training stopped, or until Ctrl-C."""
    config = run.config
    run.model.train()
    for batch in run.clock.timed(batches):
        rate = learning_rate(run.step, config, run.horizon)
        for group in run.optimizer.param_groups:
            group["lr"] = rate * group["lr_factor"]
        mean: dict[str, Tensor] = {}  # of each loss term over the whole step
        for part in batch.split(config.micro_batches):  # the effective batch stays the config's
            images = [sample.image for sample in part.samples]
            targets = [sample.target for sample in part.samples]
            with run.autocast():
                losses = run.model(images, targets, None, Step(part.size, part.seen))
            total = torch.stack(list(losses.values())).sum() * part.share
            if not torch.isfinite(total):  # before backward, every step
                raise not_finite(run, losses, part)
            run.scaler.scale(total).backward()
            for name, loss in losses.items():
                mean[name] = mean.get(name, 0) + loss.detach() * part.share
        run.scaler.unscale_(run.optimizer)
        if config.clip_norm is not None:
            nn.utils.clip_grad_norm_(run.model.parameters(), config.clip_norm)
        run.scaler.step(run.optimizer)
        run.scaler.update()
        run.optimizer.zero_grad(set_to_none=True)
        if run.average is not None:
            run.average.update_parameters(run.model)
        run.step += 1
        if run.step % config.log_every == 0 or run.step == run.horizon.steps:
            seconds, waiting = run.clock.read()  # .item() waits for the device, so only here
            log(
                lr=rate,
                seconds=seconds,
                data_share=waiting,
                **{n: x.item() for n, x in mean.items()},
            )
        if run.step % config.save_every == 0 or run.stop_asked():
            return


def not_finite(run: TrainState, losses: Losses, part: TrainBatch) -> DetkitError:
    """Save the batch that broke training and say which loss term, step and images it was."""
    broken = [name for name, loss in losses.items() if not torch.isfinite(loss)]
    folder = run.folder / f"not_finite_step_{run.step}"
    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, Tensor] = {}
    for index, sample in enumerate(part.samples):
        tensors[f"image_{index}"] = sample.image.contiguous()
        tensors[f"boxes_{index}"] = sample.target.boxes
        tensors[f"labels_{index}"] = sample.target.labels
    save_file(tensors, folder / "batch.safetensors")
    ids = [sample.image_id for sample in part.samples]
    said = {
        "step": run.step,
        "losses": {name: str(loss.item()) for name, loss in losses.items()},
        "images": [{"image_id": sample.image_id, "path": sample.path} for sample in part.samples],
    }
    (folder / "batch.json").write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")
    return DetkitError(
        f"step {run.step}: {', '.join(broken) or 'the sum of the losses'} is not finite on images "
        f"{', '.join(ids)}; the batch is in {folder}. Try a lower train.lr, or train.clip_norm=10; "
        "the last checkpoint is whole."
    )
