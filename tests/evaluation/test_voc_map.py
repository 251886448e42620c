from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detkit.data.base import Annotations
from detkit.data.voc import VOCConfig, read_voc
from detkit.errors import ConfigError
from detkit.evaluation.results import Results, no_results, read_detections
from detkit.evaluation.voc_map import (
    IGNORED,
    RIGHT,
    WRONG,
    Curve,
    VocRule,
    ap_11_point,
    ap_all_point,
    voc_fates,
    voc_map,
)
from tests.evaluation.noise import (
    SHARED,
    make_annotations,
    make_results,
    noisy_detections,
    read_coco_json,
    with_difficult,
)
from tests.oracles import voc_xml, write_voc

RULES: tuple[VocRule, ...] = ("devkit", "voc_eval")

# ------------------------------------- the oracle: each rule as it is described, step by step


@dataclass
class DevkitObject:
    """An object as VOC's XML has it: one-based corners, the last pixel included."""

    box: tuple[float, float, float, float]
    difficult: bool
    taken: bool = False


def devkit_iou(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0]) + 1
    height = min(a[3], b[3]) - max(a[1], b[1]) + 1
    if width <= 0 or height <= 0:
        return 0.0
    area_a = (a[2] - a[0] + 1) * (a[3] - a[1] + 1)
    area_b = (b[2] - b[0] + 1) * (b[3] - b[1] + 1)
    return width * height / (area_a + area_b - width * height)


def one_based(box: np.ndarray) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = (float(side) for side in box)
    return x1 + 1, y1 + 1, x2, y2


def slow_class(
    results: Results, annotations: Annotations, label: int, rule: VocRule
) -> tuple[list[float], list[float], float, float]:
    """Recall, precision, 11-point AP and all-point AP of one class."""
    objects: dict[int, list[DevkitObject]] = {}
    positives = 0
    for row, image in enumerate(annotations.image_of_row()):
        if annotations.labels[row] == label:
            hard = bool(annotations.difficult[row] or annotations.crowd[row])
            objects.setdefault(int(image), []).append(
                DevkitObject(one_based(annotations.boxes[row]), hard)
            )
            positives += not hard
    mine = [row for row in range(len(results)) if results.labels[row] == label]
    mine.sort(key=lambda row: -results.scores[row])  # Python's sort is stable
    right, wrong = 0, 0
    recall, precision = [], []
    for row in mine:
        best, chosen = -1.0, None
        for thing in objects.get(int(results.images[row]), []):
            overlap = devkit_iou(one_based(results.boxes[row]), thing.box)
            if overlap > best:
                best, chosen = overlap, thing
        if chosen is not None and (best > 0.5 or (rule == "devkit" and best == 0.5)):
            if chosen.difficult:
                continue
            if chosen.taken:
                wrong += 1
            else:
                chosen.taken = True
                right += 1
        else:
            wrong += 1
        recall.append(right / positives if positives else float("nan"))
        precision.append(right / (right + wrong))
    if not positives:
        return recall, precision, float("nan"), float("nan")
    return recall, precision, slow_07(recall, precision), slow_10(recall, precision, rule)


def slow_07(recall: list[float], precision: list[float]) -> float:
    total = 0.0
    for level in range(11):  # as 0:0.1:1 and arange(0, 1.1, 0.1) count
        reached = [p for r, p in zip(recall, precision, strict=True) if r >= level * 0.1]
        total += max(reached, default=0.0) / 11
    return min(total, 1.0)


def slow_10(recall: list[float], precision: list[float], rule: VocRule) -> float:
    recall = [0.0, *recall, 1.0]
    precision = [0.0, *precision, 0.0]
    for place in range(len(precision) - 2, -1, -1):
        precision[place] = max(precision[place], precision[place + 1])
    changes = [i for i in range(1, len(recall)) if recall[i] != recall[i - 1]]
    parts = [(recall[i] - recall[i - 1]) * precision[i] for i in changes]
    if rule == "voc_eval":
        return min(float(np.sum(parts)), 1.0)
    total = 0.0
    for part in parts:  # Python's own sum keeps the digits that are lost here
        total += part
    return min(total, 1.0)


def assert_equals_the_loop(results: Results, annotations: Annotations, rule: VocRule) -> None:
    """To the last digit, sums and all."""
    ours = voc_map(results, annotations, rule=rule)
    assert ours.rule == rule
    for label, curve in enumerate(ours.curves):
        recall, precision, ap07, ap10 = slow_class(results, annotations, label, rule)
        np.testing.assert_array_equal(curve.recall, recall)
        np.testing.assert_array_equal(curve.precision, precision)
        np.testing.assert_array_equal([ours.ap07[label], ours.ap10[label]], [ap07, ap10])


