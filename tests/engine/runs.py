"""A small run without its files: the state, and batches to train on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from detkit.checkpoints.description import HASHES
from detkit.checkpoints.files import MODEL
from detkit.data.base import Sample
from detkit.data.loader import TrainBatch
from detkit.engine.build import build_run, read_data, settle
from detkit.engine.loop import train_epoch
from detkit.engine.state import TrainState
from detkit.engine.tasks.detection import DetectionTask
from detkit.experiment.read import read_experiment
from detkit.types import make_target

CPU = torch.device("cpu")
SIDE = 64


def small_run(config: Path, overrides: Sequence[str] = ()) -> tuple[TrainState, list[str]]:
    """The run of ``config`` on a CPU, and the list that its lines go to."""
    experiment, _ = read_experiment(config, overrides)
    data, _ = read_data(experiment)
    settled = settle(experiment, data)
    run = build_run(DetectionTask(), settled, data, config.parent / "run", CPU)
    said: list[str] = []
    run.say = said.append
    return run, said


def unseal(folder: Path) -> None:
    """Take the hashes out of a checkpoint: as an older one has none, its files may be others."""
    described = json.loads((folder / MODEL).read_text())
    del described[HASHES]
    (folder / MODEL).write_text(json.dumps(described))


def batches_of(steps: int, images: int) -> list[TrainBatch]:
    """Noise with one object an image."""
    noise = torch.Generator().manual_seed(7)
    batches = []
    for step in range(steps):
        samples = tuple(
            Sample(
                torch.randint(256, (3, SIDE, SIDE), dtype=torch.uint8, generator=noise),
                make_target(torch.tensor([[4.0, 4.0, 40.0, 50.0]]), torch.tensor([image % 2])),
                f"{step}-{image}",
                "",
            )
            for image in range(images)
        )
        batches.append(TrainBatch(samples, (SIDE, SIDE), seen=step * images))
    return batches


def train_on(run: TrainState, batches: Sequence[TrainBatch]) -> list[dict[str, float]]:
    """Take the steps; return what was recorded."""
    records: list[dict[str, float]] = []
    train_epoch(run, batches, lambda **values: records.append(values))
    return records


def state_of(run: TrainState) -> dict[str, Tensor]:
    """Weights, batch-norm statistics, momenta and random state, copied."""
    found = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}
    for index, moments in run.optimizer.state_dict()["state"].items():
        for name, value in moments.items():
            if isinstance(value, Tensor):
                found[f"{name}.{index}"] = value.clone()
    return found | {"random": torch.get_rng_state()}


def differences(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> list[str]:
    """Names of tensors that are not the same to the bit."""
    assert ours.keys() == theirs.keys()
    return [name for name in ours if not torch.equal(ours[name], theirs[name])]
