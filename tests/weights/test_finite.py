"""Weights that are no numbers are refused wherever they are loaded from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from detkit.api import load
from detkit.backbones import BACKBONES
from detkit.backbones.weights import load_backbone_weights
from detkit.checkpoints import resolve as named
from detkit.checkpoints.checkpoint import Content, write_checkpoint
from detkit.detectors import build_detector
from detkit.errors import ConfigError
from detkit.experiment.config import ExperimentConfig
from detkit.weights.finite import is_finite, refuse_not_finite
from detkit.weights.zoo import ZOO

SMALL = {"name": "yolo_v2", "num_classes": 2, "backbone": "tiny", "head_channels": 8}
REASON = "nothing can be computed with them. Take other weights, as from an earlier checkpoint."


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True, width=32), max_size=6))
def test_what_is_finite_is_what_torch_calls_so(values: list[float]) -> None:
    tensor = torch.tensor(values, dtype=torch.float32)
    assert is_finite(tensor) == bool(torch.isfinite(tensor).all())


def test_a_sum_too_large_for_its_kind_is_no_fault_of_the_numbers() -> None:
    assert is_finite(torch.full((100,), 60_000.0, dtype=torch.float16))
    assert is_finite(torch.tensor([3e38, 3e38, -3e38]))
    assert not is_finite(torch.tensor([float("inf"), float("-inf")]))
    assert is_finite(torch.ones(3, dtype=torch.int64))


def test_the_first_tensor_is_named_and_all_are_counted() -> None:
    tensors = {"a": torch.ones(2), "b": torch.tensor([1.0, float("nan")]), "c": torch.ones(3) / 0}
    with pytest.raises(ConfigError) as caught:
        refuse_not_finite("here", tensors)
    assert str(caught.value) == (
        f"here: 1 of 2 numbers of b are NaN or infinite, and so are numbers of 1 other tensors: "
        f"{REASON}"
    )


def spoil(module: nn.Module, *, all_of_it: bool) -> str:
    """Make the first weight NaN, in one number or in all of the module; return its name."""
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            tensor.view(-1)[: None if all_of_it else 1] = float("nan")
            if not all_of_it:
                return name
    return next(name for name, each in module.state_dict().items() if each.is_floating_point())


@pytest.mark.parametrize("all_of_it", [False, True])
def test_a_checkpoint_of_no_numbers_is_refused(all_of_it: bool, tmp_path: Path) -> None:
    detector = build_detector(SMALL)
    name = spoil(detector, all_of_it=all_of_it)
    experiment = ExperimentConfig.model_validate({"model": SMALL, "train": {"iterations": 1}})
    content = Content(experiment, ("cat", "dog"), detector.state_dict(), step=1, steps=1)
    write_checkpoint(tmp_path / "run", content, replace=False)
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "run")
    said = str(caught.value)
    assert said.startswith(f"{tmp_path / 'run'}: ")
    assert f" numbers of {name} are NaN or infinite" in said
    assert said.endswith(REASON)


def test_pretrained_weights_of_no_numbers_are_refused(tmp_path: Path) -> None:
    backbone = BACKBONES["tiny"].build(strides=(32,))
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    other = BACKBONES["tiny"].build(strides=(32,))
    spoil(other, all_of_it=False)
    path = tmp_path / "tiny.safetensors"
    save_file(other.state_dict(), path)
    with pytest.raises(ConfigError, match=rf"^model\.backbone_weights: {path}: 1 of "):
        load_backbone_weights(backbone, "tiny", path)
    assert all(torch.equal(before[name], now) for name, now in backbone.state_dict().items())


def test_published_weights_of_no_numbers_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = build_detector(SMALL)
    spoil(detector, all_of_it=True)
    monkeypatch.setattr(named, "_build", lambda entry, path: (detector, 1))
    path = tmp_path / "yolov3.weights"
    with pytest.raises(ConfigError, match=rf"^{path}: .* are NaN or infinite"):
        named.Named(path, ZOO["yolo_v3_coco"]).load()
