from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from detkit.data.base import Annotations
from detkit.detections import Detections
from detkit.errors import DataError
from detkit.evaluation.results import (
    Results,
    collect,
    read_detections,
    write_atomically,
    write_detections,
)
from tests.evaluation.noise import make_annotations, make_results

WHOLE = (0.0, 0.0, 10.0, 10.0)
ANNOTATIONS = make_annotations([(0, 0, WHOLE)], images=3, classes=2)
GOOD = {"image_id": "image1", "category": "class1", "bbox": [1.5, 2, 3, 4], "score": 0.5}


def write(folder: Path, content: Any) -> Path:
    path = folder / "found.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_collect_numbers_the_images() -> None:
    one = Detections(torch.tensor([WHOLE]), torch.tensor([0.5]), torch.tensor([1]))
    results = collect([one[:0], one, one])
    assert results.images.tolist() == [1, 2]
    assert results.boxes.tolist() == [list(WHOLE)] * 2
    assert results.scores.tolist() == [0.5, 0.5]
    assert results.labels.tolist() == [1, 1]
    kinds = [results.images.dtype, results.boxes.dtype, results.scores.dtype, results.labels.dtype]
    assert kinds == [np.int64, np.float32, np.float64, np.int64]


def test_collect_of_nothing() -> None:
    assert len(collect([])) == 0
    assert collect([]).boxes.shape == (0, 4)


def test_bbox_becomes_corners(tmp_path: Path) -> None:
    results = read_detections(write(tmp_path, [GOOD]), ANNOTATIONS)
    assert results.images.tolist() == [1]
    assert results.labels.tolist() == [1]
    assert results.boxes.tolist() == [[1.5, 2.0, 4.5, 6.0]]


def test_written_file_has_the_stated_form(tmp_path: Path) -> None:
    path = tmp_path / "new" / "found.json"
    write_detections(path, make_results([(1, 1, (1.5, 2.0, 4.5, 6.0), 0.5)]), ANNOTATIONS)
    assert json.loads(path.read_text()) == [GOOD]
    assert [entry.name for entry in path.parent.iterdir()] == ["found.json"]


# pixels; next to zero, where x + (x2 - x) needs more digits than a double has, nobody measures
edges = st.floats(-2000, 5000, width=32).map(lambda edge: edge if abs(edge) > 1e-3 else 0.0)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    arrays(np.float32, (3, 4), elements=edges), st.lists(st.floats(0, 1), min_size=3, max_size=3)
)
def test_round_trip_keeps_every_bit(tmp_path: Path, boxes: np.ndarray, scores: list[float]) -> None:
    corners = np.concatenate([np.minimum(boxes[:, :2], boxes[:, 2:]), boxes.max(1)[:, None]], 1)
    corners = np.concatenate([corners, corners[:, 2:]], 1)
    before = Results(np.array([0, 2, 2]), corners, np.array(scores), np.array([1, 0, 1]))
    write_detections(tmp_path / "found.json", before, ANNOTATIONS)
    after = read_detections(tmp_path / "found.json", ANNOTATIONS)
    for name in ("images", "boxes", "scores", "labels"):
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))


def test_nothing_found_round_trips(tmp_path: Path) -> None:
    write_detections(tmp_path / "found.json", make_results([]), ANNOTATIONS)
    assert len(read_detections(tmp_path / "found.json", ANNOTATIONS)) == 0


def test_a_file_that_cannot_be_replaced_leaves_no_litter(tmp_path: Path) -> None:
    (tmp_path / "found.json").mkdir()
    with pytest.raises(OSError, match=r"found\.json"):
        write_atomically(tmp_path / "found.json", "[]")
    assert [entry.name for entry in tmp_path.iterdir()] == ["found.json"]


