"""Say what is in a dataset, what is wrong with it, and whether a detector can learn it.

``detkit data check`` in Python: :func:`check_data` with :class:`CheckSettings`. Nothing of the data
is changed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from detkit.class_names import OtherClassesError
from detkit.config import find_config
from detkit.data import Annotations, join, read_dataset
from detkit.data.join import shared_names
from detkit.data.reading import read_entries
from detkit.data.recognise import recognise
from detkit.detectors import DETECTORS, build_detector
from detkit.doctor.figures import Checkup, Entry, Role, Split, all_classes, examine
from detkit.doctor.finding import Finding
from detkit.doctor.installation import look_at_gpu
from detkit.doctor.leftovers import Leftovers, find_leftovers
from detkit.doctor.plots import write_page, write_samples
from detkit.doctor.record import as_record, bad_files, unused_files
from detkit.doctor.verdicts import find
from detkit.engine.build import join_train, not_trained_on, settle
from detkit.engine.start_model import complete_model
from detkit.errors import ConfigError, DetkitError, did_you_mean
from detkit.experiment.config import DataConfig, ExperimentConfig, TrainConfig
from detkit.experiment.read import read_experiment
from detkit.files import make_folder, write_atomically
from detkit.progress import NO_PROGRESS, Progress
from detkit.recipes import near, recipe_names
from detkit.workflows.data_keys import AUTO_KEYS, class_list, read_keys
from detkit.workflows.defaults import CHECKED_FOR

CONFIG_ENDINGS = (".yaml", ".yml")


@dataclass(slots=True)
class CheckRequest:
    """What is to be checked: entries of splits, and the detector they are meant for."""

    name: str  # what to call it in a title and a folder
    entries: dict[str, tuple[Role, list[dict[str, Any]]]]  # split -> (role, entries)
    experiment: ExperimentConfig  # whose rules of training count
    model: dict[str, Any]
    classes: tuple[str, ...] = ()
    refused: list[str] = field(default_factory=list)  # what training or evaluation says
    unused: list[str] = field(default_factory=list)  # the same of splits that neither reads
    unread: list[str] = field(default_factory=list)  # folders of which something could not be read


@dataclass(frozen=True, slots=True)
class CheckSettings:
    """What is checked, for which detector, and where the pictures go."""

    source: str | Path  # a dataset's folder, a config file, or a recipe's name
    overrides: tuple[str, ...] = ()  # KEY=VALUE
    model: str | None = None  # the detector to ask; None: the config's own, of a folder the default
    out: Path | None = None  # folder of the pictures; None: runs/check/<name>
    json: Path | None = None  # all figures and findings


@dataclass(frozen=True, slots=True, eq=False)
class DataCheck:
    """What was found, and what was written."""

    checkup: Checkup
    findings: tuple[Finding, ...]
    written: tuple[Path, ...]

    @property
    def is_refused(self) -> bool:
        """Whether training or evaluation would refuse the data."""
        return any(finding.severity == "error" for finding in self.findings)


def check_data(settings: CheckSettings, progress: Progress = NO_PROGRESS) -> DataCheck:
    """Read data as training would, examine it, write pictures and lists.

    Args:
        settings: of what.
        progress: is told what was recognised, before the rest is read.

    Raises:
        ConfigError: a source, model or override that cannot be.
        DataError: data of which nothing can be said.
    """
    source = Path(settings.source)
    folder = settings.out or Path("runs") / "check" / source.resolve().stem
    if source.is_dir():
        request = from_folder(source, settings.overrides, progress)
        keep_out_of(folder, source)
    else:
        request = from_config(str(settings.source), settings.overrides)
    if settings.model is not None:
        request.model = named_model(settings.model, source if source.is_dir() else None)
    splits = read_splits(request)
    classes = all_classes(splits, request.classes)  # labels of the checkup count in them
    model = {**request.model, "num_classes": max(len(classes), 1)}
    detector: Any = build_detector(model)
    checkup = examine(
        splits,
        detector,
        expected=request.classes,
        refused=request.refused,
        unused=request.unused,
        model=f"{model['name']} ({detector.config.backbone})",
        leftovers=leftovers_of(request, splits),
    )
    findings = (*find(checkup), *look_at_gpu())
    written: list[Path] = []
    if splits:
        make_folder(folder)
        written += [folder / "doctor.png", folder / "samples.png"]
        write_page(written[0], checkup, request.name)
        write_samples(written[1], checkup)
    lists = {"bad_files.txt": bad_files(checkup), "unused_files.txt": unused_files(checkup)}
    for name, listed in lists.items():
        if listed:
            written.append(folder / name)
            write_atomically(written[-1], "".join(f"{path}\t{why}\n" for path, why in listed))
    if settings.json is not None:
        written.append(settings.json)
        text = json.dumps(as_record(checkup, findings), indent=2, allow_nan=False)
        write_atomically(settings.json, text + "\n")
    return DataCheck(checkup, findings, tuple(written))


# -------------------------------------------------------------------------- what to look at


def from_config(word: str, overrides: Sequence[str]) -> CheckRequest:
    """The training and evaluation entries of a config or recipe, and its model."""
    path = find_config(word)
    if path.suffix not in CONFIG_ENDINGS and not path.exists():
        hint = near(path) or " Check the path."
        raise ConfigError(f"{path}: no such config file, and no such folder.{hint}")
    experiment, _ = complete_model(*read_experiment(path, overrides))
    data = experiment.data
    entries: dict[str, tuple[Role, list[dict[str, Any]]]] = {
        "train": ("train", list(data.train)),
        "eval": ("eval", list(data.eval)),
    }
    if not data.train and not data.eval:
        raise ConfigError(f"{word}: data.train: missing; name data, e.g. {{format, root, split}}.")
    return CheckRequest(
        name=word,
        entries={name: block for name, block in entries.items() if block[1]},
        experiment=experiment,
        model=dict(experiment.model),
        classes=data.classes,
    )


def named_model(word: str, root: Path | None) -> dict[str, Any]:
    """The model block that ``--model`` means: a detector's defaults, a config's, a recipe's own.

    Args:
        word: as given.
        root: the folder that is looked at, for a recipe that takes any; None: a config names it.

    Raises:
        ConfigError: a config that cannot be read, or a name that is neither.
    """
    if word in [*DETECTORS]:
        return {"name": word}
    path = find_config(word)
    if not path.exists() and path.suffix not in CONFIG_ENDINGS:
        raise ConfigError(
            f"--model {word}: no detector, recipe or config file has this name."
            f"{did_you_mean(word, [*DETECTORS, *recipe_names()])}"
        )
    words = [] if root is None else [f"data.root={root}"]
    return dict(complete_model(*read_experiment(path, words))[0].model)


def from_folder(root: Path, overrides: Sequence[str], progress: Progress) -> CheckRequest:
    """Every split of a folder that is recognised, or the one entry that the words name."""
    keys = {**read_keys(overrides), "root": str(root)}
    classes = class_list(keys)
    train = TrainConfig(epochs=1, start=CHECKED_FOR)
    described = ExperimentConfig(model={}, data=DataConfig(classes=classes), train=train)
    experiment, _ = complete_model(described, {})
    model = dict(experiment.model)
    if keys.get("format", "auto") != "auto":
        return CheckRequest(str(root), {"data": ("train", [keys])}, experiment, model, classes)
    rest = {key: value for key, value in keys.items() if key in AUTO_KEYS[1:]}
    unknown = set(keys) - {"root", "format", *AUTO_KEYS}
    if unknown:
        raise ConfigError(
            f"data.{min(unknown)}: does not go with a folder that is to be recognised; "
            "name the format, too: data.format=NAME."
        )
    found = recognise(root, keys.get("split", ""), rest)
    entries: dict[str, tuple[Role, list[dict[str, Any]]]] = {}
    purposes: tuple[tuple[str, Role, tuple[dict[str, Any], ...]], ...] = (
        ("train", "train", found.train),
        ("eval", "eval", found.val),
        ("test", "eval", found.test),
    )
    for key, role, block in purposes:
        if list(block) not in [before for _, before in entries.values()]:
            named = {entry["split"] for entry in block}
            is_part = any("part" in entry for entry in block)
            name = key if is_part or len(named) > 1 else named.pop() or key
            entries[name] = (role, list(block))
    used = {entry["split"] for _, block in entries.values() for entry in block}
    for split in found.splits:
        if split.name not in used and not keys.get("split"):
            entry = {"format": found.format, "root": str(root), "split": split.name, **rest}
            entries[split.name] = ("other", [entry])
    progress.say(found.line())
    if found.unread:
        progress.say(f"a training stops here: {found.unread}")
    return CheckRequest(str(root), entries, experiment, model, classes)


def keep_out_of(folder: Path, source: Path) -> None:
    """Refuse to write into the user's data.

    Raises:
        ConfigError: ``folder`` lies in ``source``.
    """
    if folder.resolve().is_relative_to(source.resolve()):
        raise ConfigError(
            f"--out {folder}: lies in the data, where nothing is written. Name another folder."
        )


def read_splits(request: CheckRequest) -> list[Split]:
    """Read every split, as training would; what it refuses is noted, and read all the same."""
    splits: list[Split] = []
    learned: tuple[str, ...] = ()  # the classes of what is trained on
    for name, (role, entries) in request.entries.items():
        refused = request.unused if role == "other" else request.refused
        expected = learned if role == "eval" and learned else request.classes
        before = len(refused)
        read = read_together(entries, expected, learned)
        parts = [
            part
            for entry, data in zip(entries, read, strict=True)
            if (part := read_part(entry, expected, request, refused, data))
        ]
        if len(parts) < len(entries):
            request.unread += [str(entry.get("root")) for entry in entries]
        if role == "train" and len(refused) == before:
            learned = trained_classes(request, [data for data, _ in parts])
        if not parts:
            continue
        try:
            every = [data for data, _ in parts]
            joined = join(every, shared_names(every))
        except DetkitError as problem:  # the same image id twice
            refused.append(f"{name}: {problem}")
            request.unread += [str(entry.get("root")) for entry in entries]
            continue
        splits.append(Split(name, role, joined, tuple(entry for _, entry in parts)))
    for refused in (request.refused, request.unused):
        refused[:] = dict.fromkeys(refused)  # two entries may trip over one file
    return splits


def read_together(
    entries: Sequence[Mapping[str, Any]], expected: Sequence[str], learned: Sequence[str]
) -> Sequence[Annotations | None]:
    """Entries of which one may have a class that ``only`` of all names; None: each by itself."""
    if any(entry.get("only") for entry in entries):
        with suppress(DetkitError):  # which of them is at fault is found one by one
            return read_entries(entries, expected, learned)
    return [None] * len(entries)


def read_part(
    entry: Mapping[str, Any],
    expected: Sequence[str],
    request: CheckRequest,
    refused: list[str],
    data: Annotations | None = None,
) -> tuple[Annotations, Entry] | None:
    """Read one entry, and where training refuses it, whatever of it can be read.

    Args:
        entry: of ``data.train`` or ``data.eval``.
        expected: the classes that training expects in it.
        request: what it belongs to.
        refused: what training says is added to it.
        data: what it holds, where that is read already.

    Returns:
        What the entry holds; None where nothing can be read.
    """
    try:
        data = read_dataset(entry, expected) if data is None else data
    except DetkitError as problem:
        if isinstance(problem, OtherClassesError) and expected and not request.classes:
            problem = not_trained_on(problem)
        refused.append(str(problem))
        lenient = {**entry, "max_unreadable": 1.0}
        ways = product((lenient, {**lenient, "only": ()}), dict.fromkeys((tuple(expected), ())))
        for keys, classes in ways:  # what else is there to say of it?
            try:
                data = read_dataset(keys, classes)
                break
            except DetkitError:
                continue
        else:
            return None
    words = [str(entry[key]) for key in ("format", "root", "split", "part") if entry.get(key)]
    paths = [path for path, _ in data.report.unreadable]
    missing = tuple(path for path in paths if not os.path.lexists(path))
    return data, Entry(" ".join(words), len(data), len(paths), missing)


def leftovers_of(request: CheckRequest, splits: Sequence[Split]) -> list[Leftovers]:
    """What lies in the folders of the entries and is in no split."""
    entries = [entry for _, block in request.entries.values() for entry in block]
    return find_leftovers(entries, [split.annotations for split in splits], request.unread)


def trained_classes(request: CheckRequest, parts: Sequence[Annotations]) -> tuple[str, ...]:
    """The classes of a training on ``parts``; none, and what training says, where it refuses."""
    try:
        data = join_train(request.experiment, parts)
        settle(request.experiment, data)
    except DetkitError as problem:
        request.refused.append(str(problem))
        return ()
    return data.class_names
