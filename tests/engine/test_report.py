"""The lines a person reads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from detkit.engine.build import read_data
from detkit.engine.clock import Reading
from detkit.engine.report import epoch_line
from detkit.engine.tasks.detection import class_counts, metrics_line
from detkit.evaluation import evaluate_results
from detkit.experiment.read import read_experiment
from tests.engine.runs import small_run
from tests.evaluation.noise import make_annotations, make_results

LATEST = {"loss_coord": 1.5, "loss_obj": 0.5, "lr": 1e-3}


def test_an_epoch_says_where_the_time_went(small_config: Path) -> None:
    run, _ = small_run(small_config)
    run.step = 4
    passed = Reading(10.0, 4, {"data": 1.0, "forward": 3.0, "backward": 5.0, "optimizer": 0.5})
    assert epoch_line(1, run, LATEST, passed) == (
        "epoch 2, step 4/12: loss 2 (coord 1.5, obj 0.5), lr 0.001, 1.2 images/s "
        "(data 10%, forward 30%, backward 50%, optimizer 5%), 0:00:20 left"
    )


def test_waiting_for_data_comes_with_advice(small_config: Path) -> None:
    run, _ = small_run(small_config)
    passed = Reading(100.0, 1, {"data": 38.0, "forward": 30.0, "backward": 30.0, "optimizer": 2.0})
    line = epoch_line(0, run, LATEST, passed)
    assert line.splitlines()[1] == (
        "  waiting for data 38%: raise data.workers, or set data.cache=ram if the images fit in "
        "memory"
    )


def test_more_than_a_day_is_said_in_days(small_config: Path) -> None:
    run, _ = small_run(small_config)
    passed = Reading(9000.0, 1, {"forward": 9000.0})
    assert epoch_line(0, run, LATEST, passed).endswith("1 day, 6:00:00 left")


def test_figures_by_other_rules_than_usual_are_told_with_them() -> None:
    truth = make_annotations([(0, 0, (0.0, 0.0, 10.0, 10.0))], images=1, classes=1)
    found = make_results([(0, 0, (0.0, 0.0, 10.0, 5.0), 0.9)])  # an IoU of one half
    assert metrics_line(evaluate_results(found, truth)) == (
        "  on 1 images: mAP VOC07 1.000, mAP VOC10+ 1.000, COCO AP 0.100"
    )
    other = evaluate_results(found, truth, voc_rule="voc_eval", max_detections=300)
    assert metrics_line(other) == (
        "  on 1 images: mAP VOC07 0.000, mAP VOC10+ 0.000, COCO AP 0.100 "
        "(eval.voc_rule=voc_eval, eval.max_detections=300)"
    )


def test_classes_are_named_with_their_counts(small_config: Path) -> None:
    data, _ = read_data(read_experiment(small_config)[0])
    assert class_counts(data) == "dog 3, cat 2"
    names = tuple(f"c{label}" for label in range(25))
    labels = np.repeat(np.arange(25), 10 * np.arange(25, 0, -1) ** 2)
    many = replace(data, class_names=names, labels=labels)
    said = class_counts(many).split(", ")
    assert said[:2] == ["c0 6,250", "c1 5,760"]
    assert said[10] == "... 5 classes between ..."
    assert said[-1] == "c24 10"
    assert len(said) == 21
    empty = replace(data, class_names=("cat", "cow"), labels=np.zeros(3, dtype=np.int64))
    assert class_counts(empty) == "cat 3, cow 0"
