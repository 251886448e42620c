from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from detkit.evaluation.bootstrap import Bootstrap, bootstrap_map
from detkit.evaluation.rows import Row
from detkit.evaluation.rules import comparison_lines, comparisons, legend, notes, short_legend
from detkit.evaluation.run import evaluate_results
from detkit.evaluation.speed import Network, Speed, SpeedProtocol
from detkit.evaluation.voc_map import VocRule
from tests.evaluation.noise import make_annotations, make_results

WHOLE = (0.0, 0.0, 10.0, 10.0)
ANNOTATIONS = make_annotations([(0, 0, WHOLE)], images=1, classes=1)
NETWORK = Network("yolo_v2", "tiny", (64, 64), 1.0, 1.0, 0.005)
CALM = Speed(5.0, 6.0, None, SpeedProtocol(), 0.4)
ROW = Row("a", "voc data test", evaluate_results(make_results([]), ANNOTATIONS), NETWORK)


def with_draws(name: str, samples: list[float], value: float, data: str = "these") -> Row:
    drawn = Bootstrap({"coco_ap": np.array(samples)}, {"coco_ap": value}, 72, 0, data)
    return replace(ROW, name=name, bootstrap=drawn)


def test_nothing_to_note() -> None:
    assert notes([replace(ROW, speed=CALM)]) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"changed": ("model.nms_iou=0.5", "model.input_size=288")},
            "a: measured with model.nms_iou=0.5, model.input_size=288.",
        ),
        (
            {"left_out": 78},
            "a: knows 78 classes besides the data's; what it found of them is left out.",
        ),
        (
            {"left_out": 1},
            "a: knows 1 class besides the data's; what it found of them is left out.",
        ),
        (
            {"cached": "2026-01-02 13:04"},
            "a: detections of 2026-01-02 13:04, from the cache; --no-cache measures again.",
        ),
        (
            {"cached": "2026-01-02 13:04", "speed_cached": "2026-01-02 13:04"},
            "a: detections and speed of 2026-01-02 13:04, from the cache; --no-cache measures "
            "again.",
        ),
        (
            {"cached": "2026-01-02 13:04", "speed_cached": "2026-01-03 08:00"},
            "a: detections of 2026-01-02 13:04 and speed of 2026-01-03 08:00, from the cache; "
            "--no-cache measures again.",
        ),
        (
            {"speed": replace(CALM, load=2.25)},
            "~ a: the machine was busy (2.2 processes a core), so its FPS may be too low.",
        ),
        (
            {"speed": replace(CALM, load=None, p95_ms=9.0)},
            "~ a: the machine was busy (p95 1.8 times the median), so its FPS may be too low.",
        ),
        (
            {"speed": replace(CALM, load=1.6, p95_ms=9.0)},
            "~ a: the machine was busy (1.6 processes a core, p95 1.8 times the median), so its "
            "FPS may be too low.",
        ),
    ],
)
def test_what_is_noted_of_a_row(change: dict[str, object], said: str) -> None:
    assert notes([ROW, replace(ROW, **change)]) == [said]


def test_the_short_rules() -> None:
    assert short_legend([replace(ROW, speed=CALM)]) == [
        "VOC07, VOC10+ by rule devkit: IoU >= 0.5; 11 recall points, or all; all detections; "
        "difficult and crowd objects not counted.",
        "COCO: IoU 0.50 to 0.95, 101 recall points, 100 detections an image and class; difficult "
        "and crowd objects not counted.",
        "Scores: from 0.005 up.",
        "FPS: batch 1, decoded image to final boxes with NMS, 1000 / median ms of 200 images "
        "after 20.",
        "--rules prints every rule, and why the three mAPs differ.",
    ]


def measured(
    name: str, voc_rule: VocRule = "devkit", max_detections: int = 100, images: int = 1
) -> Row:
    truth = make_annotations([(0, 0, WHOLE)], images=images, classes=1)
    result = evaluate_results(
        make_results([(0, 0, WHOLE, 0.9)]), truth, voc_rule=voc_rule, max_detections=max_detections
    )
    return replace(ROW, name=name, result=result)


def test_each_rule_is_named_with_the_rows_that_it_measured() -> None:
    rows = [measured("a"), measured("b", "voc_eval"), measured("c", max_detections=300)]
    assert short_legend(rows)[:4] == [
        "a, c: VOC07, VOC10+ by rule devkit: IoU >= 0.5; 11 recall points, or all; all detections; "
        "difficult and crowd objects not counted.",
        "b: VOC07, VOC10+ by rule voc_eval: IoU > 0.5; 11 recall points, or all; all detections; "
        "difficult and crowd objects not counted.",
        "a, b: COCO: IoU 0.50 to 0.95, 101 recall points, 100 detections an image and class; "
        "difficult and crowd objects not counted.",
        "c: COCO: IoU 0.50 to 0.95, 101 recall points, 300 detections an image and class "
        "(eval.max_detections; COCO's own figures: 100); difficult and crowd objects not counted.",
    ]
    lines = legend([measured("b", "voc_eval")])
    assert lines[0].startswith("mAP VOC07: mean over the classes of the 11-point AP, the best ")
    assert "most is > 0.5 and no better-scored one took that truth" in lines[0]
    assert "most is >= 0.5 and no better-scored one took that truth" in legend([measured("a")])[0]


