"""Folders that are made, and files that appear whole under their final name or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from detkit.errors import DetkitError


def make_folder(folder: Path) -> None:
    """Make ``folder`` and those above it, where they are not there yet.

    Raises:
        DetkitError: it cannot be made, with the reason.
    """
    if folder.is_file():
        raise DetkitError(f"{folder}: is a file, but a folder is needed. Name another with --out.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise DetkitError(
            f"{folder}: this folder cannot be made ({problem.strerror}). Name another with --out."
        ) from problem


def write_atomically(path: Path, text: str) -> None:
    """Write a text file whole or not at all: a reader never sees half of it.

    The folder is made when missing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)  # there only when writing failed
