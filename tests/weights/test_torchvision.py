"""torchvision's weight files: every tensor in its place, background moved, refusals in words."""

from __future__ import annotations

import argparse
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torchvision.models import detection

from detkit.detectors import Detector, build_detector
from detkit.errors import ConfigError
from detkit.weights.torchvision import (
    TensorFile,
    fill,
    load_torchvision,
    pair,
    read_torchvision,
    spellings,
)
from detkit.weights.zoo import find_entry
from tests.weights.torchvision_models import BUILDERS

PUBLISHED = {  # torchvision's own records of the four
    "faster_rcnn_resnet50_fpn_coco": detection.FasterRCNN_ResNet50_FPN_Weights.COCO_V1,
    "faster_rcnn_resnet50_fpn_v2_coco": detection.FasterRCNN_ResNet50_FPN_V2_Weights.COCO_V1,
    "faster_rcnn_mobilenet_v3_large_fpn_coco": (
        detection.FasterRCNN_MobileNet_V3_Large_FPN_Weights.COCO_V1
    ),
    "faster_rcnn_mobilenet_v3_large_320_fpn_coco": (
        detection.FasterRCNN_MobileNet_V3_Large_320_FPN_Weights.COCO_V1
    ),
}
SMALL = {  # a detector with the parts of torchvision's first one, of some thousand numbers
    **{"name": "faster_rcnn_fpn", "num_classes": 3, "backbone": "tiny", "strides": [8, 16]},
    **{"anchor_sizes": [[32], [64], [128]], "pyramid_channels": 4, "rpn_channels": 4},
    **{"head_width": 6, "roi_size": 2},
}


def theirs(name: str) -> dict[str, Tensor]:
    """The state dict of torchvision's own network, without numbers."""
    with torch.device("meta"):
        return BUILDERS[name](weights=None, weights_backbone=None).state_dict()


def small() -> Detector:
    torch.manual_seed(0)
    return build_detector(SMALL)


def small_tensors() -> dict[str, Tensor]:
    """What torchvision would save of ``small()``, each tensor of other numbers."""
    own = small().state_dict()
    draws = torch.Generator().manual_seed(1)
    names = {
        "rpn.convs.0.": "rpn.head.conv.0.0.",
        "rpn.objectness.": "rpn.head.cls_logits.",
        "rpn.deltas.": "rpn.head.bbox_pred.",
        "roi_head.layers.1.": "roi_heads.box_head.fc6.",
        "roi_head.layers.3.": "roi_heads.box_head.fc7.",
        "roi_head.scores.": "roi_heads.box_predictor.cls_score.",
        "roi_head.deltas.": "roi_heads.box_predictor.bbox_pred.",
    }
    tensors = {}
    for key, tensor in own.items():
        here = next((start for start in names if key.startswith(start)), "")
        if not key.endswith("num_batches_tracked"):
            drawn = torch.randn(tensor.shape, generator=draws)
            tensors[names.get(here, "") + key.removeprefix(here)] = drawn
    return tensors


@pytest.fixture
def file(tmp_path: Path) -> Path:
    torch.save(small_tensors(), tmp_path / "small.pth")
    return tmp_path / "small.pth"


# ---------------------------------------------------------------------------------- names


@pytest.mark.parametrize("name", BUILDERS)
def test_every_tensor_of_torchvisions_networks_has_its_place(name: str) -> None:
    with torch.device("meta"):
        ours = build_detector(find_entry(name).model)
    tensors = theirs(name)
    pairs = pair(ours, tensors)
    assert pairs.fit
    assert sorted(pairs.names.values()) == sorted(tensors)
    assert len(set(pairs.names.values())) == len(pairs.names)


@pytest.mark.parametrize("name", BUILDERS)
def test_parameters_are_as_many_as_torchvision_says(name: str) -> None:
    with torch.device("meta"):
        ours = build_detector(find_entry(name).model)
    learned = sum(part.numel() for part in ours.parameters() if part.requires_grad)
    assert learned == PUBLISHED[name].meta["num_params"]


