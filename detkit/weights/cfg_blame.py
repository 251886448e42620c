"""Which line of a text made a setting that a detector cannot have.

A size or an anchor that a text implies is refused by the detector's own checks, which know the keys
of a config alone. Whoever gave a text looks for its line.

Reading order: ``blamed``, ``_origin``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from detkit.errors import ConfigError, bare
from detkit.weights.cfg import Cfg, Section
from detkit.weights.cfg_model import POOL, heads_of

MODEL = "model."  # what stands before a key in a detector's error
SPP = "spp"  # a key that the name of a detector implies
SIZE, SIDES = "input_size", ("height", "width")
CELLS = (32, 64)  # pixels a cell of the coarsest maps of YOLOv1 to v3
OF_HEAD: Mapping[str, tuple[str, ...]] = {  # options that settings come from; the first that stands
    "num_classes": ("classes",),
    "grid": ("side",),
    "boxes_per_cell": ("num",),
    "coord_weight": ("coord_scale",),
    "noobj_weight": ("noobject_scale",),
    "anchors": ("anchors",),
    "anchors_cells": ("anchors",),
    "anchor_masks": ("mask",),
    "ignore_iou": ("ignore_thresh", "thresh"),
    **{key: (key,) for key in ("rescore", "coord_scale", "object_scale", "noobject_scale")},
}
OF_LAYER = {  # kind of the section, and its option
    "dropout": (("dropout",), "probability"),
    "local_channels": (("local",), "filters"),
    "fc_width": (("connected", "conn"), "output"),
    SPP: (POOL, "size"),
}


def blamed(
    cfg: Cfg, described: Mapping[str, Any], model: Mapping[str, Any], problem: ConfigError
) -> ConfigError:
    """Lay a detector's refusal of a setting on the line of the text that the setting is from.

    Args:
        cfg: the text.
        described: the ``model:`` block it was read as.
        model: the block that was refused, with what its user changed.
        problem: the refusal.

    Returns:
        The error with file and line; ``problem`` itself where the setting is not the text's.
    """
    where, _, _ = str(problem).partition(":")
    key = where.removeprefix(MODEL).partition(".")[0]
    from_text = key == SPP or key in described
    if not where.startswith(MODEL) or not from_text or model.get(key) != described.get(key):
        return problem
    section, option = _origin(cfg, key)
    said = f"{option}={bare(section.text(option, ''))}" if option else "the network before it"
    return section.wrong(
        f"{said} cannot be here: {str(problem).rstrip('.')}",
        "The rule is detkit's, and darknet may take the text; change this line",
        option,
    )


def _origin(cfg: Cfg, key: str) -> tuple[Section, str]:
    """The section that a setting is from, and its option; none where its layers say it together."""
    if key == SIZE:
        sides = [(side, cfg.net.whole(side, None)) for side in SIDES]
        partial = [side for cell in CELLS for side, pixels in sides if pixels % cell]
        return cfg.net, (*partial, *SIDES)[0]
    heads = heads_of(cfg)
    if key == "anchor_masks":
        heads.sort(key=_takes_each_once)  # the first of those that name an anchor twice
    if key in OF_LAYER:
        kinds, option = OF_LAYER[key]
        layers = [section for section in cfg.layers if section.kind in kinds]
        return (layers[0], option) if layers else (heads[0], "")
    options = [option for option in OF_HEAD.get(key, ()) if option in heads[0].options]
    return heads[0], (*options, "")[0]


def _takes_each_once(head: Section) -> bool:
    names = [name for name in head.text("mask", "").split(",") if name]
    return len(set(names)) == len(names)
