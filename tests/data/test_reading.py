"""Reading an entry: what a folder of another format than the named one is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from detkit.data import read_dataset
from detkit.errors import DataError
from tests.conftest import voc_xml, write_voc


@pytest.mark.parametrize(
    ("named", "title"), [("coco", "COCO JSON"), ("yolo", "YOLO text"), ("csv", "CSV")]
)
def test_another_format_is_recognised(tiny_voc: Path, named: str, title: str) -> None:
    with pytest.raises(DataError) as caught:
        read_dataset({"format": named, "root": tiny_voc, "split": "trainval"})

    hint = f" It looks like PASCAL VOC, not {title}: set data.format=auto."
    assert str(caught.value).endswith(hint)
    assert len(read_dataset({"format": "auto", "root": tiny_voc, "split": "trainval"})) == 4


def test_the_named_format_with_a_mistake_in_it_gets_no_hint(tmp_path: Path) -> None:
    folder = write_voc(tmp_path / "voc", {"1": voc_xml([("cat", (1, 1, 20, 20))])})

    with pytest.raises(DataError, match=r"no such split file\. Known: trainval\.$"):
        read_dataset({"format": "voc", "root": folder, "split": "val"})


def test_a_folder_of_no_format_gets_no_hint(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"Check data\.split\.$"):
        read_dataset({"format": "yolo", "root": tmp_path, "split": "val"})
