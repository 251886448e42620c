"""The authors' text of a network, a ``.cfg`` file, read into sections that know their lines.

Source: darknet, ``parser.c: read_cfg`` and ``option_list.c``: ``[kind]`` opens a section,
``key=value`` is an option, spaces count nowhere, a line that starts with ``#`` or ``;`` is a
comment, and of two options of one name in a section the first holds. Beyond darknet, a comment may
end a line.

The text comes from elsewhere: it is read up to a limit, nothing in it is run, and every number is
checked where it is asked for. What the sections mean is said in ``kinds.py``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from detkit.errors import ConfigError, bare, shown
from detkit.files import LOOK, is_html

LARGEST_TEXT = 2**20  # bytes; yolov3.cfg has 8,000
MOST_SECTIONS = 4096  # yolov3.cfg has 108
NETWORK = ("net", "network")  # both names of the section that comes first
NUMBER = re.compile(r"[+-]?(\d{1,20}(\.\d{0,20})?|\.\d{1,20})([eE][+-]?\d{1,3})?")
N = TypeVar("N", int, float)
WHOLE_NUMBER = re.compile(r"[+-]?\d{1,18}")


@dataclass(frozen=True, slots=True)
class Option:
    """One ``key=value``, as text."""

    value: str
    line: int


@dataclass(frozen=True, slots=True)
class Section:
    """One ``[kind]`` with its options. The methods check a value and name its line when it is bad.

    Each of them raises a ``ConfigError`` of the form ``FILE:LINE: what. What to do.``
    """

    kind: str  # without brackets, in small letters
    line: int
    path: Path
    options: Mapping[str, Option]

    def text(self, key: str, default: str) -> str:
        """An option as it stands."""
        return self.options[key].value if key in self.options else default

    def whole(self, key: str, default: int | None, *, low: int = 0, high: int = 2**16) -> int:
        """A whole number from ``low`` to ``high``; without a default it must be there."""
        if key not in self.options:
            return self._default(key, default, "a whole number")
        return self._whole(key, self.options[key].value, low, high)

    def wholes(self, key: str, *, low: int, high: int) -> tuple[int, ...]:
        """Whole numbers with commas between; there must be one at least."""
        if key not in self.options:
            raise self.wrong(f"{key} is missing", f"Write {key}=, and whole numbers with commas")
        parts = [part for part in self.options[key].value.split(",") if part]
        if not parts:
            raise self.wrong(f"{key} is empty", "Write whole numbers with commas", key)
        return tuple(self._whole(key, part, low, high) for part in parts)

    def number(self, key: str, default: float | None) -> float:
        """A number."""
        if key not in self.options:
            return self._default(key, default, "a number")
        return self._number(key, self.options[key].value)

    def numbers(self, key: str) -> tuple[float, ...]:
        """Numbers with commas between; an empty tuple where the option is missing or empty."""
        text = self.options[key].value if key in self.options else ""
        return tuple(self._number(key, part) for part in text.split(",") if part)

    def wrong(self, what: str, advice: str, key: str = "") -> ConfigError:
        """The error to raise, at the line of ``key``, or of the section where there is none."""
        line = self.options[key].line if key in self.options else self.line
        end = "" if advice.endswith("?") else "."
        return ConfigError(f"{self.path}:{line}: [{bare(self.kind)}]: {what}. {advice}{end}")

    def _default(self, key: str, default: N | None, kind: str) -> N:
        if default is None:
            raise self.wrong(f"{key} is missing", f"Write {key}= and {kind}")
        return default

    def _whole(self, key: str, text: str, low: int, high: int) -> int:
        if WHOLE_NUMBER.fullmatch(text) and low <= int(text) <= high:
            return int(text)
        raise self.wrong(
            f"{key} is {shown(text)}", f"Write a whole number from {low:,} to {high:,}", key
        )

    def _number(self, key: str, text: str) -> float:
        if NUMBER.fullmatch(text) and math.isfinite(float(text)):
            return float(text)
        raise self.wrong(f"{key}: {shown(text)} is no number", "Write one such as 0.5", key)


@dataclass(frozen=True, slots=True)
class Cfg:
    """A whole text: the network's own section, and one for each layer in order."""

    path: Path
    net: Section
    layers: tuple[Section, ...]


def read_cfg(path: str | Path) -> Cfg:
    """Read a ``.cfg`` file.

    Raises:
        ConfigError: no such file, no such text; one sentence with file and line.
    """
    path = Path(path)
    if not path.is_file():
        kind = "is a folder" if path.is_dir() else "no such file"
        raise ConfigError(f"{path}: {kind}. Name a .cfg file of darknet.")
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_TEXT + 1)
    except OSError as problem:
        raise ConfigError(
            f"{path}: cannot be read ({problem.strerror}). Check that you may read it."
        ) from problem
    if len(data) > LARGEST_TEXT:
        raise ConfigError(
            f"{path}: more than {LARGEST_TEXT:,} bytes are no .cfg file of darknet. "
            "Name the text of a network; its weights are another argument."
        )
    # Comments are in any language and encoding; what counts is ASCII.
    return parse_cfg(data.decode("utf-8-sig", errors="replace"), path)


def parse_cfg(text: str, path: Path) -> Cfg:
    """Read a text; ``path`` is what messages call it.

    Raises:
        ConfigError: as for :func:`read_cfg`.
    """
    if is_html(text[:LOOK].encode(errors="replace")):
        raise ConfigError(f"{path}: this is a web page, not a .cfg file. Download it again.")
    if "\0" in text:
        raise ConfigError(
            f"{path}: this is no text. Name a .cfg file of darknet; "
            "its weights are another argument."
        )
    sections: list[Section] = []
    options: dict[str, Option] = {}  # of the last section
    for number, raw in enumerate(re.split("\r\n|\r|\n", text), start=1):
        line = "".join(re.split("[#;]", raw, maxsplit=1)[0].split())
        if line.startswith("["):
            options = {}
            kind = _section_kind(line, number, path)
            sections.append(Section(kind, number, path, MappingProxyType(options)))
            if len(sections) > MOST_SECTIONS:
                raise ConfigError(
                    f"{path}:{number}: more than {MOST_SECTIONS:,} sections. "
                    "Is this the text of a network?"
                )
        elif line:
            key, equals, value = line.partition("=")
            if not (equals and key and sections):
                raise ConfigError(
                    f"{path}:{number}: {shown(raw.strip())} is neither a [section] nor a "
                    "key=value inside one. Name a .cfg file of darknet, or mend this line."
                )
            options.setdefault(key, Option(value, number))  # the first holds, as in darknet
    return _joined(sections, path)


def _section_kind(line: str, number: int, path: Path) -> str:
    kind = line.removeprefix("[").removesuffix("]")
    if not line.endswith("]") or not kind:
        raise ConfigError(
            f"{path}:{number}: {shown(line)} opens no section. Write it as [convolutional]."
        )
    return kind.lower()


def _joined(sections: list[Section], path: Path) -> Cfg:
    if not sections:
        raise ConfigError(f"{path}: holds no section. Name a .cfg file of darknet.")
    net, *layers = sections
    if net.kind not in NETWORK:
        raise ConfigError(
            f"{path}:{net.line}: the first section is [{bare(net.kind)}], but [net] must "
            "come first. Write one with width, height and channels."
        )
    if not layers:
        raise ConfigError(f"{path}: holds no layer after [{net.kind}]. Is it complete?")
    return Cfg(path, net, tuple(layers))
