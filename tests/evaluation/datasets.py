"""Small datasets in memory, for tests of what looks at data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from detkit.data import Annotations, Report
from tests.oracles import write_image

Object = tuple[str, tuple[float, float, float, float]]  # class, x1 y1 x2 y2


def annotate(
    folder: Path,
    images: Sequence[tuple[tuple[int, int], Sequence[Object]]],
    names: Sequence[str] = ("cat", "dog"),
    *,
    seed: int = 0,
    report: Report = Report(),
) -> Annotations:
    """Annotations of images of (height, width) with objects; the images are written as PNG."""
    objects = [entry for _, inside in images for entry in inside]
    paths = [folder / f"{index:03d}.png" for index in range(len(images))]
    for index, (path, (size, _)) in enumerate(zip(paths, images, strict=True)):
        write_image(path, size, seed=seed + index)
    boxes = np.array([box for _, box in objects], dtype=np.float32).reshape(-1, 4)
    return Annotations(
        class_names=tuple(names),
        image_ids=np.array([f"{folder.name}_{path.stem}" for path in paths]),
        paths=np.array([str(path) for path in paths]),
        sizes=np.array([size for size, _ in images], dtype=np.int32).reshape(-1, 2),
        offsets=np.cumsum([0, *(len(inside) for _, inside in images)]),
        boxes=boxes,
        labels=np.array([list(names).index(name) for name, _ in objects], dtype=np.int64),
        difficult=np.zeros(len(objects), dtype=np.bool_),
        crowd=np.zeros(len(objects), dtype=np.bool_),
        area=(boxes[:, 2:] - boxes[:, :2]).prod(axis=1),
        report=report,
    )
