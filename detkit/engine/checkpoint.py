"""Checkpoints: self-describing folders that appear whole or not at all.

``weights.safetensors`` (what detects: the average where one is kept), ``model.json`` (resolved
config, class names, versions, metrics) and, while training, ``state.pt`` (optimiser, raw weights,
random states; plain tensors and numbers, read with ``weights_only=True``).
"""

from __future__ import annotations

import importlib.metadata
import json
import platform
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from detkit.arguments import check_path
from detkit.class_names import names_in_words
from detkit.config import parse
from detkit.detectors import Detector, build_detector
from detkit.engine.experiment import ExperimentConfig
from detkit.engine.fingerprint import Fingerprint
from detkit.engine.precision import build_scaler
from detkit.engine.records import LOG, flat
from detkit.engine.state import TrainState
from detkit.engine.stopping import Plateau
from detkit.errors import ConfigError, DetkitError, did_you_mean
from detkit.flushing import flush, make_lasting_folder

WEIGHTS, MODEL, STATE = "weights.safetensors", "model.json", "state.pt"
FORMAT = 1  # of model.json
WRITE_PROBLEMS = (OSError, SafetensorError, RuntimeError)  # torch.save raises RuntimeError
VERSIONED = ("detkit", "torch", "torchvision", "numpy", "albumentations", "opencv-python-headless")


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """What a checkpoint folder holds, ready to use."""

    detector: Detector  # in eval mode, with its class names
    experiment: ExperimentConfig
    name: str  # of the run
    path: Path
    step: int
    metrics: Mapping[str, float]
    darknet: Mapping[str, Any]  # of an import: the file's header and origin; else empty


@dataclass(frozen=True, slots=True, eq=False)
class Content:
    """What is to be written to a checkpoint folder."""

    experiment: ExperimentConfig  # every default of the model written out
    class_names: tuple[str, ...]
    weights: Mapping[str, Tensor]  # what detects, by name
    step: int
    steps: int
    metrics: Mapping[str, float] = field(default_factory=dict)
    darknet: Mapping[str, Any] = field(default_factory=dict)  # as in Checkpoint
    torchvision: Mapping[str, Any] = field(default_factory=dict)  # of an import: its file's origin
    state: Mapping[str, Any] = field(default_factory=dict)  # what training goes on from; or empty
    data: Mapping[str, Fingerprint] = field(default_factory=dict)  # of each split; or empty


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
        class_names=run.model.class_names,
        weights=shown.state_dict(),
        step=run.step,
        steps=run.horizon.steps,
        metrics=metrics,
        state=_training_state(run, experiment, random) if random else {},
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


def write_checkpoint(folder: Path, content: Content, *, replace: bool) -> None:
    """Write a checkpoint of either kind, trained here or imported: whole or not at all.

    Args:
        folder: its place; a temporary folder beside it is renamed to it.
        content: what to write.
        replace: put it in the place of what stands there; else only an empty folder gives way.

    Raises:
        OSError: it cannot be written, or without ``replace`` something stands there; so do
            the other ``WRITE_PROBLEMS``. What stood in ``folder`` still stands.
    """
    temporary = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        make_lasting_folder(folder.parent)
        temporary.mkdir()
        _write(temporary, content)
        for path in (*temporary.iterdir(), temporary):
            flush(path)
        if replace:
            replace_folder(temporary, folder)
        else:
            if folder.is_dir():
                folder.rmdir()  # refuses a folder that is not empty
            temporary.rename(folder)
            flush(folder.absolute().parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)  # there only when writing failed


def check_weights(run: TrainState) -> None:
    """Refuse to save weights that training cannot go on from.

    Raises:
        DetkitError: a weight or a statistic is not finite.
    """
    for name, tensor in run.model.state_dict().items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            then = "Start again with"
            if run.saved is not None:
                then = f"Go on from the checkpoint of step {run.saved} with --resume and"
            raise DetkitError(
                f"step {run.step}: {name} is not finite, so nothing was saved. {then} a lower "
                "train.lr, or with train.clip_norm=10."
            )


def _write(folder: Path, content: Content) -> None:
    weights = {name: tensor.contiguous() for name, tensor in content.weights.items()}
    save_file(weights, folder / WEIGHTS)
    described = {
        "format": FORMAT,
        "experiment": content.experiment.model_dump(mode="json"),
        "class_names": list(content.class_names),
        "step": content.step,
        "steps": content.steps,
        "metrics": dict(content.metrics),
        "versions": versions(),
    }
    if content.data:
        described["data"] = {split: found.to_json() for split, found in content.data.items()}
    imports = {"darknet": content.darknet, "torchvision": content.torchvision}
    described |= {origin: dict(said) for origin, said in imports.items() if said}
    (folder / MODEL).write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")
    shutil.copymode(folder / MODEL, folder / WEIGHTS)  # safetensors keeps others from reading
    if content.state:
        torch.save(dict(content.state), folder / STATE)


