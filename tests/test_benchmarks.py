"""The benchmarks take minutes, so nobody runs them on every change; that they still start is seen
here: each finds all that it imports from the package."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

BENCHMARKS = sorted((Path(__file__).parents[1] / "benchmarks").glob("*.py"))


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.stem)
def test_a_benchmark_finds_what_it_imports(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(path.parent)  # as "python benchmarks/..." has it
    assert callable(runpy.run_path(str(path), run_name="imported")["main"])
