"""From the authors' text of a network to the ``model:`` block of the detector that computes it.

What a text says of training alone (schedule, augmentation) is not taken over. What it says of the
network is read where a detector here has a setting for it; then the shapes of all weights are
compared with those of the network that the text describes, and last what both compute. So a text
is served rightly or refused, with its first line that no detector here serves.

Source: darknet, ``parser.c: parse_detection, parse_region, parse_yolo`` for options and defaults.

Reading order: ``read_model``, then the readers of the three heads. Options that nothing here is set
by are looked at in ``cfg_options.py``; the comparisons are in ``cfg_compare.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from detkit.weights.cfg import Cfg, Section
from detkit.weights.cfg_options import check_options
from detkit.weights.families import check_family
from detkit.weights.plan import check_kinds

CONV, CONNECTED = ("convolutional", "conv"), ("connected", "conn")
POOL, SHORTCUT, REORG = ("maxpool", "max"), ("shortcut",), ("reorg",)
MOST_CLASSES = 2**16
COLOURS = 3  # channels of an image
SAME_SIZE_POOL = 2  # side of tiny's pool of stride 1; larger ones are a pyramid
TRUNK_CONVS = {"yolo_v1": 20, "yolo_v1_tiny": 7}  # convolutions before those of the head
ONE_FOR_ALL = "darknet lets each have its own, detectors here have one for all: give all the same"
SCALES = {"yolo_v3": 3, "yolo_v3_spp": 3, "yolo_v3_tiny": 2}


@dataclass(frozen=True, slots=True)
class CfgModel:
    """What a text is, in the words of this house."""

    model: dict[str, Any]  # a ``model:`` block
    notes: tuple[str, ...]  # what was not taken over, in sentences


def read_model(cfg: Cfg) -> CfgModel:
    """Say which detector a text describes, and with which settings.

    Raises:
        ConfigError: a family or a kind of layer that is not here, no head of a YOLO, several kinds,
            or an option that changes what is detected and that no detector here has; with file and
            line.
    """
    check_served(cfg)
    heads = heads_of(cfg)
    if not heads:
        raise cfg.layers[-1].wrong(
            "no [yolo], [region] or [detection] layer, so it detects nothing",
            "Weights of a backbone alone are for training: model.backbone_weights=FILE",
        )
    kind = heads[0].kind
    _only_one_kind(heads)
    if cfg.net.whole("channels", 0) not in (0, COLOURS):
        raise cfg.net.wrong("channels is not 3", "Detectors here take colour images", "channels")
    notes = [note for section in (cfg.net, *heads) for note in check_options(section)]
    size = [cfg.net.whole("height", None, low=1), cfg.net.whole("width", None, low=1)]
    model = {**HEADS[kind](cfg, heads), "input_size": size}
    return CfgModel(model, tuple(dict.fromkeys(notes)))


def check_served(cfg: Cfg) -> None:
    """Refuse what no text of YOLOv1 to v3, nor of a classifier of theirs, has.

    Raises:
        ConfigError: a family that is not here, or a kind of section; at the first line that tells.
    """
    check_family(cfg)
    check_kinds(cfg)


def heads_of(cfg: Cfg) -> list[Section]:
    """The sections that detect."""
    return [section for section in cfg.layers if section.kind in HEADS]


def _only_one_kind(heads: Sequence[Section]) -> None:
    first = heads[0].kind
    for head in heads[1:]:
        if head.kind != first or head.kind != "yolo":
            raise head.wrong(
                f"a second head, after [{first}]",
                "Only YOLOv3's have several, and all are [yolo]",
            )


# --------------------------------------------------------------------------------- heads


def _detection(cfg: Cfg, heads: Sequence[Section]) -> dict[str, Any]:
    """YOLOv1: the head follows from whether a local layer or a second connected one is there."""
    head = heads[0]
    convs, connected = _all(cfg, CONV), _all(cfg, CONNECTED)
    local, dropout = _all(cfg, ("local",)), _all(cfg, ("dropout",))
    kind = "repository" if local else "paper" if len(connected) > 1 else "tiny"
    name = "yolo_v1_tiny" if kind == "tiny" else "yolo_v1"
    of_head = convs[TRUNK_CONVS[name] :]
    model: dict[str, Any] = {
        "name": name,
        "head": kind,
        "num_classes": head.whole("classes", 1, low=1, high=MOST_CLASSES),
        "grid": head.whole("side", 7, low=1),
        "boxes_per_cell": head.whole("num", 1, low=1),
        "head_convs": [[_filters(conv), conv.whole("stride", 1, low=1)] for conv in of_head],
        "coord_weight": head.number("coord_scale", 1.0),
        "noobj_weight": head.number("noobject_scale", 1.0),
        "rescore": bool(head.whole("rescore", 0)),
    }
    if local:
        model["local_channels"] = _filters(local[0])
    if kind == "paper":
        model["fc_width"] = connected[0].whole("output", 1, low=1)
    if dropout:
        model["dropout"] = dropout[0].number("probability", 0.5)
    if name == "yolo_v1" and convs and not convs[0].whole("batch_normalize", 0):
        model |= {"backbone": "darknet_v1_plain", "batch_norm": False}
    return model


def _region(cfg: Cfg, heads: Sequence[Section]) -> dict[str, Any]:
    """YOLOv2: with a passthrough where there is a reorg layer, else its tiny form."""
    head = heads[0]
    convs = _all(cfg, CONV)
    reorg = next((i for i, section in enumerate(cfg.layers) if section.kind in REORG), None)
    model: dict[str, Any] = {
        "name": "yolo_v2_tiny" if reorg is None else "yolo_v2",
        "num_classes": head.whole("classes", 20, low=1, high=MOST_CLASSES),
        "anchors_cells": _anchors(head),
        "ignore_iou": head.number("thresh", 0.5),
        "object_scale": head.number("object_scale", 1.0),
        "noobject_scale": head.number("noobject_scale", 1.0),
        "coord_scale": head.number("coord_scale", 1.0),
        "class_scale": head.number("class_scale", 1.0),
        "rescore": bool(head.whole("rescore", 0)),
    }
    if len(convs) > 1:
        model["head_channels"] = _filters(convs[-2])
    narrow = [section for section in cfg.layers[:reorg] if section.kind in CONV]
    if reorg is not None and narrow:
        model["passthrough_channels"] = _filters(narrow[-1])
    return model


def _yolo(cfg: Cfg, heads: Sequence[Section]) -> dict[str, Any]:
    """YOLOv3: shortcuts make it the large one, pools that keep the size the one with a pyramid."""
    pools = _all(cfg, POOL)
    pyramid = any(p.whole("stride", 1) == 1 and p.whole("size", 1) > SAME_SIZE_POOL for p in pools)
    name = "yolo_v3_tiny" if not _all(cfg, SHORTCUT) else "yolo_v3_spp" if pyramid else "yolo_v3"
    if len(heads) != SCALES[name]:
        raise heads[-1].wrong(
            f"{len(heads)} layers of this kind, but {name}, the nearest here, has {SCALES[name]}",
            "No detector here computes this network",
        )
    first = heads[0]
    anchors, ignore = _anchors(first), first.number("ignore_thresh", 0.5)
    for head in heads[1:]:
        if _anchors(head) != anchors:
            raise head.wrong(
                "other anchors than those of the [yolo] before it",
                ONE_FOR_ALL,
                "anchors",
            )
        for key in ("classes", "ignore_thresh"):
            if head.number(key, None) != first.number(key, None):
                raise head.wrong(
                    f"another {key} than that of the [yolo] before it",
                    ONE_FOR_ALL,
                    key,
                )
    every = tuple(range(len(anchors)))
    masks = [
        head.wholes("mask", low=0, high=len(anchors) - 1) if "mask" in head.options else every
        for head in heads
    ]
    layers = list(cfg.layers)
    before = [layers[: layers.index(head)] for head in heads]  # sections know their lines
    trunk_end = POOL if name == "yolo_v3_tiny" else SHORTCUT
    beyond = int(name in ("yolo_v3_tiny", "yolo_v3_spp"))  # trunk's last, or that after the pyramid
    counts = [_convs_since(part, ("route",)) for part in before[1:]]
    return {
        "name": name,
        "num_classes": first.whole("classes", 20, low=1, high=MOST_CLASSES),
        "anchors": anchors,
        "anchor_masks": [list(mask) for mask in masks],
        "head_channels": [_narrow(part, head) for part, head in zip(before, heads, strict=True)],
        "head_convs": [max(_convs_since(before[0], trunk_end) - beyond, 1), *counts],
        "ignore_iou": ignore,
    }


def _convs_since(layers: Sequence[Section], kinds: tuple[str, ...]) -> int:
    """How many convolutions follow the last section of ``kinds``, the output's left out."""
    count = 0
    for section in reversed(layers):
        if section.kind in kinds:
            break
        count += section.kind in CONV
    return max(count - 1, 1)


