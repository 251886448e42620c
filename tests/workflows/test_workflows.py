"""What the commands do, from Python: typed, on generated shapes, and nothing printed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

import detkit
from detkit.checkpoints.from_darknet import Imported
from detkit.checkpoints.to_darknet import Exported
from detkit.detectors import build_detector
from detkit.errors import ConfigError
from detkit.progress import Count
from detkit.weights.darknet import write_darknet
from detkit.weights.header import Header
from detkit.workflows.anchors import AnchorSettings, cluster_anchors
from detkit.workflows.check_data import CheckSettings, check_data
from detkit.workflows.convert import ConvertSettings, convert_weights
from detkit.workflows.detect import DetectSettings, detect_sources
from detkit.workflows.evaluate import EvaluationSettings, evaluate_models
from detkit.workflows.proposals import ProposalSettings, measure_proposals


class Heard:
    """Takes note of all that it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.warnings: list[str] = []
        self.counted: list[tuple[str, int, int]] = []

    def say(self, line: str) -> None:
        self.lines.append(line)

    def warn(self, line: str) -> None:
        self.warnings.append(line)

    @contextmanager
    def count(self, title: str) -> Iterator[Count]:
        yield lambda done, total: self.counted.append((title, done, total))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data") / "shapes"


@pytest.fixture(scope="module")
def shapes(root: Path) -> dict[str, object]:
    """Overrides of the quickstart: few small shapes."""
    images = {"train_images": 8, "val_images": 4, "test_images": 4, "sides": [64, 80]}
    entry = {"format": "shapes", "root": str(root), **images}
    return {
        "data.train": [{**entry, "split": "train"}],
        "data.eval": [{**entry, "split": "test"}],
    }


