"""Out of GPU memory: played by a model that raises what torch raises, above a number of images."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from detkit.detectors.yolo_v2 import YoloV2
from detkit.engine.build import read_data
from detkit.engine.dry_run import choose_micro_batches, future_tensors
from detkit.engine.memory import in_parts_that_fit
from detkit.engine.state import TrainState
from detkit.engine.tasks.detection_worst_batch import largest_canvas, worst_batch
from detkit.errors import DetkitError
from detkit.experiment.read import read_experiment
from tests.engine.runs import batches_of, differences, small_run, state_of, train_on

STEPS, IMAGES = 3, 8
ONE_BATCH = ["train.batch_size=8", "train.save_every=100", "train.optimizer=adamw"]
HONEST = YoloV2.losses


def hungry(fits: int, where: str = "forward"):  # type: ignore[no-untyped-def]
    """Losses that run out of memory on more than ``fits`` images, and draw random numbers."""

    def fail(gradient: Tensor) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    def losses(self, batch, targets, step):  # type: ignore[no-untyped-def]
        found = HONEST(self, batch, targets, step)
        found = {name: loss * (1 + 0.1 * torch.rand(())) for name, loss in found.items()}
        if len(targets) > fits:
            if where == "forward":
                raise torch.OutOfMemoryError("CUDA out of memory.")
            found["loss_obj"].register_hook(fail)
        return found

    return losses


def trained(config: Path, parts: int | str, seed: int = 3) -> tuple[TrainState, list[str]]:
    run, said = small_run(config, [*ONE_BATCH, f"train.micro_batches={parts}"])
    torch.manual_seed(seed)
    train_on(run, batches_of(STEPS, IMAGES))
    return run, said


@pytest.mark.parametrize("where", ["forward", "backward"])
def test_a_run_that_ran_out_equals_one_cut_so_from_the_start(
    small_config: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.setattr(YoloV2, "losses", hungry(2, where))
    ours, said = trained(small_config, 1)
    assert said == [
        "step 0: out of GPU memory; the batch of 8 is now computed in 4 parts",
    ]
    assert ours.decided.micro_batches == 4
    found = state_of(ours)
    theirs, said = trained(small_config, 4)
    assert not said
    assert not differences(found, state_of(theirs))  # statistics and random state among them


def test_memory_may_run_out_in_the_middle_of_a_step(
    small_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def third_call_fails(self, batch, targets, step):  # type: ignore[no-untyped-def]
        calls.append(len(targets))
        if len(calls) == 4:  # the second part of the second step
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return HONEST(self, batch, targets, step)

    monkeypatch.setattr(YoloV2, "losses", third_call_fails)
    run, said = trained(small_config, 2)
    assert calls == [4, 4, 4, 4] + [2] * 8
    assert said == ["step 1: out of GPU memory; the batch of 8 is now computed in 4 parts"]
    found = state_of(run)
    monkeypatch.setattr(YoloV2, "losses", HONEST)
    honest, _ = small_run(small_config, [*ONE_BATCH, "train.micro_batches=2"])
    torch.manual_seed(3)
    batches = batches_of(STEPS, IMAGES)
    train_on(honest, batches[:1])
    honest.decided.micro_batches = 4
    train_on(honest, batches[1:])
    assert not differences(found, state_of(honest))


def test_one_image_at_a_time_that_does_not_fit_ends_the_run(
    small_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(YoloV2, "losses", hungry(0))
    with pytest.raises(DetkitError) as caught:
        trained(small_config, 1)
    assert str(caught.value) == (
        "out of GPU memory with one image at a time; use a smaller model.input_size, "
        "model.min_size or train size, train.precision=bf16, or a GPU with more memory."
    )


def test_several_ranks_cannot_take_a_step_again(
    small_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(YoloV2, "losses", hungry(2))
    run, _ = small_run(small_config, [*ONE_BATCH, "train.micro_batches=2"])
    run.spread = run.model
    with pytest.raises(DetkitError) as caught:
        train_on(run, batches_of(1, IMAGES))
    assert str(caught.value) == (
        "step 0: out of GPU memory; with several ranks a step cannot be taken again. Go on with "
        "--resume and train.micro_batches=4 (now 2)."
    )


@given(st.integers(1, 64), st.integers(1, 64), st.integers(1, 64))
def test_parts_double_until_they_fit(images: int, fits: int, parts: int) -> None:
    tried, undone = [], []

    def compute(count: int) -> str:
        tried.append(count)
        if -(-images // count) > fits:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return "done"

    result, found = in_parts_that_fit(compute, parts, images, lambda: undone.append(1))
    assert result == "done"
    assert -(-images // found) <= fits
    assert found == tried[-1]
    assert tried[0] == parts
    assert all(b == min(2 * a, images) for a, b in pairwise(tried))
    assert len(undone) == len(tried) - 1


def test_ranks_agree_on_the_number_of_parts() -> None:
    elsewhere = iter([True, False])  # the other rank ran out at the first try
    tried, undone = [], []
    result = in_parts_that_fit(
        lambda parts: tried.append(parts),
        1,
        8,
        lambda: undone.append(1),
        lambda here: here or next(elsewhere),
    )
    assert result == (None, 2)
    assert tried == [1, 2]
    assert len(undone) == 1


def test_a_dry_run_chooses_and_changes_nothing(
    small_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes, honest = [], hungry(3)

    def watched(self, batch, targets, step):  # type: ignore[no-untyped-def]
        sizes.append(tuple(batch.pixels.shape))
        assert all(len(target.boxes) == 100 for target in targets)
        return honest(self, batch, targets, step)

    monkeypatch.setattr(YoloV2, "losses", watched)
    run, _ = small_run(small_config, [*ONE_BATCH, "train.micro_batches=auto"])
    run.model.eval()
    before = state_of(run)
    data, _ = read_data(read_experiment(small_config)[0])
    line = choose_micro_batches(run, data)
    assert line == (
        "train.micro_batches: auto is 4, by a dry run of 8 images of 96 x 96 with 100 objects each"
    )
    assert run.decided.micro_batches == 4
    assert sizes[0] == (8, 3, 96, 96)  # the larger of the train sizes
    assert not differences(before, state_of(run))
    assert not run.model.training
    assert all(parameter.grad is None for parameter in run.model.parameters())


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_dry_run_makes_room_for_what_training_will_hold(
    small_config: Path, optimizer: str
) -> None:
    run, _ = small_run(small_config, [f"train.optimizer={optimizer}", "train.micro_batches=1"])
    alone, among_two = (future_tensors(run.optimizer, world) for world in (1, 2))
    weights = sum(parameter.numel() for parameter in run.model.parameters())
    train_on(run, batches_of(1, IMAGES))
    moments = [m for state in run.optimizer.state.values() for m in state.values()]
    held = sum(m.numel() for m in moments if m.ndim)  # not the counters of steps
    assert sum(tensor.numel() for tensor in alone) == held
    assert sum(tensor.numel() for tensor in among_two) == held + weights  # and the gradients
    assert not future_tensors(run.optimizer, 1)  # now it holds them itself
    assert sum(tensor.numel() for tensor in future_tensors(run.optimizer, 2)) == weights


def test_the_worst_batch_is_the_largest(small_config: Path) -> None:
    run, _ = small_run(small_config)
    data, _ = read_data(read_experiment(small_config)[0])
    assert largest_canvas(run.model, 12, seed=0) == (96, 96)
    assert largest_canvas(run.model, 10**6, seed=0) == (96, 96)
    batch = worst_batch(run.model, data, images=5, steps=12, seed=0)
    assert (len(batch), batch.size) == (5, (96, 96))
    free = worst_batch(ImagesAsTheyAre(), data, images=2, steps=12, seed=0)  # type: ignore[arg-type]
    height, width = max(map(tuple, data.sizes.tolist()), key=lambda size: size[0] * size[1])
    assert free.size is None
    assert free.samples[0].image.shape == (3, height, width)


class ImagesAsTheyAre:
    """A detector whose canvas follows from the images."""

    needs_proposals = False

    def train_size(self, step: int, steps: int, seed: int) -> None:
        """No draw."""


def test_on_a_cpu_auto_is_one_part(small_config: Path) -> None:
    run, _ = small_run(small_config, ["train.micro_batches=auto"])
    assert run.decided.micro_batches == 1
