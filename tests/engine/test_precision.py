"""Reduced precision: the choice, the check against fp32, and fp16's overflows."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from detkit.detectors.yolo_v2 import YoloV2
from detkit.device import build_scaler, choose_precision
from detkit.engine.decisions import Decisions
from detkit.engine.precision_check import disagreement
from detkit.engine.training_state import restore, save_checkpoint
from detkit.errors import ConfigError, DetkitError
from detkit.experiment.config import TrainConfig
from detkit.experiment.read import read_experiment
from tests.engine.runs import CPU, batches_of, differences, small_run, state_of, train_on

GPU = torch.device("cuda")
HONEST = YoloV2.losses
WORDS = ["train.batch_size=4", "train.save_every=100", "train.precision_tolerance=0.2"]


@pytest.mark.parametrize(
    ("asked", "device", "has_bf16", "expected"),
    [
        ("auto", CPU, True, "bf16"),
        ("auto", CPU, False, "fp32"),
        ("auto", GPU, True, "bf16"),
        ("auto", GPU, False, "fp16"),
        ("bf16", CPU, False, "bf16"),
        ("fp32", GPU, True, "fp32"),
    ],
)
def test_auto_is_what_suits_the_device(
    asked: str,
    device: torch.device,
    has_bf16: bool,
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def supported(including_emulation: bool = True) -> bool:
        return has_bf16 or including_emulation

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: has_bf16, raising=False)
    assert choose_precision(asked, device) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("full", "reduced", "expected"),
    [
        (10.0, 10.9, None),
        (10.0, 9.1, None),
        (
            10.0,
            12.0,
            "the loss in bf16 is 12, in fp32 10 (20% off; train.precision_tolerance is 10%)",
        ),
        (10.0, math.nan, "the loss in bf16 is nan, in fp32 10"),
        (10.0, math.inf, "the loss in bf16 is inf, in fp32 10"),
        (math.nan, math.nan, None),  # not the precision's fault
        (0.0, 0.0, None),
        (
            0.0,
            1.0,
            "the loss in bf16 is 1, in fp32 0 (more than all of it off; "
            "train.precision_tolerance is 10%)",
        ),
    ],
)
def test_disagreement(full: float, reduced: float, expected: str | None) -> None:
    found = disagreement(lambda p: full if p == "fp32" else reduced, "bf16", 0.1)
    assert found == expected


def wrong_in_bf16(factor: float):  # type: ignore[no-untyped-def]
    def losses(self, batch, targets, step):  # type: ignore[no-untyped-def]
        found = HONEST(self, batch, targets, step)
        reduced = torch.is_autocast_enabled(batch.pixels.device.type)
        return {name: loss * factor if reduced else loss for name, loss in found.items()}

    return losses


def test_a_precision_that_computes_something_else_is_left(
    small_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(YoloV2, "losses", wrong_in_bf16(3.0))
    batches = batches_of(3, 4)
    run, said = small_run(small_config, [*WORDS, "train.precision=bf16"])
    torch.manual_seed(1)
    train_on(run, batches)
    assert len(said) == 1
    assert said[0].startswith("step 0: the loss in bf16 is ")
    assert said[0].endswith("off; train.precision_tolerance is 20%); training goes on in fp32")
    assert run.decided.precision == "fp32"
    found = state_of(run)
    plain, said = small_run(small_config, WORDS)
    torch.manual_seed(1)
    train_on(plain, batches)
    assert not said
    assert not differences(found, state_of(plain))  # the check left no trace


def test_the_check_leaves_no_trace_where_they_agree(small_config: Path) -> None:
    states = []
    for checked in (3, 0):
        words = [*WORDS, "train.precision=bf16", f"train.precision_check_steps={checked}"]
        run, said = small_run(small_config, words)
        torch.manual_seed(1)
        train_on(run, batches_of(3, 4))
        assert not said
        assert run.decided.precision == "bf16"
        states.append(state_of(run))
    assert not differences(*states)


def test_the_check_ends_after_the_first_steps(
    small_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [*WORDS, "train.precision=bf16", "train.precision_check_steps=2"]
    run, said = small_run(small_config, words)
    train_on(run, batches_of(2, 4))
    monkeypatch.setattr(YoloV2, "losses", wrong_in_bf16(3.0))
    train_on(run, batches_of(1, 4))
    assert not said
    assert run.decided.precision == "bf16"


def test_a_resumed_run_stays_in_fp32_unless_told_otherwise(
    small_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(YoloV2, "losses", wrong_in_bf16(3.0))
    words = [*WORDS, "train.precision=bf16"]
    run, _ = small_run(small_config, words)
    train_on(run, batches_of(1, 4))
    experiment, _ = read_experiment(small_config, words)
    folder = small_config.parent / "last"
    save_checkpoint(folder, run, experiment, {}, resumable=True)
    again, _ = small_run(small_config, words)
    assert again.decided.precision == "bf16"
    restore(again, folder, "voc07_map")
    assert again.decided.precision == "fp32"
    asked_anew, _ = small_run(small_config, [*WORDS, "train.precision=auto"])
    restore(asked_anew, folder, "voc07_map")
    assert not asked_anew.decided.fell_back


def overflowing(steps: set[int]):  # type: ignore[no-untyped-def]
    def losses(self, batch, targets, step):  # type: ignore[no-untyped-def]
        found = HONEST(self, batch, targets, step)
        if step.seen // 4 in steps:
            self.backbone.get_buffer(next(iter(dict(self.backbone.named_buffers())))).fill_(
                math.nan
            )
            found["loss_obj"] = found["loss_obj"] * math.inf
        return found

    return losses


def test_fp16_may_overflow_twice_in_a_row(
    small_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(YoloV2, "losses", overflowing({1, 2, 4}))
    run, said = small_run(small_config, [*WORDS, "train.precision_check_steps=0"])
    run.decided.precision, run.scaler = "fp16", torch.amp.GradScaler("cpu", init_scale=8.0)
    records = train_on(run, batches_of(6, 4))
    assert said == [
        f"step {step}: the loss in fp16 is not finite; this batch is left out" for step in (1, 2, 4)
    ]
    assert run.step == 6
    assert run.decided.skipped == 0
    assert all(bool(torch.isfinite(t).all()) for t in run.model.state_dict().values())
    assert ["loss_obj" in record for record in records] == [True, False, False, True, False, True]


def test_the_third_overflow_in_a_row_ends_the_run(
    small_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(YoloV2, "losses", overflowing({1, 2, 3}))
    run, said = small_run(small_config, [*WORDS, "train.precision_check_steps=0"])
    run.decided.precision, run.scaler = "fp16", torch.amp.GradScaler("cpu", init_scale=8.0)
    with pytest.raises(DetkitError) as caught:
        train_on(run, batches_of(6, 4))
    assert len(said) == 2
    folder = run.folder / "not_finite_step_3"
    assert str(caught.value) == (
        f"step 3: loss_obj is not finite on images 3-0, 3-1; the batch is in {folder}. Try a lower "
        "train.lr, or train.clip_norm=10."
    )


def test_fp16_on_a_cpu_gets_a_sentence(small_config: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        small_run(small_config, ["train.precision=fp16"])
    assert str(caught.value) == ("train.precision: fp16 needs a GPU; use bf16 or fp32 on a CPU.")


def test_only_fp16_scales() -> None:
    assert build_scaler("fp16", CPU).is_enabled()
    assert not build_scaler("bf16", CPU).is_enabled()
    assert not build_scaler("fp32", CPU).is_enabled()


def test_decisions_go_on_unless_the_config_asks_anew() -> None:
    asked = TrainConfig(iterations=1, micro_batches="auto")
    decided = Decisions.at_start(asked, CPU)
    decided.micro_batches, decided.skipped = 8, 1
    decided.plateau.saw(0.5, 10, 0.0)
    state = decided.to_state(asked, CPU, 1)
    same = Decisions.at_start(asked, CPU)
    same.take_up(state, asked, CPU, 1)
    assert same == decided
    two = TrainConfig(iterations=1, micro_batches=2)
    told = Decisions.at_start(two, CPU)
    told.take_up(state, two, CPU, 1)
    assert (told.micro_batches, told.plateau) == (2, decided.plateau)
    old = Decisions.at_start(two, CPU)
    old.take_up({}, two, CPU, 1)  # a checkpoint from before there were decisions
    assert old == Decisions.at_start(two, CPU)


@pytest.mark.parametrize(
    ("saved_on", "saved_by", "device", "world", "parts"),
    [
        ("cuda", 4, "cuda", 4, 8),  # as it was
        ("cuda", 4, "cuda", 2, 0),  # each rank's share is larger: to be chosen by a dry run
        ("cpu", 1, "cuda", 1, 0),
        ("cuda", 1, "cpu", 1, 1),
    ],
)
def test_micro_batches_are_chosen_again_on_another_kind_or_number_of_devices(
    saved_on: str, saved_by: int, device: str, world: int, parts: int
) -> None:
    config = TrainConfig(iterations=1, micro_batches="auto", precision="fp32")
    saved = Decisions(micro_batches=8).to_state(config, torch.device(saved_on), saved_by)
    decided = Decisions.at_start(config, torch.device(device))
    decided.take_up(saved, config, torch.device(device), world)
    assert decided.micro_batches == parts
