"""Arguments of public functions that Python would take in silence and mean something else by.

A slice with -1 drops the last row, a word that is compared with another chooses the default, and a
text is walked through letter by letter. Each check raises the sentence of the command line.
"""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from detkit.errors import ConfigError, did_you_mean


def check_whole(value: object, where: str, least: int) -> None:
    """Refuse what is no whole number of ``least`` or more; numpy's are taken.

    Args:
        value: the argument.
        where: its name, with its function's: ``detect: max_detections``.
        least: the smallest that means something.

    Raises:
        ConfigError: it is none.
    """
    is_whole = hasattr(value, "__index__") and not isinstance(value, bool)
    if not is_whole or int(value) < least:  # type: ignore[call-overload]
        raise ConfigError(f"{where}={value!r}: expected a whole number, {least} or more.")


def check_threshold(value: object, where: str) -> None:
    """Refuse what is no number from 0 to 1, such as 50 for one half.

    Raises:
        ConfigError: it is none.
    """
    try:
        number = math.nan if isinstance(value, str | bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = math.nan
    if not 0 <= number <= 1:
        raise ConfigError(f"{where}={value!r}: expected a number from 0 to 1.")


def check_choice(value: object, where: str, choices: Sequence[str]) -> None:
    """Refuse what is none of the words ``choices``.

    Raises:
        ConfigError: it is none.
    """
    if value not in choices:
        near = did_you_mean(value, choices) if isinstance(value, str) else ""
        known = " or ".join(map(repr, choices))
        raise ConfigError(f"{where}={value!r}: expected {known}.{near if 'Did' in near else ''}")


def check_flag(value: object, where: str) -> None:
    """Refuse what is neither True nor False: the text "no" is true.

    Raises:
        ConfigError: it is neither.
    """
    if not isinstance(value, bool):
        raise ConfigError(f"{where}={value!r}: expected True or False.")


def check_path(value: object, where: str) -> None:
    """Refuse what is no path: a number would be taken for an open file.

    Raises:
        ConfigError: it is none.
    """
    if not isinstance(value, str | os.PathLike):
        raise ConfigError(f"{where}={value!r}: expected a path, a text or a pathlib.Path.")


def is_no_path(path: Path) -> bool:
    """Whether the system has no file of such a name: it is too long, or holds a zero byte."""
    try:
        os.lstat(path)
    except ValueError:
        return True
    except OSError as problem:
        return problem.errno == errno.ENAMETOOLONG
    return False


def check_names(value: object, where: str) -> None:
    """Refuse one text, or a number, where a list of class names is meant.

    Raises:
        ConfigError: it is no list or tuple of texts.
    """
    is_list = isinstance(value, Sequence) and not isinstance(value, str | bytes)
    if not is_list or not all(isinstance(name, str) for name in value):  # type: ignore[attr-defined]
        raise ConfigError(f"{where}={value!r}: expected a list of class names, such as ['cat'].")


def check_size(value: object, where: str) -> None:
    """Refuse what is no (height, width) in whole pixels.

    Raises:
        ConfigError: it is none.
    """
    sides = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else []
    sound = [hasattr(side, "__index__") and not isinstance(side, bool) for side in sides]
    if len(sides) != 2 or not all(sound) or min(map(int, sides)) < 1:
        raise ConfigError(f"{where}={value!r}: expected (height, width) in whole pixels.")


def check_settings(value: object, where: str, example: str) -> None:
    """Refuse what is no mapping of settings, such as a path where an entry of a config is meant.

    Args:
        value: the argument.
        where: its name, with its function's.
        example: what it could be.

    Raises:
        ConfigError: it is none.
    """
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where}={value!r}: expected settings by name, such as {example}.")
