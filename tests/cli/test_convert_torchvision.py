"""`detkit convert` of torchvision's files as typed: what it says, and what can be done after it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch

from detkit.cli import main
from tests.weights.torchvision_models import save_weights, torchvision_model

MOBILE = "faster_rcnn_mobilenet_v3_large_320_fpn_coco"
V1 = "faster_rcnn_resnet50_fpn_coco"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training of cats and dogs on torchvision's smallest detector, and a list of their names."""
    folder = tmp_path_factory.mktemp("torchvision")
    save_weights(torchvision_model(MOBILE, outputs=3), folder / "pets.pth")
    (folder / "pets.names").write_text("cat\ndog\n")
    (folder / "page.pth").write_text("<html>moved</html>")
    return folder


def test_what_is_said_and_what_can_be_done_with_it(
    folder: Path,
    tiny_voc: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder)
    out = tmp_path / "pets"
    words = ["convert", "pets.pth", "--model", MOBILE, "--names", "pets.names", "--out", str(out)]
    assert main([*words, "model.min_size=160", "model.max_size=320"]) == 0
    saved = torch.load("pets.pth", weights_only=True)
    frozen = {k.rpartition(".")[0] for k in saved if k.endswith("running_var")}
    learned = sum(t.numel() for k, t in saved.items() if k.rpartition(".")[0] not in frozen)
    digest = hashlib.sha256(Path("pets.pth").read_bytes()).hexdigest()
    assert capsys.readouterr().out.splitlines() == [
        f"pets.pth: taken for faster_rcnn_fpn, as --model says ({MOBILE} of the zoo)",
        f"  network   faster_rcnn_fpn on backbone mobilenet_v3_large_pair: {len(saved)} tensors, "
        f"{learned:,} parameters",
        f"  file      {Path('pets.pth').stat().st_size:,} bytes, "
        f"{sum(t.numel() for t in saved.values()):,} numbers, sha256 {digest[:16]}...",
        "  classes   2: cat, dog",
        "  input     shorter side 160 pixels, longer one at most 320",
        f"written: {out}",
        f"Next: detkit detect IMAGE --weights {out}; to train it on photos of your own: detkit "
        f"train finetune data.root=FOLDER train.start={out}",
    ]

    image, found = tiny_voc / "JPEGImages" / "000001.jpg", tmp_path / "found"
    words = ["detect", str(image), "--weights", str(out), "--out", str(found), "--device", "cpu"]
    assert main([*words, "--score-threshold", "0.05"]) == 0
    detections = json.loads((found / "detections.json").read_text())
    assert {each["category"] for each in detections} <= {"cat", "dog"}
    assert detections
    words = ["eval", str(out), "data.format=voc", f"data.root={tiny_voc}", "data.split=test"]
    assert main([*words, "--no-speed", "--no-cache", "--device", "cpu"]) == 0
    capsys.readouterr()

    assert main(["convert", str(out), "--to", "darknet", "--out", "back.weights"]) == 2
    assert capsys.readouterr().err == (
        f"detkit convert: {out}: no darknet file can be written: faster_rcnn_fpn is none of "
        "darknet's detectors. Only YOLO on darknet's layers can be exported.\n"
    )
    assert not Path("back.weights").exists()


def test_a_note_is_a_line(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "pets"
    assert main(["convert", str(folder / "pets.pth"), "--model", MOBILE, "--out", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[3] == "  classes   2: class_1, class_2"
    assert lines[5] == "  note: the 2 classes have no names; --names FILE gives them some."


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["none.pth"], "none.pth: no such file. Name a .pth file of torchvision's weights."),
        (
            ["page.pth", "--model", V1],
            "page.pth: this is a web page of 18 bytes, not weights. Download the file again.",
        ),
        (
            ["pets.pth", "--cfg", "pets.cfg"],
            "--cfg: for files of darknet's, and pets.pth is one of PyTorch's; say what it is with "
            "--model NAME.",
        ),
        (
            ["pets.pth", "--list"],
            "--list: for files of darknet's, and pets.pth is one of PyTorch's; say what it is with "
            "--model NAME.",
        ),
        (
            ["pets", "--model", MOBILE, "--names", "none.names"],
            "none.names: cannot be read (No such file or directory).",
        ),
        (
            ["pets.weights", "--model", V1],
            f"--model {V1}: its weights are no file of darknet's, but torchvision's "
            "fasterrcnn_resnet50_fpn_coco-258fb6c6.pth.",
        ),
        (
            ["pets.pth", "--to", "darknet"],
            "pets.pth: is a file; --to darknet takes a run or checkpoint folder.",
        ),
    ],
)
def test_mistakes_get_one_sentence_and_exit_code_2(
    words: list[str],
    sentence: str,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("pets", "pets.weights"):  # a file of PyTorch's under other names
        (tmp_path / name).write_bytes((folder / "pets.pth").read_bytes())
    for name in ("pets.pth", "page.pth"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    monkeypatch.chdir(tmp_path)
    assert main(["convert", *words, "--out", "out"]) == 2
    assert capsys.readouterr().err == f"detkit convert: {sentence}\n"
    assert not Path("out").exists()


def test_help_tells_of_both_kinds(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["convert", "--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert "detkit convert SOURCE.pth [--model NAME] [--names FILE] --out DIR" in said
    assert f"detkit convert FILE.pth --model {V1} --out runs/faster" in said
