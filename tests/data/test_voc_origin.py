"""Corners that count from zero or from one: what says so, and that all splits count alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from detkit.data import Annotations, read_dataset, summary
from detkit.data.auto import resolve
from detkit.data.convert import convert
from detkit.data.voc_origin import (
    FROM_ZERO,
    FROM_ZERO_BY_NAME,
    PERHAPS_BY_FRACTIONS,
    PERHAPS_BY_ZERO,
)
from detkit.errors import ConfigError
from tests.oracles import voc_xml, write_image, write_voc

WIDTH, HEIGHT = 80, 60
ZERO_BASED = [(0, 0, 80, 60), (0, 5, 20, 30), (9, 0, 30, 20)]  # of an image of 80 x 60


def read(root: Path, split: str = "trainval", **keys: object) -> Annotations:
    return read_dataset({"format": "voc", "root": str(root), "split": split, **keys})


def folder(root: Path, *pages: list[tuple[float, ...]]) -> Path:
    xml = {f"{n}": voc_xml([("cat", c) for c in page]) for n, page in enumerate(pages)}  # type: ignore[misc]
    return write_voc(root, xml)


def told(data: Annotations) -> dict[str, int]:
    kinds = (FROM_ZERO, FROM_ZERO_BY_NAME, PERHAPS_BY_ZERO, PERHAPS_BY_FRACTIONS)
    return {kind: n for kind, n in data.report.counts.items() if kind in kinds and n}


def test_sound_files_lowered_by_one_are_read_as_they_stand(tmp_path: Path) -> None:
    data = read(folder(tmp_path, ZERO_BASED, [(3, 4, 50, 20)]))
    assert data.boxes.tolist() == [*map(list, ZERO_BASED), [3, 4, 50, 20]]
    assert summary(data) == (
        "2 images (0 without objects), 4 objects of 1 classes, 4 boxes counted from zero (some "
        "begin at 0, none ends beyond its image; data.origin=1 counts from one)"
    )


def test_the_key_decides(tmp_path: Path) -> None:
    root = folder(tmp_path, ZERO_BASED)
    as_one = [[0, 0, 80, 60], [0, 4, 20, 30], [8, 0, 30, 20]]
    assert read(root, origin=0).boxes.tolist() == [*map(list, ZERO_BASED)]
    assert read(root, origin=1).boxes.tolist() == as_one
    assert read(root, origin="auto").boxes.tolist() == [*map(list, ZERO_BASED)]
    assert told(read(root, origin=0)) == told(read(root, origin=1)) == {}
    with pytest.raises(ConfigError):
        read(root, origin=2)


@pytest.mark.parametrize(
    ("pages", "kind"),
    [
        ([[(0, 0, 80, 60)]], PERHAPS_BY_ZERO),  # one box may be a slip
        ([ZERO_BASED, [(5, 5, 81, 20)]], PERHAPS_BY_ZERO),  # beyond the image
        ([ZERO_BASED, [(-1, 5, 20, 20)]], PERHAPS_BY_ZERO),
        ([[(0, 5, 20, 30), (9, 0, 30, 20)]], PERHAPS_BY_ZERO),  # never at the far edge
        ([[(1, 1, 80, 60), (1, 9, 9, 60)], [(0, 5, 20, 30), (4, 0, 9, 9)]], PERHAPS_BY_ZERO),
        ([[(3.25, 4.5, 20.75, 30.1), (9.5, 9, 20, 20.5)]], PERHAPS_BY_FRACTIONS),
        ([[(1, 4.5, 20.75, 30.1), (9.5, 9, 20, 20.5)]], None),  # 1 exactly: the first pixel
        ([[(3.25, 4.5, 20.75, 30.1), (9, 9, 20, 20)]], None),  # VOC 2011 has some
        ([[(1, 1, 80, 60), (1, 9, 9, 60)]], None),
        ([[(3, 4, 9, 9), (5, 5, 9, 9)]], None),
        ([[]], None),
    ],
)
def test_doubtful_signs_are_said_and_shift_nothing(
    tmp_path: Path, pages: list[list[tuple[float, ...]]], kind: str | None
) -> None:
    data = read(folder(tmp_path, *pages))
    corners = [c for page in pages for c in page]
    assert told(data) == ({kind: len(corners)} if kind else {})
    low = np.maximum(np.array(corners).reshape(-1, 4)[:, :2] - 1, 0)
    np.testing.assert_allclose(data.boxes[:, :2], low, rtol=1e-6)


def test_fractions_from_zero(tmp_path: Path) -> None:
    """As CVAT writes them: 0.0 to 80.0."""
    boxes = [(0.0, 0.0, 80.0, 60.0), (0.0, 7.25, 30.5, 41.75), (1.5, 2.5, 30.5, 60.0)]
    data = read(folder(tmp_path, boxes))
    assert data.boxes.tolist() == [*map(list, boxes)]
    assert told(data) == {FROM_ZERO: 3}


def test_all_splits_of_a_list_count_alike(tmp_path: Path) -> None:
    root = folder(tmp_path, ZERO_BASED, [(3, 4, 50, 20)])
    for split, ids in (("train", "0\n"), ("val", "1\n")):
        (root / "ImageSets" / "Main" / f"{split}.txt").write_text(ids)
    assert read(root, "val").boxes.tolist() == [[3, 4, 50, 20]]
    assert told(read(root, "val")) == {FROM_ZERO: 1}
    (root / "Annotations" / "broken.xml").write_text("<annotation>")  # of no split
    assert read(root, "val").boxes.tolist() == [[3, 4, 50, 20]]


@pytest.mark.parametrize(
    ("annotations", "images"),
    [("{}", "{}"), ("{}/annots", "{}/images"), ("annots/{}", "images/{}"), ("annots/{}", "images")],
)
def test_all_folders_of_splits_count_alike(tmp_path: Path, annotations: str, images: str) -> None:
    for split, boxes in (("train", ZERO_BASED), ("valid", [(3, 4, 50, 20)])):
        path = tmp_path / annotations.format(split) / f"{split}.xml"
        path.parent.mkdir(parents=True)
        path.write_text(voc_xml([("cat", c) for c in boxes]))
        write_image(tmp_path / images.format(split) / f"{split}.jpg")
    assert read(tmp_path, "valid").boxes.tolist() == [[3, 4, 50, 20]]
    if "/" in annotations.partition("{}")[2]:
        named = {"annotations": "{split}/annots", "images": "{split}/images"}
        assert read(tmp_path, "valid", **named).boxes.tolist() == [[3, 4, 50, 20]]


def test_boxes_of_no_width_from_zero(tmp_path: Path) -> None:
    root = folder(tmp_path, [(5, 5, 5, 20), (5, 5, 5.5, 20)])
    data = read(root, origin=0)
    assert data.boxes.tolist() == [[5, 5, 5.5, 20]]
    assert data.report.counts["inverted boxes dropped"] == 1
    assert len(read(root, origin=1).boxes) == 2


def test_label_studios_files_count_from_zero(tmp_path: Path) -> None:
    """By its name in them: its truncated corners seldom reach the far edge."""
    root = folder(tmp_path, [(10, 20, 49, 59)], [(3, 4, 50, 20)])
    before = read(root)
    assert (before.boxes[0].tolist(), told(before)) == ([9, 19, 49, 59], {})
    paths = sorted((root / "Annotations").iterdir())
    for path, boxes in zip(paths, ([[9, 19, 49, 59]], [[10, 20, 49, 59]]), strict=True):
        owner = "<owner><flickrid>NULL</flickrid><name>Label Studio</name></owner>"
        path.write_text(path.read_text().replace("<size>", f"{owner}<size>"))
        assert read(root).boxes[:1].tolist() == boxes  # all of them must say so
    assert told(read(root)) == {FROM_ZERO_BY_NAME: 2}
    assert read(root, origin=1).boxes[0].tolist() == [9, 19, 49, 59]


def test_what_detkit_writes_counts_from_one(tmp_path: Path) -> None:
    """Whatever its boxes look like: fractions throughout, none at an edge."""
    boxes = [(4.25, 5.5, 20.75, 30.25), (9.5, 9.75, 20.25, 20.5)]
    source = folder(tmp_path / "from", boxes)
    entry = {"format": "voc", "root": str(source), "split": "trainval", "origin": 0}
    convert({"trainval": read_dataset(entry)}, "voc", tmp_path / "to")
    data = read(tmp_path / "to")
    assert data.boxes.tolist() == [*map(list, boxes)]
    assert told(data) == {}


def test_the_key_goes_with_auto_and_the_command_line(tmp_path: Path) -> None:
    from detkit.experiment.entries import split_overrides

    root = folder(tmp_path / "d", ZERO_BASED, ZERO_BASED)
    overrides, rest = split_overrides([f"data.root={root}", "data.format=auto", "data.origin=0"])
    assert (overrides["origin"], rest) == (0, [])
    entries, _ = resolve({"train": [overrides]})
    assert [entry["origin"] for entry in entries["train"] + entries["eval"]] == [0, 0]
    data = read_dataset({"format": "auto", "root": str(root), "split": "trainval", "origin": 1})
    assert data.boxes[1].tolist() == [0, 4, 20, 30]
    write_image(tmp_path / "csv" / "a.jpg")
    (tmp_path / "csv" / "train.csv").write_text("a.jpg,1,1,9,9,cat\n")
    with pytest.raises(ConfigError) as caught:
        read_dataset({"format": "auto", "root": str(tmp_path / "csv"), "split": "", "origin": 0})
    assert str(caught.value) == "data.origin: does not go with CSV. Leave it out."


@pytest.mark.data
def test_real_files_count_from_one(data_root: Path) -> None:
    """Blood cells and animals: hundreds begin at 1, none at 0, and many end at the width."""
    for entry in (("bccd", "trainval", 1), ("kangaroo", "all", 1)):
        root, split, origin = entry
        data = read(data_root / root, split)
        assert told(data) == {}
        assert data.boxes.tolist() == read(data_root / root, split, origin=origin).boxes.tolist()
