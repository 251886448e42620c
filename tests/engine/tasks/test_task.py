"""A second task, classification of small pictures, on the same engine: no loop of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from detkit.checkpoints.fingerprint import Fingerprint
from detkit.config import Config, parse
from detkit.engine.log import RunLog
from detkit.engine.start import Prepared
from detkit.engine.state import TrainState
from detkit.engine.tasks.base import Task
from detkit.engine.train import train
from detkit.errors import ConfigError
from detkit.experiment.config import ExperimentConfig

SIDE = 8


@dataclass(frozen=True, slots=True, eq=False)
class Pictures:
    """Pictures that are bright at the top, or at the bottom."""

    pixels: Tensor  # [N, 1, SIDE, SIDE]
    labels: Tensor  # [N] int64
    class_names: tuple[str, ...] = ("bottom", "top")

    def __len__(self) -> int:
        return len(self.labels)


def draw_pictures(count: int, seed: int) -> Pictures:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.rand(count, 1, SIDE, SIDE, generator=generator)
    labels = torch.randint(2, (count,), generator=generator)
    pixels[labels == 1, :, : SIDE // 2] += 0.5
    pixels[labels == 0, :, SIDE // 2 :] += 0.5
    return Pictures(pixels, labels)


@dataclass(frozen=True, slots=True, eq=False)
class Some:
    """Pictures of a step."""

    pixels: Tensor
    labels: Tensor
    rows: tuple[int, ...]
    share: float = 1.0

    def __len__(self) -> int:
        return len(self.labels)

    def split(self, parts: int) -> list[Some]:
        cuts = np.linspace(0, len(self), parts + 1).astype(int).tolist()
        return [
            replace(
                self,
                pixels=self.pixels[start:stop],
                labels=self.labels[start:stop],
                rows=self.rows[start:stop],
                share=(stop - start) / len(self),
            )
            for start, stop in pairwise(cuts)
        ]

    def tensors(self) -> dict[str, Tensor]:
        return {"pixels": self.pixels.contiguous(), "labels": self.labels}

    def described(self) -> list[dict[str, str]]:
        return [{"image_id": str(row), "path": ""} for row in self.rows]


class LinearConfig(Config):
    """Of the classifier."""

    num_classes: int
    gain: float = 1.0


class Linear(nn.Module):
    """One layer."""

    class_names: tuple[str, ...] = ()

    def __init__(self, config: LinearConfig) -> None:
        super().__init__()
        self.config = config
        self.layer = nn.Linear(SIDE * SIDE, config.num_classes)

    def forward(self, pixels: Tensor, labels: Tensor) -> dict[str, Tensor]:
        return {"loss_class": F.cross_entropy(self.logits(pixels) * self.config.gain, labels)}

    def logits(self, pixels: Tensor) -> Tensor:
        found: Tensor = self.layer(pixels.flatten(1))
        return found


class Classification:
    """Which half of a picture is bright."""

    def check(self, experiment: ExperimentConfig) -> None:
        if experiment.model["name"] != "linear":
            raise ConfigError("model.name: no such classifier.")

    def read_data(self, experiment: ExperimentConfig) -> tuple[Pictures, Pictures]:
        return draw_pictures(64, seed=1), draw_pictures(40, seed=2)

    def fill_from_data(
        self, experiment: ExperimentConfig, train_data: Pictures
    ) -> ExperimentConfig:
        model = {**experiment.model, "num_classes": len(train_data.class_names)}
        return experiment.model_copy(update={"model": model})

    def fingerprints(
        self, train_data: Pictures, eval_data: Pictures | None
    ) -> Mapping[str, Fingerprint]:
        return {"train": Fingerprint(len(train_data), len(train_data), "drawn")}

    def build_model(self, experiment: ExperimentConfig, train_data: Pictures) -> Linear:
        settings = {key: value for key, value in experiment.model.items() if key != "name"}
        model = Linear(parse(LinearConfig, settings))
        model.class_names = train_data.class_names
        return model

    def before_first_step(self, prepared: Prepared) -> list[str]:
        return []

    def begin(self, prepared: Prepared, log: RunLog) -> None: ...

    def describe(self, prepared: Prepared) -> list[str]:
        return [f"train: {len(prepared.train_data)} pictures", "model: linear"]

    def batches(
        self, run: TrainState, experiment: ExperimentConfig, train_data: Pictures
    ) -> Iterator[Some]:
        for step in range(run.step, run.horizon.steps):
            rows = np.random.default_rng([run.config.seed, step]).integers(
                0, len(train_data), run.config.batch_size
            )
            yield Some(train_data.pixels[rows], train_data.labels[rows], tuple(rows.tolist()))

    def inputs(self, run: TrainState, part: Some) -> tuple[Tensor, Tensor]:
        return part.pixels, part.labels

    def worst_batch(self, run: TrainState, train_data: Pictures, images: int) -> tuple[Some, str]:
        rows = tuple(range(images))
        some = Some(train_data.pixels[:images], train_data.labels[:images], rows)
        return some, f"{images} pictures"

    def picture(self, run: TrainState, first: Some) -> Tensor:
        return (first.pixels[0].clamp(max=1) * 255).to(torch.uint8).expand(3, -1, -1)

    def measure(
        self, run: TrainState, experiment: ExperimentConfig, eval_data: Pictures, log: RunLog
    ) -> dict[str, float]:
        model = run.model if run.average is None else run.average.module
        assert isinstance(model, Linear)
        with torch.no_grad():
            right = model.logits(eval_data.pixels).argmax(dim=1) == eval_data.labels
        top1 = float(right.float().mean())
        log.say(f"  on {len(eval_data)} pictures: top-1 {top1:.3f}")
        return {"top1": top1}

    def finish(
        self, prepared: Prepared, experiment: ExperimentConfig, log: RunLog
    ) -> dict[str, float]:
        return {}

    def finishes(self, experiment: ExperimentConfig) -> str:
        return ""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "linear.yaml"
    path.write_text(
        "model: {name: linear}\n"
        "train: {epochs: 10, batch_size: 8, lr: 0.5, log_every: 1, average_decay: 0.9}\n"
        "eval: {every: 2, best: null}\n"
    )
    return path


class Heard:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)

    warn = say

    def count(self, title: str) -> Any:
        raise AssertionError


def test_another_task_learns_by_the_same_loop(config: Path, tmp_path: Path) -> None:
    task: Task = Classification()
    told, out = Heard(), tmp_path / "run"
    done = train(config, out, task=task, progress=told)
    assert done.finished
    assert done.metrics["top1"] > 0.9
    assert "train: 64 pictures" in told.lines
    assert "80 steps of 8 images (1 micro-batch), 8 steps an epoch" in " ".join(told.lines)
    assert sum(line.startswith("  on 40 pictures: top-1") for line in told.lines) == 5
    assert (out / "first_batch.png").exists()
    described = json.loads((out / "last" / "model.json").read_text())
    assert described["class_names"] == ["bottom", "top"]
    assert described["experiment"]["model"] == {"name": "linear", "num_classes": 2, "gain": 1.0}
    assert described["metrics"]["top1"] == done.metrics["top1"]
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert {"loss_class", "lr", "step"} <= log[0].keys()


def test_another_task_resumes_exactly(config: Path, tmp_path: Path) -> None:
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    train(config, whole, task=Classification(), progress=Heard())
    steps = iter(range(1000))
    stopped = train(
        *(config, parted),
        task=Classification(),
        progress=Heard(),
        stopped=lambda: next(steps) > 60,
    )
    assert not stopped.finished
    told = Heard()
    done = train(config, parted, resume=True, task=Classification(), progress=told)
    assert done.finished
    assert any(line.startswith("resuming after step ") for line in told.lines)
    ours, theirs = (load_file(run / "last" / "weights.safetensors") for run in (whole, parted))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_another_task_refuses_what_cannot_be_and_keeps_a_batch_that_is_not_finite(
    config: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="no such classifier"):
        train(config, tmp_path / "a", ["model.name=conv"], task=Classification(), progress=Heard())
    words = ["model.gain=1.0e+39"]
    with pytest.raises(Exception, match=r"loss_class is not finite on images \d+"):
        train(config, tmp_path / "b", words, task=Classification(), progress=Heard())
    assert (tmp_path / "b" / "not_finite_step_0" / "batch.safetensors").exists()
