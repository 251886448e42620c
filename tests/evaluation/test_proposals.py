"""Recall and MABO against slow loops; proposals on their way to a detector, and its speed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from detkit.data.base import DetectionDataset
from detkit.detections import Detections
from detkit.detectors import Detector, build_detector
from detkit.detectors.base import proposals_of
from detkit.evaluation import detect_dataset, evaluate
from detkit.evaluation.html_report import _speed_part
from detkit.evaluation.proposal_pictures import (
    LEVELS,
    draw_hierarchy,
    hierarchy_figure,
    paint_regions,
    regions_left,
)
from detkit.evaluation.proposals import Cover, Proposals, cover, curve_counts, recall_figure
from detkit.evaluation.rows import Row
from detkit.evaluation.rules import legend, notes
from detkit.evaluation.run import evaluate_results
from detkit.evaluation.speed import PROPOSALS_TEXT, Speed, SpeedProtocol, measure_speed
from detkit.evaluation.table_files import as_record, write_markdown
from detkit.evaluation.tables import (
    FPS,
    WITHOUT_PROPOSALS,
    console,
    cost_columns,
    print_report,
)
from detkit.image import read_image
from detkit.proposals.hierarchy import Hierarchy, build_hierarchies
from detkit.proposals.selective_search import ProposalConfig, plan_of
from detkit.proposals.store import ProposalStore
from detkit.types import Boxes
from tests.evaluation.datasets import annotate
from tests.evaluation.noise import make_annotations, make_results
from tests.oracles import write_image

CPU = torch.device("cpu")
Box = tuple[float, float, float, float]


def slow_iou(a: Sequence[float], b: Sequence[float]) -> float:
    wide = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    high = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return wide * high / (sum(areas) - wide * high)


boxes = st.tuples(*[st.integers(0, 40)] * 2, *[st.integers(1, 40)] * 2).map(
    lambda box: (float(box[0]), float(box[1]), float(box[0] + box[2]), float(box[1] + box[3]))
)


@given(
    st.lists(
        st.tuples(
            st.lists(st.tuples(boxes, st.integers(0, 2), st.booleans(), st.booleans()), max_size=4),
            st.lists(boxes, max_size=9),
        ),
        min_size=1,
        max_size=4,
    ),
    st.sampled_from([(1,), (1, 2, 5), (3, 100)]),
)
def test_recall_and_mabo_equal_slow_loops(
    images: list[tuple[list[tuple[Box, int, bool, bool]], list[Box]]], counts: tuple[int, ...]
) -> None:
    rows = [
        (index, label, box)
        for index, (objects, _) in enumerate(images)
        for box, label, *_ in objects
    ]
    flags = [
        flag for objects, _ in images for *_, hard, crowd in objects for flag in [(hard, crowd)]
    ]
    annotations = make_annotations(
        rows,
        images=len(images),
        classes=3,
        difficult=tuple(row for row, (hard, _) in enumerate(flags) if hard),
        crowd=tuple(row for row, (_, crowd) in enumerate(flags) if crowd),
    )
    laid = Proposals.of([torch.tensor(found).reshape(-1, 4) for _, found in images])
    measured = cover(laid, annotations, counts)
    for place, count in enumerate(counts):
        best: dict[int, list[float]] = {}
        for objects, found in images:
            for box, label, hard, crowd in objects:
                if not hard and not crowd:
                    overlaps = [slow_iou(box, each) for each in found[:count]]
                    best.setdefault(label, []).append(max(overlaps, default=0.0))
        every = [value for values in best.values() for value in values]
        assert len(measured.labels) == len(every)
        for threshold in (0.3, 0.501):
            recall = measured.recall_at(threshold)[place]
            if every:
                assert recall == sum(value > threshold for value in every) / len(every)
            else:
                assert np.isnan(recall)
        mabo = measured.mean_average_best_overlap()[place]
        if best:
            abo = [sum(values) / len(values) for values in best.values()]
            assert mabo == pytest.approx(sum(abo) / len(abo), abs=1e-6)
        else:
            assert np.isnan(mabo)


def test_an_overlap_of_exactly_a_half_is_no_recall() -> None:
    """Pascal's criterion: larger than 0.5."""
    annotations = make_annotations([(0, 0, (0, 0, 10, 10))], images=1, classes=1)
    half = Proposals.of([torch.tensor([[0.0, 0.0, 10.0, 5.0]])])
    measured = cover(half, annotations)
    assert measured.recall_at(0.5).tolist() == [0.0]
    assert measured.recall_at(0.499).tolist() == [1.0]
    assert measured.mean_average_best_overlap().tolist() == [0.5]


