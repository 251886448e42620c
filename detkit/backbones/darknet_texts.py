"""What is no detector among darknet's texts and files, and which backbone here takes its weights.

darknet's classifiers (``darknet19.cfg``, ``extraction.cfg``, ``vgg-conv.cfg``) and the first layers
of a file (``darknet53.conv.74``) are what detectors are trained from. Their layers tell, whatever
the file is called.

Reading order: ``check_detects`` (of a text), ``backbone_of``, then ``backbone_hint`` (of weights
without a text).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from detkit.backbones.base import BACKBONES, Backbone
from detkit.backbones.weights import IMAGENET, KEY, sees_plain_pixels
from detkit.errors import ConfigError
from detkit.weights.cfg import Cfg
from detkit.weights.cfg_compare import (
    TOLERANCE,
    TRIED_CANVAS,
    apart,
    fill,
    random_pixels,
    tried_size,
)
from detkit.weights.cfg_model import check_served, heads_of
from detkit.weights.graph import DarknetGraph
from detkit.weights.header import FLOAT_BYTES, read_header
from detkit.weights.layout import FileLayer, file_floats, file_layers


def check_detects(cfg: Cfg) -> None:
    """Refuse a text without a head, and say what its weights are for.

    Raises:
        ConfigError: with file and line; naming the backbone that takes the weights, if there is
            one, and the command.
    """
    check_served(cfg)
    if heads_of(cfg):
        return
    try:
        name = backbone_of(cfg)
        advice = "No backbone here has its layers" if name is None else _advice(name)
    except ConfigError as problem:
        advice = f"No backbone here takes its weights: {str(problem).rstrip('.')}"
    raise cfg.layers[-1].wrong(
        "a classifier's text, without [yolo], [region] or [detection], so it detects nothing",
        advice,
    )


def _advice(name: str) -> str:
    if not sees_plain_pixels(BACKBONES[name].build(BACKBONES[name].strides[-1:])):
        return (
            f"Its layers are those of backbone {name}, which sees pixels less a mean here, where "
            f"darknet gives them as they are; set {KEY}={IMAGENET} for it"
        )
    return f"Its weights are for backbone {name}: {_training(name)}"


def _training(name: str, file: str = "FILE") -> str:
    return f"detkit train CONFIG model.backbone={name} {KEY}={file}"


def backbone_of(cfg: Cfg) -> str | None:
    """Name the backbone that a text begins with: the same layers, and the same numbers.

    Raises:
        ConfigError: the text has a layer that is not served; with file and line.
    """
    with torch.device("meta"):
        graph = DarknetGraph(cfg)
    shapes = _shapes(file_layers(graph))
    layers = {name: _shapes(file_layers(built)) for name, built in _all_on_meta().items()}
    fitting = [name for name, own in layers.items() if own == shapes[: len(own)]]
    fitting.sort(key=lambda name: len(layers[name]), reverse=True)
    return next((name for name in fitting if _computes_the_same(name, cfg, graph)), None)


def _all_on_meta() -> dict[str, Backbone]:
    with torch.device("meta"):
        return {name: BACKBONES[name].build(BACKBONES[name].strides) for name in BACKBONES}


def _shapes(layers: Sequence[FileLayer]) -> list[list[torch.Size]]:
    return [[piece.tensor.shape for piece in layer.pieces] for layer in layers]


@torch.no_grad()
def _computes_the_same(name: str, cfg: Cfg, graph: DarknetGraph) -> bool:
    """Whether the deepest map of a backbone is a map of the text's, of the same weights.

    It is that of the last layer with weights that they share, or of what follows it without.
    """
    backbone = BACKBONES[name].build(BACKBONES[name].strides).eval()
    carriers = [index for index, layer in enumerate(graph.plan) if layer.floats]
    last = len(file_layers(backbone)) - 1
    end = carriers[last + 1] if last + 1 < len(carriers) else len(cfg.layers)
    with torch.device("meta"):
        begun = DarknetGraph(Cfg(cfg.path, cfg.net, cfg.layers[:end])).eval()
    maps: list[Tensor] = []

    def keep(_: nn.Module, __: tuple[Tensor, ...], map_: Tensor) -> None:
        maps.append(map_)

    if tried_size(begun) != TRIED_CANVAS:  # a layer of one size, which no backbone has
        return False
    fill(begun, backbone)
    for layer in begun.layers[carriers[last] : end]:
        layer.register_forward_hook(keep)
    pixels = random_pixels(TRIED_CANVAS)
    begun(pixels)
    own = backbone(pixels)[-1]
    return any(map_.shape == own.shape and apart(map_, own) <= TOLERANCE for map_ in maps)


def backbone_hint(path: Path) -> str:
    """Say which backbone of darknet's has weights as long as a file that nothing else is known of.

    Returns:
        A sentence in brackets after a space; nothing where there is none to say.

    Raises:
        ConfigError: no weight file of darknet.
    """
    floats = (path.stat().st_size - read_header(path).size) / FLOAT_BYTES
    plain = {name: built for name, built in _all_on_meta().items() if sees_plain_pixels(built)}
    names = [name for name, built in plain.items() if file_floats(built) == floats]
    if names:
        listed, command = " or ".join(names), _training(names[0], str(path))
        return f" (It is as long as the weights of backbone {listed}: {command}.)"
    if ".conv" in path.suffixes:
        return f" (A file of a backbone alone is for training: {KEY}=FILE.)"
    return ""
