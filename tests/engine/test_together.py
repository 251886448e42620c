"""What a run decides for itself is decided by all ranks together."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from detkit.checkpoints.checkpoint import load_checkpoint
from tests.engine.test_distributed import BATCH_OF_FOUR, ended, start_two

TROUBLED = """
import os, sys
import torch
from detkit.cli.train import main
from detkit.detectors.yolo_v2 import YoloV2

rank, what = int(os.environ["RANK"]), sys.argv.pop(1)
honest = YoloV2.losses

def losses(self, batch, targets, step):
    if rank == 1 and what == "memory" and step.seen >= 8:
        raise torch.OutOfMemoryError("CUDA out of memory.")
    found = honest(self, batch, targets, step)
    if rank == 1 and what == "precision" and torch.is_autocast_enabled("cpu"):
        found = {name: 3 * loss for name, loss in found.items()}
    return found

YoloV2.losses = losses
sys.exit(main())
"""


def troubled(
    what: str, config: Path, out: Path, *words: str
) -> tuple[list[int | None], list[str], list[str]]:
    """A training of two ranks in which ``what`` happens to rank 1."""
    script = config.parent / "troubled.py"
    script.write_text(TROUBLED)
    fixed = ["--out", str(out), "--device", "cpu", *BATCH_OF_FOUR]
    return ended(start_two(str(script), what, str(config), *fixed, *words))


@pytest.mark.slow
def test_ranks_thaw_fall_back_and_stop_together(small_config: Path, tmp_path: Path) -> None:
    """A step is an epoch here: the backbone learns in the third, and nothing is ever found."""
    out = tmp_path / "run"
    words = ["train.freeze=[backbone]", "train.unfreeze={backbone: 2}", "train.precision=bf16"]
    words += ["eval.every=1", "train.stop_patience=4", "model.score_threshold=1.0"]
    codes, said, complaints = troubled("precision", small_config, out, *words)
    assert codes == [0, 0], "\n".join(complaints)
    assert said[1] == complaints[1] == ""
    lines = said[0].splitlines()
    assert "step 0: the losses disagree on another rank; training goes on in fp32" in lines
    assert "epoch 3: backbone learns from here on, as train.unfreeze says" in lines
    assert lines[-2] == (
        "stopping early: voc07_map has not risen above 0.0000 (step 1) for 4 evaluations"
    )
    assert load_checkpoint(out / "last").step == 5
    state = torch.load(out / "last" / "state.pt", weights_only=True)
    assert state["decided"]["fell_back"]
    first, last = (load_file(out / name / "weights.safetensors") for name in ("best", "last"))
    moved = [name for name in first if not torch.equal(first[name], last[name])]
    assert any(name.startswith("backbone.") and name.endswith("weight") for name in moved)


@pytest.mark.slow
def test_memory_that_runs_out_on_one_rank_ends_both(small_config: Path, tmp_path: Path) -> None:
    codes, _, complaints = troubled("memory", small_config, tmp_path / "run")
    assert codes == [2, 2]
    assert complaints == [
        "",
        "detkit: rank 1: step 2: out of GPU memory; with several ranks a step cannot be taken "
        "again. Go on with --resume and train.micro_batches=2 (now 1).\n",
    ]