def test_each_class_counts_alike_in_mabo() -> None:
    """Nine objects found exactly and one of another class not at all: (1 + 0) / 2."""
    rows = [(0, 0, (i * 10.0, 0.0, i * 10.0 + 9, 9.0)) for i in range(9)]
    annotations = make_annotations([*rows, (0, 1, (0, 50, 9, 59))], images=1, classes=5)
    measured = cover(Proposals.of([torch.tensor([row[2] for row in rows])]), annotations, (9,))
    assert measured.mean_average_best_overlap().tolist() == [0.5]
    assert measured.recall_at(0.5).tolist() == [0.9]


@pytest.mark.parametrize(
    ("greatest", "expected"), [(0, [1]), (1, [1]), (2, [1, 2]), (3, [1, 2, 3])]
)
def test_few_proposals_have_short_curves(greatest: int, expected: list[int]) -> None:
    assert curve_counts(greatest) == expected


@given(st.integers(1, 20000))
def test_curves_rise_from_one_to_the_last(greatest: int) -> None:
    counts = curve_counts(greatest)
    assert counts == sorted(set(counts))
    assert (counts[0], counts[-1]) == (1, greatest)
    ratios = np.array(counts[1:]) / np.array(counts[:-1])
    assert (ratios[np.array(counts[1:]) > 20] < 1.3).all()


def test_flat_proposals_know_their_images() -> None:
    laid = Proposals.of([torch.zeros(0, 4), torch.ones(3, 4), torch.ones(1, 4)])
    assert laid.offsets.tolist() == [0, 0, 3, 4]
    assert laid.mean == pytest.approx(4 / 3)
    assert laid.greatest == 3


def test_the_plot_has_a_line_for_each_source_and_threshold() -> None:
    measured = Cover(np.array([1, 10]), np.array([[0.2, 0.6], [0.9, 0.6]]), np.array([0, 1]))
    figure = recall_figure({"selective search": measured, "RPN of $x$": measured}, "Recall")
    (panel,) = figure.axes
    assert panel.get_xscale() == "log"
    found = {str(line.get_label()): line.get_ydata() for line in panel.lines}
    assert [*found] == [
        "selective search, IoU > 0.5: 1.000",
        "selective search, IoU > 0.7: 0.500",
        "RPN of $x$, IoU > 0.5: 1.000",
        "RPN of $x$, IoU > 0.7: 0.500",
    ]
    assert [list(values) for values in found.values()] == [[0.5, 1.0], [0.0, 0.5]] * 2  # type: ignore[arg-type]


# ------------------------------------------------------------------------------- pictures


@pytest.fixture(scope="module")
def hierarchy() -> tuple[NDArray[np.uint8], Hierarchy]:
    y, x = np.mgrid[:48, :64]
    waves = [127 + 120 * np.sin(x / 5 + c) * np.cos(y / 4 - c) for c in range(3)]
    image = np.stack(waves, axis=2).round().astype(np.uint8)
    return image, build_hierarchies(image, plan_of(ProposalConfig(mode="single", scales=(9,))), 1)[
        0
    ]


@pytest.mark.parametrize("left", [1, 2, 7, 10**6])
def test_regions_grow_together_as_the_merges_say(
    hierarchy: tuple[NDArray[np.uint8], Hierarchy], left: int
) -> None:
    _, grouped = hierarchy
    groups = {region: {region} for region in range(grouped.regions)}
    for merge, (a, b) in enumerate(grouped.merged.tolist()):
        if len(groups) <= left:
            break
        groups[grouped.regions + merge] = groups.pop(a) | groups.pop(b)
    found = regions_left(grouped, left)
    assert len(np.unique(found)) == min(left, grouped.regions) == len(groups)
    for number, members in groups.items():
        assert np.array_equal(found == number, np.isin(grouped.labels, list(members)))


