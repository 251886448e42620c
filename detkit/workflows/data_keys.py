"""What ``detkit data`` commands are pointed at: a folder, or the keys of one dataset entry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from detkit.data.formats.base import FOLDER_KEYS, MEANING_KEYS, PLACE_KEYS, VIA_KEYS
from detkit.errors import ConfigError

AUTO_KEYS = ("split", *FOLDER_KEYS, *PLACE_KEYS, *VIA_KEYS, *MEANING_KEYS)  # that a folder goes by


def read_keys(words: Sequence[str]) -> dict[str, Any]:
    """Parse ``data.KEY=VALUE`` words; values are read as in a config file.

    Raises:
        ConfigError: a word of another form.
    """
    from detkit.config import parse_override
    from detkit.experiment.entries import split_overrides

    keys, rest = split_overrides(words)
    for word in rest:
        key, value = parse_override(word)
        block, _, name = key.partition(".")
        if block != "data" or not name or "." in name:
            raise ConfigError(f"{word!r}: expected data.KEY=VALUE, e.g. data.split=train.")
        keys[name] = value
    return keys


def class_list(keys: dict[str, Any]) -> tuple[str, ...]:
    """Take ``classes`` out of an entry's keys; they belong to the data as a whole.

    Raises:
        ConfigError: no list of names; a number among them that is not in quotes.
    """
    from detkit.config import parse
    from detkit.experiment.config import DataConfig

    classes = keys.pop("classes", [])
    if not isinstance(classes, list):
        raise ConfigError("data.classes: expected a list, e.g. 'data.classes=[cat, dog]'.")
    return parse(DataConfig, {"classes": classes}, "data.").classes


def all_splits(keys: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The entries of every split of a folder, or the one that ``keys`` name.

    Raises:
        ConfigError: no root.
        DataError: a folder that is not recognised.
    """
    from detkit.data.recognise import find_splits, recognise, unread_split
    from detkit.errors import DataError

    if "root" not in keys:
        raise ConfigError("data.root: missing; name the folder that holds the data.")
    root, split = Path(keys["root"]), keys.get("split", "")
    named = keys.get("format", "auto")
    rest = {key: value for key, value in keys.items() if key not in ("format", "split")}
    if split:
        places = {key: keys[key] for key in (*PLACE_KEYS, "names_file") if key in keys}
        named = recognise(root, split, places).format if named == "auto" else named
        return {split: {**rest, "format": named, "split": split}}
    if named != "auto" and "annotations" in keys:  # one file is named, and with it one split
        return {"all": dict(keys)}
    files = (str(keys.get("annotations", "")), str(keys.get("names_file", "")))
    data_format, splits = find_splits(root, "" if named == "auto" else named, *files)
    if not splits:  # the reader of a format that is named knows best what it lacks
        return {"all": dict(keys)}
    if unread := "" if files[0] else unread_split(root, splits):
        raise DataError(unread)
    return {each.name: {**rest, "format": data_format, "split": each.name} for each in splits}
