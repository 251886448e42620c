"""What the README names is there: public names, command words and flags, keys of configs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import detkit
from detkit.cli import main
from detkit.data import DATASETS
from detkit.detectors import DETECTORS
from detkit.experiment.config import DataConfig, EvalConfig, TrainConfig
from detkit.recipes import recipe_names

README = Path(__file__).parents[1] / "README.md"
TEXT = README.read_text("utf-8")
PUBLIC = {
    *("BACKBONES", "DATASETS", "DETECTORS", "Backbone", "Boxes", "ConfigError", "Detections"),
    *("Detector", "DetkitError", "EvalResult", "Target", "build_detector", "detect", "detect_all"),
    *("draw", "evaluate", "load", "read_image", "selective_search", "train"),
}
COMMANDS = {
    *("train", "eval", "detect", "anchors", "proposals", "convert", "recipes"),
    *("zoo list", "zoo check", "data check", "data convert", "data get"),
}
KEYS = {
    "data": {"root", "split", "format", "only", "classes", "cache"},
    "train": {"lr", "start", "batch_size", "save_every", "stages"},
    "eval": {"best", "voc_rule", "max_detections"},
    "model": {"backbone", "backbone_weights", "num_classes", "input_size", "min_size"},
}


def test_public_names_are_those_that_there_were() -> None:
    assert set(detkit.__all__) >= PUBLIC
    assert all(getattr(detkit, name) is not None for name in detkit.__all__)
    named = set(re.findall(r"detkit\.([A-Za-z_]+)\b(?!/)", TEXT)) - {"yaml"}
    assert {name for name in named if not hasattr(detkit, name)} <= {"git", "data"}


def words_of(command: str) -> list[str]:
    return [word for word in re.findall(r"\S+", command.split("#")[0]) if word != "\\"]


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_commands_are_those_that_there_were(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With every flag that the README gives them."""
    assert f"detkit {command}" in TEXT
    with pytest.raises(SystemExit) as ended:
        main([*command.split(), "--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    lines = [line for line in TEXT.splitlines() if line.startswith(f"detkit {command} ")]
    flags = {flag for line in lines for flag in words_of(line) if flag.startswith("--")}
    assert {flag for flag in flags if flag not in said} == set()


def test_every_command_of_the_readme_is_known() -> None:
    found = {
        " ".join(words_of(line)[1:3]) for line in TEXT.splitlines() if line.startswith("detkit ")
    }
    assert all(any(f"{words} ".startswith(f"{known} ") for known in COMMANDS) for words in found)


def test_keys_of_configs_are_those_that_there_were() -> None:
    entries = {key for each in DATASETS.entries().values() for key in each.config_type.model_fields}
    known = {
        "data": {*DataConfig.model_fields, *DataConfig.also_known, *entries},
        "train": {*TrainConfig.model_fields},
        "eval": {*EvalConfig.model_fields},
        "model": {key for name in DETECTORS for key in DETECTORS[name].config_type.model_fields},
    }
    for block, keys in KEYS.items():
        assert keys <= known[block], block
        named = set(re.findall(rf"\b{block}\.([a-z][a-z_]+)(?==|\b)", TEXT))
        files = {"json", "yaml", "py", "safetensors", "weights", "jpg", "xml"}
        assert named - files - known[block] <= {"name"}, block


def test_recipes_of_the_readme_are_there() -> None:
    named = set(re.findall(r"detkit train ([a-z][a-z0-9_]+)\b", TEXT))
    assert named <= {*recipe_names()}
