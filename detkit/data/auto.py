"""Format ``auto``: entries that leave it to their folder what lies there.

``format: auto`` in a config entry, or ``data.format=auto data.root=FOLDER`` on the command line,
is replaced by explicit entries before anything is read (:func:`resolve`); the run's config and its
checkpoints record these. What is chosen, and why, is told in ``detkit/data/choose_splits.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from detkit.config import parse
from detkit.data.base import Annotations
from detkit.data.formats.base import (
    FOLDER_KEYS,
    MEANING_KEYS,
    PLACE_KEYS,
    VIA_KEYS,
    DatasetConfig,
    is_auto,
)
from detkit.data.join import join
from detkit.data.reading import read_dataset
from detkit.data.recognise import Recognised, Use, recognise
from detkit.data.voc import Origin, Unannotated
from detkit.data.yolo_rows import Rows
from detkit.errors import ConfigError, DataError

OWN_KEYS = ("only", "max_unreadable", *MEANING_KEYS[:-1])  # that need not be those of training
OTHER_FILES = (*PLACE_KEYS, *VIA_KEYS, "names_file")  # keys by which a folder is other data


class AutoConfig(DatasetConfig):
    """``split`` names the one to read; without it this module's rules choose."""

    split: str = ""
    annotations: str = ""  # where they lie below root: a folder of XML files, a JSON; empty: found
    images: str = ""  # the folder of the images, below root; empty: found
    attribute: str = ""  # of VIA: the attribute of regions that is the class; empty: found
    origin: Origin = "auto"  # of VOC: the number of the first pixel
    unannotated: Unannotated = "auto"  # of VOC: what becomes of images without an annotation file
    rows: Rows = "auto"  # of YOLO text: what rows of more than 5 values are
    names_file: str = ""  # of YOLO text: the file of names and splits, below root; empty: found


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
    seen: list[tuple[dict[str, Any], Recognised]] = []
    if use == "train":
        learned: list[dict[str, Any]] = []
        for entry in train:
            if not is_auto(entry):
                learned.append(entry)
            elif entry not in [before for before, _ in seen]:
                found = _resolve(entry, train)
                if found.unread:
                    raise DataError(found.unread)
                seen.append((entry, found))
                lines.append(found.line())
                learned += [chosen for chosen in found.train if chosen not in learned]
        if seen and not measured:
            measured = [entry for _, found in seen for entry in found.val]
        train = learned
    explicit: list[dict[str, Any]] = []
    for entry in measured:
        chosen, line = _to_measure_on(entry, seen) if is_auto(entry) else ((entry,), "")
        lines += [line] if line else []
        for c in chosen:
            if c not in explicit:
                explicit.append(c)
    return {"train": train, "eval": explicit}, list(dict.fromkeys(lines))


def _to_measure_on(
    entry: Mapping[str, Any], seen: Sequence[tuple[Mapping[str, Any], Recognised]]
) -> tuple[tuple[dict[str, Any], ...], str]:
    """What an auto entry of ``eval`` becomes, and its line where training did not say it."""
    root, split = _place(entry)
    before = [(other, found) for other, found in seen if _place(other) == (root, split)]
    if not split:  # what goes with all that is trained on
        before = [(other, found) for other, found in seen if _place(other)[0] == root]
    before = [(other, found) for other, found in before if _are_beside(entry, other)]
    if before:
        own = {key: entry[key] for key in OWN_KEYS if key in entry}
        return tuple(chosen | own for _, found in before for chosen in found.val), ""
    found = _resolve(entry)
    if entry.get("part") == "all":  # asked for in so many words
        whole = tuple({k: v for k, v in one.items() if k != "part"} for one in found.test)
        found = replace(found, test=whole)
    return found.test, found.line("eval")


def _are_beside(entry: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether an entry names no other files of a folder than another that is trained on."""
    return all(entry.get(key, other.get(key)) == other.get(key) for key in OTHER_FILES)


def _place(entry: Mapping[str, Any]) -> tuple[str, str]:
    """Root and split of an entry, each empty where it is not named."""
    return str(Path(str(entry.get("root") or ""))), str(entry.get("split") or "")


def _resolve(entry: Mapping[str, Any], train: Sequence[Mapping[str, Any]] = ()) -> Recognised:
    """Recognise the folder of an auto entry; ``train`` are all entries that are trained on."""
    settings = {key: value for key, value in entry.items() if key != "format"}
    config = parse(AutoConfig, settings, path="data.")
    if config.part != "all":
        raise ConfigError(
            f"data.part: {config.part} does not go with format auto, which parts by itself. "
            "Name the format."
        )
    known = (*FOLDER_KEYS, *PLACE_KEYS, *VIA_KEYS, *MEANING_KEYS)
    keys = {key: getattr(config, key) for key in known if key in settings}
    places = [_place(other) for other in train]
    root, split = _place(entry)
    beside = [other for where, other in places if where == root and other not in ("", split)]
    return recognise(config.root, config.split, keys, beside)


def read_auto(config: AutoConfig, classes: Sequence[str] = ()) -> Annotations:
    """Read the split that is named, or what would be trained on."""
    keys = {key: getattr(config, key) for key in FOLDER_KEYS if key != "only"}  # of the whole
    for key in (*PLACE_KEYS, *VIA_KEYS, *MEANING_KEYS):
        if (value := getattr(config, key)) != AutoConfig.model_fields[key].default:
            keys[key] = value
    found = recognise(config.root, config.split, keys)
    if found.unread:
        raise DataError(found.unread)
    chosen, look = found.test if config.split else found.train, config.looks_at_images
    parts = [read_dataset(entry, classes, images=look) for entry in chosen]
    return parts[0] if len(parts) == 1 else join(parts, classes)
