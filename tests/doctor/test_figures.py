"""The doctor's figures, against counts anyone can make by eye."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detkit.data import Annotations
from detkit.detectors import YoloV2, YoloV2Config
from detkit.doctor.figures import (
    Entry,
    Split,
    count,
    examine,
    find_duplicates,
    near_names,
    repeated_images,
    shared_images,
)
from tests.evaluation.datasets import annotate

IMAGES = [
    ((60, 80), [("cat", (0, 0, 10, 40)), ("dog", (0, 0, 40, 40)), ("cat", (0, 0, 10, 40))]),
    ((60, 80), []),
    ((50, 100), [("cat", (0, 0, 100, 50))]),
]


def make_split(data: Annotations, name: str = "train") -> Split:
    return Split(name, "train" if name == "train" else "eval", data, ())


def test_figures(tmp_path: Path) -> None:
    data = annotate(tmp_path, IMAGES, names=("cat", "dog", "cow"))
    data = replace(data, crowd=np.array([False, False, False, True]))
    entries = (Entry("voc a", 2, 1), Entry("voc b", 1, 3))
    found = count(replace(make_split(data), entries=entries))
    assert (found.images, found.empty_images, found.unreadable) == (3, 1, 4)
    assert (found.objects, found.difficult, found.crowd, found.repeated_objects) == (4, 0, 1, 1)
    assert found.objects_of_class.tolist() == [3, 1, 0]
    assert found.images_of_class.tolist() == [2, 1, 0]
    assert found.object_sides[2] == pytest.approx((20 + 40) / 2)  # of 20, 20, 40, 70.7
    assert (found.small, found.medium, found.large) == (2, 2, 0)  # 400 twice; 1600 and 5000
    no_area = count(make_split(replace(data, area=np.zeros(4))))  # as some tools write for all
    assert (no_area.small, no_area.medium) == (2, 2)
    assert found.objects_per_image == (1, pytest.approx(4 / 3), 3)
    assert found.image_sizes == {"60 x 80": 2, "50 x 100": 1}
    assert found.orientations == {}


def test_an_empty_split_has_figures(tmp_path: Path) -> None:
    found = count(make_split(annotate(tmp_path, [])))
    assert (found.images, found.objects, found.objects_per_image) == (0, 0, (0, 0, 0))
    assert np.isnan(found.object_sides).all()


def test_orientations_are_counted(tmp_path: Path) -> None:
    data = annotate(tmp_path, IMAGES)
    for path, orientation in zip(data.paths[:2], (6, 3), strict=True):
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.new("RGB", (80, 60)).save(str(path), exif=exif)
    assert count(make_split(data)).orientations == {3: 1, 6: 1}


# --------------------------------------------------------------------------- duplicates


def test_duplicates_are_found_by_content(tmp_path: Path) -> None:
    """Two copies within train, one image of train in eval, and a file that both name."""
    train = annotate(tmp_path / "train", [((60, 80), [])] * 5)
    evals = annotate(tmp_path / "eval", [((60, 80), [])] * 4, seed=100)
    shutil.copyfile(str(train.paths[0]), str(train.paths[2]))
    shutil.copyfile(str(train.paths[0]), str(train.paths[4]))
    shutil.copyfile(str(train.paths[3]), str(evals.paths[1]))
    paths = evals.paths.astype(object)
    paths[2] = str(train.paths[1])
    splits = [make_split(train), make_split(replace(evals, paths=paths.astype(np.str_)), "eval")]
    found = find_duplicates(splits)
    assert repeated_images(found, 0) == [(0, 2, True), (0, 4, True)]
    assert repeated_images(found, 1) == []
    assert shared_images(found, 0, 1) == [(1, 2, True), (3, 1, True)]


def test_pictures_saved_anew_are_duplicates(tmp_path: Path) -> None:
    """The first of train stands in eval in other bytes, the second in both kinds of bytes."""
    train = annotate(tmp_path / "train", [((60, 80), [])] * 3)
    evals = annotate(tmp_path / "eval", [((60, 80), [])] * 4, seed=100)
    for old, new in ((0, 2), (1, 3)):
        with Image.open(str(train.paths[old])) as image:
            image.save(str(evals.paths[new]), compress_level=1)
    shutil.copyfile(str(train.paths[1]), str(evals.paths[0]))
    splits = [make_split(train), make_split(evals, "eval")]
    found = find_duplicates(splits)
    assert shared_images(found, 0, 1) == [(0, 2, False), (1, 0, True)]
    assert repeated_images(found, 1) == [(0, 3, False)]
    assert shared_images(find_duplicates(splits, decode=False), 0, 1) == [(1, 0, True)]


def test_files_of_the_same_length_are_no_duplicates(tmp_path: Path) -> None:
    data = annotate(tmp_path, [((4, 4), [])] * 2)
    for path, text in zip(data.paths, ("abc", "abd"), strict=True):
        Path(str(path)).write_text(text)
    assert find_duplicates([make_split(data)]) == []


def test_a_file_that_is_gone_is_no_duplicate(tmp_path: Path) -> None:
    data = annotate(tmp_path, [((4, 4), [])] * 2)
    Path(str(data.paths[0])).unlink()
    assert find_duplicates([make_split(data)]) == []


# -------------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("names", "pairs"),
    [
        (("Car", "car"), [("Car", "car")]),
        (("hot dog", "hot_dog"), [("hot dog", "hot_dog")]),
        (("Platelet", "dog", "Platelets"), [("Platelet", "Platelets")]),
        (("bus", "buses"), [("bus", "buses")]),
        (("motorcycle", "motorcylce"), [("motorcycle", "motorcylce")]),
        (("class1", "class2"), []),
        (("cat", "cap", "car", "bus", "train", "truck"), []),
    ],
)
def test_near_names(names: tuple[str, ...], pairs: list[tuple[str, str]]) -> None:
    assert near_names(names) == pairs


def test_the_names_of_voc_are_all_different() -> None:
    voc = (
        "aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike "
        "person pottedplant sheep sofa train tvmonitor"
    )
    assert near_names(voc.split()) == []


# ---------------------------------------------------------------------------- together


def test_labels_are_brought_to_one_list(tmp_path: Path) -> None:
    train = annotate(tmp_path / "a", [((60, 80), [("dog", (0, 0, 9, 9))])], names=("dog",))
    evals = annotate(
        tmp_path / "b", [((60, 80), [("dog", (0, 0, 9, 9)), ("ape", (0, 0, 9, 9))])], ("ape", "dog")
    )
    model = YoloV2(YoloV2Config(num_classes=3, backbone="tiny", input_size=64))
    checkup = examine(
        [make_split(train), make_split(evals, "eval")], model, expected=("cow", "dog")
    )
    assert checkup.class_names == ("cow", "dog", "ape")
    assert [f.objects_of_class.tolist() for f in checkup.figures] == [[0, 1, 0], [0, 1, 1]]
    assert (checkup.of_role("train"), checkup.of_role("eval")) == ([0], [1])
