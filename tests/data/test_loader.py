"""The training order: seeded, whole, and the same from wherever it starts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from detkit.data import for_training, read_dataset
from detkit.data.augment import Augmentation, AugmentConfig
from detkit.data.loader import BatchOrder, TrainBatch, TrainSet, train_batches
from detkit.errors import DataError


def tiny_set(folder: Path, seed: int = 0) -> TrainSet:
    entry = {"format": "voc", "root": str(folder), "split": "trainval"}
    return TrainSet(for_training(read_dataset(entry)), Augmentation(AugmentConfig()), seed)


def order_of(steps: range, batch_size: int = 3, images: int = 4, seed: int = 0) -> BatchOrder:
    sizes = [(64, 64), (96, 64)]
    return BatchOrder(images, batch_size, steps, seed, lambda step: sizes[step % 2])


def test_every_image_comes_once_an_epoch_and_batches_are_full() -> None:
    keys = [key for batch in order_of(range(8)) for key in batch]
    assert all(len(batch) == 3 for batch in order_of(range(8)))
    for epoch in range(6):
        assert sorted(key.image for key in keys if key.epoch == epoch) == [0, 1, 2, 3]
    orders = {tuple(k.image for k in keys if k.epoch == epoch) for epoch in range(6)}
    assert len(orders) > 1


def test_order_starts_at_any_step() -> None:
    whole = list(order_of(range(10), batch_size=7))
    assert list(order_of(range(6, 10), batch_size=7)) == whole[6:]
    assert list(order_of(range(10), batch_size=7, seed=1)) != whole


def same(a: TrainBatch, b: TrainBatch) -> bool:
    return (a.size, a.seen) == (b.size, b.seen) and all(
        torch.equal(x.image, y.image) and torch.equal(x.target.boxes, y.target.boxes)
        for x, y in zip(a.samples, b.samples, strict=True)
    )


def test_workers_and_a_later_start_give_the_same_batches(tiny_voc: Path) -> None:
    dataset = tiny_set(tiny_voc)
    here = list(train_batches(dataset, order_of(range(4)), workers=0, pin_memory=False))
    there = list(train_batches(dataset, order_of(range(4)), workers=2, pin_memory=False))
    late = list(train_batches(dataset, order_of(range(2, 4)), workers=0, pin_memory=False))
    assert all(same(a, b) for a, b in zip(here, there, strict=True))
    assert all(same(a, b) for a, b in zip(here[2:], late, strict=True))
    assert [batch.seen for batch in here] == [0, 3, 6, 9]
    assert here[1].samples[0].image.shape == (3, 96, 64)


@pytest.mark.slow
def test_spawned_workers_read_the_same(tiny_voc: Path) -> None:
    dataset = tiny_set(tiny_voc)
    (here,) = train_batches(dataset, order_of(range(1)), workers=0, pin_memory=False)
    spawned = DataLoader(
        dataset,
        batch_sampler=order_of(range(1)),
        num_workers=1,
        collate_fn=tuple,
        multiprocessing_context="spawn",
    )
    (samples,) = spawned
    assert all(torch.equal(a.image, b.image) for a, b in zip(here.samples, samples, strict=True))


def test_parts_of_a_batch_add_up(tiny_voc: Path) -> None:
    (batch,) = train_batches(tiny_set(tiny_voc), order_of(range(1), 7), workers=0, pin_memory=False)
    parts = batch.split(3)
    assert [len(part) for part in parts] == [2, 2, 3]
    assert [part.seen for part in parts] == [0, 2, 4]
    assert sum(part.share for part in parts) == pytest.approx(1)
    assert [s for part in parts for s in part.samples] == list(batch.samples)
    assert len(batch.split(50)) == 7


def test_an_image_that_breaks_after_the_scan_is_passed_over(
    tiny_voc: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dataset = tiny_set(tiny_voc)
    path = tiny_voc / "JPEGImages" / "000001.jpg"
    path.write_bytes(path.read_bytes()[:400])
    key = next(k for batch in order_of(range(2)) for k in batch if k.image == 0)
    assert dataset[key].image_id == "000002"
    assert "000001.jpg" in caplog.text
    assert "The next image is used in its place." in caplog.text


@pytest.mark.parametrize("workers", [0, 1])
def test_when_nothing_can_be_read_the_data_is_at_fault(workers: int, tiny_voc: Path) -> None:
    dataset = tiny_set(tiny_voc)
    for path in (tiny_voc / "JPEGImages").iterdir():
        path.unlink()
    key = next(iter(order_of(range(1))))[0]
    with pytest.raises(DataError) as caught:  # in one line, also from another process
        next(train_batches(dataset, order_of(range(1)), workers, pin_memory=False))
    path = dataset.images.annotations.paths[key.image]
    assert str(caught.value) == (
        f"{path}: this image and the 9 after it cannot be read; is the disk still there?"
    )


def test_annotations_are_flat_arrays(tiny_voc: Path) -> None:
    annotations = tiny_set(tiny_voc).images.annotations
    assert annotations.offsets.tolist() == [0, 2, 3, 3, 5]
    fields = [getattr(annotations, name) for name in ("boxes", "labels", "image_ids", "paths")]
    assert all(isinstance(field, np.ndarray) and field.dtype != object for field in fields)
