"""A training of several runs: what each builds on, how it goes on after it was ended."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor

from detkit.checkpoints.checkpoint import load_checkpoint
from detkit.config import with_overrides
from detkit.detectors import build_detector
from detkit.detectors.faster_rcnn import FasterRCNN
from detkit.engine.stages import Stage, Training, plan_stages
from detkit.engine.tasks.detection import DetectionTask
from detkit.engine.train import train
from detkit.errors import ConfigError
from detkit.experiment.read import read_experiment
from tests.engine.test_distributed import torchrun
from tests.engine.test_train import all_state, records_of, start, wait_for_step

CONFIG = """\
model:
  name: faster_rcnn
  backbone: tiny
  min_size: 64
  max_size: 96
  anchor_sizes: [16, 32]
  rpn_channels: 8
  rpn_samples: 32
  rpn_min_side: 4
  post_nms_train: 40
  post_nms_test: 20
  roi_head: mlp
  roi_size: 3
  roi_samples: 16
  head_width: 16

data:
  workers: 0
  train: [{{format: voc, root: {root}, split: trainval}}]
  eval: [{{format: voc, root: {root}, split: test}}]

train:
  iterations: 3
  batch_size: 2
  lr: 1.0e-2
  save_every: 1
  log_every: 1
  records: []
  average_decay: 0.5
  augment: {{jitter: 0}}
  stages:
    - {{name: rpn1, model: {{learns: rpn, post_nms_test: 40}}, train: {{iterations: 4}}}}
    - {{name: fast1, model: {{learns: roi}}, proposals: rpn1}}
    - name: rpn2
      model: {{learns: rpn, post_nms_test: 40}}
      train: {{iterations: 2, freeze: [backbone], augment: {{flip: 0}}}}
      start: fast1
    - name: fast2
      model: {{learns: roi}}
      train: {{freeze: [backbone]}}
      start: rpn2
      proposals: rpn2
"""
NAMES = ("rpn1", "fast1", "rpn2", "fast2")
PARTS = ("backbone", "rpn", "roi_head")


@pytest.fixture
def four(tiny_voc: Path, tmp_path: Path) -> Path:
    """A config of four stages of a few steps each."""
    path = tmp_path / "four.yaml"
    path.write_text(CONFIG.format(root=tiny_voc))
    return path


def rewritten(four: Path, **stages: object) -> Path:
    """The same config with keys of the stages replaced: ``fast1={"proposals": "rpn2"}``."""
    settings = yaml.safe_load(four.read_text())
    for stage in settings["train"]["stages"]:
        stage.update(stages.get(stage["name"], {}))
    four.write_text(yaml.safe_dump(settings))
    return four


def folders(out: Path) -> dict[str, Path]:
    """The folder of each stage's run; the last stage's is the run folder."""
    return {name: out if name == "fast2" else out / name for name in NAMES}


def weights(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "last" / "weights.safetensors")


def same(one: dict[str, Tensor], other: dict[str, Tensor], part: str) -> bool:
    """Whether every tensor of ``part`` is the same to the bit."""
    names = [name for name in one if name.startswith(f"{part}.")]
    assert names
    return all(torch.equal(one[name], other[name]) for name in names)


def planned(path: Path, out: Path) -> tuple[Stage, ...]:
    experiment, origins = read_experiment(path)
    return plan_stages(Training(experiment, origins, out), DetectionTask())


def test_each_stage_starts_where_it_should_and_learns_its_part(four: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    outcome = train(four, out)
    assert (outcome.folder, outcome.finished) == (out, True)
    assert "voc07_map" in outcome.metrics
    at = folders(out)
    assert [load_checkpoint(at[name] / "last").step for name in NAMES] == [4, 3, 2, 3]
    ends = {name: weights(folder) for name, folder in at.items()}
    assert not any(same(ends["rpn1"], ends["fast1"], part) for part in PARTS)
    # rpn2 has fast1's average; only its own part has moved
    assert same(ends["fast1"], ends["rpn2"], "backbone")
    assert same(ends["fast1"], ends["rpn2"], "roi_head")
    assert same(ends["fast1"], ends["rpn2"], "roi_head")
    assert not same(ends["fast1"], ends["rpn2"], "rpn")
    # fast2 shares rpn2's convolutions and proposals for good
    assert same(ends["rpn2"], ends["fast2"], "backbone")
    assert same(ends["rpn2"], ends["fast2"], "rpn")
    assert not same(ends["rpn2"], ends["fast2"], "roi_head")
    assert not same(ends["rpn2"], ends["fast2"], "roi_head")


def test_a_stage_without_start_is_drawn_anew(four: Path, tmp_path: Path) -> None:
    """What a stage does not learn stays as train.seed draws it, whatever came before."""
    out = tmp_path / "run"
    train(four, out)
    experiment = load_checkpoint(out / "fast1" / "last").experiment
    torch.manual_seed(experiment.train.seed)
    drawn = build_detector(experiment.model).state_dict()
    assert same(drawn, weights(out / "rpn1"), "roi_head")
    assert same(drawn, weights(out / "fast1"), "rpn")
    assert not same(drawn, weights(out / "rpn1"), "rpn")


def test_proposals_come_from_the_earlier_stage(
    four: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model is handed what that stage's detector says of the very images, in their pixels."""
    out = tmp_path / "run"
    honest, asked = FasterRCNN.compute_losses, []

    def compute_losses(self, images, targets, proposals=None, step=None):  # type: ignore[no-untyped-def]
        asked.append((self.config.learns, images, proposals))
        return honest(self, images, targets, proposals, step)

    monkeypatch.setattr(FasterRCNN, "compute_losses", compute_losses)
    train(four, out)
    assert [learns for learns, _, _ in asked] == ["rpn"] * 4 + ["roi"] * 3 + ["rpn"] * 2 + [
        "roi"
    ] * 3
    for (learns, images, proposals), source in zip(
        asked, ["", "", "", "", *["rpn1"] * 3, "", "", *["rpn2"] * 3], strict=True
    ):
        if learns == "rpn":
            assert proposals is None
            continue
        proposer = load_checkpoint(out / source / "last").detector
        assert isinstance(proposer, FasterRCNN)
        for image, found in zip(images, proposals, strict=True):
            assert not found.requires_grad
            torch.testing.assert_close(found, proposer.propose([image])[0])
            assert len(found) <= 40


