"""What a word names: a run or checkpoint folder, the zoo's weights, or the authors' own file."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from detkit.config import parse
from detkit.engine.checkpoint import (
    Checkpoint,
    existing_checkpoint,
    find_checkpoint,
    load_checkpoint,
)
from detkit.engine.convert import AUTHORS_BATCH, build_imported
from detkit.engine.experiment import ExperimentConfig
from detkit.errors import ConfigError, UnknownNameError, did_you_mean
from detkit.remote import SILENT, Watch
from detkit.weights.zoo import ZOO, ZooEntry, entry_of_size, zoo_file

RUNS = "runs"  # where training puts its folders unless told
DARKNET = ".weights"  # how the names of its files end


@dataclass(frozen=True, slots=True)
class Named:
    """Where a detector lies that a word named; not read yet."""

    path: Path  # a checkpoint folder, or a weight file of darknet's
    entry: ZooEntry | None = None  # what that file is taken for
    called: str = ""  # in tables, where it is not the path

    @property
    def shown(self) -> Path:
        """What to call it by, in whole or in part."""
        return Path(self.called) if self.called else self.path

    def load(self, device: torch.device | str = "cpu") -> Checkpoint:
        """Build the detector, in eval mode.

        Raises:
            ConfigError: nothing that can be read is there.
        """
        if self.entry is None:
            return load_checkpoint(self.path, device)
        names = self.entry.class_names
        detector, header = build_imported(self.entry.model, names, self.path)
        model = {"name": self.entry.model["name"], **detector.config.model_dump(mode="json")}
        step = max(header.seen, 0) // AUTHORS_BATCH
        described = {
            "model": model,
            "data": {"classes": names},
            "train": {"iterations": max(step, 1), "batch_size": AUTHORS_BATCH},
        }
        experiment = parse(ExperimentConfig, described)
        name = self.shown.stem
        return Checkpoint(detector.to(device), experiment, name, self.path, step, {}, {})


def find_named(word: str | Path, watch: Watch = SILENT) -> Named:
    """What ``word`` names: a path, or a name of the zoo, whose file is fetched where missing.

    What exists here is a path, even under a name of the zoo. A weight file of darknet's is taken
    for the one entry of the zoo with as many numbers, and ``watch`` is told so.

    Raises:
        UnknownNameError: a single word that names nothing; with the nearest name or folder.
        ConfigError: no checkpoint there, or a weight file of a network that the zoo has not.
        DetkitError: weights of the zoo that cannot be had.
    """
    text = str(word)
    if Path(text).suffix == DARKNET and os.path.isfile(text):
        return _darknet_file(Path(text), watch)
    if os.path.exists(text) or Path(text).name != text:
        return Named(_found(Path(text)))
    if text in ZOO:
        return Named(zoo_file(text, watch), ZOO[text], text)
    near = did_you_mean(text, [*ZOO, *_checkpoints(Path()), *_checkpoints(Path(RUNS))])
    raise UnknownNameError(f"{text}: no such folder, and no weights of the zoo.{near}")


def _darknet_file(path: Path, watch: Watch) -> Named:
    entry, size = entry_of_size(path), path.stat().st_size
    if entry is None:
        raise ConfigError(
            f"{path}: a weight file of darknet, whose {size:,} bytes are those of no file in the "
            f"zoo; make a checkpoint of it with `python tools/convert.py {path} --cfg FILE --out "
            "DIR`, and name that folder."
        )
    watch.say(f"{path}: taken for {entry.name} of the zoo, by its size of {size:,} bytes")
    return Named(path, entry)


def _found(path: Path) -> Path:
    try:
        return find_checkpoint(path)
    except OSError as problem:
        raise ConfigError(
            f"{path}: cannot be looked at ({problem.strerror}). Check the name, and that you may "
            "read it."
        ) from problem


def _checkpoints(parent: Path) -> list[str]:
    """The run and checkpoint folders in a folder, as they can be typed."""
    found: list[str] = []
    with suppress(OSError):
        found = sorted(map(str, parent.iterdir()))
    return [folder for folder in found if _is_checkpoint(Path(folder))]


def _is_checkpoint(folder: Path) -> bool:
    """Whether a folder is one, or a run's; what may not be looked into is none."""
    with suppress(OSError):
        return any(map(existing_checkpoint, (folder, folder / "best", folder / "last")))
    return False
