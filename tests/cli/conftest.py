"""Fixtures of the tests of `detkit eval`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from detkit.detectors import build_detector
from tests.cli.measured import CLASSES, OBJECT, OBJECTS, XML


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own for each test; who edits detkit meanwhile changes no key."""
    monkeypatch.setenv("DETKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("detkit.evaluation.cached.PACKAGE", tmp_path / "no_code")
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def voc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three images in VOC's layout, the last without objects."""
    root = tmp_path_factory.mktemp("voc")
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    for number, (name, objects) in enumerate(OBJECTS.items()):
        said = "".join(OBJECT.format(kind, *box) for kind, box in objects)
        (root / f"Annotations/{name}.xml").write_text(XML.format(name=name, objects=said))
        pixels = np.random.default_rng(number).integers(0, 255, (40, 60, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f"JPEGImages/{name}.png")
    (root / "ImageSets/Main/test.txt").write_text("\n".join(OBJECTS) + "\n")
    return root


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory, voc: Path) -> Path:
    """A run folder with an untrained network, its classes in another order than the data's."""
    folder = tmp_path_factory.mktemp("runs") / "tiny_run"
    model = {"name": "yolo_v2", "backbone": "tiny", "num_classes": 2, "input_size": 64}
    model |= {"head_channels": 16, "score_threshold": 0.01}
    torch.manual_seed(0)
    detector = build_detector(model)
    (folder / "best").mkdir(parents=True)
    weights = {name: tensor.contiguous() for name, tensor in detector.state_dict().items()}
    save_file(weights, folder / "best" / "weights.safetensors")
    experiment = {
        "model": model,
        "data": {"eval": [{"format": "voc", "root": str(voc), "split": "test"}]},
        "train": {"epochs": 1},
    }
    described = {"format": 1, "experiment": experiment, "class_names": CLASSES[::-1], "step": 7}
    (folder / "best" / "model.json").write_text(json.dumps(described))
    return folder
