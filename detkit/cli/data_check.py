"""Say what is in a dataset, what is wrong with it, and whether a detector can learn it.

Nothing of the data is changed. Exit code 2 when training or evaluation would refuse it.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detkit.class_names import OtherClassesError
from detkit.cli.ending import FAILED, ended
from detkit.errors import ConfigError, DetkitError, did_you_mean

if TYPE_CHECKING:
    from detkit.data import Annotations
    from detkit.doctor.figures import Entry, Role, Split
    from detkit.doctor.leftovers import Leftovers
    from detkit.engine.experiment import ExperimentConfig

CONFIG_ENDINGS = (".yaml", ".yml")
DEFAULT_MODEL = "yolo_v3_tiny_coco"  # of the zoo: a folder is judged for what finetune begins with


@dataclass(slots=True)
class Patient:
    """What is to be looked at: entries of splits, and the detector they are meant for."""

    name: str  # what to call it in a title and a folder
    entries: dict[str, tuple[Role, list[dict[str, Any]]]]  # split -> (role, entries)
    experiment: ExperimentConfig  # whose rules of training count
    model: dict[str, Any]
    classes: tuple[str, ...] = ()
    refused: list[str] = field(default_factory=list)  # what training or evaluation says
    unused: list[str] = field(default_factory=list)  # the same of splits that neither reads
    unread: list[str] = field(default_factory=list)  # folders of which something could not be read


def main(argv: list[str] | None = None) -> int:
    """Parse, delegate, and turn what stops the work into one readable line."""
    parser = argparse.ArgumentParser(
        prog="detkit data check",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "source",
        metavar="CONFIG|ROOT",
        help="a dataset's folder, a config file, or a recipe's name (`detkit recipes`)",
    )
    parser.add_argument(
        "overrides", nargs="*", default=[], metavar="KEY=VALUE", help="e.g. data.root=PATH"
    )
    parser.add_argument(
        "--model",
        metavar="NAME|CONFIG",
        help="the detector to ask, with its defaults or as a config or recipe has it (default: "
        f"CONFIG's own; for a folder {DEFAULT_MODEL})",
    )
    parser.add_argument(
        "--out", type=Path, help="folder of the pictures (default: runs/check/<name>)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="all figures and findings")
    args = parser.parse_intermixed_args(argv)  # overrides may stand anywhere
    return ended("data check", lambda: run(args))


def run(args: argparse.Namespace) -> int:
    """Read, examine, say, draw.

    Returns:
        The exit code: 2 where training or evaluation would refuse the data.
    """
    from detkit.detectors import build_detector
    from detkit.doctor.figures import all_classes, examine
    from detkit.doctor.installation import look_at_gpu
    from detkit.doctor.page import print_checkup
    from detkit.doctor.plots import write_page, write_samples
    from detkit.doctor.record import as_record, bad_files, unused_files
    from detkit.doctor.verdicts import find
    from detkit.evaluation.tables import console
    from detkit.files import make_folder, write_atomically

    source = Path(args.source)
    folder = args.out or Path("runs") / "check" / source.resolve().stem
    if source.is_dir():
        patient = from_folder(source, args.overrides)
        keep_out_of(folder, source)
    else:
        patient = from_config(args.source, args.overrides)
    if args.model is not None:
        patient.model = named_model(args.model, source if source.is_dir() else None)
    splits = read_splits(patient)
    classes = all_classes(splits, patient.classes)  # labels of the checkup count in them
    model = {**patient.model, "num_classes": max(len(classes), 1)}
    detector: Any = build_detector(model)
    checkup = examine(
        splits,
        detector,
        expected=patient.classes,
        refused=patient.refused,
        unused=patient.unused,
        model=f"{model['name']} ({detector.config.backbone})",
        leftovers=leftovers_of(patient, splits),
    )
    findings = [*find(checkup), *look_at_gpu()]
    print_checkup(checkup, findings, console())

    written: list[Path] = []
    if splits:
        make_folder(folder)
    if splits:
        written += [folder / "doctor.png", folder / "samples.png"]
        write_page(written[0], checkup, patient.name)
        write_samples(written[1], checkup)
    lists = {"bad_files.txt": bad_files(checkup), "unused_files.txt": unused_files(checkup)}
    for name, listed in lists.items():
        if listed:
            written.append(folder / name)
            write_atomically(written[-1], "".join(f"{path}\t{why}\n" for path, why in listed))
    if args.json is not None:
        written.append(args.json)
        text = json.dumps(as_record(checkup, findings), indent=2, allow_nan=False)
        write_atomically(args.json, text + "\n")
    if written:
        print(f"\nwritten: {', '.join(map(str, written))}")
    return FAILED if any(finding.gravity == "stop" for finding in findings) else 0


# -------------------------------------------------------------------------- what to look at


def from_config(word: str, overrides: Sequence[str]) -> Patient:
    """The training and evaluation entries of a config or recipe, and its model."""
    from detkit.config import find_config
    from detkit.engine.experiment import read_experiment
    from detkit.engine.start_model import complete_model
    from detkit.recipes import near

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
    return Patient(
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
    from detkit.config import find_config
    from detkit.detectors import DETECTORS
    from detkit.engine.experiment import read_experiment
    from detkit.engine.start_model import complete_model
    from detkit.recipes import recipe_names

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


def from_folder(root: Path, overrides: Sequence[str]) -> Patient:
    """Every split of a folder that is recognised, or the one entry that the words name."""
    from detkit.data.recognise import recognise
    from detkit.engine.experiment import DataConfig, ExperimentConfig, TrainConfig
    from detkit.engine.start_model import complete_model
    from detkit.workflows.data_keys import AUTO_KEYS, class_list, read_keys

    keys = {**read_keys(overrides), "root": str(root)}
    classes = class_list(keys)
    train = TrainConfig(epochs=1, start=DEFAULT_MODEL)
    described = ExperimentConfig(model={}, data=DataConfig(classes=classes), train=train)
    experiment, _ = complete_model(described, {})
    model = dict(experiment.model)
    if keys.get("format", "auto") != "auto":
        return Patient(str(root), {"data": ("train", [keys])}, experiment, model, classes)
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
    print(found.line())
    if found.unread:
        print(f"a training stops here: {found.unread}")
    return Patient(str(root), entries, experiment, model, classes)


def keep_out_of(folder: Path, source: Path) -> None:
    """Refuse to write into the user's data.

    Raises:
        ConfigError: ``folder`` lies in ``source``.
    """
    if folder.resolve().is_relative_to(source.resolve()):
        raise ConfigError(
            f"--out {folder}: lies in the data, where nothing is written. Name another folder."
        )


def read_splits(patient: Patient) -> list[Split]:
    """Read every split, as training would; what it refuses is noted, and read all the same."""
    from detkit.data import join
    from detkit.data.join import shared_names
    from detkit.doctor.figures import Split

    splits: list[Split] = []
    learned: tuple[str, ...] = ()  # the classes of what is trained on
    for name, (role, entries) in patient.entries.items():
        refused = patient.unused if role == "other" else patient.refused
        expected = learned if role == "eval" and learned else patient.classes
        before = len(refused)
        read = read_together(entries, expected, learned)
        parts = [
            part
            for entry, data in zip(entries, read, strict=True)
            if (part := read_part(entry, expected, patient, refused, data))
        ]
        if len(parts) < len(entries):
            patient.unread += [str(entry.get("root")) for entry in entries]
        if role == "train" and len(refused) == before:
            learned = trained_classes(patient, [data for data, _ in parts])
        if not parts:
            continue
        try:
            every = [data for data, _ in parts]
            joined = join(every, shared_names(every))
        except DetkitError as problem:  # the same image id twice
            refused.append(f"{name}: {problem}")
            patient.unread += [str(entry.get("root")) for entry in entries]
            continue
        splits.append(Split(name, role, joined, tuple(entry for _, entry in parts)))
    for refused in (patient.refused, patient.unused):
        refused[:] = dict.fromkeys(refused)  # two entries may trip over one file
    return splits


def read_together(
    entries: Sequence[Mapping[str, Any]], expected: Sequence[str], learned: Sequence[str]
) -> Sequence[Annotations | None]:
    """Entries of which one may have a class that ``only`` of all names; None: each by itself."""
    from detkit.data.reading import read_entries

    if any(entry.get("only") for entry in entries):
        with suppress(DetkitError):  # which of them is at fault is found one by one
            return read_entries(entries, expected, learned)
    return [None] * len(entries)


def read_part(
    entry: Mapping[str, Any],
    expected: Sequence[str],
    patient: Patient,
    refused: list[str],
    data: Annotations | None = None,
) -> tuple[Annotations, Entry] | None:
    """Read one entry, and where training refuses it, whatever of it can be read.

    Args:
        entry: of ``data.train`` or ``data.eval``.
        expected: the classes that training expects in it.
        patient: what it belongs to.
        refused: what training says is added to it.
        data: what it holds, where that is read already.

    Returns:
        What the entry holds; None where nothing can be read.
    """
    from detkit.data import read_dataset
    from detkit.doctor.figures import Entry
    from detkit.engine.build import not_trained_on

    try:
        data = read_dataset(entry, expected) if data is None else data
    except DetkitError as problem:
        if isinstance(problem, OtherClassesError) and expected and not patient.classes:
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


def leftovers_of(patient: Patient, splits: Sequence[Split]) -> list[Leftovers]:
    """What lies in the folders of the entries and is in no split."""
    from detkit.doctor.leftovers import find_leftovers

    entries = [entry for _, block in patient.entries.values() for entry in block]
    return find_leftovers(entries, [split.annotations for split in splits], patient.unread)


def trained_classes(patient: Patient, parts: Sequence[Annotations]) -> tuple[str, ...]:
    """The classes of a training on ``parts``; none, and what training says, where it refuses."""
    from detkit.engine.build import join_train, settle

    try:
        data = join_train(patient.experiment, parts)
        settle(patient.experiment, data)
    except DetkitError as problem:
        patient.refused.append(str(problem))
        return ()
    return data.class_names
