"""What every rank is doing, told through torch's key-value store, so that an end can be explained.

A thread of each rank writes a line about it every second. When a collective fails, the lines say
who is silent and what the others were doing; when one rank has ended with an error, the others
learn that it has been said and end without a word.
"""

from __future__ import annotations

import json
import math
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from torch.distributed import Store  # type: ignore[attr-defined]

T = TypeVar("T")

BEAT_SECONDS = 1.0  # between two lines of a rank
POLL_SECONDS = 0.1  # between two looks at what another rank is to write
LOST_SECONDS = 6.0  # of silence after which a rank is called lost, once a collective has failed
SILENT_SECONDS = 60.0  # likewise while nothing has failed: it may only be busy
EXIT_SECONDS = 15.0  # to end by itself after another rank's error; a wait for a GPU may never end
FAILED = 2  # exit code of a process that is ended from here
SHOWN = 16  # ranks listed in one message


@dataclass(frozen=True, slots=True)
class Phase:
    """What a rank does, since when, and whether it needs the other ranks to get on."""

    doing: str
    since: float  # seconds of the monotonic clock
    together: bool


@dataclass(frozen=True, slots=True)
class Beat:
    """The line of one rank."""

    count: int
    doing: str
    seconds: float  # in this phase, when the line was written
    host: str
    ended: bool  # in order; silence is no loss any more


