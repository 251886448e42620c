"""Errors that detkit raises on purpose, and the sentence that helps out of them.

Pattern of every message: where: what, with the value. What to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

SHOWN = 60  # characters of a foreign text that an error quotes
SHOWN_VALUE = 200  # and of a foreign value, such as a list


class DetkitError(Exception):
    """Base of every error detkit raises on purpose."""


class ConfigError(DetkitError, ValueError):
    """A config file or override that cannot mean anything."""


class UnknownNameError(DetkitError, LookupError):
    """A registry was asked for a name that nobody registered."""


class DataError(DetkitError, ValueError):
    """A dataset, an image or an annotation that cannot be used as it is."""


def did_you_mean(word: str, options: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?``, or the full list when nothing is near; nothing for none."""
    known = sorted(options)
    if not known:
        return ""
    return nearest(word, known) or f" Known: {', '.join(known)}."


def nearest(word: str, options: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?``, or nothing when nothing is near."""
    near = difflib.get_close_matches(word, sorted(options), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def shown(text: str) -> str:
    """``text`` from a file in quotes, on one line and cut short, as it may stand in a sentence."""
    return repr(text) if len(text) <= SHOWN else f"{text[:SHOWN]!r}..."


def shown_value(value: object) -> str:
    """Any value from a file, as Python writes it, on one line and cut short."""
    return cut_short(repr(value))


def cut_short(text: str) -> str:
    """A text that may be a page, as long as it may stand in a sentence."""
    return text if len(text) <= SHOWN_VALUE else f"{text[: SHOWN_VALUE - 3]}..."


def bare(text: str) -> str:
    """The same without quotes, as after an equals sign."""
    return repr(text[:SHOWN])[1:-1] + ("..." if len(text) > SHOWN else "")
