"""Config files as experiments: overrides of data entries, and sentences for mistakes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from detkit.config import parse
from detkit.errors import ConfigError, shown
from detkit.experiment.config import ExperimentConfig
from detkit.experiment.entries import recognised, replace_entries
from detkit.experiment.read import read_experiment
from tests.oracles import voc_xml, write_voc


def test_data_root_replaces_the_root_of_every_entry(small_config: Path) -> None:
    experiment, origins = read_experiment(small_config, ["data.root=/x", "train.lr=1e-2"])
    assert [entry["root"] for entry in experiment.data.train + experiment.data.eval] == ["/x"] * 2
    assert experiment.train.lr == 0.01
    assert origins["train.lr"] == origins["data.train"] == "command line"
    assert origins["train.batch_size"] == str(small_config)


def test_data_split_replaces_that_of_the_command(small_config: Path) -> None:
    training, _ = read_experiment(small_config, ["data.split=val"])
    assert (training.data.train[0]["split"], training.data.eval[0]["split"]) == ("val", "test")
    measuring, _ = read_experiment(small_config, ["data.split=val"], use="eval")
    assert measuring.data.train[0]["split"] == "trainval"
    assert measuring.data.eval[0]["split"] == "val"


def test_names_are_what_was_typed(small_config: Path) -> None:
    """YAML 1.1 would make 2007, 1000.0 and false of them."""
    for name in ("2007", "1e3", "no"):
        experiment, _ = read_experiment(small_config, [f"data.split={name}"])
        assert experiment.data.train[0]["split"] == name
    experiment, _ = read_experiment(small_config, ["data.classes=[yes, no]"])
    assert experiment.data.classes == ("yes", "no")


def test_every_key_of_a_folder_goes_to_its_entries(small_config: Path) -> None:
    words = ["data.hold_out=2.5e-1", "data.split_seed=3", "data.max_unreadable=0"]
    experiment, _ = read_experiment(small_config, words)
    for entry in experiment.data.train + experiment.data.eval:
        found = (entry["hold_out"], entry["split_seed"], entry["max_unreadable"])
        assert found == (0.25, 3, 0)


def test_a_folder_that_is_recognised_is_parted_as_told(tmp_path: Path) -> None:
    folder = write_voc(tmp_path / "voc", dict.fromkeys("12", voc_xml([("cat", (1, 1, 9, 9))])))
    path = Path(__file__).parents[2] / "configs" / "quickstart.yaml"
    words = ["data.format=auto", f"data.root={folder}", "data.hold_out=0.3"]
    experiment, origins = read_experiment(path, words)
    assert {entry["hold_out"] for entry in experiment.data.train + experiment.data.eval} == {0.3}
    assert recognised(origins) == [
        f"recognised {folder}: PASCAL VOC, splits trainval 2; training on 70% of trainval, "
        "evaluating on 30% of trainval"
    ]


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["train.lrr=1"], "train.lrr: unknown key. Did you mean 'lr'?"),
        (["train.batch_size=many"], "train.batch_size: expected a whole number; got 'many'."),
        (
            ["train.epochs=3"],
            "train: give either iterations or epochs (iterations is 12, epochs is 3); set the "
            "other to null.",
        ),
        (
            ["train.lr_step_iterations=[5,9]", "train.lr_step_factors=[0.1]"],
            "train: lr_step_factors has 1 values for 2 steps.",
        ),
        (
            ["train.schedule=cosin"],
            "train.schedule: expected 'step', 'poly' or 'cosine'; got 'cosin'.",
        ),
    ],
)
def test_mistakes_get_a_sentence(small_config: Path, overrides: list[str], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_experiment(small_config, overrides)
    assert str(caught.value) == f"{small_config}: {sentence}"


def resolved(path: Path) -> dict[str, Any]:
    return read_experiment(path)[0].model_dump(mode="json")


def test_the_voc_recipe_holds_the_authors_numbers() -> None:
    settings = resolved(Path(__file__).parents[2] / "configs" / "yolo_v2_voc.yaml")
    train = settings["train"]
    assert (train["iterations"], train["batch_size"], train["burn_in"]) == (80200, 64, 1000)
    assert train["lr_step_iterations"] == [40000, 60000]
    assert (train["lr"], train["momentum"], train["weight_decay"]) == (1e-3, 0.9, 5e-4)
    augment = train["augment"]
    assert [augment[k] for k in ("jitter", "hue", "saturation", "exposure")] == [0.3, 0.1, 1.5, 1.5]
    assert settings["model"]["train_sizes"] == list(range(320, 609, 32))
    splits = [entry["split"] for entry in settings["data"]["train"]]
    assert splits == ["VOC2007/trainval", "VOC2012/trainval"]
    assert settings["data"]["eval"][0]["split"] == "VOC2007/test"


def test_another_format_leaves_the_keys_of_the_first_behind() -> None:
    path = Path(__file__).parents[2] / "configs" / "quickstart.yaml"
    experiment, _ = read_experiment(path, ["data.format=voc", "data.root=/x"], use="eval")
    assert experiment.data.eval == ({"root": "/x", "split": "test", "format": "voc"},)
    assert experiment.data.train[0]["difficulty"] == "easy"


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("data.rot=x", "data.rot: unknown key. Did you mean 'root'?"),
        (
            "data.max_unreadabel=1",
            "data.max_unreadabel: unknown key. Did you mean 'max_unreadable'?",
        ),
        ("data.anotations=x", "data.anotations: unknown key. Did you mean 'annotations'?"),
        ("train.lrr=1", "train.lrr: unknown key. Did you mean 'lr'?"),
        ("train.augment.zom=1", "train.augment.zom: unknown key. Did you mean 'zoom'?"),
    ],
)
def test_a_misspelt_key_is_told_before_a_missing_folder(
    word: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where data/photos, the recipe's folder, is not
    with pytest.raises(ConfigError) as caught:
        read_experiment("finetune", [word])
    assert str(caught.value) == f"recipe finetune: {sentence}"


def test_an_entrys_key_beside_the_entries_is_sent_into_them(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("model: {}\ndata: {root: x}\ntrain: {epochs: 1}\n")
    with pytest.raises(ConfigError) as caught:
        read_experiment(path)
    assert str(caught.value) == (
        f"{path}: data.root: unknown key here. In a file it belongs in an entry of data.train or "
        "data.eval; the command line gives it to all of them."
    )


@pytest.mark.parametrize(
    ("below", "above", "words", "expected"),
    [
        ("epochs: auto", "lr: 0.1", ["train.iterations=2"], (2, None)),
        ("iterations: 9", "epochs: auto", ["train.iterations=2"], (2, None)),
        ("iterations: 9", "lr: 0.1", ["train.epochs=auto"], (None, "auto")),
        ("epochs: auto", "iterations: 9", [], (9, None)),
        ("iterations: 9", "epochs: auto", [], (None, "auto")),
        ("epochs: auto", "lr: 0.1", ["train.epochs=3"], (None, 3)),
    ],
)
def test_a_length_replaces_auto(
    below: str, above: str, words: list[str], expected: tuple[object, object], tmp_path: Path
) -> None:
    (tmp_path / "base.yaml").write_text(f"model: {{name: x}}\ntrain: {{{below}}}\n")
    path = tmp_path / "top.yaml"
    path.write_text(f"base: base.yaml\ntrain: {{{above}}}\n")
    train = read_experiment(path, words)[0].train
    assert (train.iterations, train.epochs) == expected


def test_two_lengths_in_one_place_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("model: {name: x}\ntrain: {iterations: 9, epochs: auto}\n")
    with pytest.raises(ConfigError, match="iterations is 9, epochs is auto"):
        read_experiment(path)


def test_what_is_named_for_measuring_is_measured_whole(tmp_path: Path) -> None:
    """A held-out part stands for its own split of its own folder, wherever that lies by now."""
    here, moved, other = tmp_path / "photos", tmp_path / "disk" / "photos", tmp_path / "other"
    for folder in (here, other):
        folder.mkdir(parents=True)
    alias = tmp_path / "alias"
    alias.symlink_to(here)
    entry = {"format": "voc", "root": str(here), "split": "all", "part": "eval", "hold_out": 0.3}

    def measured(**words: str) -> dict[str, Any]:
        return replace_entries({"eval": [entry]}, words, "eval")["eval"][0]

    whole = {"format": "voc", "root": str(here), "split": "all"}
    assert measured() == entry
    assert measured(split="all") == whole
    assert measured(root=str(other)) == {**whole, "root": str(other)}
    assert measured(root=str(other), part="eval") == {**entry, "root": str(other)}
    assert measured(split="all", part="train") == {**entry, "part": "train"}
    assert measured(root=str(alias)) == {**entry, "root": str(alias)}
    here.rename(tmp_path / "gone")
    moved.mkdir(parents=True)
    assert measured(root=str(moved)) == {**entry, "root": str(moved)}
    assert measured(root=str(other)) == {**whole, "root": str(other)}


def test_keys_of_a_folder_make_no_entry_to_measure_on() -> None:
    data = {"train": [{"format": "auto", "root": "a"}]}
    for words in ({"hold_out": 0.3}, {"attribute": "kind"}, {"images": "photos"}):
        found = replace_entries(data, {"root": "b", **words}, "train")
        assert found == {"train": [{"format": "auto", "root": "b", **words}], "eval": []}
    found = replace_entries(data, {"root": "b", "format": "auto"}, "train")
    assert found["eval"] == [{"format": "auto", "root": "b"}]


def test_training_keeps_the_parts_of_what_it_measures_on() -> None:
    parted = {"format": "voc", "root": "a", "split": "all"}
    data = {"train": [{**parted, "part": "train"}], "eval": [{**parted, "part": "eval"}]}
    words = {"root": "b", "split": "x", "part": "all"}
    found = replace_entries(data, words, "train")
    assert found["train"] == [{"format": "voc", **words}]
    assert found["eval"] == [{**parted, "root": "b", "part": "eval"}]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("", "data: expected a block of keys; got nothing."),
        ("3", "data: expected a block of keys; got 3."),
        ("{train: 3}", "data.train: expected a list; got 3."),
        ("{eval: 0.5}", "data.eval: expected a list; got 0.5."),
        ("{train: true}", "data.train: expected a list; got True."),
        ("{train: abc}", "data.train: expected a list; got 'abc'."),
        ("{train: [1, x]}", "data.train.0: expected a block of keys; got 1."),
        ("{eval: [[a]]}", "data.eval.0: expected a block of keys; got ['a']."),
    ],
)
def test_a_data_block_of_another_form_is_told_with_and_without_overrides(
    data: str, said: str, tmp_path: Path
) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(f"model: {{name: yolo_v2}}\ntrain: {{epochs: 1}}\ndata: {data}\n")
    for words in ([], ["data.root=nowhere"], ["data.format=auto", "data.root=nowhere"]):
        for use in ("train", "eval"):
            with pytest.raises(ConfigError) as caught:
                read_experiment(path, words, use)
            assert str(caught.value) == f"{path}: {said}"


@pytest.mark.parametrize("root", ["x" * 5000, "\0"])
def test_a_root_that_no_folder_can_be(root: str, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    entry = {"format": "auto", "root": root}
    settings = {"model": {"name": "yolo_v2"}, "data": {"train": [entry]}, "train": {"epochs": 1}}
    path.write_text(json.dumps(settings))
    with pytest.raises(ConfigError) as caught:
        read_experiment(path)
    assert str(caught.value) == f"data.root: {shown(root)} can be no folder. Write a path."


def test_a_key_by_its_old_name_is_the_one_of_now(tmp_path: Path) -> None:
    path = tmp_path / "old.yaml"
    path.write_text("model: {name: rcnn}\ntrain: {iterations: 1, rcnn_stages: true}\n")
    experiment, origins = read_experiment(path)
    assert experiment.train.fit_svm
    assert origins["train.fit_svm"] == str(path)
    assert "train.rcnn_stages" not in origins
    told, origins = read_experiment(path, ["train.rcnn_stages=false"])
    assert not told.train.fit_svm
    assert origins["train.fit_svm"] == "command line"
    saved = {**experiment.model_dump(mode="json")["train"], "rcnn_stages": True}
    del saved["fit_svm"]  # as an earlier checkpoint has it
    assert parse(ExperimentConfig, {"model": {"name": "rcnn"}, "train": saved}).train.fit_svm
    with pytest.raises(ConfigError) as caught:
        read_experiment(path, ["train.fit_svm=false"])
    assert str(caught.value) == (
        f"{path}: train.rcnn_stages: is train.fit_svm by its old name. Drop one."
    )