@pytest.mark.parametrize(
    ("ours", "now", "formerly"),
    [
        ("backbone.body.layer1.0.bn1.weight", *["backbone.body.layer1.0.bn1.weight"] * 2),
        ("backbone.body.features.4.block.0.0.weight", *["backbone.body.4.block.0.0.weight"] * 2),
        (
            "backbone.fpn.inner_blocks.2.0.bias",
            "backbone.fpn.inner_blocks.2.0.bias",
            "backbone.fpn.inner_blocks.2.bias",
        ),
        (
            "backbone.fpn.layer_blocks.0.0.weight",
            "backbone.fpn.layer_blocks.0.0.weight",
            "backbone.fpn.layer_blocks.0.weight",
        ),
        ("rpn.convs.0.weight", "rpn.head.conv.0.0.weight", "rpn.head.conv.weight"),
        ("rpn.convs.2.bias", *["rpn.head.conv.1.0.bias"] * 2),
        ("rpn.objectness.weight", *["rpn.head.cls_logits.weight"] * 2),
        ("rpn.deltas.bias", *["rpn.head.bbox_pred.bias"] * 2),
        ("roi_head.layers.1.weight", *["roi_heads.box_head.fc6.weight"] * 2),
        ("roi_head.layers.3.bias", *["roi_heads.box_head.fc7.bias"] * 2),
        ("roi_head.layers.1.1.running_var", *["roi_heads.box_head.1.1.running_var"] * 2),
        ("roi_head.layers.5.weight", *["roi_heads.box_head.5.weight"] * 2),
        ("roi_head.scores.bias", *["roi_heads.box_predictor.cls_score.bias"] * 2),
        ("roi_head.deltas.weight", *["roi_heads.box_predictor.bbox_pred.weight"] * 2),
    ],
)
def test_names_as_torchvision_spells_them(ours: str, now: str, formerly: str) -> None:
    assert spellings(ours) == (now, formerly)


# ------------------------------------------------------------------------------- what comes


def test_every_tensor_comes_and_background_is_last(file: Path) -> None:
    detector, tensors = small(), small_tensors()
    assert load_torchvision(detector, file) == len(tensors)
    own = detector.state_dict()
    scores = tensors["roi_heads.box_predictor.cls_score.weight"]
    for row, there in enumerate((1, 2, 3, 0)):  # three classes, and background
        assert torch.equal(own["roi_head.scores.weight"][row], scores[there])
        for side in range(4):
            for part in ("weight", "bias"):
                boxes = tensors[f"roi_heads.box_predictor.bbox_pred.{part}"]
                got = own[f"roi_head.deltas.{part}"][4 * row + side]
                assert torch.equal(got, boxes[4 * there + side])
    assert torch.equal(own["rpn.convs.0.weight"], tensors["rpn.head.conv.0.0.weight"])
    assert torch.equal(own["roi_head.layers.3.bias"], tensors["roi_heads.box_head.fc7.bias"])
    for key in (key for key in own if key.startswith("backbone.")):
        assert key.endswith("num_batches_tracked") or torch.equal(own[key], tensors[key])


def test_a_detector_of_one_class(tmp_path: Path) -> None:
    detector = build_detector({**SMALL, "num_classes": 1})
    tensors = small_tensors()
    for name in [name for name in tensors if "box_predictor" in name]:
        tensors[name] = tensors[name][: 8 if "bbox" in name else 2]
    torch.save(tensors, tmp_path / "one.pth")
    load_torchvision(detector, tmp_path / "one.pth")
    assert torch.equal(
        detector.state_dict()["roi_head.scores.bias"],
        tensors["roi_heads.box_predictor.cls_score.bias"][[1, 0]],
    )


