"""Early stopping and staged unfreezing."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from detkit.engine.stopping import Plateau, frozen_parts, part_of, thaw
from detkit.engine.train import thaw_parts, train
from detkit.engine.training_state import restore, save_checkpoint
from detkit.errors import ConfigError
from detkit.experiment.read import read_experiment
from tests.engine.runs import batches_of, differences, small_run, state_of, train_on

metrics = st.lists(st.one_of(st.none(), st.floats(0.0, 1.0)), max_size=30)


def slow_reason(seen: list[float | None], patience: int, min_gain: float) -> int | None:
    """The evaluation (from 1) after which training ends, by looking back over all of them."""
    best, last_gain = None, 0
    for number, value in enumerate(seen, start=1):
        if value is not None and (best is None or value > best + min_gain):
            best, last_gain = value, number
        if number - last_gain >= patience:
            return number
    return None


@given(metrics, st.integers(1, 5), st.sampled_from([0.0, 0.1]))
def test_plateau_agrees_with_looking_back(
    seen: list[float | None], patience: int, min_gain: float
) -> None:
    plateau = Plateau()
    ended = None
    for number, value in enumerate(seen, start=1):
        plateau.saw(value, number, min_gain)
        if plateau.reason(patience, "voc07_map") is not None:
            ended = number
            break
    assert ended == slow_reason(seen, patience, min_gain)


def test_the_reason_is_a_sentence() -> None:
    plateau = Plateau()
    assert plateau.reason(1, "voc07_map") is None
    for step, value in ((10, 0.5), (20, 0.4), (30, 0.5)):
        plateau.saw(value, step, 0.0)
    assert plateau.reason(3, "voc07_map") is None
    assert plateau.reason(None, "voc07_map") is None
    assert plateau.reason(2, "voc07_map") == (
        "stopping early: voc07_map has not risen above 0.5000 (step 10) for 2 evaluations"
    )
    empty = Plateau()
    empty.saw(None, 5, 0.0)
    assert empty.reason(1, "coco_ap") == (
        "stopping early: coco_ap could not be measured in 1 evaluation"
    )


EVERY_EPOCH = ["eval.every=1", "train.iterations=40", "train.stop_patience=2", "train.log_every=5"]


@pytest.fixture
def risen(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Figures that the evaluations find, one after another; 0 when they run out."""
    figures: list[float] = []
    train_module = sys.modules["detkit.engine.train"]  # the package has a function of that name
    honest = train_module.measure

    def measure(*arguments):  # type: ignore[no-untyped-def]
        return {**honest(*arguments), "voc07_map": figures.pop(0) if figures else 0.0}

    monkeypatch.setattr(train_module, "measure", measure)
    return figures


def test_training_stops_when_the_metric_rises_no_more(
    small_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], risen: list[float]
) -> None:
    risen += [0.1, 0.3, 0.2, 0.3, 0.9]
    out = tmp_path / "run"
    outcome = train(small_config, out, EVERY_EPOCH)
    assert outcome.finished
    said = capsys.readouterr().out.splitlines()
    assert said[-2:] == [
        "stopping early: voc07_map has not risen above 0.3000 (step 3) for 2 evaluations",
        f"done. Next: detkit eval {out}   or: detkit detect IMAGE --weights {out} --out found",
    ]
    assert (
        json.loads((out / "last" / "model.json").read_text())["step"] == 6
    )  # 4 epochs of 4 images, 3 a step
    again = train(small_config, out, EVERY_EPOCH, resume=True)  # it stays stopped
    assert again.finished
    assert json.loads((out / "last" / "model.json").read_text())["step"] == 6
    risen[:] = [0.2]
    longer = [*EVERY_EPOCH[:2], "train.stop_patience=3"]
    train(small_config, out, longer, resume=True)  # more patience: one more evaluation
    assert json.loads((out / "last" / "model.json").read_text())["step"] == 7


