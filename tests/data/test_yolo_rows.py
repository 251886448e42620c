"""Rows of YOLO text with more than five values: boxes with something behind them, or polygons."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from detkit.data import Annotations, read_dataset
from detkit.data.auto import resolve
from detkit.data.yolo_evidence import Evidence, Sign, Tail, judge
from detkit.errors import ConfigError, DataError
from tests.oracles import write_image

BEHIND = "boxes with key points or other values behind them, which are passed over"
POLYGONS = "boxes made from polygons"
SAY = (
    "may be a box with key points or other values behind it, or the points of a polygon, and all "
    "{} rows of 7 and more values together do not tell. Say data.rows=boxes or data.rows=polygons; "
    "kpt_shape in data.yaml says boxes, too."
)


def write(root: Path, lines: Sequence[str], more: str = "") -> Path:
    """One image of 100 x 80 pixels, and a label file of these lines."""
    write_image(root / "images" / "a.png", size=(80, 100))
    (root / "labels").mkdir()
    (root / "labels" / "a.txt").write_text("\n".join(lines))
    (root / "data.yaml").write_text(f"names: [cat, dog]\n{more}")
    return root


def read(root: Path, **keys: Any) -> Annotations:
    return read_dataset({"format": "yolo", "root": str(root), "split": "", **keys})


def counts(data: Annotations) -> dict[str, int]:
    return {kind: count for kind, count in data.report.counts.items() if count}


def as_row(values: Sequence[float]) -> str:
    return " ".join(["0", *(f"{value:.6f}" for value in values)])


def pose_rows(number: int, points: int, seed: int = 0) -> list[list[float]]:
    """Boxes at random, and so many points in each."""
    rng = np.random.default_rng(seed)
    rows = []
    for width, height in rng.uniform(0.05, 0.6, (number, 2)):
        cx, cy = rng.uniform(width / 2, 1 - width / 2), rng.uniform(height / 2, 1 - height / 2)
        inside = rng.uniform(-0.5, 0.5, (points, 2)) * (width, height) + (cx, cy)
        rows.append([cx, cy, width, height, *inside.ravel()])
    return rows


def polygon_rows(
    number: int, points: int | None, seed: int = 0, spread: float = 1.0
) -> list[list[float]]:
    """Outlines of things at random: corners around a centre, in the order of their angles."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(number):
        count = points or int(rng.integers(3, 40))
        angles = np.sort(rng.uniform(0, 2 * np.pi, count))[:: rng.choice([-1, 1])]
        radius = rng.uniform(0.01, 0.3) * rng.uniform(0.3, 1, count)
        centre = 0.5 + spread * rng.uniform(-0.5, 0.5, 2)
        around = centre + radius[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        rows.append(np.clip(around, 0, 1).ravel().tolist())
    return rows


def decide(rows: Sequence[Sequence[float]]) -> str | None:
    evidence = Evidence()
    for row in rows:
        evidence.add(row, "")
    return evidence.decide()


# --- what is read ---


@pytest.mark.parametrize(
    "line",
    [
        "0 0.6 0.6 0.2 0.2 0.55 0.65 2 0.6 0.6 2",  # two key points, seen
        "0 0.6 0.6 0.2 0.2 0.55 0.65 2.0 0 0 0",
        "0 0.6 0.6 0.2 0.2 0.9 12",  # confidence and track id
        "0 0.6 0.6 0.2 0.2 0.9 -1",  # of no track
        "0 0.6 0.6 0.2 0.2 0.55 0.65 -1 -1 0.6 0.6 -1 -1 -1 -1",  # five marks of a face
    ],
)
def test_a_row_that_can_be_no_polygon_is_a_box(tmp_path: Path, line: str) -> None:
    data = read(write(tmp_path, [line, "1 0.5 0.5 0.5 0.5"]))
    np.testing.assert_allclose(data.boxes, [[50, 40, 70, 56], [25, 20, 75, 60]], rtol=1e-5)
    assert counts(data) == {BEHIND: 1}


@pytest.mark.parametrize(
    "line",
    [
        "0 0.6 0.6 0.2 0.2 0.55 0.65",  # one key point
        "0 0.6 0.6 0.2 0.2 0.9 1",  # confidence and track id
        "0 0.6 0.6 0.2 0.2 0.55 0.65 0.6 0.6",
        "0 0.6 0.6 0.2 0.2 0 0 0 0.6 0.6 1",  # two key points, one of them not seen
        "0 0.5 0.5 0.4 0.4 0.45 0.55",  # (0.4, 0.4) lies in the box
    ],
)
def test_a_row_that_may_be_both_is_refused_and_the_key_decides(tmp_path: Path, line: str) -> None:
    root = write(tmp_path, [line])
    with pytest.raises(DataError) as caught:
        read(root)
    assert str(caught.value) == f"{root}/labels/a.txt: line 1: {SAY.format(1)}"
    _, cx, cy, w, h, *_ = map(float, line.split())
    expected = [[100 * (cx - w / 2), 80 * (cy - h / 2), 100 * (cx + w / 2), 80 * (cy + h / 2)]]
    box = read(root, rows="boxes")
    np.testing.assert_allclose(box.boxes, expected, rtol=1e-5)
    assert counts(box) == {BEHIND: 1}
    outline = read(root, rows="polygons")
    points = np.array(line.split()[1:], dtype=float)[: len(line.split()) // 2 * 2].reshape(-1, 2)
    around = [*points.min(axis=0) * (100, 80), *points.max(axis=0) * (100, 80)]
    np.testing.assert_allclose(outline.boxes, [around], rtol=1e-5)
    assert counts(outline) == {POLYGONS: 1}
    (root / "data.yaml").write_text("names: [cat]\nkpt_shape: [1, 2]\n")
    np.testing.assert_allclose(read(root).boxes, expected, rtol=1e-5)
    assert counts(read(root)) == {BEHIND: 1}


@pytest.mark.parametrize("points", [1, 2, 4, 5, 17, 21])
def test_rows_of_key_points_are_told_together(tmp_path: Path, points: int) -> None:
    rows = pose_rows(40, points)
    data = read(write(tmp_path, [as_row(row) for row in rows]))
    boxes = np.array(rows)[:, :4]
    expected = np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], 1)
    np.testing.assert_allclose(data.boxes, expected * [100, 80, 100, 80], atol=1e-3)
    assert counts(data) == {BEHIND: 40}


