"""How the program that trained a file of darknet's lays images on the canvas.

The authors' program keeps their shape and fills the rest with grey. Those of AlexeyAB and hank-ai,
which most custom weights come from, stretch them unless the network's own section says
``letter_box=1``. They write version 0.2.5 into their files, where the authors' writes 0.2.0, and
their texts have options that the authors' program never had.

Source: darknet, ``examples/detector.c: test_detector``; https://github.com/AlexeyAB/darknet,
``src/detector.c: test_detector`` and ``src/parser.c: save_weights_upto``.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from detkit.weights.cfg import Cfg, Section
from detkit.weights.header import Header

FORK_VERSION = (0, 2, 5)  # in the headers that AlexeyAB's and hank-ai's programs write
KEY = "letter_box"
# Options that the forks' programs read and the authors' does not.
FORK_OPTIONS = {
    "net": (
        *("letter_box", "mosaic", "cutmix", "mixup", "blur", "gaussian_noise", "max_chart_loss"),
        *("dynamic_minibatch", "resize_step", "ema_alpha", "use_cuda_graph"),
    ),
    "yolo": (
        *("iou_loss", "iou_normalizer", "cls_normalizer", "obj_normalizer", "iou_thresh"),
        *("scale_x_y", "new_coords", "nms_kind", "beta_nms", "max_delta", "counters_per_class"),
        *("focal_loss", "label_smooth_eps", "resize", "show_details"),
    ),
    "region": ("focal_loss",),
}


class FilePlacement(NamedTuple):
    """How images were laid on the canvas, and why that is believed."""

    placement: Literal["letterbox", "stretch"]
    because: str  # a sentence for the user; empty where the authors' program is believed


def placement_of(header: Header, cfg: Cfg | None = None) -> FilePlacement:
    """What header and text say of the program that a weight file was trained with.

    Args:
        header: of the weight file.
        cfg: the text of its network, where there is one.
    """
    where = "no text was given that says it" if cfg is None else f"{cfg.path} does not"
    if cfg is not None and KEY in cfg.net.options:
        keeps = bool(cfg.net.whole(KEY, 0, high=1))
        told = f"{cfg.path}:{cfg.net.options[KEY].line}: {KEY}={int(keeps)}"
        if keeps:
            return FilePlacement("letterbox", f"images keep their shape, on grey: {told}.")
        return FilePlacement("stretch", f"images are stretched to the canvas: {told}.")
    is_fork = (header.major, header.minor, header.revision) >= FORK_VERSION and not (
        header.transposed
    )
    option = "" if cfg is None else _fork_option(cfg)
    if not (is_fork or option):
        return FilePlacement("letterbox", "")
    origin = f"header {header.version}" if is_fork else option
    return FilePlacement(
        "stretch",
        f"images are stretched to the canvas: {origin} is of AlexeyAB's or hank-ai's program, "
        f"which does so unless [net] says {KEY}=1, and {where}. `detkit convert` with "
        "model.placement=letterbox keeps their shape.",
    )


def _fork_option(cfg: Cfg) -> str:
    """The first option that the authors' program never had, with its line; empty without one."""
    for section in (cfg.net, *cfg.layers):
        key = next((key for key in section.options if key in _options_of(section)), "")
        if key:
            return f"{cfg.path}:{section.options[key].line}: {key}"
    return ""


def _options_of(section: Section) -> tuple[str, ...]:
    return FORK_OPTIONS.get("net" if section.kind == "network" else section.kind, ())
