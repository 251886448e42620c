from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from detkit.data.base import DetectionDataset
from detkit.evaluation.confusion import Confusion
from detkit.evaluation.error_plots import (
    confusion_figure,
    confusion_shares,
    error_figure,
    write_confusion,
    write_error_bars,
    write_examples,
)
from detkit.evaluation.errors import CLASS, DUPLICATE, MISSED, find_examples, split_errors
from detkit.evaluation.pictures import (
    Mark,
    draw_marks,
    example_caption,
    example_picture,
    region_around,
)
from tests.evaluation.test_errors import every_kind
from tests.evaluation.test_html_report import EVIL, with_images

RED, GREEN, YELLOW = (214, 39, 40), (44, 160, 44), (255, 204, 0)


def confusion_of(classes: int) -> Confusion:
    counts = np.random.default_rng(0).integers(0, 9, (classes + 1, classes + 1))
    counts[-1, -1] = 0
    return Confusion(tuple(f"class {label}" for label in range(classes)), counts, 0.5)


@pytest.fixture
def dataset(tmp_path: Path) -> DetectionDataset:
    return with_images(every_kind()[0], tmp_path)


@pytest.mark.parametrize("classes", [1, 3, 20, 80])
def test_confusion_is_drawn_with_room_for_its_names(classes: int) -> None:
    figure = confusion_figure(confusion_of(classes))
    figure.canvas.draw()
    (axes,) = figure.axes
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == [*(f"class {label}" for label in range(classes)), "(background)"]
    boxes = [label.get_window_extent() for label in axes.get_yticklabels()]
    for upper, lower in pairwise(boxes):
        assert upper.y0 > lower.y1 - 1  # no name on another
    written = {text.get_text() for text in axes.texts}
    assert bool(written) == (classes <= 24)


def test_colours_are_shares() -> None:
    confusion = Confusion(("a", "b"), np.array([[6, 2, 2], [0, 0, 0], [2, 0, 0]]), 0.5)
    expected = [[0.6, 0.2, 0.2], [0, 0, 0], [0.25, 0, 0]]
    np.testing.assert_allclose(confusion_shares(confusion), expected)


def test_bars_show_points_and_counts() -> None:
    annotations, results = every_kind()
    axes = error_figure(split_errors(results, annotations)).axes[0]
    assert [text.get_text() for text in axes.texts] == [
        "16.7  (1)",
        "16.7  (1)",
        "0.0  (1)",
        "0.0  (1)",
        "0.0  (1)",
        "0.0  (2)",
    ]
    assert axes.get_title() == "What costs average precision: AP50 25.0"


def test_files_are_written_whatever_the_names(tmp_path: Path, dataset: DetectionDataset) -> None:
    _, results = every_kind()
    ids = np.array([f"a/../{EVIL}{'x' * 300}", "b", "c", "d"], dtype=np.str_)
    annotations = replace(dataset.annotations, class_names=(EVIL, "漢字 $a$"), image_ids=ids)
    split = split_errors(results, annotations)
    confusion = Confusion(annotations.class_names, np.eye(3, dtype=np.int64), 0.5)
    write_confusion(tmp_path / "out" / "confusion.png", confusion)
    write_error_bars(tmp_path / "out" / "errors.png", split)
    written = write_examples(tmp_path / "out", DetectionDataset(annotations), results, split)
    assert len(list((tmp_path / "out").iterdir())) == 2 + len(written) == 9
    names = [path.name for path in written]
    assert names[:3] == ["class_01_b.png", names[1], "both_01_c.png"]
    assert names[1].startswith("location_01_a_..__script_alert_1___script_____")
    assert len(names[1]) < 130


def test_examples_show_truth_and_detection_apart(dataset: DetectionDataset) -> None:
    annotations, results = every_kind()
    split = split_errors(results, annotations)
    colours = {}
    for kind in (CLASS, DUPLICATE, MISSED):
        example = find_examples(split, results, annotations, kind, 1)[0]
        picture = example_picture(dataset, results, example, 300)
        assert max(picture.size) <= 300
        found = {colour for _, colour in picture.getcolors(2**20)}
        colours[kind] = {colour for colour in (RED, GREEN, YELLOW) if colour in found}
    assert colours == {CLASS: {RED}, DUPLICATE: {RED, GREEN}, MISSED: {YELLOW}}


def test_captions_read_aloud() -> None:
    annotations, results = every_kind()
    split = split_errors(results, annotations)
    said = [
        example_caption(
            annotations, results, find_examples(split, results, annotations, kind, 1)[0]
        )
        for kind in range(6)
    ]
    assert said == [
        "class: found class1, truth is class0, IoU 0.90, score 0.60, in image1",
        "location: class1, IoU 0.25, score 0.70, in image0",
        "both: found class0, truth is class1, IoU 0.25, score 0.50, in image2",
        "duplicate: class0, IoU 0.90, score 0.80, after one of 0.90, in image0",
        "background: found class0, score 0.40, in image3",
        "missed: class1, in image2",
    ]


@pytest.mark.parametrize(
    ("box", "size", "expected"),
    [
        ((40, 40, 60, 60), (100, 100), (18, 18, 82, 82)),  # 20 pixels and as much around: 64
        ((0, 0, 10, 10), (100, 200), (0, 0, 64, 64)),  # moved inside
        ((10, 10, 90, 30), (50, 300), (0, 0, 240, 50)),  # cut where the image is low
        ((90, 90, 3e38, 200), (100, 100), (36, 36, 100, 100)),  # ends outside
        ((500, 500, 600, 600), (100, 100), (36, 36, 100, 100)),  # lies outside
    ],
)
def test_region_around(
    box: tuple[float, ...], size: tuple[int, int], expected: tuple[int, ...]
) -> None:
    assert region_around(np.array([box], dtype=np.float32), size) == expected


def test_marks_are_drawn_where_they_are() -> None:
    image = torch.zeros(3, 50, 100, dtype=torch.uint8)
    red, dashed = Mark((10, 10, 30, 20), "#ff0000"), Mark((50, 10, 90, 40), "#00ff00", dashed=True)
    picture = np.asarray(draw_marks(image, [red, dashed], longest=200))  # twice as large
    assert picture.shape == (100, 200, 3)
    where = np.argwhere((picture == (255, 0, 0)).all(axis=2))
    assert (where.min(axis=0).tolist(), where.max(axis=0).tolist()) == ([20, 20], [39, 59])
    where = np.argwhere((picture == (0, 255, 0)).all(axis=2))
    assert (where.min(axis=0).tolist(), where.max(axis=0).tolist()) == ([20, 100], [79, 179])
    row = (picture[20, 100:180] == (0, 255, 0)).all(axis=1)
    assert 30 < row.sum() < 60  # dashes, with gaps
    part = np.asarray(draw_marks(image, [red], longest=60, region=(5, 5, 35, 25)))
    assert part.shape == (40, 60, 3)
    assert (part[10, 10] == (255, 0, 0)).all()


def test_small_images_stay_small() -> None:
    tiny = torch.zeros(3, 1, 2, dtype=torch.uint8)
    endless = Mark((-3e38, 0, 3e38, 1), "#ff0000", "name " * 9)
    assert draw_marks(tiny, [endless], longest=500).size == (8, 4)


def test_pictures_are_images(tmp_path: Path, dataset: DetectionDataset) -> None:
    annotations, results = every_kind()
    split = split_errors(results, annotations)
    for path in write_examples(tmp_path / "new", dataset, results, split, count=1):
        with Image.open(path) as picture:
            picture.load()
            assert picture.height > picture.width / 2
