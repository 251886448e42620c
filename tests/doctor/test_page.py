"""The doctor's report: read as text, read back as JSON, drawn and looked at by their axes."""

from __future__ import annotations

import io
import itertools
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from detkit.data import Report
from detkit.detectors import YoloV2, YoloV2Config, build_detector
from detkit.doctor.figures import Checkup, Entry, Split, examine
from detkit.doctor.page import print_checkup
from detkit.doctor.plots import (
    page_figure,
    sample_picture,
    samples_figure,
    write_page,
    write_samples,
)
from detkit.doctor.record import as_record, bad_files
from detkit.doctor.verdicts import Finding, find
from tests.evaluation.datasets import Object, annotate
from tests.test_overfit import AUDITED, FORMS


@pytest.fixture
def checkup(tmp_path: Path) -> Checkup:
    objects = [("cat", (0.0, 0.0, 45.0, 55.0)), ("dog", (60.0, 20.0, 100.0, 60.0))]
    lost = [("cat", (1.0, 1.0, 46.0, 56.0)), *objects]
    report = Report({"boxes clipped to the image": 2}, (("gone.jpg", "no such image file."),))
    train = annotate(tmp_path / "a", [((128, 128), lost), ((60, 90), [])], report=report)
    evals = annotate(tmp_path / "b", [((128, 128), objects)], seed=9)
    model = YoloV2(YoloV2Config(num_classes=2, backbone="tiny", input_size=128))
    splits = [
        Split("train", "train", train, (Entry("voc a b", 2, 1),)),
        Split("eval", "eval", evals, (Entry("voc a c", 1, 0),)),
    ]
    return examine(splits, model, model="yolo_v2 (tiny)")


def printed(checkup: Checkup, findings: list[Finding], width: int = 120) -> str:
    out = io.StringIO()
    print_checkup(checkup, findings, Console(file=out, width=width))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def row(text: str, begin: str) -> str:
    (line,) = [line for line in text.splitlines() if line.strip().startswith(begin)]
    return " ".join(line.split())


def test_terminal(checkup: Checkup) -> None:
    text = printed(checkup, [Finding("info", "a: b. Do c."), Finding("info", "d.")])
    assert row(text, "from") == "from voc a b voc a c"
    assert row(text, "images ") == "images 2, 1 without objects, 1 unusable left out 1"
    assert row(text, "image sizes") == (
        "image sizes (h x w) 128 x 128 (1), 60 x 90 (1) 128 x 128 (1)"
    )
    assert row(text, "width / height") == "width / height 1.00 to 1.50, median 1.25 1.00"
    assert row(text, "objects   ") == "objects 3 2"
    assert row(text, "objects per image") == (
        "objects per image median 1.5, mean 1.5, at most 3 median 2, mean 2.0, at most 2"
    )
    assert row(text, "the reader noted") == "the reader noted 2 boxes clipped to the image"
    assert row(text, "canvas") == "canvas (h x w) 128 x 128 128 x 128"
    assert row(text, "scale") == "scale of the images 1.00 to 1.42, median 1.21 1.00"
    assert row(text, "lost") == "lost: same cell and anchor 1 of 3 (33.3%) 0 of 2 (0.0%)"
    assert row(text, "smaller") == "smaller than a cell 0 (0.0%) 0 (0.0%)"
    assert row(text, "cat") == "cat 2 1 1 1"
    assert "Files that cannot be used: 1\n  gone.jpg: no such image file.\n" in text
    assert text.splitlines()[-4:] == [
        "info    a: b. Do c.",
        "info    d.",
        "",
        "info: worth a look",
    ]


LARGE: list[Object] = [("cat", (0, 0, 45, 55)), ("dog", (60, 20, 100, 60)), ("dog", (0, 0, 9, 9))]


def test_terminal_without_anchors(tmp_path: Path) -> None:
    """An image of 100 x 128 on 128 x 128: 1.28 times as high; cells of 32, one object in each."""
    data = annotate(tmp_path, [((100, 128), [*LARGE, ("cat", (1, 1, 10, 10))])])
    model = build_detector({"num_classes": 2, **FORMS["yolo_v1"]})
    checkup = examine([Split("train", "train", data, ())], model, model="yolo_v1 (tiny)")
    text = printed(checkup, [])
    assert row(text, "stretched") == "stretched 0.78 times as wide"
    assert row(text, "lost") == "lost: same cell 1 of 4 (25.0%)"
    assert "anchor" not in text
    assert "grey" not in text
    record = as_record(checkup, [])["splits"]["train"]["detector"]
    assert record == {"objects": 4, "lost": 1, "below_stride": 2}


