"""One layer of a ``.cfg`` text, planned; and what the functions of ``kinds.py`` share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from detkit.errors import shown
from detkit.weights import blocks
from detkit.weights.cfg import Section

Shape = tuple[int, int, int]  # channels, height, width of one map

MOST_CHANNELS = 2**17  # yolo9000 has 28,269
LARGEST_KERNEL = 255
# Activations of the authors' program, and of AlexeyAB's, that ``blocks.py`` has not.
NOT_SERVED = (
    *("loggy", "elu", "relie", "ramp", "plse", "stair", "hardtan", "lhtan", "selu"),
    *("swish", "mish", "hard_mish", "relu6", "gelu"),
    *("normalize_channels", "normalize_channels_softmax", "normalize_channels_softmax_maxval"),
)


@dataclass(frozen=True, slots=True)
class Planned:
    """One layer: what it takes, what it gives, what it costs."""

    kind: str  # short, as darknet prints it
    shape: Shape  # of its map
    build: Callable[[], nn.Module] = nn.Identity
    sources: tuple[int, ...] = ()  # layers whose maps it takes, -1: the image; none: no layer
    taken: Shape = (0, 0, 0)  # of the first of them
    detail: str = ""  # filters, size and stride, for the listing
    floats: int = 0  # numbers in a weight file
    multiply_adds: int = 0  # of convolutions alone, as darknet counts
    output: bool = False  # whether what it takes is an output of the network
    fixed_size: bool = False  # whether it fits maps of one size only


@dataclass(frozen=True, slots=True)
class At:
    """Where in a network a section stands."""

    index: int
    previous: Shape
    earlier: tuple[Planned, ...]


def sides(shape: Shape) -> str:
    """Height and width of a map, for a sentence."""
    return f"{shape[1]} x {shape[2]}"


def activation_of(section: Section, default: str) -> str:
    """The name of a section's activation.

    Raises:
        ConfigError: one that is not served.
    """
    name = section.text("activation", default)
    if name not in blocks.ACTIVATIONS:
        known = ", though darknet has it" if name in NOT_SERVED else ""
        raise section.wrong(
            f"activation {shown(name)} is not served{known}",
            f"Served: {', '.join(blocks.ACTIVATIONS)}",
            "activation",
        )
    return name


def check_takes_map(section: Section, at: At, source: int, key: str = "") -> None:
    """Refuse a section that goes on from an output, where darknet would take what it decoded.

    Raises:
        ConfigError: layer ``source`` is one; at the line of ``key``.
    """
    if source >= 0 and at.earlier[source].output:
        raise section.wrong(
            f"takes the map of layer {source}, [{at.earlier[source].kind}], an output",
            "darknet goes on from what it decoded there, which is not served here; take the map of "
            "an earlier layer, by a [route] before it",
            key,
        )