# ------------------------------------------------------------------------------- random data

corner = st.integers(0, 12)
side = st.integers(1, 8)
CLASSES, IMAGES = 3, 4


@st.composite
def scenes(draw: st.DrawFn) -> tuple[Results, Annotations]:
    """A few small boxes on a coarse grid, so that overlaps, ties and duplicates are common."""

    def box() -> tuple[float, float, float, float]:
        x, y = draw(corner), draw(corner)
        return x, y, x + draw(side), y + draw(side)

    place = st.tuples(st.integers(0, IMAGES - 1), st.integers(0, CLASSES - 1))
    truths = sorted(draw(st.lists(place, max_size=12)))
    hard = draw(st.lists(st.integers(0, 11), max_size=4))
    crowds = draw(st.lists(st.integers(0, 11), max_size=2))
    annotations = make_annotations(
        [(image, label, box()) for image, label in truths],
        images=IMAGES,
        classes=CLASSES,
        difficult=tuple(hard),
        crowd=tuple(crowds),
    )
    rows = []
    for image, label in draw(st.lists(place, max_size=20)):
        copied = draw(st.booleans()) and len(truths)
        found = annotations.boxes[draw(st.integers(0, len(truths) - 1))] if copied else box()
        score = draw(st.sampled_from([0.1, 0.5, 0.5000001, 0.9]))
        rows.append((image, label, tuple(float(edge) for edge in found), score))
    return make_results(rows), annotations


@pytest.mark.parametrize("rule", RULES)
@given(scene=scenes())
def test_equals_the_slow_loop_on_random_scenes(
    rule: VocRule, scene: tuple[Results, Annotations]
) -> None:
    assert_equals_the_loop(*scene, rule)


@pytest.mark.data
@pytest.mark.parametrize(("share", "rule"), [(0.0, "devkit"), (0.2, "devkit"), (0.2, "voc_eval")])
def test_equals_the_slow_loop_on_real_labels(share: float, rule: VocRule) -> None:
    path = SHARED / "voc_labels" / "test2007.json"
    if not path.is_file():
        pytest.skip(f"{path}: no such file")
    annotations = with_difficult(read_coco_json(path), share, seed=3)
    assert_equals_the_loop(noisy_detections(annotations, 20_000, seed=4), annotations, rule)


# ------------------------------------------------------------------------------ rules, by hand

WHOLE = (0.0, 0.0, 10.0, 10.0)
HALF = (0.0, 0.0, 10.0, 5.0)  # IoU with WHOLE is 1/2 exactly
LESS = (0.0, 0.0, 10.0, 4.9999995)  # the next float32 below
LARGE = (0.0, 0.0, 10.0, 6.0)  # IoU with WHOLE is 0.6


def fates_of(
    truths: list, found: list, rule: VocRule = "devkit", **flags: tuple[int, ...]
) -> list[int]:
    annotations = make_annotations([(0, 0, box) for box in truths], images=1, classes=1, **flags)
    results = make_results([(0, 0, box, score) for box, score in found])
    return voc_fates(results, annotations, rule=rule).fate.tolist()


def test_an_iou_of_one_half_is_enough_for_the_devkit_and_not_for_voc_eval() -> None:
    assert fates_of([WHOLE], [(HALF, 0.9)]) == [RIGHT]
    assert fates_of([WHOLE], [(HALF, 0.9)], "voc_eval") == [WRONG]
    for rule in RULES:
        assert fates_of([WHOLE], [(LARGE, 0.9)], rule) == [RIGHT]
        assert fates_of([WHOLE], [(LESS, 0.9)], rule) == [WRONG]


def test_an_iou_of_one_half_with_a_difficult_truth_excuses_by_the_devkit_alone() -> None:
    assert fates_of([WHOLE], [(HALF, 0.9)], difficult=(0,)) == [IGNORED]
    assert fates_of([WHOLE], [(HALF, 0.9)], "voc_eval", difficult=(0,)) == [WRONG]


def test_an_unknown_rule_is_refused() -> None:
    annotations = make_annotations([(0, 0, WHOLE)], images=1, classes=1)
    with pytest.raises(ConfigError) as raised:
        voc_map(no_results(), annotations, rule="voceval")  # type: ignore[arg-type]
    assert str(raised.value) == ("voc_rule: is 'voceval', which is none. Did you mean 'voc_eval'?")


def test_second_hit_is_wrong_whatever_the_order_in_the_file() -> None:
    assert fates_of([WHOLE], [(LARGE, 0.2), (WHOLE, 0.9)]) == [WRONG, RIGHT]


