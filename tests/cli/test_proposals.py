"""The proposals command: its table and files, what it takes up again, its errors in full."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from detkit.cli.eval import main as evaluate
from detkit.cli.proposals import main
from detkit.data import read_dataset
from detkit.detectors import build_detector
from detkit.image import read_image
from detkit.proposals.selective_search import ProposalConfig
from detkit.types import Boxes

CONFIG = """\
model: {{name: yolo_v2, backbone: tiny, input_size: 64}}
data:
  workers: 0
  proposals: {store}
  train: [{{format: voc, root: {root}, split: trainval}}]
  eval: [{{format: voc, root: {root}, split: test}}]
train: {{epochs: 1}}
"""
SINGLE = ["proposals.mode=single", "proposals.scales=[30]", "proposals.most=40"]
RCNN = {
    **{"name": "rcnn", "backbone": "tiny", "head": "fc", "head_size": 1, "head_width": 8},
    **{"warp_size": 64, "context_padding": 4},
    "proposals": {"mode": "single", "scales": [30], "most": 12},
}
FASTER = {
    **{"name": "faster_rcnn", "backbone": "tiny", "min_size": 64, "max_size": 96},
    **{"roi_head": "mlp", "roi_size": 2, "head_width": 8, "rpn_channels": 8},
    **{"post_nms_test": 7, "rpn_min_side": 1},
}


@pytest.fixture
def config(tiny_voc: Path, tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(CONFIG.format(root=tiny_voc, store=tmp_path / "store"))
    return path


def checkpoint(folder: Path, model: dict[str, Any], root: Path, store: Path) -> Path:
    """A run folder with an untrained detector of cats and dogs."""
    torch.manual_seed(0)
    settings = {**model, "num_classes": 2}
    detector = build_detector(settings)
    (folder / "best").mkdir(parents=True)
    weights = {name: tensor.contiguous() for name, tensor in detector.state_dict().items()}
    save_file(weights, folder / "best" / "weights.safetensors")
    entry = {"format": "voc", "root": str(root), "split": "test"}
    experiment = {
        "model": settings,
        "data": {"eval": [entry], "proposals": str(store), "workers": 0},
        "train": {"epochs": 1},
    }
    described = {"format": 1, "experiment": experiment, "class_names": ["cat", "dog"], "step": 7}
    (folder / "best" / "model.json").write_text(json.dumps(described))
    return folder


def records_in(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((folder / "proposals.json").read_text())
    return found


def test_a_split_is_searched_measured_told_and_drawn(
    config: Path, tiny_voc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main([str(config), *SINGLE, "--split", "both", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "train: proposals: 4 images, " in said
    assert "eval: proposals: 2 images, " in said  # of which training had the same files
    train, test = records_in(out)
    assert (train["split"], test["split"]) == ("train", "eval")
    for record, split in ((train, "trainval"), (test, "test")):
        data = read_dataset({"format": "voc", "root": str(tiny_voc), "split": split})
        scored = [row for row in range(len(data.boxes)) if not data.difficult[row]]
        best = []
        for row in scored:
            image = str(data.paths[data.image_of_row()[row]])
            boxes = ProposalConfig(mode="single", scales=(30.0,), most=40).find(read_image(image))
            best.append(max(slow_iou(box, data.boxes[row].tolist()) for box in boxes.tolist()))
        assert record["objects"] == len(scored)
        assert record["recall_0.5"] == pytest.approx(np.mean([value > 0.5 for value in best]))
        assert record["recall_0.7"] == pytest.approx(np.mean([value > 0.7 for value in best]))
        labels = data.labels[scored]
        abo = [np.mean([b for b, k in zip(best, labels, strict=True) if k == c]) for c in {*labels}]
        assert record["mabo"] == pytest.approx(np.mean(abo), abs=1e-6)
        assert record["settings"]["mode"] == "single"
        assert record["ms"] > 0
        assert record["curve"]["mabo"][-1] == record["mabo"]
        row = next(line for line in said.splitlines() if line.startswith(record["split"] + "  "))
        figures = [f"{record[key]:.3f}" for key in ("recall_0.5", "recall_0.7", "mabo")]
        assert row.split()[-7:-1] == [
            *(str(record["images"]), str(record["objects"]), f"{record['boxes']:.0f}"),
            *figures,
        ]
    for split in ("train", "eval"):
        assert read_image(out / f"recall_{split}.png").shape[2] > 300


def slow_iou(a: list[float], b: list[float]) -> float:
    wide = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    high = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return wide * high / (sum(areas) - wide * high)


def test_the_eval_split_alone_is_the_default(
    config: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main([str(config), *SINGLE, "--processes", "1"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("eval: proposals: 2 images, ")
    assert "train" not in said
    (folder,) = (tmp_path / "store").iterdir()
    assert f"proposals are in {folder}\n" in said


def test_a_second_call_goes_on_from_the_first(
    config: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    find, searched = ProposalConfig.find, []

    def interrupted(self: ProposalConfig, image: Tensor) -> Boxes:
        searched.append(image)
        if len(searched) == 3:
            raise KeyboardInterrupt
        return find(self, image)

    monkeypatch.setattr(ProposalConfig, "find", interrupted)
    assert main([str(config), *SINGLE, "--split", "train"]) == 130
    assert capsys.readouterr().err == (
        "detkit proposals: stopped. What was found is kept; the same command goes on from there.\n"
    )
    assert len([*(tmp_path / "store").rglob("*.npy")]) == 2
    monkeypatch.undo()
    assert main([str(config), *SINGLE, "--split", "train"]) == 0
    assert ", 2 computed now in " in capsys.readouterr().out
    assert main([str(config), *SINGLE, "--split", "train"]) == 0
    assert "computed now" not in capsys.readouterr().out


def test_settings_are_the_models_unless_the_command_line_changes_them(
    config: Path, tiny_voc: Path, tmp_path: Path
) -> None:
    text = config.read_text().splitlines(keepends=True)
    mine = tmp_path / "rcnn.yaml"
    mine.write_text(f"model: {json.dumps(RCNN)}\n" + "".join(text[1:]))
    for number, words in enumerate(([], ["proposals.most=5"], ["model.proposals.seed=3"])):
        assert main([str(mine), *words, "--out", str(tmp_path / str(number))]) == 0
    found = [records_in(tmp_path / str(number))[0]["settings"] for number in range(3)]
    expected = {
        **{"mode": "single", "scales": [30.0], "min_size": None, "seed": 0, "most": 12},
        "ranking": None,
    }
    assert found == [expected, {**expected, "most": 5}, {**expected, "seed": 3}]


def test_a_detector_is_measured_with_other_proposals(
    tiny_voc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = checkpoint(tmp_path / "my_run", RCNN, tiny_voc, tmp_path / "store")
    words = ["model.proposals.most=3", "model.proposals.ranking=turns", "--no-speed"]
    figures = tmp_path / "figures.json"
    assert evaluate([str(run), *words, "--device", "cpu", "--json", str(figures)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    changed = "model.proposals.most=3, model.proposals.ranking=turns"
    assert f"my_run: measured with {changed}." in said
    assert json.loads(figures.read_text())["inputs"] == 3
    (folder,) = (tmp_path / "store").iterdir()
    settings = json.loads((folder / "settings.json").read_text())
    assert settings["scales"] == [30.0]  # the checkpoint's stay
    assert (settings["most"], settings["ranking"]) == (3, "turns")


def test_a_setting_that_a_detector_lacks_is_answered_with_those_it_has(
    tiny_voc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = checkpoint(tmp_path / "my_run", RCNN, tiny_voc, tmp_path / "store")
    assert evaluate([str(run), "model.max_detections=5", "--device", "cpu"]) == 2
    assert capsys.readouterr().err == (
        "detkit eval: model.max_detections: my_run, a rcnn, has none; it has "
        "model.score_threshold, model.nms_iou, model.max_per_class, model.proposals.*.\n"
    )


def test_pictures_are_of_selective_search_alone(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([str(config), "--draw", "a.png", "--out", str(tmp_path), "--rpn", "a_run"])
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.endswith("--draw shows selective search alone; leave --rpn out")


def test_a_region_proposal_network_stands_beside(
    config: Path, tiny_voc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = checkpoint(tmp_path / "my_run", FASTER, tiny_voc, tmp_path / "store")
    words = [*SINGLE, "--rpn", str(run), "--device", "cpu", "--out", str(tmp_path / "out")]
    assert main([str(config), *words]) == 0
    search, rpn = records_in(tmp_path / "out")
    assert (search["name"], rpn["name"]) == ("selective search, single, scales 30", "RPN of my_run")
    assert 0 < rpn["boxes"] <= 7
    assert rpn["curve"]["counts"][-1] <= 7
    assert "RPN of my_run" in capsys.readouterr().out


def test_two_checkpoints_of_a_run_keep_apart(config: Path, tiny_voc: Path, tmp_path: Path) -> None:
    run = checkpoint(tmp_path / "my_run", FASTER, tiny_voc, tmp_path / "store")
    shutil.copytree(run / "best", run / "last")
    words = [*SINGLE, "--rpn", str(run / "best"), "--rpn", str(run / "last"), "--device", "cpu"]
    assert main([str(config), *words, "--out", str(tmp_path / "out")]) == 0
    names = [record["name"] for record in records_in(tmp_path / "out")]  # of lines in the plot
    assert names[1:] == ["RPN of my_run/best", "RPN of my_run/last"]


def test_an_image_is_drawn(config: Path, tiny_voc: Path, tmp_path: Path) -> None:
    image = tiny_voc / "JPEGImages" / "000001.jpg"
    assert main([str(config), *SINGLE, "--draw", str(image), "--out", str(tmp_path / "out")]) == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["000001_proposals.png"]
    assert not (tmp_path / "store").exists()  # nothing was searched but this image


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["proposals.mode=quick"],
            "proposals.mode: expected 'single', 'fast' or 'quality'; got 'quick'.",
        ),
        (["proposals.most=0"], "proposals.most: expected a value above 0; got 0."),
        (["proposals.size=3"], "proposals.size: unknown key."),
        (
            ["proposals.scales=[1e30]"],
            "proposals.scales.0: expected a value of at most 1e+09; got 1e+30.",
        ),
        (
            ["proposals.min_size=99999999999999999999"],
            "proposals.min_size: expected a value of at most 1e+09; got 99999999999999999999.",
        ),
        (["data.eval=[]"], "data.eval: missing; name images, e.g. {format, root, split}."),
    ],
)
def test_mistakes_end_in_a_sentence(
    config: Path, words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(config), *words]) == 2
    assert capsys.readouterr().err.startswith(f"detkit proposals: {sentence}")


def test_a_detector_that_proposes_nothing_is_no_rpn(
    config: Path, tiny_voc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = checkpoint(tmp_path / "run", RCNN, tiny_voc, tmp_path / "store")
    assert main([str(config), "--rpn", str(run), "--device", "cpu"]) == 2
    assert capsys.readouterr().err == (
        f"detkit proposals: --rpn {run}: is a rcnn, which proposes no regions; name a "
        "faster_rcnn.\n"
    )


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--processes", "0"], "--processes must be 1 or more"),
        (["--draw", "a.jpg"], "--draw needs --out FOLDER for its picture"),
        (
            ["--device", "cuda"],
            "--device is for --rpn RUN; selective search runs on the CPU",
        ),
    ],
)
def test_words_that_cannot_be(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ending:
        main(["mine.yaml", *words])
    assert ending.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1] == f"detkit proposals: error: {sentence}"


def test_help_and_configs_are_read_without_the_compiler() -> None:
    code = (
        "import sys, detkit.cli.proposals, detkit.experiment.config, detkit; detkit.build_detector;"
        "assert 'numba' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_evaluation_finds_what_is_missing_first(
    tiny_voc: Path, tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = checkpoint(tmp_path / "run", RCNN, tiny_voc, tmp_path / "store")
    words = [str(run), "--device", "cpu", "--speed-images", "2", "--json", str(tmp_path / "a.json")]
    assert evaluate(words) == 0
    caught = capsys.readouterr()
    assert "run: proposals: 2 images, " in caught.err
    assert ", 2 computed now in " in caught.err
    assert " FPS without proposals; finding them takes " in " ".join(caught.out.split())
    said = json.loads((tmp_path / "a.json").read_text())
    assert said["fps_without_proposals"] > said["fps"]
    assert evaluate([*words, "--no-cache"]) == 0
    caught = capsys.readouterr()
    assert "run: proposals: 2 images, " in caught.err
    assert "computed now" not in caught.err
    assert evaluate(words) == 0  # from the cache, no proposals at all
    assert "proposals: " not in capsys.readouterr().err
