"""Whether a detector here is the network of a text: the same weights, and the same numbers.

Reading order: ``check_shapes``, then ``check_agreement``, as equal shapes are not enough.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from detkit.errors import ConfigError
from detkit.weights.cfg import Cfg
from detkit.weights.cfg_model import COLOURS, HEADS
from detkit.weights.graph import DarknetGraph
from detkit.weights.layout import FileLayer, file_layers
from detkit.weights.plan import plan_layers

# (height, width): not square, so that a turned map shows, and ten cells of the coarsest map wide,
# as on a small one the pools of a pyramid see the same, in whatever order
TRIED_CANVAS = (64, 320)
TOLERANCE = 1e-3  # largest difference, as a share of the largest output


def check_shapes(graph: DarknetGraph, detector: nn.Module, name: str) -> None:
    """Compare the weights of a text's network with those of the detector, layer by layer.

    Args:
        graph: the text's network; its device may be meta.
        detector: likewise.
        name: of the detector, for the message.

    Raises:
        ConfigError: naming the first section that differs.
    """
    carriers = [index for index, planned in enumerate(graph.plan) if planned.floats]
    sections = [(index, graph.cfg.layers[index]) for index in carriers]
    ours = file_layers(detector)
    for turn, ((index, section), theirs) in enumerate(
        zip(sections, file_layers(graph), strict=True)
    ):
        wanted = "nothing more" if turn >= len(ours) else _shape(ours[turn])
        if _shape(theirs) != wanted:
            raise section.wrong(
                f"layer {index} is a {_shape(theirs)}, where {name}, the nearest detector here, "
                f"has {_with_article(wanted)}",
                "No detector here computes this network",
            )
    if len(ours) > len(sections):
        raise graph.cfg.layers[-1].wrong(
            f"the network ends here, where {name}, the nearest detector here, still has "
            f"{_with_article(_shape(ours[len(sections)]))}",
            "No detector here computes this network",
        )


def _shape(layer: FileLayer) -> str:
    weights = max(layer.pieces, key=lambda piece: piece.tensor.ndim).tensor
    plain = weights.ndim == 1 or len(layer.pieces) == 2  # by itself; bias and weights
    return f"{layer.kind} {list(weights.shape)}{'' if plain else ' with batch normalisation'}"


def _with_article(text: str) -> str:
    return text if text.startswith("nothing") else f"a {text}"


@torch.no_grad()
def check_agreement(cfg: Cfg, detector: nn.Module, name: str) -> float:
    """Let a text's network and a detector with the same weights look at one small random image.

    Equal shapes do not tell which layers a route joins, or in which order.

    Args:
        cfg: the text, whose weights have the shapes of the detector's.
        detector: in eval mode; its method ``network`` is called.
        name: of the detector, for the message.

    Returns:
        The largest difference, as a share of the largest output; NaN where an output of either
        is not finite, and nothing can be said.

    Raises:
        ConfigError: they do not agree; naming the first head that differs.
    """
    with torch.device("meta"):  # nothing is drawn
        graph = DarknetGraph(cfg).eval()
    heads = [cfg.layers[index] for index in graph.outputs]
    for section in heads:
        if section.kind not in HEADS:
            raise section.wrong(
                "the network has an output here that no detection layer takes",
                f"No detector here computes this network; the nearest is {name}",
            )
    size = tried_size(graph)
    fill(graph, detector)
    pixels = random_pixels(size)
    expected, found = graph(pixels), _as_darknet(detector.network((pixels,)))  # type: ignore[operator]
    if len(heads) != len(found):
        raise cfg.layers[-1].wrong(
            f"the network has {len(heads)} outputs, where {name}, the nearest detector here, has "
            f"{len(found)}",
            "No detector here computes this network",
        )
    worst = 0.0
    for head, theirs_out, ours_out in zip(heads, expected, found, strict=True):
        same_size = theirs_out.numel() == ours_out.numel()
        difference = apart(theirs_out.flatten(), ours_out.flatten()) if same_size else math.inf
        if difference > TOLERANCE:
            raise head.wrong(
                f"with the same weights, what enters this layer is not what {name}, the nearest "
                "detector here, computes, though the weights have its shapes: a layer, a route or "
                "an activation before it is another",
                "No detector here computes this network",
            )
        worst = math.nan if math.isnan(difference) else max(worst, difference)
    return worst


@torch.no_grad()
def fill(graph: DarknetGraph, module: nn.Module) -> None:
    """Give a text's network on the meta device the weights of ``module``, layer by layer.

    Layers of the text beyond those of the module hold no numbers that mean anything.
    """
    graph.to_empty(device="cpu")
    for ours, theirs in zip(file_layers(module), file_layers(graph), strict=False):
        for mine, other in zip(ours.pieces, theirs.pieces, strict=True):
            other.tensor.copy_(mine.tensor)


def random_pixels(size: tuple[int, int]) -> Tensor:
    """``[1, 3, height, width]`` in 0..1, always the same."""
    return torch.rand(1, COLOURS, *size, generator=torch.Generator().manual_seed(0))


def tried_size(graph: DarknetGraph) -> tuple[int, int]:
    """The small canvas where every layer fits it, within the planner's limits; else the text's."""
    if graph.fixed_size:
        return graph.size
    try:
        plan_layers(graph.cfg, TRIED_CANVAS)
    except ConfigError:
        return graph.size
    return TRIED_CANVAS


def apart(a: Tensor, b: Tensor) -> float:
    """The largest difference, as a share of the largest number of either."""
    largest = torch.maximum(a.abs(), b.abs()).max()
    return float((a - b).abs().max() / largest.clamp(min=torch.finfo(a.dtype).tiny))


def _as_darknet(outputs: tuple[Tensor, ...]) -> list[Tensor]:
    """Outputs of a detector's network as darknet lays them: ``[B, A*(5+K), H, W]``, or as it is."""
    return [
        out.permute(0, 1, 4, 2, 3).flatten(1, 2) if out.ndim == 5 else out  # [B, A, H, W, 5+K]
        for out in outputs
    ]
