"""COCO's figures where ids are no plain numbers: those of pycocotools on the same two files."""

from __future__ import annotations

import contextlib
import io
import json
from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest

from detkit.data import read_dataset
from detkit.evaluation.coco_map import coco_map
from detkit.evaluation.results import read_detections
from tests.oracles import write_image


@pytest.mark.parametrize(
    ("ids", "names"),
    [
        ([1, 2, 3], ["0.png", "0.png", "1.png"]),  # one picture under two ids
        (["1", "2", "3"], ["0.png", "1.png", "2.png"]),
        (["2007_000027", "2007_000032", "x"], ["0.png", "1.png", "2.png"]),
        (["x", "2007_000032", "b"], ["0.png", "1.png", "2.png"]),  # which rank by the alphabet
        ([30, 4, 5], ["0.png", "1.png", "2.png"]),
    ],
)
@pytest.mark.parametrize("step", [0.01, 0.0], ids=["ranked", "tied"])
def test_figures_are_pycocotools_own_by_the_ids_of_the_file(
    tmp_path: Path, ids: list[object], names: list[str], step: float
) -> None:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    generator = np.random.default_rng(0)
    boxes = [[int(x), int(y), 20, 15] for x, y in generator.integers(0, 40, (12, 2))]
    shifts = generator.integers(-4, 5, 12).tolist()
    content = {
        "images": [
            {"id": number, "file_name": name, "height": 60, "width": 80}
            for number, name in zip(ids, names, strict=True)
        ],
        "annotations": [
            {"id": n + 1, "image_id": ids[n % 3], "category_id": 5, "bbox": box, "area": 300,
             "iscrowd": 0}
            for n, box in enumerate(boxes)
        ],
        "categories": [{"id": 5, "name": "cat"}],
    }  # fmt: skip
    found = [
        {"image_id": ids[n % 3], "category_id": 5, "bbox": [x + shift, y, w, h],
         "score": 0.9 - n * step}
        for n, ((x, y, w, h), shift) in enumerate(zip(boxes, shifts, strict=True))
    ]  # fmt: skip
    truth, detections = tmp_path / "val.json", tmp_path / "found.json"
    truth.write_text(json.dumps(content))
    detections.write_text(json.dumps(found))
    for name in names:
        write_image(tmp_path / "images" / name)
    with contextlib.redirect_stdout(io.StringIO()):
        whole = COCO(truth)
        referee = COCOeval(whole, whole.loadRes(str(detections)), "bbox")
        referee.evaluate()
        referee.accumulate()
        referee.summarize()
    data = read_dataset({"format": "coco", "root": tmp_path, "split": "val"})
    figures = astuple(coco_map(read_detections(detections, data), data).figures)
    expected = [np.nan if value == -1 else value for value in referee.stats.tolist()]
    np.testing.assert_array_equal(figures, expected)
    assert 0.2 < figures[0] < 0.9
