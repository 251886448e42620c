"""The batches of a run: which images, in which order, changed how, kept where."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import cast

import torch

from detkit.data import Annotations
from detkit.data.augment import Augmentation
from detkit.data.cache import ImageCache, make_cache
from detkit.data.loader import BatchOrder, TrainBatch, TrainSet, train_batches
from detkit.data.sampling import repeat_factors
from detkit.detectors import Detector
from detkit.engine.state import TrainState
from detkit.experiment.config import ExperimentConfig
from detkit.proposals.store import ProposalStore

CPU_WORKERS, GPU_WORKERS = 1, 8  # loader processes: a CPU's cores are busy with the network


def training_batches(
    run: TrainState,
    experiment: ExperimentConfig,
    train_data: Annotations,
    store: ProposalStore | None = None,
) -> Iterator[TrainBatch]:
    """This rank's share of every batch, from the step that the run has reached to its last."""
    config, plan, model = run.config, run.horizon, cast(Detector, run.model)
    order = BatchOrder(
        len(train_data),
        config.batch_size,
        range(run.step, plan.steps),
        config.seed,
        lambda step: model.train_size(step, plan.steps, config.seed),
        shard=(run.ranks.rank, run.ranks.world),
        factors=repeat_factors(train_data, config.repeat_threshold)
        if config.sampler == "repeat_factor"
        else None,
        mix_end=math.ceil(config.augment.mix_until * plan.steps),
    )
    workers = training_workers(experiment, run.device)
    cache = _cache(experiment, train_data, run.ranks.here, workers)
    return train_batches(
        TrainSet(
            train_data,
            Augmentation(config.augment),
            config.seed,
            cache,
            proposals=store,
        ),
        order,
        workers,
        pin_memory=run.device.type == "cuda",
    )


def _cache(
    experiment: ExperimentConfig, train_data: Annotations, processes: int, workers: int
) -> ImageCache | None:
    if experiment.data.cache == "none":
        return None
    return make_cache(train_data.sizes, processes, workers)


def training_workers(experiment: ExperimentConfig, device: torch.device) -> int:
    """Loader processes: the config's, or what suits the device."""
    if experiment.data.workers is not None:
        return experiment.data.workers
    return GPU_WORKERS if device.type == "cuda" else CPU_WORKERS
