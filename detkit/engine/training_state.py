"""Training state of a checkpoint, ``state.pt``: what a run is saved with and goes on from.

Optimiser, raw weights, counters and random states: plain tensors and numbers, read with
``weights_only=True``.

Reading order: ``random_states``, ``training_state``, ``save_checkpoint`` (when it is saved),
``restore``, ``changes_since`` (when a run goes on).
"""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from detkit.checkpoints.checkpoint import WRITE_PROBLEMS, Content, write_checkpoint
from detkit.checkpoints.files import (
    STATE,
    WEIGHTS,
    damaged,
    existing_checkpoint,
    hash_checked,
    is_in,
    read_described,
    weight_forms,
)
from detkit.class_names import names_in_words
from detkit.device import build_scaler
from detkit.engine.records import LOG, flat
from detkit.engine.state import TrainState
from detkit.engine.stopping import Plateau
from detkit.errors import ConfigError, DetkitError
from detkit.experiment.config import ExperimentConfig, names_of_now
from detkit.files import BROKEN
from detkit.flushing import flush
from detkit.weights.finite import is_finite

UNFIT = (RuntimeError, LookupError, ValueError, TypeError, AttributeError, OverflowError)
UNREADABLE = (*BROKEN, pickle.UnpicklingError, AttributeError, IndexError, TypeError)
STATE_TYPES = {  # of its keys
    "step": int,
    "best": float | int | None,
    "optimizer": dict,
    "scaler": dict,
    "random": Tensor,
}


def training_state(
    run: TrainState, experiment: ExperimentConfig, random: Mapping[str, Tensor]
) -> dict[str, Any]:
    """Content of ``state.pt``: what a run is at its step, with ``random`` of all ranks."""
    state: dict[str, Any] = {
        "step": run.step,
        "best": run.best,
        "metric": experiment.eval.best,
        "optimizer": run.optimizer.state_dict(),
        "scaler": run.scaler.state_dict(),
        "decided": run.decided.to_state(run.config, run.device, run.ranks.world),
        **random,
    }
    if run.average is not None:
        state |= {"model": run.model.state_dict(), "averaged": run.average.n_averaged}
    return state


def random_states(run: TrainState) -> dict[str, Tensor]:
    """``[W, bytes]`` torch's random state on every one of W ranks; and of their GPUs."""
    states = {"random": torch.get_rng_state()}
    if run.device.type == "cuda":
        states["random_gpu"] = torch.cuda.get_rng_state(run.device)
    return {
        name: torch.from_numpy(np.stack(run.ranks.gather(state.numpy())))
        for name, state in states.items()
    }


def set_random_states(run: TrainState, state: Mapping[str, Any]) -> int:
    """Take up this rank's random state, if it has one; return how many ranks had."""
    here = torch.get_rng_state()
    saved = state["random"].reshape(-1, len(here))  # of older checkpoints: one state, not a list
    if run.ranks.rank < len(saved):
        torch.set_rng_state(saved[run.ranks.rank].clone())  # it reads from a storage's start
    gpus = state.get("random_gpu", ())
    if run.device.type == "cuda" and run.ranks.rank < len(gpus):
        torch.cuda.set_rng_state(gpus[run.ranks.rank].clone(), run.device)
    return len(saved)


def save_checkpoint(
    folder: Path,
    run: TrainState,
    experiment: ExperimentConfig,
    metrics: Mapping[str, float],
    *,
    resumable: bool,
) -> None:
    """Write ``folder`` anew: to a temporary folder beside it first, then renamed.

    Called on every rank, whose random states it collects; rank 0 writes.

    Raises:
        DetkitError: the disk is full or not writable; what stood in ``folder`` still stands.
    """
    random = random_states(run) if resumable else {}
    if not run.ranks.is_main:
        return
    check_weights(run)
    shown = run.model if run.average is None else run.average.module
    content = Content(
        experiment=experiment,
        class_names=run.class_names,
        weights=shown.state_dict(),
        step=run.step,
        steps=run.horizon.steps,
        metrics=metrics,
        state=training_state(run, experiment, random) if random else {},
        data=run.data,
    )
    try:
        if resumable and (run.folder / LOG).is_file():
            flush(run.folder / LOG)  # it has every step that training goes on after
        write_checkpoint(folder, content, replace=True)
    except WRITE_PROBLEMS as problem:
        there, then = "; the one before it is whole", "go on with --resume"
        if existing_checkpoint(folder) is None:
            there, then = "", "start again"
        raise DetkitError(
            f"{folder}: the checkpoint of step {run.step} could not be written ({problem}){there}. "
            f"Free some space and {then}."
        ) from problem


