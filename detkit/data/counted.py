"""A count of what a reader found, with the first of it, so that a person knows where to look."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


class Counted(int):
    """How many, and where the first is: a file, a line, an entry."""

    first: str  # empty: not known

    def __new__(cls, count: int, first: str = "") -> Counted:
        """A count; of none there is no first."""
        counted = super().__new__(cls, count)
        counted.first = first if count else ""
        return counted

    @classmethod
    def of(cls, found: Iterable[str | Path], below: Path | None = None) -> Counted:
        """The count of what ``found`` yields, whose first may be a name below a folder."""
        first, count = "", 0
        for count, name in enumerate(found, 1):  # noqa: B007 (the last is the count)
            first = first or str(name if below is None else below / name)
        return cls(count, first)
