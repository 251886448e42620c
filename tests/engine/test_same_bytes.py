"""Trained twice, every detector has the same weights, to the byte."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from detkit.detectors import DETECTORS
from detkit.engine.train import train
from tests.test_overfit import FORMS

REGIONS = {"mode": "single", "scales": [30], "most": 40}  # of the small images; no box is dropped
CONFIG = """\
model: {model}
data:
  workers: 0
  train: [{{format: voc, root: {root}, split: trainval}}]
  eval: [{{format: voc, root: {root}, split: test}}]
train:
  {{iterations: 2, batch_size: 2, lr: 1.0e-3, average_decay: 0.5, records: [], augment: {augment}}}
"""


@pytest.mark.parametrize("name", list(DETECTORS))
def test_two_trainings_give_the_same_bytes(name: str, tiny_voc: Path, tmp_path: Path) -> None:
    model = {**FORMS[name], "name": name}
    if DETECTORS[name].needs_proposals:
        model["proposals"] = REGIONS
    augment = {"placement": "crop"} if name.startswith("yolo_v1") else {}
    config = tmp_path / "config.yaml"
    blocks = {"model": json.dumps(model), "augment": json.dumps(augment)}
    config.write_text(CONFIG.format(**blocks, root=tiny_voc))
    weights, metrics = [], []
    for run in ("one", "two"):
        outcome = train(config, tmp_path / run)
        weights.append((outcome.folder / "last" / "weights.safetensors").read_bytes())
        metrics.append(outcome.metrics)
    assert weights[0] == weights[1]
    assert metrics[0] == metrics[1]
    assert "voc07_map" in metrics[0]
