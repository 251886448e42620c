"""Deterministic mode: torch's own switches, and the names of the operations they cannot fix."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch

# torch has no other way to learn of such an operation than the text of its warning
NO_FORM = re.compile(r"(\S+)(?:\(\))? does not have a deterministic implementation")
WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"  # cuBLAS reads it when it starts
FIXED_WORKSPACE = ":4096:8"  # one of the two values that torch asks for


@contextmanager
def deterministic(wanted: bool) -> Iterator[set[str]]:
    """Compute the same bits in every run, as far as torch can; nothing is done when not ``wanted``.

    Operations without a deterministic form run as usual. Everything is restored afterwards.

    Returns:
        A set that fills with the names of such operations as they are met.
    """
    met: set[str] = set()
    if not wanted:
        yield met
        return
    flags = torch.backends.cudnn
    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        flags.deterministic,
        flags.benchmark,
        os.environ.get(WORKSPACE),
    )
    os.environ.setdefault(WORKSPACE, FIXED_WORKSPACE)
    torch.use_deterministic_algorithms(True, warn_only=True)
    flags.deterministic, flags.benchmark = True, False
    try:
        with _collecting(met):
            yield met
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        flags.deterministic, flags.benchmark = before[2], before[3]
        if before[4] is None:
            del os.environ[WORKSPACE]


@contextmanager
def _collecting(met: set[str]) -> Iterator[None]:
    """Take the warnings of operations without a deterministic form; show all others as before."""
    with warnings.catch_warnings():
        warnings.filterwarnings("default", message=f".*{NO_FORM.pattern}")  # once for each place
        show = warnings.showwarning

        def collect(message, category, filename, lineno, file=None, line=None):  # type: ignore[no-untyped-def]
            found = NO_FORM.search(str(message))
            if found is None:
                show(message, category, filename, lineno, file, line)
            else:
                met.add(found[1])

        warnings.showwarning = collect
        yield


def determinism_line(met: set[str]) -> str:
    """What deterministic mode could not fix, in one line."""
    if not met:
        return "deterministic: every operation so far has a deterministic form"
    return (
        f"deterministic: torch has no deterministic form of {', '.join(sorted(met))}; "
        "two runs may differ by what these compute"
    )
