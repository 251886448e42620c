"""The anchors command: its figures against loops, its edits of a config, its errors in full."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from detkit.cli.anchors import (
    Canvas,
    main,
    measure,
    replace_in_model,
    sizes_in_cells,
    write_anchors,
)
from detkit.config import read_config
from detkit.data import read_dataset
from detkit.errors import ConfigError
from tests.oracles import voc_xml, write_voc

NEW = torch.tensor([[1.0, 2.0], [3.25, 4.5]])
NEW_YAML = "[[1, 2], [3.25, 4.5]]"


@pytest.fixture
def config(tiny_voc: Path, tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "# a recipe\n"
        "model:\n"
        "  name: yolo_v2  # the paper's\n"
        "  backbone: tiny\n"
        "  input_size: 128\n"
        "  anchors_cells: [[1, 1], [2, 2]]  # by eye\n"
        "\n"
        "data:\n"
        f"  train: [{{format: voc, root: {tiny_voc}, split: trainval}}]\n"
        "train: {epochs: 1}\n"
    )
    return path


def told(capsys: pytest.CaptureFixture[str], *words: str | Path) -> str:
    assert main([str(word) for word in words]) == 2
    return capsys.readouterr().err


# ------------------------------------------------------------------------------- figures


def test_sizes_are_those_on_the_letterboxed_canvas(tmp_path: Path) -> None:
    folder = write_voc(tmp_path, {"wide": voc_xml([("cat", (1, 1, 40, 30))])})  # 60 x 80 pixels
    boxes = read_dataset({"format": "voc", "root": folder, "split": "trainval"})
    sizes = sizes_in_cells(boxes, Canvas((160, 160), 32, NEW))
    assert sizes.tolist() == [[40 * 2 / 32, 30 * 2 / 32]]  # 80 wide becomes 160 wide


def test_measures_against_a_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    sizes, anchors = (
        torch.rand(50, 2, generator=generator) * 5,
        torch.rand(4, 2, generator=generator),
    )
    best, owners = [], []
    for w, h in sizes.tolist():
        ious = []
        for aw, ah in anchors.tolist():
            inter = min(w, aw) * min(h, ah)
            ious.append(inter / (w * h + aw * ah - inter))
        best.append(max(ious))
        owners.append(ious.index(max(ious)))
    fit = measure(sizes, anchors)
    assert fit.average_iou == pytest.approx(np.mean(best))
    assert fit.recall == pytest.approx(np.mean([iou >= 0.5 for iou in best]))
    assert fit.shares.tolist() == pytest.approx([owners.count(a) / 50 for a in range(4)])


def test_report_speaks_of_training_boxes_only(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the five boxes in trainval one is difficult: four are left, and each its own anchor."""
    assert main([str(config), "-k", "4"]) == 0
    said = capsys.readouterr().out
    assert said.startswith(
        f"{config}: 4 training boxes on a canvas of 128 x 128 pixels (height x width), "
        "32 pixels a cell; difficult boxes left out\n"
    )
    rows = [line.split() for line in said.splitlines() if line.strip().startswith("k-means")]
    assert rows == [["k-means", "(4)", "100.0%", "100.0%"]]
    anchors = yaml.safe_load(said[said.index("model:") :])["model"]["anchors_cells"]
    scale = 128 / 80 / 32  # from the image to cells
    expected = [[20, 30], [51, 41], [40, 30], [40, 50]]
    expected = sorted(([w * scale, h * scale] for w, h in expected), key=np.prod)
    np.testing.assert_allclose(anchors, expected, rtol=1e-3)


def test_as_many_anchors_as_the_config_has_and_the_same_each_time(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(config), "--seed", "3"]) == 0
    first = capsys.readouterr().out
    assert main([str(config), "--seed", "3"]) == 0
    assert capsys.readouterr().out == first
    assert "k-means (2)" in first


def test_picture(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(config), "--draw", str(tmp_path / "anchors.png")]) == 0
    assert f"drawn: {tmp_path / 'anchors.png'}" in capsys.readouterr().out
    with Image.open(tmp_path / "anchors.png") as picture:
        assert picture.width > picture.height > 200


# ------------------------------------------------------------------------------- writing


