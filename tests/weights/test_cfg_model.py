"""Which detector a text of the authors' is, and which line none here serves."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from detkit.detectors import Detector, build_detector
from detkit.errors import ConfigError
from detkit.weights.cfg import Cfg, parse_cfg
from detkit.weights.cfg_compare import check_agreement, check_shapes
from detkit.weights.cfg_model import read_model
from detkit.weights.graph import DarknetGraph
from detkit.weights.layout import file_layers
from tests.weights.cfgs import cfg_text

SMALL = (96, 64)


def meta(model: dict[str, object]) -> Detector:
    with torch.device("meta"):
        return build_detector(model)


def line_of(text: str, what: str) -> int:
    """The first line that holds something, counted from 1."""
    return next(n for n, line in enumerate(text.splitlines(), start=1) if what in line)


def changed_text(name: str, *changes: tuple[str, str]) -> str:
    """An author's text for three classes, with some of it replaced."""
    text = cfg_text(name, size=(64, 64) if name.startswith("yolov1") else SMALL, classes=3)
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return text


def changed(name: str, *changes: tuple[str, str]) -> Cfg:
    """The same, read."""
    return parse_cfg(changed_text(name, *changes), Path("my.cfg"))


@pytest.mark.parametrize(
    ("name", "detector", "settings"),
    [
        ("yolov1", "yolo_v1", {"num_classes": 20, "boxes_per_cell": 3, "head": "repository"}),
        ("yolov1-tiny", "yolo_v1_tiny", {"num_classes": 20, "boxes_per_cell": 2, "head": "tiny"}),
        ("yolov2-voc", "yolo_v2", {"num_classes": 20, "rescore": True, "ignore_iou": 0.6}),
        ("yolov2", "yolo_v2", {"num_classes": 80, "input_size": (608, 608)}),
        ("yolov2-tiny-voc", "yolo_v2_tiny", {"num_classes": 20, "head_channels": 1024}),
        (
            "yolov2-tiny",
            "yolo_v2_tiny",
            {"num_classes": 80, "head_channels": 512, "rescore": False, "object_scale": 5.0},
        ),
        (
            "yolov3",
            "yolo_v3",
            {
                "num_classes": 80,
                "anchor_masks": ((6, 7, 8), (3, 4, 5), (0, 1, 2)),
                "head_channels": (512, 256, 128),
                "head_convs": (6, 6, 6),
                "ignore_iou": 0.7,
            },
        ),
        ("yolov3-voc", "yolo_v3", {"num_classes": 20, "ignore_iou": 0.5}),
        ("yolov3-spp", "yolo_v3_spp", {"head_convs": (6, 6, 6), "spp": True}),
        (
            "yolov3-tiny",
            "yolo_v3_tiny",
            {
                "anchor_masks": ((3, 4, 5), (0, 1, 2)),
                "anchors": ((10, 14), (23, 27), (37, 58), (81, 82), (135, 169), (344, 319)),
                "head_channels": (256, 128),
                "head_convs": (2, 1),
            },
        ),
    ],
)
def test_every_text_of_the_authors_is_known(
    name: str, detector: str, settings: dict[str, object]
) -> None:
    read = read_model(parse_cfg(cfg_text(name), Path(f"{name}.cfg")))
    assert read.model["name"] == detector
    assert read.notes == ()
    built = meta(read.model)
    found = built.config.model_dump()
    assert {key: found[key] for key in settings} == settings
    with torch.device("meta"):
        graph = DarknetGraph(parse_cfg(cfg_text(name), Path(f"{name}.cfg")))
    check_shapes(graph, built, detector)


def test_masks_are_those_of_the_text() -> None:
    """Some copies of the text of tiny YOLOv3 have other masks than the authors'."""
    model = read_model(changed("yolov3-tiny", ("mask = 0,1,2", "mask = 1,2,3"))).model
    assert model["anchor_masks"] == [[3, 4, 5], [1, 2, 3]]


