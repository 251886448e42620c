"""A run before its first step: where it lies, what it learns from, which weights it has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from detkit.checkpoints.files import existing_checkpoint
from detkit.checkpoints.fingerprint import Fingerprint
from detkit.distributed.ranks import Ranks
from detkit.engine.build import build_run, with_defaults
from detkit.engine.dry_run import choose_micro_batches
from detkit.engine.records import flat
from detkit.engine.resume import as_long_as_before, check_resumed, read_saved
from detkit.engine.start_model import take_over, taken_over
from detkit.engine.start_weights import (
    Source,
    read_start,
)
from detkit.engine.state import TrainState
from detkit.engine.tasks.base import Task
from detkit.engine.training_state import changes_since, restore
from detkit.experiment.config import ExperimentConfig

ONE_PRECISION = "the GPUs differ, so set it to one that all of them have: fp16, or fp32"


def find_run(config: Path, out: Path | None, experiment: ExperimentConfig) -> Path:
    """The run folder; asked of rank 0 alone.

    Without ``out`` it is ``runs/<name of the config>``; a run's own ``config.yaml`` means that
    run's folder.
    """
    if out is not None:
        return out
    places = [config.parent / stage.name for stage in experiment.train.stages]
    begun = any(existing_checkpoint(place / "last") for place in [config.parent, *places])
    return config.parent if config.name == "config.yaml" and begun else Path("runs") / config.stem


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A training whose data is read and whose ranks agree: all but its first or next step."""

    experiment: ExperimentConfig  # with what the data decides
    run: TrainState
    train_data: Any
    eval_data: Any | None
    last: Path | None  # the checkpoint that it goes on from
    source: Source | None  # of a new run, what train.start names
    lines: tuple[str, ...]  # what was taken over from it, or has changed since the last checkpoint
    saved_by: int  # ranks that saved it; of a new run, those that start it


def prepare(
    task: Task,
    experiment: ExperimentConfig,
    folder: Path,
    device: torch.device,
    ranks: Ranks,
    *,
    allow_changed_data: bool = False,
) -> Prepared:
    """Read the data, build the run, bring it to where its last checkpoint was saved.

    Raises:
        DetkitError: what cannot be built or read, and what a run cannot go on with.
    """
    last = ranks.from_main(lambda: existing_checkpoint(folder / "last"))
    saved = None if last is None else ranks.from_main(lambda: read_saved(last))
    ranks.turn("reading data")
    train_data, eval_data = ranks.main_first(lambda: task.read_data(experiment))
    if saved is not None:
        experiment = as_long_as_before(experiment, saved, len(train_data))
    experiment = task.fill_from_data(experiment, train_data)
    source, lines = None, list[str]()
    if last is not None:
        experiment = ranks.from_main(lambda: taken_over(experiment, last))
    elif experiment.train.start is not None:
        source = read_start(experiment, experiment.train.start, ranks)
        experiment, lines = take_over(experiment, source.name, source.model)
    run = build_run(task, experiment, train_data, folder, device)
    run.ranks, run.data = ranks, task.fingerprints(train_data, eval_data)
    ranks.agree(common_settings(experiment, run.data))
    saved_by = restore_ranks(run, last, experiment.eval.best)
    if saved is not None:
        lines += check_resumed(run, saved, allow_changed_data=allow_changed_data)
    ranks.agree({"train.precision": run.decided.precision}, ONE_PRECISION)
    return Prepared(experiment, run, train_data, eval_data, last, source, tuple(lines), saved_by)


def restore_ranks(run: TrainState, last: Path | None, metric: str | None) -> int:
    """Bring every rank to where ``last`` was saved; return how many ranks saved it.

    A rank that is new draws from the seed and its number, so that no two draw the same.
    """
    ranks = run.ranks
    if not ranks.is_main:
        torch.manual_seed(int(np.random.default_rng([run.config.seed, ranks.rank]).integers(2**63)))
    return ranks.world if last is None else restore(run, last, metric)


def before_first_step(prepared: Prepared) -> list[str]:
    """What is left to do before the first step, in lines of what was done.

    What the task needs is made ready; a run that is resumed says what its config has changed.
    Micro-batches are chosen where the device is to choose them.
    """
    run, experiment = prepared.run, prepared.experiment
    lines = [*prepared.lines]
    if prepared.last is not None and run.ranks.is_main:
        changes = changes_since(prepared.last, with_defaults(experiment, run))
        lines += [f"differs from the run so far: {change}" for change in changes]
    lines += run.task.before_first_step(prepared)
    if not run.decided.micro_batches:
        lines.append(choose_micro_batches(run, prepared.train_data))
    return lines


def common_settings(
    experiment: ExperimentConfig, data: Mapping[str, Fingerprint]
) -> dict[str, object]:
    """What must be the same on every rank: the config, and the data, wherever it lies."""
    said = {
        key: value
        for key, value in flat(experiment.model_dump(mode="json")).items()
        if key not in ("data.train", "data.eval")
    }
    for split, found in data.items():
        said[f"data.{split}"] = f"{found.counts()}, content {found.digest}"
    return said
