"""Proposals of whole datasets: what is missing is found before anything waits for it.

Reading order: ``compute_proposals`` (any images, in parallel processes), ``store_of`` (where they
lie), ``prepare_proposals`` (what a training needs).
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from detkit.data.loader import start_worker
from detkit.data.workers import batches_of
from detkit.detectors import Detector
from detkit.detectors.base import proposals_of
from detkit.engine.log import RunLog
from detkit.engine.saving import owes_evaluation
from detkit.engine.start import Prepared
from detkit.errors import DataError, DetkitError
from detkit.experiment.config import DataConfig
from detkit.files import in_words, make_folder, sha256_of
from detkit.image import read_image
from detkit.progress import Count
from detkit.proposals.selective_search import compile_ahead
from detkit.proposals.store import KEY, ProposalStore, default_folder
from detkit.types import Boxes

READERS = 8  # threads that look at image files' contents; they mostly wait for the disk
WORTH_A_PROCESS = 8  # images; to start one for fewer takes longer than they do
TELL_SECONDS = 30.0  # between two lines where no terminal shows progress


@dataclass(frozen=True, slots=True)
class Computed:
    """What was done for a set of images."""

    images: int  # asked for, each content once
    found: int  # computed now; the others were there
    seconds: float  # that took
    size: int  # bytes that all of them take on the disk
    unreadable: tuple[str, ...] = ()  # why, of images that have none; whoever reads them says more
    stopped: bool = False  # before all were done

    def text(self) -> str:
        """All of it in a line."""
        parts = [f"proposals: {self.images} images, {in_words(self.size)}"]
        if self.found:
            each = self.seconds / self.found
            parts.append(f"{self.found} computed now in {self.seconds:.1f} s ({each:.2f} s each)")
        if self.unreadable:
            parts.append(f"{len(self.unreadable)} unreadable (first: {self.unreadable[0]})")
        if self.stopped:
            parts.append("stopped before the rest; another start goes on from here")
        return ", ".join(parts)


class _Jobs(Dataset["DetkitError | None"]):
    """Images whose proposals are missing; to ask for one is to find and keep them."""

    def __init__(self, store: ProposalStore, paths: Sequence[Path]) -> None:
        self.store = store
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> DetkitError | None:
        path = self.paths[index]
        try:
            self.store.find(path, read_image(path))
        except DetkitError as problem:  # sent back whole; raised, it would become a traceback
            return problem
        except OSError as problem:
            return DataError(f"{path}: cannot be read ({problem.strerror}).")
        return None


def compute_proposals(
    store: ProposalStore,
    paths: Sequence[Path],
    processes: int,
    progress: Count | None = None,
    stopping: Callable[[], bool] = lambda: False,
) -> Computed:
    """Find and keep the proposals of those images that the store lacks.

    Each is kept as soon as it is found, so that what is done stays done whatever ends the work.

    Args:
        store: where they go.
        paths: image files; those of equal content count as one.
        processes: how many work at once, each on one thread; 1 works here.
        progress: told after each image how many of the missing are done.
        stopping: asked after each image whether to end here.

    Raises:
        DetkitError: the store cannot be written.
    """
    with ThreadPoolExecutor(READERS) as pool:
        contents = list(pool.map(_content, paths))
    read = {content: path for path, content in zip(paths, contents, strict=True) if content}
    lost = [path for path, content in zip(paths, contents, strict=True) if not content]
    jobs = _Jobs(store, [*(read[content] for content in store.missing(read)), *lost])
    images = len(read) + len(lost)
    if not len(jobs):
        return Computed(images, 0, 0.0, store.size(read))
    make_folder(store.folder.parent, KEY)
    workers = min(processes, math.ceil(len(jobs) / WORTH_A_PROCESS))
    compile_ahead()  # here, so that processes find it done
    start = time.monotonic()
    loader: DataLoader[DetkitError | None] = DataLoader(
        jobs,
        batch_size=None,
        num_workers=workers if workers > 1 else 0,
        worker_init_fn=start_worker,
        generator=torch.Generator(),  # its own: the caller's random state stays as it is
    )
    done, unreadable = 0, []
    advice = f"What was found is kept; try data.workers={workers // 2} (now {workers})."
    for problem in batches_of(loader, advice):
        if isinstance(problem, DataError):
            unreadable.append(str(problem))
        elif problem is not None:
            raise problem
        done += 1
        if progress is not None:
            progress(done, len(jobs))
        if stopping():
            break
    return Computed(
        images=images,
        found=done - len(unreadable),
        seconds=time.monotonic() - start,
        size=store.size(read),
        unreadable=tuple(unreadable),
        stopped=done < len(jobs),
    )


def _content(path: Path) -> str:
    """The digest that names an image's proposals; empty where the file cannot be read."""
    try:
        return sha256_of(path)
    except OSError:
        return ""