def test_terminal_with_several_scales(tmp_path: Path) -> None:
    """45 x 55 with 40 x 50: 0.81, 40 x 40: 0.8; 9 x 9 the same 81 / 2000."""
    model = build_detector(
        {
            "name": "yolo_v3_tiny",
            "backbone": "tiny",
            "num_classes": 2,
            "input_size": 128,
            "anchors": [[40, 50], [120, 120]],
        }
    )
    data = annotate(tmp_path, [((128, 128), LARGE)])
    checkup = examine([Split("train", "train", data, ())], model, model="yolo_v3_tiny (tiny)")
    text = printed(checkup, [])
    assert row(text, "with an anchor") == "with an anchor of IoU 0.5 66.7%, mean IoU 0.55"
    assert row(text, "objects by") == "objects by scale cells of 16: 100%, 67% at IoU 0.5"
    assert row(text, "cells of 32") == "cells of 32: 0%"
    assert row(text, "lost") == "lost: same cell and anchor 0 of 3 (0.0%)"
    record = as_record(checkup, [])["splits"]["train"]["detector"]
    assert record["scales"] == [
        {"stride": 16, "objects": 3, "recall_at_0.5": pytest.approx(2 / 3)},
        {"stride": 32, "objects": 0},
    ]


def test_nothing_is_lost_where_several_objects_may_have_an_anchor(tmp_path: Path) -> None:
    close: list[Object] = [("cat", (0.0, 0.0, 45.0, 55.0)), ("dog", (1.0, 1.0, 46.0, 56.0))]
    data = annotate(tmp_path, [((128, 128), close)])
    for form, is_lost in (("faster_rcnn_fpn", False), ("faster_rcnn", False), ("yolo_v2", True)):
        model = build_detector({"num_classes": 2, **FORMS[form]})
        text = printed(examine([Split("train", "train", data, ())], model, model=form), [])
        assert ("lost: same cell and anchor" in text) is is_lost
        assert "with an anchor of IoU 0.5" in text


@pytest.mark.parametrize("form", AUDITED)
def test_pictures_of_every_detector(form: str, tmp_path: Path) -> None:
    model = build_detector({"num_classes": 2, **FORMS[form]})
    data = annotate(tmp_path, [((100, 128), LARGE)])
    checkup = examine([Split("train", "train", data, ())], model, model=form)
    figure = page_figure(checkup, "any")
    figure.savefig(io.BytesIO(), format="png")
    sizes, sides = figure.axes[1:3]
    legend = sizes.get_legend()
    named = [text.get_text() for text in legend.get_texts()] if legend is not None else []
    scales = model.anchor_scales()
    if len(scales) > 1:
        assert named == [f"cells of {scale.stride}" for scale in scales]
        named = [legend.get_title().get_text()]
    assert named == ([f"anchors of {form}"] if scales else [])
    begin = "Objects and anchors: " if scales else "Widths and heights on the canvas"
    assert sizes.get_title().startswith(begin)
    cells = [text.get_text() for text in sides.texts]
    assert cells[: len(scales)] == [f" cell: {scale.stride}" for scale in scales]
    assert len(cells) == max(len(scales), 1)


def test_names_that_look_like_markup_are_printed_as_they_are(checkup: Checkup) -> None:
    named = replace(checkup, class_names=("[red]cat[/red]", "[/]dog"))
    text = printed(named, [])
    assert "[red]cat[/red]" in text
    assert "[/]dog" in text
    assert text.rstrip().endswith("Nothing to complain of.")


def test_record(checkup: Checkup) -> None:
    record = json.loads(json.dumps(as_record(checkup, find(checkup)), allow_nan=False))
    assert record["model"] == "yolo_v2 (tiny)"
    assert record["class_names"] == ["cat", "dog"]
    assert record["bad_files"] == [{"path": "gone.jpg", "reason": "no such image file."}]
    train = record["splits"]["train"]
    assert train["sources"] == ["voc a b"]
    assert (train["images"], train["unreadable"], train["objects"]) == (2, 1, 3)
    assert train["objects_of_class"] == {"cat": 2, "dog": 1}
    assert train["report"] == {"boxes clipped to the image": 2}
    assert (train["detector"]["objects"], train["detector"]["lost"]) == (3, 1)
    assert {finding["severity"] for finding in record["findings"]} <= {"info", "warning"}


