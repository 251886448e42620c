"""What becomes of boxes, whatever format they came from."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from detkit.data import Annotations, for_training, join
from detkit.data.settle import Draft, settle, turn_boxes
from detkit.data.stated import written_sides
from detkit.evaluation.truth import truth_of
from detkit.image import ImageHeader, check_image
from tests.oracles import write_image


def draft(paths: list[Path], boxes: list[list[list[float]]], **more: object) -> Draft:
    flat = [box for image in boxes for box in image]
    defaults: dict[str, object] = {
        "source": Path("source"),
        "class_names": ("thing",),
        "image_ids": [path.stem for path in paths],
        "paths": paths,
        "sizes": [None] * len(paths),
        "counts": [len(image) for image in boxes],
        "boxes": np.array(flat, dtype=np.float64).reshape(-1, 4),
        "labels": [0] * len(flat),
    }
    return Draft(**{**defaults, **more})  # type: ignore[arg-type]


def turned_image(path: Path, orientation: int) -> tuple[int, int]:
    """A white mark at x 3..8, y 5..7 of a stored 40 x 60 picture; returns its stored size."""
    pixels = np.zeros((40, 60, 3), dtype=np.uint8)
    pixels[5:7, 3:8] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(path, exif=exif)
    return 40, 60


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_boxes_turn_with_their_picture(tmp_path: Path, orientation: int) -> None:
    path = tmp_path / "a.png"
    size = turned_image(path, orientation)
    data = settle(draft([path], [[[3, 5, 8, 7]]], sizes=[size]), 0.0)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(path)))[..., 0]
    rows, columns = np.nonzero(upright)
    seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert data.boxes.tolist() == [[float(side) for side in seen]]
    assert data.report.counts["images whose boxes were turned with them (EXIF)"] == 1
    assert data.report.counts["annotations of another size than the image"] == 0
    assert data.sizes.tolist() == [[60, 40]]


def test_boxes_made_on_the_upright_picture_stay(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    turned_image(path, 6)
    for stated in ((60, 40), None):
        data = settle(draft([path], [[[3, 5, 8, 7]]], sizes=[stated]), 0.0)
        assert data.boxes.tolist() == [[3, 5, 8, 7]]
        assert data.report.counts["images whose boxes were turned with them (EXIF)"] == 0


def test_turning_four_times_is_none() -> None:
    boxes = np.array([[3.0, 5.0, 8.0, 7.0]])
    for orientation in (6, 8):
        turned = boxes
        for height, width in ((60, 40), (40, 60)) * 2:
            turned = turn_boxes(turned, ImageHeader(height, width, orientation))
        assert turned.tolist() == boxes.tolist()


def test_shares_of_the_image_become_pixels(tmp_path: Path) -> None:
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    write_image(paths[0], (40, 60))
    write_image(paths[1], (10, 20))
    data = settle(draft(paths, [[[0, 0, 0.5, 0.5]], [[0.25, 0.1, 0.75, 1.0]]], relative=True), 0.0)
    assert data.boxes.tolist() == [[0, 0, 30, 20], [5, 1, 15, 10]]


def test_objects_of_images_left_out_go_with_them(tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.png" for name in "abc"]
    for path in (paths[0], paths[2]):
        write_image(path, (40, 60))
    boxes = [[[1, 1, 5, 5]], [[2, 2, 6, 6], [3, 3, 7, 7]], [[4, 4, 8, 8]]]
    data = settle(
        draft(paths, boxes, segments=["a", "bb", "ccc", "dddd"], crowd=[True, False, False, True]),
        0.5,
    )
    assert data.image_ids.tolist() == ["a", "c"]
    assert data.boxes.tolist() == [[1, 1, 5, 5], [4, 4, 8, 8]]
    assert data.segments is not None
    assert [data.segments[row] for row in range(2)] == ["a", "dddd"]
    assert data.crowd.tolist() == [True, True]
    assert data.report.unreadable == ((str(paths[1]), "no such image file. Check the path."),)


def test_a_given_area_is_kept_and_another_computed(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    write_image(path, (40, 60))
    boxes = [[[1, 1, 5, 5], [50, 30, 70, 50]]]  # the second is clipped, but measured whole
    assert settle(draft([path], boxes), 0.0).area.tolist() == [16, 400]
    given = settle(draft([path], boxes, area=np.array([12.5, np.nan])), 0.0)
    assert given.area.tolist() == [12.5, 400]


def test_orientation_comes_with_the_size(tmp_path: Path) -> None:
    turned_image(tmp_path / "a.png", 6)
    header = check_image(tmp_path / "a.png")
    assert header == ImageHeader(60, 40, 6)
    assert header.turned


def test_each_kind_of_bad_box_names_an_image(tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.png" for name in "abc"]
    for path in paths:
        write_image(path, (40, 60))
    boxes = [[[1, 1, 5, 5]], [[9, 9, 3, 3], [50, 30, 70, 50]], [[100, 100, 110, 110]]]
    report = settle(draft(paths, boxes), 0.0).report
    assert report.examples == {
        "annotations without a size": str(paths[0]),
        "inverted boxes dropped": str(paths[1]),
        "boxes clipped to the image": str(paths[1]),
        "boxes outside the image dropped": str(paths[2]),
    }


def test_boxes_are_kept_as_stated_beside_those_that_are_learned(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    write_image(path, (40, 60))
    data = settle(draft([path], [[[-5.1, 1.7, 20.3, 90.9]]]), 0.0)
    assert data.boxes.dtype == np.float32
    assert data.boxes.tolist() == np.array([[0, 1.7, 20.3, 40]], dtype=np.float32).tolist()
    assert data.stated is not None
    assert data.stated.tolist() == [[-5.1, 1.7, 20.3 - -5.1, 90.9 - 1.7]]
    sides = np.array([[25.4, 89.2]])  # as a file of widths states them: 20.3 + 5.1 is not 25.4
    data = settle(draft([path], [[[-5.1, 1.7, -5.1 + 25.4, 1.7 + 89.2]]], sides=sides), 0.0)
    assert data.stated is not None
    assert data.stated.tolist() == [[-5.1, 1.7, 25.4, 89.2]]


def test_shares_are_stated_as_the_pixels_that_they_were_made_from(tmp_path: Path) -> None:
    """1/60 of 60 pixels is 1, and what no binary fraction holds is no part of a pixel."""
    path = tmp_path / "a.png"
    write_image(path, (40, 60))
    shares = [[[x / 60, y / 40, (x + 7.25) / 60, (y + 3) / 40] for x in range(50) for y in (1, 7)]]
    data = settle(draft([path], shares, relative=True), 0.0)
    assert data.stated is not None
    assert data.stated.tolist() == [[x, y, 7.25, 3] for x in range(50) for y in (1, 7)]


def test_stated_boxes_turn_with_their_picture(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    size = turned_image(path, 6)
    boxes = [[[-3.0, 5.0, 8.0, 7.0]]]
    data = settle(draft([path], boxes, sizes=[size], sides=np.array([[11.0, 2.0]])), 0.0)
    assert data.stated is not None
    assert data.stated.tolist() == [[40 - 7, -3, 2, 11]]


def bad_boxes(folder: Path) -> Annotations:
    """Three images; of each box the left edge says its place among all."""
    paths = [folder / f"{name}.png" for name in "abc"]
    for path in paths:
        write_image(path, (40, 60))
    boxes = [
        [[0, 90, 9, 99], [1, 1, 9, 9], [2, 5, 2, 9], [3, 3, 9, 9]],
        [[4, 4, 3, 3], [5, np.nan, 9, 9]],
        [[6, 6, 9, 9], [7, 90, 9, 99]],
    ]
    return settle(draft(paths, boxes, labels=[0, 1] * 4, class_names=("x", "y")), 0.0)


def lefts(data: Annotations) -> list[list[float]]:
    """Left edges of all that is measured, in each image."""
    truth = truth_of(data)
    ends = truth.offsets.tolist()
    found = truth.measured[:, 0].tolist()
    return [found[first:last] for first, last in itertools.pairwise(ends)]


def test_objects_that_are_not_learned_are_measured_in_their_place(tmp_path: Path) -> None:
    data = bad_boxes(tmp_path)
    assert data.boxes[:, 0].tolist() == [1, 3, 6]
    assert lefts(data) == [[0, 1, 2, 3], [4], [6, 7]]  # 5 has no numbers
    assert truth_of(data).labels.tolist() == [0, 1, 0, 1, 0, 0, 1]
    assert truth_of(data).area.tolist() == [81, 64, 0, 36, 1, 9, 18]
    assert data.report.counts["inverted boxes dropped"] == 2


def test_they_stay_beside_the_objects_and_images_that_are_kept(tmp_path: Path) -> None:
    data = bad_boxes(tmp_path)
    assert lefts(data.keep_rows(np.array([False, True, True]))) == [[0, 2, 3], [4], [6, 7]]
    assert lefts(data.keep_images(np.array([False, True, True]))) == [[4], [6, 7]]
    assert lefts(data.keep_images(np.array([True, False, True]))) == [[0, 1, 2, 3], [6, 7]]
    trained = for_training(data)
    assert (trained.stated, trained.unsound) == (None, None)
    assert lefts(trained) == [[1, 3], [], [6]]


def test_they_are_joined_with_their_classes(tmp_path: Path) -> None:
    first, second = tmp_path / "1", tmp_path / "2"
    for folder in (first, second):
        folder.mkdir()
    bare = replace(bad_boxes(second), stated=None, unsound=None, class_names=("y", "z"))
    joined = join([bare, bad_boxes(first)], ("z", "y", "x"))
    assert lefts(joined) == [[1, 3], [], [6], [0, 1, 2, 3], [4], [6, 7]]
    assert truth_of(joined).labels.tolist() == [0, 0, 1, 2, 1, 2, 1, 2, 2, 1]
    assert join([bare]).stated is None
    assert join([bare]).unsound is None


def test_sides_that_files_state_come_back_from_their_corners() -> None:
    rng = np.random.default_rng(0)
    low = rng.integers(-(10**6), 4 * 10**6, (1000, 2)) / 10.0 ** rng.integers(0, 7, (1000, 2))
    sides = rng.integers(1, 10**6, (1000, 2)) / 1000
    boxes = np.concatenate([low, low + sides], axis=1)
    assert (boxes[:, 2:] - boxes[:, :2] != sides).sum() > 500  # as they are without
    assert written_sides(boxes).tolist() == sides.tolist()
    thirds = np.array([[1 / 3, 0.1, 2 / 3, np.inf]])
    assert written_sides(thirds).tolist() == [[2 / 3 - 1 / 3, np.inf]]
