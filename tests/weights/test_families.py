"""Texts of families that are not here are called by their names, at the first line that tells.

The texts are small: a stem, a block and heads of each family's form, with its own options.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from detkit.errors import ConfigError
from detkit.weights.cfg import parse_cfg
from detkit.weights.cfg_model import read_model
from detkit.weights.families import family_of
from detkit.weights.graph import DarknetGraph
from tests.weights.cfgs import LISTS, cfg_text

NET = "[net]\nbatch=64\nwidth=64\nheight=64\nchannels=3\nmosaic=1\nletter_box=1\n\n"
MOVE = "Detectors here end with YOLOv3: take a text of YOLOv1, v2 or v3 and its own weights."


def conv(filters: int, activation: str, *, size: int = 3, stride: int = 1) -> str:
    normalised = "" if activation in ("linear", "logistic") else "batch_normalize=1\n"
    return (
        f"[convolutional]\n{normalised}filters={filters}\nsize={size}\nstride={stride}\npad=1\n"
        f"activation={activation}\n\n"
    )


def route(layers: str, more: str = "") -> str:
    return f"[route]\nlayers = {layers}\n{more}\n"


def head(mask: str, more: str, *, kind: str = "yolo", anchors: int = 9) -> str:
    pairs = ", ".join(f"{8 * n},{9 * n}" for n in range(1, anchors + 1))
    return (
        f"[{kind}]\nmask = {mask}\nanchors = {pairs}\nclasses=3\nnum={anchors}\njitter=.3\n"
        f"ignore_thresh = .7\ntruth_thresh = 1\n{more}\n"
    )


SHORTCUT = "[shortcut]\nfrom=-3\nactivation=linear\n\n"
FINE_FIRST = ("0,1,2", "3,4,5", "6,7,8")
GREEDY = "iou_loss=ciou\nnms_kind=greedynms\nbeta_nms=0.6\n"


def three_heads(last: str, more: str, masks: tuple[str, ...] = FINE_FIRST) -> str:
    return "".join(conv(24, last, size=1) + head(mask, more) + route("-3") for mask in masks)


def block(activation: str) -> str:
    stem = conv(16, activation) + conv(32, activation, stride=2)
    return stem + conv(16, activation, size=1) + conv(32, activation) + SHORTCUT


ELAN = (
    conv(16, "swish", size=1)
    + route("-2")
    + "".join(conv(16, "swish", size=size) for size in (1, 3, 3))
    + route("-1,-2,-3,-5")
)
YOLOV4 = NET + block("mish") + three_heads("linear", f"scale_x_y = 1.1\n{GREEDY}")
YOLOV4_TINY = (
    NET
    + conv(32, "leaky", stride=2)
    + conv(64, "leaky")
    + route("-1", "groups=2\ngroup_id=1\n")
    + conv(32, "leaky")
    + route("-1,-2")
    + conv(24, "linear", size=1)
    + head("3,4,5", f"scale_x_y = 1.05\n{GREEDY}", anchors=6)
)
NEW = "scale_x_y = 2.0\nnew_coords=1\nnms_kind=diounms\n"
TEXTS = {
    "yolov4": (YOLOV4, "activation=mish", "YOLOv4 (Bochkovskiy et al., 2020)"),
    "yolov4-tiny": (YOLOV4_TINY, "groups=2", "YOLOv4-tiny (Wang et al., 2020)"),
    "yolov4-csp": (
        NET + block("mish") + three_heads("linear", NEW),
        "activation=mish",
        "Scaled-YOLOv4 (Wang et al., 2020)",
    ),
    "yolov4-csp-swish": (
        NET + block("swish") + three_heads("logistic", NEW),
        "activation=swish",
        "Scaled-YOLOv4 (Wang et al., 2020)",
    ),
    "yolov4 on leaky, as csresnext50-panet-spp": (
        NET + block("leaky") + three_heads("linear", f"scale_x_y = 1.1\n{GREEDY}"),
        "scale_x_y=1.1",
        "YOLOv4 (Bochkovskiy et al., 2020)",
    ),
    "yolov7": (
        NET + conv(32, "swish") + ELAN + three_heads("logistic", NEW),
        "activation=swish",
        "YOLOv7 (Wang et al., 2022)",
    ),
    "yolov7-tiny": (
        NET
        + (conv(32, "leaky") + ELAN).replace("swish", "leaky")
        + three_heads("linear", "new_coords=1\nscale_x_y = 2.0\n"),
        "new_coords=1",
        "YOLOv7 (Wang et al., 2022)",
    ),
    "Gaussian_yolov3": (
        NET
        + block("leaky")
        + conv(36, "linear", size=1)
        + head("6,7,8", "uc_normalizer=1.0\n", kind="Gaussian_yolo"),
        "[Gaussian_yolo]",
        "Gaussian YOLOv3 (Choi et al., 2019)",
    ),
    "enet-coco": (
        NET
        + conv(32, "swish")
        + "[avgpool]\n\n[scale_channels]\nfrom=-2\n\n"
        + conv(24, "linear", size=1)
        + head("0,1,2", ""),
        "activation=swish",
        "EfficientNet (Tan and Le, 2019)",
    ),
    "yolov4-sam": (
        NET + conv(8, "leaky") + "[sam]\nfrom=-2\n\n" + block("mish") + three_heads("linear", ""),
        "[sam]",
        "YOLOv4 (Bochkovskiy et al., 2020)",
    ),
}


def refused(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read_model(parse_cfg(text, Path("my.cfg")))
    return str(caught.value)


def expected(text: str, tell: str, family: str) -> str:
    lines = [line.replace(" ", "") for line in text.split("\n")]
    number = lines.index(tell) + 1
    opened = next(line for line in reversed(lines[:number]) if line.startswith("[")).lower()
    said = "" if tell.startswith("[") else f"{tell}: "
    return f"my.cfg:{number}: {opened}: {said}this is {family}, a family that is not here. {MOVE}"


@pytest.mark.parametrize("name", TEXTS)
def test_a_family_is_named_at_the_first_line_that_tells(name: str) -> None:
    text, tell, family = TEXTS[name]
    assert refused(text) == expected(text, tell, family)


def test_the_message_as_it_is_read() -> None:
    assert refused(YOLOV4) == (
        "my.cfg:15: [convolutional]: activation=mish: this is YOLOv4 (Bochkovskiy et al., 2020), a "
        "family that is not here. Detectors here end with YOLOv3: take a text of YOLOv1, v2 or v3 "
        "and its own weights."
    )


@pytest.mark.parametrize("name", ["yolov4", "yolov7", "Gaussian_yolov3", "yolov4-sam"])
def test_a_listing_that_cannot_be_made_says_the_same(name: str) -> None:
    text, tell, family = TEXTS[name]
    with torch.device("meta"), pytest.raises(ConfigError) as caught:
        DarknetGraph(parse_cfg(text, Path("my.cfg")))
    assert str(caught.value) == expected(text, tell, family)


def test_a_listing_of_layers_that_are_served_is_made() -> None:
    with torch.device("meta"):
        assert DarknetGraph(parse_cfg(YOLOV4_TINY, Path("my.cfg"))).describe()


@pytest.mark.parametrize("name", LISTS)
def test_texts_of_the_authors_are_of_no_other_family(name: str) -> None:
    assert family_of(parse_cfg(cfg_text(name), Path("my.cfg"))) is None


def test_a_yolov3_of_others_is_no_other_family() -> None:
    """Options of later programs in the form of tiny YOLOv3; masks of anchors in falling order."""
    text = cfg_text("yolov3-tiny").replace("truth_thresh = 1", "truth_thresh = 1\nscale_x_y=1.05")
    assert family_of(parse_cfg(text, Path("my.cfg"))) is None
    text = cfg_text("yolov3-tiny").replace("mask = 3,4,5", "mask = x").replace("0,1,2", "3,4,5")
    assert family_of(parse_cfg(text, Path("my.cfg"))) is None
    text = text.replace("mask = x", f"mask = {'9' * 5000}\nscale_x_y=1.05")
    assert family_of(parse_cfg(text, Path("my.cfg"))) is None


@pytest.mark.parametrize(
    ("section", "sentence"),
    [
        *(
            (kind, "layers of this kind are not served. Convert a network without them.")
            for kind in ("lstm", "conv_lstm", "crnn", "sam", "scale_channels", "contrastive")
        ),
        ("implicit", "layers of this kind are not served. Convert a network without them."),
        ("shortcat", "unknown kind of section. Did you mean 'shortcut'?"),
    ],
)
def test_kinds_that_are_not_here_are_named_at_their_line(section: str, sentence: str) -> None:
    """Before what stands later in the text, such as its heads, or that there is none."""
    start = NET + conv(8, "leaky")
    line = start.count("\n") + 1
    for rest in (conv(24, "linear", size=1) + head("x", "scale_x_y=3\n"), "[avgpool]\n"):
        text = f"{start}[{section}]\nfrom=-1\n\n{rest}"
        assert refused(text) == f"my.cfg:{line}: [{section}]: {sentence}"
