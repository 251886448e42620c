"""Synonyms of the official lists in each format: the same labels as with the names of the model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from detkit.data import Annotations, read_dataset, summary
from detkit.errors import DataError
from tests.data.formats import write_coco, write_csv, write_yolo
from tests.oracles import voc_xml, write_voc

COCO = ("cat", "couch", "motorcycle", "traffic light")  # what the model calls them
PAGES = {  # what the data does
    "a": voc_xml([("sofa", (1, 1, 40, 30)), ("cat", (30, 20, 80, 60))]),
    "b": voc_xml([("Traffic_Light", (11, 21, 30, 50)), ("sofa", (1, 1, 20, 20))]),
}


def voc(folder: Path, pages: dict[str, str] = PAGES) -> dict[str, str]:
    write_voc(folder, pages)
    return {"format": "voc", "root": str(folder), "split": "trainval"}


def written(write: Callable[[Path, Annotations, str], None], name: str, folder: Path) -> dict:
    write(folder / name, read_dataset(voc(folder / "voc")), "mini")
    return {"format": name, "root": str(folder / name), "split": "mini"}


def entry_of(name: str, folder: Path) -> dict[str, str]:
    if name == "voc":
        return voc(folder / "voc")
    writers = {"coco": write_coco, "yolo": write_yolo, "csv": write_csv}
    return written(writers[name], name, folder)


@pytest.mark.parametrize("name", ["voc", "coco", "yolo", "csv"])
def test_labels_are_those_of_the_classes_asked_for(name: str, tmp_path: Path) -> None:
    data = read_dataset(entry_of(name, tmp_path), COCO)
    assert data.class_names == COCO
    assert data.labels.tolist() == [1, 0, 3, 1]  # sofa, cat, Traffic_Light, sofa
    assert dict(data.report.read_as) == {"Traffic_Light": "traffic light", "sofa": "couch"}

    assert summary(data).count("read as one class: ") == 1
    own = read_dataset(entry_of(name, tmp_path / "own"))
    assert set(own.class_names) == {"Traffic_Light", "cat", "sofa"}  # nobody asked: as they stand
    assert "read as" not in summary(own)


def test_category_numbers_follow_the_synonyms(tmp_path: Path) -> None:
    entry = entry_of("coco", tmp_path)  # Traffic_Light 30, cat 20, sofa 10
    data = read_dataset(entry, ("couch", "cat", "traffic light"))
    assert data.category_ids is not None
    assert data.category_ids.tolist() == [10, 20, 30]
    assert read_dataset(entry, COCO).category_ids is None  # motorcycle has none


def test_two_classes_of_the_data_do_not_become_one(tmp_path: Path) -> None:
    """Though no file has both: they are the data's own."""
    pages = {"a": voc_xml([("sofa", (1, 1, 9, 9))]), "b": voc_xml([("couch", (1, 1, 9, 9))])}
    entry = voc(tmp_path / "voc", pages)
    with pytest.raises(DataError) as caught:
        read_dataset(entry, ("cat", "couch"))
    assert str(caught.value) == (
        f"{tmp_path}/voc/Annotations/a.xml: class 'sofa' is not in data.classes. data.classes has "
        "2: cat, couch; the data has 2: sofa, couch. Name all of them, or none, which takes the "
        "data's. Or leave the objects of other classes out: 'data.only=[cat, couch]'."
    )
    assert read_dataset(entry, ("couch", "sofa")).labels.tolist() == [1, 0]
