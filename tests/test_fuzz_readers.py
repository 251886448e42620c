"""The fuzz of all readers: its damage mostly passes, and no way to fail goes unseen."""

from __future__ import annotations

import mmap
import os
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from detkit.errors import DataError
from tests import fuzz_readers
from tests.fuzz_readers import Target, Worker, damaged, make_targets

LARGE = 1 << 20  # bytes, of which changing some takes a while


def test_at_least_half_of_the_damaged_files_pass_for_what_they_are(tmp_path: Path) -> None:
    passed, tried = Counter[str](), Counter[str]()
    for target in make_targets(tmp_path):
        for seed in range(30 if len(target.sound) < LARGE else 4):
            passed[target.kind] += target.passes(damaged(target, seed))
            tried[target.kind] += 1
    assert [kind for kind in tried if passed[kind] < tried[kind] / 2] == []


def test_a_seed_makes_the_same_file_again(tmp_path: Path) -> None:
    target = stand_in(tmp_path, lambda: None)
    assert damaged(target, 7) == damaged(target, 7)
    assert len({damaged(target, seed) for seed in range(20)}) > 10


def stand_in(folder: Path, read: Callable[[], object]) -> Target:
    path = folder / "file.json"
    path.write_text('{"a": [1, 2, 3], "b": {"c": "text"}}')
    return Target("stand-in", path, read, path, "json", fuzz_readers.is_json)


def refuse(sentence: str) -> Callable[[], object]:
    def read() -> object:
        raise DataError(sentence)

    return read


def fail() -> object:
    raise KeyError("a")


def grow() -> object:
    """Take pages that no allocator has kept from before."""
    held = mmap.mmap(-1, 64 << 20)
    for start in range(0, len(held), mmap.PAGESIZE):
        held[start] = 1
    return held


@pytest.mark.parametrize(
    ("read", "said"),
    [
        (lambda: None, "read"),
        (refuse("PATH: is no file of ours. Repair it."), "refused"),
        (refuse("Something is wrong."), "fault: names no file"),
        (refuse("PATH: \x1b[31m."), "fault: controls a terminal"),
        (refuse(f"PATH: {'x' * 5000}."), "fault: a page, not a sentence"),
        (fail, "fault: KeyError"),
        (lambda: os._exit(3), "fault: ended with 3"),
        (lambda: time.sleep(60), "fault: over 0.3 s"),
        (grow, "fault: 64 MiB"),
    ],
    ids=["read", "refused", "nameless", "control", "page", "raises", "ends", "hangs", "grows"],
)
def test_what_becomes_of_a_file_is_told_and_the_next_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Callable[[], object], said: str
) -> None:
    monkeypatch.setattr(fuzz_readers, "MEMORY", 16 << 20)
    seen = tmp_path / "seen"

    def once() -> object:
        """The reader's way the first time, whatever process it is; then all is well."""
        if seen.exists():
            return None
        seen.touch()
        try:
            return read()
        except DataError as problem:
            raise DataError(str(problem).replace("PATH", str(tmp_path / "file.json"))) from None

    target = stand_in(tmp_path, once)
    worker = Worker(target)
    try:
        assert worker.ask(0, seconds=0.3)[0].startswith(said)
        assert worker.ask(1)[0] == "read"
    finally:
        worker.end()
    assert target.path.read_bytes() == target.sound
