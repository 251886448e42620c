"""One decorator for the functions that numba compiles, and the line that says so.

The compiled code is kept on disk beside the source, or in numba's own cache folder where that
cannot be written. numba looks for changes only in the file of the function that is called, so a
compiled function calls only what stands in its own file.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
from numba.core import event

logger = logging.getLogger(__name__)

PACKAGE = __name__.rpartition(".")[0]
F = TypeVar("F", bound=Callable[..., Any])


class Announcer(event.Listener):  # type: ignore[misc]  # numba has no types
    """Says one line before this package is really compiled; code from the cache is no reason."""

    def __init__(self) -> None:
        self.said = False
        self.kept = True  # whether compiled code has a place on disk

    def on_start(self, event: Any) -> None:
        """A function that is in no cache begins to be compiled."""
        function = event.data["dispatcher"].py_func
        if self.said or not function.__module__.startswith(PACKAGE):
            return
        self.said = True
        ending = (
            "once."
            if self.kept
            else "at every start: no cache folder can be written. Name one with NUMBA_CACHE_DIR."
        )
        logger.warning(
            "Selective search: compiling for this machine; this takes half a minute, %s", ending
        )

    def on_end(self, event: Any) -> None:
        """Nothing to say."""


announcer = Announcer()
event.register("numba:compile", announcer)


def compiled(function: F) -> F:
    """Compile ``function`` at its first call; it runs without Python's lock.

    No ``fastmath``: sums keep the order they are written in, so that results do not depend on
    how a processor groups them.
    """
    try:
        return cast(F, numba.njit(cache=True, nogil=True)(function))
    except RuntimeError:  # numba's word for: no folder to keep the compiled code in
        announcer.kept = False
        return cast(F, numba.njit(nogil=True)(function))
