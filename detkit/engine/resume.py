"""What a run that goes on must have in common with the run so far, and what it may change.

Most of a config may change with ``--resume``, and is said. Three things decide which image comes
when and how far the schedule is: they stay, or the run is refused before its next step, with what
would work.

=====================================  =========================================================
data.train, data.eval                  as they were, or ``--allow-changed-data``
train.batch_size                       as it was: steps count images
train.seed, sampler, repeat_threshold  as they were, but where an epoch ends
train.iterations, train.epochs         another length where the rate of the next step stays what
                                       it would have been; not below the steps that are taken
=====================================  =========================================================

Reading order: ``read_saved``, ``as_long_as_before`` (a length of ``auto``), ``check_resumed``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from detkit.checkpoints.files import MODEL, read_described
from detkit.checkpoints.fingerprint import Fingerprint, saved_fingerprints
from detkit.engine.schedule import Horizon, auto_epochs, learning_rate
from detkit.engine.state import TrainState
from detkit.engine.stopping import Plateau
from detkit.errors import ConfigError
from detkit.experiment.config import ExperimentConfig

ORDER_KEYS = ("seed", "sampler", "repeat_threshold")  # of train: which image comes when
OTHER_ORDER = "images would come in another order, some of them twice in this epoch, others never"


@dataclass(frozen=True, slots=True)
class Saved:
    """The run so far, as its last checkpoint describes it."""

    folder: Path  # of the checkpoint
    train: Mapping[str, Any]  # that block of its config
    steps: int  # it was to take
    data: Mapping[str, Fingerprint]  # of each split; empty in older checkpoints


def read_saved(last: Path) -> Saved:
    """Read what a checkpoint says of its run.

    Raises:
        ConfigError: it says something else.
    """
    described = read_described(last)
    try:
        train, steps = dict(described["experiment"]["train"]), int(described["steps"])
        return Saved(last, train, steps, saved_fingerprints(described))
    except (KeyError, TypeError) as problem:
        raise ConfigError(
            f"{last / MODEL}: does not say what run it is of ({problem}); train into another --out."
        ) from problem


def as_long_as_before(experiment: ExperimentConfig, saved: Saved, images: int) -> ExperimentConfig:
    """Keep the epochs that ``train.epochs: auto`` meant when the run began.

    Args:
        experiment: as read.
        saved: the run so far.
        images: of the training data now, where the checkpoint does not say how many there were.
    """
    train, epochs = experiment.train, saved.train.get("epochs")
    then = saved.data["train"].images if "train" in saved.data else images
    if train.epochs != "auto" or epochs != auto_epochs(then):
        return experiment
    burn_in = min(train.burn_in, saved.steps // 10)  # as settling had it
    kept = train.model_copy(update={"epochs": epochs, "burn_in": burn_in})
    return experiment.model_copy(update={"train": kept})


def check_resumed(run: TrainState, saved: Saved, *, allow_changed_data: bool) -> list[str]:
    """Refuse what a run cannot go on with; ``run`` is restored, and keeps its length.

    Returns:
        A line for each split that has changed.

    Raises:
        ConfigError: another order of images, or a learning rate that would jump.
    """
    lines = check_data(run, saved, allowed=allow_changed_data)
    if run.step == 0:
        return lines
    before, now = saved.train, run.config
    if before.get("batch_size", now.batch_size) != now.batch_size:
        raise ConfigError(
            f"train.batch_size: is {now.batch_size}, but this run has taken {run.step} steps of "
            f"{before['batch_size']} images, by which its order of images and its learning rate "
            f"go. Set it to {before['batch_size']}; where that needs too much memory, "
            f"train.micro_batches=2 computes each step in two parts. {_anew(saved)}"
        )
    for key in ORDER_KEYS:
        value = getattr(now, key)
        if before.get(key, value) != value and run.step * now.batch_size % run.horizon.images:
            raise ConfigError(
                f"train.{key}: is {value}, but was {before[key]} in this run, which stands in the "
                f"middle of an epoch: {OTHER_ORDER}. Set it to {before[key]}. {_anew(saved)}"
            )
    if _length(before) == _length(now.model_dump()):
        run.horizon = replace(run.horizon, steps=saved.steps)  # also where the images are others
    _check_length(run, saved)
    return lines


def _check_length(run: TrainState, saved: Saved) -> None:
    now, plan = run.config, run.horizon
    images = saved.data["train"].images if "train" in saved.data else plan.images
    then = Horizon(saved.steps, images, plan.batch_size)
    asked, before = _length(now.model_dump()), _length(saved.train)
    if run.step > plan.steps:
        raise ConfigError(
            f"{asked}: means {plan.steps} steps, but this run has taken {run.step}. Set "
            f"{before} to go on with it. {_anew(saved)}"
        )
    if run.step == plan.steps:
        return
    rates = [learning_rate(run.step, now, each) for each in (then, plan)]
    if rates[0] == rates[1]:
        return
    jump = f"the learning rate would jump from {rates[0]:.3g} to {rates[1]:.3g} at step {run.step}"
    if asked != before:
        raise ConfigError(
            f"{asked}: this run began with {before}, and train.schedule={now.schedule} depends on "
            f"the length: {jump}. Set {before} to go on with it. {_anew(saved)}"
        )
    drops = [then.after(epochs) for epochs in now.lr_step_epochs]
    raise ConfigError(
        f"train.lr_step_epochs: fall on other steps with {plan.images} images than with "
        f"{then.images}: {jump}. Set train.lr_step_epochs=[] and train.lr_step_iterations={drops}."
    )


def _length(train: Mapping[str, Any]) -> str:
    """``train.epochs=20``, whichever of the two keys says how long a run is."""
    key = "epochs" if train.get("iterations") is None else "iterations"
    return f"train.{key}={train.get(key)}"


def _anew(saved: Saved) -> str:
    """How to train with a change that a run cannot go on with."""
    return f"Or begin a new run from its weights: train.start={saved.folder} --out ANOTHER."


def check_data(run: TrainState, saved: Saved, *, allowed: bool) -> list[str]:
    """Compare the data of a run with what it was; return a line for each split that has changed.

    Where what is measured on has changed, what was best until now says nothing any more.

    Raises:
        ConfigError: a split has changed, and that is not ``allowed``.
    """
    changed = [
        split
        for split, found in run.data.items()
        if split in saved.data and saved.data[split] != found
    ]
    if not changed:
        return []
    said = [_difference(split, saved.data[split], run.data[split]) for split in changed]
    harm = [OTHER_ORDER] * ("train" in changed)
    harm += ["figures would not compare with those before"] * ("eval" in changed)
    if not allowed:
        raise ConfigError(
            f"{'; '.join(said)}. {'; '.join(harm).capitalize()}. Put the data back as it was when "
            f"{saved.folder} was saved, or go on with what there is now by --allow-changed-data. "
            f"{_anew(saved)}"
        )
    if "eval" in changed:
        run.best, run.decided.plateau = None, Plateau()
    return [f"warning: {line}; going on, as --allow-changed-data says" for line in said]


def _difference(split: str, then: Fingerprint, now: Fingerprint) -> str:
    if (then.images, then.objects) == (now.images, now.objects):
        return (
            f"data.{split}: has {now.counts()} as before, but not the same: names, sizes or boxes "
            "differ"
        )
    return f"data.{split}: had {then.counts()} in this run so far, and has {now.counts()} now"