def processes_for(data: DataConfig, here: int = 1) -> int:
    """How many processes compute: ``data.workers``, or this process's share of the cores.

    Args:
        data: the config's block.
        here: processes of the same work on this machine.
    """
    if data.workers is not None:
        return max(data.workers, 1)
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on Windows or macOS
        cores = os.cpu_count() or 1
    return max(cores // here, 1)


def store_of(data: DataConfig, detector: Detector) -> ProposalStore | None:
    """Where the proposals of a detector lie; None for one that needs none."""
    config = proposals_of(detector)
    return None if config is None else ProposalStore(data.proposals or default_folder(), config)


def stored_proposals(store: ProposalStore, paths: Sequence[Path]) -> list[Boxes]:
    """``[R, 4]`` of each image, best first; none of an image that cannot be read."""
    found = []
    for path in paths:
        content = _content(path)
        boxes = store.get(content) if content else None
        if boxes is None and content:  # damaged, or gone since
            try:
                boxes = store.find(path, read_image(path))
            except DataError:  # said before, by compute_proposals
                boxes = None
        found.append(torch.zeros(0, 4) if boxes is None else boxes)
    return found


# ------------------------------------------------------------------------------- training


def prepare_proposals(
    prepared: Prepared, log: RunLog, *, from_detector: bool
) -> ProposalStore | None:
    """The store that a run's detector takes proposals from, filled; None where it needs none.

    Several ranks share the work. Ctrl-C ends it early; the run then stops before its next step.

    Args:
        prepared: the run and its data.
        log: is told how it goes.
        from_detector: training images need none, as another detector suggests theirs.
    """
    run, experiment = prepared.run, prepared.experiment
    eval_data = prepared.eval_data
    store = store_of(experiment.data, cast(Detector, run.model))
    if store is None:
        return None
    is_all = run.step >= run.horizon.steps and not owes_evaluation(run, experiment, eval_data)
    if is_all and not experiment.train.fit_svm:
        return store  # nothing is left to do
    used = [] if from_detector else [prepared.train_data]
    used += [] if eval_data is None else [eval_data]
    paths = list(dict.fromkeys(Path(str(path)) for data in used for path in data.paths))
    ranks, progress = run.ranks, shown_in(log)
    processes = processes_for(experiment.data, ranks.here)

    def compute(share: Sequence[Path]) -> Computed:
        stopping = lambda: run.stop_asked() or ranks.orphaned  # noqa: E731
        return compute_proposals(store, share, processes, progress, stopping)

    ranks.turn("finding proposals")
    mine = compute(paths[ranks.rank :: ranks.world])
    ranks.wait()
    if ranks.world > 1:  # a machine with a disk of its own lacks what the others' ranks found
        compute(paths[ranks.local_rank :: ranks.here])
        ranks.wait()
    every = np.stack(ranks.gather(np.array([mine.images, mine.found, mine.size, mine.seconds])))
    images, found, size = every[:, :3].sum(axis=0).astype(int).tolist()
    seconds = float(every[:, 3].max())
    log.say(Computed(images, found, seconds, size, mine.unreadable, mine.stopped).text())
    return store


def shown_in(log: RunLog) -> Count:
    """Progress as a line of its own on a terminal, elsewhere as a line now and then."""
    shows: list[Callable[[int], None]] = []
    said = time.monotonic()

    def progress(done: int, total: int) -> None:
        nonlocal said
        if not shows:
            shows.append(log.follow("proposals", total))
        shows[0](done)
        if not log.console.is_terminal and time.monotonic() - said > TELL_SECONDS:
            said = time.monotonic()
            log.say(f"proposals: {done} of {total} images")

    return progress