def test_the_paper_s_first_network_is_known_by_its_layers() -> None:
    """No batch normalisation, two connected layers: what the authors published in 2015."""
    text = cfg_text("yolov1").replace("batch_normalize=1\n", "")
    local = "[local]\nsize=3\nstride=1\npad=1\nfilters=256\nactivation=leaky\n"
    assert local in text
    text = text.replace(local, "[connected]\noutput=4096\nactivation=leaky\n")
    text = text.replace("output=1715", "output=1470").replace("num=3", "num=2")
    cfg = parse_cfg(text, Path("yolo.cfg"))
    model = read_model(cfg).model
    expected = {"head": "paper", "backbone": "darknet_v1_plain", "batch_norm": False}
    assert {key: model[key] for key in expected} == expected
    assert model["fc_width"] == 4096
    with torch.device("meta"):
        graph = DarknetGraph(cfg)
    check_shapes(graph, meta(model), "yolo_v1")


@pytest.mark.parametrize(
    ("name", "change", "where", "sentence"),
    [
        (
            "yolov3-tiny",
            ("truth_thresh = 1", "truth_thresh = 1\nscale_x_y=1.05"),
            "scale_x_y",
            "[yolo]: scale_x_y=1.05. It changes what is detected; detectors here have scale_x_y=1 "
            "alone.",
        ),
        (
            "yolov3-tiny",
            ("truth_thresh = 1", "truth_thresh = 1\nnms_kind=diounms"),
            "nms_kind",
            "[yolo]: nms_kind=diounms. It changes what is detected, and no detector here has it.",
        ),
        (
            "yolov2-tiny-voc",
            ("softmax=1\n", ""),
            "[region]",
            "[region]: softmax=0, which is what no value means. It changes what is detected; "
            "detectors here have softmax=1 alone.",
        ),
        (
            "yolov2-tiny-voc",
            ("softmax=1\n", "softmax=1\ntree=data/9k.tree\n"),
            "tree",
            "[region]: tree=data/9k.tree. It changes what is detected, and no detector here has "
            "it.",
        ),
        (
            "yolov1-tiny",
            ("sqrt=1\n", "sqrt=0\n"),
            "sqrt",
            "[detection]: sqrt=0. It changes what is detected; detectors here have sqrt=1 alone.",
        ),
        (
            "yolov3-tiny",
            ("channels=3", "channels=1"),
            "channels",
            "[net]: channels is not 3. Detectors here take colour images.",
        ),
        (
            "yolov3-tiny",
            ("mask = 0,1,2\nanchors = 10,14", "mask = 0,1,2\nanchors = 11,14"),
            "11,14",
            "[yolo]: other anchors than those of the [yolo] before it. darknet lets each have its "
            "own, detectors here have one for all: give all the same.",
        ),
        (
            "yolov3-tiny",
            ("num=6", "num=5"),
            "anchors",
            "[yolo]: num is 5, but anchors holds 12 numbers. Write 5 pairs of width and height.",
        ),
        (
            "yolov3-tiny",
            ("[route]\nlayers = -4", "[yolo]\nmask=0,1,2\nnum=3\nclasses=3\n[route]\nlayers = -5"),
            "",
            "[yolo]: 3 layers of this kind, but yolo_v3_tiny, the nearest here, has 2. No detector "
            "here computes this network.",
        ),
    ],
)
def test_what_would_change_the_boxes_is_refused(
    name: str, change: tuple[str, str], where: str, sentence: str
) -> None:
    text = changed_text(name, change)
    line = line_of(text, where) if where else 1 + text[: text.rindex("[yolo]")].count("\n")
    with pytest.raises(ConfigError) as caught:
        read_model(parse_cfg(text, Path("my.cfg")))
    assert str(caught.value) == f"my.cfg:{line}: {sentence}"


def test_a_backbone_s_text_is_no_detector() -> None:
    with pytest.raises(ConfigError) as caught:
        read_model(parse_cfg(cfg_text("darknet19"), Path("darknet19.cfg")))
    assert str(caught.value) == (
        "darknet19.cfg:192: [softmax]: no [yolo], [region] or [detection] layer, so it detects "
        "nothing. Weights of a backbone alone are for training: model.backbone_weights=FILE."
    )


