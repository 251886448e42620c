"""What a run says of its data before it begins."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from detkit.data import read_dataset
from detkit.detectors import build_detector
from detkit.engine.tasks.detection import data_warnings
from detkit.engine.train import train
from tests.oracles import voc_xml, write_voc

CONFIG = Path("runs/mine/config.yaml")


def yolo(anchors: list[list[float]]) -> object:
    return build_detector(
        {
            **{"name": "yolo_v3_tiny", "backbone": "tiny", "num_classes": 2, "input_size": 64},
            **{"head_channels": [8, 4], "anchors": anchors},
        }
    )


def test_anchors_that_fit_are_no_news_and_others_are(tiny_voc: Path) -> None:
    """On a canvas of 64 the images of 80 x 60 are 0.8 times as large."""
    data = read_dataset({"format": "voc", "root": str(tiny_voc), "split": "trainval"})
    sides = (data.boxes[:, 2:] - data.boxes[:, :2])[~data.difficult] * 0.8
    own = sides[:4].tolist()
    fits = [*own, *own][:6]
    assert list(data_warnings(yolo(fits), data, None, CONFIG)) == []  # type: ignore[arg-type]
    tiny = [[1.0, 1.0], [1.5, 1.0], [1.0, 1.5], [2.0, 2.0], [2.5, 2.0], [2.0, 2.5]]
    ious = (2.5 * 2.0 / sides.prod(axis=1)).round(6)  # the largest lies inside every object
    (line,) = data_warnings(yolo(tiny), data, None, CONFIG)  # type: ignore[arg-type]
    assert line == (
        "warning: the anchors reach 0% of the objects of train at an IoU of 0.5 (mean IoU "
        f"{ious.mean():.2f}); `detkit anchors runs/mine/config.yaml` prints others, for "
        "model.anchors"
    )


def test_pictures_that_are_learned_from_and_measured_are_told(
    small_config: Path, tiny_voc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The gravest of `detkit data check`, at the start of a training, and once."""
    pictures = tiny_voc / "JPEGImages"
    first, second = sorted(pictures.iterdir())[0], sorted(pictures.iterdir())[-1]
    shutil.copyfile(first, second)
    train(small_config, tmp_path / "run", ["train.iterations=1"])
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning: ")]
    assert said[0].startswith("warning: 1 image of train stands in eval as well, so a figure")
    assert any("the anchors reach " in line for line in said)
    train(small_config, tmp_path / "run", ["train.iterations=2"], resume=True)
    assert "warning: " not in capsys.readouterr().out


def test_of_a_single_image_nothing_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It cannot be parted; no figure of no image is printed."""
    root = write_voc(tmp_path / "one", {"a": voc_xml([("cat", (1, 1, 40, 30))])})
    config = tmp_path / "one.yaml"
    entry = f"format: voc, root: {root}, split: trainval"
    config.write_text(
        "model: {name: yolo_v2_tiny, backbone: tiny, input_size: 64, head_channels: 4}\n"
        f"data: {{workers: 0, train: [{{{entry}, part: train}}], "
        f"eval: [{{{entry}, part: eval}}]}}\n"
        "train: {iterations: 1, batch_size: 1, records: []}\n"
    )
    assert train(config, tmp_path / "run").metrics == {}
    said = capsys.readouterr().out
    assert "eval:  no image is left to measure on, so nothing is measured\n" in said
    assert "nan" not in said


def test_large_sets_are_left_to_the_command(
    tiny_voc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("detkit.engine.tasks.detection.MOST_IMAGES", 3)
    data = read_dataset({"format": "voc", "root": str(tiny_voc), "split": "trainval"})
    (line,) = data_warnings(yolo([[1.0, 1.0]] * 6), data, None, CONFIG)  # type: ignore[arg-type]
    assert line == (
        "data: 4 images are not examined here; detkit data check runs/mine/config.yaml does it"
    )
