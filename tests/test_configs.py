"""Every recipe parses and builds, and says where it comes from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

from detkit.data import DATASETS
from detkit.detectors import build_detector
from detkit.engine.experiment import read_experiment

FOLDER = Path(__file__).parents[1] / "configs"
RECIPES = sorted(FOLDER.glob("*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipe_parses_and_builds(path: Path) -> None:
    experiment, _ = read_experiment(path)
    model = {"num_classes": len(experiment.data.classes) or 6, **experiment.model}
    with torch.device("meta"):
        detector = build_detector(model)
    assert sum(parameter.numel() for parameter in detector.parameters()) > 0
    entries = experiment.data.train + experiment.data.eval
    assert entries
    for entry in entries:
        assert entry["format"] in set(DATASETS)
    assert path.read_text(encoding="utf-8").startswith("# ")


def test_recipe_names_begin_with_their_detector() -> None:
    for path in RECIPES:
        model = yaml.safe_load(path.read_text(encoding="utf-8"))["model"]
        assert path.stem == "quickstart" or path.stem.startswith(model["name"])


def test_bases_have_no_base() -> None:
    for path in sorted((FOLDER / "base").glob("*.yaml")):
        assert "base" not in yaml.safe_load(path.read_text(encoding="utf-8"))
