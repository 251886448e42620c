from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest

from detkit.evaluation.bootstrap import bootstrap_map
from detkit.evaluation.confusion import confusion_matrix
from detkit.evaluation.errors import split_errors
from detkit.evaluation.rows import Row
from detkit.evaluation.run import evaluate_results
from detkit.evaluation.speed import Network, Speed, SpeedParts, SpeedProtocol
from detkit.evaluation.table_files import as_record, write_csv, write_json, write_markdown
from tests.evaluation.noise import make_annotations, make_results

WHOLE = (0.0, 0.0, 10.0, 10.0)
ANNOTATIONS = make_annotations([(0, 0, WHOLE), (1, 0, WHOLE)], images=2, classes=2)
RESULTS = make_results([(0, 0, WHOLE, 0.9), (1, 1, WHOLE, 0.8)])


@pytest.fixture(scope="module")
def row() -> Row:
    """One of two objects found, the other taken for class1."""
    return Row(
        name="cells",
        data="voc data/bccd test",
        result=evaluate_results(RESULTS, ANNOTATIONS),
        network=Network("yolo_v2", "darknet_tiny", (384, 512), 15.77, 9.5, 0.005),
        speed=Speed(5.0, 7.25, SpeedParts(2.0, 0.5, 3.5, 1.0), SpeedProtocol()),
        device="NVIDIA H200",
        precision="bf16",
        step=700,
        source="runs/cells/best",
        errors=split_errors(RESULTS, ANNOTATIONS),
        confusion=confusion_matrix(RESULTS, ANNOTATIONS, threshold=0.5),
    )


def drawn(row: Row, name: str) -> Row:
    return replace(row, name=name, bootstrap=bootstrap_map(row.result, ANNOTATIONS, 100))


def test_record_says_what_went_wrong(row: Row) -> None:
    record = as_record(row)
    nested = [key for key, value in record.items() if isinstance(value, dict)]
    assert nested == ["per_class", "errors", "confusion"]
    assert record["errors"]["class"] == {"count": 1, "dap": pytest.approx(0.5)}
    assert record["confusion"]["class0"] == {"class0": 1, "class1": 1}
    assert record["confusion_score_threshold"] == 0.5
    assert (record["coco_objects_small"], record["coco_objects_large"]) == (2, 0)
    assert (record["changed"], record["measured"], record["speed_doubt"]) == ([], None, "")
    assert (record["voc_rule"], record["coco_max_detections"]) == ("devkit", 100)


def test_a_record_names_the_rule_and_the_limit_that_it_was_measured_by(row: Row) -> None:
    result = evaluate_results(RESULTS, ANNOTATIONS, voc_rule="voc_eval", max_detections=300)
    record = as_record(replace(row, result=result))
    assert (record["voc_rule"], record["coco_max_detections"]) == ("voc_eval", 300)
    assert "coco_ar300" in record
    assert "coco_ar100" not in record
    voc, coco, *_ = record["protocols"]
    assert voc.endswith(
        "is > 0.5 and no better-scored one took that truth; difficult and crowd objects count for "
        "nothing; boxes have exclusive edges, so no +1; no limit on detections. So counts Fast "
        "R-CNN's voc_eval.py (eval.voc_rule=voc_eval); VOC's own devkit, VOCevaldet.m, takes an "
        "IoU >= 0.5 (eval.voc_rule=devkit)."
    )
    assert coco == (
        "COCO AP: pycocotools, mean over IoU 0.50, 0.55, ..., 0.95. AP50: COCO AP at IoU 0.50 "
        "alone. AP75: COCO AP at IoU 0.75 alone. APs: COCO AP of objects of at most 32 x 32 "
        "pixels. APm: of larger ones of at most 96 x 96. APl: of those above. AR1: mean recall "
        "with 1 detection an image and class. AR10: with 10. AR300: with 300. ARs: that recall of "
        "small objects. ARm: of medium ones. ARl: of large ones. All: 101 recall points, at most "
        "300 detections an image and class (eval.max_detections; COCO's own figures: 100); "
        "difficult objects are ignored, but for those of COCO's own files: pycocotools puts "
        "iscrowd in the place of ignore."
    )


