"""Deterministic mode: torch's switches, and the operations that it names."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from detkit.detectors.yolo_v2 import YoloV2
from detkit.engine.determinism import determinism_line, deterministic
from detkit.engine.train import train


def switches() -> tuple[object, ...]:
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.backends.cudnn.deterministic,
        torch.backends.cudnn.benchmark,
        os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
    )


def unpool() -> None:
    """An operation that torch has no deterministic form of, on a CPU either."""
    pooled, places = F.max_pool2d(torch.rand(1, 1, 4, 4), 2, return_indices=True)
    F.max_unpool2d(pooled, places, 2)


def test_switches_are_set_and_restored() -> None:
    before = switches()
    with deterministic(True):
        assert switches() == (True, True, True, False, ":4096:8")
    assert switches() == before
    with pytest.raises(ZeroDivisionError), deterministic(True):
        raise ZeroDivisionError
    assert switches() == before


def test_nothing_happens_unless_wanted() -> None:
    before = switches()
    with deterministic(False) as met:
        assert switches() == before
        unpool()
    assert not met


def test_a_workspace_that_was_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    with deterministic(True):
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"


def test_operations_without_a_deterministic_form_are_named() -> None:
    for _ in range(2):  # a second run in the same process names them again
        with deterministic(True) as met:
            unpool()
            unpool()
            torch.zeros(3).put_(torch.tensor([0, 0]), torch.tensor([1.0, 2.0]))
        assert met == {"max_unpooling2d_forward_out", "put_"}
    assert determinism_line(met) == (
        "deterministic: torch has no deterministic form of max_unpooling2d_forward_out, put_; "
        "two runs may differ by what these compute"
    )
    assert determinism_line(set()) == (
        "deterministic: every operation so far has a deterministic form"
    )


def test_other_warnings_are_shown_as_before() -> None:
    with deterministic(True), pytest.raises(UserWarning, match="something else"):
        warnings.warn("something else", stacklevel=1)


def test_a_run_says_what_it_could_not_fix(
    small_config: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = ["train.deterministic=true", "train.iterations=4"]
    train(small_config, tmp_path / "fixed", words)
    assert capsys.readouterr().out.count("deterministic: every operation so far has a") == 1
    honest = YoloV2.losses

    def losses(self, batch, targets, step):  # type: ignore[no-untyped-def]
        unpool()
        return honest(self, batch, targets, step)

    monkeypatch.setattr(YoloV2, "losses", losses)
    train(small_config, tmp_path / "unfixed", words)
    assert "no deterministic form of max_unpooling2d_forward_out; two" in capsys.readouterr().out
    assert not torch.are_deterministic_algorithms_enabled()
