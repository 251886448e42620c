"""A figure is stated once: whatever is added to METRICS is found wherever figures are."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from detkit.config import parse
from detkit.engine.tasks.detection import metrics_line
from detkit.errors import ConfigError
from detkit.evaluation import metrics
from detkit.evaluation.bootstrap import bootstrap_map
from detkit.evaluation.html_report import Evaluated, write_html_report
from detkit.evaluation.metrics import METRICS, MetricSpec, is_of_coco
from detkit.evaluation.resample import Resampled
from detkit.evaluation.rows import Row
from detkit.evaluation.run import EvalResult, evaluate_results
from detkit.evaluation.table_files import write_csv, write_json, write_markdown
from detkit.evaluation.tables import print_report
from detkit.experiment.config import EvalConfig
from tests.evaluation.noise import make_annotations, noisy_detections
from tests.evaluation.test_html_report import Page, with_images

OBJECTS = [(image, label, (5.0, 5.0, 40.0 + image, 50.0)) for image in range(6) for label in (0, 1)]


def recalls(result: EvalResult) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """``[K]`` share of each class's objects that any detection finds."""
    return np.array([curve.recall[-1] if len(curve.recall) else 0 for curve in result.voc.curves])


def drawn_recalls(block: Resampled) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """The same of each draw, by counting what is drawn."""
    found = [block.draws[:, each.images[each.right[0]]].sum(axis=1) for each in block.voc]
    truths = [block.draws[:, each.truth_images].sum(axis=1) for each in block.voc]
    return np.mean([f / t for f, t in zip(found, truths, strict=True)], axis=0)


@pytest.fixture
def recall(monkeypatch: pytest.MonkeyPatch) -> MetricSpec:
    spec = MetricSpec(
        *("voc_recall", "Recall", "share found, at any score", lambda r: float(recalls(r).mean())),
        *(recalls, drawn_recalls),
        in_headline=True,
    )
    monkeypatch.setattr(metrics, "METRICS", (*METRICS, spec))
    return spec


def test_a_new_figure_is_in_every_table_file_and_line(recall: MetricSpec, tmp_path: Path) -> None:
    truth = make_annotations(OBJECTS, images=6, classes=2)
    results = noisy_detections(truth, 12, seed=0)
    result = evaluate_results(results, truth)
    value = result.metrics()["voc_recall"]
    assert 0 < value < 1
    drawn = bootstrap_map(result, truth, resamples=50)
    interval = drawn.interval("voc_recall")
    assert interval.low < value < interval.high
    row = Row("mine", "made", result, bootstrap=drawn)
    other = Row("other", "made", result, bootstrap=drawn)
    shown = f"{value:.3f}"

    page = io.StringIO()
    print_report([row], Console(file=page, width=160), rules=True)
    lines = [line.strip() for line in page.getvalue().splitlines()]
    assert shown in next(line for line in lines if line.startswith("mine"))
    assert "Recall: share found, at any score." in " ".join(lines)
    assert f"{interval.low:.3f} to {interval.high:.3f}" in page.getvalue()
    (of_class,) = (line.split() for line in lines if line.startswith("class0"))
    assert of_class[-1] == f"{recalls(result)[0]:.3f}"
    assert f"Recall {shown}" in metrics_line(result)

    write_json(tmp_path / "a.json", [row, other])
    records = json.loads((tmp_path / "a.json").read_text())
    assert records[0]["voc_recall"] == value
    assert records[0]["per_class"]["class1"]["voc_recall"] == recalls(result)[1]
    assert records[0]["intervals"]["voc_recall"]["low"] == interval.low
    assert records[1]["compared"]["voc_recall"]["difference"] == 0
    write_csv(tmp_path / "a.csv", [row])
    (line,) = csv.DictReader(io.StringIO((tmp_path / "a.csv").read_text()))
    assert float(line["voc_recall"]) == value
    assert float(line["voc_recall class1"]) == recalls(result)[1]
    write_markdown(tmp_path / "a.md", [row])
    assert f"| {shown} |" in (tmp_path / "a.md").read_text()
    dataset = with_images(truth, tmp_path)
    write_html_report(tmp_path / "a.html", [Evaluated(row, dataset)], pictures=0)
    text = Page(tmp_path / "a.html").text
    assert f"Recall {shown} (" in text
    assert "Recall: share found, at any score." in text


def test_a_new_figure_can_choose_the_best_checkpoint(recall: MetricSpec) -> None:
    assert parse(EvalConfig, {"best": "voc_recall"}).best == "voc_recall"
    assert not is_of_coco("voc_recall")
    assert is_of_coco("coco_ap75")


def test_what_is_no_figure_cannot(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(EvalConfig, {"best": "coco_ap5"}, path="eval.")
    known = [spec.key for spec in METRICS if "{" not in spec.key]
    assert str(caught.value) == (
        f"eval.best: expected {', '.join(known)} or null; got 'coco_ap5'. Did you mean 'coco_ap75'?"
    )


def test_keys_and_titles_are_of_one_figure_each() -> None:
    for name in ("key", "title"):
        assert len({getattr(spec, name) for spec in METRICS}) == len(METRICS)
    assert all(spec.explain for spec in METRICS)