class RankWatch:
    """Tells the other ranks what this one does, and knows what they do."""

    def __init__(self, store: Store, rank: int, world: int) -> None:
        """Begin to tell, through a client of the store that nobody else waits in."""
        self.timeout = math.inf  # seconds that ranks wait for one another
        self.gone = False  # the store, and with it torchrun or the rank that held it
        self.may_hang = False  # a GPU's collective that fails leaves the main thread waiting
        self._store, self._rank, self._world = store, rank, world
        self._phase = Phase("starting", time.monotonic(), False)
        self._count = 0
        self._changed: dict[int, tuple[int, float]] = {}  # rank: (count, when it was first seen)
        self._reported = False
        self._said: str | None = None  # by the first rank with an error
        self._over = threading.Event()
        self._post()
        self._thread = threading.Thread(target=self._run, name="ranks", daemon=True)
        self._thread.start()

    def turn(self, doing: str, *, together: bool = False) -> None:
        """Say what begins now; ``together``: it waits for the other ranks somewhere."""
        self._phase = Phase(doing, time.monotonic(), together)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Around a collective inside a phase."""
        before = self._phase
        self._phase = Phase(before.doing, time.monotonic(), True)
        yield
        self._phase = Phase(before.doing, time.monotonic(), before.together)

    def end(self) -> None:
        """Tell that this rank ends in order, and stop telling."""
        self._over.set()
        self._thread.join()
        self._post(ended=True)

    def meet(self) -> None:
        """Come here together with every rank, before what would wait in vain for one that ended.

        Raises:
            RuntimeError: one will not come, or the time is up; :meth:`verdict` says why.
        """
        keys = [f"connecting/{rank}" for rank in range(self._world)]
        self._reach(lambda: self._store.set(keys[self._rank], ""))
        with self.waiting():
            while not self._reach(lambda: self._store.check(keys)):
                ended = self.gone or self.said() is not None
                if ended or self._waited_too_long() or self.look(SILENT_SECONDS):
                    raise RuntimeError("the ranks did not come together")
                time.sleep(POLL_SECONDS)

    # ------------------------------------------------------------------------ who speaks

    def claim(self) -> bool:
        """Whether this rank is the first that wants to say what went wrong."""
        return self._reach(lambda: self._store.add("speakers", 1)) in (1, None)

    def speak(self, text: str) -> None:
        """Let the other ranks know that ``text`` has been printed."""
        self._reach(lambda: self._store.set("said", text))

    def said(self, wait: float = 0.0) -> str | None:
        """What the first rank with an error has printed; None: nothing within ``wait`` seconds."""
        until = time.monotonic() + wait
        while True:
            if self._said is None and self._reach(lambda: self._store.check(["said"])):
                text = self._reach(lambda: self._store.get("said"))
                self._said = None if text is None else text.decode()
            if self._said is not None or self.gone or time.monotonic() >= until:
                return self._said
            time.sleep(POLL_SECONDS)

    # ------------------------------------------------------------------------ who is where

    def beats(self) -> dict[int, Beat]:
        """The last line of every rank that has written one; none where the store is gone."""
        keys = {rank: f"beat/{rank}" for rank in range(self._world)}

        def read() -> dict[int, bytes]:
            there = keys
            if not self._store.check(list(keys.values())):  # which is seldom: one request for all
                there = {rank: key for rank, key in keys.items() if self._store.check([key])}
            return dict(zip(there, self._store.multi_get(list(there.values())), strict=True))

        lines = self._reach(read) or {}
        return {rank: Beat(**json.loads(line)) for rank, line in lines.items()}

    def look(self, patience: float) -> dict[int, Beat]:
        """The ranks that were silent for ``patience`` seconds, as far as this one has looked."""
        now = time.monotonic()
        lost = {}
        for rank, beat in self.beats().items():
            if beat.ended or rank == self._rank:
                continue
            if self._changed.get(rank, (-1, 0.0))[0] != beat.count:
                self._changed[rank] = (beat.count, now)
            if now - self._changed[rank][1] > patience:
                lost[rank] = beat
        return lost

    def verdict(self) -> str | None:
        """Why a collective failed here: a lost rank, a wait too long; None: no other rank's fault.

        Takes up to ``LOST_SECONDS``; ends at once when another rank has said what went wrong.
        """
        self._reported = True  # here, and not by the thread
        waited_too_long = self._waited_too_long()
        until = time.monotonic() + LOST_SECONDS + 2 * BEAT_SECONDS
        while not waited_too_long and time.monotonic() < until and self.said() is None:
            lost = self.look(LOST_SECONDS)
            if lost:
                return self.loss(lost, LOST_SECONDS)
            if self.gone:
                return f"lost {self._holder()}. {self._advice()}"
            time.sleep(BEAT_SECONDS / 2)
        return self.too_long() if waited_too_long else None

    def loss(self, lost: Mapping[int, Beat], seconds: float) -> str:
        """The sentence about ranks that are gone."""
        names = ", ".join(
            f"rank {rank} on {beat.host} (last heard: {beat.doing})"
            for rank, beat in list(lost.items())[:SHOWN]
        )
        return f"lost {names}: no sign of life for {seconds:g} s. {self._advice()}"

    def too_long(self) -> str:
        """The sentence about ranks that waited for one another until the time was up."""
        lines = [
            f"rank {rank}: {beat.doing}, for {beat.seconds:.0f} s"
            for rank, beat in sorted(self.beats().items())[:SHOWN]
        ]
        return (
            f"the ranks waited {self.timeout:g} s for one another ({'; '.join(lines)}). "
            "See why one is late, or raise train.rank_timeout_minutes."
        )

    def _advice(self) -> str:
        return f"This rank: {self._phase.doing}. Start again; a training goes on with --resume."

    # ------------------------------------------------------------------------ the thread

    def _waited_too_long(self, early: float = 0.0) -> bool:
        waited = time.monotonic() - self._phase.since
        return self._phase.together and waited >= self.timeout - early

    def _post(self, ended: bool = False) -> None:
        self._count += 1
        seconds = time.monotonic() - self._phase.since
        beat = {"count": self._count, "doing": self._phase.doing, "seconds": seconds}
        line = json.dumps(beat | {"host": socket.gethostname(), "ended": ended})
        self._reach(lambda: self._store.set(f"beat/{self._rank}", line))

    def _reach(self, call: Callable[[], T]) -> T | None:
        """The answer of the store; None when it is gone, which is for good."""
        if self.gone:
            return None
        try:
            return call()
        except RuntimeError:
            self.gone = True
            return None

    def _holder(self) -> str:
        """Who is gone when the store is."""
        by_torchrun = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
        return "torchrun" if by_torchrun else "rank 0"

    def _run(self) -> None:
        while not self._over.wait(BEAT_SECONDS) and not self.gone:
            self._post()
            if self.said() is not None:
                self._leave()
            elif self.may_hang and not self._reported:
                self._report()

    def _report(self) -> None:
        """Say once what a main thread that waits for a GPU may never come to say."""
        said = ""
        if self._waited_too_long(2 * BEAT_SECONDS):  # NCCL ends the process when the time is up
            said = self.too_long()
        elif time.monotonic() - self._phase.since > SILENT_SECONDS / 2:
            lost = self.look(SILENT_SECONDS)
            first = min(rank for rank in range(self._world) if rank not in lost)
            said = self.loss(lost, SILENT_SECONDS) if lost and first == self._rank else ""
        if said:
            self._reported = True
            sys.stderr.write(f"detkit: rank {self._rank}: {said}\n")
            sys.stderr.flush()

    def _leave(self) -> None:
        """End the process where its main thread does not, after another rank has ended."""
        if not self._over.wait(EXIT_SECONDS):
            sys.stderr.flush()
            os._exit(FAILED)
