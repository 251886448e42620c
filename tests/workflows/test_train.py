"""`detkit.train`, as a user calls it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import detkit
from detkit.config import read_config

SHORT = {
    "train.epochs": None,
    "train.iterations": 1,
    "train.batch_size": 2,
    "data.workers": 0,
    "model.head_channels": 16,
    "model.input_size": 64,
}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_recipe_is_trained_on_other_data(tiny_voc: Path) -> None:
    changes = SHORT | {"data.format": "auto", "data.root": tiny_voc}
    run = detkit.train("quickstart", overrides=changes, device="cpu")
    assert run.folder == Path("runs/quickstart")
    assert run.finished
    assert 0 <= run.metrics["voc07_map"] <= 1
    assert detkit.load(run.folder).class_names == ("cat", "dog")
    config = Path("runs/quickstart/config.yaml").read_text()
    assert "  name: yolo_v2  # recipe quickstart" in config
    assert "  head_channels: 16  # command line" in config
    with pytest.raises(detkit.ConfigError) as caught:
        detkit.train("quickstart", overrides=changes, device="cpu")
    assert "holds a run already" in str(caught.value)
    again = detkit.train("quickstart", overrides=changes, resume=True, device=torch.device("cpu"))
    assert again.finished


def test_python_and_the_command_line_are_the_same(tiny_voc: Path) -> None:
    from detkit.cli import main

    words = ["train.epochs=null", "train.iterations=1", "train.batch_size=2", "data.workers=0"]
    words += ["model.head_channels=16", "model.input_size=64"]
    words += ["data.format=voc", f"data.root={tiny_voc}", "data.split=trainval"]
    assert main(["train", "quickstart", *words, "--out", "a", "--device", "cpu"]) == 0
    changes = SHORT | {"data.format": "voc", "data.root": tiny_voc, "data.split": "trainval"}
    detkit.train("quickstart", "b", changes, device="cpu")
    detkit.train("quickstart", "c", words, device="cpu")
    ours, *others = (Path(out, "config.yaml").read_text() for out in "abc")
    assert others == [ours, ours]
    assert read_config(Path("b/config.yaml"))[0]["model"]["head_channels"] == 16


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ({"config": "quikstart"}, "quikstart: no such config file. Did you mean the recipe "
         "'quickstart'?"),
        ({"config": "quickstart", "overrides": {"train.lrr": 1}}, "recipe quickstart: train.lrr: "
         "unknown key. Did you mean 'lr'?"),
        ({"config": "quickstart", "device": "gpu"}, "device='gpu': torch cannot use it on this "
         "machine. Take 'cpu', or look at the driver and at how torch was installed."),
    ],
)  # fmt: skip
def test_mistakes_get_one_sentence_and_leave_nothing(
    words: dict[str, object], sentence: str
) -> None:
    with pytest.raises(detkit.ConfigError) as caught:
        detkit.train(**words)  # type: ignore[arg-type]
    assert str(caught.value) == sentence
    assert not Path("runs").exists()
    assert not Path("data").exists()