def _training_state(
    run: TrainState, experiment: ExperimentConfig, random: Mapping[str, Tensor]
) -> dict[str, Any]:
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


def replace_folder(new: Path, folder: Path) -> None:
    """Put ``new`` in the place of ``folder``; at every instant one of the two can be found.

    After a power cut as well, where what ``new`` holds is flushed: the old one goes only once the
    names of both are on the disk.
    """
    old = _aside(folder)
    if folder.exists():
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
    new.rename(folder)
    flush(old.parent)
    shutil.rmtree(old, ignore_errors=True)


def _aside(folder: Path) -> Path:
    folder = folder.absolute()  # "." has no name of its own
    return folder.with_name(f".{folder.name}.old")


def existing_checkpoint(folder: Path) -> Path | None:
    """``folder`` if it is a checkpoint, or what a kill in the middle of a rename left beside it."""
    found = (path for path in (folder, _aside(folder)) if (path / MODEL).is_file())
    return next(found, None)


def restore(run: TrainState, folder: Path, metric: str | None) -> int:
    """Bring ``run`` to exactly where ``folder`` was saved; return how many ranks saved it.

    Rank 0 reads it for all, so no other machine needs the folder. Settings of the optimiser are
    those of the run's config; ``metric`` is what its best checkpoint is chosen by.

    Raises:
        ConfigError: the checkpoint is of another model or cannot be continued.
    """
    ours = run.model.class_names
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
    except (RuntimeError, KeyError, ValueError) as problem:
        raise ConfigError(
            f"{folder}: was saved by another model or optimiser than the config's; "
            "resume with the config in its run folder, or train into another --out."
        ) from problem
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
    if not (folder / STATE).is_file():
        raise ConfigError(f"{folder}: has no {STATE}, so training cannot go on from it.")
    _check_classes(folder, classes)
    state = torch.load(folder / STATE, map_location="cpu", weights_only=True)
    return state, load_file(folder / WEIGHTS)


def _check_classes(folder: Path, ours: Sequence[str]) -> None:
    """Refuse other classes, and the same ones in another order; one may have a new name."""
    saved = json.loads((folder / MODEL).read_text(encoding="utf-8"))["class_names"]
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
    saved = json.loads((folder / MODEL).read_text(encoding="utf-8"))["experiment"]
    before, now = flat(saved), flat(experiment.model_dump(mode="json"))
    return [
        f"{key}: {before.get(key)}, now {now.get(key)}"
        for key in dict.fromkeys([*before, *now])
        if before.get(key) != now.get(key)
    ]


def _places(path: Path) -> tuple[Path, ...]:
    return path, path / "best", path / "last"


def find_checkpoint(path: Path) -> Path:
    """The checkpoint folder that ``path`` means: itself, or a run folder's best, else its last.

    Raises:
        ConfigError: saying what was expected and what lies near.
    """
    for candidate in _places(path):
        found = existing_checkpoint(candidate)
        if found is not None:
            return found
    parent = path.parent
    beside = sorted(parent.iterdir()) if parent.is_dir() else []
    near = [entry.name for entry in beside if any(map(existing_checkpoint, _places(entry)))]
    hint = did_you_mean(path.name, near) if near and not path.exists() else ""
    raise ConfigError(
        f"{path}: no checkpoint here; expected a run folder, or a folder with {MODEL} and "
        f"{WEIGHTS}.{hint}"
    )


def load_checkpoint(path: str | Path, device: torch.device | str = "cpu") -> Checkpoint:
    """Read a checkpoint (or a run folder's best one) into a detector in eval mode.

    Raises:
        ConfigError: nothing there, or something that is not a checkpoint.
    """
    check_path(path, "load_checkpoint: path")
    folder = find_checkpoint(Path(path))
    try:
        described = json.loads((folder / MODEL).read_text(encoding="utf-8"))
        experiment = parse(ExperimentConfig, described["experiment"])
        detector = build_detector(experiment.model)
        detector.load_state_dict(load_file(folder / WEIGHTS))
        detector.class_names = tuple(described["class_names"])
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as problem:
        said = " ".join(line.strip() for line in str(problem).splitlines()[:2])
        raise ConfigError(
            f"{folder}: not a checkpoint that this detkit can read: {said}"
        ) from problem
    place = folder.absolute()
    is_part = place.name.strip(".").split(".")[0] in ("best", "last")
    name = place.parent.name if is_part else place.name
    detector.eval().to(device)
    return Checkpoint(
        detector,
        experiment,
        name,
        folder,
        step=int(described["step"]),
        metrics=described.get("metrics", {}),
        darknet=described.get("darknet", {}),
    )


def versions() -> dict[str, str]:
    """Versions of what a result depends on."""
    found = {"python": platform.python_version()}
    for package in VERSIONED:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found
