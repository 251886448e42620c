"""What importing costs: fresh interpreters, and what they hold afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import detkit

ROOT = Path(__file__).parents[1]
HEAVY = (
    "torch",
    "torchvision",
    "numpy",
    "cv2",
    "albumentations",
    "pycocotools",
    "matplotlib",
    "numba",
    "pydantic",
    "rich",
    "PIL",
    "sklearn",
)


def modules_after(code: str) -> set[str]:
    """Top-level modules (and torchvision's parts) that a fresh interpreter holds after ``code``."""
    run = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\nprint('MODULES', *sys.modules)"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(run.stdout.rsplit("MODULES", 1)[1].split())


def test_import_detkit_imports_nothing_heavy() -> None:
    assert not modules_after("import detkit") & set(HEAVY)


@pytest.mark.parametrize(
    "command", ["train", "recipes", "eval", "detect", "anchors", "data", "proposals"]
)
def test_help_and_usage_errors_import_nothing_heavy(command: str) -> None:
    for words in (["--help"], ["--no-such-flag"]):
        code = (
            "from detkit.cli import main\n"
            f"try:\n    main([{command!r}, *{words}])\nexcept SystemExit:\n    pass"
        )
        assert not modules_after(code) & set(HEAVY)


@pytest.mark.parametrize("backbone", ["darknet19", "darknet_tiny", "tiny"])
def test_building_a_yolo_imports_no_other_library(backbone: str) -> None:
    code = (
        "import detkit\n"
        f"detkit.build_detector(dict(name='yolo_v2', num_classes=2, backbone={backbone!r}))"
    )
    held = modules_after(code)
    assert "torch" in held
    for module in (
        "torchvision",
        "albumentations",
        "pycocotools",
        "matplotlib",
        "cv2",
        "numba",
        "sklearn",
    ):
        assert module not in held, module


def test_reading_a_config_imports_no_albumentations() -> None:
    code = (
        "from pathlib import Path\n"
        "from detkit.experiment.read import read_experiment\n"
        "read_experiment(Path('configs/yolo_v2_voc.yaml'))"
    )
    assert not modules_after(code) & {"albumentations", "cv2", "torchvision", "matplotlib"}


def test_albumentations_asks_no_network() -> None:
    code = (
        "import os\nimport detkit.data.darknet_augment\n"
        "assert os.environ['NO_ALBUMENTATIONS_UPDATE'] == '1'"
    )
    assert "albumentations" in modules_after(code)


def test_every_public_name_resolves() -> None:
    assert set(detkit.__all__) == set(detkit.PUBLIC)
    for name in detkit.__all__:
        assert not isinstance(getattr(detkit, name), ModuleType), (
            name
        )  # a room of that name hides it
    assert set(detkit.__all__) <= set(dir(detkit))
    with pytest.raises(AttributeError) as caught:
        _ = detkit.nothing
    assert str(caught.value) == "module 'detkit' has no attribute 'nothing'"
