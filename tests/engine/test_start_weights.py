"""Weights that a whole detector starts from: which fit, what is said, and when they are read."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from detkit.backbones import BACKBONES
from detkit.detectors import build_detector
from detkit.engine.checkpoint import load_checkpoint
from detkit.engine.start_weights import Source, copy_weights
from detkit.engine.train import train
from detkit.errors import ConfigError
from tests.oracles import voc_xml, write_voc

FASTER = {
    "name": "faster_rcnn",
    "backbone": "tiny",
    "anchor_sizes": [16, 32],
    "rpn_channels": 8,
    "roi_head": "mlp",
    "roi_size": 3,
    "head_width": 16,
}
ONE_STEP = ["train.iterations=1", "train.average_decay=null", "train.lr=1e-30"]  # moves nothing


def built(**settings: object) -> tuple[dict[str, object], dict[str, Tensor]]:
    """A model block with its defaults, and the tensors of a detector of it."""
    model = {**FASTER, "num_classes": 3, **settings}
    detector = build_detector(model)
    described = {"name": model["name"], **detector.config.model_dump(mode="json")}
    return described, detector.state_dict()


def lines_of(out: str) -> list[str]:
    return [line for line in out.splitlines() if line.startswith(("start", "weights", "model.b"))]


def test_a_coco_detector_is_tuned_to_own_classes() -> None:
    """All fits but the layers that speak of classes."""
    torch.manual_seed(1)
    settings, tensors = built(num_classes=90)
    torch.manual_seed(2)
    own, _ = built(num_classes=3)
    model = build_detector(own)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    report = copy_weights(model, own, Source("coco", settings, tensors))
    heads = ("roi_head.scores.weight", "roi_head.scores.bias")
    heads += ("roi_head.deltas.weight", "roi_head.deltas.bias")
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name] if name in heads else tensors[name]), name
    assert report.re_initialised == heads
    assert str(report) == (
        f"start coco: {len(report.loaded)} tensors loaded, 4 re-initialised "
        "(roi_head.scores.weight, roi_head.scores.bias, roi_head.deltas.weight, "
        "roi_head.deltas.bias), 0 ignored"
    )
    weights = [name for name in before if not name.endswith("num_batches_tracked")]
    assert len(report.loaded) == len(weights) - 4


def test_settings_that_differ_are_told() -> None:
    """An anchor or an epsilon that is another makes good weights worse."""
    settings, tensors = built(batch_norm_eps=0.0, rpn_convs=2)
    own, _ = built(nms_iou=0.5)
    report = copy_weights(build_detector(own), own, Source("there", settings, tensors))
    assert report.ignored == ("rpn.convs.2.weight", "rpn.convs.2.bias")
    assert str(report).endswith(
        "0 re-initialised, 2 ignored (rpn.convs.2.weight, rpn.convs.2.bias); its settings were "
        "others (batch_norm_eps: 0.0, now None, nms_iou: 0.3, now 0.5, rpn_convs: 2, now 1)"
    )


def test_another_backbone_is_refused() -> None:
    """Counters of batch norm have one shape everywhere; they are no weights that fit."""
    yolo = {"name": "yolo_v3_tiny", "num_classes": 3}
    detector = build_detector(yolo)
    settings = {**yolo, **detector.config.model_dump(mode="json")}
    own, _ = built(backbone="resnet18")
    with pytest.raises(ConfigError) as caught:
        copy_weights(build_detector(own), own, Source("tiny.weights", settings, {}))
    backbone = settings["backbone"]
    sentence = (
        f"train.start: tiny.weights: none of its weights fits the backbone. It is a yolo_v3_tiny "
        f"on {backbone}, the config's a faster_rcnn on resnet18; start from a detector on the same "
        "backbone, or set train.start: null."
    )
    assert str(caught.value) == sentence
    strangers = {
        name.replace("backbone.", "backbone.body."): tensor
        for name, tensor in detector.state_dict().items()
    } | {"backbone.bn1.num_batches_tracked": torch.tensor(3)}
    with pytest.raises(ConfigError) as caught:
        copy_weights(build_detector(own), own, Source("tiny.weights", settings, strangers))
    assert str(caught.value) == sentence


def test_a_run_starts_from_a_run_of_other_classes(
    small_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A YOLOv2 of two classes becomes one of three; the average starts there, too."""
    train(small_config, tmp_path / "first", ["train.iterations=2"])
    objects = [(name, (1 + 8 * n, 1, 40 + 8 * n, 50)) for n, name in enumerate("abc")]
    root = write_voc(tmp_path / "three", {"one": voc_xml(objects)})
    words = [f"data.train=[{{format: voc, root: {root}, split: trainval}}]", "data.eval=[]"]
    words += ["train.batch_size=1", "train.micro_batches=1", f"train.start={tmp_path / 'first'}"]
    capsys.readouterr()
    still = ["train.iterations=1", "train.lr=1e-30"]
    train(small_config, tmp_path / "second", [*words, *still])
    (line,) = lines_of(capsys.readouterr().out)
    source = load_checkpoint(tmp_path / "first").detector.state_dict()
    begun = load_file(tmp_path / "second" / "last" / "weights.safetensors")
    moved = [
        name
        for name, tensor in begun.items()
        if "running" not in name
        and "num_batches" not in name
        and (tensor.shape != source[name].shape or not torch.allclose(tensor, source[name]))
    ]
    changed = len([name for name in source if source[name].shape != begun[name].shape])
    assert moved == [name for name in begun if source[name].shape != begun[name].shape]
    assert line.startswith(f"start {tmp_path / 'first'}: ")
    assert f", {changed} re-initialised (" in line
    assert line.endswith(", 0 ignored")


