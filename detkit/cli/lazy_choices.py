"""Choices of an option that the library knows: asked for only when a value is there to look at."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator


class LazyChoices:
    """Names for ``argparse`` that are looked up with the first value, not for ``--help``.

    To look them up imports what is heavy; and with a ``metavar`` help does not list them.
    """

    def __init__(self, names: Callable[[], Iterable[str]]) -> None:
        self._ask = names
        self._names: tuple[str, ...] = ()

    def __contains__(self, name: object) -> bool:
        self._names = self._names or tuple(self._ask())
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)  # argparse walks through them for help, too
