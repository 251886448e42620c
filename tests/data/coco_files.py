"""A small COCO file to change: three images, three objects, three categories."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from detkit.data import Annotations, read_dataset
from detkit.errors import ConfigError, DataError
from tests.oracles import write_image

IMAGES = [
    {"id": 7, "file_name": "a.png", "height": 60, "width": 80},
    {"id": 3, "file_name": "deep/b.png", "height": 60, "width": 80},
    {"id": 5, "file_name": "c.png", "height": 60, "width": 80},
]
CATEGORIES = [{"id": 18, "name": "dog"}, {"id": 2, "name": "cat"}, {"id": 90, "name": "brush"}]
POLYGON = [[10, 10, 20, 10, 20, 20]]
RLE = {"size": [60, 80], "counts": "abc"}


def one(**keys: Any) -> dict[str, Any]:
    """An annotation: a dog in image 7."""
    return {"id": 1, "image_id": 7, "category_id": 18, "bbox": [10, 20, 30, 25.5]} | keys


ANNOTATIONS = [
    one(id=1, segmentation=POLYGON, area=50.5, iscrowd=0),
    one(id=2, image_id=5, category_id=2, bbox=[0, 0, 80, 60], segmentation=RLE, iscrowd=1),
    one(id=3, category_id=2, bbox=[1, 2, 3, 4]),
]


def write(root: Path, **blocks: Any) -> Path:
    content = {"images": IMAGES, "annotations": ANNOTATIONS, "categories": CATEGORIES, **blocks}
    path = root / "annotations" / "instances_mini.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))
    for image in IMAGES:
        write_image(root / "mini" / str(image["file_name"]))
    return path


def read(root: Path, classes: tuple[str, ...] = (), **keys: Any) -> Annotations:
    return read_dataset({"format": "coco", "root": str(root), "split": "mini", **keys}, classes)


def counts(data: Annotations) -> dict[str, int]:
    return {kind: count for kind, count in data.report.counts.items() if count}


def refusal(root: Path, **keys: Any) -> str:
    with pytest.raises((DataError, ConfigError)) as caught:
        read(root, **keys)
    return str(caught.value)
