"""What a word names: a run or checkpoint folder, the zoo's weights, or the authors' own file.

Reading order: ``Named`` (what was found, and how it becomes a detector), ``find_named`` (of a
word), ``find_default`` (of no word at all).
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

import torch

from detkit.checkpoints.checkpoint import (
    Checkpoint,
    find_checkpoint,
    load_checkpoint,
)
from detkit.checkpoints.files import existing_checkpoint
from detkit.checkpoints.from_darknet import AUTHORS_BATCH, build_imported, has_placement
from detkit.checkpoints.from_torchvision import build_from_torchvision
from detkit.config import parse
from detkit.detectors import Detector
from detkit.download import is_offline
from detkit.errors import ConfigError, DetkitError, UnknownNameError, did_you_mean
from detkit.experiment.config import ExperimentConfig
from detkit.files import in_words
from detkit.remote import SILENT, Watch
from detkit.weights.finite import refuse_not_finite
from detkit.weights.header import read_header
from detkit.weights.placement import placement_of
from detkit.weights.zoo import (
    DEFAULT_MODEL,
    ZOO,
    entry_of_size,
    is_published_file,
    known_by,
    zoo_file,
)
from detkit.weights.zoo_darknet import DarknetEntry
from detkit.weights.zoo_entry import ZooEntry
from detkit.weights.zoo_torchvision import TorchvisionEntry

RUNS = "runs"  # where training puts its folders unless told
DARKNET = ".weights"  # how the names of its files end
PYTORCH = (".pth", ".pt")  # and of PyTorch's


@dataclass(frozen=True, slots=True)
class Named:
    """Where a detector lies that a word named; not read yet."""

    path: Path  # a checkpoint folder, or a weight file of the zoo's
    entry: ZooEntry | None = None  # what that file is taken for
    called: str = ""  # in tables, where it is not the path

    @property
    def shown(self) -> Path:
        """What to call it by, in whole or in part."""
        return Path(self.called) if self.called else self.path

    def load(self, device: torch.device | str = "cpu") -> Checkpoint:
        """Build the detector, in eval mode.

        Raises:
            ConfigError: nothing that can be read is there, or weights that are no numbers.
        """
        if self.entry is None:
            loaded = load_checkpoint(self.path, device)
            refuse_not_finite(str(loaded.path), loaded.detector.state_dict())
            return loaded
        detector, step = _build(self.entry, self.path)
        refuse_not_finite(str(self.path), detector.state_dict())
        described = {
            "model": {"name": self.entry.model["name"], **detector.config.model_dump(mode="json")},
            "data": {"classes": self.entry.class_names},
            "train": {"iterations": max(step, 1), "batch_size": AUTHORS_BATCH},
        }
        experiment = parse(ExperimentConfig, described)
        name = self.shown.stem
        return Checkpoint(detector.to(device), experiment, name, self.path, step, {}, {})


def _build(entry: ZooEntry, path: Path) -> tuple[Detector, int]:
    """The detector of a weight file, and the step it was trained to, 0 where the file is silent."""
    if isinstance(entry, DarknetEntry):
        detector, header = build_imported(entry.model, entry.class_names, path)
        return detector, max(header.seen, 0) // AUTHORS_BATCH
    return build_from_torchvision(entry.model, entry.class_names, path), 0


def find_named(word: str | Path, watch: Watch = SILENT, *, fetch: bool = True) -> Named:
    """What ``word`` names: a path, or a name of the zoo, whose file is fetched where missing.

    Without ``fetch`` the file of a name of the zoo may be missing, or another one.

    What exists here is a path, even under a name of the zoo. A weight file of darknet's is taken
    for the one entry of the zoo with as many numbers, and ``watch`` is told so.

    Raises:
        UnknownNameError: a single word that names nothing; with the nearest name or folder.
        ConfigError: no checkpoint there, a weight file of a network that the zoo has not, or one
            of PyTorch's, which does not say what network it is of.
        DetkitError: weights of the zoo that cannot be had.
    """
    text = str(word)
    if Path(text).suffix == DARKNET and os.path.isfile(text):
        return _darknet_file(Path(text), watch)
    if Path(text).suffix in PYTORCH and os.path.isfile(text):
        raise ConfigError(_how_to_convert(Path(text)))
    if os.path.exists(text) or Path(text).name != text:
        return Named(_found(Path(text)))
    if text in ZOO:
        return _of_zoo(text, watch) if fetch else Named(ZOO[text].path, ZOO[text], text)
    near = did_you_mean(text, [*ZOO, *_checkpoints(Path()), *_checkpoints(Path(RUNS))])
    raise UnknownNameError(f"{text}: no such folder, and no weights of the zoo.{near}")


def find_default(watch: Watch = SILENT) -> Named:
    """What detects where nothing was named: the zoo's ``DEFAULT_MODEL``, fetched where missing.

    Before it is fetched ``watch`` is told what it is, how large, from where and to where.

    Raises:
        DetkitError: it cannot be had; what to fetch by hand and where to put it, and which other
            models can be had without a network.
    """
    if default_is_fetched():
        watch.say(_announcement(ZOO[DEFAULT_MODEL]))
    try:
        return _of_zoo(DEFAULT_MODEL, watch)
    except DetkitError as problem:
        raise DetkitError(f"{problem} {_other_ways()}") from None  # its words are in it


def default_is_fetched() -> bool:
    """Whether :func:`find_default` has to fetch the model's file, and may."""
    return not ZOO[DEFAULT_MODEL].path.exists() and not is_offline()


