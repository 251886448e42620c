"""What a checkpoint brings back, and what it leaves to the config."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from detkit.engine.checkpoint import restore, save_checkpoint
from detkit.engine.experiment import read_experiment
from detkit.errors import DetkitError
from tests.engine.runs import batches_of, small_run, train_on


def saved(small_config: Path, words: list[str]) -> Path:
    """A checkpoint after two steps."""
    run, _ = small_run(small_config, words)
    train_on(run, batches_of(2, 3))
    run.best = 0.7
    run.decided.plateau.saw(0.7, 2, 0.0)
    folder = small_config.parent / "last"
    save_checkpoint(folder, run, read_experiment(small_config, words)[0], {}, resumable=True)
    return folder


def test_a_changed_optimiser_setting_counts_after_resuming(small_config: Path) -> None:
    folder = saved(small_config, [])
    changed = ["train.weight_decay=0.5", "train.momentum=0.1", "train.backbone_lr_factor=0.0"]
    weights = []
    for words in ([], changed):
        run, _ = small_run(small_config, words)
        restore(run, folder, "voc07_map")
        before = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}
        train_on(run, batches_of(1, 3))
        weights.append(run.model.state_dict())
    names = [name for name, _ in run.model.backbone.named_parameters(prefix="backbone")]
    assert all(torch.equal(weights[1][name], before[name]) for name in names)  # a rate of 0
    assert not all(torch.equal(weights[0][name], before[name]) for name in names)
    assert {group["momentum"] for group in run.optimizer.param_groups} == {0.1}
    assert {group["weight_decay"] for group in run.optimizer.param_groups} == {0.0, 0.5}


@pytest.mark.parametrize(("metric", "best"), [("voc07_map", 0.7), ("coco_ap", None)])
def test_what_was_best_by_another_metric_is_forgotten(
    small_config: Path, metric: str, best: float | None
) -> None:
    folder = saved(small_config, [])
    run, _ = small_run(small_config, [f"eval.best={metric}"])
    restore(run, folder, metric)
    assert run.best == best
    assert run.decided.plateau.best == best


def test_weights_that_are_not_finite_are_not_saved(small_config: Path) -> None:
    folder = saved(small_config, [])
    run, _ = small_run(small_config, [])
    restore(run, folder, "voc07_map")
    with torch.no_grad():
        run.model.head.out.bias[3] = float("nan")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(DetkitError) as caught:
        save_checkpoint(folder, run, read_experiment(small_config, [])[0], {}, resumable=True)
    assert str(caught.value) == (
        "step 2: head.out.bias is not finite, so nothing was saved; the checkpoint before is "
        "whole. Go on from it with --resume and a lower train.lr, or with train.clip_norm=10."
    )
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
