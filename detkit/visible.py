"""Text from files as people are shown it: nothing in it moves a cursor or turns a line round.

Names of classes, files and folders are data, whoever wrote them. A control code in one could clear
the lines above it, a line break could pretend to be another message, and a direction mark turns
``exe.jpg`` into ``gpj.exe``. All of them are written as Python writes them in quotes: ``\\x1b``,
``\\n``, ``\\u202e``. Joiners within words (U+200C, U+200D), which Persian, Hindi and emoji need,
stay.
"""

from __future__ import annotations

LONGEST = 60  # characters of a name, where the whole would not fit

_LINES = (0x09, 0x0A)  # tab, line feed
_UNSEEN = (
    *range(0x20),
    *range(0x7F, 0xA0),  # delete, and the controls of eight bits
    0xAD,  # a hyphen that is not shown
    0x61C,  # direction marks
    *(0x200B, 0x200E, 0x200F),
    *range(0x2028, 0x202F),  # separators of lines, embeddings of a direction
    *range(0x2060, 0x2070),
    0xFEFF,
    *range(0xFFF9, 0xFFFC),
    *range(0xE0000, 0xE0080),  # tags
    *range(0xD800, 0xE000),  # halves of characters, as names that are no UTF-8 come
)


def _escaped(code: int) -> str:
    return chr(code).encode("unicode_escape", "surrogatepass").decode("ascii")


_ONE_LINE = {code: _escaped(code) for code in _UNSEEN}
_SEVERAL_LINES = {code: seen for code, seen in _ONE_LINE.items() if code not in _LINES}
_TERMINAL = {code: seen for code, seen in _SEVERAL_LINES.items() if code not in (0x0D, 0x1B)}


def visible(text: str, most: int | None = None) -> str:
    """A text on one line, all of it visible.

    Args:
        text: anything.
        most: characters; of a longer text the beginning is shown, and that there is more.
    """
    if most is not None and len(text) > most:
        text = f"{text[: most - 3]}..."
    return text if text.isprintable() else text.translate(_ONE_LINE)


def visible_name(name: str) -> str:
    """A class or a file, in a line or a cell: at most so long as fits one."""
    return visible(name, LONGEST)


def visible_lines(text: str, *, terminal: bool = False) -> str:
    """The same of several lines, in which line feeds and tabs stay.

    Args:
        text: anything.
        terminal: colours and moves of the cursor stay as well, as progress bars write them.
    """
    return text.translate(_TERMINAL if terminal else _SEVERAL_LINES)
