"""Exports of Roboflow and CVAT are recognised, split by split, and read box by box."""

from __future__ import annotations

from pathlib import Path

import pytest

from detkit.data import read_dataset
from detkit.data.auto import resolve
from tests.data.exports import EXPORTS, IMAGES, Box, hashed

NO_NEGATIVES = ("roboflow_csv",)  # its table has no row of a picture without objects


def read(root: Path, use: str) -> dict[str, set[Box]]:
    """Class and box of every object that one use of the folder has, by the image's stem."""
    entries, _ = resolve({"train": [{"format": "auto", "root": str(root)}], "eval": []})
    found: dict[str, set[Box]] = {}
    for entry in entries[use]:
        data = read_dataset(entry)
        images = data.image_of_row()
        for stem in (Path(path).stem for path in data.paths.tolist()):
            found[stem] = set()
        for row, box in enumerate(data.boxes.tolist()):
            x1, y1, x2, y2 = map(round, box)
            assert box == pytest.approx([x1, y1, x2, y2], abs=1e-3)
            stem = Path(str(data.paths[images[row]])).stem
            found[stem].add((data.class_names[data.labels[row]], x1, y1, x2, y2))
    return found


@pytest.mark.parametrize("export", EXPORTS)
def test_an_export_is_read_as_it_was_drawn(export: str, tmp_path: Path) -> None:
    EXPORTS[export](tmp_path / "shapes")
    for use, split in (("train", "train"), ("eval", "valid")):
        name_of = hashed if export.startswith("roboflow") else str
        drawn = {name_of(stem): set(boxes) for stem, boxes in IMAGES[split].items()}
        if export in NO_NEGATIVES:
            drawn = {stem: boxes for stem, boxes in drawn.items() if boxes}
        assert read(tmp_path / "shapes", use) == drawn