def test_figures_by_other_rules_are_not_compared() -> None:
    truth = make_annotations([(0, 0, WHOLE)], images=2, classes=1)

    def with_bootstrap(row: Row) -> Row:
        return replace(row, bootstrap=bootstrap_map(row.result, truth, 10))

    first = with_bootstrap(measured("a", images=2))
    by_voc_eval = with_bootstrap(measured("b", "voc_eval", images=2))
    by_neither = with_bootstrap(measured("c", "voc_eval", 300, images=2))
    assert set(comparisons(by_voc_eval, first)) == {"coco_ap", "coco_ap50", "coco_ap75"}
    assert comparisons(by_neither, first) == {}
    assert comparison_lines([first, by_neither])[0] == (
        "c and a were measured by other rules: not compared."
    )


def crowded(objects: int, max_detections: int = 100) -> Row:
    """Two images, one with so many objects of class 0; class 1 stands in the other."""
    grid = [(0, 0, (x, y, x + 4.0, y + 4.0)) for x in range(0, 100, 5) for y in range(0, 75, 5)]
    rows = [*grid[:objects], (1, 0, WHOLE), (1, 1, WHOLE)]
    truth = make_annotations(rows, images=2, classes=2)
    found = make_results([(*row, 0.9) for row in rows])
    return replace(ROW, result=evaluate_results(found, truth, max_detections=max_detections))


def test_images_with_more_objects_than_cocos_limit_are_told_once() -> None:
    said = (
        "voc data test: 1 image holds more than 100 objects of a class (most: 101); COCO's figures "
        "cannot reach 1 there: eval.max_detections=101."
    )
    assert notes([crowded(101), replace(crowded(101), name="b")]) == [said]
    assert notes([crowded(100)]) == []
    assert notes([crowded(101, max_detections=101)]) == []


def test_a_detectors_own_limit_is_told_where_it_is_lower_still() -> None:
    own = (100, "an image: model.max_detections")
    (line,) = notes([replace(crowded(300), own_limit=own)])
    assert line == (
        "voc data test: 1 image holds more than 100 objects of a class (most: 300); COCO's figures "
        "cannot reach 1 there: eval.max_detections=300. a itself gives at most 100 an image: "
        "model.max_detections."
    )
    (line,) = notes([replace(crowded(300), own_limit=(300, own[1]))])
    assert line.endswith("eval.max_detections=300.")


def test_scores_of_unlike_rows() -> None:
    rows = [
        ROW,
        replace(ROW, name="b", network=replace(NETWORK, score_threshold=0.05)),
        replace(ROW, name="c"),
        replace(ROW, name="d", network=None),
        replace(ROW, name="e", network=replace(NETWORK, score_threshold=None)),
    ]
    said = "Scores: from 0.005 up (a, c); from 0.05 up (b); all of the file (d); all that the "
    said += "detector gives (e)."
    assert short_legend(rows)[2] == said
    assert said in legend(rows)


def test_a_clear_difference_in_words() -> None:
    draws = list(np.linspace(0.4, 0.6, 1000))
    first, second = with_draws("a", draws, 0.5), with_draws("b", [d - 0.1 for d in draws], 0.4)
    assert comparison_lines([first, second]) == [
        "b against a, COCO AP: -0.100 (-0.100 to -0.100); ahead in 0% of 1,000 draws, behind in "
        "100%. More than the choice of images explains: a is better.",
        "Intervals: the 72 images drawn again with replacement 1,000 times (seed 0), 95%, "
        "bias-corrected. They show what the choice of test images does; another training run "
        "would differ as well.",
    ]
    assert comparison_lines([second, first])[0] == (
        "a against b, COCO AP: +0.100 (+0.100 to +0.100); ahead in 100% of 1,000 draws, behind in "
        "0%. More than the choice of images explains: a is better."
    )


def test_a_difference_that_may_be_chance() -> None:
    gains = list(np.linspace(-0.01, 0.03, 401))  # 100 of them below zero
    first, second = (
        with_draws("a", [0.5] * 401, 0.5),
        with_draws("b", [0.5 + g for g in gains], 0.51),
    )
    assert comparison_lines([first, second])[0] == (
        "b against a, COCO AP: +0.010 (-0.009 to +0.029); ahead in 75% of 401 draws, behind in "
        "25%. These images cannot tell the two apart."
    )


def test_a_checkpoint_beside_itself() -> None:
    row = with_draws("a", [0.5, 0.6], 0.55)
    assert comparison_lines([row, row])[0] == "a and a have the same figures in every draw."


def test_rows_of_different_images_are_not_compared() -> None:
    first, second = with_draws("a", [0.5], 0.5), with_draws("b", [0.5], 0.5, data="those")
    assert comparisons(second, first) == {}
    assert comparison_lines([first, second])[0] == (
        "b and a were measured on different images: not compared."
    )


def test_a_row_without_draws_is_not_compared() -> None:
    assert comparisons(ROW, ROW) == {}
    assert comparison_lines([ROW, ROW]) == []