def test_of_equal_scores_the_first_in_the_file_is_right() -> None:
    assert fates_of([WHOLE], [(LARGE, 0.5), (WHOLE, 0.5)]) == [RIGHT, WRONG]


def test_every_hit_on_a_difficult_truth_is_ignored() -> None:
    found = [(WHOLE, 0.9), (WHOLE, 0.8), ((50.0, 50.0, 60.0, 60.0), 0.7)]
    assert fates_of([WHOLE], found, difficult=(0,)) == [IGNORED, IGNORED, WRONG]
    assert fates_of([WHOLE], found, crowd=(0,)) == [IGNORED, IGNORED, WRONG]


def test_no_second_choice_when_the_best_truth_is_taken() -> None:
    # both detections overlap WHOLE most; the second also overlaps LARGE by 0.83, and gets nothing
    truths = [WHOLE, (0.0, 0.0, 10.0, 8.0)]
    assert fates_of(truths, [(WHOLE, 0.9), ((0.0, 0.0, 10.0, 9.6), 0.8)]) == [RIGHT, WRONG]


def test_a_difficult_truth_is_chosen_even_where_a_plain_one_overlaps_enough() -> None:
    truths = [WHOLE, (0.0, 0.0, 10.0, 8.0)]
    assert fates_of(truths, [(WHOLE, 0.9)], difficult=(0,)) == [IGNORED]


def test_of_truths_overlapped_equally_the_first_is_chosen() -> None:
    twice = [WHOLE, WHOLE]
    assert fates_of(twice, [(WHOLE, 0.9), (WHOLE, 0.8)]) == [RIGHT, WRONG]
    assert fates_of(twice, [(WHOLE, 0.9)], difficult=(0,)) == [IGNORED]
    assert fates_of(twice, [(WHOLE, 0.9)], difficult=(1,)) == [RIGHT]


def test_a_box_without_area_is_wrong() -> None:
    assert fates_of([WHOLE], [((5.0, 5.0, 5.0, 5.0), 0.9)]) == [WRONG]


def test_a_detection_in_another_image_or_of_another_class_is_wrong() -> None:
    annotations = make_annotations([(0, 0, WHOLE), (1, 1, WHOLE)], images=2, classes=2)
    results = make_results([(1, 0, WHOLE, 0.9), (0, 1, WHOLE, 0.9)])
    assert voc_fates(results, annotations).fate.tolist() == [WRONG, WRONG]


# ------------------------------------------------------------------------------- the two means


def test_a_class_without_scored_truth_leaves_the_mean() -> None:
    annotations = make_annotations(
        [(0, 0, WHOLE), (0, 1, WHOLE)], images=1, classes=3, difficult=(1,)
    )
    voc = voc_map(make_results([(0, 0, WHOLE, 0.9), (0, 2, WHOLE, 0.9)]), annotations)
    np.testing.assert_array_equal(voc.ap07, [1.0, np.nan, np.nan])
    np.testing.assert_array_equal(voc.ap10, [1.0, np.nan, np.nan])
    assert (voc.map07, voc.map10) == (1.0, 1.0)
    assert [curve.truths for curve in voc.curves] == [1, 0, 0]


def test_nothing_found_is_zero_and_no_truth_is_nan() -> None:
    with_truth = make_annotations([(0, 0, WHOLE)], images=1, classes=1)
    assert voc_map(no_results(), with_truth).map07 == 0.0
    without = make_annotations([], images=2, classes=1)
    voc = voc_map(make_results([(1, 0, WHOLE, 0.3)]), without)
    assert np.isnan([voc.map07, voc.map10]).all()


@pytest.mark.parametrize("classes", [0, 2])
def test_no_images(classes: int) -> None:
    voc = voc_map(no_results(), make_annotations([], images=0, classes=classes))
    assert len(voc.curves) == classes
    assert np.isnan(voc.map10)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("tenths", range(1, 11))
def test_recalls_of_exactly_3_6_and_7_tenths_fall_short_of_their_levels(
    tenths: int, rule: VocRule
) -> None:
    """In doubles 3 x 0.1 exceeds 3/10: 3 of 10 objects found rightly are 3/11, not 4/11."""
    recall = np.arange(1, tenths + 1) / 10
    curve = Curve(10, np.linspace(1, 0.5, tenths), np.ones(tenths), recall)
    reached = tenths if tenths in (3, 6, 7) else tenths + 1
    assert ap_11_point(curve) == pytest.approx(reached / 11, abs=1e-15)
    assert ap_all_point(curve, rule) == pytest.approx(tenths / 10, abs=1e-15)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("truths", [1, 3, 7, 10, 49, 130])
