"""Checkpoints: self-describing folders that appear whole or not at all.

``weights.safetensors`` (what detects: the average where one is kept), ``model.json`` (resolved
config, class names, versions, metrics) and, while training, ``state.pt`` (optimiser, raw weights,
random states; plain tensors and numbers, read with ``weights_only=True``). ``files.py``
has what each file must be before it is used.
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

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from detkit.arguments import check_path
from detkit.checkpoints.description import FORMAT
from detkit.checkpoints.files import (
    MODEL,
    STATE,
    WEIGHTS,
    Form,
    aside,
    damaged,
    existing_checkpoint,
    hash_checked,
    part_of_run,
    read_described,
    seal,
    weight_forms,
)
from detkit.checkpoints.fingerprint import Fingerprint
from detkit.checkpoints.undrawn import build_undrawn, forms_of
from detkit.config import parse
from detkit.detectors import Detector
from detkit.errors import ConfigError, DetkitError, did_you_mean
from detkit.experiment.config import ExperimentConfig
from detkit.flushing import flush, make_lasting_folder

SAVES_MEANWHILE = 3  # at most, by a training that puts another checkpoint where one is read
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
        if replace:
            replace_folder(temporary, folder)
        else:
            if folder.is_dir():
                folder.rmdir()  # refuses a folder that is not empty
            temporary.rename(folder)
            flush(folder.absolute().parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)  # there only when writing failed


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
    if content.state:
        torch.save(dict(content.state), folder / STATE)
    sealed = json.dumps(seal(described, folder), indent=2)
    (folder / MODEL).write_text(sealed + "\n", encoding="utf-8")
    shutil.copymode(folder / MODEL, folder / WEIGHTS)  # safetensors keeps others from reading
    for path in (*folder.iterdir(), folder):
        flush(path)


def replace_folder(new: Path, folder: Path) -> None:
    """Put ``new`` in the place of ``folder``; at every instant one of the two can be found.

    After a power cut as well, where what ``new`` holds is flushed: the old one goes only once the
    names of both are on the disk.
    """
    old = aside(folder)
    if folder.exists():
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
    new.rename(folder)
    flush(old.parent)
    shutil.rmtree(old, ignore_errors=True)


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

    What it says is compared with the header of its weights before memory is taken for a network.

    Raises:
        ConfigError: nothing there, something that is not a checkpoint, or one that is damaged.
    """
    check_path(path, "load_checkpoint: path")
    for _ in range(SAVES_MEANWHILE):
        folder = find_checkpoint(Path(path))
        before = _identity(folder)
        try:
            read = _load(folder, device)
        except ConfigError:
            if _identity(folder) == before:
                raise
        else:
            if _identity(folder) == before:  # else its files may be of two steps
                return read
    return _load(find_checkpoint(Path(path)), device)


def _identity(folder: Path) -> tuple[int, int] | None:
    """Which checkpoint stands in a folder just now."""
    try:
        found = (folder / MODEL).stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def _load(folder: Path, device: torch.device | str) -> Checkpoint:
    described = read_described(folder)
    try:
        experiment = parse(ExperimentConfig, described["experiment"])
        _check_names(described["class_names"], experiment.model)
        forms = forms_of(experiment.model)
    except DetkitError as problem:
        raise ConfigError(f"{folder / MODEL}: {problem}") from problem
    with hash_checked(folder, described, WEIGHTS):
        _check_forms(folder, forms)
        detector = build_undrawn(experiment.model)
        detector.load_state_dict(load_file(folder / WEIGHTS))
    detector.class_names = tuple(described["class_names"])
    place = folder.absolute()
    name = place.name if part_of_run(folder) is None else place.parent.name
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


def _check_names(names: Sequence[str], model: Mapping[str, Any]) -> None:
    classes = model.get("num_classes", len(names))
    if isinstance(classes, int) and classes != len(names):
        raise ConfigError(
            f"class_names: are {len(names):,}, but model.num_classes is {classes:,}; each class "
            "has one name."
        )


def _check_forms(folder: Path, ours: Mapping[str, Form]) -> None:
    """Refuse weights that are not those of the network that ``model.json`` describes."""
    theirs = weight_forms(folder)
    differing = [
        name
        for name in {**ours, **theirs}
        if name not in ours or name not in theirs or not theirs[name].fits(ours[name])
    ]
    if differing:
        name, more = differing[0], len(differing) - 1
        expected, found = (str(forms.get(name, "not there")) for forms in (ours, theirs))
        raise damaged(
            folder / WEIGHTS,
            f"is of another network than {MODEL} describes: {name} is {found}, expected {expected}"
            + (f", and {more:,} more of its tensors" if more else ""),
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
