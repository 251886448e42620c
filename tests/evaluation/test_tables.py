from __future__ import annotations

import io
import json
import math
from dataclasses import astuple, replace
from pathlib import Path

import pytest
from rich.console import Console

from detkit.evaluation.bootstrap import bootstrap_map
from detkit.evaluation.errors import split_errors
from detkit.evaluation.rows import Row
from detkit.evaluation.run import EvalResult, evaluate_results
from detkit.evaluation.speed import Network, Speed, SpeedParts, SpeedProtocol
from detkit.evaluation.table_files import as_record, write_json
from detkit.evaluation.tables import PIPED_WIDTH, console, print_report
from tests.evaluation.noise import make_annotations, make_results

WHOLE = (0.0, 0.0, 10.0, 10.0)


@pytest.fixture(scope="module")
def result() -> EvalResult:
    annotations = make_annotations([(0, 0, WHOLE), (1, 0, WHOLE)], images=2, classes=2)
    return evaluate_results(make_results([(0, 0, WHOLE, 0.9)]), annotations)


def full_row(result: EvalResult, name: str = "yolo_v2_tiny_bccd") -> Row:
    return Row(
        name=name,
        data="voc data/bccd test",
        result=result,
        network=Network("yolo_v2", "darknet_tiny", (384, 512), 15.77, 9.5, 0.005),
        speed=Speed(5.0, 7.25, SpeedParts(2.0, 0.5, 3.5, 1.0), SpeedProtocol()),
        device="NVIDIA H200",
        precision="bf16",
        step=700,
        source=f"runs/{name}/best",
    )


def printed(rows: list[Row], *, rules: bool = False, per_class: bool = False) -> str:
    stream = io.StringIO()
    print_report(rows, console(stream), rules=rules, per_class=per_class)
    return stream.getvalue()


def test_piped_table_fits_and_keeps_every_word(result: EvalResult) -> None:
    text = printed([full_row(result)])
    assert max(len(line) for line in text.splitlines()) <= PIPED_WIDTH
    lines = text.splitlines()
    headings = [lines[1].split(), lines[2].split()]
    assert headings == [
        ["mAP", "mAP", "COCO", "ms", "ms", "params", "preci-"],
        [
            *("model", "backbone", "input", "VOC07", "VOC10+", "AP", "AP50", "AP75"),
            *("FPS", "median", "p95", "(M)", "GFLOPs", "device", "sion"),
        ],
    ]
    line = lines[4]
    for figure in ("yolo_v2", "darknet_tiny", "384x512", "0.545", "0.500", "200.0", "5.00", "7.25"):
        assert figure in line
    for figure in ("15.77", "9.50", "NVIDIA", "bf16"):
        assert figure in line
    assert lines[5].split() == ["yolo_v2_tiny_bccd", "H200"]


def test_a_narrow_terminal_gets_two_halves(result: EvalResult) -> None:
    stream = io.StringIO()
    print_report([full_row(result)], Console(file=stream, width=80, highlight=False))
    lines = stream.getvalue().splitlines()
    assert max(len(line) for line in lines) <= 80
    assert lines[4].split()[:4] == ["yolo_v2", "darknet_tiny", "384x512", "0.545"]
    assert lines[10].split() == [
        "yolo_v2",
        "200.0",
        "5.00",
        "7.25",
        "15.77",
        "9.50",
        "NVIDIA",
        "bf16",
    ]


def test_every_protocol_is_printed_with_its_rules(result: EvalResult) -> None:
    text = " ".join(printed([full_row(result)], rules=True).split())
    assert "mAP VOC07: mean over the classes of the 11-point AP" in text
    assert "mAP VOC10+: mean of the all-point AP" in text
    assert "COCO AP: pycocotools" in text
    assert "Why they differ: VOC asks whether an object was found" in text
    assert "Scores: from 0.005 up." in text
    assert SpeedProtocol().text() in text
    assert "parts, median ms: read 2.00, preprocess 0.50, network 3.50, postprocess 1.00." in text


def test_the_rules_are_short_unless_asked_for(result: EvalResult) -> None:
    text = printed([full_row(result)])
    start = text.index("VOC07, VOC10+ by")
    assert text[start : text.index("\n\n", start)].splitlines() == [
        "VOC07, VOC10+ by rule devkit: IoU >= 0.5; 11 recall points, or all; all detections; "
        "difficult and crowd objects not counted.",
        "COCO: IoU 0.50 to 0.95, 101 recall points, 100 detections an image and class; difficult "
        "and crowd objects not counted.",
        "Scores: from 0.005 up.",
        "FPS: batch 1, decoded image to final boxes with NMS, 1000 / median ms of 200 images "
        "after 20.",
        "--rules prints every rule, and why the three mAPs differ.",
    ]


def test_a_doubtful_speed_is_marked(result: EvalResult) -> None:
    row = full_row(result)
    assert row.speed is not None
    doubted = replace(row, speed=replace(row.speed, load=3.0))
    assert " 200.0 " in printed([row])
    assert " ~200.0 " in printed([doubted])
    assert "so its FPS may be too low." in printed([doubted])


def test_cocos_twelve_figures(result: EvalResult) -> None:
    lines = printed([full_row(result)]).splitlines()
    at = next(turn for turn, line in enumerate(lines) if line.startswith("COCO's twelve"))
    assert lines[at].strip() == (
        "COCO's twelve figures; s, m, l: by size of the object (2 small, 0 medium, 0 large)"
    )
    headings = "model AP AP50 AP75 APs APm APl AR1 AR10 AR100 ARs ARm ARl"
    assert lines[at + 2].split() == headings.split()
    assert result.coco is not None
    figures = astuple(result.coco.figures)
    shown = ["-" if math.isnan(value) else f"{value:.3f}" for value in figures]
    assert lines[at + 4].split() == ["yolo_v2_tiny_bccd", *shown]