def test_a_metric_that_never_rises_above_its_first_value_stops_too(
    small_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], risen: list[float]
) -> None:
    train(small_config, tmp_path / "run", EVERY_EPOCH)
    said = capsys.readouterr().out
    assert "voc07_map has not risen above 0.0000 (step 2) for 2 evaluations" in said


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["train.stop_patience=3"],
            "train.stop_patience: needs evaluations to count, but eval.every is not set; "
            "e.g. eval.every=1.",
        ),
        (
            ["train.stop_patience=3", "eval.every=1", "eval.best=null"],
            "train.stop_patience: needs evaluations to count, but eval.best is not set; "
            "e.g. eval.best=voc07_map.",
        ),
        (
            ["train.stop_patience=3", "eval.every=1", "data.eval=[]"],
            "train.stop_patience: needs data.eval to evaluate on.",
        ),
        (
            ["train.freeze=[head]", "train.unfreeze={backbone: 2}"],
            "train.unfreeze: 'backbone' does not stand in train.freeze (head), so it learns from "
            "the start; add it there, or take it out here.",
        ),
        (
            ["train.micro_batches=some"],
            "train.micro_batches: expected a whole number above 0, or auto; got 'some'.",
        ),
        (
            ["train.records=[wandb, tensorbord]"],
            "train.records.1: expected 'tensorboard', 'wandb' or 'mlflow'; got 'tensorbord'.",
        ),
    ],
)
def test_settings_that_cannot_be(small_config: Path, words: list[str], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_experiment(small_config, words)
    assert str(caught.value) == f"{small_config}: {sentence}"


# ------------------------------------------------------------------------- unfreezing

STAGED = ["train.freeze=[backbone]", "train.unfreeze={backbone: 1}", "train.iterations=8"]


def learning(model: nn.Module) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def test_parts_thaw_when_their_epoch_has_come() -> None:
    model = nn.ModuleDict(
        {"stem": nn.Linear(2, 2), "body": nn.Linear(2, 2), "head": nn.Linear(2, 2)}
    )
    for part in ("stem", "body"):
        model[part].requires_grad_(False)
    freeze, unfreeze = ("stem", "body"), {"body": 2}
    assert frozen_parts(freeze, unfreeze, 1) == ("stem", "body")
    assert frozen_parts(freeze, unfreeze, 2) == ("stem",)
    assert thaw(model, freeze, unfreeze, 1) == ()
    assert learning(model) == {"head.weight", "head.bias"}
    assert thaw(model, freeze, unfreeze, 2) == ("body",)
    assert learning(model) == {"head.weight", "head.bias", "body.weight", "body.bias"}
    assert thaw(model, freeze, unfreeze, 3) == ()  # said once


def test_a_part_of_a_part_may_stay_frozen() -> None:
    model = nn.ModuleDict(
        {"backbone": nn.ModuleDict({"stem": nn.Linear(2, 2), "end": nn.Linear(2, 2)})}
    )
    model.requires_grad_(False)
    assert thaw(model, ("backbone", "backbone.stem"), {"backbone": 1}, 1) == ("backbone",)
    assert learning(model) == {"backbone.end.weight", "backbone.end.bias"}
    assert part_of("backbone.stem.weight", ["backbone.stem"])
    assert not part_of("backbone.stem2.weight", ["backbone.stem"])


def test_a_backbone_stays_as_it_is_and_then_learns(
    small_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With its batch norm in eval mode until then; two steps make an epoch here."""
    run, _ = small_run(small_config, [*STAGED, "train.save_every=100"])
    start = state_of(run)
    train_on(run, batches_of(2, 3))
    frozen = [name for name in differences_of_weights(start, run) if "backbone" in name]
    assert not frozen
    thaw_parts(run, 1)
    train_on(run, batches_of(2, 3))
    moved = differences_of_weights(start, run)
    assert any("backbone" in name and name.endswith("weight") for name in moved)
    assert any("backbone" in name and name.endswith("running_mean") for name in moved)
    train(small_config, tmp_path / "run", STAGED)
    assert (
        "epoch 2: backbone learns from here on, as train.unfreeze says\n" in capsys.readouterr().out
    )


def differences_of_weights(start: dict[str, torch.Tensor], run) -> list[str]:  # type: ignore[no-untyped-def]
    now = run.model.state_dict()
    return [name for name in now if not torch.equal(now[name], start[name])]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("cut", [1, 2, 3])
def test_resuming_a_staged_run_is_exact(small_config: Path, cut: int, optimizer: str) -> None:
    words = [*STAGED, "train.save_every=100", f"train.optimizer={optimizer}"]
    batches = batches_of(4, 3)

    def go_on(run) -> None:  # type: ignore[no-untyped-def]
        while run.step < 4:
            epoch = run.step // 2
            thaw_parts(run, epoch)
            train_on(run, batches[run.step : 2 * (epoch + 1)])

    whole, _ = small_run(small_config, words)
    torch.manual_seed(5)
    go_on(whole)
    cut_run, _ = small_run(small_config, words)
    torch.manual_seed(5)
    train_on(cut_run, batches[: min(cut, 2)])
    if cut > 2:
        thaw_parts(cut_run, 1)
        train_on(cut_run, batches[2:cut])
    folder = small_config.parent / "last"
    save_checkpoint(folder, cut_run, read_experiment(small_config, words)[0], {}, resumable=True)
    resumed, _ = small_run(small_config, words)
    restore(resumed, folder, "voc07_map")
    go_on(resumed)
    theirs = {**state_of(whole), "random": torch.get_rng_state()}
    assert not differences(state_of(resumed), theirs)


def test_a_part_that_would_learn_after_the_end_is_refused(small_config: Path) -> None:
    words = ["train.freeze=[backbone]", "train.unfreeze={backbone: 9}"]
    with pytest.raises(ConfigError) as caught:
        small_run(small_config, words)  # 12 steps of 3 images, 4 images an epoch
    assert str(caught.value) == (
        "train.unfreeze: backbone would learn after epoch 9, but training ends after 9; name an "
        "earlier one, or leave it in train.freeze alone."
    )
