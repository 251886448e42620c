"""Overrides of a config as Python has them, written as the command line has them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from detkit.errors import ConfigError
from detkit.experiment.entries import NAMES


def override_texts(overrides: Sequence[str] | Mapping[str, Any]) -> list[str]:
    """Overrides as the command line has them: ``KEY=VALUE``, the value as YAML.

    Args:
        overrides: such texts already, one or several; or values by dotted key. Of a whole block,
            ``{"train": {"lr": 0.1}}``, only the keys that stand in it are set.

    Raises:
        ConfigError: a key that is no text, or a value that no config file can hold.
    """
    if isinstance(overrides, str):
        return [overrides]
    if not isinstance(overrides, Mapping):
        for text in overrides:
            if not isinstance(text, str):
                raise ConfigError(f"{text!r}: expected a text such as 'train.lr=0.01'.")
        return list(overrides)
    texts = []
    for key, value in overrides.items():
        if not isinstance(key, str):
            raise ConfigError(f"{key!r}: expected a dotted key, for example 'train.lr'.")
        inside = isinstance(value, Mapping) and "." not in key
        pairs = {f"{key}.{name}": each for name, each in value.items()} if inside else {key: value}
        texts += [f"{name}={_as_yaml(name, each)}" for name, each in pairs.items()]
    return texts


def _as_yaml(key: str, value: Any) -> str:
    """JSON, which is YAML too and leaves no text that looks like a number to be taken for one."""
    if key.removeprefix("data.") in NAMES:  # are taken as they are typed
        return str(value)
    try:
        return json.dumps(value, default=_plain, ensure_ascii=False)
    except (TypeError, ValueError):
        raise ConfigError(f"{key}: {value!r} is nothing that a config can hold.") from None


def _plain(value: Any) -> Any:
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:  # a number of numpy's
        return value.item()
    raise TypeError
