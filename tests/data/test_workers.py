"""Loader processes that die: what is said, and when."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset, _utils

from detkit.data.workers import LoaderError, WorkerWatch, batches_of, died_of

ADVICE = "Try data.workers=0 (now 1)."
KILLED = (
    "A loader process was ended by SIGKILL, as the system does with a process where memory runs "
    f"out. {ADVICE}"
)


class Numbers(Dataset[int]):
    """``0, 1, 2, ...``; the process that is asked for ``deadly`` does what ``how`` says."""

    def __init__(self, length: int, deadly: int = -1, how: str = "") -> None:
        self.length, self.deadly, self.how = length, deadly, how

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> int:
        if index == self.deadly:
            if self.how == "exit":
                os._exit(3)
            if self.how == "bug":
                raise RuntimeError("size of tensor a must match")
            os.kill(os.getpid(), getattr(signal, self.how))
            time.sleep(60)
        return index


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch looks every five seconds whether its processes live."""
    monkeypatch.setattr(_utils, "MP_STATUS_CHECK_INTERVAL", 0.2)


def numbers(dataset: Numbers, workers: int = 1) -> Iterator[Any]:
    own = torch.Generator()
    loader: DataLoader[int] = DataLoader(dataset, batch_size=2, num_workers=workers, generator=own)
    return batches_of(loader, ADVICE)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("SIGKILL", KILLED),
        ("exit", f"A loader process ended with exit code 3. {ADVICE}"),
    ],
)
def test_a_process_that_dies_is_one_sentence(how: str, said: str) -> None:
    batches, found = numbers(Numbers(8, deadly=5, how=how)), []
    with pytest.raises(LoaderError) as caught:
        found.extend(batch.tolist() for batch in batches)
    assert str(caught.value) == said
    assert found in ([[0, 1], [2, 3]], [[0, 1]], [])  # what was ready before
    subprocess.run(["true"], check=True)  # torch's handler, which is back, knows of no death


def test_a_death_within_a_step_waits_for_its_end() -> None:
    """torch would raise it in the middle of whatever is computed."""
    before = multiprocessing.active_children()
    batches = numbers(Numbers(10**6))
    next(batches)
    (worker,) = (each for each in multiprocessing.active_children() if each not in before)
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGKILL)
    worker.join(timeout=30)
    for _ in range(1000):  # the step
        time.sleep(0)
    with pytest.raises(LoaderError) as caught:
        next(batches)
    assert str(caught.value) == KILLED


def test_a_loader_within_another_tells_of_its_own_processes() -> None:
    outer = numbers(Numbers(10**6))
    next(outer)
    inner = numbers(Numbers(4, deadly=3, how="SIGKILL"))
    with pytest.raises(LoaderError):
        list(inner)
    assert next(outer).tolist() == [2, 3]  # its own process lives
    outer.close()


def test_all_is_as_before_when_a_loader_is_done() -> None:
    handler = signal.getsignal(signal.SIGCHLD)
    assert sum(len(batch) for batch in numbers(Numbers(6))) == 6
    assert not isinstance(getattr(signal.getsignal(signal.SIGCHLD), "__self__", None), WorkerWatch)
    assert sum(len(batch) for batch in numbers(Numbers(6), workers=0)) == 6
    signal.signal(signal.SIGCHLD, handler)


def test_an_error_in_the_data_is_no_death() -> None:
    batches = numbers(Numbers(4, deadly=1, how="bug"))
    with pytest.raises(RuntimeError, match="size of tensor a must match"):
        next(batches)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (
            -signal.SIGBUS,
            "A loader process was ended by SIGBUS, as where the shared memory is full that images "
            "come through (/dev/shm; a container has 64 MB of it unless it is started with, say, "
            "--shm-size=8g).",
        ),
        (
            -signal.SIGSEGV,
            "A loader process was ended by SIGSEGV, as where a library crashes over an image.",
        ),
        (
            -signal.SIGTERM,
            "A loader process was ended by SIGTERM, which somebody or the system sent to it.",
        ),
        (-signal.SIGFPE, "A loader process was ended by SIGFPE."),
        (-40, "A loader process was ended by signal 40."),
        (0, "A loader process ended with exit code 0."),
        (1, "A loader process ended with exit code 1."),
    ],
)
def test_what_an_exit_code_tells(code: int, said: str) -> None:
    assert died_of(code) == said
