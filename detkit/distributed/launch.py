"""How the ranks of a run find one another, and how they end: together, with one sentence."""

from __future__ import annotations

import datetime
import gc
import os
import sys
import time
import traceback
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch.distributed as dist
from torch.distributed import PrefixStore, Store, TCPStore  # type: ignore[attr-defined]

from detkit.distributed.heartbeat import RankWatch
from detkit.distributed.ranks import ElsewhereError, Ranks
from detkit.errors import ConfigError, DetkitError
from detkit.signals import ignore_stop, stop_as_interrupt
from detkit.system_errors import memory_trouble, os_trouble, ran_out_of

JOIN_SECONDS = 600.0  # for all ranks to start; importing torch takes minutes on a slow disk
POLL_SECONDS = 0.05
SPEAK_SECONDS = 10.0  # to wait for the rank with the error, so that its sentence comes first
FAILED, CRASHED, INTERRUPTED = 2, 1, 130  # exit codes: a detkit error, a bug, Ctrl-C
ERROR_FILE = "TORCHELASTIC_ERROR_FILE"


@contextmanager
def join_ranks() -> Iterator[Ranks]:
    """The ranks that torchrun started, or one process alone, as which nothing changes.

    An error on one rank is printed once, by the first rank that has one, and ends every rank:
    among several ranks this raises ``SystemExit`` in place of the error.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1 or "RANK" not in os.environ:
        yield Ranks()
        return
    rank, local_rank = int(os.environ["RANK"]), int(os.environ.get("LOCAL_RANK", "0"))
    with stop_as_interrupt():
        store, own = meet(rank, world)
        watch = RankWatch(own, rank, world)
        try:
            here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
            yield Ranks(rank, world, local_rank, store, watch, here)
        except BaseException as problem:  # whatever it is, the other ranks must not wait
            ignore_stop()
            raise SystemExit(end_with(problem, rank, watch)) from problem
        watch.end()
        if dist.is_initialized():
            # DistributedDataParallel lies in cycles that hold the group. While it lives, so do the
            # group's threads, and one that still runs when the interpreter ends aborts the process.
            gc.collect()
            dist.destroy_process_group()


def meet(rank: int, world: int) -> tuple[Store, Store]:
    """A store that the ranks of this start share, and no rank of an earlier one: two clients of it.

    torchrun keeps one store for all its restarts, so rank 0 draws a name for this start and tells
    it to every process that asks; who died before asking is not waited for. A client answers one
    thread at a time, and torch waits in the first for minutes, so the second is for the watch.

    Raises:
        DetkitError: some ranks did not come.
    """
    agent_holds = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    host, port = os.environ.get("MASTER_ADDR"), os.environ.get("MASTER_PORT")
    if host is None or port is None:
        raise ConfigError("WORLD_SIZE: is set, but not MASTER_ADDR and MASTER_PORT; use torchrun.")
    store = _client(host, int(port), holds=rank == 0 and not agent_holds)
    until = time.monotonic() + JOIN_SECONDS
    name = _invite(store, world, until) if rank == 0 else _ask(store, rank, until)
    own = _client(host, int(port), holds=False)
    return PrefixStore(name, store), PrefixStore(name, own)


def _client(host: str, port: int, *, holds: bool) -> Store:
    return TCPStore(
        host,
        port,
        is_master=holds,
        timeout=datetime.timedelta(seconds=JOIN_SECONDS),
        wait_for_workers=False,
        multi_tenant=True,
    )


def _invite(store: Store, world: int, until: float) -> str:
    name = f"detkit/{uuid.uuid4()}"
    missing = set(range(1, world))
    while missing:
        for rank in sorted(missing):
            if store.check([f"detkit/asks/{rank}"]):
                store.set(f"detkit/{store.get(f'detkit/asks/{rank}').decode()}", name)
            if store.check([f"{name}/here/{rank}"]):
                missing.remove(rank)
        if missing and time.monotonic() > until:
            raise _nobody(sorted(missing))
        time.sleep(POLL_SECONDS)
    return name


def _ask(store: Store, rank: int, until: float) -> str:
    token = str(uuid.uuid4())
    store.set(f"detkit/asks/{rank}", token)
    while not store.check([f"detkit/{token}"]):
        if time.monotonic() > until:
            raise _nobody([0])
        time.sleep(POLL_SECONDS)
    name = store.get(f"detkit/{token}").decode()
    store.set(f"{name}/here/{rank}", "")
    return name


def _nobody(missing: Sequence[int]) -> DetkitError:
    return DetkitError(
        f"ranks {', '.join(map(str, missing))} did not start within {JOIN_SECONDS:g} s; "
        "look at the output of their machines."
    )


def end_with(problem: BaseException, rank: int, watch: RankWatch) -> int:
    """Print what went wrong, unless another rank has; return the exit code."""
    text = None if isinstance(problem, ElsewhereError) else said_of(problem, watch)
    if text is None:
        watch.said(SPEAK_SECONDS)
    elif watch.claim() or watch.said(SPEAK_SECONDS) not in (text, None):
        # Not behind the caller's own printing: torchrun ends this process as soon as another is.
        sys.stderr.write(f"detkit: rank {rank}: {text}\n")
        sys.stderr.flush()
        watch.speak(text)
        if ERROR_FILE in os.environ:  # torchrun names the cause in its own last lines
            from torch.distributed.elastic.multiprocessing.errors import get_error_handler

            get_error_handler().record_exception(problem)
    watch.end()
    if isinstance(problem, KeyboardInterrupt):
        return INTERRUPTED
    known = DetkitError | OSError | RuntimeError | MemoryError
    return FAILED if isinstance(problem, known) else CRASHED


def said_of(problem: BaseException, watch: RankWatch) -> str | None:
    """What to say about ``problem``; None: it is the consequence of another rank's."""
    if isinstance(problem, OSError):
        return os_trouble(problem)
    if isinstance(problem, DetkitError):
        return str(problem)
    met = problem.__context__ if isinstance(problem, KeyboardInterrupt) else problem
    if isinstance(met, RuntimeError):  # a collective fails so, and so does much else
        verdict = watch.verdict()
        if verdict is not None:
            return verdict
    if watch.said() is not None:
        return None
    if isinstance(problem, KeyboardInterrupt):
        return "stopped at once; what was saved before is whole."
    if what := ran_out_of(problem):
        return memory_trouble(what)
    return "".join(traceback.format_exception(problem)).rstrip()