def _announcement(entry: ZooEntry) -> str:
    file = entry.file
    size = "" if file.most is None else f"{in_words(file.most)} "
    host = urlsplit(file.addresses[0]).netloc
    return (
        f"no model named: taking {entry.name} of the zoo ({entry.published.text}); "
        f"fetching {size}from {host} to {entry.path}"
    )


def _other_ways() -> str:
    cached = [name for name, entry in ZOO.items() if entry.lies_in_cache]
    others = [name for name in cached if name != DEFAULT_MODEL]
    if others:
        there = f"in the cache there {'are' if others[1:] else 'is'} {', '.join(others)}"
    else:
        there = "the cache holds nothing else of the zoo"
    return (
        f"Or name another model (detkit.detect(image, MODEL), --weights MODEL): {there}; a run "
        f"folder will do as well, such as {RUNS}/quickstart, which `detkit train quickstart` "
        "trains in minutes."
    )


def _of_zoo(name: str, watch: Watch) -> Named:
    return Named(zoo_file(name, watch), ZOO[name], name)


def _how_to_convert(path: Path) -> str:
    """Of a file of PyTorch's: tensors and their names, nothing about the network."""
    entries = [entry for entry in ZOO.values() if isinstance(entry, TorchvisionEntry)]
    known = [entry.name for entry in entries if entry.file.name == path.name]
    name, which = "NAME", f" NAME is one of {', '.join(entry.name for entry in entries)}."
    if known:
        name, which = known[0], ""
    return (
        f"{path}: weights of PyTorch's, which do not say what network they are of; make a "
        f"checkpoint of them with `detkit convert {path} --model {name} --out DIR`, and "
        f"name that folder.{which}"
    )


def _darknet_file(path: Path, watch: Watch) -> Named:
    entry, size = entry_of_size(path), path.stat().st_size
    if entry is None:
        raise ConfigError(
            f"{path}: a weight file of darknet, whose {size:,} bytes are those of no file in the "
            f"zoo; make a checkpoint of it with `detkit convert {path} --cfg FILE --out "
            "DIR`, and name that folder."
        )
    known = is_published_file(entry, path, watch)
    watch.say(f"{path}: taken for {entry.name} of the zoo, {known_by(entry, size, known)}")
    if known is not False:
        return Named(path, entry)
    entry, placed = entry.of_another_file(), placement_of(read_header(path))
    if placed.because and has_placement(entry.model):
        watch.say(f"{path}: {placed.because}")
        entry = replace(entry, model={**entry.model, "placement": placed.placement})
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