@pytest.mark.parametrize("points", [2, 4])
def test_key_points_with_visibility_are_told_together(points: int) -> None:
    rng = np.random.default_rng(0)
    rows = []
    for row in pose_rows(40, points):
        flags = rng.integers(0, 2, points)  # never 2, which alone would tell
        behind = zip(row[4::2], row[5::2], flags, strict=True)
        rows.append([*row[:4], *(v for x, y, seen in behind for v in (x * seen, y * seen, seen))])
    assert decide(rows) == "boxes"


def test_confidences_and_track_ids_are_told_together() -> None:
    rows = [[*row[:4], 0.5, number % 2] for number, row in enumerate(pose_rows(40, 1))]
    assert decide(rows) == "boxes"
    assert decide(rows[:5]) is None
    assert decide([*rows[:5], [*rows[5][:4], 0.5, 7]]) == "boxes"


def test_a_careless_key_point_changes_nothing() -> None:
    rows = pose_rows(100, 3)
    for row in rows[:4]:
        row[4:6] = [row[0] + row[2], row[1]]  # beside its box
    assert decide(rows) == "boxes"


def test_boxes_and_polygons_of_one_split_are_refused() -> None:
    assert decide(pose_rows(50, 2) + polygon_rows(50, 4)) is None


# --- polygons stay polygons ---


@pytest.mark.parametrize(
    ("line", "box"),
    [
        ("0 0.1 0.1 0.5 0.1 0.3 0.5", [10, 8, 50, 40]),
        ("0 0.5 0.4 0.6 0.5 0.5 0.6 0.4 0.5", [40, 32, 60, 48]),  # a turned box
        ("0 0.6 0.5 0.3 0.5 0.3 0.7 0.6 0.7", [30, 40, 60, 56]),  # a box by its corners
        ("0 0.6 0.6 0.38 0.7 0.41 0.766 0.63 0.666", [38, 48, 63, 61.28]),  # (0.38, 0.7) is apart
        ("0 0.9 0.5 0.95 0.5 0.97 0.6 0.93 0.7 0.9 0.6", [90, 40, 97, 56]),
        ("0 -0.1 0.5 1.2 0.4 0.5 0.9", [0, 32, 100, 72]),  # beyond the image
    ],
)
def test_polygons_stay_polygons(tmp_path: Path, line: str, box: list[float]) -> None:
    data = read(write(tmp_path, [line]))
    np.testing.assert_allclose(data.boxes, [box], atol=1e-3)
    assert counts(data)[POLYGONS] == 1


