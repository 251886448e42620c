"""Where the keys ``annotations`` and ``images`` of an entry point: a path below its root."""

from __future__ import annotations

import os
from pathlib import Path

from detkit.files import is_plain, leaves_folder

SPLIT = "{split}"  # in a path, for the split's name
COUNTED = "Its path counts from data.root."


def below_root(root: Path, value: str) -> str:
    """A place that a person named, as a path below ``root``.

    Paths count from ``root``. One that is absolute, or that counts from the working directory, is
    understood where nothing of that name lies below root, and where it leads inside it, links
    followed.

    Args:
        root: the folder of the dataset.
        value: what was named; ``{split}`` in it may stand for a split.

    Returns:
        The path below root with ``/`` between its parts; ``value`` itself where it is none.
    """
    head, mark, tail = value.partition(SPLIT)
    if not value or not is_plain(value) or leaves_folder(f"x{mark}{tail}"):
        return value
    if mark:  # what stands before it in its own part of the path goes with it
        head, _, begun = head.replace("\\", "/").rpartition("/")
        tail = f"{begun}{mark}{tail}"
    if not head and not os.path.isabs(value):
        return value
    if not leaves_folder(value) and os.path.exists(root / head):
        return value
    place, top = Path(os.path.realpath(head or "/")), Path(os.path.realpath(root))
    if not place.exists() or not place.is_relative_to(top):
        return value
    inner = place.relative_to(top).as_posix()
    return f"{'' if inner == '.' and tail else inner + '/' * bool(tail)}{tail}"