def test_what_concerns_training_alone_is_told() -> None:
    cfg = changed(
        "yolov3-tiny",
        ("truth_thresh = 1", "truth_thresh = .9\niou_loss=ciou\nscale_x_y=1.0\nfocal_loss=0"),
        ("[net]", "[net]\nmosaic=1\nletter_box=1\nmixup=0"),
    )
    after = (
        "left out, as the authors' program has no such option; if the program of this text reads "
        "it while detecting, its boxes are others."
    )
    assert read_model(cfg).notes == (
        f"[net] mosaic=1: {after}",
        "[yolo] truth_thresh=.9 concerns training alone, and training here has truth_thresh=1.",
        f"[yolo] iou_loss=ciou: {after}",
    )


NONE = "No detector here computes this network."


@pytest.mark.parametrize(
    ("name", "change", "sentence"),
    [
        (
            "yolov3-tiny",
            ("filters=1024", "filters=768"),
            "my.cfg:91: [convolutional]: layer 12 is a convolution [768, 512, 3, 3] with batch "
            "normalisation, where yolo_v3_tiny, the nearest detector here, has a convolution "
            f"[1024, 512, 3, 3] with batch normalisation. {NONE}",
        ),
        (
            "yolov2-tiny-voc",
            ("[maxpool]\nsize=2\nstride=1\n", "[batchnorm]\n"),
            "my.cfg:87: [batchnorm]: layer 11 is a batch normalisation [512], "
            "where yolo_v2_tiny, the nearest detector here, has a convolution "
            f"[1024, 512, 3, 3] with batch normalisation. {NONE}",
        ),
    ],
)
def test_the_first_line_that_differs_is_named(
    name: str, change: tuple[str, str], sentence: str
) -> None:
    cfg = changed(name, change)
    model = read_model(cfg).model
    with torch.device("meta"):
        graph = DarknetGraph(cfg)
    with pytest.raises(ConfigError) as caught:
        check_shapes(graph, meta(model), model["name"])
    assert str(caught.value) == sentence


def test_a_text_that_ends_early_is_refused() -> None:
    """One convolution is taken out before the end of the second scale."""
    text = cfg_text("yolov3-tiny", size=SMALL, classes=3)
    cut = text[: text.rindex("[convolutional]")]
    cfg = parse_cfg(cut, Path("my.cfg"))
    with torch.device("meta"):
        graph = DarknetGraph(cfg)
    with pytest.raises(ConfigError) as caught:
        check_shapes(graph, meta({"name": "yolo_v3_tiny", "num_classes": 3}), "yolo_v3_tiny")
    last = line_of(cut, "layers = -1, 8")
    assert str(caught.value).endswith(
        ": the network ends here, where yolo_v3_tiny, the nearest detector here, still has a "
        f"convolution [24, 256, 1, 1]. {NONE}"
    )
    assert int(str(caught.value).split(":")[1]) > last


def test_an_output_that_nothing_takes_is_refused() -> None:
    cfg = changed("yolov2-tiny-voc", ("[region]", "[softmax]\n\n[route]\nlayers = -2\n\n[region]"))
    model = {"name": "yolo_v2_tiny", "num_classes": 3, "input_size": SMALL}
    with pytest.raises(ConfigError) as caught:
        check_agreement(cfg, drawn(model), "yolo_v2_tiny")
    line = line_of(
        changed_text(
            "yolov2-tiny-voc", ("[region]", "[softmax]\n\n[route]\nlayers = -2\n\n[region]")
        ),
        "[softmax]",
    )
    assert str(caught.value) == (
        f"my.cfg:{line}: [softmax]: the network has an output here that no detection layer takes. "
        "No detector here computes this network; the nearest is yolo_v2_tiny."
    )


