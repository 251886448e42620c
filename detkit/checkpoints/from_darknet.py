"""The authors' weight files into checkpoint folders; ``to_darknet.py`` is the way back.

Reading order: ``import_darknet`` (what a file is taken for, under which class names, built, filled,
compared, written), ``build_imported`` (the same without a folder). The same two for torchvision's
files are in ``from_torchvision.py``; what both do is in ``import_checks.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from detkit.backbones.darknet_texts import backbone_hint, check_detects
from detkit.checkpoints.checkpoint import Content
from detkit.checkpoints.import_checks import (
    check_new,
    check_one_source,
    read_names,
    strange_numbers,
    write_imported,
)
from detkit.class_names import COCO_NAMES, VOC_NAMES, few, names_in_words
from detkit.config import parse, with_overrides
from detkit.detectors import DETECTORS, Detector, build_detector
from detkit.errors import ConfigError
from detkit.experiment.config import ExperimentConfig
from detkit.files import sha256_of
from detkit.weights.cfg import Cfg, read_cfg
from detkit.weights.cfg_blame import blamed
from detkit.weights.cfg_compare import check_agreement, check_shapes
from detkit.weights.cfg_model import read_model
from detkit.weights.darknet import load_darknet
from detkit.weights.graph import DarknetGraph
from detkit.weights.header import FLOAT_BYTES, Header, read_header
from detkit.weights.layout import file_floats
from detkit.weights.placement import placement_of
from detkit.weights.zoo import ZOO, entry_of_size, find_entry, is_published_file, known_by
from detkit.weights.zoo_darknet import DarknetEntry

AUTHORS_BATCH = 64  # images an iteration in all of the authors' configs
MOST_CLASSES = 10_000  # that a file of another length is tried with; YOLO9000 has 9418
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
    chosen: tuple[tuple[str, str], ...] = ()  # keys of ``model`` and why they are so, in a sentence

    def told(self, model: Mapping[str, Any]) -> tuple[str, ...]:
        """The notes on a ``model:`` block in which a user may have set keys otherwise."""
        kept = [
            because
            if model[key] == self.model[key]
            else f"model.{key} was given in the place of what the file says: {because}"
            for key, because in self.chosen
        ]
        return (*self.notes, *kept)


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
    header = read_header(source, None if model is None else _darknet_entry(model).floats)
    check_new(folder)
    given = () if names is None else read_names(names)
    plan = _with_placement(_plan(source, model, cfg), source, header)
    experiment = _experiment(plan, given, overrides, header.seen)
    if plan.cfg is not None:
        _built(experiment.model, plan.cfg, plan.model)
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
        notes=(*plan.told(experiment.model), *notes, *strange_numbers(detector)),
        difference=difference,
        size=source.stat().st_size,
        sha256=sha256_of(source),
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


def _plan(source: Path, model: str | None, cfg: Path | None) -> Plan:
    if cfg is not None:
        text = read_cfg(cfg)
        check_detects(text)
        read = read_model(text)
        described, said = _as_published(source, read.model, text)
        because = f"as {cfg} describes it"
        return Plan(described, (), because, read.notes, text, chosen=said)
    entry, because = _recognise(source) if model is None else _named(source, model)
    because = f"{because} ({entry.name} of the zoo)"
    return Plan(entry.model, entry.class_names, because, advice=entry.note)


def _as_published(
    source: Path, model: Mapping[str, Any], cfg: Cfg
) -> tuple[Mapping[str, Any], tuple[tuple[str, str], ...]]:
    """Put the anchors of a published file in the place of those of a text that says otherwise.

    A text cannot be compared with itself to notice that the weights were trained with others.

    Returns:
        The ``model:`` block, and each setting of the text that is not followed, with a sentence.
    """
    entry = entry_of_size(source)
    if (
        entry is None
        or entry.model["name"] != model["name"]
        or not is_published_file(entry, source)
    ):
        return model, ()
    theirs = _built(model, cfg, model)
    with torch.device("meta"):
        ours = build_detector(entry.model)
    keys = [key for key in (type(ours).anchors_key, type(ours).masks_key) if key is not None]
    changed = {
        key: getattr(ours.config, key)
        for key in keys
        if getattr(ours.config, key) != getattr(theirs.config, key)
    }
    said = [
        f"this is the published {entry.file.name}, known by its size and hash, which was trained "
        f"with {key} {_listed(value)}; {cfg.path} says {_listed(getattr(theirs.config, key))} and "
        "is not followed in this."
        for key, value in changed.items()
    ]
    return {**model, **changed}, tuple(zip(changed, said, strict=True))


def _built(model: Mapping[str, Any], cfg: Cfg, described: Mapping[str, Any]) -> Detector:
    """Build a detector on the meta device; a setting that cannot be is laid on the text's line."""
    try:
        with torch.device("meta"):
            return build_detector(model)
    except ConfigError as problem:
        raise blamed(cfg, described, model, problem) from None


