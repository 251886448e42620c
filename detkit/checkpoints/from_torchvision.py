"""torchvision's detector weights into checkpoint folders.

Reading order: ``import_torchvision`` (what a file is taken for, with which settings and class
names, built, filled, written), ``build_from_torchvision`` (the same without a folder, of a file
that is known), then each of these steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from detkit.checkpoints.checkpoint import Content
from detkit.checkpoints.import_checks import (
    check_new,
    check_one_source,
    read_names,
    strange_numbers,
    write_imported,
)
from detkit.class_names import names_in_words
from detkit.config import parse, with_overrides
from detkit.detectors import Detector, build_detector
from detkit.errors import ConfigError
from detkit.experiment.config import ExperimentConfig
from detkit.files import sha256_of
from detkit.weights.torchvision import (
    DETECTOR_PARTS,
    TensorFile,
    fill,
    load_torchvision,
    pair,
    read_torchvision,
)
from detkit.weights.zoo import find_entry
from detkit.weights.zoo_torchvision import TORCHVISION, TorchvisionEntry

HASH_DIGITS = 8  # of a SHA-256, by which torchvision itself knows a file of its own
BATCH_NORM_EPS = 1e-5  # of batch norm in torchvision's detectors, frozen or not


@dataclass(frozen=True, slots=True, eq=False)
class ImportedTorchvision:
    """What became of a file of torchvision's."""

    folder: Path  # the checkpoint
    detector: Detector  # in eval mode, with its class names
    experiment: ExperimentConfig  # every default of the model written out
    because: str  # why the file was taken for this detector, to follow "taken for ..., "
    notes: tuple[str, ...]  # what the user should know, in sentences
    tensors: int  # of the file that were used
    floats: int  # numbers in it
    size: int  # bytes of the file
    sha256: str


@dataclass(frozen=True, slots=True, eq=False)
class _Source:
    """A file of torchvision's, and what the zoo knows of it."""

    file: TensorFile
    sha256: str
    entry: TorchvisionEntry  # what it is taken for
    because: str

    @property
    def is_published(self) -> bool:
        """Whether it is the very file of the zoo."""
        return _is_published(self.entry, self.sha256)


def import_torchvision(
    source: Path,
    folder: Path,
    *,
    model: str | None = None,
    names: Path | None = None,
    overrides: Sequence[str] = (),
) -> ImportedTorchvision:
    """Write the checkpoint folder of a ``.pth`` file, which everything here takes.

    The number of classes is the file's. Batch norm's epsilon is 1e-5 but for the published file of
    ``faster_rcnn_resnet50_fpn_coco``, known by its SHA-256, for which torchvision sets 0. Where the
    file counts the batches that batch norm has seen it is of a kind that learns, and is not frozen
    here.

    Args:
        source: the file: one of torchvision's, or of a training of one's own with its networks.
        folder: a new one, or an empty one.
        model: the zoo's name of the network. Without it the file's hash or its tensors tell.
        names: list of class names, one a line, without background.
        overrides: ``key=value`` words for the config in the checkpoint.

    Raises:
        ConfigError: the file does not fit, is of no known network, or a name, key or value that
            cannot be.
        DetkitError: the folder cannot be written.
    """
    file = read_torchvision(source)
    check_new(folder)
    given = () if names is None else read_names(names)
    known = _take_for(file, sha256_of(source), model)
    experiment, notes = _experiment(known, given, overrides)
    experiment, said = _with_names(experiment, known, given)
    detector = build_detector(experiment.model)
    used = fill(detector, file)
    detector.class_names = experiment.data.classes
    resolved = {"name": experiment.model["name"], **detector.config.model_dump(mode="json")}
    imported = ImportedTorchvision(
        folder=folder,
        detector=detector.eval(),
        experiment=experiment.model_copy(update={"model": resolved}),
        because=known.because,
        notes=(*notes, *said, *strange_numbers(detector)),
        tensors=used,
        floats=file.floats,
        size=source.stat().st_size,
        sha256=known.sha256,
    )
    _write(imported, source.name)
    return imported


def build_from_torchvision(
    model: Mapping[str, Any], class_names: Sequence[str], path: Path
) -> Detector:
    """Build the detector of a ``model:`` block and fill it from a file of torchvision's.

    Returns:
        The detector in eval mode on the CPU, with its class names.

    Raises:
        ConfigError: the file is not of this detector.
    """
    detector = build_detector(model)
    load_torchvision(detector, path)
    detector.class_names = tuple(class_names)
    return detector.eval()


# ------------------------------------------------------------------- what a file is taken for


def _take_for(file: TensorFile, sha256: str, model: str | None) -> _Source:
    if model is None:
        entry, because = _recognise(file, sha256)
    else:
        named = find_entry(model)
        if not isinstance(named, TorchvisionEntry):
            raise ConfigError(
                f"--model {model}: its weights are darknet's {named.file.name}, and {file.path} is "
                f"a file of PyTorch's; torchvision's networks are {_names(TORCHVISION)}."
            )
        entry, because = named, "as --model says"
    return _Source(file, sha256, entry, f"{because} ({entry.name} of the zoo)")


