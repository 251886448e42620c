"""Fonts that have the letters of a class's name: names are of any language, fonts are not.

Pillow's own font writes English. The DejaVu Sans that comes with matplotlib adds the other Latin
alphabets, Greek, Cyrillic, Hebrew and Arabic; for the rest the fonts of the machine are looked
through. A name that none of them can write is shown by its number, so that no two look alike.
"""

from __future__ import annotations

import logging
import os
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from detkit.visible import visible, visible_name

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

OWN = ""  # in the place of a path: Pillow's own font
LIKELY = (  # families that have many scripts, looked at first
    *("Noto Sans CJK", "Source Han Sans", "WenQuanYi", "PingFang", "Hiragino Sans", "Yu Gothic"),
    *("Microsoft YaHei", "SimHei", "Malgun Gothic", "Arial Unicode", "Nirmala", "Noto Sans"),
)
UNFIT = ("Emoji", "Last Resort", "LastResort")  # coloured pictures of one size; frames for all

_log = logging.getLogger(__name__)


def readable(names: Sequence[str]) -> tuple[str, ...]:
    """Class names as pictures show them: ``#3`` for a name that no font here can write.

    The log says once which these are.

    Args:
        names: ``names[label]``.
    """
    return _readable(tuple(names))


@lru_cache(maxsize=16)
def _readable(given: tuple[str, ...]) -> tuple[str, ...]:
    names = tuple(map(visible_name, given))
    shown = tuple(
        name if find_font(name) is not None else f"#{label}" for label, name in enumerate(names)
    )
    lost = [f"#{label} {name}" for label, name in enumerate(names) if shown[label] != name]
    if lost:
        _log.warning(
            f"no font on this machine has the letters of these class names, so pictures show "
            f"their numbers: {', '.join(lost)}. Install one that has them, such as Noto Sans CJK."
        )
    return shown


def plain_label(text: str) -> str:
    """A text for matplotlib, which would take what stands between dollars for mathematics."""
    return visible(text).replace("$", r"\$")


def fonts_for(texts: Sequence[str], size: float) -> list[FreeTypeFont]:
    """The font to write each text with; Pillow's own where none has all of its letters.

    Args:
        texts: what is to be written.
        size: of the letters, in pixels.
    """
    paths = [find_font(text) or OWN for text in texts]
    opened = {path: _open(path, size) for path in dict.fromkeys(paths)}
    return [opened[path] for path in paths]


def _open(path: str, size: float) -> FreeTypeFont:
    from PIL import ImageFont

    font = ImageFont.truetype(path, size) if path else ImageFont.load_default(size=size)
    assert isinstance(font, ImageFont.FreeTypeFont)  # what Pillow has inside when a size is named
    return font


def families(texts: Sequence[str]) -> list[str]:
    """Names of the font families that matplotlib needs to write ``texts``, the usual one first."""
    from matplotlib import rcParams
    from matplotlib.font_manager import fontManager, get_font

    more = [path for path in map(find_font, texts) if path]
    for path in more:
        if path not in {entry.fname for entry in fontManager.ttflist}:
            fontManager.addfont(path)
    return list(
        dict.fromkeys([*rcParams["font.family"], *(get_font(path).family_name for path in more)])
    )


def find_font(text: str) -> str | None:
    """The file of the first font that has all letters of ``text``; None where none has them.

    Returns:
        A path, or ``OWN`` for Pillow's.
    """
    letters = frozenset(
        sign
        for sign in unicodedata.normalize("NFC", text)
        if sign.isprintable() and not sign.isspace() and unicodedata.category(sign) != "Mn"
    )
    return OWN if all(map(str.isascii, letters)) else _with_letters(letters)


@lru_cache(maxsize=256)
def _with_letters(letters: frozenset[str]) -> str | None:
    return next((path for path in _candidates() if letters <= _letters_of(path, letters)), None)


def _candidates() -> Iterator[str]:
    """Pillow's font, the one that comes with matplotlib, then the machine's, likely ones first."""
    from matplotlib import font_manager, get_data_path

    yield OWN
    yield os.path.join(get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
    entries = [
        each
        for each in font_manager.fontManager.ttflist
        if not any(word in each.name for word in UNFIT)
    ]
    rank = {name: place for place, name in enumerate(LIKELY)}
    entries.sort(
        key=lambda each: (
            min((place for name, place in rank.items() if name in each.name), default=len(rank)),
            each.style != "normal",
            each.weight != 400,
            each.fname,
        )
    )
    yield from dict.fromkeys(each.fname for each in entries)


def _letters_of(path: str, letters: frozenset[str]) -> frozenset[str]:
    """Those of ``letters`` that a font has."""
    from io import BytesIO

    from matplotlib.ft2font import FT2Font
    from PIL import ImageFont

    try:
        font = FT2Font(path or BytesIO(ImageFont.load_default(size=10).font_bytes))  # type: ignore[union-attr]
    except (OSError, RuntimeError):  # gone since matplotlib listed it, or damaged
        return frozenset()
    return frozenset(sign for sign in letters if font.get_char_index(ord(sign)))
