"""A whole ``.cfg`` text, planned: the size and the cost of every layer, before any is built.

Texts that ask for too much end here. What each kind of section means is in ``kinds.py``.
"""

from __future__ import annotations

from detkit.errors import ConfigError, did_you_mean, shown
from detkit.weights.cfg import Cfg, Section
from detkit.weights.families import check_family
from detkit.weights.kinds import KINDS
from detkit.weights.planned import MOST_CHANNELS, At, Planned, Shape, check_takes_map, sides

LARGEST_SIDE = 2**14  # pixels of a map
MOST_FLOATS = 2**29  # numbers of all weights, 2 GB; yolov1 has 2 * 10**8
MOST_VALUES = 2**28  # numbers of one map, 1 GB; yolov3 at 608 has 10**7

SAME_KIND = {  # darknet's other names, and those it takes as well
    "conv": "convolutional",
    "max": "maxpool",
    "avg": "avgpool",
    "conn": "connected",
    "soft": "softmax",
}
NO_LAYERS = ("region", "yolo", "detection", "softmax", "cost")  # they compute no map for others
NOT_SERVED = (  # kinds of the authors' program, and of AlexeyAB's
    *("deconvolutional", "deconv", "rnn", "gru", "lstm", "crnn", "normalization", "lrn"),
    *("l2norm", "logistic", "iseg", "gaussian_yolo", "sam", "scale_channels", "contrastive"),
    *("conv_lstm", "history", "implicit", "local_avg", "local_avgpool", "reorg3d"),
    *("empty", "silence"),
)
# Options that say something about training alone, in any section.
OF_TRAINING = (
    *("stopbackward", "onlyforward", "learning_rate", "momentum", "decay"),
    *("burnin_update", "train_only_bn"),
)


def plan_layers(cfg: Cfg, size: tuple[int, int] | None = None) -> tuple[Planned, ...]:
    """Say what each section of ``cfg`` makes of the ones before it.

    Args:
        cfg: as read.
        size: (height, width) of the image; None: what the text says.

    Raises:
        ConfigError: the first section that cannot be served, as ``FILE:LINE: ...``; or, of a
            family that is not here, the first line that tells.
    """
    try:
        return _all_planned(cfg, size)
    except ConfigError:
        check_family(cfg)
        raise


def _all_planned(cfg: Cfg, size: tuple[int, int] | None) -> tuple[Planned, ...]:
    channels = cfg.net.whole("channels", None, low=1, high=MOST_CHANNELS)
    height = cfg.net.whole("height", None, low=1, high=LARGEST_SIDE)
    width = cfg.net.whole("width", None, low=1, high=LARGEST_SIDE)
    previous: Shape = (channels, *(size or (height, width)))
    planned: list[Planned] = []
    floats = 0
    for index, section in enumerate(cfg.layers):
        layer = _plan(section, At(index, previous, tuple(planned)))
        floats += layer.floats
        _check_cost(section, layer, floats)
        planned.append(layer)
        previous = layer.shape
    return tuple(planned)


def check_kinds(cfg: Cfg) -> None:
    """Refuse the first section of a kind that is not served, whatever its options are.

    Raises:
        ConfigError: naming it.
    """
    for section in cfg.layers:
        _kind(section)


def _kind(section: Section) -> str:
    """The name that ``KINDS`` has for the kind of a section."""
    kind = SAME_KIND.get(section.kind, section.kind)
    if kind not in KINDS:
        if kind in NOT_SERVED:
            raise section.wrong(
                "layers of this kind are not served", "Convert a network without them"
            )
        hint = did_you_mean(section.kind, KINDS).strip()
        raise section.wrong("unknown kind of section", hint.rstrip("."))
    return kind


def _plan(section: Section, at: At) -> Planned:
    kind = _kind(section)
    served, function = KINDS[kind]
    if kind not in NO_LAYERS:
        _check_options(section, served.split())
    if kind not in (*NO_LAYERS, "route"):
        check_takes_map(section, at, at.index - 1)
    return function(section, at)


def _check_options(section: Section, served: list[str]) -> None:
    """Refuse options that would change what a layer computes; off (0) they change nothing."""
    for key, option in section.options.items():
        if key not in served and key not in OF_TRAINING and option.value not in ("0", ""):
            raise section.wrong(
                f"{shown(key)} is not served",
                f"Remove it if the network computes the same without; served: {', '.join(served)}",
                key,
            )


def _check_cost(section: Section, layer: Planned, floats: int) -> None:
    channels, height, width = layer.shape
    if min(layer.shape) < 1:
        raise section.wrong(
            f"nothing is left of its map of {sides(layer.taken)}",
            "Give the network a larger width and height, or this layer a smaller size",
        )
    if channels > MOST_CHANNELS or channels * height * width > MOST_VALUES:
        raise section.wrong(
            f"its map would have {channels:,} channels of {height:,} x {width:,}",
            f"No more than {MOST_CHANNELS:,} channels and {MOST_VALUES:,} numbers are served",
        )
    if floats > MOST_FLOATS:
        raise section.wrong(
            f"the weights up to here would be {floats:,} numbers",
            f"No more than {MOST_FLOATS:,} are served",
        )
