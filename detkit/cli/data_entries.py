"""What ``detkit data`` commands are pointed at: a folder, or the keys of one dataset entry."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from detkit.errors import ConfigError

AUTO_KEYS = ("split", "hold_out", "split_seed", "max_unreadable")  # that a folder goes by


def read_keys(words: Sequence[str]) -> dict[str, Any]:
    """Parse ``data.KEY=VALUE`` words; values are read as YAML.

    Raises:
        ConfigError: a word of another form.
    """
    import yaml

    keys: dict[str, Any] = {}
    for word in words:
        match = re.fullmatch(r"data\.(\w+)=(.*)", word, re.DOTALL)
        if match is None:
            raise ConfigError(f"{word!r}: expected data.KEY=VALUE, e.g. data.split=train.")
        try:
            keys[match[1]] = yaml.safe_load(match[2])
        except yaml.YAMLError:
            raise ConfigError(f"{word!r}: its value is not readable as YAML. Quote it.") from None
    for key in ("root", "split", "format"):  # a split called 2007 is a name
        if key in keys:
            keys[key] = str(keys[key])
    return keys


def class_list(keys: dict[str, Any]) -> tuple[str, ...]:
    """Take ``classes`` out of an entry's keys; they belong to the data as a whole.

    Raises:
        ConfigError: no list of names.
    """
    classes = keys.pop("classes", [])
    if not isinstance(classes, list):
        raise ConfigError("data.classes: expected a list, e.g. 'data.classes=[cat, dog]'.")
    return tuple(str(name) for name in classes)


def all_splits(keys: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The entries of every split of a folder, or the one that ``keys`` name.

    Raises:
        ConfigError: no root.
        DataError: a folder that is not recognised.
    """
    from detkit.data.recognise import recognise

    if "root" not in keys:
        raise ConfigError("data.root: missing; name the folder that holds the data.")
    is_auto = keys.get("format", "auto") == "auto"
    if keys.get("split") and not is_auto:
        return {keys["split"]: dict(keys)}
    found = recognise(Path(keys["root"]), keys.get("split", "")) if is_auto else None
    if found is None:  # a format without a split: all that recognise finds of it, else its whole
        guess = recognise(Path(keys["root"]))
        if guess.format != keys["format"]:
            return {"all": dict(keys)}
        found = guess
    rest = {key: value for key, value in keys.items() if key not in ("format", "split")}
    names = [keys["split"]] if keys.get("split") else [split.name for split in found.splits]
    return {name: {**rest, "format": found.format, "split": name} for name in names}
