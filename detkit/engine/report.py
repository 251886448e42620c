"""What a run tells a person: its first lines, its config, its first batch, its epochs, its end."""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from detkit.checkpoints.checkpoint import versions
from detkit.config import Origins, explain
from detkit.distributed.ranks import Ranks
from detkit.engine.build import default_model, with_defaults
from detkit.engine.clock import BACKWARD, DATA, FORWARD, OPTIMIZER, Reading
from detkit.engine.log import RunLog, losses_line
from detkit.engine.records import flat
from detkit.engine.saving import owes_evaluation
from detkit.engine.stages import Stage
from detkit.engine.start import Prepared
from detkit.engine.state import TrainState
from detkit.experiment.config import ExperimentConfig, TrainConfig
from detkit.files import whole_file

CONFIG = "config.yaml"  # in a run folder
CLASSES_AN_END = 10  # classes named from either end of the counts
PHASES = (DATA, FORWARD, BACKWARD, OPTIMIZER)  # that an epoch's line tells
DATA_BINDS = 0.2  # share of the time above which the line says that data is waited for


def introduce(log: RunLog, prepared: Prepared) -> None:
    """First lines of a run: versions, device, data, length, where results go."""
    run = prepared.run
    config, plan, task = run.config, run.horizon, run.task
    found = versions()
    log.say(
        f"detkit {found['detkit']}, torch {found['torch']}, python {found['python']}; "
        f"device {run.device}, {torch.get_num_threads()} threads, {run.decided.precision}"
    )
    for line in task.describe(prepared):
        log.say(line)
    parts = run.decided.micro_batches
    log.say(
        f"{plan.steps} steps of {config.batch_size} images "
        f"({parts} micro-batch{'' if parts == 1 else 'es'}), "
        f"{plan.images / plan.batch_size:.4g} steps an epoch; results in {run.folder}"
    )
    if run.step >= plan.steps:
        rest = task.finishes(prepared.experiment) or "nothing is left to train"
        if owes_evaluation(run, prepared.experiment, prepared.eval_data):
            rest = "they are measured next"
        log.say(f"all steps are taken already; {rest}")
    elif run.step:
        log.say(f"resuming after step {run.step}")


def ranks_lines(ranks: Ranks, config: TrainConfig, saved_by: int) -> list[str]:
    """What several ranks do, and that a checkpoint of another number of ranks is resumed."""
    lines = []
    if ranks.world > 1:
        share = config.batch_size // ranks.world
        norm = "over all ranks" if config.sync_batch_norm else "on each rank; rank 0's are saved"
        lines.append(
            f"{ranks.world} ranks with {share} image{'' if share == 1 else 's'} of each step; "
            f"batch-norm statistics {norm}"
        )
    if saved_by != ranks.world:
        lines.append(
            f"warning: this run was saved by {saved_by} rank{'' if saved_by == 1 else 's'} and "
            f"goes on with {ranks.world}: images and their draws stay the same, batch norm sees "
            "other parts of them"
        )
    return lines


def both_ends(said: Sequence[str]) -> str:
    """What is said of each class, in one line; of many classes both ends."""
    between = len(said) - 2 * CLASSES_AN_END
    if between > 0:
        first, last = said[:CLASSES_AN_END], said[-CLASSES_AN_END:]
        said = [*first, f"... {between} classes between ...", *last]
    return ", ".join(said)


def config_files(stage: Stage, experiment: ExperimentConfig, run: TrainState) -> dict[Path, str]:
    """What can be trained from again: the run's own config, and that of the training around it.

    The run folder of several stages holds the whole training's, also when the last is trained.
    """
    origins = stage.origins | dict.fromkeys(_settled(stage.experiment, experiment), "auto")
    files = {stage.folder / CONFIG: explain_run(with_defaults(experiment, run), origins)}
    if stage.title:
        training = stage.training
        whole = training.experiment.model_copy(
            update={
                "model": default_model(training.experiment.model, experiment.model["num_classes"]),
                "data": experiment.data.model_copy(update={"eval": training.experiment.data.eval}),
            }
        )
        files[training.folder / CONFIG] = explain_run(whole, training.origins)
    return files


def _settled(before: ExperimentConfig, after: ExperimentConfig) -> list[str]:
    """Keys of the training that were ``auto``, or followed from one that was."""
    old, new = (flat(each.train.model_dump(mode="json")) for each in (before, after))
    return [f"train.{key}" for key in new if new[key] != old.get(key)]


def explain_run(experiment: ExperimentConfig, origins: Origins) -> str:
    """A resolved config, with the origin of each value."""
    said = "".join(f"# {name} {version}\n" for name, version in versions().items())
    filled = ["model.num_classes", "data.classes"]
    if experiment.train.class_weights == "auto":
        filled.append("model.class_weights")
    return said + explain(experiment, dict.fromkeys(filled, "the data") | origins)


def with_picture(batches: Iterator[Any], run: TrainState) -> Iterator[Any]:
    """The same batches; what the network sees of the first is drawn, once it is asked for."""
    return itertools.chain(_drawn(batches, run), batches)


def _drawn(batches: Iterator[Any], run: TrainState) -> Iterator[Any]:
    first = next(batches)
    sheet = run.task.picture(run, first)
    if sheet is not None:
        with whole_file(run.folder / "first_batch.png") as place:
            Image.fromarray(sheet.permute(1, 2, 0).numpy()).save(place)
    yield first


def epoch_line(epoch: int, run: TrainState, latest: dict[str, float], passed: Reading) -> str:
    """One line an epoch: losses, rate, speed, where the time went, and what binds.

    Args:
        epoch: which one, from 0.
        run: as it is after it.
        latest: the figures recorded last.
        passed: the clock's reading of this epoch, or of its part since the run was resumed.
    """
    speed = passed.steps * run.config.batch_size / max(passed.seconds, 1e-9)
    left = (run.horizon.steps - run.step) * run.config.batch_size / max(speed, 1e-9)
    shares = ", ".join(f"{phase} {passed.share(phase):.0%}" for phase in PHASES)
    line = (
        f"epoch {epoch + 1}, step {run.step}/{run.horizon.steps}: {losses_line(latest)}, "
        f"lr {latest.get('lr', 0.0):.3g}, {speed:.3g} images/s ({shares}), "
        f"{datetime.timedelta(seconds=round(left))} left"
    )
    if passed.share(DATA) < DATA_BINDS:
        return line
    return (
        f"{line}\n  waiting for data {passed.share(DATA):.0%}: raise data.workers, "
        "or set data.cache=ram if the images fit in memory"
    )


def farewell(stage: Stage, finished: bool, step: int) -> str:
    """The last line: what to type next."""
    folder = stage.training.folder
    if not finished:
        where = f" of {stage.title}" if stage.title else ""
        return (
            f"stopped and saved at step {step}{where}. "
            f"Go on: detkit train {folder / CONFIG} --resume"
        )
    if not stage.is_last:
        return f"{stage.title}: done, in {stage.folder}"
    return (
        f"done. Next: detkit eval {folder}   or: detkit detect IMAGE --weights {folder} --out found"
    )
