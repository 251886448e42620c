from __future__ import annotations

import base64
import datetime
import io
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detkit.data.base import Annotations, DetectionDataset
from detkit.evaluation import html_report
from detkit.evaluation.bootstrap import bootstrap_map
from detkit.evaluation.html_report import Evaluated, write_html_report
from detkit.evaluation.results import Results, no_results
from detkit.evaluation.rows import Row
from detkit.evaluation.run import evaluate_results
from detkit.evaluation.speed import Speed, SpeedParts, SpeedProtocol
from tests.evaluation.noise import make_annotations, noisy_detections
from tests.evaluation.test_confusion import scene
from tests.evaluation.test_errors import every_kind

EVIL = "<script>alert(1)</script>\"'&\ud800\n$x^$"
VOID = {"meta", "img", "br", "line", "polyline"}
MADE = datetime.datetime(2024, 2, 29, 12, 30)
SPEED = Speed(
    median_ms=40.0,
    p95_ms=50.0,
    parts=SpeedParts(read_ms=5.0, preprocess_ms=2.0, network_ms=30.0, postprocess_ms=8.0),
    protocol=SpeedProtocol(),
)


class Page(HTMLParser):
    """What a browser would make of a page: its text, pictures and addresses; tags must close."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.addresses: list[str] = []
        self.alts: list[str] = []
        self.rows: list[list[str]] = []
        self.ids: set[str] = set()
        self.markup = path.read_text(encoding="utf-8")
        self.feed(self.markup)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        given = {name: value or "" for name, value in attrs}
        assert not any(name.startswith("on") for name in given)
        self.addresses += [given[name] for name in ("src", "href", "data") if name in given]
        self.ids |= {given["id"]} if "id" in given else set()
        if tag == "img":
            self.alts.append(given["alt"])
        if tag == "tr":
            self.rows.append([])
        if tag in ("th", "td") and self.rows:
            self.rows[-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" in self.open:
            assert "url(" not in data
            assert "@import" not in data
            return
        self.words.append(data)
        if self.open[-1:] in (["th"], ["td"]):
            self.rows[-1][-1] += data

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def row(self, name: str) -> list[str]:
        """The cells of the first table row that begins with ``name``."""
        return next(row for row in self.rows if row and row[0] == name)


def with_images(annotations: Annotations, folder: Path) -> DetectionDataset:
    paths = []
    for index in range(len(annotations)):
        paths.append(str(folder / f"{index}.png"))
        Image.fromarray(np.full((100, 100, 3), 40 * (index % 6), np.uint8)).save(paths[-1])
    return DetectionDataset(replace(annotations, paths=np.array(paths, dtype=np.str_)))


def evaluated(dataset: DetectionDataset, results: Results, name: str = "mine") -> Evaluated:
    result = evaluate_results(results, dataset.annotations)
    drawn = bootstrap_map(result, dataset.annotations, resamples=20)
    row = Row(
        name=name, data="made", result=result, speed=SPEED, device="a CPU", precision="fp32",
        step=7, source="runs/mine/best", bootstrap=drawn,
    )  # fmt: skip
    return Evaluated(row, dataset, threshold=0.3, config="model:\n  name: yolo_v2\n")


@pytest.fixture
def mine(tmp_path: Path) -> Evaluated:
    annotations, results = every_kind()
    return evaluated(with_images(annotations, tmp_path), results)


def test_everything_is_on_the_page(tmp_path: Path, mine: Evaluated) -> None:
    path = tmp_path / "new folder" / "report.html"
    write_html_report(path, [mine], command="tools/eval.py runs/mine --report", made=MADE)
    page = Page(path)
    for heading in (
        "Evaluation of mine",
        "Made 2024-02-29 12:30.",
        "tools/eval.py runs/mine --report",
        "mine: mAP VOC07 ",
        "How far the figures depend on the images tested",
        "COCO's twelve figures",
        "Every rule, and why the three mAPs differ",
        "Data: made: 4 images (0 without objects), 6 objects of 2 classes, 1 difficult.",
        "Measured: runs/mine/best, step 7.",
        "Precision over recall",
        "class0: AP VOC07",
        "Most often mixed up: class0 taken for class1 (1).",
        "class: found class1, truth is class0, IoU 0.90, score 0.60, in image1",
        "duplicate: class0, IoU 0.90, score 0.80, after one of 0.90, in image0",
        "missed: class1, in image2",
        "Worst images: 4 of 4, by F1",
        "25.0 FPS: median 40.00 ms, 95th percentile 50.00 ms an image, a CPU, fp32.",
        "name: yolo_v2",
        "Python 3",
        "torch 2",
    ):
        assert heading in page.text, heading
    assert page.row("network") == ["network", "30.00", ""]
    assert page.row("class1")[1:2] == ["3"]
    assert ["class1", "3", "0", "3", "1", "0.000", "0.000"] in page.rows  # no diagonal there
    assert ["small", "5", page.row("small")[2], page.row("small")[3]] == page.row("small")


def test_the_page_stands_alone(tmp_path: Path, mine: Evaluated) -> None:
    path = tmp_path / "report.html"
    write_html_report(path, [mine, replace(mine, row=replace(mine.row, name="other"))])
    page = Page(path)
    for address in page.addresses:
        kind, _, data = address.partition(",")
        if address.startswith("#"):
            assert address[1:] in page.ids
        else:
            assert kind in ("data:image/png;base64", "data:image/jpeg;base64")
            with Image.open(io.BytesIO(base64.b64decode(data, validate=True))) as picture:
                picture.load()
    assert "://" not in page.markup.replace("http-equiv", "")
    assert not {"script", "link", "iframe", "object", "form"} & set(page.tags)
    assert all(page.alts)
    assert len(page.alts) == page.tags.count("img") > 10
    assert "default-src 'none'" in page.markup
    assert [name for name in ("other", "mine") if name in page.text] == ["other", "mine"]


def test_names_from_data_are_shown_not_run(tmp_path: Path) -> None:
    annotations, results = every_kind()
    annotations = replace(
        annotations,
        class_names=(EVIL, "other"),
        image_ids=np.array([f"{EVIL}{index}" for index in range(4)], dtype=np.str_),
    )
    dataset = with_images(annotations, tmp_path)
    result = evaluate_results(results, dataset.annotations)
    row = Row(name=EVIL, data=EVIL, result=result, speed=SPEED, device=EVIL, source=EVIL)
    path = tmp_path / "report.html"
    write_html_report(path, [Evaluated(row, dataset, 0.3, config=EVIL)] * 2, command=EVIL)
    page = Page(path)
    assert "script" not in page.tags
    assert "<script" not in page.markup.lower()
    assert page.text.count("<script>alert(1)</script>") > 30
    harmless = tmp_path / "harmless.html"
    annotations, _ = every_kind()
    dataset = with_images(annotations, tmp_path)
    result = evaluate_results(results, annotations)
    row = Row(name="x", data="x", result=result, speed=SPEED, device="x", source="x")
    write_html_report(harmless, [Evaluated(row, dataset, 0.3, config="x")] * 2, command="x")
    assert page.tags == Page(harmless).tags


def test_nothing_found_and_nothing_to_find(tmp_path: Path) -> None:
    annotations, _ = every_kind()
    for turn, truth in enumerate((annotations, make_annotations([], images=2, classes=2))):
        dataset = with_images(truth, tmp_path)
        path = tmp_path / f"{turn}.html"
        result = evaluate_results(no_results(), truth, coco=False)
        write_html_report(path, [Evaluated(Row("none", "made", result), dataset)])
        page = Page(path)
        assert "Most often mixed up: no two classes." in page.text
        assert "Sizes" not in page.text
        assert "Speed and size" in page.text
        assert "an image, " not in page.text


def test_an_image_that_is_gone_leaves_a_line(tmp_path: Path, mine: Evaluated) -> None:
    Path(str(mine.dataset.annotations.paths[1])).unlink()
    path = tmp_path / "report.html"
    write_html_report(path, [mine])
    gone = f"(no picture: {tmp_path}/1.png: no such image file. Check the path.)"
    assert gone in Page(path).text


def test_pictures_are_counted(tmp_path: Path, mine: Evaluated) -> None:
    sizes = []
    for count in (0, 1, 4):
        path = tmp_path / f"{count}.html"
        write_html_report(path, [mine], pictures=count)
        page = Page(path)
        sizes.append(page.tags.count("img"))
        assert ("Best images" in page.text) == (count > 0)
    assert sizes == [1, 1 + 6 + 2, 1 + 7 + 4 + 1]  # the matrix; examples; worst; best


def test_whole_or_not_at_all(
    tmp_path: Path, mine: Evaluated, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "report.html"
    path.write_text("before")
    before = sorted(tmp_path.iterdir())

    def fail() -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(html_report, "_versions", fail)
    with pytest.raises(KeyboardInterrupt):
        write_html_report(path, [mine])
    assert path.read_text() == "before"
    assert sorted(tmp_path.iterdir()) == before


def test_many_classes_fold_away(tmp_path: Path) -> None:
    annotations = scene(0)
    many = replace(
        annotations,
        class_names=tuple(f"c{label}" for label in range(40)),
        labels=np.arange(len(annotations.labels)) % 40,
    )
    dataset = with_images(many, tmp_path)
    result = evaluate_results(noisy_detections(many, 200, 0), many)
    path = tmp_path / "report.html"
    write_html_report(path, [Evaluated(Row("many", "made", result), dataset)])
    page = Page(path)
    assert "AP of each of 40 classes" in page.text
    shown = sum(1 for curve in result.voc.curves if curve.truths)
    assert f"{shown - 12} more classes" in page.text
    assert page.tags.count("svg") == shown
