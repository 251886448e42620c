"""Texts and files of darknet's that detect nothing: which backbone here takes their weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from detkit.backbones import BACKBONES
from detkit.backbones.darknet_texts import backbone_hint, backbone_of, check_detects
from detkit.backbones.weights import load_backbone_weights
from detkit.errors import ConfigError
from detkit.weights.cfg import Cfg, parse_cfg
from detkit.weights.darknet import Header, file_layers, write_darknet
from detkit.weights.graph import DarknetGraph
from tests.weights.cfgs import cfg_text

NET = "[net]\nwidth=64\nheight=64\nchannels=3\n\n"
END = "[avgpool]\n\n[softmax]\ngroups=1\n\n[cost]\ntype=sse\n"
WHAT = "a classifier's text, without [yolo], [region] or [detection], so it detects nothing. "


def conv(filters: int, activation: str = "leaky", *, normalised: bool = True) -> str:
    head = "batch_normalize=1\n" if normalised else ""
    return (
        f"[convolutional]\n{head}filters={filters}\nsize=3\nstride=1\npad=1\n"
        f"activation={activation}\n\n"
    )


def pool(stride: int = 2) -> str:
    return f"[maxpool]\nsize=2\nstride={stride}\n\n"


def reference(last_pool: int) -> str:
    """``darknet.cfg``, the authors' small classifier; with a last pool of stride 1, another."""
    stages = "".join(conv(filters) + pool() for filters in (16, 32, 64, 128, 256))
    return f"{NET}{stages}{conv(512)}{pool(last_pool)}{conv(1024)}{conv(10)}{END}"


def vgg(activation: str = "relu") -> str:
    """``vgg-conv.cfg``."""
    stages = [(64, 2), (128, 2), (256, 3), (512, 3), (512, 3)]
    return NET + "".join(
        conv(filters, activation, normalised=False) * times + pool() for filters, times in stages
    )


def read(text: str) -> Cfg:
    return parse_cfg(text, Path("my.cfg"))


def refused(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        check_detects(read(text))
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "backbone"),
    [
        (cfg_text("darknet19"), "darknet19"),
        (cfg_text("darknet9000"), "darknet19"),
        (cfg_text("extraction"), "darknet_v1"),
        (cfg_text("darknet53"), "darknet53"),
        (reference(2), "darknet_v1_tiny"),
        (reference(1), "darknet_tiny"),
    ],
    ids=["darknet19", "darknet9000", "extraction", "darknet53", "darknet", "tiny trunk"],
)
def test_a_classifier_names_the_backbone_of_its_weights(text: str, backbone: str) -> None:
    cfg = read(text)
    last = cfg.layers[-1]
    assert refused(text) == (
        f"my.cfg:{last.line}: [{last.kind}]: {WHAT}Its weights are for backbone {backbone}: detkit "
        f"train CONFIG model.backbone={backbone} model.backbone_weights=FILE."
    )


@torch.no_grad()
@pytest.mark.parametrize(
    ("text", "end"), [(cfg_text("darknet19"), 23), (reference(2), 13), (cfg_text("extraction"), 24)]
)
def test_the_backbone_takes_the_weights_and_computes_the_text_s_map(
    text: str, end: int, tmp_path: Path
) -> None:
    """What the command does with the file, against the graph of the whole text."""
    torch.manual_seed(0)
    cfg = read(text)
    classifier = DarknetGraph(cfg).eval()
    for layer in file_layers(classifier):
        for piece in layer.pieces:
            if not piece.learned:
                piece.tensor.uniform_(0.5, 1.5)
    write_darknet(classifier, tmp_path / "my.weights", Header())
    name = backbone_of(cfg)
    assert name is not None
    backbone = BACKBONES[name].build(BACKBONES[name].strides).eval()
    report = load_backbone_weights(backbone, name, tmp_path / "my.weights")
    assert report.re_initialised == ()
    pixels = torch.rand(1, 3, 128, 64)
    begun = DarknetGraph(Cfg(cfg.path, cfg.net, cfg.layers[:end])).eval()
    begun.load_state_dict(classifier.state_dict(), strict=False)
    assert torch.allclose(backbone(pixels)[-1], begun(pixels)[0], atol=1e-5)


