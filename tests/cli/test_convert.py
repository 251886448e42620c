"""`detkit convert` as typed: what it says, what it leaves, and the commands that come after it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from detkit.cli import main
from tests.weights.cfgs import cfg_text
from tests.weights.plain_darknet import LONG_HEADER, plan, write_random

SIZE = (64, 64)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weight file of tiny YOLOv2 for cats and dogs, its text and its list of names."""
    folder = tmp_path_factory.mktemp("darknet")
    write_random(folder / "pets.weights", plan("yolov2-tiny-voc", SIZE, 2), LONG_HEADER)
    (folder / "pets.cfg").write_text(cfg_text("yolov2-tiny-voc", size=SIZE, classes=2))
    (folder / "pets.names").write_text("cat\ndog\n")
    return folder


def test_there_and_back_and_what_is_said(
    folder: Path,
    tiny_voc: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder)
    out = tmp_path / "pets"
    words = ["convert", "pets.weights", "--cfg", "pets.cfg", "--names", "pets.names"]
    assert main([*words, "--out", str(out), "model.score_threshold=0.01"]) == 0
    lines = capsys.readouterr().out.splitlines()
    digest = hashlib.sha256(Path("pets.weights").read_bytes()).hexdigest()
    # 3 x 3 and 1 x 1 weights, two numbers a channel learned of four; 35 outputs with a bias
    shapes = [(3, 16), (16, 32), (32, 64), (64, 128), (128, 256), (256, 512), (512, 1024)]
    shapes += [(1024, 1024)]
    weights = sum(9 * a * b for a, b in shapes) + 1024 * 35 + 35
    channels = sum(b for _, b in shapes)
    numbers, learned = weights + 4 * channels, weights + 2 * channels
    compared = lines.pop(6)
    assert compared.startswith(
        "  compared  the network as the cfg describes it computes the same (largest difference "
    )
    assert lines == [
        "pets.weights: taken for yolo_v2_tiny, as pets.cfg describes it",
        f"  network   yolo_v2_tiny on backbone darknet_tiny: 9 layers with weights, {learned:,} "
        "parameters",
        f"  file      {20 + 4 * numbers:,} bytes, {numbers:,} numbers, sha256 {digest[:16]}...",
        "  header    version 0.2.0 in 20 bytes, 32,013,312 images seen in training",
        "  classes   2: cat, dog",
        "  input     64 x 64 pixels (height x width), images letterboxed",
        f"written: {out}",
        f"Next: detkit detect IMAGE --weights {out}; to train it on photos of your own: detkit "
        f"train finetune data.root=FOLDER train.start={out}",
    ]

    photo, found = tiny_voc / "JPEGImages" / "000001.jpg", tmp_path / "found"
    words = ["detect", str(photo), "--weights", str(out), "--out", str(found), "--device", "cpu"]
    assert main([*words, "--score-threshold", "0.02"]) == 0
    detections = json.loads((found / "detections.json").read_text())
    assert {each["category"] for each in detections} <= {"cat", "dog"}
    assert detections
    words = ["eval", str(out), "data.format=voc", f"data.root={tiny_voc}", "data.split=test"]
    assert main([*words, "--no-speed", "--no-cache", "--device", "cpu"]) == 0
    capsys.readouterr()

    assert main(["convert", str(out), "--to", "darknet", "--out", "back.weights"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{out}: yolo_v2_tiny on backbone darknet_tiny, 2: cat, dog",
        "  header    version 0.2.0 in 20 bytes, 32,013,312 images seen in training",
        "  input     images letterboxed",
        "  the same bytes as pets.weights, which it was imported from",
        f"written: back.weights, {20 + 4 * numbers:,} bytes",
        "Next: detkit convert back.weights --cfg FILE --out DIR takes it in again; "
        "darknet reads it with the .cfg of this network",
    ]
    assert Path("back.weights").read_bytes() == Path("pets.weights").read_bytes()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["a.weights", "b.weights"], "expected one file or folder to convert; got a.weights, "
         "b.weights."),
        (["model.input_size=96"], "expected one file or folder to convert; got none."),
        (
            ["."],
            ".: is a folder; name a .weights or .pth file, or write one of this folder with --to "
            "darknet.",
        ),
        (
            ["pets.weights", "--to", "darknet"],
            "pets.weights: is a file; --to darknet takes a run or checkpoint folder.",
        ),
        (
            [".", "--to", "darknet", "--cfg", "pets.cfg"],
            "--cfg: not for --to darknet; a checkpoint knows what it is.",
        ),
        (
            [".", "--to", "darknet", "data.classes=[a]"],
            "data.classes=[a]: not for --to darknet; a checkpoint knows what it is.",
        ),
        (
            [".", "--to", "darknet"],
            ".: no checkpoint here; expected a run folder, or a folder with model.json and "
            "weights.safetensors.",
        ),
        (["none.weights"], "none.weights: no such file. Name a .weights file of darknet."),
        (
            ["pets.weights", "--cfg", "pets.cfg", "--model", "yolo_v2_voc"],
            "--cfg and --model both say what the file is; give one of them.",
        ),
        (
            ["pets.weights", "--model", "yolo_v2_tiny"],
            "zoo: nothing is named 'yolo_v2_tiny'. Did you mean 'yolo_v2_tiny_voc'?",
        ),
    ],
)  # fmt: skip
def test_mistakes_get_one_sentence_and_exit_code_2(
    words: list[str],
    sentence: str,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder)
    assert main(["convert", *words, "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == f"detkit convert: {sentence}\n"
    assert not (tmp_path / "out").exists()


def test_help_answers_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["convert", "--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert "detkit convert SOURCE.weights [--cfg FILE | --model NAME] --out DIR" in said
    assert "detkit convert CHECKPOINT --to darknet --out FILE.weights" in said