def test_it_takes_the_place_of_backbone_weights_and_is_never_read_again(
    small_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(small_config, tmp_path / "first", ["train.iterations=1"])
    words = [f"train.start={tmp_path / 'first' / 'last'}", "model.backbone_weights=nowhere.pth"]
    out = tmp_path / "second"
    capsys.readouterr()
    train(small_config, out, [*words, "train.iterations=1"])
    first, second = lines_of(capsys.readouterr().out)
    assert first.startswith(f"start {tmp_path / 'first' / 'last'}: ")
    assert second == "model.backbone_weights: nowhere.pth is not read, since train.start is given"
    (tmp_path / "first").rename(tmp_path / "gone")
    assert train(small_config, out, [*words, "train.iterations=2"], resume=True).finished
    assert lines_of(capsys.readouterr().out) == []


def test_no_such_weights(small_config: Path, tmp_path: Path) -> None:
    out = tmp_path / "runs" / "run"
    with pytest.raises(ConfigError) as caught:
        train(small_config, out, [f"train.start={tmp_path / 'nowhere'}"])
    assert str(caught.value) == (
        f"train.start: {tmp_path / 'nowhere'}: no checkpoint here; expected a run folder, or a "
        "folder with model.json and weights.safetensors."
    )
    with pytest.raises(ConfigError) as caught:
        train(small_config, out, ["train.start=yolo_v3_coca"])
    assert str(caught.value).startswith(
        "train.start: yolo_v3_coca: no such folder, and no weights of the zoo."
    )
    assert not (tmp_path / "runs").exists()


def test_backbone_weights_go_into_the_trunk(small_config: Path, tmp_path: Path) -> None:
    """Of a pyramid that is the network within, whose names are those of the file."""
    made = BACKBONES["tiny"].build((8, 16, 32)).state_dict()
    trunk = {name: torch.full_like(tensor, 0.5) for name, tensor in made.items()}
    torch.save(trunk, tmp_path / "trunk.pth")
    model = "{name: faster_rcnn_fpn, backbone: tiny, strides: [8, 16, 32], min_size: 64, "
    model += "max_size: 96, pyramid_channels: 8, rpn_channels: 8, head_width: 8, roi_size: 2, "
    model += "anchor_sizes: [[8], [16], [32], [64]], roi_samples: 8, post_nms_train: 20, "
    model += f"backbone_weights: {tmp_path / 'trunk.pth'}}}"
    plain = small_config.read_text().split("data:", 1)[1]
    small_config.write_text(f"model: {model}\ndata:{plain}")
    train(small_config, tmp_path / "run", [*ONE_STEP, "data.eval=[]"])
    learned = load_checkpoint(tmp_path / "run" / "last").detector.backbone.trunk.state_dict()
    for name, tensor in learned.items():
        if name.endswith("weight") and tensor.ndim > 1:
            assert torch.equal(tensor, trunk[name]), name
