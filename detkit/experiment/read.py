"""Read a config file and overrides into a typed experiment."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeGuard

from detkit.arguments import check_choice, check_path
from detkit.config import Origins, check_keys, find_config, parse, read_config
from detkit.data.auto import resolve
from detkit.data.formats.base import is_auto
from detkit.errors import ConfigError
from detkit.experiment.config import OLD_KEYS, ExperimentConfig, names_of_now
from detkit.experiment.entries import RECOGNISED, replace_entries, split_overrides
from detkit.recipes import called


def read_experiment(
    config: str | Path, overrides: Sequence[str] = (), use: Literal["train", "eval"] = "train"
) -> tuple[ExperimentConfig, Origins]:
    """Read a config file and overrides into a typed experiment.

    Args:
        config: a config file, or a recipe's name.
        overrides: ``key=value`` texts.
        use: which entries ``data.format``, ``data.root`` and ``data.split`` replace. In training,
            format and root (and VOC's folders ``data.annotations`` and ``data.images``) replace
            those of every entry and split that of the training entries;
            in evaluation only the ``eval`` entries change.

    Raises:
        ConfigError: anything in the file or the overrides that cannot be, with its place.
    """
    check_path(config, "read_experiment: config")
    check_choice(use, "read_experiment: use", ("train", "eval"))
    path = find_config(config)
    entry_overrides, rest = split_overrides(overrides)
    settings, origins = read_config(path, rest)
    _rename_old_keys(settings, origins, called(path))
    if entry_overrides:
        data = settings.setdefault("data", {})
        if _has_entries(data):
            data.update(replace_entries(data, entry_overrides, use))
            origins |= {f"data.{name}": "command line" for name in ("train", "eval")}
    if use == "train" and entry_overrides.get("format") == "auto":
        _forget_classes(settings, origins)
    _replace_auto_length(settings, origins, called(path))
    try:
        check_keys(ExperimentConfig, settings)  # before a folder is looked at that they do not mean
    except ConfigError as problem:
        raise ConfigError(f"{called(path)}: {problem}") from None
    _resolve_auto(settings, origins, use)
    try:
        return parse(ExperimentConfig, settings), origins
    except ConfigError as problem:
        raise ConfigError(f"{called(path)}: {problem}") from None


def _rename_old_keys(settings: dict[str, Any], origins: Origins, file: str) -> None:
    """Let old keys stand for their present ones; where both are stated neither is guessed."""
    train = settings.get("train")
    if not isinstance(train, dict):
        return
    for key, name in OLD_KEYS.items():
        if key in train and name in train:
            raise ConfigError(f"{file}: train.{key}: is train.{name} by its old name. Drop one.")
        if key in train:
            origins[f"train.{name}"] = origins.pop(f"train.{key}", file)
    settings["train"] = names_of_now(train)


def _replace_auto_length(settings: dict[str, Any], origins: Origins, file: str) -> None:
    """Let ``iterations`` replace ``epochs: auto`` of a lower layer, and ``auto`` an older number.

    Two numbers are left to be refused: which of them was meant is not to be known.
    """
    train = settings.get("train")
    if not isinstance(train, dict) or train.get("epochs") != "auto":
        return
    if train.get("iterations") is None:
        return
    layers = [
        {"command line": 2, file: 1}.get(origins.get(f"train.{key}", ""), 0)
        for key in ("iterations", "epochs")
    ]
    if layers[0] != layers[1]:
        older = "epochs" if layers[0] > layers[1] else "iterations"
        train[older] = None
        origins[f"train.{older}"] = "command line" if max(layers) == 2 else file


def _forget_classes(settings: dict[str, Any], origins: Origins) -> None:
    """Let a folder that is to be recognised say what its classes are, not the config file."""
    for block, key in (("data", "classes"), ("model", "num_classes")):
        if origins.get(f"{block}.{key}", "command line") != "command line":
            del settings[block][key], origins[f"{block}.{key}"]


def _resolve_auto(
    settings: dict[str, Any], origins: Origins, use: Literal["train", "eval"]
) -> None:
    """Put explicit entries in the place of those of format auto; origins tell what was found."""
    data = settings.get("data")
    if not _has_entries(data):
        return
    for name in ("train", "eval"):
        if isinstance(data.get(name), dict):
            data[name] = [data[name]]
    entries = [*(data.get("train") or []), *(data.get("eval") or [])]
    if not any(is_auto(entry) for entry in entries):
        return
    resolved, lines = resolve(data, use)
    data.update(resolved)
    if lines:
        for name in ("train", "eval"):
            origins[f"data.{name}"] = f"{RECOGNISED}{'; '.join(lines)}"


def _has_entries(data: Any) -> TypeGuard[dict[str, Any]]:
    """Whether a data block has the form of one; what has another is refused when it is parsed."""
    if not isinstance(data, dict):
        return False
    lists = [data.get(name) or [] for name in ("train", "eval")]
    lists = [[each] if isinstance(each, dict) else each for each in lists]
    return all(isinstance(each, list) and all(isinstance(e, dict) for e in each) for each in lists)