def old_spelling(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """As the first published files have it."""
    replaced = {"blocks.0.0.": "blocks.0.", "blocks.1.0.": "blocks.1.", "conv.0.0.": "conv."}
    renamed = {}
    for name, tensor in tensors.items():
        for new, old in replaced.items():
            name = name if "body" in name else name.replace(new, old)
        renamed[name] = tensor
    return renamed


def counted(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """With the counters of batches that a network not frozen has."""
    counters = {
        name.replace("running_var", "num_batches_tracked"): torch.tensor(7)
        for name in tensors
        if name.endswith("running_var")
    }
    return tensors | counters


@pytest.mark.parametrize(
    "written",
    [
        old_spelling,
        counted,
        lambda tensors: {f"module.{name}": tensor for name, tensor in tensors.items()},
        lambda tensors: {"model": tensors, "optimizer": {"lr": [0.1]}, "epoch": 3},
        lambda tensors: {name: tensor.double() for name, tensor in tensors.items()},
    ],
)
def test_files_as_they_are_about(
    written: Callable[[dict[str, Tensor]], dict[str, Any]], file: Path, tmp_path: Path
) -> None:
    expected, detector = small(), small()
    load_torchvision(expected, file)
    torch.save(written(small_tensors()), tmp_path / "other.pth")
    load_torchvision(detector, tmp_path / "other.pth")
    for key, tensor in expected.state_dict().items():
        if not key.endswith("num_batches_tracked"):
            assert torch.equal(detector.state_dict()[key], tensor), key


def test_files_from_before_the_zip_format(tmp_path: Path) -> None:
    path = tmp_path / "old.pth"
    torch.save(small_tensors(), path, _use_new_zipfile_serialization=False)
    assert not zipfile.is_zipfile(path)
    assert load_torchvision(small(), path) == len(small_tensors())


def test_what_a_file_tells_of_itself(file: Path) -> None:
    found = read_torchvision(file)
    assert found.num_classes == 3
    assert found.is_frozen
    assert found.floats == sum(tensor.numel() for tensor in small_tensors().values())
    assert not TensorFile(file, counted(small_tensors())).is_frozen
    assert TensorFile(file, {}).num_classes is None


# ------------------------------------------------------------------------------- refusals


def refused(path: Path, tensors: dict[str, Tensor]) -> str:
    """What is said of such a file; and nothing of the detector may change."""
    torch.save(tensors, path)
    detector = small()
    before = {key: tensor.clone() for key, tensor in detector.state_dict().items()}
    with pytest.raises(ConfigError) as caught:
        load_torchvision(detector, path)
    assert all(torch.equal(before[key], now) for key, now in detector.state_dict().items())
    return str(caught.value)


ADVICE = "Is it the network that the file was trained as, with its values of model.*?"


def test_a_file_of_another_network_is_refused_with_names_and_counts(tmp_path: Path) -> None:
    path, tensors = tmp_path / "other.pth", small_tensors()
    every = len(tensors)
    lacking = {name: tensors[name] for name in tensors if "box_head" not in name}
    assert refused(path, lacking) == (
        f"{path}: not of this network: 4 of {every} tensors lack (roi_heads.box_head.fc6.weight, "
        "roi_heads.box_head.fc6.bias, roi_heads.box_head.fc7.weight and 1 more). " + ADVICE
    )
    more = tensors | {"roi_heads.mask_head.mask_fcn1.weight": torch.zeros(1)}
    assert refused(path, more) == (
        f"{path}: not of this network: 1 of the file's {every + 1} have no place "
        f"(roi_heads.mask_head.mask_fcn1.weight). {ADVICE}"
    )
    other = tensors | {"roi_heads.box_predictor.cls_score.bias": torch.zeros(9)}
    assert refused(path, other) == (
        f"{path}: not of this network: 1 have other shapes "
        f"(roi_heads.box_predictor.cls_score.bias is [9], not [4]). {ADVICE}"
    )
    assert refused(path, {"fc.weight\n": torch.zeros(1)}) == (
        f"{path}: not of this network: {every} of {every} tensors lack "
        "(backbone.body.stages.0.0.conv.weight, backbone.body.stages.0.0.norm.weight, "
        f"backbone.body.stages.0.0.norm.bias and {every - 3} more); 1 of the file's 1 have no "
        f"place ('fc.weight\\n'). {ADVICE}"
    )


class Evil:
    """What an attacker puts into a pickle."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, ("touched",)


SAVE = "Save the weights with torch.save(model.state_dict(), FILE)."


@pytest.mark.parametrize(
    ("saved", "sentence"),
    [
        (
            {"model": {}, "args": argparse.Namespace(lr=1)},
            "holds Python objects (argparse.Namespace) beside tensors, and loading those could run "
            "anything. Save the weights alone, with torch.save(model.state_dict(), FILE).",
        ),
        (
            nn.Sequential(nn.Linear(1, 1)),
            "holds Python objects (torch.nn.modules.container.Sequential, "
            "torch.nn.modules.linear.Linear) beside tensors, and loading those could run anything. "
            "Save the weights alone, with torch.save(model.state_dict(), FILE).",
        ),
        (
            {"a": torch.zeros(1), "b": Evil()},
            "holds Python objects (posix.mkdir) beside tensors, and loading those could run "
            "anything. Save the weights alone, with torch.save(model.state_dict(), FILE).",
        ),
        ([torch.zeros(1)], f"expected tensors by name (a state dict), found list. {SAVE}"),
        ({}, f"expected tensors by name (a state dict), found nothing. {SAVE}"),
        (
            {"epoch": 3, "a": torch.zeros(1)},
            f"expected tensors by name (a state dict), but 'epoch' is of type int. {SAVE}",
        ),
        (
            {1: torch.zeros(1)},
            f"expected tensors by name (a state dict), but '1' is no name. {SAVE}",
        ),
        (
            {"a": torch.zeros(1, dtype=torch.complex64)},
            "expected tensors by name (a state dict), but 'a' is a torch.complex64 tensor of "
            f"another kind. {SAVE}",
        ),
        (
            {"a": torch.eye(2).to_sparse()},
            "expected tensors by name (a state dict), but 'a' is a torch.float32 tensor of "
            f"another kind. {SAVE}",
        ),
    ],
)
def test_files_of_other_things(
    saved: object, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "file.pth"
    torch.save(saved, path)
    with pytest.raises(ConfigError) as caught:
        read_torchvision(path)
    assert str(caught.value) == f"{path}: {sentence}"
    assert not Path("touched").exists()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"<!DOCTYPE html><html>", "this is a web page of 21 bytes, not weights. {again}"),
        (b"version https://git-lfs", "this is text of 23 bytes, not weights. {again}"),
        (b"", "this is a file of 0 bytes, not weights. {again}"),
        (b"PK\x03\x04" + bytes(40), "44 bytes that {cannot}"),
        (bytes(100), "100 bytes that {cannot}"),
        (pickle.dumps({"a": 1}), "21 bytes that {cannot}"),
    ],
)
def test_files_that_are_no_weights(content: bytes, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "file.pth"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read_torchvision(path)
    assert str(caught.value) == f"{path}: " + sentence.format(
        again="Download the file again.",
        cannot="PyTorch cannot read as tensors. Is the download complete?",
    )


def test_a_download_that_ended_early(file: Path) -> None:
    whole = file.read_bytes()
    for size in (len(whole) // 2, len(whole) - 1, 10):
        file.write_bytes(whole[:size])
        with pytest.raises(ConfigError) as caught:
            read_torchvision(file)
        assert str(caught.value) == (
            f"{file}: {size:,} bytes that PyTorch cannot read as tensors. Is the download complete?"
        )


def test_no_file(tmp_path: Path) -> None:
    for path, kind in ((tmp_path / "none.pth", "no such file"), (tmp_path, "is no file")):
        with pytest.raises(ConfigError) as caught:
            read_torchvision(path)
        assert str(caught.value) == f"{path}: {kind}. Name a .pth file of torchvision's weights."


@pytest.mark.parametrize("zipped", [True, False])
@given(data=st.data())
def test_damage_anywhere_is_a_sentence_or_nothing(
    zipped: bool, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Bytes are changed, cut out or doubled; what can still be read holds tensors by name."""
    path = tmp_path_factory.getbasetemp() / f"damaged{zipped}.pth"
    tensors = {"a.weight": torch.arange(6.0).view(2, 3), "b": torch.zeros(0)}
    torch.save(tensors, path, _use_new_zipfile_serialization=zipped)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        length = data.draw(st.integers(0, 4))
        content[place : place + length] = data.draw(st.binary(max_size=4))
    path.write_bytes(content)
    found, said = dict[str, Tensor](), f"{path}: "
    try:
        found = dict(read_torchvision(path).tensors)
    except ConfigError as problem:
        said = str(problem)
    assert said.startswith(f"{path}: ")
    assert all(isinstance(tensor, Tensor) for tensor in found.values())


def test_a_file_fills_only_what_it_fits(file: Path) -> None:
    with torch.device("meta"):
        wider = build_detector({**SMALL, "head_width": 7})
    with pytest.raises(ConfigError) as caught:
        fill(wider, read_torchvision(file))
    assert str(caught.value) == (
        f"{file}: not of this network: 6 have other shapes (roi_heads.box_head.fc6.weight is "
        f"[6, 16], not [7, 16]). {ADVICE}"
    )
