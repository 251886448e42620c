"""Fixtures that many tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from tests.oracles import voc_xml, write_voc

settings.register_profile("detkit", derandomize=True, deadline=None)
settings.load_profile("detkit")


@pytest.fixture(autouse=True, scope="session")
def own_threads() -> None:
    """Workers that run at the same time share the cores, instead of each asking for all."""
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if workers > 1:
        torch.set_num_threads(max(1, torch.get_num_threads() // workers))


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What detkit caches goes to a folder of this test run, not to the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DETKIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def tiny_voc(tmp_path: Path) -> Path:
    """A VOC folder: splits trainval (4 images, classes cat and dog, one empty) and test (2)."""
    folder = write_voc(
        tmp_path / "tiny_voc",
        {
            "000001": voc_xml([("dog", (1, 1, 40, 30)), ("cat", (30, 20, 80, 60))]),
            "000002": voc_xml([("cat", (11, 21, 30, 50))]),
            "000003": voc_xml([]),
            "000004": voc_xml(
                [("dog", (5, 5, 44, 54)), ("dog", (50, 5, 79, 24))], difficult=[0, 1]
            ),
        },
    )
    pages = {
        "000005": voc_xml([("cat", (21, 11, 60, 50))]),
        "000006": voc_xml([("dog", (2, 3, 70, 55))]),
    }
    return write_voc(folder, pages, split="test")


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real images beside the checkout; tests that need it carry the marker data."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real images: {folder} is not there")
    return folder


SMALL_CONFIG = """\
model:
  name: yolo_v2
  backbone: tiny
  head_channels: 16
  input_size: 64
  train_sizes: [64, 96]
  train_size_every: 2
  train_size_last: 2

data:
  workers: 0
  train: [{{format: voc, root: {root}, split: trainval}}]
  eval: [{{format: voc, root: {root}, split: test}}]

train:
  iterations: 12
  batch_size: 3
  micro_batches: 2
  lr: 1.0e-3
  average_decay: 0.9
  log_every: 1
  save_every: 2
"""


@pytest.fixture
def small_config(tiny_voc: Path, tmp_path: Path) -> Path:
    """A config that trains a small YOLOv2 for twelve steps on ``tiny_voc``."""
    path = tmp_path / "small.yaml"
    path.write_text(SMALL_CONFIG.format(root=tiny_voc))
    return path
