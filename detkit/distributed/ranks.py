"""Several processes that train one model together: `torchrun`, as seen from inside.

Every rank runs the same statements. What only rank 0 does (files, printing, figures) holds no
collective, and its outcome is handed to the others. Flags, figures and objects travel over gloo
on every device, because it notices a rank that died at once; gradients on GPUs travel over NCCL.

How the ranks find one another and how they end stands in ``launch.py``.
"""

from __future__ import annotations

import datetime
import inspect
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import nn
from torch.distributed import Store  # type: ignore[attr-defined]
from torch.nn.parallel import DistributedDataParallel

from detkit.distributed.heartbeat import RankWatch
from detkit.errors import ConfigError, DetkitError

T = TypeVar("T")

SAME_START = "start every machine with the same config and data"
NO_BUFFERS = ("forward_sync_buffers", "broadcast_buffers")  # of newer and of older torch


class ElsewhereError(DetkitError):
    """Another rank has the error and says it; this one only ends."""


Gather = Callable[[NDArray[Any]], list[NDArray[Any]]]  # one array in, those of all processes out


@dataclass(frozen=True, slots=True)
class Shard:
    """One process's part of a dataset: every ``world``-th image from ``rank`` on, none twice."""

    rank: int = 0
    world: int = 1
    gather: Gather = lambda array: [array]  # equal calls on every process; lengths may differ


@dataclass(slots=True)
class Ranks:
    """The processes of one run, and this one's place among them; by default it is alone."""

    rank: int = 0
    world: int = 1
    local_rank: int = 0  # on this machine
    store: Store | None = None  # the ranks' common key-value store, of this start alone
    watch: RankWatch | None = None
    here: int = 1  # ranks on this machine

    @property
    def is_main(self) -> bool:
        """Whether this rank writes the files and prints."""
        return self.rank == 0

    def connect(self, device: str, timeout_minutes: float) -> torch.device:
        """Open the connections between the ranks; return this rank's own device.

        Raises:
            ConfigError: this machine has fewer GPUs than ranks, or ``device`` names one GPU.
        """
        if self.world == 1:
            return torch.device(device)
        mine = own_device(device, self.local_rank)
        backend = "gloo"
        if mine.type == "cuda":
            torch.cuda.set_device(mine)
            backend = "cpu:gloo,cuda:nccl"
        assert self.store is not None  # join_ranks gave both
        assert self.watch is not None
        timeout = datetime.timedelta(minutes=timeout_minutes)
        self.watch.timeout, self.watch.may_hang = timeout.total_seconds(), mine.type == "cuda"
        self.turn("connecting")
        self.watch.meet()
        with self.waiting():
            dist.init_process_group(
                backend, store=self.store, rank=self.rank, world_size=self.world, timeout=timeout
            )
        return mine

    @property
    def orphaned(self) -> bool:
        """Whether torchrun is gone, without which nobody would end or restart the ranks."""
        return self.watch is not None and self.watch.gone

    def turn(self, doing: str, *, together: bool = False) -> None:
        """Say what begins now; ``together``: it waits for the other ranks somewhere."""
        if self.watch is not None:
            self.watch.turn(doing, together=together)

    def waiting(self) -> Any:
        """Around a collective, so that a wait without end can be explained."""
        return nullcontext() if self.watch is None else self.watch.waiting()

    # ------------------------------------------------------------------------ collectives

    def any(self, flag: bool) -> bool:
        """Whether ``flag`` holds on any rank; the same answer on every rank."""
        if self.world == 1:
            return flag
        found = torch.tensor(int(flag))
        with self.waiting():
            dist.all_reduce(found, dist.ReduceOp.MAX)
        return bool(found)

    def wait(self) -> None:
        """Go on once every rank has come here."""
        self.any(False)

    def gather(self, array: NDArray[Any]) -> list[NDArray[Any]]:
        """The arrays of all ranks in the order of ranks, on every rank; lengths may differ."""
        if self.world == 1:
            return [array]
        arrays: list[Any] = [None] * self.world
        with self.waiting():
            dist.all_gather_object(arrays, array)
        return arrays

    def mean(self, values: Mapping[str, float]) -> dict[str, float]:
        """The mean over ranks of each value; every rank has the same names."""
        if self.world == 1:
            return dict(values)
        total = torch.tensor(list(values.values()), dtype=torch.float64)
        with self.waiting():
            dist.all_reduce(total)
        return dict(zip(values, (total / self.world).tolist(), strict=True))

    def from_main(self, work: Callable[[], T]) -> T:
        """What ``work`` gives on rank 0, on every rank; the others do not call it."""
        if self.world == 1:
            return work()
        value = [work() if self.is_main else None]
        with self.waiting():
            dist.broadcast_object_list(value, src=0)
        return value[0]  # type: ignore[return-value]  # rank 0's

    def main_first(self, work: Callable[[], T]) -> T:
        """What ``work`` gives: on rank 0, then on one rank a machine, then on the rest.

        So that what it leaves on the disk is made once; only rank 0's is not quiet.
        """
        mine = 0 if self.is_main else 1 if self.local_rank == 0 else 2
        for turn in range(3):
            if turn == mine:
                with nullcontext() if self.is_main else quiet():
                    result = work()
            self.wait()
        return result

    def agree(self, what: Mapping[str, Any], todo: str = SAME_START) -> None:
        """Check that every rank is about to do the same.

        Args:
            what: names and values.
            todo: the end of the sentence about a value that differs.

        Raises:
            ConfigError: the first value that is not as on rank 0.
        """
        theirs = self.from_main(lambda: dict(what))
        for key in dict.fromkeys([*theirs, *what]):
            if theirs.get(key) != what.get(key):
                raise ConfigError(
                    f"{key}: is {what.get(key)} on rank {self.rank}, but {theirs.get(key)} on "
                    f"rank 0; {todo}."
                )

    # ------------------------------------------------------------------------ the model

    def spread(self, model: nn.Module, *, sync_batch_norm: bool = False) -> nn.Module:
        """Wrap ``model`` so that backward averages the gradients over all ranks.

        Every rank starts with rank 0's weights. Batch-norm statistics stay each rank's own while
        training; :meth:`share_buffers` gives out rank 0's, which are those that are saved.
        """
        if self.world == 1:
            return model
        if sync_batch_norm:
            nn.SyncBatchNorm.convert_sync_batchnorm(model)  # its children, in place
        known = inspect.signature(DistributedDataParallel).parameters
        settings: dict[str, Any] = {next(name for name in NO_BUFFERS if name in known): False}
        with self.waiting():
            # No device_ids: the detector itself brings its images to its device.
            return DistributedDataParallel(model, **settings)

    def share_buffers(self, model: nn.Module) -> None:
        """Give every rank rank 0's buffers, so that all measure the model that is saved."""
        if self.world == 1:
            return
        with self.waiting():
            for buffer in model.buffers():
                dist.broadcast(buffer, src=0)

    def shard(self) -> Shard:
        """This rank's part of an evaluation."""
        return Shard(self.rank, self.world, self.gather)


