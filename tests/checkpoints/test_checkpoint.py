"""What a checkpoint brings back, and what it leaves to the config."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from detkit.checkpoints.checkpoint import load_checkpoint
from detkit.checkpoints.files import existing_checkpoint
from detkit.engine.build import with_defaults
from detkit.engine.training_state import restore, save_checkpoint
from detkit.errors import ConfigError, DetkitError
from detkit.experiment.read import read_experiment
from detkit.files import make_folder
from tests.engine.runs import batches_of, small_run, train_on, unseal
from tests.power_cut import Tree, followed, lay_out


def saved(small_config: Path, words: list[str]) -> Path:
    """A checkpoint after two steps."""
    run, _ = small_run(small_config, words)
    train_on(run, batches_of(2, 3))
    run.best = 0.7
    run.decided.plateau.saw(0.7, 2, 0.0)
    folder = small_config.parent / "last"
    save_checkpoint(folder, run, read_experiment(small_config, words)[0], {}, resumable=True)
    return folder


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("best", "high"),
        ("decided", [1]),
        ("decided", {"skipped": "x"}),
        ("random", torch.zeros(3, dtype=torch.uint8)),
    ],
)
def test_a_state_that_makes_no_sense_is_refused(
    small_config: Path, key: str, value: object
) -> None:
    """As only one without a hash can be."""
    folder = saved(small_config, [])
    unseal(folder)
    state = torch.load(folder / "state.pt", weights_only=True)
    torch.save({**state, key: value}, folder / "state.pt")
    with pytest.raises(ConfigError) as caught:
        restore(small_run(small_config)[0], folder, None)
    assert str(caught.value).startswith(f"{folder / 'state.pt'}: is no state of a training")
    assert "\n" not in str(caught.value)


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
        "step 2: head.out.bias is not finite, so nothing was saved. Go on from the checkpoint of "
        "step 2 with --resume and a lower train.lr, or with train.clip_norm=10."
    )
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_power_cut_at_any_moment_leaves_a_checkpoint_to_go_on_from(
    small_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Content flushed, then the names, then the old one removed; so is the log of its steps."""
    run, _ = small_run(small_config)
    experiment = with_defaults(read_experiment(small_config)[0], run)
    root = small_config.parent / "disk"
    root.mkdir()
    run.folder = root / "runs" / "one"
    reached = []  # of every save its step, and how many calls there were when it was done
    with followed(root, monkeypatch) as disk:
        make_folder(run.folder)
        for batch in batches_of(3, 3):
            train_on(run, [batch])
            with (run.folder / "log.jsonl").open("a") as log:
                log.write(f"step {run.step}\n")
            save_checkpoint(run.folder / "last", run, experiment, {}, resumable=True)
            reached.append((run.step, len(disk.cuts)))
    tried: list[Tree] = []
    for number, (call, tree) in enumerate(disk.cuts):
        if tree in tried:
            continue
        tried.append(tree)
        cut = small_config.parent / "cut" / str(number)
        lay_out(tree, cut)
        found = existing_checkpoint(cut / "runs" / "one" / "last")
        least = max((step for step, calls in reached if calls <= number), default=0)
        if found is None:
            assert least == 0, call
            continue
        restore(run, found, "voc07_map")
        assert load_checkpoint(found).step == run.step >= least, call
        assert f"step {run.step}\n" in (cut / "runs/one/log.jsonl").read_text(), call
    assert len(tried) > 20
