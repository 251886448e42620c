from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detkit.data.base import DetectionDataset
from detkit.evaluation.plots import (
    precision_recall_figure,
    score_images,
    write_curves,
    write_pictures,
)
from detkit.evaluation.results import Results
from detkit.evaluation.voc_map import voc_map
from tests.evaluation.noise import make_annotations, make_results

WHOLE = (0.0, 0.0, 10.0, 10.0)
FAR = (20.0, 20.0, 30.0, 30.0)

# image 0: both found; 1: one of one found, one wrong; 2: empty, as said; 3: missed;
# 4: empty, yet something is found; 5: only a difficult object, found
ANNOTATIONS = make_annotations(
    [(0, 0, WHOLE), (0, 1, FAR), (1, 0, WHOLE), (3, 0, WHOLE), (5, 0, WHOLE)],
    images=6,
    classes=2,
    difficult=(4,),
)
RESULTS = make_results(
    [
        (0, 0, WHOLE, 0.9),
        (0, 1, FAR, 0.8),
        (1, 0, WHOLE, 0.9),
        (1, 1, FAR, 0.8),
        (3, 0, WHOLE, 0.2),  # below the threshold
        (4, 0, FAR, 0.7),
        (5, 0, WHOLE, 0.9),
    ]
)


@pytest.fixture
def dataset(tmp_path: Path) -> DetectionDataset:
    paths = [str(tmp_path / f"{number}.png") for number in range(6)]
    for path in paths:
        Image.fromarray(np.full((40, 60, 3), 128, dtype=np.uint8)).save(path)
    sizes = np.tile(np.array([[40, 60]], dtype=np.int32), (6, 1))
    return DetectionDataset(replace(ANNOTATIONS, paths=np.array(paths), sizes=sizes))


def test_f1_of_each_image() -> None:
    scores = score_images(RESULTS, ANNOTATIONS, threshold=0.5)
    np.testing.assert_array_equal(scores.right, [2, 1, 0, 0, 0, 0])
    np.testing.assert_array_equal(scores.wrong, [0, 1, 0, 0, 1, 0])
    np.testing.assert_array_equal(scores.missed, [0, 0, 0, 1, 0, 0])
    np.testing.assert_allclose(scores.f1, [1.0, 2 / 3, np.nan, 0.0, 0.0, np.nan])
    assert scores.worst(9) == [3, 4, 1]  # no flawless image, none without anything to say
    assert scores.best(9) == [0, 1]  # no failure
    assert scores.worst(1) == [3]


def test_pictures_are_written(tmp_path: Path, dataset: DetectionDataset) -> None:
    written = write_pictures(tmp_path / "out", dataset, RESULTS, count=2)
    names = [path.name for path in written]
    assert names == [
        "worst_01_image3.png",
        "worst_02_image4.png",
        "best_01_image0.png",
        "best_02_image1.png",
    ]
    for path in written:
        with Image.open(path) as picture:
            colours = {colour for _, colour in picture.convert("RGB").getcolors(2**20)}
        assert ((255, 204, 0) in colours) == (path.name == "worst_01_image3.png")  # missed
        assert ((214, 39, 40) in colours) == (path.name.endswith(("image4.png", "image1.png")))


def test_curves_show_classes_with_truth(tmp_path: Path) -> None:
    annotations = replace(ANNOTATIONS, class_names=("cell", "plate", "absent"))
    figure = precision_recall_figure(voc_map(RESULTS, annotations))
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title() for axes in shown] == ["cell (3): 0.909", "plate (1): 1.000"]
    write_curves(tmp_path / "new" / "curves.png", voc_map(RESULTS, annotations))
    with Image.open(tmp_path / "new" / "curves.png") as picture:
        assert picture.width > 400


@pytest.mark.parametrize("results", [RESULTS, make_results([])])
def test_curves_without_anything_to_draw(tmp_path: Path, results: Results) -> None:
    empty = make_annotations([], images=6, classes=2)
    write_curves(tmp_path / "curves.png", voc_map(results, empty))
    assert (tmp_path / "curves.png").is_file()


def test_a_class_that_nothing_finds_has_a_curve_at_zero(tmp_path: Path) -> None:
    one = RESULTS.select(RESULTS.labels == 0)
    for results in (one, RESULTS.select(RESULTS.scores > 1)):
        voc = voc_map(results, ANNOTATIONS)
        write_curves(tmp_path / "curves.png", voc)
        panels = precision_recall_figure(voc).axes
        assert panels[1].get_lines()[0].get_xydata().tolist() == [[0.0, 0.0]]
