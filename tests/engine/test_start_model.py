"""A config without a model's name has the model of the weights that it starts from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

from detkit.checkpoints.checkpoint import load_checkpoint
from detkit.data import DATASETS
from detkit.detectors import build_detector
from detkit.engine.start_model import complete_model
from detkit.engine.train import train
from detkit.errors import ConfigError, UnknownNameError
from detkit.experiment.config import ExperimentConfig
from detkit.experiment.read import read_experiment
from detkit.weights.header import Header
from detkit.weights.zoo import ZOO

FINETUNE = Path(__file__).parents[2] / "configs" / "finetune.yaml"
QUICK = [
    *("train.epochs=null", "train.iterations=1", "train.lr=1e-30", "train.average_decay=null"),
    *("train.batch_size=2", "data.workers=0", "train.records=[]", "train.precision=fp32"),
]


def experiment(**settings: object) -> ExperimentConfig:
    described = {"model": {}, "train": {"iterations": 1}} | settings
    return ExperimentConfig.model_validate(described)


@pytest.mark.parametrize("name", list(ZOO))
def test_every_name_of_the_zoo_is_a_model(name: str) -> None:
    """Its whole block, without the number of its classes; nothing is fetched."""
    found, origins = complete_model(
        experiment(train={"iterations": 1, "start": name}, model={"score_threshold": 0.1}),
        {"model.score_threshold": "command line"},
    )
    with torch.device("meta"):
        theirs = build_detector(ZOO[name].model).config.model_dump(mode="json")
        ours = build_detector({**found.model, "num_classes": theirs["num_classes"]})
    assert "num_classes" not in found.model
    assert ours.config.model_dump(mode="json") == {
        **theirs,
        "score_threshold": 0.1,
        "backbone_weights": "none",
    }
    assert origins["model.name"] == f"train.start {name}"
    assert origins["model.score_threshold"] == "command line"


def test_a_model_with_a_name_stays_as_it_is() -> None:
    train_block = {"iterations": 1, "start": "yolo_v3_tiny_coco"}  # another kind of detector
    before = experiment(model={"name": "yolo_v2"}, train=train_block)
    assert complete_model(before, {}) == (before, {})


def test_without_weights_a_name_is_asked_for() -> None:
    with pytest.raises(ConfigError) as caught:
        complete_model(experiment(), {})
    assert str(caught.value) == (
        "model.name: missing; name a detector, or weights to start from with train.start=NAME (a "
        f"run folder, or one of {', '.join(ZOO)})."
    )


def test_weights_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        complete_model(experiment(train={"iterations": 1, "start": "yolo_v3_tini_coco"}), {})
    assert str(caught.value) == (
        "train.start: yolo_v3_tini_coco: no such folder, and no weights of the zoo. Did you mean "
        "'yolo_v3_tiny_coco'?"
    )
    assert not issubclass(UnknownNameError, ConfigError)
    (tmp_path / "run" / "best").mkdir(parents=True)
    (tmp_path / "run" / "best" / "model.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"best.model.json: is no description of a checkpoint"):
        complete_model(experiment(train={"iterations": 1, "start": str(tmp_path / "run")}), {})


def test_anchors_of_the_configs_own_have_masks_of_their_own() -> None:
    """Under the source's masks 1,2,3 the first of them would answer for nothing."""
    own = [[5, 5], [9, 9], [20, 20], [40, 40], [80, 80], [160, 160]]
    train_block = {"iterations": 1, "start": "yolo_v3_tiny_coco"}
    found, _ = complete_model(experiment(train=train_block, model={"anchors": own}), {})
    assert found.model["anchors"] == own
    assert "anchor_masks" not in found.model
    found, _ = complete_model(experiment(train=train_block, model={"score_threshold": 0.1}), {})
    assert found.model["anchor_masks"] == [[3, 4, 5], [1, 2, 3]]


def test_what_follows_from_data_is_not_taken(tiny_voc: Path, tmp_path: Path) -> None:
    """Weights of classes are those of the source's data: other classes, or another number."""
    config = tmp_path / "first.yaml"
    config.write_text(
        "model: {name: yolo_v2_tiny, backbone: tiny, input_size: 32, head_channels: 4}\n"
        f"data: {{workers: 0, train: [{{format: voc, root: {tiny_voc}, split: trainval}}]}}\n"
        "train: {iterations: 1, batch_size: 2, records: [], class_weights: auto}\n"
    )
    train(config, tmp_path / "first")
    words = [f"data.root={tiny_voc}", f"train.start={tmp_path / 'first'}", *QUICK]
    words += ["train.class_weights=auto"]
    train(FINETUNE, tmp_path / "tuned", words)
    more = [word for word in words if not word.startswith("train.iterations")]
    assert train(FINETUNE, tmp_path / "tuned", [*more, "train.iterations=2"], resume=True).finished
    text = (tmp_path / "tuned" / "config.yaml").read_text()
    assert "# the data" in next(line for line in text.splitlines() if "class_weights: [" in line)


