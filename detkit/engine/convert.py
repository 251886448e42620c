"""The authors' weight files into checkpoint folders; ``darknet_export.py`` is the way back.

Reading order: ``import_darknet`` (what a file is taken for, under which class names, built, filled,
compared, written), ``build_imported`` (the same without a folder).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from detkit.config import parse, with_overrides
from detkit.detectors import Detector, build_detector
from detkit.engine.checkpoint import WRITE_PROBLEMS, Content, write_checkpoint
from detkit.engine.experiment import ExperimentConfig
from detkit.errors import ConfigError, DetkitError
from detkit.files import is_plain
from detkit.weights.cfg import Cfg, read_cfg
from detkit.weights.cfg_model import check_agreement, check_shapes, read_model
from detkit.weights.class_names import COCO_NAMES, VOC_NAMES
from detkit.weights.darknet import load_darknet
from detkit.weights.graph import DarknetGraph
from detkit.weights.header import FLOAT_BYTES, Header, read_header
from detkit.weights.layout import file_floats
from detkit.weights.zoo import ZOO, find_entry

AUTHORS_BATCH = 64  # images an iteration in all of the authors' configs
MOST_CLASSES = 10_000  # that a file of another length is tried with; YOLO9000 has 9418
LARGEST_NAMES_FILE = 1_000_000  # bytes; a list of 9418 names has 200 thousand
KNOWN_NAMES = {len(VOC_NAMES): ("PASCAL VOC", VOC_NAMES), len(COCO_NAMES): ("COCO", COCO_NAMES)}


# -------------------------------------------------------------------------------- import


@dataclass(frozen=True, slots=True, eq=False)
class Imported:
    """What became of a weight file."""

    folder: Path  # the checkpoint
    detector: Detector  # in eval mode, with its class names
    experiment: ExperimentConfig  # every default of the model written out
    header: Header
    because: str  # why the file was taken for this detector, to follow "taken for ..., "
    notes: tuple[str, ...]  # what the user should know, in sentences
    difference: float | None  # largest of detector and cfg's graph, share of their outputs
    size: int  # bytes of the file
    sha256: str


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """What a weight file is taken for."""

    model: Mapping[str, Any]  # a ``model:`` block with num_classes
    class_names: tuple[str, ...]  # of its classes, where they are known
    because: str
    notes: tuple[str, ...] = ()
    cfg: Cfg | None = None
    advice: str = ""  # what the zoo knows of other files of this name


def import_darknet(
    source: Path,
    folder: Path,
    *,
    model: str | None = None,
    cfg: Path | None = None,
    names: Path | None = None,
    overrides: Sequence[str] = (),
) -> Imported:
    """Write the checkpoint folder of a ``.weights`` file, which everything here takes.

    Args:
        source: the file.
        folder: a new one, or an empty one.
        model: the zoo's name of the detector it is for; or
        cfg: the authors' text of its network. Without both the file's size or name tells.
        names: darknet's list of class names, one a line.
        overrides: ``key=value`` words for the config in the checkpoint.

    Raises:
        ConfigError: the file does not fit, the text describes what no detector here computes, a
            name, key or value that cannot be.
        DetkitError: the folder cannot be written.
    """
    if model is not None and cfg is not None:
        raise ConfigError("--cfg and --model both say what the file is; give one of them.")
    _check_new(folder)
    header = read_header(source, None if model is None else find_entry(model).floats)
    given = () if names is None else read_names(names)
    plan = _plan(source, header, model, cfg)
    experiment = _experiment(plan, given, overrides, header.seen)
    experiment, notes = _with_names(experiment, plan, given)
    if plan.cfg is not None:
        with torch.device("meta"):
            graph, built = DarknetGraph(plan.cfg), build_detector(experiment.model)
        check_shapes(graph, built, experiment.model["name"])
    try:
        detector, header = build_imported(experiment.model, experiment.data.classes, source)
    except ConfigError as problem:
        raise ConfigError(f"{problem} {plan.advice}".rstrip()) from None
    difference = None
    if plan.cfg is not None:
        difference = check_agreement(plan.cfg, detector, experiment.model["name"])
    resolved = {"name": experiment.model["name"], **detector.config.model_dump(mode="json")}
    imported = Imported(
        folder=folder,
        detector=detector,
        experiment=experiment.model_copy(update={"model": resolved}),
        header=header,
        because=plan.because,
        notes=(*plan.notes, *notes, *_strange_numbers(detector)),
        difference=difference,
        size=source.stat().st_size,
        sha256=hash_of(source),
    )
    _write(imported, source.name)
    return imported


def build_imported(
    model: Mapping[str, Any], class_names: Sequence[str], path: Path
) -> tuple[Detector, Header]:
    """Build the detector of a ``model:`` block and fill it from a weight file.

    Returns:
        The detector in eval mode on the CPU, and the file's header.

    Raises:
        ConfigError: the file is not of this detector; expected and found bytes are named.
    """
    detector = build_detector(model)
    try:
        header = load_darknet(detector, path)
    except ConfigError as problem:
        fitting = _classes_that_fit(model, path)
        if fitting is None:
            raise
        raise ConfigError(
            f"{problem} With {fitting} classes its length would be right: give its text with "
            "--cfg, which knows its anchors as well."
        ) from None
    detector.class_names = tuple(class_names)
    return detector.eval(), header


# ------------------------------------------------------------------- what a file is taken for


def _plan(source: Path, header: Header, model: str | None, cfg: Path | None) -> Plan:
    if cfg is not None:
        text = read_cfg(cfg)
        read = read_model(text)
        return Plan(read.model, (), f"as {cfg} describes it", read.notes, text)
    because = "as --model says"
    if model is None:
        model, because = _recognise(source, header)
    entry = find_entry(model)
    because = f"{because} ({entry.name} of the zoo)"
    return Plan(entry.model, entry.class_names, because, advice=entry.note)


def _recognise(source: Path, header: Header) -> tuple[str, str]:
    """Name the one zoo entry whose file has this size or, without one, this name; and say why."""
    darknet = list(ZOO.values())
    size = source.stat().st_size
    sized = [e.name for e in darknet if header.size + FLOAT_BYTES * e.floats == size]
    named = [e.name for e in darknet if e.file.name.casefold() == source.name.casefold()]
    for found, because in ((sized, f"by its size of {size:,} bytes"), (named, "by its name")):
        if len(found) == 1:
            return found[0], because
    partial = ""
    if ".conv" in source.suffixes:
        partial = " (A file of a backbone alone is for training: model.backbone_weights=FILE.)"
    raise ConfigError(
        f"{source}: neither its name nor its {size:,} bytes are those of a file in the zoo; say "
        f"what it is with --cfg FILE or --model NAME ({', '.join(e.name for e in darknet)})."
        f"{partial}"
    )


def _floats(model: Mapping[str, Any]) -> int:
    with torch.device("meta"):
        return file_floats(build_detector(model))


def _classes_that_fit(model: Mapping[str, Any], path: Path) -> int | None:
    """The number of classes with which the file would have the right length, if there is one."""
    numbers = (path.stat().st_size - read_header(path).size) / FLOAT_BYTES
    one, two = (_floats({**model, "num_classes": count}) for count in (1, 2))
    classes = 1 + (numbers - one) / (two - one)  # every head grows evenly with its classes
    return int(classes) if classes.is_integer() and 1 <= classes <= MOST_CLASSES else None


# --------------------------------------------------------------------------- config and names


def _experiment(
    plan: Plan, given: tuple[str, ...], overrides: Sequence[str], seen: int
) -> ExperimentConfig:
    base: dict[str, Any] = {
        "model": dict(plan.model),
        "data": {"classes": list(given)},
        "train": {"iterations": max(seen // AUTHORS_BATCH, 1), "batch_size": AUTHORS_BATCH},
    }
    if plan.cfg is None:  # names may say how many classes there are; a cfg says it itself
        base["model"].pop("num_classes")
    experiment = parse(ExperimentConfig, with_overrides(base, overrides))
    if given and experiment.data.classes != given:
        raise ConfigError("--names and data.classes both name the classes; give one of them.")
    count = len(experiment.data.classes) or plan.model["num_classes"]
    model = {"num_classes": count, **experiment.model}
    return experiment.model_copy(update={"model": model})


def _with_names(
    experiment: ExperimentConfig, plan: Plan, given: tuple[str, ...]
) -> tuple[ExperimentConfig, list[str]]:
    """Settle the class names; and say so where they are a guess."""
    with torch.device("meta"):
        config: Any = build_detector(experiment.model).config
    count: int = config.num_classes
    names, notes = experiment.data.classes, list[str]()
    if plan.class_names and count != len(plan.class_names) and plan.cfg is None:
        notes.append(
            f"the classes are {count} instead of {len(plan.class_names)}; all else, anchors among "
            "it, is as published. Only --cfg FILE knows others, without which boxes are wrong."
        )
    if names and len(names) != count:
        raise ConfigError(
            f"{'--names' if given else 'data.classes'}: {len(names)} names, but the model has "
            f"{count} classes. Name every class, in the order of its training."
        )
    if not names and len(plan.class_names) == count:
        names = plan.class_names
    elif not names and count in KNOWN_NAMES:
        source, names = KNOWN_NAMES[count]
        notes.append(
            f"the classes are {count}, so they were given the names of {source}; "
            "--names FILE gives others."
        )
    elif not names:
        names = tuple(f"class {label}" for label in range(count))
        notes.append(f"the {count} classes have no names; --names FILE gives them some.")
    data = experiment.data.model_copy(update={"classes": names})
    return experiment.model_copy(update={"data": data}), notes


def read_names(path: Path) -> tuple[str, ...]:
    """Read darknet's list of class names, one a line.

    Raises:
        ConfigError: no such file, not a list of names, an empty line among them, a name twice.
    """
    try:
        if path.stat().st_size > LARGEST_NAMES_FILE:
            raise ConfigError(f"{path}: too large for a list of class names, one a line.")
        lines = path.read_text(encoding="utf-8-sig").rstrip().splitlines()
    except OSError as problem:
        raise ConfigError(f"{path}: cannot be read ({problem.strerror}).") from problem
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not a list of class names in UTF-8, one a line.") from None
    names: list[str] = []
    for number, line in enumerate(lines, start=1):
        name = line.strip()
        if not name or not is_plain(name):
            raise ConfigError(f"{path}: line {number} is no class name; expected one a line.")
        if name in names:
            raise ConfigError(
                f"{path}: line {number}: {name!r} stands in line {names.index(name) + 1} already."
            )
        names.append(name)
    if not names:
        raise ConfigError(f"{path}: is empty; expected class names, one a line.")
    return tuple(names)


# ---------------------------------------------------------------------------------- files


def _check_new(folder: Path) -> None:
    if os.path.lexists(folder) and not (folder.is_dir() and not any(folder.iterdir())):
        raise ConfigError(
            f"{folder}: exists already, and nothing is overwritten. Name a new folder with --out."
        )


def _write(imported: Imported, file: str) -> None:
    """Write the checkpoint, with what it takes to write ``file`` again to the byte."""
    folder, step = imported.folder, max(imported.header.seen, 0) // AUTHORS_BATCH
    origin = {"file": file, "bytes": imported.size, "sha256": imported.sha256}
    content = Content(
        experiment=imported.experiment,
        class_names=imported.detector.class_names,
        weights=imported.detector.state_dict(),
        step=step,
        steps=step,
        darknet={"header": asdict(imported.header), "origin": origin},
    )
    try:
        write_checkpoint(folder.absolute(), content, replace=False)
    except WRITE_PROBLEMS as problem:
        raise DetkitError(
            f"{folder}: cannot be written ({getattr(problem, 'strerror', None) or problem}). "
            "Nothing was left behind; free some space, or name another --out."
        ) from problem


def hash_of(path: Path) -> str:
    """Sha256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _strange_numbers(detector: Detector) -> list[str]:
    """Say so when no network can have been trained to such weights."""
    for name, tensor in detector.state_dict().items():
        if not tensor.is_floating_point():
            continue
        if not bool(torch.isfinite(tensor).all()):
            return [f"{name} is not finite everywhere, so nothing useful will be detected."]
        if name.endswith("running_var") and bool((tensor < 0).any()):
            return [
                f"{name} holds variances below 0, so the file is of another network of the same "
                "size, or damaged."
            ]
    return []
