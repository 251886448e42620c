from __future__ import annotations

import contextlib
import io
from dataclasses import astuple, replace
from pathlib import Path

import numpy as np
import pytest

from detkit.data.base import Annotations
from detkit.data.coco import CocoConfig, read_coco
from detkit.errors import ConfigError
from detkit.evaluation.coco_map import CocoResult, coco_map
from detkit.evaluation.results import (
    Results,
    no_results,
    read_detections,
    write_detections,
)
from detkit.evaluation.run import evaluate_results
from tests.evaluation.noise import (
    SHARED,
    make_annotations,
    make_results,
    noisy_detections,
    read_coco_json,
)

FILE = SHARED / "coco_mini" / "annotations" / "instances_val2017.json"
WHOLE = (0.0, 0.0, 50.0, 50.0)  # medium, by COCO's ranges


@pytest.fixture
def coco_file() -> Path:
    if not FILE.is_file():
        pytest.skip(f"{FILE}: no such file")
    return FILE


def referee_on_file(
    path: Path, results: Results, limit: int = 100
) -> tuple[list[float], np.ndarray]:
    """Twelve numbers, and AP of each class, from the original file by the ordinary road."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(path))
        image_ids, category_ids = sorted(truth.getImgIds()), sorted(truth.getCatIds())
        x1, y1, x2, y2 = results.boxes.astype(np.float64).T
        found = truth.loadRes(
            [
                {
                    "image_id": image_ids[image],
                    "category_id": category_ids[label],
                    "bbox": bbox,
                    "score": score,
                }
                for image, label, bbox, score in zip(
                    results.images,
                    results.labels,
                    np.stack([x1, y1, x2 - x1, y2 - y1], axis=1).tolist(),
                    results.scores.tolist(),
                    strict=True,
                )
            ]
        )
        referee = COCOeval(truth, found, "bbox")
        referee.params.maxDets = [1, 10, limit]
        referee.evaluate()
        referee.accumulate()
        referee.summarize()
    per_class = referee.eval["precision"][:, :, :, 0, -1].mean(axis=(0, 1))
    return list(referee.stats), per_class


@pytest.mark.data
def test_twelve_numbers_equal_pycocotools_on_the_original_file(coco_file: Path) -> None:
    annotations = read_coco_json(coco_file)
    results = noisy_detections(annotations, 6000, seed=1)
    ours = coco_map(results, annotations)
    numbers, per_class = referee_on_file(coco_file, results)
    assert list(astuple(ours.figures)) == numbers  # to the last bit
    np.testing.assert_array_equal(ours.class_ap, np.where(per_class == -1, np.nan, per_class))
    assert 0.05 < ours.figures.ap < 0.6  # noisy, yet not nonsense
    assert ours.limit == 100


@pytest.mark.data
@pytest.mark.parametrize("limit", [11, 300])
def test_figures_at_another_limit_equal_pycocotools(coco_file: Path, limit: int) -> None:
    """Its summary has -1 for AP then, and the other eleven."""
    annotations = read_coco_json(coco_file)
    results = noisy_detections(annotations, 3000, seed=1)
    ours = coco_map(results, annotations, max_detections=limit)
    numbers, per_class = referee_on_file(coco_file, results, limit)
    assert numbers[0] == -1
    assert list(astuple(ours.figures))[1:] == numbers[1:]  # to the last bit
    assert ours.figures.ap == pytest.approx(per_class[per_class > -1].mean(), abs=1e-12)
    np.testing.assert_array_equal(ours.class_ap, np.where(per_class == -1, np.nan, per_class))


def lattice(objects: int, **flags: tuple[int, ...]) -> Annotations:
    """One image with so many objects of one class that do not touch."""
    grid = [(0, 0, (x, y, x + 4.0, y + 4.0)) for x in range(0, 100, 5) for y in range(0, 75, 5)]
    return make_annotations(grid[:objects], images=1, classes=1, **flags)


def all_found(annotations: Annotations) -> Results:
    rows = annotations.boxes.tolist()
    return make_results([(0, 0, tuple(box), 1 - turn / 1000) for turn, box in enumerate(rows)])


def test_three_hundred_objects_all_found_need_a_limit_of_three_hundred() -> None:
    """101 recall levels, of which 34 lie at 100/300 and below: 34/101."""
    truth = lattice(300)
    plain = evaluate_results(all_found(truth), truth)
    assert plain.metrics()["coco_ap"] == pytest.approx(0.33663366, abs=1e-8)
    assert plain.metrics()["coco_ar100"] == pytest.approx(1 / 3)
    assert plain.metrics()["voc07_map"] == 1.0
    assert plain.coco is not None
    assert (plain.coco.limit, plain.coco.beyond, plain.coco.most) == (100, 1, 300)
    wider = evaluate_results(all_found(truth), truth, max_detections=300)
    assert wider.metrics()["coco_ap"] == pytest.approx(1.0)
    assert wider.metrics()["coco_ar300"] == 1.0
    assert wider.metrics()["coco_ar10"] == pytest.approx(10 / 300)
    assert "coco_ar100" not in wider.metrics()
    assert wider.coco is not None
    assert (wider.coco.limit, wider.coco.beyond, wider.coco.most) == (300, 0, 300)
    assert wider.coco.matches[0].right[0].sum() == 300


def test_objects_that_are_not_scored_need_no_detection() -> None:
    unscored = {"difficult": tuple(range(10)), "crowd": (10,)}
    truth = lattice(111, **unscored)
    measured = coco_map(all_found(truth), truth)
    assert (measured.beyond, measured.most) == (0, 100)


@pytest.mark.parametrize("limit", [10, 1, 0, -1])
def test_a_limit_that_hides_cocos_ar10_is_refused(limit: int) -> None:
    with pytest.raises(ConfigError) as raised:
        coco_map(no_results(), scene(), max_detections=limit)
    assert str(raised.value) == (
        f"max_detections: is {limit}; expected more than 10, of which COCO has a figure of its "
        "own. model.score_threshold leaves out weak detections."
    )


@pytest.mark.data
@pytest.mark.parametrize("split", ["train2017", "val2017"])
def test_saved_detections_give_the_same_figures_on_the_original_file(
    data_root: Path, tmp_path: Path, split: str
) -> None:
    """The whole road: our reader, our file of detections, and pycocotools alone on both files.

    With crowds; images not in the order of their ids; scores of three digits, so that many tie.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    root = data_root / "coco_mini"
    annotations = read_coco(CocoConfig(root=root, split=split))
    assert annotations.crowd.sum() > 10
    assert (np.diff(annotations.image_ids.astype(np.int64)) < 0).any()
    results = noisy_detections(annotations, 6000, seed=1)
    write_detections(tmp_path / "found.json", results, annotations)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(root / "annotations" / f"instances_{split}.json"))
        referee = COCOeval(truth, truth.loadRes(str(tmp_path / "found.json")), "bbox")
        referee.evaluate()
        referee.accumulate()
        referee.summarize()
    figures = coco_map(read_detections(tmp_path / "found.json", annotations), annotations).figures
    assert list(astuple(figures)) == list(referee.stats)  # to the last bit