def test_a_file_that_says_nothing_of_its_network_is_told_so(tmp_path: Path) -> None:
    part = tmp_path / "tiny.conv.9"
    part.write_bytes(Header().to_bytes() + bytes(4000))
    with pytest.raises(ConfigError) as caught:
        complete_model(experiment(train={"iterations": 1, "start": str(part)}), {})
    assert str(caught.value) == (
        f"train.start: {part}: a weight file of darknet that does not say what network it is of. "
        "If it holds the first layers of one, name that with model.name=NAME; if all of them, make "
        f"a checkpoint of it with `detkit convert {part} --cfg FILE --out DIR`."
    )


FORMS = {
    "yolo_v1_tiny": "input_size: 128, backbone: tiny, backbone_stride: 16, grid: 4, "
    "head_convs: [[16, 1]]",
    "yolo_v3_tiny": "input_size: 96, backbone: tiny, head_channels: [16, 8], placement: stretch",
    "yolo_v2": "input_size: 96, backbone: tiny, head_channels: 16",
    "faster_rcnn": "backbone: tiny, min_size: 64, max_size: 96, roi_head: mlp, head_width: 16, "
    "anchor_sizes: [[16, 32]], rpn_channels: 8",
}


@pytest.mark.parametrize("name", list(FORMS))
def test_the_recipe_tunes_any_detector(
    name: str, tiny_voc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As it was trained: one that stretches images is shown stretched ones."""
    assert "voc" in DATASETS
    config = tmp_path / "first.yaml"
    augment = "augment: {placement: auto}"
    config.write_text(
        f"model: {{name: {name}, {FORMS[name]}}}\n"
        f"data: {{workers: 0, train: [{{format: voc, root: {tiny_voc}, split: trainval}}]}}\n"
        f"train: {{iterations: 1, batch_size: 2, records: [], lr: 1.0e-6, {augment}}}\n"
    )
    train(config, tmp_path / "first")
    words = [f"data.root={tiny_voc}", f"train.start={tmp_path / 'first'}", *QUICK]
    capsys.readouterr()
    outcome = train(FINETUNE, tmp_path / "tuned", words)
    said = capsys.readouterr().out
    assert ", 0 re-initialised, 0 ignored; classes by name: 2 taken over (cat, dog)" in said
    assert "voc07_map" in outcome.metrics
    first, tuned = (load_checkpoint(tmp_path / run).detector for run in ("first", "tuned"))
    assert first.config == tuned.config
    for key, weight in first.named_parameters():
        torch.testing.assert_close(tuned.state_dict()[key], weight)
    described = yaml.safe_load((tmp_path / "tuned" / "config.yaml").read_text())
    placement = described["train"]["augment"]["placement"]
    assert placement == ("crop" if first.stretches else "letterbox")

    (tmp_path / "first").rename(tmp_path / "gone")  # a run that goes on has the model itself
    more = [word for word in words if not word.startswith("train.iterations")]
    again = train(FINETUNE, tmp_path / "tuned", [*more, "train.iterations=2"], resume=True)
    assert again.finished
    assert "differs from the run so far: model" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("images", "epochs"), [(1, 100), (60, 100), (131, 46), (292, 21), (600, 10), (100_000, 10)]
)
def test_epochs_follow_from_the_number_of_images(images: int, epochs: int) -> None:
    """6,000 images are shown, between ten epochs and a hundred."""
    from detkit.engine.schedule import auto_epochs

    assert auto_epochs(images) == epochs


def test_epochs_of_a_small_set(tiny_voc: Path, tmp_path: Path) -> None:
    """Every photo is shown a hundred times; the run's config has the number."""
    config = tmp_path / "small.yaml"
    config.write_text(
        "model: {name: yolo_v2_tiny, backbone: tiny, input_size: 32, head_channels: 4}\n"
        f"data: {{workers: 0, train: [{{format: voc, root: {tiny_voc}, split: trainval}}]}}\n"
        "train: {epochs: auto, batch_size: 4, records: [], lr: 1.0e-6, burn_in: 50}\n"
    )
    train(config, tmp_path / "run")
    text = (tmp_path / "run" / "config.yaml").read_text()
    assert "  epochs: 100  # auto\n" in text
    assert yaml.safe_load(text)["train"]["burn_in"] == 10  # of 50: else most steps would be it
    assert load_checkpoint(tmp_path / "run").step == 100  # four images, four a step
    assert read_experiment(tmp_path / "run" / "config.yaml")[0].train.epochs == 100
