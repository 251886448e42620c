"""A small experiment on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

CONFIG = """\
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
    path.write_text(CONFIG.format(root=tiny_voc))
    return path
