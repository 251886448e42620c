"""Where the time goes: by a clock that a test sets, and by events as a GPU would record them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from detkit.engine import clock as clock_module
from detkit.engine.clock import BACKWARD, DATA, FORWARD, OPTIMIZER, OTHER, Clock


class Hands:
    """Seconds that pass only when told."""

    now = 0.0

    def pass_by(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def hands(monkeypatch: pytest.MonkeyPatch) -> Hands:
    hands = Hands()
    monkeypatch.setattr(clock_module.time, "perf_counter", lambda: hands.now)
    return hands


def loaded(hands: Hands, count: int, seconds: float) -> Iterator[int]:
    for number in range(count):
        hands.pass_by(seconds)
        yield number


def take_step(clock: Clock, hands: Hands) -> None:
    for phase, seconds in ((FORWARD, 1.0), (BACKWARD, 2.0), (OPTIMIZER, 0.5)):
        hands.pass_by(seconds)
        clock.mark(phase)
    hands.pass_by(0.5)  # writing the log


def test_every_second_belongs_to_one_phase(hands: Hands) -> None:
    clock = Clock()
    for _ in clock.timed(loaded(hands, 3, seconds=4.0)):
        take_step(clock, hands)
    reading = clock.read()
    assert reading.steps == 3
    assert reading.spent == {DATA: 12.0, FORWARD: 3.0, BACKWARD: 6.0, OPTIMIZER: 1.5, OTHER: 1.5}
    assert reading.seconds == 24.0
    assert reading.share(DATA) == 0.5
    assert reading.share("never") == 0.0


def test_what_lies_between_two_epochs_is_not_training(hands: Hands) -> None:
    clock = Clock()
    for _ in range(2):
        for _ in clock.timed(loaded(hands, 1, seconds=1.0)):
            take_step(clock, hands)
        hands.pass_by(1000.0)  # an evaluation
    assert clock.read().seconds == 10.0


def test_the_reading_of_an_epoch_is_its_own(hands: Hands) -> None:
    clock = Clock()
    for number in clock.timed(loaded(hands, 3, seconds=0.0)):
        take_step(clock, hands)
        if number == 1:
            assert clock.read().steps == 2
    assert clock.read_epoch().steps == 3
    assert clock.read().steps == 1
    assert clock.read_epoch().steps == 0
    assert clock.read().share(DATA) == 0.0  # no time passed, so no division by it


def test_on_a_gpu_nothing_waits_before_the_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its queue runs behind: an event's time is known only after a wait."""
    queue: list[Event] = []

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing
            self.ended = False

        def record(self, stream: object) -> None:
            queue.append(self)

        def synchronize(self) -> None:
            for event in queue[: queue.index(self) + 1]:
                event.ended = True

        def elapsed_time(self, other: Event) -> float:
            assert self.ended
            assert other.ended
            return 1000.0 * (queue.index(other) - queue.index(self))  # milliseconds

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: "stream")
    clock = Clock(torch.device("cuda"))
    for _ in clock.timed([0, 1]):
        for phase in (FORWARD, BACKWARD, OPTIMIZER):
            clock.mark(phase)
    assert not any(event.ended for event in queue)
    reading = clock.read()
    assert reading.spent == {OTHER: 3.0, DATA: 3.0, FORWARD: 2.0, BACKWARD: 2.0, OPTIMIZER: 2.0}
