"""A format of one's own is one record: recognised, read, named, converted to and saved in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch

from detkit.cli import main
from detkit.data import DATASETS, Annotations, DatasetFormat, read_dataset
from detkit.data.detection_writers import save_formats, saving
from detkit.data.formats.base import (
    DatasetConfig,
    DatasetWriter,
    DetectionWriter,
    ImageDetections,
    Save,
    Split,
    looked_for,
)
from detkit.data.recognise import recognise
from detkit.data.writers import Page
from detkit.detections import Detections
from detkit.errors import ConfigError, DataError
from detkit.image import read_image
from tests.oracles import voc_xml, write_voc

# ------------------------------------------------------- the format: SPLIT.toy, a line an object


class ToyConfig(DatasetConfig):
    """Nothing of its own."""


def read_toy(config: ToyConfig, classes: Sequence[str]) -> Annotations:
    path = config.root / f"{config.split}.toy"
    rows = [line.split() for line in path.read_text().splitlines()]
    images = list(dict.fromkeys(row[0] for row in rows))
    objects = [row for row in rows if len(row) > 1]
    names = tuple(classes) or tuple(sorted({row[1] for row in objects}))
    boxes = np.array([row[2:] for row in objects], dtype=np.float32).reshape(-1, 4)
    none = np.zeros(len(objects), dtype=np.bool_)
    paths = [str(config.root / "pictures" / name) for name in images]
    return Annotations(
        class_names=names,
        image_ids=np.array([Path(name).stem for name in images]),
        paths=np.array(paths),
        sizes=np.array([read_image(path).shape[1:] for path in paths], dtype=np.int32),
        offsets=np.cumsum([0, *(sum(row[0] == name for row in objects) for name in images)]),
        boxes=boxes,
        labels=np.array([names.index(row[1]) for row in objects], dtype=np.int64),
        difficult=none,
        crowd=none,
        area=(boxes[:, 2:] - boxes[:, :2]).prod(axis=1).astype(np.float64),
    )


def find_toy(root: Path) -> list[Split]:
    files = sorted(root.glob("*.toy")) if root.is_dir() else []
    return [Split(path.stem, len(path.read_text().splitlines()), path.stem) for path in files]


def write_toy(folder: Path, page: Page) -> None:
    lines = []
    for image, name in enumerate(page.file_names):
        for row in page.rows(image):
            box = " ".join(f"{side:g}" for side in page.boxes[row])
            lines.append(f"{name} {page.data.class_names[page.data.labels[row]]} {box}\n")
    (folder / f"{page.split}.toy").write_text("".join(lines))


@contextmanager
def save_toy(
    folder: Path, names: tuple[str, ...], category_ids: Literal["coco"] | None
) -> Iterator[Save]:
    with (folder / "found.toy").open("w") as file:

        def add(one: ImageDetections) -> None:
            file.write(f"{one.file_name} {len(one.found)}\n")

        yield add


TOY = DatasetFormat(
    ToyConfig,
    read_toy,
    title="Toy lines",
    looked_for="SPLIT.toy",
    find=find_toy,
    writer=DatasetWriter(write_toy, images="pictures"),
    detections=DetectionWriter(save_toy, "found.toy"),
)

# --------------------------------------------------------------------------------- what it gets


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DATASETS, "_entries", dict(DATASETS.entries()))
    DATASETS.register("toy")(TOY)


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """Two images with a cat each."""
    page = voc_xml([("cat", (3, 5, 30, 40))])
    return write_voc(tmp_path / "voc", {"a": page, "b": page}, "train")


def test_convert_writes_it_and_auto_reads_it(
    toy: None, voc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "toys"
    assert main(["data", "convert", str(voc), "--to", "toy", "--out", str(folder)]) == 0
    assert f"format: toy, root: {folder}, split: train" in capsys.readouterr().out
    assert (folder / "train.toy").read_text() == "a.jpg cat 2 4 30 40\nb.jpg cat 2 4 30 40\n"
    assert sorted(path.name for path in (folder / "pictures").iterdir()) == ["a.jpg", "b.jpg"]
    found = recognise(folder)
    assert found.format == "toy"
    assert found.line().startswith(f"{folder}: Toy lines, splits train 2; ")
    expected = read_dataset({"format": "voc", "root": str(voc), "split": "train"})
    auto = read_dataset({"format": "auto", "root": str(folder), "split": "train"})
    assert auto.class_names == expected.class_names
    np.testing.assert_array_equal(auto.boxes, expected.boxes)
    back = tmp_path / "back"
    assert main(["data", "convert", str(folder), "--to", "coco", "--out", str(back)]) == 0
    assert recognise(back).format == "coco"


def test_detections_are_saved_in_it(toy: None, tmp_path: Path) -> None:
    boxes = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    found = Detections(boxes, torch.ones(1), torch.zeros(1, dtype=torch.int64), ("cat",))
    assert save_formats()["toy"].files == "found.toy"
    with saving("toy", tmp_path, ("cat",)) as save:
        save(ImageDetections("a", "x/a.jpg", (60, 80), found))
        save(ImageDetections("b", "x/b.jpg", (60, 80), found[:0]))
    assert (tmp_path / "found.toy").read_text() == "a.jpg 1\nb.jpg 0\n"


def test_messages_know_it(
    toy: None, voc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert looked_for().endswith(" and Toy lines (SPLIT.toy)")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match=r"Toy lines \(SPLIT.toy\)\.$"):
        recognise(empty)
    (voc / "train.toy").write_text("a.jpg\n")
    with pytest.raises(DataError) as caught:
        recognise(voc)
    assert "holds PASCAL VOC (splits train) and Toy lines (splits train). " in str(caught.value)
    assert "data.format=voc or data.format=toy" in str(caught.value)
    with pytest.raises(ConfigError, match=r"known: .*toy"):
        read_dataset({"root": str(voc)})
    for words in (["data", "convert", "x", "--to", "t", "--out", "y"],
                  ["detect", "x", "--save-format", "t"]):  # fmt: skip
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert ended.value.code == 2
        assert "'csv', 'toy')" in capsys.readouterr().err


def test_without_the_record_nobody_knows_it(voc: Path, tmp_path: Path) -> None:
    assert "toy" not in save_formats()
    assert "Toy" not in looked_for()
    assert [name for name, each in DATASETS.entries().items() if each.title] == [
        *("voc", "coco", "yolo", "csv", "via", "labelme", "createml", "cvat")
    ]