def check_weights(run: TrainState) -> None:
    """Refuse to save weights that training cannot go on from.

    Raises:
        DetkitError: a weight or a statistic is not finite.
    """
    for name, tensor in run.model.state_dict().items():
        if not is_finite(tensor):
            then = "Start again with"
            if run.saved is not None:
                then = f"Go on from the checkpoint of step {run.saved} with --resume and"
            raise DetkitError(
                f"step {run.step}: {name} is not finite, so nothing was saved. {then} a lower "
                "train.lr, or with train.clip_norm=10."
            )


def restore(run: TrainState, folder: Path, metric: str | None) -> int:
    """Bring ``run`` to exactly where ``folder`` was saved; return how many ranks saved it.

    Rank 0 reads it for all, so no other machine needs the folder. Settings of the optimiser are
    those of the run's config; ``metric`` is what its best checkpoint is chosen by.

    Raises:
        ConfigError: the checkpoint is of another model or cannot be continued.
    """
    ours = run.class_names
    state, weights = run.ranks.from_main(lambda: _read_state(folder, ours))
    try:
        run.model.load_state_dict(state.get("model", weights))
        if run.average is not None:
            run.average.module.load_state_dict(weights)
            run.average.n_averaged.copy_(state["averaged"])
        asked = [{k: v for k, v in g.items() if k != "params"} for g in run.optimizer.param_groups]
        run.optimizer.load_state_dict(state["optimizer"])
        for group, settings in zip(run.optimizer.param_groups, asked, strict=True):
            group.update(settings)  # the config's, which may have changed since
    except UNFIT as problem:
        raise ConfigError(
            f"{folder}: was saved by another model or optimiser than the config's; "
            "resume with the config in its run folder, or train into another --out."
        ) from problem
    try:
        return _restore_progress(run, state, metric)
    except UNFIT as problem:
        raise damaged(folder / STATE, f"is no state of a training ({problem})") from problem


def _restore_progress(run: TrainState, state: Mapping[str, Any], metric: str | None) -> int:
    decided = state.get("decided", {})
    run.step, run.best = int(state["step"]), state["best"]
    run.saved = run.step
    run.decided.take_up(decided, run.config, run.device, run.ranks.world, run.step)
    run.scaler = build_scaler(run.decided.precision, run.device)
    if state["scaler"]:  # empty where the run that was saved had no use for it
        run.scaler.load_state_dict(state["scaler"])
    if state.get("metric", metric) != metric:  # what was best by another says nothing by this one
        run.best, run.decided.plateau = None, Plateau()
    return set_random_states(run, state)


def _read_state(folder: Path, classes: Sequence[str]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if not is_in(folder, STATE):
        raise ConfigError(f"{folder}: has no {STATE}, so training cannot go on from it.")
    described = read_described(folder)
    _check_classes(folder, described["class_names"], classes)
    with hash_checked(folder, described, WEIGHTS, STATE):
        weight_forms(folder)  # one sentence where it holds none
        try:
            with warnings.catch_warnings():  # torch's, about what it then refuses
                warnings.simplefilter("ignore")
                state = torch.load(folder / STATE, map_location="cpu", weights_only=True)
        except UNREADABLE as problem:
            raise damaged(folder / STATE, "is damaged, or no state of a training") from problem
        _check_state(folder / STATE, state)
        return state, load_file(folder / WEIGHTS)


def _check_state(path: Path, state: object) -> None:
    """Refuse what is no state of a training, as only a file without a hash can be."""
    if not isinstance(state, dict) or any(
        not isinstance(state.get(key), kind) for key, kind in STATE_TYPES.items()
    ):
        kinds = ", ".join(STATE_TYPES)
        raise damaged(path, f"is no state of a training: expected {kinds} and their like")


def _check_classes(folder: Path, saved: Sequence[str], ours: Sequence[str]) -> None:
    """Refuse other classes, and the same ones in another order; one may have a new name."""
    place = {name: label for label, name in enumerate(ours)}
    moved = any(place.get(name, label) != label for label, name in enumerate(saved))
    if len(saved) != len(ours) or moved:
        raise ConfigError(
            f"{folder}: the checkpoint knows {names_in_words(saved)}; the data has "
            f"{names_in_words(ours)}. Resume on the same classes in the same order, which "
            "data.classes sets, or train into another --out."
        )


def changes_since(folder: Path, experiment: ExperimentConfig) -> list[str]:
    """``train.lr: 0.001, now 0.01`` for every value that is not what ``folder`` was saved with."""
    saved = read_described(folder)["experiment"]
    saved = {**saved, "train": names_of_now(saved.get("train", {}))}
    before, now = flat(saved), flat(experiment.model_dump(mode="json"))
    return [
        f"{key}: {before.get(key)}, now {now.get(key)}"
        for key in dict.fromkeys([*before, *now])
        if before.get(key) != now.get(key)
    ]
