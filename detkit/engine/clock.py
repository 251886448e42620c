"""Where the time of training goes: waiting for data, forward, backward, optimiser."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch

T = TypeVar("T")

DATA, FORWARD, BACKWARD, OPTIMIZER, OTHER = "data", "forward", "backward", "optimizer", "other"


@dataclass(frozen=True, slots=True)
class Reading:
    """How much time passed in the training loop, and in which phase."""

    seconds: float
    steps: int
    spent: Mapping[str, float]  # seconds in each phase

    def share(self, phase: str) -> float:
        """Of the time, in 0..1."""
        return self.spent.get(phase, 0.0) / max(self.seconds, 1e-9)


@dataclass
class Clock:
    """Counts the time between marks, of which each names what was done until then.

    On a GPU the marks are events in its queue, so nothing waits for it until the clock is read,
    and "data" is the time in which it had nothing to do. Elsewhere they are moments.
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    _last: Any = None  # the mark before
    _open: list[tuple[str, Any, Any]] = field(default_factory=list)  # (phase, from, to)
    _recent: dict[str, float] = field(default_factory=dict)  # since `read`
    _epoch: dict[str, float] = field(default_factory=dict)  # since `read_epoch`
    _steps: int = 0
    _epoch_steps: int = 0

    def timed(self, batches: Iterable[T]) -> Iterator[T]:
        """Pass ``batches`` on, counting how long each let us wait."""
        source = iter(batches)
        self._last = self._now()  # what happened between two epochs is not training
        while True:
            self.mark(OTHER)
            batch = next(source, None)
            self.mark(DATA)
            if batch is None:
                return
            yield batch

    def mark(self, phase: str) -> None:
        """Count the time since the mark before to ``phase``; one OPTIMIZER is one step."""
        now = self._now()
        self._open.append((phase, self._last, now))
        self._last = now
        if phase == OPTIMIZER:
            self._steps += 1
            self._epoch_steps += 1

    def read(self) -> Reading:
        """What passed since the last such call; waits for a GPU to get here."""
        self._settle()
        reading = Reading(sum(self._recent.values()), self._steps, self._recent)
        self._recent, self._steps = {}, 0
        return reading

    def read_epoch(self) -> Reading:
        """What passed since the last such call; independent of :meth:`read`."""
        self._settle()
        reading = Reading(sum(self._epoch.values()), self._epoch_steps, self._epoch)
        self._epoch, self._epoch_steps = {}, 0
        return reading

    def _now(self) -> Any:
        if self.device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self.device))
        return event

    def _settle(self) -> None:
        """Turn what was marked since the last reading into seconds."""
        if self._open and not isinstance(self._last, float):
            self._last.synchronize()
        for phase, start, end in self._open:
            seconds = end - start if isinstance(end, float) else start.elapsed_time(end) / 1000
            for spent in (self._recent, self._epoch):
                spent[phase] = spent.get(phase, 0.0) + seconds
        self._open.clear()