def test_polygons_of_different_lengths_need_no_other_sign(tmp_path: Path) -> None:
    silent = ["0 0.5 0.5 0.7 0.5 0.7 0.7", "0 0.3 0.3 0.4 0.3 0.4 0.4 0.3 0.42"]
    assert [decide([[*map(float, line.split()[1:])]]) for line in silent] == [None, None]
    assert counts(read(write(tmp_path, silent))) == {POLYGONS: 2}


@given(
    st.integers(1, 60), st.sampled_from([None, 3, 4, 5, 8]), st.integers(0, 10**6),
    st.sampled_from([1.0, 0.5, 0.0]),
)  # fmt: skip
def test_no_split_of_polygons_is_read_as_boxes(
    number: int, points: int | None, seed: int, spread: float
) -> None:
    assert decide(polygon_rows(number, points, seed, spread)) != "boxes"


@given(st.integers(0, 10**6), st.sampled_from([3, 4, 5]))
def test_one_outline_drawn_again_and_again_is_not_read_as_boxes(seed: int, points: int) -> None:
    rng = np.random.default_rng(seed)
    (outline,) = polygon_rows(1, points, seed)
    again = np.clip(np.array(outline) + rng.normal(0, 0.003, (200, len(outline))), 0, 1)
    assert decide(again.tolist()) != "boxes"


@given(st.integers(1, 60), st.integers(1, 8), st.integers(0, 10**6))
def test_no_split_of_key_points_is_read_as_polygons(number: int, points: int, seed: int) -> None:
    assert decide(pose_rows(number, points, seed)) != "polygons"


@given(st.integers(0, 10**6))
def test_turned_boxes_stay_polygons(seed: int) -> None:
    rng = np.random.default_rng(seed)
    angle, (width, height) = rng.uniform(0, np.pi), rng.uniform(0.02, 0.3, 2)
    along = np.array([np.cos(angle), np.sin(angle)]) * width / 2
    across = np.array([-np.sin(angle), np.cos(angle)]) * height / 2
    centre = rng.uniform(0.3, 0.7, 2)
    corners = [centre - along - across, centre + along - across,
               centre + along + across, centre - along + across]  # fmt: skip
    assert decide([np.round(np.roll(corners, rng.integers(4), axis=0), 3).ravel()]) == "polygons"


@pytest.mark.data
def test_outlines_of_coco_are_never_read_as_boxes(data_root: Path) -> None:
    """The outlines of every image, class and split, each as a dataset of its own."""
    found: dict[str, Counter[str | None]] = defaultdict(Counter)
    for split in ("train", "val"):
        path = data_root / "coco_mini" / "annotations" / f"instances_{split}2017.json"
        content = json.loads(path.read_text())
        sides = {image["id"]: (image["width"], image["height"]) for image in content["images"]}
        groups: dict[tuple[str, int], list[list[float]]] = defaultdict(list)
        for one in content["annotations"]:
            for outline in one["segmentation"] if isinstance(one["segmentation"], list) else []:
                row = (np.reshape(outline, (-1, 2)) / sides[one["image_id"]]).ravel().tolist()
                groups["row", len(groups)].append(row)
                groups["image", one["image_id"]].append(row)
                groups["class", one["category_id"]].append(row)
                groups["split", 0].append(row)
        for (kind, _), rows in groups.items():
            found[kind][decide(rows)] += 1
    assert found["split"] == {"polygons": 2}
    assert found["class"] == {"polygons": 159, None: 1}
    assert found["image"] == {"polygons": 313, None: 5}
    assert found["row"] == {"polygons": 2358, None: 750}


# --- each row by a slow judge ---