BBOX = (
    "expected [x, y, width, height] in pixels, four finite numbers, width and height not negative."
)
STEM = "among the 3 of the data; image_id is the file's stem as a string, such as 'image0'."
ENTRY = '{"image_id", "category" or "category_id", "bbox": [x, y, width, height], "score"}'


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"a": 1}, f": expected a list of detections, found an object; each is {ENTRY}."),
        ("3", f": expected a list of detections, found a number; each is {ENTRY}."),
        ("[", ": not JSON: Expecting value: line 1 column 2 (char 1)"),
        (
            [GOOD, 7],
            ": entry 1: expected an object with image_id, category, bbox, score; found 7.",
        ),
        (
            [{key: GOOD[key] for key in ("image_id", "category", "bbox")}],
            ": entry 0: key 'score' is missing; it needs image_id, category, bbox, score.",
        ),
        ([GOOD, GOOD | {"image_id": "image9"}], f": entry 1: no image 'image9' {STEM}"),
        ([GOOD | {"image_id": 1}], f": entry 0: no image 1 {STEM}"),
        (
            [GOOD | {"category": "clas1"}],
            ": entry 0: no class named 'clas1' in the data. Did you mean 'class1'? The file has 1: "
            "clas1; the data has 2: class0, class1. Leave out of the file what is of other "
            "classes.",
        ),
        (
            [GOOD | {"category": 7}],
            ": entry 0: no class named 7 in the data. The file has none; the data has 2: class0, "
            "class1. Leave out of the file what is of other classes.",
        ),
        ([GOOD | {"bbox": [1, 2, 3]}], f": entry 0: bbox is [1, 2, 3]; {BBOX}"),
        ([GOOD | {"bbox": [1, 2, -3, 4]}], f": entry 0: bbox is [1, 2, -3, 4]; {BBOX}"),
        ([GOOD | {"bbox": [1, 2, "3", 4]}], f": entry 0: bbox is [1, 2, '3', 4]; {BBOX}"),
        ([GOOD | {"bbox": [1, 2, True, 4]}], f": entry 0: bbox is [1, 2, True, 4]; {BBOX}"),
        (
            '[{"image_id": "image1", "category": "class1", "bbox": [NaN, 2, 3, 4], "score": 1}]',
            f": entry 0: bbox is [nan, 2, 3, 4]; {BBOX}",
        ),
        ([GOOD | {"bbox": "1 2 3 4"}], f": entry 0: bbox is '1 2 3 4'; {BBOX}"),
        ([GOOD | {"score": None}], ": entry 0: score is None; expected a finite number."),
        (
            '[{"image_id": "image1", "category": "class1", "bbox": [1, 2, 3, 4], "score": 1e999}]',
            ": entry 0: score is inf; expected a finite number.",
        ),
    ],
)
def test_what_is_wrong_with_a_file(tmp_path: Path, content: Any, said: str) -> None:
    path = write(tmp_path, content)
    with pytest.raises(DataError) as caught:
        read_detections(path, ANNOTATIONS)
    assert str(caught.value) == f"{path}{said}"


@pytest.mark.parametrize("value", ["x" * 5000, ["a"] * 3000, {"a": "\x1b" * 3000}])
def test_a_value_of_a_page_is_cut_short(tmp_path: Path, value: Any) -> None:
    entries = [value, *(GOOD | {key: value} for key in ("image_id", "category", "bbox", "score"))]
    for entry in entries:
        path = write(tmp_path, [entry])
        with pytest.raises(DataError) as caught:
            read_detections(path, ANNOTATIONS)
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < len(str(path)) + 600


