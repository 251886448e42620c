"""What ``model.json`` of a checkpoint must say, by the types of its keys."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import xxhash

FORMAT = 1  # of model.json
HASHES = "xxh3_128"  # in model.json, of each file
HASH_KINDS: Mapping[str, Callable[[], Any]] = {  # that a model.json may state
    HASHES: xxhash.xxh3_128,
    "sha256": hashlib.sha256,  # what was written before
}
MOST_STEPS = 2**53  # a whole number that every reader of JSON has exactly


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= MOST_STEPS


def _is_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _is_block(value: object) -> bool:
    return isinstance(value, dict)


def _is_figures(value: object) -> bool:
    return isinstance(value, dict) and all(map(_is_figure, value.values()))


def _is_figure(value: object) -> bool:
    return type(value) is float or (type(value) is int and abs(value) <= MOST_STEPS)  # no bool


def _is_hashes(value: object) -> bool:
    return isinstance(value, dict) and all(
        isinstance(each, str) and re.fullmatch("(?:[0-9a-f]{32}){1,2}", each)
        for each in value.values()
    )


def _is_experiment(value: object) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("train", {}), dict):
        return False
    model = value.get("model")
    return isinstance(model, dict) and isinstance(model.get("name"), str)


NEEDED = ("experiment", "class_names", "step")
SAID: Mapping[str, tuple[Callable[[object], bool], str]] = {
    "format": (_is_count, "a whole number"),
    "experiment": (_is_experiment, "blocks of keys, of them model with a name"),
    "class_names": (_is_names, "a list of names"),
    "step": (_is_count, "a whole number from 0 on"),
    "steps": (_is_count, "a whole number from 0 on"),
    "metrics": (_is_figures, "a block of numbers"),
    "versions": (_is_block, "a block of keys"),
    "darknet": (_is_block, "a block of keys"),
    "torchvision": (_is_block, "a block of keys"),
    "data": (_is_block, "a block of keys"),
    **dict.fromkeys(HASH_KINDS, (_is_hashes, "a block of hashes in 32 or 64 hexadecimal digits")),
}


def wrong_type(described: object) -> str | None:
    """Why a document is no description of a checkpoint; None where it is one."""
    if not isinstance(described, dict):
        return "is no description of a checkpoint: expected a block of keys"
    missing = [key for key in NEEDED if key not in described]
    if missing:
        return f"is no description of a checkpoint: {missing[0]} is missing"
    for key, (is_right, expected) in SAID.items():
        if key in described and not is_right(described[key]):
            return f"{key}: expected {expected}; got {_shown(described[key])}"
    if described.get("format", FORMAT) > FORMAT:
        return f"is of format {described['format']}, which a newer detkit has written: update it"
    return None


def _shown(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
