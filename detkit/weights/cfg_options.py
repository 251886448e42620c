"""What else a text of the authors' says: options that must hold, and options that are left out.

The readers in ``cfg_model.py`` take the options that a detector here has a setting for. Of the
others, some change what is detected: these must have the value that the detectors here have. Some
concern training alone: where they say something that training here does not do, a note tells it.
Schedule and augmentation are in every text and are never taken over, so nothing is said of them.
What is in none of these tables is no option of the authors'; later programs have added many.

Source: darknet, ``parser.c: parse_net_options, parse_detection, parse_region, parse_yolo`` for
options and defaults; https://github.com/AlexeyAB/darknet for ``scale_x_y`` and what follows it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from detkit.errors import bare
from detkit.weights.cfg import NETWORK, Section


class Value(NamedTuple):
    """Of one option."""

    default: float  # the authors', where it is not written
    here: float  # what detectors here do


# Of other values the boxes would be others.
DETECTING: Mapping[str, Mapping[str, Value]] = {
    "detection": {"coords": Value(1, 4), "sqrt": Value(0, 1), "softmax": Value(0, 0)},
    "region": {"coords": Value(4, 4), "softmax": Value(0, 1), "background": Value(0, 0)},
    "yolo": {"scale_x_y": Value(1, 1), "new_coords": Value(0, 0)},
}
# Likewise, as text; nothing: it must not be there.
DETECTING_TEXT: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "detection": {},
    "region": {"tree": (), "map": ()},  # YOLO9000's hierarchy of classes
    "yolo": {"map": (), "nms_kind": ("default", "greedynms")},
}
TRAINING: Mapping[str, Mapping[str, Value]] = {
    "detection": {"forced": Value(0, 0), "object_scale": Value(1, 1), "class_scale": Value(1, 1)},
    "region": {"bias_match": Value(0, 1), "classfix": Value(0, 0)},
    "yolo": {"truth_thresh": Value(1, 1)},
}
# Read in cfg_model.py, or of no account: schedule, augmentation, and what the code never looks at.
KNOWN: Mapping[str, tuple[str, ...]] = {
    "detection": (
        *("classes", "num", "side", "coord_scale", "noobject_scale", "rescore"),
        *("jitter", "random", "max", "max_boxes", "reorg"),
    ),
    "region": (
        *("classes", "num", "anchors", "thresh", "rescore", "absolute", "log", "sqrt"),
        *("object_scale", "noobject_scale", "coord_scale", "class_scale", "mask_scale"),
        *("jitter", "random", "max", "max_boxes"),
    ),
    "yolo": (
        *("classes", "num", "anchors", "mask", "ignore_thresh"),
        *("jitter", "random", "max", "max_boxes"),
    ),
    "net": (
        *("batch", "subdivisions", "width", "height", "channels", "inputs", "time_steps"),
        *("learning_rate", "momentum", "decay", "burn_in", "max_batches", "policy", "power"),
        *("steps", "scales", "step", "scale", "gamma", "adam", "b1", "b2", "eps"),
        *("angle", "saturation", "exposure", "hue", "aspect", "random", "notruth"),
        *("min_crop", "max_crop", "min_ratio", "max_ratio", "center", "clip", "flip"),
        *("letter_box", "try_fix_nan", "optimized_memory", "workspace_size_limit_mb"),
    ),
}
OFF = ("", "0", "0.0", "none")


def check_options(section: Section) -> list[str]:
    """Look at the options of a head, or of the network's own section, that nothing here is set by.

    Returns:
        Sentences about what was left out.

    Raises:
        ConfigError: an option changes what is detected, and no detector here has it.
    """
    kind = "net" if section.kind in NETWORK else section.kind
    for key, value in DETECTING.get(kind, {}).items():
        if section.number(key, value.default) != value.here:
            missing = "" if key in section.options else ", which is what no value means"
            raise section.wrong(
                f"{key}={section.text(key, f'{value.default:g}')}{missing}",
                f"It changes what is detected; detectors here have {key}={value.here:g} alone",
                key,
            )
    for key, allowed in DETECTING_TEXT.get(kind, {}).items():
        if key in section.options and section.text(key, "") not in allowed:
            raise section.wrong(
                f"{key}={bare(section.text(key, ''))}",
                "It changes what is detected, and no detector here has it",
                key,
            )
    return [*_training(section, kind), *_unknown(section, kind)]


def _training(section: Section, kind: str) -> list[str]:
    return [
        f"[{kind}] {key}={section.text(key, f'{value.default:g}')} concerns training alone, and "
        f"training here has {key}={value.here:g}."
        for key, value in TRAINING.get(kind, {}).items()
        if section.number(key, value.default) != value.here
    ]


def _unknown(section: Section, kind: str) -> list[str]:
    known = {
        *KNOWN[kind],
        *DETECTING.get(kind, {}),
        *DETECTING_TEXT.get(kind, {}),
        *TRAINING.get(kind, {}),
    }
    foreign = {
        key: option.value
        for key, option in section.options.items()
        if key.lower() not in known and option.value.lower() not in OFF
    }
    if not foreign:
        return []
    said = ", ".join(f"{key}={bare(value)}" for key, value in foreign.items())
    return [
        f"[{kind}] {said}: left out, as the authors' program has no such option; if the program "
        "of this text reads it while detecting, its boxes are others."
    ]