def test_a_region_has_its_mean_colour_and_a_line_to_its_neighbour() -> None:
    image = np.zeros((4, 6, 3), dtype=np.uint8)
    image[:, :3] = [10, 20, 30]
    image[:2, 3:] = 100
    image[2:, 3:] = 200
    labels = np.array([[0, 0, 0, 5, 5, 5]] * 4)
    painted = paint_regions(image, labels)
    assert (painted[:, :3] == [10, 20, 30]).all()
    assert (painted[:, 3] == 255).all()
    assert (painted[:, 4:] == 150).all()


def test_the_hierarchy_is_drawn_level_by_level(
    hierarchy: tuple[NDArray[np.uint8], Hierarchy], tmp_path: Path
) -> None:
    image, grouped = hierarchy
    config = ProposalConfig(mode="single", scales=(9,), most=25)
    figure = hierarchy_figure(image, config, top=8)
    titles = [panel.get_title() for panel in figure.axes if panel.get_title()]
    between = [f"grouped to {left}" for left in LEVELS if left < grouped.regions]
    assert titles == [
        f"first regions (hsv, k = 9): {grouped.regions}",
        *between,
        "8 first of 25 proposals (single, scales 9)",
    ]
    drawn = figure.axes[len(titles) - 1].patches
    expected = config.find(torch.from_numpy(image).permute(2, 0, 1))[:8]
    corners = [(p.get_x() + 0.5, p.get_y() + 0.5, p.get_width(), p.get_height()) for p in drawn]  # type: ignore[attr-defined]
    assert corners == [(x1, y1, x2 - x1, y2 - y1) for x1, y1, x2, y2 in expected.tolist()]
    write_image(tmp_path / "one.png")
    draw_hierarchy(tmp_path / "one.png", tmp_path / "out" / "drawn.png", config)
    assert read_image(tmp_path / "out" / "drawn.png").shape[0] == 3


# ------------------------------------------------------------- on their way to a detector


@pytest.fixture(scope="module")
def rcnn() -> Detector:
    torch.manual_seed(0)
    settings = {"name": "rcnn", "backbone": "tiny", "head": "fc", "head_size": 1, "num_classes": 2}
    settings |= {"head_width": 8, "warp_size": 64, "context_padding": 4}
    settings |= {"proposals": {"mode": "single", "scales": [30], "most": 10}}
    model = build_detector(settings).eval()
    model.class_names = ("cat", "dog")
    return model


@pytest.fixture
def dataset(tmp_path: Path) -> DetectionDataset:
    images = [((40, 60), [("cat", (2, 2, 30, 30))]), ((50, 40), [("dog", (5, 5, 30, 40))])]
    return DetectionDataset(annotate(tmp_path, images))  # type: ignore[arg-type]


def store_for(detector: Detector, folder: Path) -> ProposalStore:
    config = proposals_of(detector)
    assert config is not None
    return ProposalStore(folder, config)


def test_only_detectors_that_need_proposals_have_settings_of_them(rcnn: Detector) -> None:
    config = proposals_of(rcnn)
    assert config == ProposalConfig(mode="single", scales=(30.0,), most=10)
    yolo = build_detector({"name": "yolo_v2", "backbone": "tiny", "num_classes": 1})
    assert proposals_of(yolo) is None


