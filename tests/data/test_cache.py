"""The cache of decoded images."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from detkit.data import cache, for_training, read_dataset
from detkit.data.augment import Augmentation, AugmentConfig
from detkit.data.cache import ImageCache, make_cache
from detkit.data.loader import BatchOrder, TrainSet, train_batches
from detkit.image import read_image
from tests.oracles import write_image


def tiny(folder: Path):
    entry = {"format": "voc", "root": str(folder), "split": "trainval"}
    return for_training(read_dataset(entry))


def test_what_is_kept_is_what_was_read(tiny_voc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tiny(tiny_voc)
    kept = ImageCache(data.sizes)
    opened: list[str] = []

    def read(path: str) -> torch.Tensor:
        opened.append(path)
        return read_image(path)

    monkeypatch.setattr(cache, "read_image", read)
    for turn in range(3):
        for index, path in enumerate(data.paths.tolist()):
            image = kept.read(index, path)
            assert torch.equal(image, read_image(path)), turn
            assert image.permute(1, 2, 0).is_contiguous()
            image.zero_()  # what is done to the copy is not done to the cache
    assert opened == data.paths.tolist()


def test_a_file_that_changed_since_the_scan_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    write_image(path, (20, 30))
    kept = ImageCache(np.array([[10, 10]], dtype=np.int32))
    for _ in range(2):
        assert kept.read(0, str(path)).shape == (3, 20, 30)


@pytest.mark.slow
def test_workers_share_what_one_has_read(tiny_voc: Path) -> None:
    data = tiny(tiny_voc)
    order = BatchOrder(4, 4, range(2), 0, lambda step: (64, 64))
    augmentation = Augmentation(AugmentConfig())
    plain = list(train_batches(TrainSet(data, augmentation, 0), order, 2, False))
    kept = ImageCache(data.sizes)
    cached = list(train_batches(TrainSet(data, augmentation, 0, kept), order, 2, False))
    for a, b in zip(plain, cached, strict=True):
        for x, y in zip(a.samples, b.samples, strict=True):
            assert torch.equal(x.image, y.image)
            assert torch.equal(x.target.boxes, y.target.boxes)
    for path in data.paths.tolist():  # filled by the workers, read here
        Path(path).unlink()
    for index, path in enumerate(data.paths.tolist()):
        assert kept.read(index, path).shape[0] == 3


def test_what_does_not_fit_is_said_in_one_line(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "free_memory", lambda: 10 << 30)
    sizes = np.tile(np.array([[1000, 1000]], dtype=np.int32), (1500, 1))
    assert make_cache(sizes, processes=1, workers=2) is not None
    with caplog.at_level(logging.WARNING):
        assert make_cache(sizes, processes=2, workers=2) is None
    assert caplog.messages == [
        "data.cache=ram: 8.4 GiB of images do not fit into 70% of the 10.0 GiB of free memory; "
        "images are read from disk."
    ]


def test_without_fork_the_cache_needs_the_main_process(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tiny_voc: Path
) -> None:
    monkeypatch.setattr(cache.multiprocessing, "get_all_start_methods", lambda: ["spawn"])
    sizes = tiny(tiny_voc).sizes
    with caplog.at_level(logging.WARNING):
        assert make_cache(sizes, processes=1, workers=1) is None
    assert caplog.messages == [
        "data.cache=ram: loader processes cannot share memory on this system; images are read "
        "from disk. With data.workers=0 the cache works."
    ]
    assert make_cache(sizes, processes=1, workers=0) is not None


def test_training_data_of_other_sizes_has_other_places() -> None:
    sizes = np.array([[2, 3], [4, 5]], dtype=np.int32)
    kept = ImageCache(sizes)
    assert kept.offsets.tolist() == [0, 18, 78]