def slow_judge(values: Sequence[Fraction], tail: Tail) -> Sign:
    """The words of the module, in exact numbers."""
    cx, cy, width, height, *behind = values
    hundredth, half, tenth = Fraction(1, 100), Fraction(1, 2), Fraction(1, 10)
    left, right = cx - width * half, cx + width * half
    top, bottom = cy - height * half, cy + height * half
    if width <= 0 or height <= 0:
        return Sign.DENIES
    if not (left >= -hundredth and top >= -hundredth):
        return Sign.DENIES
    if not (right <= 1 + hundredth and bottom <= 1 + hundredth):
        return Sign.DENIES
    step = {Tail.POINTS: 2, Tail.SEEN: 3, Tail.TRACK: 2}[tail]
    groups = [behind[start : start + step] for start in range(0, len(behind), step)]
    for group in groups:
        if len(group) != step:
            return Sign.DENIES
        if tail == Tail.TRACK:
            if len(groups) > 1 or not 0 <= group[0] <= 1:
                return Sign.DENIES
            if group[1] < -1 or group[1].denominator != 1:
                return Sign.DENIES
            continue
        x, y = group[:2]
        if tail == Tail.SEEN and group[2] not in (0, 1, 2):
            return Sign.DENIES
        if tail == Tail.SEEN and group[2] == 0:
            continue
        if (x, y) == (0, 0) or (x, y) == (-1, -1):
            continue
        grown = (left - tenth * width, top - tenth * height,
                 right + tenth * width, bottom + tenth * height)  # fmt: skip
        assume(x not in grown and y not in grown)  # there floating point may say either
        if not (grown[0] < x < grown[2] and grown[1] < y < grown[3]):
            return Sign.DENIES
    points = [(values[i], values[i + 1]) for i in range(0, len(values), 2)]
    if len(points) == 4:
        middles = [(a[0] + c[0], a[1] + c[1]) for a, c in (points[0::2], points[1::2])]
        apart = [abs(one - other) for one, other in zip(*middles, strict=True)]
        (ax, ay), (bx, by), _, (dx, dy) = points
        if max(apart) <= Fraction(2, 1000) and (bx - ax) * (dy - ay) != (by - ay) * (dx - ax):
            return Sign.DENIES
    if any(not -half <= value <= 1 + half for value in values):
        return Sign.PROVES
    second_inside = left <= width <= right and top <= height <= bottom
    flat = len({x for x, _ in points}) == 1 or len({y for _, y in points}) == 1
    if not second_inside or flat or tail != Tail.POINTS:
        return Sign.SPEAKS
    fifth = tenth * 2  # the middle part of the box, a fifth of it wide and high
    within = [abs(x - cx) * 2 <= fifth * width and abs(y - cy) * 2 <= fifth * height
              for x, y in points]  # fmt: skip
    assume(not any(abs(x - cx) * 10 == width or abs(y - cy) * 10 == height for x, y in points))
    return Sign.DENIES if all(within) else Sign.SILENT


def shares(low: int, high: int) -> st.SearchStrategy[Fraction]:
    return st.integers(low, high).map(lambda number: Fraction(number, 64))


anything = st.one_of(shares(0, 64), st.sampled_from([Fraction(n) for n in (-1, 0, 1, 2, 7)]))
usual = st.one_of(shares(24, 40), st.sampled_from([Fraction(n) for n in (-1, 0, 1, 2)]))
rows_of_boxes = st.integers(1, 4).flatmap(
    lambda half: st.tuples(
        shares(24, 40), shares(24, 40), shares(8, 48), shares(8, 48), *[usual] * (2 * half)
    )
)
rows_of_anything = st.integers(3, 6).flatmap(
    lambda half: st.lists(anything, min_size=2 * half, max_size=2 * half)
)


@example([Fraction(n, 64) for n in (32, 32, 40, 40, 32, 48, 24, 40)])
@example([Fraction(n, 64) for n in (40, 40, 12, 12, 40, 44, 128, 38, 42, 64)])
@given(st.one_of(rows_of_boxes, rows_of_anything))
def test_a_slow_judge_says_the_same(values: Sequence[Fraction]) -> None:
    for tail in Tail:
        assert judge([float(value) for value in values], tail) == slow_judge(values, tail)


# --- the key ---


@pytest.mark.parametrize("line", ["0 0.6 0.6 0.2 0.2 0.9", "0 0.6 0.6 0.2 0.2" + " 0.6 0.6 2" * 17])
def test_an_even_number_of_values_needs_the_key(tmp_path: Path, line: str) -> None:
    root = write(tmp_path, [line])
    with pytest.raises(DataError, match="stand behind every box, say "):
        read(root)
    np.testing.assert_allclose(read(root, rows="boxes").boxes, [[50, 40, 70, 56]], rtol=1e-5)
    with pytest.raises(DataError, match="has 4 values"):
        read(write(tmp_path / "short", ["0 0.6 0.6 0.2"]), rows="boxes")


def test_an_automatic_entry_hands_the_key_on(tmp_path: Path) -> None:
    root = write(tmp_path, ["0 0.6 0.6 0.2 0.2 0.55 0.65"])
    entry = {"format": "auto", "root": str(root), "rows": "boxes"}
    entries, _ = resolve({"train": [entry]})
    assert entries["train"][0]["rows"] == "boxes"
    assert counts(read_dataset(entry))[BEHIND] == 1
    with pytest.raises(ConfigError, match="rows"):
        read(root, rows="points")