def test_the_recall_at_the_limit_is_named_after_it(result: EvalResult) -> None:
    annotations = make_annotations([(0, 0, WHOLE), (1, 0, WHOLE)], images=2, classes=2)
    wider = evaluate_results(result.results, annotations, max_detections=300)
    lines = printed([full_row(wider)]).splitlines()
    at = next(turn for turn, line in enumerate(lines) if line.startswith("COCO's twelve"))
    headings = "model AP AP50 AP75 APs APm APl AR1 AR10 AR300 ARs ARm ARl"
    assert lines[at + 2].split() == headings.split()
    both = printed([full_row(result), full_row(wider, "other")])
    assert "AR1 " in both
    assert "AR100/300" in both


def test_a_narrow_terminal_folds_no_figure(result: EvalResult) -> None:
    stream = io.StringIO()
    print_report([full_row(result, "a_run")], Console(file=stream, width=80, highlight=False))
    lines = stream.getvalue().splitlines()
    headings = [line.split() for line in lines if line.startswith(" model")]
    assert ["model", "AP", "AP50", "AP75", "APs", "APm", "APl"] in headings
    assert ["model", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"] in headings


def test_many_classes_are_shown_when_asked_for() -> None:
    annotations = make_annotations([(0, 0, WHOLE)], images=1, classes=21)
    row = Row("a", "voc x test", evaluate_results(make_results([]), annotations))
    assert "class20" not in printed([row])
    assert printed([row]).splitlines()[-1].strip() == "21 classes: --per-class shows each."
    assert "class20" in printed([row], per_class=True)


def test_intervals_and_errors_are_printed_where_they_are_known(result: EvalResult) -> None:
    annotations = make_annotations([(0, 0, WHOLE), (1, 0, WHOLE)], images=2, classes=2)
    row = full_row(result)
    plain = printed([row])
    assert "How far" not in plain
    assert "kind of error" not in plain
    row = replace(
        row,
        bootstrap=bootstrap_map(result, annotations, resamples=200),
        errors=split_errors(result.results, annotations),
    )
    lines = printed([row, replace(row, name="again")]).splitlines()
    at = next(turn for turn, line in enumerate(lines) if line.startswith("How far"))
    # of two images one is found: a draw has it never, once or twice
    assert lines[at + 4].split() == [
        "yolo_v2_tiny_bccd",
        *("0.000 to 1.000 " * 5).split(),
    ]
    text = " ".join(" ".join(lines[at:]).split())
    assert "again and yolo_v2_tiny_bccd have the same figures in every draw." in text
    assert "Intervals: the 2 images drawn again with replacement 200 times (seed 0)" in text
    at = next(turn for turn, line in enumerate(lines) if line.startswith("AP50 that"))
    assert lines[at + 4].split() == [
        "yolo_v2_tiny_bccd",
        *("0.000 (0) " * 5).split(),
        *("0.500", "(1)"),
    ]


def test_a_file_of_detections_has_no_speed(result: EvalResult) -> None:
    text = printed([Row("other", "voc x test", result)])
    assert "Speed:" not in text
    figures = ["0.545", "0.500", "0.505", "0.505", "0.505"]
    assert text.splitlines()[4].split() == ["other", "-", "-", *figures, *"-------"]


def test_classes_of_one_and_of_many(result: EvalResult) -> None:
    one = printed([full_row(result)])
    assert one.splitlines()[-3].split() == ["class0", "2", "0.545", "0.500", "0.505", "0.505"]
    assert one.splitlines()[-2].split() == ["class1", "0", *"----"]
    many = printed([full_row(result, "a"), full_row(result, "b")])
    assert many.splitlines()[-3].split() == ["class0", "0.545", "0.545"]


def test_several_inputs_of_an_image_are_said_with_their_number(result: EvalResult) -> None:
    network = Network("rcnn", "alexnet", (227, 227), 61.1, 2860.0, 0.0, inputs=2000)
    text = printed([replace(full_row(result), network=network)])
    assert "2000 of 227x227" in " ".join(text.split())


def test_record_is_flat(result: EvalResult) -> None:
    record = as_record(full_row(result))
    nested = [key for key, value in record.items() if isinstance(value, dict)]
    assert nested == ["per_class"]
    assert record["voc07_map"] == pytest.approx(6 / 11)
    assert record["voc10_map"] == pytest.approx(0.5)
    assert record["coco_ap_large"] is None
    assert (record["fps"], record["median_ms"], record["p95_ms"]) == (200.0, 5.0, 7.25)
    assert (record["network_ms"], record["postprocess_ms"]) == (3.5, 1.0)
    assert (record["model"], record["input_size"]) == ("yolo_v2", (384, 512))
    assert (record["params_m"], record["gflops"]) == (15.77, 9.5)
    assert record["inputs"] == 1
    assert (record["device"], record["precision"], record["step"]) == ("NVIDIA H200", "bf16", 700)
    assert record["per_class"]["class1"]["voc07_ap"] is None


def test_json_is_an_object_for_one_and_a_list_for_several(
    tmp_path: Path, result: EvalResult
) -> None:
    path = tmp_path / "new" / "figures.json"
    write_json(path, [full_row(result)])
    assert json.loads(path.read_text())["name"] == "yolo_v2_tiny_bccd"
    write_json(path, [full_row(result, "a"), full_row(result, "b")])
    assert [row["name"] for row in json.loads(path.read_text())] == ["a", "b"]
    assert [entry.name for entry in path.parent.iterdir()] == ["figures.json"]