def test_what_is_written_can_be_trained_from_again(four: Path, tmp_path: Path) -> None:
    """The run folder's config is the whole training's; a stage's is that stage by itself."""
    out = tmp_path / "run"
    train(four, out)
    whole, _ = read_experiment(out / "config.yaml")
    asked, _ = read_experiment(four)
    assert whole.train == asked.train
    assert (whole.model["nms_iou"], whole.model["num_classes"]) == (0.3, 2)  # written out
    assert whole.data.eval == asked.data.eval
    text = (out / "config.yaml").read_text()
    assert "  num_classes: 2  # the data" in text
    stage, _ = read_experiment(out / "fast1" / "config.yaml")
    assert stage.train.proposals == str(out / "rpn1" / "last")
    text = (out / "rpn2" / "config.yaml").read_text()
    assert f"  start: {out / 'fast1' / 'last'}  # train.stages, rpn2" in text
    assert "    flip: 0.0  # train.stages, rpn2" in text
    assert "  stages: []  # train.stages, rpn2" in text
    again = tmp_path / "again"
    train(out / "fast1" / "config.yaml", again)
    ours, theirs = weights(again), weights(out / "fast1")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["rpn1", "rpn2", "fast2"])
def test_a_killed_training_goes_on_to_the_same_bytes(
    four: Path, tmp_path: Path, stage: str
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as many as the processes have: sums round alike
    train(four, whole)
    torch.set_num_threads(threads)
    victim = start(four, killed)
    wait_for_step(folders(killed)[stage], 1)
    os.killpg(victim.pid, signal.SIGKILL)
    victim.communicate()
    assert victim.returncode == -signal.SIGKILL
    process = start(killed / "config.yaml", killed, "--resume")
    said = process.communicate(timeout=240)[0]
    assert process.returncode == 0, said
    for name in NAMES:
        ours, theirs = (
            all_state(folders(whole)[name] / "last"),
            all_state(folders(killed)[name] / "last"),
        )
        assert [key for key in theirs if not torch.equal(ours[key], theirs[key])] == []


def test_finished_stages_are_skipped(
    four: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    train(four, out)
    capsys.readouterr()
    times = {name: (out / name / "last" / "model.json").stat().st_mtime_ns for name in NAMES[:-1]}
    for name in ("last", "best"):  # as if it had been ended before its first checkpoint
        shutil.rmtree(out / name)
    assert train(out / "config.yaml", resume=True).folder == out  # without --out
    said = capsys.readouterr().out
    assert said.startswith("stage 4 of 4, fast2; finished before: rpn1, fast1, rpn2\n")
    assert said.count("stage ") == 1
    assert times == {
        name: (out / name / "last" / "model.json").stat().st_mtime_ns for name in NAMES[:-1]
    }
    for name in ("rpn1", "fast1"):
        shutil.rmtree(out / name)  # a later stage has begun, so these are not missed
    train(four, out, resume=True)
    said = capsys.readouterr().out
    assert said.startswith("stage 4 of 4, fast2; finished before: rpn1, fast1, rpn2\n")
    assert "all steps are taken already; nothing is left to train\n" in said


def test_a_stage_may_be_made_longer_before_the_next_has_begun(four: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    train(four, out, ["train.stages=[{name: a}, {name: b}]", "train.iterations=2"])
    for name in ("last", "best"):
        shutil.rmtree(out / name)
    longer = ["train.stages=[{name: a, train: {iterations: 3}}, {name: b}]", "train.iterations=2"]
    train(four, out, longer, resume=True)
    assert [load_checkpoint(folder / "last").step for folder in (out / "a", out)] == [3, 2]
    shorter = ["train.stages=[{name: a, train: {iterations: 1}}, {name: b}]", "train.iterations=2"]
    train(four, out, shorter, resume=True)
    assert load_checkpoint(out / "a" / "last").step == 3


def test_ctrl_c_says_how_the_whole_goes_on(
    four: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    honest = FasterRCNN.compute_losses

    def compute_losses(self, *words):  # type: ignore[no-untyped-def]
        if self.config.learns == "roi":
            os.kill(os.getpid(), signal.SIGINT)
        return honest(self, *words)

    monkeypatch.setattr(FasterRCNN, "compute_losses", compute_losses)
    assert not train(four, out).finished
    assert capsys.readouterr().out.splitlines()[-1] == (
        "stopped and saved at step 1 of stage 2 of 4, fast1. "
        f"Go on: detkit train {out / 'config.yaml'} --resume"
    )
    assert not (out / "rpn2").exists()
    with pytest.raises(ConfigError) as caught:
        train(four, out)
    assert str(caught.value) == (
        f"{out}: holds a run already. Add --resume to go on with it, "
        "or --out FOLDER to start another."
    )
    monkeypatch.undo()
    assert train(four, out, resume=True).finished
    assert [record["step"] for record in records_of(out / "fast1") if "lr" in record] == [1, 2, 3]


@pytest.mark.slow
def test_two_ranks_train_the_same_stages(four: Path, tmp_path: Path) -> None:
    """Each rank has its own proposals of its own images."""
    alone, together = tmp_path / "alone", tmp_path / "together"
    # no batch norm learns from the batch, so that parts of it are as good as the whole
    words = ["model.freeze_batch_norm=true", "train.micro_batches=1"]
    train(four, alone, words)
    process = torchrun(str(four), "--out", str(together), "--device", "cpu", *words)
    said = process.communicate(timeout=300)[0]
    assert process.returncode == 0, said
    for name in NAMES:
        assert load_checkpoint(folders(together)[name] / "last").step == (
            load_checkpoint(folders(alone)[name] / "last").step
        )
    ours, theirs = weights(together / "rpn2"), weights(together)
    assert same(ours, theirs, "rpn")


@pytest.mark.parametrize(
    ("stages", "sentence"),
    [
        (
            {"fast1": {"name": "rpn1"}},
            "train.stages: two are called 'rpn1'; give each a name of its own.",
        ),
        (
            {"fast1": {"proposals": "rpn"}},
            "train.stages: fast1: proposals is 'rpn', which is no earlier stage (rpn1). "
            "Did you mean 'rpn1'?",
        ),
        (
            {"fast1": {"start": "rpn2"}},
            "train.stages: fast1: start is 'rpn2', which is no earlier stage (rpn1). "
            "Did you mean 'rpn1'?",
        ),
        (
            {"rpn1": {"start": "rpn1"}},
            "train.stages: rpn1: start is 'rpn1', which is no earlier stage (it is the first).",
        ),
        (
            {"rpn1": {"name": "best"}},
            "train.stages.0.name: 'best' is a folder of every run; take another name.",
        ),
        (
            {"rpn1": {"name": "../rpn"}},
            "train.stages.0.name: '../rpn' cannot name a folder; use letters, digits, - and _.",
        ),
        (
            {"rpn1": {"train": {"stages": []}}},
            "train.stages: rpn1: has stages itself; put them all in one list.",
        ),
        (
            {"rpn1": {"trian": {}}},
            "train.stages.0.trian: unknown key. Did you mean 'train'?",
        ),
    ],
    ids=str,
)
def test_wrong_stages_get_a_sentence(
    four: Path, stages: dict[str, dict[str, object]], sentence: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        read_experiment(rewritten(four, **stages))
    assert str(caught.value) == f"{four}: {sentence}"


@pytest.mark.parametrize(
    ("stages", "sentence"),
    [
        (
            {"fast2": {"model": {"learn": "roi"}}},
            "train.stages, fast2: model.learn: unknown key. Did you mean 'learns'?",
        ),
        (
            {"fast2": {"train": {"iteration": 3}}},
            "train.stages, fast2: train.iteration: unknown key. Did you mean 'iterations'?",
        ),
        (
            {"rpn2": {"train": {"freeze": ["neck"]}}},
            "train.stages, rpn2: train.freeze: the model has no part 'neck'; it has backbone, rpn, "
            "roi_head.",
        ),
        (
            {"rpn2": {"train": {"freeze": ["backbone", "rpn"]}}},
            "train.stages, rpn2: train.freeze: nothing is left to train.",
        ),
        (
            {"fast1": {"train": {"stop_patience": 2}}},
            "train.stages, fast1: train.stop_patience: needs data.eval to evaluate on.",
        ),
    ],
    ids=str,
)
def test_a_stage_that_cannot_be_trained_stops_before_the_first(
    four: Path, tmp_path: Path, stages: dict[str, dict[str, object]], sentence: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        train(rewritten(four, **stages), tmp_path / "run")
    assert str(caught.value) == sentence
    assert not (tmp_path / "run").exists()


def test_a_detector_without_proposals_takes_none(small_config: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        train(small_config, tmp_path / "run", ["train.proposals=somewhere"])
    assert str(caught.value) == (
        "train.proposals: yolo_v2 learns from no proposals; take the key out."
    )


def test_a_detector_that_proposes_nothing_is_refused(
    four: Path, small_config: Path, tmp_path: Path
) -> None:
    train(small_config, tmp_path / "yolo", ["train.iterations=1"])
    with pytest.raises(ConfigError) as caught:
        train(four, tmp_path / "run", ["train.stages=[]", f"train.proposals={tmp_path / 'yolo'}"])
    assert str(caught.value) == (
        f"train.proposals: {tmp_path / 'yolo'} is a yolo_v2 on tiny, which proposes no regions; "
        "name a faster_rcnn."
    )


def test_one_stage_is_the_run_itself(four: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    train(four, out, ["train.stages=[{name: all, train: {iterations: 2}}]"])
    assert load_checkpoint(out / "last").step == 2
    assert not (out / "all").exists()
    (one,) = planned(four, out)[:1]
    assert one.title == "stage 1 of 4, rpn1"


def test_settings_merge_as_a_config_on_its_base(four: Path, tmp_path: Path) -> None:
    stages = planned(four, tmp_path)
    by_hand = with_overrides(
        yaml.safe_load(four.read_text()),
        ["train.stages=[]", "train.iterations=2", "train.freeze=[backbone]"],
    )
    third = stages[2].experiment
    assert third.train.iterations == by_hand["train"]["iterations"]
    assert (third.train.augment.flip, third.train.augment.jitter) == (0, 0)
    assert third.train.lr == by_hand["train"]["lr"]