@pytest.fixture(scope="module")
def run(shapes: dict[str, object], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector that has learned nothing much in three steps."""
    out = tmp_path_factory.mktemp("runs") / "small"
    told, steps = Heard(), {"train.epochs": None, "train.iterations": 3, "train.batch_size": 4}
    done = detkit.train("quickstart", out, {**shapes, **steps, "eval.every": 1}, progress=told)
    assert done.finished
    assert done.folder == out
    assert "voc07_map" in done.metrics
    assert any(line.startswith("train: 8 images") for line in told.lines)
    assert told.lines[-1].startswith("done. Next: detkit eval")
    return out


@pytest.fixture(autouse=True)
def silence(run: Path, capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """Nothing is printed, on either stream."""
    capfd.readouterr()
    yield
    assert capfd.readouterr() == ("", "")


def words(overrides: dict[str, object]) -> tuple[str, ...]:
    return tuple(f"{key}={json.dumps(value)}" for key, value in overrides.items())


def test_train_stops_when_asked_and_goes_on(shapes: dict[str, object], tmp_path: Path) -> None:
    steps = {"train.epochs": None, "train.iterations": 4, "train.batch_size": 4}
    asked = iter([False, True])
    stopped = detkit.train(
        *("quickstart", tmp_path / "run", {**shapes, **steps}),
        progress=Heard(),
        stopped=lambda: next(asked, True),
    )
    assert not stopped.finished
    done = detkit.train(
        tmp_path / "run" / "config.yaml", tmp_path / "run", resume=True, progress=Heard()
    )
    assert done.finished


def test_evaluate_models(run: Path, tmp_path: Path) -> None:
    told = Heard()
    settings = EvaluationSettings(
        models=(run, run / "last"),
        speed_images=2,
        resamples=100,
        pictures=tmp_path / "pictures",
        use_cache=False,
    )
    first, second = evaluate_models(settings, told)
    assert (first.row.name, second.row.name) == ("small/best", "small/last")
    assert first.row.result.images == 4
    assert first.row.speed is not None
    assert first.row.bootstrap is not None
    assert any(line.startswith("data: 4 images") for line in told.lines)
    assert ("small/best", 4, 4) in told.counted
    assert list(tmp_path.glob("pictures/*/precision_recall.png"))


def test_evaluate_takes_a_folder_or_a_config(run: Path, root: Path) -> None:
    detector = detkit.load(run)
    (measured,) = evaluate_models(EvaluationSettings(models=(run,), use_cache=False))
    expected = measured.row.result.metrics()
    for source in (run / "config.yaml", str(root)):
        found = detkit.evaluate(detector, source).metrics()
        assert found == pytest.approx(expected, nan_ok=True)


def test_evaluate_goes_by_the_rules_of_a_config_unless_told(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "other.yaml"
    text = (run / "config.yaml").read_text()
    rules = "eval: {voc_rule: voc_eval, max_detections: 300}"
    path.write_text(f"base: {run / 'config.yaml'}\n{rules}\n")
    assert "voc_rule: devkit" in text
    detector = detkit.load(run)
    found = detkit.evaluate(detector, path)
    assert found.voc.rule == "voc_eval"
    assert found.coco is not None
    assert found.coco.limit == 300
    told = detkit.evaluate(detector, path, voc_rule="devkit", max_detections=100)
    assert told.voc.rule == "devkit"
    assert told.coco is not None
    assert told.coco.limit == 100


def test_detect_sources(run: Path, root: Path, tmp_path: Path) -> None:
    images = root / "JPEGImages"
    damaged = tmp_path / "damaged.jpg"
    damaged.write_bytes(b"no picture")
    told = Heard()
    settings = DetectSettings(
        sources=(*sorted(images.glob("test_*.jpg")), damaged), model=run, out=tmp_path / "out"
    )
    done = detect_sources(settings, told)
    assert (done.images, done.refused, done.stopped) == (4, 1, False)
    assert len(list((tmp_path / "out").glob("test_*.jpg"))) == 4
    assert len(told.lines) == 4
    assert [str(damaged) in line for line in told.warnings] == [True]
    detector = detkit.load(run)
    ended = detect_sources(
        DetectSettings((images,), detector, tmp_path / "few"), stopped=lambda: True
    )
    assert ended.stopped
    assert ended.images == 0


def test_cluster_anchors(shapes: dict[str, object], tmp_path: Path) -> None:
    told = Heard()
    settings = AnchorSettings("quickstart", words(shapes), k=3, draw=tmp_path / "anchors.png")
    found = cluster_anchors(settings, told)
    assert len(found.numbers) == 3
    assert found.new.average_iou > 0
    assert found.canvas == (160, 160)
    assert set(found.values) == {"anchors_cells"}
    assert (tmp_path / "anchors.png").exists()
    with pytest.raises(ConfigError, match="restarts=0"):
        cluster_anchors(AnchorSettings("quickstart", words(shapes), restarts=0))


def test_measure_proposals(shapes: dict[str, object], tmp_path: Path) -> None:
    told = Heard()
    overrides = words({**shapes, "data.proposals": str(tmp_path / "store")})
    settings = ProposalSettings(
        "quickstart", (*overrides, "proposals.most=20"), processes=1, out=tmp_path
    )
    report = measure_proposals(settings, told)
    (one,) = report.measured
    assert one.split == "eval"
    assert one.proposals.greatest <= 20
    assert {path.name for path in report.written} == {"proposals.json", "recall_eval.png"}
    assert np.isfinite(one.milliseconds)
    assert report.store.is_relative_to(tmp_path / "store")


def test_check_data(root: Path, shapes: dict[str, object], tmp_path: Path) -> None:
    told = Heard()
    found = check_data(
        CheckSettings(str(root), out=tmp_path / "out", json=tmp_path / "a.json"),
        told,
    )
    assert not found.is_refused
    assert {path.name for path in found.written} >= {"doctor.png", "samples.png", "a.json"}
    assert sum(len(split.annotations) for split in found.checkup.splits) == 16
    assert any("splits train 8" in line for line in told.lines)
    refused = check_data(
        CheckSettings("quickstart", (*words(shapes), "data.classes=[none]"), out=tmp_path / "no")
    )
    assert refused.is_refused


def test_convert_weights(tmp_path: Path) -> None:
    torch.manual_seed(0)
    detector = build_detector({"name": "yolo_v3_tiny", "num_classes": 80})
    weights = tmp_path / "own.weights"
    write_darknet(detector, weights, Header())
    imported = convert_weights(
        ConvertSettings(weights, tmp_path / "run", model="yolo_v3_tiny_coco")
    )
    assert isinstance(imported, Imported)
    assert imported.folder == tmp_path / "run"
    exported = convert_weights(
        ConvertSettings(tmp_path / "run", tmp_path / "again.weights", to="darknet")
    )
    assert isinstance(exported, Exported)
    assert exported.path.read_bytes() == weights.read_bytes()
    with pytest.raises(ConfigError, match="not for --to darknet"):
        convert_weights(ConvertSettings(tmp_path / "run", weights, to="darknet", model="x"))