def test_tied_images_rank_by_their_numbers_on_cocos_data() -> None:
    """A wrong detection in image 5 and a right one in image 9 tie; 9 stands first in the file."""
    truth = replace(
        make_annotations([(0, 0, WHOLE)], images=2, classes=1),
        image_ids=np.array(["9", "5"]),
        category_ids=np.array([1]),
    )
    results = make_results([(0, 0, WHOLE, 0.5), (1, 0, WHOLE, 0.5)])
    assert ap_of(results, truth) == pytest.approx(0.5)  # 5 ranks first
    assert ap_of(results, replace(truth, category_ids=None)) == pytest.approx(1.0)  # in order
    by_iou = coco_map(results, truth).matches[0]
    assert by_iou.images.tolist() == [1, 0]
    assert by_iou.right[0].tolist() == [False, True]
    assert by_iou.truth_images.tolist() == [0]


def test_objects_are_counted_by_size() -> None:
    sides = (10.0, 32.0, 50.0, 96.0, 97.0, 40.0, 41.0)  # 32 and 96 are on a border: both ranges
    truth = make_annotations(
        [(0, 0, (0.0, 0.0, side, side)) for side in sides],
        images=1,
        classes=1,
        difficult=(5,),
        crowd=(6,),
    )
    counts = coco_map(no_results(), truth).size_truths
    assert counts == {"small": 2, "medium": 3, "large": 2}


