"""Families of networks that darknet's programs run and detkit has not, known by their texts.

A text of YOLOv4 or YOLOv7 is no faulty YOLOv3. So it is called by its name, at the first line that
no text of YOLOv1 to v3 has, before anything later in it is complained of.

Source: the texts in https://github.com/AlexeyAB/darknet, folder ``cfg``, and its ``parser.c`` for
the options' names and what is off.

Reading order: ``check_family``, ``family_of`` (the whole text decides), ``_tells`` (the lines).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from detkit.errors import bare
from detkit.weights.cfg import Cfg, Section

GAUSSIAN = "Gaussian YOLOv3 (Choi et al., 2019)"
EFFICIENT = "EfficientNet (Tan and Le, 2019)"
V4 = "YOLOv4 (Bochkovskiy et al., 2020)"
V4_TINY = "YOLOv4-tiny (Wang et al., 2020)"
SCALED = "Scaled-YOLOv4 (Wang et al., 2020)"
V7 = "YOLOv7 (Wang et al., 2022)"

GAUSSIAN_HEAD, HEAD = "gaussian_yolo", "yolo"
MISH, SWISH = "mish", "swish"
SQUEEZE = "scale_channels"  # squeeze-and-excitation's second half
LATER_KINDS = (GAUSSIAN_HEAD, SQUEEZE, "sam", "contrastive", "implicit")
NEUTRAL = {"new_coords": 0, "scale_x_y": 1}  # of a head: values that change nothing
ONE_MAP = ("", "0", "1")  # of a route's groups
INDEX = re.compile("[0-9]{1,4}")


def check_family(cfg: Cfg) -> None:
    """Refuse a text of a family that is not here.

    Raises:
        ConfigError: naming the family, at the first line that tells.
    """
    family = family_of(cfg)
    if family is None:
        return
    section, key = next(_tells(cfg))
    said = f"{key}={bare(section.text(key, ''))}: " if key else ""
    raise section.wrong(
        f"{said}this is {family}, a family that is not here",
        "Detectors here end with YOLOv3: take a text of YOLOv1, v2 or v3 and its own weights",
        key,
    )


def family_of(cfg: Cfg) -> str | None:
    """Name the family of a text; None for those of YOLOv1 to v3, and for what nobody knows."""
    kinds = {section.kind for section in cfg.layers}
    activations = {section.text("activation", "") for section in cfg.layers}
    if GAUSSIAN_HEAD in kinds:
        return GAUSSIAN
    if any(_changes(section, "new_coords") for section in cfg.layers):
        return SCALED if "shortcut" in kinds else V7  # residual blocks; v7 joins its maps
    if HEAD in kinds and any(_halves(section) for section in cfg.layers):
        return V4_TINY
    if MISH in activations or _fine_head(cfg) is not None:
        return V4
    return EFFICIENT if SQUEEZE in kinds and SWISH in activations else None


def _tells(cfg: Cfg) -> Iterator[tuple[Section, str]]:
    """Each line that no text of YOLOv1 to v3 has, in order: its section, and its option if any."""
    fine = _fine_head(cfg)
    for section in cfg.layers:
        if section.kind in LATER_KINDS:
            yield section, ""
        if section.text("activation", "") in (MISH, SWISH):
            yield section, "activation"
        if _halves(section):
            yield section, "groups"
        told = [key for key in NEUTRAL if _changes(section, key)]
        if section is fine or "new_coords" in told:
            yield section, min(told, key=lambda key: section.options[key].line)


def _changes(section: Section, key: str) -> bool:
    """Whether it is a head whose boxes are others by one of the options of ``NEUTRAL``."""
    return section.kind == HEAD and section.number(key, NEUTRAL[key]) != NEUTRAL[key]


def _halves(section: Section) -> bool:
    """Whether it is a route to a share of a map's channels."""
    return section.kind == "route" and section.text("groups", "") not in ONE_MAP


def _fine_head(cfg: Cfg) -> Section | None:
    """The first head, where it is that of the finest map and stretches its cells, as YOLOv4's do.

    The authors' YOLOv3 goes from coarse to fine, the largest anchors first.
    """
    heads = [section for section in cfg.layers if section.kind == HEAD]
    firsts = [head.text("mask", "").split(",")[0] for head in heads]
    if len(heads) < 2 or not all(INDEX.fullmatch(first) for first in firsts):
        return None
    fine = int(firsts[0]) < int(firsts[-1]) and _changes(heads[0], "scale_x_y")
    return heads[0] if fine else None
