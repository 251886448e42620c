"""Format ``auto``: entries that leave it to their folder what lies there.

``format: auto`` in a config entry, or ``data.format=auto data.root=FOLDER`` on the command line,
is replaced by explicit entries before anything is read (:func:`resolve`); the run's config and its
checkpoints record these. What is chosen, and why, is told in ``detkit/data/recognise.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from detkit.config import parse
from detkit.data.base import (
    DATASETS,
    Annotations,
    DatasetConfig,
    DatasetFormat,
    read_dataset,
)
from detkit.data.join import join
from detkit.data.recognise import Recognised, Use, recognise
from detkit.errors import ConfigError

AUTO = "auto"
OWN_KEYS = ("hold_out", "split_seed", "max_unreadable")  # of an auto entry, handed on


class AutoConfig(DatasetConfig):
    """``split`` names the one to read; without it this module's rules choose."""

    split: str = ""


def resolve(
    data: Mapping[str, Any], use: Use = "train"
) -> tuple[dict[str, list[dict[str, Any]]], list[str]]:
    """Replace the ``format: auto`` entries of a data block by explicit ones.

    Args:
        data: with the lists ``train`` and ``eval``.
        use: in evaluation only ``eval`` is looked at.

    Returns:
        Both lists, and a line for each folder that says what was found.

    Raises:
        ConfigError: a key that an auto entry cannot have.
        DataError: a folder that is not recognised.
    """
    lines: list[str] = []
    train = [dict(entry) for entry in data.get("train") or ()]
    measured = [dict(entry) for entry in data.get("eval") or ()]
    seen: dict[str, Recognised] = {}
    if use == "train":
        learned = []
        for entry in train:
            found = _resolve(entry)
            if found is None:
                learned.append(entry)
            elif str(found.root) not in seen:
                seen[str(found.root)] = found
                lines.append(found.line())
                learned += found.train
        if seen and not measured:
            measured = [entry for found in seen.values() for entry in found.val]
        train = learned
    explicit: list[dict[str, Any]] = []
    for entry in measured:
        before = seen.get(str(Path(entry["root"]))) if "root" in entry else None
        found = None if not is_auto(entry) else before or _resolve(entry)
        if found is not None and found is not before:
            lines.append(found.line("eval"))
        chosen = () if found is None else (found.val if found is before else found.test)
        explicit += [c for c in chosen or (entry,) if c not in explicit]
    return {"train": train, "eval": explicit}, list(dict.fromkeys(lines))


def is_auto(entry: Mapping[str, Any]) -> bool:
    """Whether an entry leaves its format to :func:`recognise`."""
    return entry.get("format") == AUTO


def _resolve(entry: Mapping[str, Any]) -> Recognised | None:
    if not is_auto(entry):
        return None
    settings = {key: value for key, value in entry.items() if key != "format"}
    config = parse(AutoConfig, settings, path="data.")
    if config.part != "all":
        raise ConfigError(
            f"data.part: {config.part} does not go with format auto, which parts by itself. "
            "Name the format."
        )
    keys = {key: settings[key] for key in OWN_KEYS if key in settings}
    return recognise(config.root, config.split, keys)


def read_auto(config: AutoConfig, classes: Sequence[str] = ()) -> Annotations:
    """Read the split that is named, or what would be trained on."""
    found = recognise(config.root, config.split)
    chosen = found.test if config.split else found.train
    entries = [{**entry, "max_unreadable": config.max_unreadable} for entry in chosen]
    parts = [read_dataset(entry, classes) for entry in entries]
    return parts[0] if len(parts) == 1 else join(parts, classes)


DATASETS.register(AUTO)(DatasetFormat(AutoConfig, read_auto))