def test_json_holds_intervals_and_the_comparison_with_the_first(tmp_path: Path, row: Row) -> None:
    worse = replace(row, result=evaluate_results(RESULTS.select(RESULTS.labels == 1), ANNOTATIONS))
    write_json(tmp_path / "f.json", [drawn(row, "a"), drawn(worse, "b")])
    first, second = json.loads((tmp_path / "f.json").read_text())
    assert (first["resamples"], first["resample_seed"]) == (100, 0)
    ends = first["intervals"]["voc10_map"]
    assert ends["low"] <= first["voc10_map"] <= ends["high"]
    assert "compared" not in first
    compared = second["compared"]
    assert compared["with"] == "a"
    assert compared["voc10_map"]["difference"] == pytest.approx(-0.5)
    assert compared["voc10_map"]["ahead"] == 0.0
    assert 0.5 < compared["voc10_map"]["behind"] < 1.0  # a draw of image 1 alone is equal


def test_csv_has_a_line_a_row_and_every_figure(tmp_path: Path, row: Row) -> None:
    path = tmp_path / "new" / "figures.csv"
    other = Row("theirs, too", "voc data/bccd test", row.result)
    write_csv(path, [drawn(row, "cells"), other])
    with path.open(newline="") as file:
        first, second = csv.DictReader(file)
    assert float(first["coco_ap_small"]) == row.result.metrics()["coco_ap_small"]
    assert first["coco_ap_large"] == ""  # no such object
    assert (first["fps"], first["input_size"], first["step"]) == ("200.0", "384x512", "700")
    six_levels = "0.5454545454545455"  # 1/11 added six times, as VOC's programs do
    assert (first["voc07_ap class0"], first["voc07_ap class1"]) == (six_levels, "")
    assert (first["voc_rule"], first["coco_max_detections"]) == ("devkit", "100")
    assert first["dap class"] == "0.5"
    assert float(first["voc07_map low"]) <= float(first["voc07_map high"])
    assert (second["name"], second["fps"], second["dap class"]) == ("theirs, too", "", "")
    assert set(row.result.metrics()) <= set(first)
    assert [entry.name for entry in path.parent.iterdir()] == ["figures.csv"]


def test_markdown_is_a_page_of_tables(tmp_path: Path, row: Row) -> None:
    path = tmp_path / "figures.md"
    write_markdown(path, [drawn(row, "a|b*_c"), drawn(row, "second")])
    lines = path.read_text().splitlines()
    assert lines[0] == "**voc data/bccd test: 2 images, 2 objects**"
    assert lines[2] == (
        "| model | backbone | input | mAP VOC07 | mAP VOC10+ | COCO AP | AP50 | AP75 | FPS "
        "| ms median | ms p95 | params (M) | GFLOPs | device | precision |"
    )
    assert lines[4] == (
        "| yolo\\_v2 a\\|b\\*\\_c | darknet\\_tiny | 384x512 | 0.545 | 0.500 | 0.505 | 0.505 "
        "| 0.505 | 200.0 | 5.00 | 7.25 | 15.77 | 9.50 | NVIDIA H200 | bf16 |"
    )
    tables = [line for line in lines if line.startswith("**")]
    assert [title.strip("*").split(";")[0].split(" (")[0] for title in tables] == [
        "voc data/bccd test: 2 images, 2 objects",
        "How far the figures depend on the images tested",
        "COCO's twelve figures",
        "AP50 that each kind of error costs",
        "AP VOC07 of each class",
    ]
    body = [line.count("|") - line.count("\\|") for line in lines if line.startswith("|")]
    assert {15 + 1, 6 + 1, 13 + 1, 7 + 1, 3 + 1} == set(body)  # every line of a table is as wide
    assert any(line.startswith("mAP VOC07: mean over the classes") for line in lines)


def test_a_file_that_cannot_be_replaced_leaves_no_litter(tmp_path: Path, row: Row) -> None:
    for write in (write_csv, write_markdown, write_json):
        (tmp_path / "figures").mkdir(exist_ok=True)
        with pytest.raises(OSError, match="figures"):
            write(tmp_path / "figures", [row])
        assert [entry.name for entry in tmp_path.iterdir()] == ["figures"]