def test_record_of_copies_on_both_sides(tmp_path: Path) -> None:
    train = annotate(tmp_path / "a", [((60, 90), [])] * 3)
    evals = annotate(tmp_path / "b", [((60, 90), [])] * 3, seed=9)
    shutil.copyfile(str(train.paths[2]), str(evals.paths[0]))
    with Image.open(str(train.paths[0])) as image:
        image.save(str(evals.paths[1]), compress_level=1)
    splits = [Split("train", "train", train, ()), Split("val", "eval", evals, ())]
    model = YoloV2(YoloV2Config(num_classes=2, backbone="tiny", input_size=64))
    record = as_record(examine(splits, model), [])
    assert record["copies_across_splits"] == [
        {
            "splits": ["train", "val"],
            "pairs": [
                {"images": [train.paths[0], evals.paths[1]], "same_bytes": False},
                {"images": [train.paths[2], evals.paths[0]], "same_bytes": True},
            ],
        }
    ]


def test_bad_files_of_two_splits_are_listed_once(checkup: Checkup) -> None:
    twice = replace(checkup, splits=(checkup.splits[0], checkup.splits[0]))
    assert bad_files(twice) == [("gone.jpg", "no such image file.")]


def test_page_has_a_bar_a_class_and_split(checkup: Checkup) -> None:
    figure = page_figure(checkup, "mine")
    classes = figure.axes[0]
    assert [label.get_text() for label in classes.get_yticklabels()] == ["cat", "dog"]
    widths = [[bar.get_width() for bar in bars] for bars in classes.containers]
    assert widths == [[2, 1], [1, 1]]
    titles = [axis.get_title() for axis in figure.axes[1:]]
    assert titles[2] == "On the canvas: 3 objects, 1 lost (red)"
    assert titles[-1].startswith("Image sizes (most: 128 x 128)") or "60 x 90" in titles[-1]


@pytest.mark.parametrize("classes", [1, 80, 200])
def test_pages_of_any_number_of_classes(checkup: Checkup, classes: int, tmp_path: Path) -> None:
    """Names stay apart: no two labels of the axis overlap."""
    names = tuple(f"class number {k}" for k in range(classes))
    figures = [
        replace(f, objects_of_class=np.arange(classes), images_of_class=np.arange(classes))
        for f in checkup.figures
    ]
    figure = page_figure(replace(checkup, class_names=names, figures=tuple(figures)), "$many")
    figure.savefig(io.BytesIO(), format="png")
    boxes = [label.get_window_extent() for label in figure.axes[0].get_yticklabels()]
    assert all(a.y0 >= b.y1 - 1 for a, b in itertools.pairwise(boxes))
    assert len(boxes) == min(classes, 120)


def test_pictures_of_empty_data(tmp_path: Path) -> None:
    model = YoloV2(YoloV2Config(num_classes=1, backbone="tiny", input_size=64))
    for images in ([], [((60, 80), [])]):
        data = annotate(tmp_path, images, names=())
        empty = examine([Split("train", "train", data, ())], model)
        write_page(tmp_path / "out" / "page.png", empty, "nothing")
        write_samples(tmp_path / "out" / "samples.png", empty)
        assert printed(empty, find(empty))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "page.png", "samples.png"
    ]  # fmt: skip


def test_samples_show_upright_pictures_with_boxes(tmp_path: Path) -> None:
    data = annotate(tmp_path, [((40, 60), [("cat", (10.0, 5.0, 30.0, 30.0))])])
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 60)).save(str(data.paths[0]), exif=exif)  # upright: 40 high, 60 wide
    picture = sample_picture(data, 0)
    assert not isinstance(picture, str)
    assert picture.shape == (3, 40, 60)
    assert picture[:, 25, 27:33].sum() > 0  # the right edge of the box


def test_a_sample_that_cannot_be_decoded_is_told(checkup: Checkup) -> None:
    path = str(checkup.splits[0].annotations.paths[0])
    Path(path).write_bytes(b"\x89PNG broken")
    assert sample_picture(checkup.splits[0].annotations, 0) == (
        f"{path}: the image is cut off or damaged. Copy or download it again."
    )
    figure = samples_figure(checkup)
    assert [text.get_text() for axis in figure.axes for text in axis.texts] == [
        "cannot be decoded"
    ]  # fmt: skip


def test_a_large_sample_is_made_smaller(tmp_path: Path) -> None:
    data = annotate(tmp_path, [((200, 1800), [("cat", (900.0, 0.0, 1800.0, 200.0))])])
    picture = sample_picture(data, 0)
    assert not isinstance(picture, str)
    assert picture.shape == (3, 100, 900)
