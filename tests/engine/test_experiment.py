"""Config files as experiments: overrides of data entries, and sentences for mistakes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from detkit.engine.experiment import read_experiment, recognised
from detkit.errors import ConfigError
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
    folder = write_voc(tmp_path / "voc", {"1": voc_xml([("cat", (1, 1, 9, 9))])})
    path = Path(__file__).parents[2] / "configs" / "quickstart.yaml"
    words = ["data.format=auto", f"data.root={folder}", "data.hold_out=0.3"]
    experiment, origins = read_experiment(path, words)
    assert {entry["hold_out"] for entry in experiment.data.train + experiment.data.eval} == {0.3}
    assert recognised(origins) == [
        f"recognised {folder}: PASCAL VOC, splits trainval 1; training on 70% of trainval, "
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
