"""Single values of a COCO file as exporters and scripts write them: texts, flags, masks."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detkit.data.coco_values import read_mask, read_number, read_whole
from detkit.evaluation.results import read_detections, write_detections
from tests.data.coco_files import CATEGORIES, IMAGES, counts, one, read, refusal, write
from tests.data.formats import objects

AS_TEXT = "objects whose box, area or flags are written as text"
IDS_AS_TEXT = "ids written as text read as numbers"
NAMES = ["a.png", "deep/b.png", "c.png"]


def images(*ids: object) -> list[dict[str, Any]]:
    return [
        {"id": number, "file_name": name, "height": 60, "width": 80}
        for number, name in zip(ids, NAMES, strict=False)
    ]


# --- ids ---


@pytest.mark.parametrize(
    ("ids", "named", "expected", "as_text"),
    [
        ([7, 3], ["7"], "7", 1),  # VIA
        (["7", "3"], ["7"], "7", 3),
        (["7", "3"], [7], "7", 2),
        ([7.0, 3], [7], "7", 0),
        (["7.0", 3], [7], "7", 1),
        ([-7, 3], ["-7"], "-7", 1),
        (["0007", "0003"], ["0007"], "0007", 3),  # written back as it was
        (["0007", "0003"], [7], "0007", 2),
        ([2**62, 3], [2**62], str(2**62), 0),
        (["2007_000027", "2007_000032"], ["2007_000027"], "2007_000027", 0),
        (["1" * 25, "3"], ["1" * 25], "1" * 25, 1),  # no number that an array holds
    ],
)
def test_image_ids_as_text(
    tmp_path: Path, ids: list[object], named: list[object], expected: str, as_text: int
) -> None:
    write(tmp_path, images=images(*ids), annotations=[one(image_id=number) for number in named])
    data = read(tmp_path)
    assert data.image_ids[0] == expected
    assert objects(data, 0) == [("dog", [10, 20, 40, 45.5], False)]
    assert counts(data) == ({IDS_AS_TEXT: as_text} if as_text else {})


def test_one_id_as_a_number_and_as_text_stands_twice(tmp_path: Path) -> None:
    for ids in ([1, "1"], ["01", "1"], [1.0, "1"]):
        path = write(tmp_path, images=images(*ids), annotations=[])
        assert refusal(tmp_path) == f"{path}: image id 1 stands twice. Number the images apart."
    path = write(tmp_path, images=images("a", "a"), annotations=[])
    assert refusal(tmp_path) == f"{path}: image id 'a' stands twice. Number the images apart."


def test_an_image_named_by_its_file_is_not_dropped_in_silence(tmp_path: Path) -> None:
    path = write(tmp_path, annotations=[one(image_id="a.png")])
    assert refusal(tmp_path) == (
        f"{path}: annotations[0].image_id: expected a whole number, as the ids of the images are; "
        "got 'a.png'."
    )
    path = write(tmp_path, images=images("a", "b"), annotations=[one(image_id=7)])
    assert refusal(tmp_path) == (
        f"{path}: annotations[0].image_id: expected a text, as the ids of the images are; got 7."
    )


@pytest.mark.parametrize("ids", [(7, 3), ("7", "3"), ("0007", "0003"), ("2007_000027", "x y")])
def test_detections_name_images_by_ids_as_the_file_has_them(
    tmp_path: Path, ids: tuple[object, object]
) -> None:
    write(tmp_path, images=images(*ids), annotations=[one(image_id=ids[0])])
    data = read(tmp_path)
    found = [
        {"image_id": number, "category_id": 18, "bbox": [10, 20, 30, 25.5], "score": 0.5}
        for number in ids
    ]
    (tmp_path / "found.json").write_text(json.dumps(found))
    results = read_detections(tmp_path / "found.json", data)
    assert results.images.tolist() == [0, 1]
    write_detections(tmp_path / "again.json", results, data)
    again = read_detections(tmp_path / "again.json", data)
    assert again.images.tolist() == [0, 1]


# --- boxes, areas and flags ---


@pytest.mark.parametrize("value", [1, 1.0, True, "1", "true", "True", " TRUE "])
@pytest.mark.parametrize("key", ["iscrowd", "ignore"])
def test_a_flag_that_is_set(tmp_path: Path, key: str, value: object) -> None:
    write(tmp_path, annotations=[one(**{key: value})])
    data = read(tmp_path)
    assert data.crowd.tolist() == [key == "iscrowd"]
    assert data.difficult.tolist() == [key == "ignore"]
    assert counts(data) == ({AS_TEXT: 1} if isinstance(value, str) else {})


@pytest.mark.parametrize("value", [0, 0.0, False, None, "0", "false", ""])
def test_a_flag_that_is_not_set(tmp_path: Path, value: object) -> None:
    write(tmp_path, annotations=[one(iscrowd=value, ignore=value)])
    data = read(tmp_path)
    assert (data.crowd.tolist(), data.difficult.tolist()) == ([False], [False])


@pytest.mark.parametrize(
    ("value", "shown"),
    [("yes", "'yes'"), (2, "2"), (0.5, "0.5"), ([1], "list"), (float("nan"), "nan")],
)
@pytest.mark.parametrize("key", ["iscrowd", "ignore"])
def test_a_flag_that_is_neither_is_refused(
    tmp_path: Path, key: str, value: object, shown: str
) -> None:
    path = write(tmp_path, annotations=[one(), one(id=2, **{key: value})])
    assert refusal(tmp_path) == f"{path}: annotations[1].{key}: expected 0 or 1; got {shown}."


def test_numbers_of_a_box_as_text(tmp_path: Path) -> None:
    annotations = [
        one(id=1, bbox=["10", "20", "30", "25.5"], area="50.5"),
        one(id=2, bbox=["1e1", 20, " 30 ", 25.5], area=""),
        one(id=3, bbox=["10", "20", "30", "25,5"]),
        one(id=4, bbox=["nan", "20", "30", "1_0"]),
    ]
    write(tmp_path, annotations=annotations)
    data = read(tmp_path)
    assert data.boxes.tolist() == [[10, 20, 40, 45.5]] * 2
    assert data.area.tolist() == [50.5, 765]
    assert counts(data) == {AS_TEXT: 2, "boxes without numbers dropped": 2}


def test_sizes_as_text_are_stated(tmp_path: Path) -> None:
    listed = [{**image, "height": "60", "width": "80.0"} for image in IMAGES]
    write(tmp_path, images=listed)
    assert counts(read(tmp_path)) == {}


@pytest.mark.parametrize("text", ["", " ", "-", "1 2", "0x10", "1,5", "inf", "nan", "1_000", "१"])
def test_what_is_no_number(text: str) -> None:
    assert math.isnan(read_number(text))
    assert read_whole(text) is None


# --- outlines in place of a box ---


def test_boxes_around_masks_are_pycocotools_own() -> None:
    from pycocotools import mask as masks

    generator = np.random.default_rng(0)
    for size in generator.integers(1, 30, (60, 2)).tolist():
        pixels = (generator.random(size) < generator.random() * 0.3).astype(np.uint8)
        encoded = masks.encode(np.asfortranarray(pixels))
        x, y, width, height = masks.toBbox(encoded).tolist()
        flat = pixels.T.ravel()
        edges = np.flatnonzero(np.diff(flat)) + 1
        runs = np.diff([0, *edges, len(flat)]).tolist()
        runs = [0, *runs] if flat[0] else runs
        for counted in (encoded["counts"].decode(), runs):
            box = read_mask({"size": size, "counts": counted}, (size[0], size[1]))
            if pixels.any():
                assert box == (x, y, x + width, y + height)
            else:
                assert all(map(math.isnan, box))


@pytest.mark.parametrize(
    "mask",
    [
        {"size": [60, 80], "counts": "abc"},  # ends within a number
        {"size": [60, 80], "counts": [5, 9999]},
        {"size": [60, 80], "counts": [5, -1]},
        {"size": [60, 80], "counts": [5, True]},
        {"size": [60, 80], "counts": "\u00e9"},
        {"size": [60, 80]},
        {"size": [0, 80], "counts": [0, 1]},
        {"size": [30, 80], "counts": [0, 1]},  # of another image
        {"size": 60, "counts": [0, 1]},
        {"counts": [0, 1]},
    ],
)
def test_masks_that_are_none(mask: dict[str, Any]) -> None:
    assert all(map(math.isnan, read_mask(mask, (60, 80))))


def test_outlines_in_place_of_a_box(tmp_path: Path) -> None:
    mask = {"size": [60, 80], "counts": [60 * 10 + 20, 5, 55, 5]}  # x 10 and 11, y 20 to 24
    polygon = [10, 10, 20, 10, 20, 20]
    annotations = [
        one(id=1, bbox=None, segmentation=mask),
        one(id=2, bbox=[], segmentation=[polygon]),
        one(id=3, bbox=None, segmentation=polygon),  # in no list of its own
    ]
    write(tmp_path, annotations=annotations)
    data = read(tmp_path)
    assert data.boxes.tolist() == [[10, 20, 12, 25], [10, 10, 20, 20], [10, 10, 20, 20]]
    assert counts(data) == {"boxes made from masks": 1, "boxes made from polygons": 2}


# --- what is left out or looks wrong is said ---


def test_key_points_are_left_out_and_counted(tmp_path: Path) -> None:
    annotations = [
        one(id=1, keypoints=[12, 22, 2, 0, 0, 0], num_keypoints=1),
        one(id=2, keypoints=[0, 0, 0, 0, 0, 0], num_keypoints=0),
        one(id=3, keypoints=[]),
    ]
    write(tmp_path, annotations=annotations)
    assert counts(read(tmp_path)) == {"objects whose key points are left out": 1}


def test_corners_in_place_of_sides_are_said(tmp_path: Path) -> None:
    right = [[60, 40, 79, 59], [5, 5, 30, 20]] * 5
    write(tmp_path, annotations=[one(id=n, bbox=box) for n, box in enumerate(right)])
    sign = "boxes that leave their image but would fit as [x1, y1, x2, y2]"
    assert counts(read(tmp_path)) == {sign: 5, "boxes clipped to the image": 5}
    sound = [[60, 40, 30, 30], [5, 5, 30, 20]] * 5  # clipped, and no corners
    write(tmp_path, annotations=[one(id=n, bbox=box) for n, box in enumerate(sound)])
    assert counts(read(tmp_path)) == {"boxes clipped to the image": 5}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"annotations": [{"image_id": 1, "file_name": "1.png", "segments_info": []}]},
         "is of panoptic segmentation: its objects lie in PNG files. Convert it with panopticapi's "
         "panoptic2detection_coco_format.py, or name the file of instances."),
        ({"annotations": [{"image_id": 1, "id": 1, "caption": "A dog."}], "categories": None},
         "holds captions, which have no boxes. Name the file of instances."),
        ({"categories": [{"id": 121, "name": "fruit", "supercategory": "food-stuff"}]},
         "holds COCO's stuff: its boxes go around regions such as sky, not around objects. Name "
         "the file of instances."),
    ],
)  # fmt: skip
def test_other_files_of_coco_are_named(
    tmp_path: Path, content: dict[str, Any], sentence: str
) -> None:
    path = write(tmp_path, **content)
    assert refusal(tmp_path) == f"{path}: {sentence}"


def test_a_results_file_is_named(tmp_path: Path) -> None:
    path = write(tmp_path)
    path.write_text(json.dumps([{"image_id": 7, "category_id": 2, "bbox": [], "score": 1}]))
    assert refusal(tmp_path) == (
        f"{path}: is a list of detections, not of annotations. Measure them with detkit eval "
        "--detections FILE."
    )


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    path = write(tmp_path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(read(tmp_path).boxes) == 3
    assert len(CATEGORIES) == len(read(tmp_path).class_names)
