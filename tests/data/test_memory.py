"""Host memory of the loader's processes does not grow from epoch to epoch."""

from __future__ import annotations

import gc
import multiprocessing
from pathlib import Path

import numpy as np
import pytest

from detkit.data.augment import Augmentation, AugmentConfig
from detkit.data.base import Annotations
from detkit.data.loader import BatchOrder, TrainSet, train_batches
from tests.oracles import write_image

IMAGES, OBJECTS, BATCH, EPOCHS = 2_000, 20, 100, 2
ALLOWED_MIB = 0.3  # twenty Python numbers an image, kept, would be 0.6; a sound run grows by 0.05


def many(path: Path) -> Annotations:
    """Two thousand names of one small picture, twenty boxes each."""
    rng = np.random.default_rng(0)
    low = rng.uniform(0, 20, (IMAGES * OBJECTS, 2))
    boxes = np.concatenate([low, low + rng.uniform(2, 12, low.shape)], axis=1)
    count = len(boxes)
    return Annotations(
        class_names=("a", "b"),
        image_ids=np.array([f"{index:06d}" for index in range(IMAGES)]),
        paths=np.full(IMAGES, str(path)),
        sizes=np.full((IMAGES, 2), 32, dtype=np.int32),
        offsets=np.arange(0, count + 1, OBJECTS, dtype=np.int64),
        boxes=boxes.astype(np.float32),
        labels=rng.integers(2, size=count),
        difficult=np.zeros(count, dtype=np.bool_),
        crowd=np.zeros(count, dtype=np.bool_),
        area=np.ones(count, dtype=np.float32),
    )


def private_mib() -> list[float]:
    """Memory that belongs to each worker alone: what grows when shared pages are written to."""
    found = []
    for child in multiprocessing.active_children():
        lines = Path(f"/proc/{child.pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
        found.append(
            sum(int(line.split()[1]) for line in lines if line.startswith("Private")) / 1024
        )
    return found


@pytest.mark.slow
@pytest.mark.skipif(
    not Path("/proc/self/smaps_rollup").exists(), reason="no /proc/PID/smaps_rollup on this system"
)
def test_workers_memory_is_flat_over_epochs(tmp_path: Path) -> None:
    path = tmp_path / "small.png"
    write_image(path, (32, 32))
    dataset = TrainSet(many(path), Augmentation(AugmentConfig()), seed=0)
    steps = EPOCHS * IMAGES // BATCH
    order = BatchOrder(IMAGES, BATCH, range(steps), 0, lambda step: (32, 32))
    after_first: list[float] = []
    last: list[float] = []
    gc.collect()
    gc.freeze()  # a collection in either process would part pages that earlier tests have filled
    try:
        for step, batch in enumerate(train_batches(dataset, order, workers=2, pin_memory=False)):
            assert len(batch) == BATCH
            if step + 1 == IMAGES // BATCH:
                after_first = private_mib()
            if step + 2 == steps:  # the workers leave after the last
                last = private_mib()
    finally:
        gc.unfreeze()
    assert len(after_first) == len(last) == 2
    grown = [end - start for start, end in zip(after_first, last, strict=True)]
    assert max(grown) < ALLOWED_MIB, f"MiB of each worker: {after_first}, then {last}"