def _is_published(entry: TorchvisionEntry, sha256: str) -> bool:
    known = (entry.file.hash or "").partition(":")[2]
    return known != "" and sha256.startswith(known[:HASH_DIGITS])


def _recognise(file: TensorFile, sha256: str) -> tuple[TorchvisionEntry, str]:
    """The entry whose file this is, or whose network has these tensors; and why."""
    for entry in TORCHVISION:
        if _is_published(entry, sha256):
            return entry, "by its SHA-256"
    fitting = [entry for entry in TORCHVISION if _strangers(entry, file) == 0]
    named = [entry for entry in fitting if entry.file.name == file.path.name]
    if len(fitting) == 1:
        return fitting[0], "by its tensors"
    if len(named) == 1:
        return named[0], "by its tensors and its name"
    if fitting:
        raise ConfigError(
            f"{file.path}: its tensors fit {' and '.join(entry.name for entry in fitting)} alike, "
            "which differ in the size of the image; say with --model NAME which it is."
        )
    if not any(name.startswith(DETECTOR_PARTS) for name in file.tensors):
        raise ConfigError(
            f"{file.path}: none of its {len(file.tensors)} tensors is of a Faster R-CNN of "
            "torchvision's. (A file of a backbone alone is for training: "
            "model.backbone_weights=FILE.)"
        )
    nearest = min(TORCHVISION, key=lambda entry: _strangers(entry, file))
    raise ConfigError(
        f"{file.path}: its tensors are those of none of torchvision's networks here "
        f"({_names(TORCHVISION)}). Say with --model {nearest.name}, the nearest, which one it is, "
        "and with model.KEY=VALUE what is otherwise, such as model.backbone=resnet18."
    )


def _strangers(entry: TorchvisionEntry, file: TensorFile) -> int:
    """Tensors without a partner of their shape, of an entry's network and of a file."""
    with torch.device("meta"):
        detector = build_detector({**entry.model, "num_classes": max(file.num_classes or 1, 1)})
    pairs = pair(detector, file.tensors)
    return len(pairs.missing) + len(pairs.spare) + len(pairs.misshapen)


def _names(entries: Sequence[TorchvisionEntry]) -> str:
    return ", ".join(entry.name for entry in entries)


# --------------------------------------------------------------------------- config and names


def _experiment(
    known: _Source, given: tuple[str, ...], overrides: Sequence[str]
) -> tuple[ExperimentConfig, list[str]]:
    """The config of the checkpoint, and what was decided in it."""
    model, notes = dict(known.entry.model), list[str]()
    if known.file.num_classes is not None:
        model["num_classes"] = known.file.num_classes
    own_eps = model.get("batch_norm_eps") == 0 and not known.is_published
    if own_eps:
        model["batch_norm_eps"] = BATCH_NORM_EPS
    if not known.file.is_frozen:
        model.pop("freeze_batch_norm", None)  # it learned, so it goes on to learn
    base = {"model": model, "data": {"classes": list(given)}, "train": {"iterations": 1}}
    experiment = parse(ExperimentConfig, with_overrides(base, overrides))
    check_one_source(given, experiment.data.classes)
    asked = with_overrides({}, overrides).get("model", {})
    if own_eps and known.file.is_frozen and "batch_norm_eps" not in asked:
        notes.append(
            f"batch norm adds {BATCH_NORM_EPS:g} to its variances, as torchvision's networks do; "
            f"only the published {known.entry.file.name}, which this is not, needs 0. Weights "
            "that were fine-tuned from that file do, too: model.batch_norm_eps=0."
        )
    count = model["num_classes"]
    if experiment.model["num_classes"] != count:
        raise ConfigError(
            f"model.num_classes: {experiment.model['num_classes']}, but {known.file.path} is of "
            f"{count} classes and background. Leave it out."
        )
    return experiment, notes


def _with_names(
    experiment: ExperimentConfig, known: _Source, given: tuple[str, ...]
) -> tuple[ExperimentConfig, list[str]]:
    """Settle the class names; and say so where they are a guess."""
    count: int = experiment.model["num_classes"]
    names, notes = experiment.data.classes, list[str]()
    if names and len(names) != count:
        raise ConfigError(
            f"{'--names' if given else 'data.classes'} has {names_in_words(names)}; "
            f"{known.file.path} is of {count} classes and background. Name every class but "
            "background, in the order of its training."
        )
    if not names and count == len(known.entry.class_names):
        names = known.entry.class_names
        if not known.is_published:
            notes.append(
                f"the classes are {count}, so they were given the names of {known.entry.data}; "
                "--names FILE gives others."
            )
    elif not names:
        names = tuple(f"class_{label}" for label in range(1, count + 1))
        notes.append(f"the {count} classes have no names; --names FILE gives them some.")
    data = experiment.data.model_copy(update={"classes": names})
    return experiment.model_copy(update={"data": data}), notes


def _write(imported: ImportedTorchvision, file: str) -> None:
    origin = {"file": file, "bytes": imported.size, "sha256": imported.sha256}
    content = Content(
        experiment=imported.experiment,
        class_names=imported.detector.class_names,
        weights=imported.detector.state_dict(),
        step=0,
        steps=0,
        torchvision={"origin": origin},
    )
    write_imported(imported.folder, content)