@pytest.mark.data
def test_prints_nothing(coco_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    annotations = read_coco_json(coco_file)
    coco_map(noisy_detections(annotations, 50, seed=2), annotations)
    assert capsys.readouterr() == ("", "")


def scene(**flags: tuple[int, ...]) -> Annotations:
    """Two images, one object of class 0 each; row 0 takes the flag."""
    return make_annotations([(0, 0, WHOLE), (1, 0, WHOLE)], images=2, classes=1, **flags)


def found(*boxes: tuple[float, float, float, float]) -> Results:
    """A right detection in image 1, and ``boxes`` in image 0, better scored."""
    better = [(0, 0, box, 0.9 - 0.1 * turn) for turn, box in enumerate(boxes)]
    return make_results([*better, (1, 0, WHOLE, 0.1)])


def ap_of(results: Results, annotations: Annotations) -> float:
    return coco_map(results, annotations).figures.ap


def test_a_difficult_object_excuses_one_detection_and_is_not_missed() -> None:
    assert ap_of(found(), scene(difficult=(0,))) == pytest.approx(1.0)
    assert ap_of(found(WHOLE), scene(difficult=(0,))) == pytest.approx(1.0)
    assert ap_of(found(WHOLE, WHOLE), scene(difficult=(0,))) == pytest.approx(0.5)


def test_a_difficult_object_is_ignored_in_its_range_of_area() -> None:
    figures = coco_map(found(WHOLE), scene(difficult=(0,))).figures
    assert figures.ap_medium == pytest.approx(1.0)
    assert np.isnan(figures.ap_small)


def test_a_difficult_object_overlaps_as_any_object_does() -> None:
    quarter = (0.0, 0.0, 25.0, 25.0)  # all of it inside the object: a crowd would excuse it
    assert ap_of(found(quarter), scene(difficult=(0,))) == pytest.approx(0.5)
    assert ap_of(found(quarter), scene(crowd=(0,))) == pytest.approx(1.0)


def test_a_crowd_excuses_any_number() -> None:
    quarter = (0.0, 0.0, 25.0, 25.0)
    assert ap_of(found(quarter, WHOLE, quarter), scene(crowd=(0,))) == pytest.approx(1.0)


def test_a_difficult_crowd_stays_a_crowd() -> None:
    quarter = (0.0, 0.0, 25.0, 25.0)
    assert ap_of(found(quarter, quarter), scene(crowd=(0,), difficult=(0,))) == pytest.approx(1.0)


def test_area_is_the_annotations_own() -> None:
    small = replace(scene(), area=np.array([100.0, 100.0], dtype=np.float32))
    figures = coco_map(found(WHOLE), small).figures
    assert figures.ap_small == pytest.approx(1.0)
    assert np.isnan(figures.ap_medium)


@pytest.mark.parametrize(
    ("annotations", "results", "expected"),
    [
        (scene(), no_results(), 0.0),
        (make_annotations([], images=2, classes=1), no_results(), np.nan),
        (make_annotations([], images=2, classes=1), found(WHOLE), np.nan),
        (make_annotations([], images=0, classes=1), no_results(), np.nan),
        (make_annotations([], images=1, classes=0), no_results(), np.nan),
        (scene(difficult=(0, 1)), found(WHOLE), np.nan),
    ],
    ids=["nothing found", "empty", "no truth", "no images", "no classes", "all difficult"],
)
def test_little_to_measure(annotations: Annotations, results: Results, expected: float) -> None:
    measured: CocoResult = coco_map(results, annotations)
    assert measured.figures.ap == pytest.approx(expected, nan_ok=True)
    assert len(measured.class_ap) == len(annotations.class_names)
    np.testing.assert_array_equal(measured.class_ap, [expected] * len(annotations.class_names))
