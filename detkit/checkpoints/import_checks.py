"""What every import of weights does: a folder that is new, class names, a checkpoint in it."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from detkit.checkpoints.checkpoint import WRITE_PROBLEMS, Content, write_checkpoint
from detkit.class_names import COCO_UNUSED, names_in_words
from detkit.detectors import Detector
from detkit.errors import ConfigError, DetkitError, shown
from detkit.files import is_plain
from detkit.system_errors import NO_SPACE

LARGEST_NAMES_FILE = 1_000_000  # bytes; a list of 9418 names has 200 thousand


def check_new(folder: Path) -> None:
    """Refuse a folder in which something lies.

    Raises:
        ConfigError: it exists and is not empty.
    """
    if os.path.lexists(folder) and not (folder.is_dir() and not any(folder.iterdir())):
        raise ConfigError(
            f"{folder}: exists already, and nothing is overwritten. Name a new folder with --out."
        )


def read_names(path: Path) -> tuple[str, ...]:
    """Read a list of class names, one a line, as darknet has them.

    Only the name for what is no class, ``N/A`` in COCO's, may stand there more than once.

    Raises:
        ConfigError: no such file, not a list of names, an empty line among them, a name twice.
    """
    try:
        if path.stat().st_size > LARGEST_NAMES_FILE:
            raise ConfigError(f"{path}: too large for a list of class names, one a line.")
        lines = path.read_text(encoding="utf-8-sig").rstrip().splitlines()
    except OSError as problem:
        raise ConfigError(f"{path}: cannot be read ({problem.strerror}).") from problem
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not a list of class names in UTF-8, one a line.") from None
    names: list[str] = []
    for number, line in enumerate(lines, start=1):
        name = line.strip()
        if not name or not is_plain(name):
            raise ConfigError(f"{path}: line {number} is no class name; expected one a line.")
        if name in names and name != COCO_UNUSED:
            raise ConfigError(
                f"{path}: line {number}: {shown(name)} stands in line "
                f"{names.index(name) + 1} already."
            )
        names.append(name)
    if not names:
        raise ConfigError(f"{path}: is empty; expected class names, one a line.")
    return tuple(names)


def check_one_source(given: tuple[str, ...], classes: tuple[str, ...]) -> None:
    """Refuse class names from a file and from the config at once.

    Raises:
        ConfigError: both are there, and they differ.
    """
    if given and classes != given:
        raise ConfigError(
            f"--names has {names_in_words(given)}; data.classes has {names_in_words(classes)}. "
            "Give one of them."
        )


def write_imported(folder: Path, content: Content) -> None:
    """Write the checkpoint of an import, whole or not at all.

    Raises:
        DetkitError: the folder cannot be written.
    """
    try:
        write_checkpoint(folder.absolute(), content, replace=False)
    except WRITE_PROBLEMS as problem:
        full = getattr(problem, "errno", None) in NO_SPACE
        raise DetkitError(
            f"{folder}: cannot be written ({getattr(problem, 'strerror', None) or problem}). "
            f"Nothing was left behind; {'free some space, or ' if full else ''}name another --out."
        ) from problem


def strange_numbers(detector: Detector) -> list[str]:
    """Say so when no network can have been trained to such weights."""
    for name, tensor in detector.state_dict().items():
        if not tensor.is_floating_point():
            continue
        if not bool(torch.isfinite(tensor).all()):
            return [f"{name} is not finite everywhere, so nothing useful will be detected."]
        if name.endswith("running_var") and bool((tensor < 0).any()):
            return [
                f"{name} holds variances below 0, so the file is of another network of the same "
                "size, or damaged."
            ]
    return []
