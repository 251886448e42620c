"""One function for each kind of section of a ``.cfg`` file: what it takes, gives and costs.

Each reads its section as darknet's ``parser.c: parse_<kind>`` does, with its defaults, and refuses
what this house cannot serve, at its line. Nothing is allocated.

Reading order: ``Planned`` in ``planned.py``, then here the layers with weights, those without, and
``KINDS``; what ends a network is in ``outputs.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn

from detkit.errors import bare
from detkit.weights import blocks, outputs
from detkit.weights.cfg import Section
from detkit.weights.planned import (
    LARGEST_KERNEL,
    MOST_CHANNELS,
    At,
    Planned,
    activation_of,
    check_takes_map,
    sides,
)

# ------------------------------------------------------------------- layers with weights


def _conv_form(section: Section) -> blocks.ConvForm:
    kernel = section.whole("size", 1, low=1, high=LARGEST_KERNEL)
    padding = section.whole("padding", 0, high=LARGEST_KERNEL)
    return blocks.ConvForm(
        filters=section.whole("filters", None, low=1, high=MOST_CHANNELS),
        kernel=kernel,
        stride=section.whole("stride", 1, low=1, high=LARGEST_KERNEL),
        padding=kernel // 2 if section.whole("pad", 0) else padding,
        groups=section.whole("groups", 1, low=1, high=MOST_CHANNELS),
        batch_norm=bool(section.whole("batch_normalize", 0, high=1)),
        activation=activation_of(section, "logistic"),
    )


def _convolutional(section: Section, at: At) -> Planned:
    channels, height, width = at.previous
    form = _conv_form(section)
    if channels % form.groups or form.filters % form.groups:
        raise section.wrong(
            f"groups={form.groups} does not divide {channels} channels and {form.filters} filters",
            "Write a divisor of both",
            "groups",
        )
    out_height, out_width = (
        (side + 2 * form.padding - form.kernel) // form.stride + 1 for side in (height, width)
    )
    weights = form.filters * (channels // form.groups) * form.kernel**2
    return Planned(
        kind="conv",
        shape=(form.filters, out_height, out_width),
        build=partial(blocks.convolution, channels, form),
        sources=(at.index - 1,),
        taken=at.previous,
        detail=_detail(form.filters, form.kernel, form.stride),
        floats=weights + form.filters * (4 if form.batch_norm else 1),
        multiply_adds=weights * out_height * out_width,
    )


def _detail(filters: int | None, kernel: int | None, stride: int) -> str:
    size = "" if kernel is None else f"{kernel:2} x{kernel:2}"
    return f"{'' if filters is None else filters:>6}  {size:>6} /{stride:2}"


def _local(section: Section, at: At) -> Planned:
    form = _conv_form(section)
    if (form.kernel, form.stride, form.padding, form.groups, form.batch_norm) != (3, 1, 1, 1, 0):
        raise section.wrong(
            "only local layers of size=3, stride=1 and pad=1, without groups and batch "
            "normalisation, are served",
            "All of the authors' are so",
        )
    channels, height, width = at.previous
    return Planned(
        kind="local",
        shape=(form.filters, height, width),
        build=partial(blocks.local, channels, form.filters, (height, width), form.activation),
        sources=(at.index - 1,),
        taken=at.previous,
        detail=_detail(form.filters, form.kernel, form.stride),
        floats=height * width * form.filters * (channels * form.kernel**2 + 1),
        fixed_size=True,
    )


def _connected(section: Section, at: At) -> Planned:
    channels, height, width = at.previous
    outputs = section.whole("output", None, low=1, high=MOST_CHANNELS)
    normalised = bool(section.whole("batch_normalize", 0, high=1))
    inputs = channels * height * width
    activation = activation_of(section, "logistic")
    return Planned(
        kind="connected",
        shape=(outputs, 1, 1),
        build=partial(
            blocks.connected, inputs, outputs, normalised=normalised, activation=activation
        ),
        sources=(at.index - 1,),
        taken=at.previous,
        detail=f"{outputs:>6}",
        floats=inputs * outputs + outputs * (4 if normalised else 1),
        fixed_size=True,
    )


def _batchnorm(section: Section, at: At) -> Planned:
    channels = at.previous[0]
    build = partial(blocks.batch_norm, channels)
    return _same_size("batchnorm", at, build, floats=3 * channels)


# ---------------------------------------------------------------- layers without weights


def _same_size(
    kind: str, at: At, build: Callable[[], nn.Module], *, floats: int = 0, detail: str = ""
) -> Planned:
    return Planned(kind, at.previous, build, (at.index - 1,), at.previous, detail, floats)


def _maxpool(section: Section, at: At) -> Planned:
    channels, height, width = at.previous
    stride = section.whole("stride", 1, low=1, high=LARGEST_KERNEL)
    kernel = section.whole("size", stride, low=1, high=LARGEST_KERNEL)
    padding = section.whole("padding", kernel - 1, high=kernel - 1)  # more could see nothing else
    return Planned(
        kind="max",
        shape=(
            channels,
            (height + padding - kernel) // stride + 1,
            (width + padding - kernel) // stride + 1,
        ),
        build=partial(blocks.MaxPool, kernel, stride, padding),
        sources=(at.index - 1,),
        taken=at.previous,
        detail=_detail(None, kernel, stride),
    )


def _avgpool(section: Section, at: At) -> Planned:
    shape = (at.previous[0], 1, 1)
    return Planned("avg", shape, blocks.AveragePool, (at.index - 1,), at.previous)


def _dropout(section: Section, at: At) -> Planned:
    share = section.number("probability", 0.5)
    if not 0 <= share < 1:
        raise section.wrong(
            f"probability is {share:g}", "Write a number from 0 up to, but not, 1", "probability"
        )
    return _same_size("dropout", at, partial(nn.Dropout, share), detail=f"  p = {share:.2f}")


def _activation_layer(section: Section, at: At) -> Planned:
    name = activation_of(section, "linear")
    return _same_size(name, at, partial(blocks.activation_module, name))


def _reference(section: Section, at: At, value: int, key: str) -> int:
    """The layer that a number of ``key`` names: below zero it counts back from here."""
    source = at.index + value if value < 0 else value
    if not 0 <= source < at.index:
        raise section.wrong(
            f"{key} names layer {source}, but this is layer {at.index}",
            f"Name an earlier one: 0 to {at.index - 1}, or -1 to {-at.index}"
            if at.index
            else "Put it after a layer",
            key,
        )
    check_takes_map(section, at, source, key)
    return source


def _route(section: Section, at: At) -> Planned:
    values = section.wholes("layers", low=-(2**16), high=2**16)
    sources = tuple(_reference(section, at, value, "layers") for value in values)
    shapes = [at.earlier[source].shape for source in sources]
    for source, shape in zip(sources, shapes, strict=True):
        if shape[1:] != shapes[0][1:]:
            raise section.wrong(
                f"joins layer {sources[0]} of {sides(shapes[0])} and layer {source} of "
                f"{sides(shape)}",
                "Maps that are joined have one size; see width and height of [net]",
                "layers",
            )
    groups = section.whole("groups", 1, low=1, high=MOST_CHANNELS)
    group_id = section.whole("group_id", 0, high=groups - 1)
    if any(shape[0] % groups for shape in shapes):
        raise section.wrong(
            f"groups={groups} does not divide the channels of the maps", "Write a divisor", "groups"
        )
    return Planned(
        kind="route",
        shape=(sum(shape[0] for shape in shapes) // groups, *shapes[0][1:]),
        build=partial(blocks.Route, groups, group_id),
        sources=sources,
        taken=shapes[0],
        detail="  " + " ".join(map(str, sources)),
    )


def _shortcut(section: Section, at: At) -> Planned:
    if "," in section.text("from", ""):
        raise section.wrong(
            f"from={bare(section.text('from', ''))} adds several layers",
            "AlexeyAB's program has such sums; here one layer is added to another",
            "from",
        )
    value = section.whole("from", None, low=-(2**16), high=2**16)
    source = _reference(section, at, value, "from")
    shape = at.earlier[source].shape
    if shape != at.previous:
        raise section.wrong(
            f"adds layer {source} of {shape[0]} channels, {sides(shape)}, to "
            f"{at.previous[0]} channels, {sides(at.previous)}",
            "The text is not wrong: darknet adds what both have; but only maps of one shape are "
            "added here",
            "from",
        )
    return Planned(
        kind="res",
        shape=shape,
        build=partial(blocks.Shortcut, activation_of(section, "linear")),
        sources=(at.index - 1, source),
        taken=at.previous,
        detail=f"  {source}",
    )


def _upsample(section: Section, at: At) -> Planned:
    channels, height, width = at.previous
    stride = section.whole("stride", 2, low=1, high=LARGEST_KERNEL)
    return Planned(
        kind="upsample",
        shape=(channels, height * stride, width * stride),
        build=partial(blocks.Upsample, stride, section.number("scale", 1.0)),
        sources=(at.index - 1,),
        taken=at.previous,
        detail=f"{'':>6}  {'':>5}x{stride:2}",
    )


def _reorg(section: Section, at: At) -> Planned:
    channels, height, width = at.previous
    stride = section.whole("stride", 1, low=1, high=LARGEST_KERNEL)
    if height % stride or width % stride or channels % stride**2:
        raise section.wrong(
            f"stride={stride} does not divide {channels} channels of {sides(at.previous)}",
            f"Here sides must be multiples of {stride} and channels of {stride**2}; darknet does "
            "not look, and mixes cells",
            "stride",
        )
    return Planned(
        kind="reorg",
        shape=(channels * stride**2, height // stride, width // stride),
        build=partial(blocks.Reorg, stride),
        sources=(at.index - 1,),
        taken=at.previous,
        detail=_detail(None, None, stride),
    )


def _crop(section: Section, at: At) -> Planned:
    channels, height, width = at.previous
    size = (
        section.whole("crop_height", 1, low=1, high=height),
        section.whole("crop_width", 1, low=1, high=width),
    )
    adjust = not section.whole("noadjust", 0, high=1)
    return Planned(
        kind="crop",
        shape=(channels, *size),
        build=partial(blocks.Crop, size, adjust=adjust),
        sources=(at.index - 1,),
        taken=at.previous,
        fixed_size=True,
    )


# --------------------------------------------------------------------------------- kinds

CONV_OPTIONS = "filters size stride pad padding groups activation batch_normalize"
Function = Callable[[Section, At], Planned]
KINDS: dict[str, tuple[str, Function]] = {  # the options served, and who reads them
    "convolutional": (CONV_OPTIONS, _convolutional),
    "local": (CONV_OPTIONS, _local),
    "connected": ("output activation batch_normalize", _connected),
    "batchnorm": ("", _batchnorm),
    "maxpool": ("size stride padding", _maxpool),
    "avgpool": ("", _avgpool),
    "dropout": ("probability", _dropout),
    "activation": ("activation", _activation_layer),
    "route": ("layers groups group_id", _route),
    "shortcut": ("from activation", _shortcut),
    "upsample": ("stride scale", _upsample),
    "reorg": ("stride", _reorg),
    "crop": ("crop_height crop_width noadjust flip angle saturation exposure shift", _crop),
    "region": ("", outputs.region),
    "yolo": ("", outputs.yolo),
    "detection": ("", outputs.detection),
    "softmax": ("", outputs.softmax),
    "cost": ("", outputs.cost),
}
