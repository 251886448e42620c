"""A run is saved before it is measured, and where an error ends it between two steps."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

import detkit.checkpoints.checkpoint as checkpoint_module
from detkit.cli.train import main
from detkit.detectors.yolo_v2 import YoloV2
from detkit.engine.log import RunLog
from detkit.engine.saving import is_evaluated
from detkit.engine.schedule import Horizon
from detkit.engine.train import train
from detkit.errors import DataError, DetkitError
from tests.engine.test_train import all_state, records_of

train_module = sys.modules["detkit.engine.train"]  # the package has a function of that name
task_module = sys.modules["detkit.engine.tasks.detection"]
# measured after 3 and 6 of 6 steps, and saved nowhere else
SELDOM = ["train.save_every=1000", "eval.every=2", "train.iterations=6", "train.records=[]"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Tensor]]:
    """Every tensor of a run that nothing befell; filled by the first test that needs it."""
    return {}


def ends_as_if_nothing_had_been(
    config: Path, out: Path, undisturbed: dict[str, Tensor], *words: str
) -> None:
    """Resume ``out``; its checkpoint is then that of a run that nothing befell, to the bit."""
    if not undisturbed:
        train(config, out.parent / "undisturbed", SELDOM)
        undisturbed.update(all_state(out.parent / "undisturbed" / "last"))
    assert train(config, out, [*SELDOM, *words], resume=True).finished
    found = all_state(out / "last")
    assert found.keys() == undisturbed.keys()
    assert [name for name in found if not torch.equal(found[name], undisturbed[name])] == []


def saved_step(out: Path) -> int:
    return int(json.loads((out / "last" / "model.json").read_text())["step"])


def test_evaluations_fall_due_after_epochs_and_at_the_end() -> None:
    plan = Horizon(12, 4, 3)
    every = {n: [s for s in range(1, 13) if is_evaluated(s, n, plan)] for n in (None, 1, 2, 5)}
    assert every[None] == [12]
    assert every[1] == [2, 3, 4, 6, 7, 8, 10, 11, 12]
    assert every[2] == [3, 6, 8, 11, 12]
    assert every[5] == [7, 12]
    several_epochs_a_step = Horizon(3, 4, 10)
    assert [s for s in range(1, 4) if is_evaluated(s, 2, several_epochs_a_step)] == [1, 2, 3]


# ------------------------------------------------------------------------- in an evaluation


@pytest.mark.parametrize("step", [3, 6])
def test_an_error_in_an_evaluation_takes_no_step_with_it(
    step: int,
    small_config: Path,
    tmp_path: Path,
    undisturbed: dict[str, Tensor],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out, honest = tmp_path / "run", train_module.measure

    def measure(log, run, experiment, data):  # type: ignore[no-untyped-def]
        if run.step == step:
            raise MemoryError
        return honest(log, run, experiment, data)

    with monkeypatch.context() as patch:
        patch.setattr(train_module, "measure", measure)
        with pytest.raises(MemoryError):
            train(small_config, out, SELDOM)
    assert saved_step(out) == step
    before = [record for record in records_of(out) if "voc07_map" in record]
    capsys.readouterr()
    ends_as_if_nothing_had_been(small_config, out, undisturbed)
    after = [record["step"] for record in records_of(out) if "voc07_map" in record]
    assert step not in {record["step"] for record in before}
    assert after == [3, 6]  # the one that is owed first, none twice
    if step == 6:
        said = capsys.readouterr().out
        assert "all steps are taken already; they are measured next\n" in said
    assert json.loads((out / "last" / "model.json").read_text())["metrics"]


def test_a_test_image_that_goes_bad_is_left_out_and_training_goes_on(
    small_config: Path,
    tiny_voc: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lost = tiny_voc / "JPEGImages" / "000005.jpg"
    after_step(4, lost.unlink, monkeypatch)
    outcome = train(small_config, tmp_path / "run", SELDOM)
    assert outcome.finished
    said = capsys.readouterr().out
    assert "  on 2 images: mAP VOC07" in said
    assert "  on 1 images (1 unreadable left out): mAP VOC07" in said
    assert caplog.messages[-1].startswith("1 of 2 images cannot be read any more; left out of the")
    assert "voc07_map" in outcome.metrics


def test_too_many_bad_test_images_refuse_the_evaluation_and_keep_the_training(
    small_config: Path,
    tiny_voc: Path,
    tmp_path: Path,
    undisturbed: dict[str, Tensor],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out, away = tmp_path / "run", tmp_path / "away"
    away.mkdir()
    lost = [tiny_voc / "JPEGImages" / f"{name}.jpg" for name in ("000005", "000006")]

    def lose() -> None:
        for path in lost:
            path.rename(away / path.name)

    with monkeypatch.context() as patch:
        after_step(1, lose, patch)
        words = [str(small_config), "--out", str(out), "--device", "cpu", *SELDOM]
        assert main(words) == 2
    said = capsys.readouterr()
    refused = "evaluation: 2 of 2 images cannot be read (any more), of which max_unreadable=0.01 "
    assert said.out.count(f"warning: {refused}allows 1. ") == 1  # after 3 steps
    assert "Training goes on; the next evaluation tries again.\n" in said.out
    assert said.err.startswith(f"detkit train: {refused}allows 1. Put them back")
    assert saved_step(out) == 6
    for path in lost:
        (away / path.name).rename(path)
    ends_as_if_nothing_had_been(small_config, out, undisturbed)
    assert [r["step"] for r in records_of(out) if "voc07_map" in r] == [6]


def after_step(step: int, work: Callable[[], object], patch: pytest.MonkeyPatch) -> None:
    """Let something happen once ``step`` steps are recorded."""
    honest, done = RunLog.record, []

    def record(self, now, values):  # type: ignore[no-untyped-def]
        honest(self, now, values)
        if now >= step and not done:
            done.append(work())

    patch.setattr(RunLog, "record", record)


# ------------------------------------------------------------------------ between two steps


def fail_on_record(problem: Exception, patch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise problem

    after_step(5, fail, patch)


def fail_on_loading(problem: Exception, patch: pytest.MonkeyPatch) -> None:
    honest = task_module.training_batches

    def batches(run, experiment, data, store):  # type: ignore[no-untyped-def]
        for number, batch in enumerate(honest(run, experiment, data, store)):
            if number == 5:
                raise problem
            yield batch

    patch.setattr(task_module, "training_batches", batches)


def fail_in_forward(problem: Exception, patch: pytest.MonkeyPatch) -> None:
    honest, calls = YoloV2.losses, []

    def losses(self, batch, targets, step):  # type: ignore[no-untyped-def]
        found = honest(self, batch, targets, step)  # batch norm has seen the images by now
        calls.append(step)
        if len(calls) == 12:  # the second part of the sixth step
            torch.rand(1)  # and something was drawn
            raise problem
        return found

    patch.setattr(YoloV2, "losses", losses)


@pytest.mark.parametrize(
    ("where", "problem"),
    [
        (fail_on_loading, DataError("a.jpg: this image cannot be read.")),
        (fail_on_record, OSError(5, "Input/output error")),
        (fail_in_forward, RuntimeError("a size that does not fit")),
    ],
    ids=["loading", "log", "forward"],
)
def test_an_error_between_two_steps_finds_the_run_saved(
    where: Callable[[Exception, pytest.MonkeyPatch], None],
    problem: Exception,
    small_config: Path,
    tmp_path: Path,
    undisturbed: dict[str, Tensor],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        where(problem, patch)
        with pytest.raises(type(problem)) as caught:
            train(small_config, out, SELDOM)
    assert caught.value is problem
    assert saved_step(out) == 5
    line = "an error ends this run; step 5 is saved, and --resume goes on there\n"
    assert line in capsys.readouterr().out
    ends_as_if_nothing_had_been(small_config, out, undisturbed)


def test_an_error_after_which_nothing_can_be_saved_is_still_the_one_that_is_said(
    small_config: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(state: object, path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint_module.torch, "save", full)
    fail_on_loading(DataError("a.jpg: this image cannot be read."), monkeypatch)
    out = tmp_path / "run"
    with pytest.raises(DataError, match=r"^a\.jpg: this image cannot be read\.$"):
        train(small_config, out, ["train.save_every=1000"])
    assert capsys.readouterr().out.splitlines()[-1] == (
        f"step 5 could not be saved: {out / 'last'}: the checkpoint of step 5 could not be written "
        "([Errno 28] No space left on device). Free some space and start again."
    )
    assert not (out / "last").exists()


def test_a_loader_process_that_dies_is_said_and_takes_no_step_with_it(
    small_config: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out, others = tmp_path / "run", multiprocessing.active_children()

    def kill() -> None:
        (worker,) = (each for each in multiprocessing.active_children() if each not in others)
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGKILL)  # as the system does where memory runs out

    with monkeypatch.context() as patch:
        after_step(3, kill, patch)
        words = ["--out", str(out), "--device", "cpu", "train.iterations=1000", "data.workers=1"]
        assert main([str(small_config), *words, "train.save_every=1000"]) == 2
    said, steps = capsys.readouterr(), [record["step"] for record in records_of(out)]
    assert said.err == (
        "detkit train: A loader process was ended by SIGKILL, as the system does with a process "
        "where memory runs out. Try data.workers=0 (now 1).\n"
    )
    line = f"an error ends this run; step {steps[-1]} is saved, and --resume goes on there\n"
    assert said.out.endswith(line)
    assert saved_step(out) == steps[-1] >= 3
    words = [f"train.iterations={steps[-1] + 1}", "data.workers=0"]
    assert train(small_config, out, words, resume=True).finished


def test_ctrl_c_pressed_twice_saves_nothing_more(
    small_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_on_loading(KeyboardInterrupt(), monkeypatch)  # type: ignore[arg-type]
    with pytest.raises(KeyboardInterrupt):
        train(small_config, tmp_path / "run", ["train.save_every=1000"])
    assert not (tmp_path / "run" / "last").exists()


def test_a_step_that_is_half_taken_is_not_saved(
    small_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The optimiser has changed some weights and not others when memory runs out."""
    honest, calls = torch.optim.SGD.step, []

    def step(self, closure=None):  # type: ignore[no-untyped-def]
        calls.append(honest(self, closure))
        if len(calls) == 4:
            raise MemoryError

    monkeypatch.setattr(torch.optim.SGD, "step", step)
    with pytest.raises(MemoryError):
        train(small_config, tmp_path / "run", ["train.save_every=2"])
    assert saved_step(tmp_path / "run") == 2


def test_a_loss_that_is_not_finite_leaves_the_checkpoint_before(
    small_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest, calls = YoloV2.losses, []

    def losses(self, batch, targets, step):  # type: ignore[no-untyped-def]
        calls.append(honest(self, batch, targets, step))
        return (
            {name: loss * float("nan") for name, loss in calls[-1].items()}
            if len(calls) == 8
            else calls[-1]
        )

    monkeypatch.setattr(YoloV2, "losses", losses)
    with pytest.raises(DetkitError, match=r"; the checkpoint of step 2 is whole\.$"):
        train(small_config, tmp_path / "run", ["train.save_every=2"])
    assert saved_step(tmp_path / "run") == 2
