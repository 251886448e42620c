"""Commands in processes of their own that need not import torch again.

What a training imports takes four seconds of a processor, and tests of ranks, kills and signals
start it some fifty times. Here each command is forked from a process that has imported all of it;
what it prints, its signals, its end and its exit code are those of ``python WORDS``. What is
claimed of the start itself (of imports, of torchrun) is tested with an interpreter of its own.

``python -m tests.forked`` is that process: of each line that it reads, a job, it forks one.
"""

from __future__ import annotations

import functools
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PATIENCE_SECONDS = 150.0  # with a process; on a busy machine even a short one may take a minute
POLL_SECONDS = 0.02


class Forked:
    """A command that runs, looked at as :class:`subprocess.Popen` lets one look."""

    def __init__(
        self,
        words: Sequence[str],
        environment: Mapping[str, object] | None = None,
        *,
        merged: bool = False,
    ) -> None:
        """Run ``python WORDS``, in a session of its own.

        Args:
            words: behind ``python``: a script, or ``-m`` and a module, and what it is given.
            environment: more variables than those of this process.
            merged: what it complains of goes where it prints.
        """
        self._streams = [tempfile.NamedTemporaryFile() for _ in range(1 if merged else 2)]  # noqa: SIM115
        plain = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        more = {name: str(value) for name, value in (environment or {}).items()}
        self._nursery = _nursery()
        self.pid = self._nursery.fork(
            {
                "words": list(words),
                "environment": os.environ | plain | more,
                "streams": [stream.name for stream in self._streams],
            }
        )

    @property
    def returncode(self) -> int | None:
        """Exit code; of a process that a signal ended its number, negative; None: it runs."""
        return self._nursery.code_of(self.pid, 0.0)

    def poll(self) -> int | None:
        """The same."""
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def communicate(self, timeout: float = PATIENCE_SECONDS) -> tuple[str, str]:
        """What it printed and what it complained of; one that hangs shows where it is."""
        if self._nursery.code_of(self.pid, timeout) is None:
            self.send_signal(signal.SIGABRT)  # faulthandler prints the stacks
            self._nursery.code_of(self.pid, timeout)
        said = [Path(stream.name).read_text(encoding="utf-8") for stream in self._streams]
        for stream in self._streams:
            stream.close()
        return said[0], said[1] if len(said) > 1 else ""


class _Nursery:
    """The process that forks, as its client sees it."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-X", "faulthandler", "-m", "tests.forked"],
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )
        self._codes: dict[int, int] = {}  # by process, of those that have ended
        self._read = b""

    def fork(self, job: Mapping[str, Any]) -> int:
        """Start a job; returns the process that does it."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(job).encode() + b"\n")
        while True:
            for line in self._lines(PATIENCE_SECONDS):
                if "started" in line:
                    return line["started"]

    def code_of(self, pid: int, timeout: float) -> int | None:
        """Exit code of a process, waited for some seconds; None: it still runs."""
        until = time.monotonic() + timeout
        while True:
            list(self._lines(min(POLL_SECONDS, timeout)))
            if pid in self._codes or time.monotonic() >= until:
                return self._codes.get(pid)

    def _lines(self, timeout: float) -> list[dict[str, int]]:
        assert self._process.stdout is not None
        if select.select([self._process.stdout], [], [], timeout)[0]:
            read = os.read(self._process.stdout.fileno(), 1 << 16)
            assert read, "the process that forks has ended"
            self._read += read
        *whole, self._read = self._read.split(b"\n")
        lines: list[dict[str, int]] = [json.loads(line) for line in whole]
        self._codes |= {line["ended"]: line["code"] for line in lines if "ended" in line}
        return lines


@functools.cache
def _nursery() -> _Nursery:
    """One a test process; it ends with that, as its input does."""
    return _Nursery()


# ------------------------------------------------------------------- in the process that forks


def _next_job() -> dict[str, Any]:
    """Fork for each line that comes, and return in the child; say which children have ended."""
    read, running = b"", set[int]()
    while True:
        if select.select([0], [], [], POLL_SECONDS)[0]:
            more = os.read(0, 1 << 16)
            if not more:
                for pid in running:
                    os.killpg(pid, signal.SIGKILL)
                os._exit(0)
            read += more
        *lines, read = read.split(b"\n")
        for line in lines:
            pid = os.fork()
            if pid == 0:
                job: dict[str, Any] = json.loads(line)
                return job
            running.add(pid)
            _say(started=pid)
        for pid in sorted(running):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                running.remove(pid)
                _say(ended=pid, code=os.waitstatus_to_exitcode(status))


def _say(**line: int) -> None:
    os.write(1, json.dumps(line).encode() + b"\n")


def _become(job: Mapping[str, Any]) -> list[str]:
    """Make this process one that ``python`` was just started as; returns its words."""
    os.setsid()
    os.environ.clear()
    os.environ.update(job["environment"])
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number in (1, 2):
        name = job["streams"][min(number, len(job["streams"])) - 1]
        os.dup2(os.open(name, os.O_WRONLY | os.O_APPEND), number)
    words: list[str] = job["words"]
    return words


if __name__ == "__main__":
    import runpy

    # by optimisers, at their first step
    import detkit.cli.eval
    import detkit.cli.train
    import detkit.data.augment
    import detkit.engine.train
    import detkit.evaluation.run  # noqa: F401

    _words = _become(_next_job())
    if _words[0] == "-m":
        sys.argv = _words[1:]
        runpy.run_module(_words[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = _words
        runpy.run_path(str(ROOT / _words[0]), run_name="__main__")
