"""One dataset in four formats trains to the same bytes and is measured with the same figures."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from detkit.data import Annotations, read_dataset
from detkit.data.convert import convert
from detkit.engine.train import train

FORMATS = ("voc", "coco", "yolo", "csv")
CONFIG = """\
model: {{name: yolo_v2, backbone: tiny, head_channels: 16, input_size: 96}}
data:
  workers: 0
  classes: {classes}
  train: [{{format: {format}, root: {root}, split: train}}]
  eval: [{{format: {format}, root: {root}, split: test}}]
train:
  iterations: 8
  batch_size: 4
  optimizer: adamw
  lr: 3.0e-3
  log_every: 1
  save_every: 100
  average_decay: 0.9
"""


IMAGES = 6  # of each split


def some(data: Annotations, begin: int) -> Annotations:
    places = np.arange(len(data))
    return data.keep_images((places >= begin) & (places < begin + IMAGES))


def train_in(folder: Path, data_format: str, classes: list[str]) -> dict[str, object]:
    """What a training left that may not depend on the format: weights, losses, figures."""
    path = folder / f"{data_format}.yaml"
    root = folder / data_format
    path.write_text(CONFIG.format(classes=classes, format=data_format, root=root))
    outcome = train(path, folder / f"run_{data_format}", device="cpu")
    lines = (outcome.folder / "log.jsonl").read_text().splitlines()
    losses = [
        {key: value for key, value in json.loads(line).items() if key.startswith("loss")}
        for line in lines
    ]
    return {
        "weights": (outcome.folder / "last" / "weights.safetensors").read_bytes(),
        "losses": losses,
        "metrics": {k: v for k, v in outcome.metrics.items() if not math.isnan(v)},
    }


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize(
    ("entry", "splits"),
    [
        ({"format": "voc", "root": "bccd"}, ("trainval", "test")),
        ({"format": "coco", "root": "coco_mini"}, ("train2017", "val2017")),
        ({"format": "yolo", "root": "coco128"}, ("train2017", "train2017")),
    ],
    ids=["bccd", "coco_mini", "coco128"],
)
def test_the_format_changes_no_number(
    data_root: Path, tmp_path: Path, entry: dict[str, str], splits: tuple[str, str]
) -> None:
    """No format but COCO holds crowds, or areas other than the boxes': they are left out before."""
    source = {**entry, "root": data_root / entry["root"]}
    names = read_dataset({**source, "split": splits[0]}).class_names
    parts = {}
    for split, name in zip(("train", "test"), splits, strict=True):
        data = some(read_dataset({**source, "split": name}, names), IMAGES * (split == "test"))
        boxes = data.boxes[:, 2:] - data.boxes[:, :2]
        data = replace(data, area=boxes.prod(axis=1), segments=None)
        parts[split] = data.keep_rows(~data.crowd)
    for data_format in FORMATS:
        convert(parts, data_format, tmp_path / data_format, link=True)
    runs = {name: train_in(tmp_path, name, list(names)) for name in FORMATS}
    reference = runs["voc"]
    assert len(reference["losses"]) >= 8  # type: ignore[arg-type]
    assert reference["metrics"]
    for name in FORMATS[1:]:
        assert runs[name]["losses"] == reference["losses"], name
        assert runs[name]["weights"] == reference["weights"], name
        assert runs[name]["metrics"] == reference["metrics"], name