def test_layers_that_do_not_fit_the_small_canvas_are_tried_at_the_text_s_size() -> None:
    """Without padding the last 3 x 3 needs a map of its own size at least."""
    text = cfg_text("yolov2-tiny-voc", size=(160, 160), classes=3)
    at = text.rindex("size=3")
    cfg = parse_cfg(text[:at] + text[at:].replace("pad=1", "pad=0", 1), Path("my.cfg"))
    with pytest.raises(ConfigError, match="what enters this layer is not what yolo_v2_tiny"):
        check_agreement(cfg, drawn(read_model(cfg).model), "yolo_v2_tiny")


def test_several_heads_of_several_kinds_are_refused() -> None:
    text = cfg_text("yolov2-tiny-voc", classes=3) + "\n[yolo]\n"
    with pytest.raises(ConfigError) as caught:
        read_model(parse_cfg(text, Path("my.cfg")))
    assert str(caught.value) == (
        f"my.cfg:{line_of(text, '[yolo]')}: [yolo]: a second head, after [region]. Only YOLOv3's "
        "have several, and all are [yolo]."
    )


# ------------------------------------------------------------------------------ agreement


def drawn(model: dict[str, object]) -> Detector:
    """The detector with batch normalisation that does something."""
    torch.manual_seed(0)
    detector = build_detector(model).eval()
    with torch.no_grad():
        for layer in file_layers(detector):
            for piece in layer.pieces:
                if piece.tensor.ndim == 1:
                    piece.tensor.uniform_(0.5, 1.5)
    return detector


@pytest.mark.parametrize("name", ["yolov3-tiny", "yolov2-tiny-voc", "yolov1-tiny"])
def test_text_and_detector_compute_the_same(name: str) -> None:
    cfg = changed(name)
    model = read_model(cfg).model
    assert check_agreement(cfg, drawn(model), model["name"]) < 1e-5


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (("layers = -1, 8", "layers = 8, -1"), 164),  # the second scale sees them in other order
        (("activation=leaky\n\n[upsample]", "activation=linear\n\n[upsample]"), 164),
        (("activation=leaky\n\n[maxpool]", "activation=relu\n\n[maxpool]"), 122),
    ],
)
def test_equal_shapes_are_not_enough(change: tuple[str, str], line: int) -> None:
    cfg = changed("yolov3-tiny", change)
    model = read_model(cfg).model
    detector = drawn(model)
    with pytest.raises(ConfigError) as caught:
        check_agreement(cfg, detector, "yolo_v3_tiny")
    assert str(caught.value) == (
        f"my.cfg:{line}: [yolo]: with the same weights, what enters this layer is not what "
        "yolo_v3_tiny, the nearest detector here, computes, though the weights have its shapes: a "
        f"layer, a route or an activation before it is another. {NONE}"
    )


def test_of_outputs_that_are_not_finite_nothing_is_said() -> None:
    cfg = changed("yolov2-tiny-voc")
    detector = drawn(read_model(cfg).model)
    with torch.no_grad():
        file_layers(detector)[0].pieces[0].tensor.fill_(math.nan)
    assert math.isnan(check_agreement(cfg, detector, "yolo_v2_tiny"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["yolov2-voc", "yolov3", "yolov3-spp"])
def test_the_large_texts_and_detectors_compute_the_same(name: str) -> None:
    cfg = changed(name)
    model = read_model(cfg).model
    assert check_agreement(cfg, drawn(model), model["name"]) < 1e-5


@pytest.mark.slow
def test_the_order_of_the_pyramid_s_pools_counts() -> None:
    """In the wrong order everything loads, and nothing is found: the trap of yolov3-spp."""
    text = cfg_text("yolov3-spp", size=SMALL, classes=3)
    wrong = text
    for old, new in (
        ("size=5\n", "size=X\n"),
        ("size=13\n", "size=5\n"),
        ("size=X\n", "size=13\n"),
    ):
        assert old in wrong
        wrong = wrong.replace(old, new)
    cfg = parse_cfg(wrong, Path("my.cfg"))
    model = read_model(cfg).model
    with pytest.raises(ConfigError, match="what enters this layer is not what yolo_v3_spp"):
        check_agreement(cfg, drawn(model), "yolo_v3_spp")