def _narrow(layers: Sequence[Section], head: Section) -> int:
    """Filters of the last 1 x 1 convolution before a head, its output's left out."""
    convs = [section for section in layers if section.kind in CONV][:-1]
    narrow = [conv for conv in convs if conv.whole("size", 1) == 1]
    if not narrow:
        raise head.wrong("no 1 x 1 convolution before it", "No detector here computes this network")
    return _filters(narrow[-1])


HEADS: Mapping[str, Callable[[Cfg, Sequence[Section]], dict[str, Any]]] = {
    "detection": _detection,
    "region": _region,
    "yolo": _yolo,
}


def _all(cfg: Cfg, kinds: tuple[str, ...]) -> list[Section]:
    return [section for section in cfg.layers if section.kind in kinds]


def _filters(section: Section) -> int:
    return section.whole("filters", 1, low=1)


def _anchors(head: Section) -> list[list[float]]:
    """``num`` pairs (width, height): of [region] in cells, of [yolo] in canvas pixels."""
    numbers, count = head.numbers("anchors"), head.whole("num", 1, low=1)
    if len(numbers) != 2 * count:
        raise head.wrong(
            f"num is {count}, but anchors holds {len(numbers)} numbers",
            f"Write {count} pairs of width and height",
            "anchors",
        )
    return [list(pair) for pair in zip(numbers[::2], numbers[1::2], strict=True)]
