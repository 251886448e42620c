"""The one kind of registry: a dictionary with one writer per name and a helpful reader."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Generic, TypeVar

from detkit.errors import UnknownNameError, did_you_mean, shown_value

T = TypeVar("T")


class Registry(Generic[T]):
    """A dictionary with one writer per name and a helpful reader."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Return a decorator that files its argument under ``name``.

        Raises:
            ValueError: if ``name`` is taken.
        """

        def add(entry: T) -> T:
            if name in self._entries:
                raise ValueError(f"{self.kind} {name!r} is registered twice")
            self._entries[name] = entry
            return entry

        return add

    def __getitem__(self, name: str) -> T:
        if not isinstance(name, str) or name not in self._entries:  # a file's may be a list
            near = did_you_mean(str(name), self)
            raise UnknownNameError(f"no {self.kind} named {shown_value(name)}.{near}")
        return self._entries[name]

    def entries(self) -> Mapping[str, T]:
        """All of them by name, in the order in which they were registered."""
        return MappingProxyType(self._entries)

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._entries))
