"""Rarer endings of image files: known in every format of a dataset, and where detection looks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from detkit.data import Annotations, read_dataset
from detkit.image import read_image
from detkit.image_files import images_below
from detkit.sources import find_sources
from tests.data.formats import (
    objects,
    write_coco,
    write_createml,
    write_csv,
    write_cvat,
    write_labelme,
    write_yolo,
)
from tests.oracles import voc_xml, write_voc

# Each file's format, as Pillow calls it.
FILES = {
    **{"a.jfif": "JPEG", "b.jpe": "JPEG", "c.JIF": "JPEG", "d.mpo": "MPO", "e.JFIF": "JPEG"},
    **{"f.apng": "PNG", "g.pbm": "PPM", "h.pnm": "PPM", "i.jpg": "JPEG"},
}
WRITERS: dict[str, Callable[[Path, Annotations, str], None]] = {
    **{"coco": write_coco, "yolo": write_yolo, "csv": write_csv},
    **{"labelme": write_labelme, "createml": write_createml, "cvat": write_cvat},
}


def write_file(path: Path, kind: str) -> None:
    image = Image.new("1" if path.suffix == ".pbm" else "RGB", (80, 60), 1)
    image.save(path, format=kind)


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """VOC files of an image with each ending, without lists."""
    pages = {Path(name).stem: voc_xml([("cat", (1, 1, 9 + n, 30))]) for n, name in enumerate(FILES)}
    folder = write_voc(tmp_path / "voc", pages)
    (folder / "ImageSets" / "Main" / "trainval.txt").unlink()
    for path in (folder / "JPEGImages").iterdir():
        path.unlink()
    for name, kind in FILES.items():
        write_file(folder / "JPEGImages" / name, kind)
    return folder


def test_images_of_every_ending_are_found_and_read(tmp_path: Path) -> None:
    for name, kind in FILES.items():
        write_file(tmp_path / name, kind)
    assert sorted(images_below(tmp_path)) == sorted(FILES)
    assert [Path(source.name).name for source in find_sources([tmp_path])] == sorted(FILES)
    assert all(read_image(tmp_path / name).shape == (3, 60, 80) for name in FILES)


@pytest.mark.parametrize("name", ["voc", *WRITERS])
def test_datasets_find_images_of_every_ending(voc: Path, tmp_path: Path, name: str) -> None:
    data = read_dataset({"format": "voc", "root": voc, "split": "all"})
    assert [Path(path).name for path in data.paths] == list(FILES)
    root, split = voc, "all"
    if name != "voc":
        root, split = tmp_path / name, "train"
        root.mkdir()
        WRITERS[name](root, data, split)
    again = read_dataset({"format": "auto", "root": root, "split": split})
    assert sorted(Path(path).name for path in again.paths) == sorted(FILES)
    for index, path in enumerate(data.paths):
        place = [Path(other).name for other in again.paths].index(Path(path).name)
        assert objects(again, place) == objects(data, index)