def test_a_classifier_under_other_pixels_names_the_weights_to_take() -> None:
    assert refused(vgg()) == (
        f"my.cfg:113: [maxpool]: {WHAT}Its layers are those of backbone vgg16, which sees pixels "
        "less a mean here, where darknet gives them as they are; set "
        "model.backbone_weights=imagenet for it."
    )


@pytest.mark.parametrize(
    "text",
    [
        vgg("leaky"),  # VGG's shapes, another function
        cfg_text("darknet19").replace("activation=leaky", "activation=relu"),
        cfg_text("darknet19").replace("stride=2", "stride=1", 1),
        cfg_text("darknet19").replace("filters=512", "filters=500"),
        f"{NET}[crop]\ncrop_height=32\ncrop_width=32\n\n{reference(2).removeprefix(NET)}",
        f"{NET}{conv(16)}{END}",
    ],
    ids=["vgg, leaky", "relu", "stride", "filters", "crop", "one layer"],
)
def test_a_classifier_of_other_layers_has_no_backbone_here(text: str) -> None:
    assert refused(text).endswith(f": {WHAT}No backbone here has its layers.")


@pytest.mark.parametrize(
    ("layers", "line", "reason"),
    [
        (
            conv(64) + conv(128, "linear") + "[shortcut]\nfrom=-2\nactivation=leaky\n\n",
            23,
            "[shortcut]: adds layer 0 of 64 channels, 64 x 64, to 128 channels, 64 x 64. The text "
            "is not wrong: darknet adds what both have; but only maps of one shape are added here",
        ),
        (
            conv(64, "ramp"),
            12,
            "[convolutional]: activation 'ramp' is not served, though darknet has it. Served: "
            "leaky, linear, logistic, relu, tanh",
        ),
    ],
    ids=["resnet", "alexnet"],
)
def test_a_classifier_that_no_layers_here_compute_says_where(
    layers: str, line: int, reason: str
) -> None:
    assert refused(NET + layers + END).endswith(
        f"[cost]: {WHAT}No backbone here takes its weights: my.cfg:{line}: {reason}."
    )


def test_a_detector_and_a_foreign_family_are_others_matter() -> None:
    check_detects(read(cfg_text("yolov3-tiny")))
    assert refused(NET + conv(32, "mish") + END).startswith(
        "my.cfg:12: [convolutional]: activation=mish: this is YOLOv4 (Bochkovskiy et al., 2020), "
    )


@pytest.mark.parametrize(
    ("backbone", "listed"),
    [
        ("darknet53", "darknet53"),
        ("darknet19", "darknet19"),
        ("darknet_v1", "darknet_v1"),
        ("darknet_tiny", "darknet_tiny or darknet_v1_tiny"),
    ],
)
def test_a_file_of_first_layers_names_its_backbone(
    backbone: str, listed: str, tmp_path: Path
) -> None:
    path = tmp_path / "first.weights"
    write_darknet(BACKBONES[backbone].build(BACKBONES[backbone].strides), path, Header())
    assert backbone_hint(path) == (
        f" (It is as long as the weights of backbone {listed}: detkit train CONFIG "
        f"model.backbone={backbone} model.backbone_weights={path}.)"
    )


def test_a_file_of_another_length_has_its_name_alone(tmp_path: Path) -> None:
    for name, said in [
        ("a.weights", ""),
        (
            "a.conv.15",
            " (A file of a backbone alone is for training: model.backbone_weights=FILE.)",
        ),
    ]:
        (tmp_path / name).write_bytes(Header().to_bytes() + bytes(40))
        assert backbone_hint(tmp_path / name) == said
