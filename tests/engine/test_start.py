"""How a run begins: what a start that fails leaves behind, and checkpoints of earlier versions."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from detkit.checkpoints.checkpoint import load_checkpoint
from detkit.detectors.yolo_v2 import YoloV2
from detkit.engine.train import train
from detkit.errors import DetkitError
from tests.engine.runs import unseal


@pytest.mark.parametrize(
    "words",
    [
        ["model.backbone_weights=nowhere.pth"],
        ["train.precision=fp16"],
        ["train.freeze=[neck]"],
        ["train.freeze=[backbone]", "train.unfreeze={backbone: 99}"],
    ],
    ids=lambda words: words[-1],
)
def test_a_start_that_fails_leaves_no_folder(
    small_config: Path, tmp_path: Path, words: list[str]
) -> None:
    with pytest.raises(DetkitError):
        train(small_config, tmp_path / "runs" / "run", words)
    assert not (tmp_path / "runs").exists()


def test_a_checkpoint_without_decisions_goes_on(small_config: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    train(small_config, out, ["train.iterations=2"])
    path = out / "last" / "state.pt"
    state = torch.load(path, weights_only=True)
    del state["decided"]
    torch.save(state, path)
    unseal(path.parent)
    assert train(small_config, out, ["train.iterations=4"], resume=True).finished
    assert load_checkpoint(out / "last").step == 4


def test_parts_found_in_flight_are_kept_by_a_resumed_run(
    small_config: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    honest, out = YoloV2.losses, tmp_path / "run"
    shown = []

    def losses(self, batch, targets, step):  # type: ignore[no-untyped-def]
        shown.append(len(targets))
        if len(targets) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return honest(self, batch, targets, step)

    monkeypatch.setattr(YoloV2, "losses", losses)
    train(small_config, out, ["train.iterations=2"])
    line = "step 0: out of GPU memory; the batch of 3 is now computed in 3 parts\n"
    assert capsys.readouterr().out.count(line) == 1
    shown.clear()
    train(small_config, out, ["train.iterations=4"], resume=True)
    assert set(shown) == {1}
    assert "(3 micro-batches)" in capsys.readouterr().out
