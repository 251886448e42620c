"""The commands as typed: exit codes, lines, files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from detkit.cli import main
from tests.conftest import SMALL_CONFIG


@pytest.fixture
def small_config(tiny_voc: Path, tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(SMALL_CONFIG.format(root=tiny_voc))
    return path


def test_commands_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in ("train", "eval", "detect", "anchors"))
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == "detkit 0.1.0\n"
    assert main(["trian"]) == 2
    assert capsys.readouterr().err == "detkit: no command 'trian'. Did you mean 'train'?\n"


def test_train_then_detect(
    small_config: Path, tiny_voc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out = tmp_path / "run", tmp_path / "found"
    words = ["train", "--out", str(run), str(small_config), "train.iterations=3", "--device", "cpu"]
    assert main(words) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("done. Next: detkit eval")
    words = ["detect", str(tiny_voc / "JPEGImages"), "--weights", str(run), "--out", str(out)]
    assert main([*words, "--score-threshold", "0.02", "--device", "cpu"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 7
    assert all(" ms)" in line for line in lines[:6])
    first, *others = json.loads((out / "detections.json").read_text())
    assert {Path(each["path"]).stem for each in (first, *others)} <= {
        f"00000{i}" for i in range(1, 7)
    }
    assert first["image_id"] == Path(first["path"]).stem
    assert first["category"] in ("cat", "dog")
    x, y, width, height = first["bbox"]
    assert 0 <= x < x + width <= 80
    assert 0 <= y < y + height <= 60
    with Image.open(out / "000001.jpg") as picture:
        assert picture.size == (80, 60)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["train", "configs/quikstart.yaml"],
            "configs/quikstart.yaml: no such config file. Did you mean 'quickstart.yaml'?",
        ),
        (
            ["train", "configs/quickstart.yaml", "model.backbone=resnet5", "--out", "{tmp}"],
            "no backbone named 'resnet5'. Did you mean 'resnet50'?",
        ),
        (
            ["train", "configs/quickstart.yaml", "--device", "gpu"],
            "--device gpu: no such device; use cpu, cuda or cuda:1.",
        ),
        (
            ["train", "configs/quickstart.yaml", "train.lr"],
            "'train.lr': expected KEY=VALUE, for example train.lr=0.001.",
        ),
        (
            ["detect", "nothing.jpg", "--weights", "w", "--out", "o"],
            "nothing.jpg: no image there; give an image, a folder, a glob, a zip, a video, a URL "
            "or camera:0.",
        ),
    ],
)
def test_mistakes_get_one_sentence_and_exit_code_2(
    words: list[str],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])
    words = [word.format(tmp=tmp_path / "run") for word in words]
    if "model.backbone=resnet5" in words:
        words += ["data.root=" + str(tmp_path / "shapes")]
    assert main(words) == 2
    assert capsys.readouterr().err == f"detkit {words[0]}: {sentence}\n"


def test_missing_data_says_which_folder_and_how_to_get_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = Path(__file__).parents[2] / "configs" / "yolo_v2_voc.yaml"
    monkeypatch.chdir(tmp_path)
    assert main(["train", str(config)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "data/VOCdevkit" in said
    assert "data.root=" in said


@pytest.mark.parametrize("command", ["train", "anchors", "proposals"])
def test_without_words_only_the_config_is_missing(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command])
    assert ended.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"detkit {command}: error: the following arguments are required: config"
    )
