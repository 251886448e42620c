"""How ``detkit detect`` names what it writes, so that nothing takes the place of anything."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from detkit.errors import ConfigError

if TYPE_CHECKING:
    from detkit.sources import Source


class Stems:
    """Names for output files; images of one name in two folders keep apart."""

    def __init__(self) -> None:
        self._given: set[str] = set()
        self._next: dict[str, int] = {}

    def give(self, wanted: str) -> str:
        """``wanted``, or ``wanted_2`` and so on; case apart, as some disks do not tell it."""
        key = wanted.casefold()
        stem, number = wanted, self._next.get(key, 2)
        while stem.casefold() in self._given:
            stem, number = f"{wanted}_{number}", number + 1
        self._given.add(stem.casefold())
        self._next[key] = number
        return stem


def free_folder(wanted: str) -> Path:
    """A folder that is not there yet: ``wanted``, or ``wanted_2`` and so on."""
    names = itertools.chain([wanted], (f"{wanted}_{number}" for number in itertools.count(2)))
    return next(Path(name) for name in names if not os.path.lexists(name))


def refuse_overwriting(named: Mapping[Source, str], out: Path) -> None:
    """Stop before a drawn picture takes the place of a photo, or a video that of a video.

    Args:
        named: the stem of each source's output files.
        out: their folder.

    Raises:
        ConfigError: naming the photo or video.
    """
    from detkit.sources import originals

    files = originals(named)
    for source, stem in named.items():
        drawn = out / f"{stem}{'.mp4' if source.is_video else '.jpg'}"
        if drawn.resolve() in files:
            kind = "videos" if source.is_video else "images"
            raise ConfigError(
                f"{drawn}: is one of the {kind}; drawing would replace it. Name another --out."
            )
