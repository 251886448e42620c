"""Every recipe parses and builds, and says where it comes from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

from detkit.data import DATASETS
from detkit.detectors import build_detector
from detkit.engine.stages import Training, plan_stages
from detkit.engine.start_model import complete_model
from detkit.engine.tasks.detection import DetectionTask
from detkit.experiment.read import read_experiment

FOLDER = Path(__file__).parents[1] / "configs"
RECIPES = sorted(FOLDER.glob("*.yaml"))


def own_photos(path: Path, folder: Path) -> list[str]:
    """What a recipe for photos of one's own needs to be told."""
    return [f"data.root={folder}"] if path.stem == "finetune" else []


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipe_parses_and_builds(path: Path, tiny_voc: Path) -> None:
    experiment, _ = complete_model(*read_experiment(path, own_photos(path, tiny_voc)))
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
    """The backbone may stand within: faster_rcnn_resnet50_fpn_coco is a faster_rcnn_fpn."""
    for path in RECIPES:
        model = yaml.safe_load(path.read_text(encoding="utf-8"))["model"]
        if path.stem in ("quickstart", "finetune"):  # the latter has the model of what it tunes
            continue
        plain = path.stem.replace(f"_{model.get('backbone', '')}_", "_")
        names = (path.stem, plain)
        assert any(name.startswith(model["name"]) for name in names)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipe_can_be_begun(path: Path, tiny_voc: Path, tmp_path: Path) -> None:
    """Every part it freezes is there, something learns, and each of its stages builds."""
    experiment, origins = complete_model(*read_experiment(path, own_photos(path, tiny_voc)))
    stages = plan_stages(Training(experiment, origins, tmp_path), DetectionTask())
    assert len(stages) == max(len(experiment.train.stages), 1)
    assert stages[-1].folder == tmp_path


def test_bases_have_no_base() -> None:
    for path in sorted((FOLDER / "base").glob("*.yaml")):
        assert "base" not in yaml.safe_load(path.read_text(encoding="utf-8"))