def test_written_anchors_leave_the_rest_of_the_file_alone(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = config.read_text()
    assert main([str(config), "--write", str(config)]) == 0
    assert f"written: model.anchors_cells in {config}" in capsys.readouterr().out
    old, new = before.splitlines(), config.read_text().splitlines()
    changed = [index for index, lines in enumerate(zip(old, new, strict=True)) if len({*lines}) > 1]
    assert changed == [5]
    assert new[5].startswith("  anchors_cells: [[")
    assert new[5].endswith("]]  # by eye")
    assert list(config.parent.glob(".*")) == []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            "model:\n  a: 1  # one\n\ntrain: {b: 2}\n",
            f"model:\n  a: 1  # one\n  anchors_cells: {NEW_YAML}\n\ntrain: {{b: 2}}\n",
        ),
        ("model:\n    a: 1", f"model:\n    a: 1\n    anchors_cells: {NEW_YAML}"),
        ("model: {a: 1}  # one\n", f"model: {{a: 1, anchors_cells: {NEW_YAML}}}  # one\n"),
        (
            "model:\n  anchors_cells:\n    - [1, 1]\n    - [2, 2]  # two\n  # after\n  a: 1\n",
            f"model:\n  anchors_cells:\n    {NEW_YAML}  # two\n  # after\n  a: 1\n",
        ),
        (
            "model:\n  anchors_cells: [[1, 1],\n    [2, 2]]\n  a: 1\n",
            f"model:\n  anchors_cells: {NEW_YAML}\n  a: 1\n",
        ),
        ("train: {b: 2}\n", f"train: {{b: 2}}\n\nmodel:\n  anchors_cells: {NEW_YAML}\n"),
        (
            "model:\n  a:\n    - 1\n    - 2 # two\n# next\ntrain: {}\n",
            "model:\n  a:\n    - 1\n    - 2 # two\n"
            f"  anchors_cells: {NEW_YAML}\n# next\ntrain: {{}}\n",
        ),
    ],
)
def test_every_layout_of_a_model_block(before: str, after: str, tmp_path: Path) -> None:
    assert replace_in_model(before, NEW_YAML) == after
    path = tmp_path / "a.yaml"
    path.write_text(before)
    write_anchors(path, NEW)
    assert path.read_text() == after
    assert read_config(path)[0]["model"]["anchors_cells"] == NEW.tolist()


def test_a_block_that_stands_in_the_base_is_added(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("model: {a: 1}\n")
    (tmp_path / "top.yaml").write_text("base: base.yaml\n")
    write_anchors(tmp_path / "top.yaml", NEW)
    settings, _ = read_config(tmp_path / "top.yaml")
    assert settings == {"model": {"a": 1, "anchors_cells": NEW.tolist()}}
    assert (tmp_path / "base.yaml").read_text() == "model: {a: 1}\n"


def test_an_empty_model_block_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("model:\ntrain: {}\n")
    with pytest.raises(ConfigError) as caught:
        write_anchors(path, NEW)
    assert str(caught.value) == f"{path}: model: expected a block of keys; got nothing."
    assert path.read_text() == "model:\ntrain: {}\n"


# -------------------------------------------------------------------------------- errors


def test_missing_config(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gone = tmp_path / "gone.yaml"
    assert told(capsys, gone) == f"detkit anchors: {gone}: no such config file.\n"


def test_more_anchors_than_boxes(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys, config, "-k", "5") == (
        "detkit anchors: k = 5: expected 1 to 4, the number of different sizes; "
        "ask for fewer clusters or give more boxes\n"
    )


def test_unknown_backbone(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys, config, "model.backbone=tini") == (
        "detkit anchors: no backbone named 'tini'. Did you mean 'tiny'?\n"
    )


def test_config_without_training_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("model: {name: yolo_v2}\ntrain: {epochs: 1}\n")
    assert told(capsys, path) == (
        "detkit anchors: data.train: missing; name what to train on, e.g. {format, root, split}.\n"
    )


def test_data_without_boxes(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_voc(config.parent / "empty", {"000001": voc_xml([])})
    said = told(capsys, config, f"data.root={root}", "data.classes=[cat]")
    assert said == (
        "detkit anchors: data.train: no boxes to cluster; check data.root and data.split.\n"
    )


def test_picture_of_an_unknown_kind(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = told(capsys, config, "--draw", config.parent / "a.nopicture")
    assert said.startswith(f"detkit anchors: --draw {config.parent / 'a.nopicture'}: cannot be ")


def test_config_to_write_to_is_missing(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gone = config.parent / "mime.yaml"
    assert told(capsys, config, "--write", gone) == (
        f"detkit anchors: {gone}: no such config file. Did you mean 'mine.yaml'?\n"
    )


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from detkit.cli.anchors import main\n"
        "try:\n"
        "    main(['--help'])\n"
        "except SystemExit:\n"
        "    pass\n"
        "heavy = {'torch', 'numpy', 'torchvision', 'matplotlib', 'pydantic', 'yaml', 'rich'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.splitlines()[-1] == "[]"