def test_a_file_may_spell_official_names_otherwise(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As one made with the authors' coco.names does; numbers and names of a class agree, too."""
    data = replace(ANNOTATIONS, class_names=("motorcycle", "tv"), category_ids=np.array([4, 72]))
    path = write(
        tmp_path,
        [
            GOOD | {"category": "tvmonitor"},
            GOOD | {"category": "motorbike", "category_id": 4},
            GOOD | {"category": "tvmonitor", "category_id": 72},
        ],
    )
    assert read_detections(path, data).labels.tolist() == [1, 0, 1]
    assert caplog.messages == [f"{path}: read as one class: tvmonitor = tv, motorbike = motorcycle"]
    both = write(tmp_path, [GOOD | {"category": "TV"}, GOOD | {"category": "tvmonitor"}])
    with pytest.raises(DataError, match="entry 0: no class named 'TV' in the data"):
        read_detections(both, data)  # two classes do not become one
    swapped = write(tmp_path, [GOOD | {"category": "motorbike", "category_id": 72}])
    with pytest.raises(DataError) as caught:
        read_detections(swapped, data)
    assert str(caught.value) == (
        f"{swapped}: entry 0: category_id 72 is 'tv' in the data, but category is 'motorbike'; "
        "leave one of the two out."
    )
    for odd in (7, ["tv"], None):
        with pytest.raises(DataError, match="leave one of the two out"):
            read_detections(write(tmp_path, [GOOD | {"category": odd, "category_id": 72}]), data)


COCO = replace(
    ANNOTATIONS,
    image_ids=np.array(["139", "285", "632"]),
    paths=np.array([f"val2017/{number:012d}.jpg" for number in (139, 285, 632)]),
    category_ids=np.array([1, 90]),
)
OFFICIAL = {"image_id": 285, "category_id": 90, "bbox": [1.5, 2, 3, 4], "score": 0.5}


@pytest.mark.parametrize(
    "entry",
    [
        OFFICIAL,
        OFFICIAL | {"category": "class1"},
        OFFICIAL | {"image_id": 285.0, "category_id": 90.0},  # through an array of numbers
        OFFICIAL | {"image_id": "285"},
        OFFICIAL | {"image_id": "000000000285"},  # the file's stem
        GOOD | {"image_id": "285"},
    ],
)
def test_coco_numbers_are_read(tmp_path: Path, entry: dict[str, Any]) -> None:
    results = read_detections(write(tmp_path, [entry]), COCO)
    assert (results.images.tolist(), results.labels.tolist()) == ([1], [1])


def test_coco_numbers_are_written(tmp_path: Path) -> None:
    path = tmp_path / "found.json"
    write_detections(path, make_results([(1, 1, (1.5, 2.0, 4.5, 6.0), 0.5)]), COCO)
    assert json.loads(path.read_text()) == [OFFICIAL | {"category": "class1"}]
    assert read_detections(path, COCO).boxes.tolist() == [[1.5, 2.0, 4.5, 6.0]]


def test_image_ids_that_are_no_plain_numbers_stay_text(tmp_path: Path) -> None:
    path = tmp_path / "found.json"
    mixed = replace(COCO, image_ids=np.array(["0139", "street", "7"]))
    rows = [(image, 0, WHOLE, 0.5) for image in range(3)]
    write_detections(path, make_results(rows), mixed)
    assert [entry["image_id"] for entry in json.loads(path.read_text())] == ["0139", "street", 7]


@pytest.mark.parametrize(
    ("change", "annotations", "said"),
    [
        (
            {"image_id": 7},
            COCO,
            "no image 7 among the 3 of the data; image_id is the image's number, such as 139.",
        ),
        ({"category_id": 2}, COCO, "no category_id 2 in the data. Known: 1 class0, 90 class1."),
        (
            {"category_id": "90"},
            COCO,
            "no category_id '90' in the data. Known: 1 class0, 90 class1.",
        ),
        (
            {"category": "class0"},
            COCO,
            "category_id 90 is 'class1' in the data, but category is 'class0'; "
            "leave one of the two out.",
        ),
        (
            {"image_id": "image1"},
            ANNOTATIONS,
            "category_id is 90, but the classes of this data have no numbers; "
            "give category, the class's name: class0, class1.",
        ),
        (
            {"image_id": 10**400},
            COCO,
            f"no image 1{'0' * 196}... among the 3 of the data; "
            "image_id is the image's number, such as 139.",
        ),
    ],
)
def test_numbers_that_the_data_lacks(
    tmp_path: Path, change: dict[str, Any], annotations: Annotations, said: str
) -> None:
    path = write(tmp_path, [OFFICIAL | change])
    with pytest.raises(DataError) as caught:
        read_detections(path, annotations)
    assert str(caught.value) == f"{path}: entry 0: {said}"


def test_what_detect_writes_is_read_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path, [GOOD | {"path": "photos/image1.jpg"}])
    assert read_detections(path, ANNOTATIONS).images.tolist() == [1]
    assert caplog.messages == [
        f"{path}: written by `detkit detect`, so it may lack low scores, and mAP comes out lower "
        "than the checkpoint's; eval --save-detections keeps them all."
    ]


@pytest.mark.parametrize("text", ["[" * 100_000, "9" * 5000], ids=["deep", "long"])
def test_json_that_python_cannot_hold(tmp_path: Path, text: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(DataError, match=r"found\.json: not JSON: "):
        read_detections(path, ANNOTATIONS)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read_detections(tmp_path / "none.json", ANNOTATIONS)
    assert str(caught.value) == f"{tmp_path / 'none.json'}: no such detections file."


def test_a_box_without_area_and_a_score_above_one_are_taken(tmp_path: Path) -> None:
    path = write(tmp_path, [GOOD | {"bbox": [1, 2, 0, 4], "score": 12}])
    assert read_detections(path, ANNOTATIONS).scores.tolist() == [12.0]
