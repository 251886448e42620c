"""Training on some of the classes of the data, and going on with it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import detkit
from detkit.checkpoints.checkpoint import load_checkpoint
from detkit.engine.build import read_data
from detkit.engine.train import train
from detkit.errors import ConfigError
from detkit.experiment.entries import replace_entries, split_overrides
from detkit.experiment.read import read_experiment
from tests.oracles import voc_xml, write_voc


def test_both_splits_have_the_classes_that_are_kept(small_config: Path) -> None:
    """``tiny_voc`` has 2 cats in 4 images and 1 in 2; the rest is dogs."""
    words = ["data.only=[cat]", "model.num_classes=1"]
    train_data, eval_data = read_data(read_experiment(small_config, words)[0])
    assert eval_data is not None
    assert train_data.class_names == eval_data.class_names == ("cat",)
    assert [len(train_data), len(train_data.boxes)] == [4, 2]
    assert [len(eval_data), len(eval_data.boxes)] == [2, 1]


def test_a_recognised_folder_is_learned_from_in_part(small_config: Path, tiny_voc: Path) -> None:
    words = ["data.format=auto", f"data.root={tiny_voc}", "data.only=[dog]"]
    experiment = read_experiment(small_config, words)[0]
    assert [[*entry["only"]] for entry in (*experiment.data.train, *experiment.data.eval)] == [
        ["dog"], ["dog"]
    ]  # fmt: skip
    train_data, eval_data = read_data(experiment)
    assert eval_data is not None
    assert [len(train_data.boxes), len(eval_data.boxes)] == [3, 1]


def test_a_class_that_only_the_training_images_show(small_config: Path, tiny_voc: Path) -> None:
    page = tiny_voc / "Annotations" / "000005.xml"
    page.write_text(page.read_text().replace("<name>cat<", "<name>hen<"))
    train_data, eval_data = read_data(read_experiment(small_config, ["data.only=[cat, dog]"])[0])
    assert eval_data is not None
    assert train_data.class_names == eval_data.class_names == ("cat", "dog")
    assert len(eval_data.boxes) == 1


def test_a_class_of_another_entry_is_learned_with_it(
    small_config: Path, tiny_voc: Path, tmp_path: Path
) -> None:
    write_voc(tmp_path / "more", {"m": voc_xml([("fox", (1, 1, 40, 30)), ("hen", (1, 1, 9, 9))])})
    text = small_config.read_text()
    first = f"{{format: voc, root: {tiny_voc}, split: trainval}}"
    second = f"{{format: voc, root: {tmp_path / 'more'}, split: trainval}}"
    small_config.write_text(text.replace(first, f"{first}, {second}"))
    train_data, _ = read_data(read_experiment(small_config, ["data.only=[cat, fox]"])[0])
    assert train_data.class_names == ("cat", "fox")
    assert len(train_data) == 5


def test_a_run_keeps_and_says_what_it_leaves_out(
    small_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    words = ["train.iterations=1", "model.num_classes=1", "data.only=[cat]"]
    train(small_config, out, words)
    said = capsys.readouterr().out
    assert "train: 4 images (2 without objects), 2 objects of 1 classes, " in said
    assert (
        "objects of dog left out by data.only, 1 images left without objects by data.only" in said
    )
    loaded = load_checkpoint(out / "last")
    assert loaded.detector.class_names == ("cat",)
    kept = json.loads((out / "last" / "model.json").read_text())["experiment"]["data"]
    assert [entry["only"] for entry in kept["train"] + kept["eval"]] == [["cat"], ["cat"]]
    more = ["train.iterations=2", "model.num_classes=1"]
    with pytest.raises(ConfigError, match=r"data\.train: had 4 images with 2 objects in this run"):
        train(small_config, out, [*more, "data.only=[dog]"], resume=True)
    assert train(small_config, out, [*more, "data.only=[cat]"], resume=True).finished
    assert "differs from the run so far: data" not in capsys.readouterr().out


def test_another_choice_of_the_same_labels_is_said(
    small_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    words = ["train.iterations=1", "data.classes=[cat, dog]", "data.only=[cat]"]
    train(small_config, out, words)
    words = ["train.iterations=2", "data.classes=[cat, dog]"]
    with pytest.raises(ConfigError, match=r"data\.train: had 4 images with 2 objects in this run"):
        train(small_config, out, words, resume=True)
    assert train(small_config, out, words, resume=True, allow_changed_data=True).finished
    said = capsys.readouterr().out
    assert "differs from the run so far: data.train: " in said


@pytest.mark.parametrize("words", [["data.format=auto"], ["data.format=coco", "data.split=x"]])
def test_what_is_chosen_goes_with_another_format(words: list[str]) -> None:
    """A detector of cats alone stays one, wherever it is measured."""
    data = {"eval": [{"format": "voc", "root": "a", "split": "s", "only": ["cat"], "origin": 0}]}
    overrides, _ = split_overrides([*words, "data.root=b"])
    (entry,) = replace_entries(data, overrides, "eval")["eval"]
    assert entry["only"] == ["cat"]
    assert "origin" not in entry
    overrides, _ = split_overrides([*words, "data.root=b", "data.only=[dog, cat]"])
    (entry,) = replace_entries(data, overrides, "eval")["eval"]
    assert entry["only"] == ["dog", "cat"]


def test_python_takes_it_as_the_command_line_does(small_config: Path, tmp_path: Path) -> None:
    out = detkit.train(
        small_config,
        tmp_path / "run",
        {"data.only": ["cat"], "train.iterations": 1, "model.num_classes": 1},
        device="cpu",
    ).folder
    assert load_checkpoint(out / "last").detector.class_names == ("cat",)


def test_a_file_may_not_have_the_key_outside_of_an_entry(small_config: Path) -> None:
    small_config.write_text(small_config.read_text().replace("data:\n", "data:\n  only: [cat]\n"))
    with pytest.raises(
        ConfigError, match=r"data\.only: unknown key here\. In a file it belongs in"
    ):
        read_experiment(small_config)