def test_a_store_hands_its_proposals_to_the_detector(
    rcnn: Detector, dataset: DetectionDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_for(rcnn, tmp_path / "store")
    stored = DetectionDataset(dataset.annotations, proposals=store)
    alone = detect_dataset(rcnn, dataset).results
    with_store = detect_dataset(rcnn, stored).results  # found and kept on the way
    for name in ("images", "boxes", "scores", "labels"):
        assert np.array_equal(getattr(alone, name), getattr(with_store, name))

    def fail(self: ProposalConfig, image: Tensor) -> Boxes:
        raise AssertionError("searched again")

    monkeypatch.setattr(ProposalConfig, "find", fail)
    again = evaluate(rcnn, stored, coco=False)
    assert np.array_equal(again.results.scores, alone.scores)


def test_what_needs_no_proposals_is_asked_without(
    rcnn: Detector, dataset: DetectionDataset, tmp_path: Path
) -> None:
    class Plain:
        class_names = ("cat", "dog")

        def __call__(self, images: list[Tensor], /) -> list[Detections]:
            none = torch.zeros(0)
            return [Detections(torch.zeros(0, 4), none, none.long()) for _ in images]

    store = store_for(rcnn, tmp_path / "store")
    found = detect_dataset(Plain(), DetectionDataset(dataset.annotations, proposals=store)).results
    assert len(found) == 0


# ---------------------------------------------------------------------------------- speed


def test_fps_is_measured_with_and_without_finding_proposals(
    rcnn: Detector, dataset: DetectionDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    given: list[list[Boxes] | None] = []
    find = ProposalConfig.find
    detect = type(rcnn).detect_batch

    def spied(self: ProposalConfig, image: Tensor) -> Boxes:
        asked.append("find")
        return find(self, image)

    def told(
        self: Detector, images: list[Tensor], proposals: list[Boxes] | None = None
    ) -> list[Detections]:
        given.append(proposals)
        return detect(self, images, proposals)

    monkeypatch.setattr(ProposalConfig, "find", spied)
    monkeypatch.setattr(type(rcnn), "detect_batch", told)
    speed = measure_speed(rcnn, dataset, CPU, protocol=SpeedProtocol(2, 5, 3))
    assert len(asked) == len(given) == 7
    assert None not in given
    assert speed.parts is None
    assert speed.given_ms is not None
    assert speed.proposals_ms is not None
    assert 0 < speed.given_ms < speed.median_ms
    assert 0 < speed.proposals_ms < speed.median_ms
    assert speed.fps_without_proposals == pytest.approx(1000 / speed.given_ms)
    assert speed.fps < speed.fps_without_proposals


def rows_with_speed() -> list[Row]:
    annotations = make_annotations([(0, 0, (0, 0, 10, 10))], images=1, classes=1)
    result = evaluate_results(make_results([(0, 0, (0, 0, 10, 10), 0.9)]), annotations)
    with_search = Speed(500.0, 600.0, None, SpeedProtocol(), given_ms=200.0, proposals_ms=300.0)
    plain = Speed(10.0, 11.0, None, SpeedProtocol())
    return [Row("fast", "voc", result, speed=with_search), Row("yolo", "voc", result, speed=plain)]


def test_tables_show_fps_without_proposals_where_there_is_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = rows_with_speed()
    assert WITHOUT_PROPOSALS not in cost_columns(rows[1:])
    assert cost_columns(rows)[:2] == (FPS, WITHOUT_PROPOSALS)
    assert WITHOUT_PROPOSALS.heading == "w/o\nprop."
    assert WITHOUT_PROPOSALS.cell(rows[0]) == "5.0"
    assert WITHOUT_PROPOSALS.cell(rows[1]) == "-"
    print_report(rows, console(), rules=True)
    text = " ".join(capsys.readouterr().out.split())
    assert PROPOSALS_TEXT in text
    write_markdown(tmp_path / "table.md", rows)
    assert "| FPS | w/o prop. | ms median |" in (tmp_path / "table.md").read_text()


def test_words_and_json_tell_both_speeds() -> None:
    fast, yolo = rows_with_speed()
    assert notes([fast, yolo]) == [
        "fast: 5.0 FPS without proposals; finding them takes 300 ms of the median, detecting with "
        "them 200 ms."
    ]
    assert PROPOSALS_TEXT in legend([fast, yolo])
    assert PROPOSALS_TEXT not in legend([yolo])
    said = json.loads(json.dumps(as_record(fast)))
    assert (said["fps"], said["fps_without_proposals"]) == (2.0, 5.0)
    assert (said["given_ms"], said["proposals_ms"]) == (200.0, 300.0)
    assert PROPOSALS_TEXT in said["protocols"]
    assert "fps_without_proposals" not in as_record(yolo)
    page = "".join(map(str, _speed_part(fast)))
    assert (
        "5.0 FPS without proposals: median 200.00 ms an image; finding proposals takes 300.00 ms."
    ) in page
    assert "proposals" not in "".join(map(str, _speed_part(yolo)))