def check_shares(batch_size: int, world: int) -> None:
    """Refuse a batch that the ranks cannot share.

    Raises:
        ConfigError: with the nearest sizes that they can.
    """
    if batch_size % world:
        below = batch_size // world * world
        sizes = f"{below} or {below + world}" if below else f"{world}"
        raise ConfigError(
            f"train.batch_size: is {batch_size}, which {world} ranks cannot share equally (it is "
            f"the size over all ranks); set it to {sizes}, or start another number of ranks."
        )


def own_device(device: str, local_rank: int) -> torch.device:
    """The device of one rank of several: each has a GPU of its own.

    Raises:
        ConfigError: ``device`` names one GPU for all, or there is none for this rank.
    """
    asked = torch.device(device)
    if asked.type != "cuda":
        return asked
    if asked.index is not None:
        raise ConfigError(
            f"--device {device}: names one GPU for several ranks; use --device cuda, "
            "and choose GPUs with CUDA_VISIBLE_DEVICES."
        )
    if local_rank >= torch.cuda.device_count():
        raise ConfigError(
            f"--nproc-per-node: rank {local_rank} of this machine has no GPU, torch sees "
            f"{torch.cuda.device_count()}; start as many ranks as GPUs, or use --device cpu."
        )
    return torch.device("cuda", local_rank)


@contextmanager
def quiet() -> Iterator[None]:
    """Nothing is printed, since rank 0 has said the same; what goes wrong is raised."""
    logger = logging.getLogger("detkit")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            with redirect_stderr(io.StringIO()):
                yield
    finally:
        logger.setLevel(level)