def test_all_found_is_one_and_never_more(truths: int, rule: VocRule) -> None:
    """Eleven times 1/11 are 1.0000000000000002 in the programs."""
    recall = np.arange(1, truths + 1) / truths
    curve = Curve(truths, np.linspace(1, 0.5, truths), np.ones(truths), recall)
    assert ap_11_point(curve) == 1.0
    assert 1 - 1e-14 < ap_all_point(curve, rule) <= 1.0


def test_one_iou_of_one_half_among_ten_objects() -> None:
    """Nine right and one on an IoU of exactly 0.5, by hand: all of them, or nine tenths."""
    truths = [(image, 0, WHOLE) for image in range(10)]
    annotations = make_annotations(truths, images=10, classes=1)
    rows = [(image, 0, HALF if image == 4 else WHOLE, 0.9 - image / 20) for image in range(10)]
    found = make_results(rows)
    devkit = voc_map(found, annotations)
    assert (devkit.map07, devkit.map10) == (1.0, pytest.approx(1.0))
    # right, right, right, right, wrong, right ...: the best precision beyond 0.4 is 9/10
    other = voc_map(found, annotations, rule="voc_eval")
    assert other.map07 == pytest.approx((5 * 1 + 5 * 0.9 + 0) / 11)
    assert other.map10 == pytest.approx(0.4 + 0.5 * 0.9)


def test_known_curve() -> None:
    """Right, wrong, right of two truths: precision 1, 1/2, 2/3 at recall 1/2, 1/2, 1."""
    annotations = make_annotations([(0, 0, WHOLE), (1, 0, WHOLE)], images=2, classes=1)
    far = (50.0, 50.0, 60.0, 60.0)
    found = [(0, 0, WHOLE, 0.9), (0, 0, far, 0.8), (1, 0, WHOLE, 0.7)]
    voc = voc_map(make_results(found), annotations)
    assert voc.map07 == pytest.approx((6 * 1 + 5 * 2 / 3) / 11)
    assert voc.map10 == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    np.testing.assert_array_equal(voc.curves[0].scores, [0.9, 0.8, 0.7])


@pytest.mark.parametrize("rule", RULES)
def test_boxes_of_files_outside_the_image_are_measured_as_the_programs_do(
    tmp_path: Path, rule: VocRule
) -> None:
    """Partly outside, wholly outside, of no size and inverted; images are 80 x 60."""
    draw = random.Random(5)
    names = ("class0", "class1")
    pages, rows, hard, found = {}, [], [], []
    for image in range(12):
        corners = [
            (x, y, x + draw.randint(-2, 60), y + draw.randint(-2, 60))
            for x, y in [(draw.randint(-50, 90), draw.randint(-50, 70)) for _ in range(6)]
        ]
        labels = [draw.randint(0, 1) for _ in corners]
        difficult = [int(draw.random() < 0.2) for _ in corners]
        objects = [(names[label], box) for label, box in zip(labels, corners, strict=True)]
        pages[f"image{image}"] = voc_xml(objects, difficult=difficult)
        for label, (x1, y1, x2, y2) in zip(labels, corners, strict=True):
            rows.append((image, label, (x1 - 1, y1 - 1, x2, y2)))
            shift, score = draw.choice([0, 0, 1, 20]), round(draw.random(), 2)
            box = [x1 - 1 + shift, y1 - 1, max(x2 - x1 + 1, 0), max(y2 - y1 + 1, 0)]
            entry = {"image_id": f"image{image}", "category": names[label], "bbox": box}
            found.append(entry | {"score": score})
        hard += difficult
    write_voc(tmp_path / "voc", pages)
    (tmp_path / "found.json").write_text(json.dumps(found))
    data = read_voc(VOCConfig(root=tmp_path / "voc", split="trainval", origin=1), names)
    kinds = (
        "inverted boxes dropped",
        "boxes outside the image dropped",
        "boxes clipped to the image",
    )
    assert all(data.report.counts[kind] > 1 for kind in kinds)
    ours = voc_map(read_detections(tmp_path / "found.json", data), data, rule=rule)
    flagged = tuple(row for row, flag in enumerate(hard) if flag)
    stated = make_annotations(rows, images=12, classes=2, difficult=flagged)
    results = read_detections(tmp_path / "found.json", stated)
    for label in range(2):
        *_, ap07, ap10 = slow_class(results, stated, label, rule)
        assert (ours.ap07[label], ours.ap10[label]) == (ap07, ap10)
        assert 0.2 < ap10 < 0.95
