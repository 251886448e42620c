"""A setting that a detector cannot have is laid on the line of the text that it is from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from detkit.detectors import build_detector
from detkit.errors import ConfigError
from detkit.weights.cfg import parse_cfg
from detkit.weights.cfg_blame import blamed
from detkit.weights.cfg_model import read_model
from tests.weights.cfgs import cfg_text

OURS = "The rule is detkit's, and darknet may take the text; change this line."


def said(name: str, *changes: tuple[str, str], overrides: dict[str, Any] | None = None) -> str:
    size = (64, 64) if name.startswith("yolov1") else (96, 64)
    text = cfg_text(name, size=size, classes=3)
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    cfg = parse_cfg(text, Path("my.cfg"))
    described = read_model(cfg).model
    model = {**described, **(overrides or {})}
    with torch.device("meta"), pytest.raises(ConfigError) as caught:
        build_detector(model)
    return str(blamed(cfg, described, model, caught.value))


NET = "[net]: {} cannot be here: model.input_size: {} is not made of multiples of {}. " + OURS
V1 = ", the stride of backbone 'darknet_v1_tiny' here"


@pytest.mark.parametrize(
    ("name", "change", "sentence"),
    [
        *(
            (name, ("height=96", "height=100"), "8: " + NET.format("height=100", "[100, 64]", 32))
            for name in ("yolov2-voc", "yolov2-tiny-voc", "yolov3", "yolov3-spp", "yolov3-tiny")
        ),
        ("yolov3", ("width=64", "width=400"), "7: " + NET.format("width=400", "[96, 400]", 32)),
        (
            "yolov1-tiny",
            ("height=64", "height=96"),
            "8: " + NET.format("height=96", "[96, 64]", f"64{V1}"),
        ),
        (
            "yolov2-tiny-voc",
            ("anchors = 1.08,", "anchors = 0,"),
            "115: [region]: anchors=0,1.19,3.42,4.41,6.63,11.38,9.42,5.11,16.62,10.52 cannot be "
            "here: model.anchors_cells: expected one or more [width, height] above 0, in cells. "
            f"{OURS}",
        ),
        (
            "yolov3",
            ("anchors = 10,", "anchors = -10,"),
            "584: [yolo]: anchors=-10,13,16,30,33,23,30,61,62,45,59,119,116,90,156,198,373,326 "
            "cannot be here: model.anchors: expected one or more [width, height] above 0, in "
            f"canvas pixels. {OURS}",
        ),
        (
            "yolov3-tiny",
            ("mask = 0,1,2", "mask = 0,0,1"),
            "165: [yolo]: mask=0,0,1 cannot be here: model.anchor_masks: [0, 0, 1] is not made of "
            "different indices from 0 to 5, for 6 anchors; leave it out for even shares. "
            f"{OURS}",
        ),
        (
            "yolov3-tiny",
            ("ignore_thresh = .7", "ignore_thresh = 7"),
            "128: [yolo]: ignore_thresh=7 cannot be here: model.ignore_iou: expected a value of at "
            f"most 1; got 7.0. {OURS}",
        ),
        (
            "yolov2-tiny-voc",
            ("thresh = .6", "thresh = -1"),
            "130: [region]: thresh=-1 cannot be here: model.ignore_iou: expected a value of at "
            f"least 0; got -1.0. {OURS}",
        ),
        (
            "yolov1",
            ("probability=.5", "probability=2"),
            "235: [dropout]: probability=2 cannot be here: model.dropout: expected a value of at "
            f"most 1; got 2.0. {OURS}",
        ),
    ],
)
def test_a_value_of_the_text_is_named_at_its_line(
    name: str, change: tuple[str, str], sentence: str
) -> None:
    assert said(name, change) == f"my.cfg:{sentence}"


def test_room_for_a_pyramid_is_a_matter_of_its_pools() -> None:
    """The pyramid stands before the third convolution, so one is gone that it would follow."""
    text = cfg_text("yolov3-spp", size=(96, 64), classes=3)
    pools, head = text.index("[maxpool]"), text.index("[yolo]")
    narrow = [text.rindex("[convolutional]", 0, pools)]
    narrow.insert(0, text.rindex("[convolutional]", 0, narrow[0]))
    narrow.insert(0, text.rindex("[convolutional]", 0, narrow[0]))
    last = text.rindex("[convolutional]", 0, text.rindex("[convolutional]", 0, head))
    cut = parse_cfg(text[: narrow[0]] + text[pools:last] + text[head:], Path("my.cfg"))
    described = read_model(cut).model
    with torch.device("meta"), pytest.raises(ConfigError) as caught:
        build_detector(described)
    line = text[: narrow[0]].count("\n") + 2
    assert str(blamed(cut, described, described, caught.value)) == (
        f"my.cfg:{line}: [maxpool]: size=5 cannot be here: model.spp: needs 4 or more convolutions "
        f"on the coarsest scale, but head_convs begins with 1. {OURS}"
    )


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ({"input_size": [70, 70]}, "model.input_size: [70, 70] is not made of multiples of 32."),
        ({"nms_iou": 2}, "model.nms_iou: expected a value of at most 1; got 2."),
        ({"nms_ious": 2}, "model.nms_ious: unknown key. Did you mean 'nms_iou'?"),
    ],
)
def test_what_the_user_set_is_no_matter_of_the_text(
    overrides: dict[str, Any], sentence: str
) -> None:
    assert said("yolov3-tiny", overrides=overrides).startswith(sentence)