def _with_placement(plan: Plan, source: Path, header: Header) -> Plan:
    """Add how the program that trained the file lays images on the canvas, and a line about it."""
    if not has_placement(plan.model):
        return plan
    found, entry = placement_of(header, plan.cfg), entry_of_size(source)
    placement, because = found
    if placement == "stretch" and entry is not None and is_published_file(entry, source):
        placement, because = (
            "letterbox",
            (
                f"this is the published {entry.file.name}, known by its size and hash, which was "
                f"trained on images that keep their shape; they would be stretched {plan.because}, "
                "which is not followed in this."
            ),
        )
    chosen = (*plan.chosen, ("placement", because)) if because else plan.chosen
    return replace(plan, model={**plan.model, "placement": placement}, chosen=chosen)


def has_placement(model: Mapping[str, Any]) -> bool:
    """Whether the detector of a ``model:`` block has that setting; YOLOv1 always stretches."""
    return "placement" in DETECTORS[model["name"]].config_type.model_fields


def _listed(value: Any) -> str:
    return str([list(each) for each in value])


def _named(source: Path, model: str) -> tuple[DarknetEntry, str]:
    """The zoo entry that ``--model`` says, and why; less what is true of its own file alone."""
    entry = _darknet_entry(model)
    own = is_published_file(entry, source) is not False
    return entry if own else entry.of_another_file(), "as --model says"


def _darknet_entry(name: str) -> DarknetEntry:
    entry = find_entry(name)
    if not isinstance(entry, DarknetEntry):
        raise ConfigError(
            f"--model {name}: its weights are no file of darknet's, but torchvision's "
            f"{entry.file.name}."
        )
    return entry


def _recognise(source: Path) -> tuple[DarknetEntry, str]:
    """The one zoo entry whose file has this size or, without one, this name; and why."""
    sized = entry_of_size(source)
    if sized is not None:
        known, size = is_published_file(sized, source), source.stat().st_size
        entry = sized.of_another_file() if known is False else sized
        return entry, known_by(sized, size, known)
    entries = [entry for entry in ZOO.values() if isinstance(entry, DarknetEntry)]
    named = [e for e in entries if e.file.name.casefold() == source.name.casefold()]
    if len(named) == 1:
        return named[0].of_another_file(), "by its name"  # of another length than its own
    size = source.stat().st_size
    raise ConfigError(
        f"{source}: neither its name nor its {size:,} bytes are those of a file in the zoo; say "
        f"what it is with --cfg FILE or --model NAME ({', '.join(e.name for e in entries)})."
        f"{backbone_hint(source)}"
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
    check_one_source(given, experiment.data.classes)
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
            f"{'--names' if given else 'data.classes'} has {names_in_words(names)}; the model has "
            f"{count} classes{_known(plan, count)}. Name every class, in the order of its training."
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


def _known(plan: Plan, count: int) -> str:
    return f": {few(plan.class_names)}" if len(plan.class_names) == count else ""


# ---------------------------------------------------------------------------------- files


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
    write_imported(folder, content)
