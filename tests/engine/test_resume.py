"""What a run that goes on must have in common with the run so far."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detkit.checkpoints.checkpoint import load_checkpoint
from detkit.checkpoints.fingerprint import Fingerprint
from detkit.cli.train import main
from detkit.engine.build import read_data
from detkit.engine.resume import Saved, as_long_as_before, check_resumed
from detkit.engine.schedule import Horizon, horizon, learning_rate
from detkit.engine.state import TrainState
from detkit.engine.stopping import Plateau
from detkit.engine.train import train
from detkit.errors import ConfigError
from detkit.experiment.config import TrainConfig
from detkit.experiment.read import read_experiment
from tests.engine.runs import small_run
from tests.oracles import voc_xml, write_image

LAST = Path("run/last")
ANEW = f"Or begin a new run from its weights: train.start={LAST} --out ANOTHER."


def stands_at(
    step: int, settings: dict[str, object], config: Path, images: int = 4
) -> tuple[TrainState, Saved]:
    """A run of ``config`` that stands at ``step``, and its last checkpoint, of ``settings``."""
    run, _ = small_run(config)
    run.step = step
    before = TrainConfig(**{"iterations": 12, "batch_size": 3, **settings})
    data = {"train": Fingerprint(images, 5, "0"), "eval": Fingerprint(2, 3, "1")}
    run.data, run.horizon = data, replace(run.horizon, images=images)
    steps = horizon(before, images).steps
    return run, Saved(LAST, before.model_dump(mode="json"), steps, data)


def refusal(run: TrainState, saved: Saved) -> str:
    with pytest.raises(ConfigError) as caught:
        check_resumed(run, saved, allow_changed_data=False)
    return str(caught.value)


def with_settings(run: TrainState, **settings: object) -> TrainState:
    """The run with another config, as if a person had changed it."""
    run.config = TrainConfig.model_validate(run.config.model_dump() | settings)
    run.horizon = horizon(run.config, run.horizon.images)
    return run


# --------------------------------------------------------------------------------- the data


def add_image(root: Path, name: str, split: str) -> None:
    write_image(root / "JPEGImages" / f"{name}.jpg")
    (root / "Annotations" / f"{name}.xml").write_text(voc_xml([("cat", (5, 5, 20, 20))]))
    listed = root / "ImageSets" / "Main" / f"{split}.txt"
    listed.write_text(f"{name}\n{listed.read_text()}")


def test_data_that_changed_is_said_and_needs_a_flag(
    small_config: Path, tiny_voc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, words = tmp_path / "run", ["--resume", "--device", "cpu", "train.iterations=3"]
    train(small_config, out, ["train.iterations=2"])
    before = json.loads((out / "last" / "model.json").read_text())["data"]
    assert (before["train"]["images"], before["eval"]["images"]) == (4, 2)
    add_image(tiny_voc, "000000", "trainval")
    capsys.readouterr()
    assert main([str(small_config), "--out", str(out), *words]) == 2
    then, now = before["train"]["objects"], before["train"]["objects"] + 1
    difference = (
        f"data.train: had 4 images with {then} objects in this run so far, and has 5 images with "
        f"{now} objects now"
    )
    assert capsys.readouterr().err == (
        f"detkit train: {difference}. Images would come in another order, some of them twice in "
        f"this epoch, others never. Put the data back as it was when {out / 'last'} was saved, or "
        "go on with what there is now by --allow-changed-data. Or begin a new run from its "
        f"weights: train.start={out / 'last'} --out ANOTHER.\n"
    )
    assert main([str(small_config), "--out", str(out), *words, "--allow-changed-data"]) == 0
    warning = f"warning: {difference}; going on, as --allow-changed-data says\n"
    assert warning in capsys.readouterr().out
    assert train(small_config, out, ["train.iterations=4"], resume=True).finished  # of now
    assert load_checkpoint(out / "last").step == 4


def test_a_fingerprint_is_of_the_content_not_of_the_place(small_config: Path) -> None:
    data, _ = read_data(read_experiment(small_config)[0])
    same = Fingerprint.of(data)
    assert (same.images, same.objects) == (4, len(data.boxes))
    elsewhere = np.array([f"/elsewhere/{path}" for path in data.paths])
    assert Fingerprint.of(replace(data, paths=elsewhere, class_names=("kitten", "dog"))) == same
    changes = {
        "image_ids": np.array(["1", "2", "3", "other"]),
        "sizes": data.sizes + np.int32(1),
        "offsets": np.roll(data.offsets, 1),
        "boxes": data.boxes + np.float32(0.5),
        "labels": 1 - data.labels,
        "difficult": ~data.difficult,
        "crowd": ~data.crowd,
        "area": data.area + np.float32(1),
    }
    digests = {Fingerprint.of(replace(data, **{key: to})).digest for key, to in changes.items()}
    assert len(digests | {same.digest}) == len(changes) + 1


def test_other_data_of_as_many_objects_is_said_so(small_config: Path) -> None:
    run, saved = stands_at(1, {}, small_config)
    run.data = {**run.data, "train": Fingerprint(4, 5, "another")}
    assert refusal(run, saved).startswith(
        "data.train: has 4 images with 5 objects as before, but not the same: names, sizes or "
        "boxes differ. Images would come in another order"
    )


def test_what_was_best_on_other_data_is_forgotten(small_config: Path) -> None:
    run, saved = stands_at(1, {}, small_config)
    run.best, run.decided.plateau = 0.5, Plateau(0.5, 1, 1)
    run.data = {**run.data, "eval": Fingerprint(3, 4, "another")}
    assert refusal(run, saved).startswith(
        "data.eval: had 2 images with 3 objects in this run so far, and has 3 images with 4 "
        "objects now. Figures would not compare with those before. Put the data back"
    )
    assert run.best == 0.5
    (line,) = check_resumed(run, saved, allow_changed_data=True)
    assert line.endswith("; going on, as --allow-changed-data says")
    assert (run.best, run.decided.plateau) == (None, Plateau())


def test_a_checkpoint_without_a_fingerprint_goes_on(small_config: Path) -> None:
    run, saved = stands_at(1, {}, small_config)
    assert check_resumed(run, replace(saved, data={}), allow_changed_data=False) == []


def test_a_split_that_is_new_or_gone_is_no_change(small_config: Path) -> None:
    run, saved = stands_at(1, {}, small_config)
    run.data = {"train": run.data["train"]}
    assert check_resumed(run, saved, allow_changed_data=False) == []
    both = {**run.data, "eval": Fingerprint(1, 1, "new")}
    run.data, saved = both, replace(saved, data={"train": run.data["train"]})
    assert check_resumed(run, saved, allow_changed_data=False) == []


# ------------------------------------------------------------------------- steps and schedule


def test_another_batch_size_is_refused_with_what_would_work(small_config: Path) -> None:
    run, saved = stands_at(7, {}, small_config)
    assert refusal(with_settings(run, batch_size=2), saved) == (
        "train.batch_size: is 2, but this run has taken 7 steps of 3 images, by which its order of "
        "images and its learning rate go. Set it to 3; where that needs too much memory, "
        f"train.micro_batches=2 computes each step in two parts. {ANEW}"
    )
    run.step = 0
    check_resumed(run, saved, allow_changed_data=False)


def test_a_batch_size_in_parts_goes_on(small_config: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    train(small_config, out, ["train.iterations=2", "train.micro_batches=1"])
    with pytest.raises(ConfigError, match=r"^train.batch_size: is 6, but this run has taken 2 "):
        train(small_config, out, ["train.iterations=3", "train.batch_size=6"], resume=True)
    words = ["train.iterations=3", "train.micro_batches=2"]
    assert train(small_config, out, words, resume=True).finished


@pytest.mark.parametrize(
    ("key", "value", "was"),
    [("seed", 1, 0), ("sampler", "repeat_factor", "shuffle"), ("repeat_threshold", 0.2, 0.1)],
)
def test_another_order_is_refused_in_the_middle_of_an_epoch(
    key: str, value: object, was: object, small_config: Path
) -> None:
    run, saved = stands_at(7, {}, small_config)
    run = with_settings(run, **{key: value})
    assert refusal(run, saved) == (
        f"train.{key}: is {value}, but was {was} in this run, which stands in the middle of an "
        "epoch: images would come in another order, some of them twice in this epoch, others "
        f"never. Set it to {was}. {ANEW}"
    )
    run.step = 8  # of 3 images: six times through 4
    check_resumed(run, saved, allow_changed_data=False)


def test_a_schedule_of_another_length_is_refused_where_its_rate_would_jump(
    small_config: Path,
) -> None:
    run, saved = stands_at(6, {"schedule": "cosine"}, small_config)
    run = with_settings(run, schedule="cosine", iterations=24)
    assert refusal(run, saved) == (
        "train.iterations=24: this run began with train.iterations=12, and train.schedule=cosine "
        "depends on the length: the learning rate would jump from 0.000371 to 0.000804 at step 6. "
        f"Set train.iterations=12 to go on with it. {ANEW}"
    )
    run.step = 12  # its rate had come to nothing
    assert "would jump from 0 to 0.000435 at step 12" in refusal(run, saved)
    run = with_settings(run, schedule="cosine", iterations=None, epochs=18)
    run.step = 11
    assert refusal(run, saved).startswith(
        "train.epochs=18: this run began with train.iterations=12"
    )


def test_a_longer_schedule_of_steps_goes_on(small_config: Path) -> None:
    run, saved = stands_at(12, {"lr_step_iterations": [6]}, small_config)
    run = with_settings(run, lr_step_iterations=[6], iterations=24)
    assert check_resumed(run, saved, allow_changed_data=False) == []
    assert run.horizon.steps == 24


def test_fewer_steps_than_are_taken_are_refused(small_config: Path) -> None:
    run, saved = stands_at(7, {}, small_config)
    assert refusal(with_settings(run, iterations=6), saved) == (
        "train.iterations=6: means 6 steps, but this run has taken 7. Set train.iterations=12 to "
        f"go on with it. {ANEW}"
    )
    check_resumed(with_settings(run, iterations=7), saved, allow_changed_data=False)  # all taken


def test_a_run_keeps_its_length_on_data_of_another_number(small_config: Path) -> None:
    settings = {"iterations": None, "epochs": 9, "schedule": "cosine"}
    run, saved = stands_at(6, settings, small_config)
    run = with_settings(run, **settings)
    run.horizon = horizon(run.config, 8)  # twice as many images now
    assert (saved.steps, run.horizon.steps) == (12, 24)
    assert check_resumed(run, saved, allow_changed_data=True) == []
    assert run.horizon == Horizon(12, 8, 3)


def test_drops_in_epochs_keep_their_steps_on_data_of_another_number(small_config: Path) -> None:
    settings = {"iterations": None, "epochs": 9, "lr_step_epochs": [4.5]}
    run, saved = stands_at(7, settings, small_config)
    run = with_settings(run, **settings)
    run.horizon = horizon(run.config, 8)
    assert refusal(run, saved) == (
        "train.lr_step_epochs: fall on other steps with 8 images than with 4: the learning rate "
        "would jump from 0.0001 to 0.001 at step 7. Set train.lr_step_epochs=[] and "
        "train.lr_step_iterations=[6]."
    )


def test_epochs_that_were_auto_stay_what_they_were(small_config: Path) -> None:
    words = ["train.iterations=null", "train.epochs=auto", "train.burn_in=1000"]
    experiment, _ = read_experiment(small_config, words)
    _, saved = stands_at(6, {"iterations": None, "epochs": 60}, small_config, images=100)
    kept = as_long_as_before(experiment, saved, images=3000).train
    assert (kept.epochs, kept.burn_in) == (60, 200)  # 10 epochs of 3000, were they new
    _, other = stands_at(6, {"iterations": None, "epochs": 61}, small_config, images=100)
    assert as_long_as_before(experiment, other, images=3000) is experiment


lengths = st.integers(1, 60)


@given(st.sampled_from(["step", "poly", "cosine"]), lengths, lengths, lengths, st.integers(0, 30))
def test_no_change_of_length_that_is_accepted_lets_the_rate_jump(
    schedule: str, before: int, now: int, step: int, burn_in: int
) -> None:
    settings = {"schedule": schedule, "burn_in": burn_in, "lr_step_iterations": [5, 30]}
    old = TrainConfig.model_validate({"iterations": before, "batch_size": 1, **settings})
    new = TrainConfig.model_validate({"iterations": now, "batch_size": 1, **settings})
    run = TrainState.__new__(TrainState)  # the check needs no model
    run.config, run.horizon, run.step, run.data = new, horizon(new, 7), step, {}
    saved = Saved(LAST, old.model_dump(mode="json"), before, {})
    would = learning_rate(step, old, horizon(old, 7))
    try:
        check_resumed(run, saved, allow_changed_data=False)
    except ConfigError:
        assert step > now or would != learning_rate(step, new, horizon(new, 7))
    else:
        assert step == now or would == learning_rate(step, run.config, run.horizon)
