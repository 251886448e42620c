"""What was measured on this machine: kept, found again, and forgotten where it is of other days."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from detkit.weights.zoo import ZOO
from detkit.weights.zoo_entry import Measured, ZooEntry
from detkit.weights.zoo_measured import (
    KEEP,
    keep_measured,
    measured_here,
    place_of,
    record_of,
)

SIZE = 35_434_956  # of yolov3-tiny.weights


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DETKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "zoo"


@pytest.fixture
def tiny() -> ZooEntry:
    return ZOO["yolo_v3_tiny_coco"]


def figure(ap: float, data: str = "coco photos val", when: str = "2026-11-30 12:00") -> Measured:
    return Measured({"coco_ap": ap}, data, 10, 20, "a command", when)


def test_the_newest_is_first_and_the_same_data_is_kept_once(tiny: ZooEntry, cache: Path) -> None:
    assert measured_here(tiny) == ()
    kept = [figure(1.5), figure(2.5, "voc others test"), figure(3.25)]
    for one in kept:
        keep_measured(tiny, record_of(tiny, SIZE, one))
    assert measured_here(tiny) == (kept[2], kept[1])
    assert [path.name for path in cache.iterdir()] == ["yolov3-tiny.weights.measured.json"]
    assert measured_here(ZOO["yolo_v3_coco"]) == ()


def test_only_so_many_are_kept(tiny: ZooEntry) -> None:
    for turn in range(KEEP + 2):
        keep_measured(tiny, record_of(tiny, SIZE, figure(1.0, f"data {turn}")))
    found = measured_here(tiny)
    assert len(found) == KEEP
    assert found[0].data == f"data {KEEP + 1}"


def test_a_figure_of_no_known_name_is_of_another_version(tiny: ZooEntry) -> None:
    keep_measured(tiny, record_of(tiny, SIZE, replace(figure(1.0), percent={"lvis_ap": 1.0})))
    assert measured_here(tiny) == ()


def test_figures_of_another_file_or_another_reading_of_it_do_not_count(tiny: ZooEntry) -> None:
    """As those of the masks 0,1,2, with which the file was read before."""
    as_before = {key: value for key, value in tiny.model.items() if key != "anchor_masks"}
    for entry, size in (
        (replace(tiny, model=as_before), SIZE),
        (replace(tiny, file=replace(tiny.file, hash="sha256:" + 64 * "0")), SIZE),
        (tiny, SIZE - 4),
    ):
        keep_measured(entry, record_of(entry, size, figure(12.6)))
        assert measured_here(tiny) == ()
    keep_measured(tiny, record_of(tiny, SIZE, figure(19.8)))
    assert measured_here(tiny) == (figure(19.8),)


@pytest.mark.parametrize("name", list(ZOO))
def test_every_entry_s_model_is_found_again(name: str) -> None:
    """Tuples come back from JSON as lists."""
    entry = ZOO[name]
    size = entry.file.size
    assert size is not None
    keep_measured(entry, record_of(entry, size, figure(1.0)))
    assert measured_here(entry) == (figure(1.0),)


@pytest.mark.parametrize("text", ["", "{}", '[{"file_size": 1}]', "[1]", "\udcff", '["\x00"]'])
def test_what_is_broken_is_as_good_as_none(tiny: ZooEntry, text: str) -> None:
    place_of(tiny).parent.mkdir(parents=True)
    place_of(tiny).write_bytes(text.encode(errors="surrogateescape"))
    assert measured_here(tiny) == ()
    keep_measured(tiny, record_of(tiny, SIZE, figure(1.0)))
    assert measured_here(tiny) == (figure(1.0),)
