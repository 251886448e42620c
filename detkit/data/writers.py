"""One writer a format: annotations as text that reads back to the same boxes.

Each number is written with the fewest decimals from which the reader makes the same one again, so
whole pixels stay whole numbers: the number of the source's files where that is known, in float64,
else the same float32. Boxes are those that are learned, clipped to the image.

======  =====================================================================================
voc     corners counted from 1, both inside: ``xmin = x1 + 1, ymin = y1 + 1, xmax = x2, ymax = y2``;
        a fraction is written with a point, as VOC 2011 itself has some
coco    ``[x1, y1, x2 - x1, y2 - y1]``, zero-based; difficult objects carry ``"ignore": 1``
yolo    centre, width and height as shares of the upright image, zero-based
csv     ``x1, y1, x2, y2`` as they are: zero-based, exclusive right and bottom edges
======  =====================================================================================

What a format cannot hold is counted in a ``Losses`` by the kinds below, never left out in silence.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
import yaml
from numpy.typing import NDArray

from detkit.data.base import Annotations
from detkit.data.box_texts import coco_texts, csv_texts, plain_texts, voc_texts, yolo_texts
from detkit.data.settle import ROUNDING
from detkit.data.stated import corners
from detkit.data.voc import ONE_PIXEL
from detkit.data.voc_list import FLAGGED
from detkit.data.voc_page import DETKIT

CROWD_AS_DIFFICULT = "crowd regions written as difficult objects"
CROWD_LEFT_OUT = "crowd regions left out"
DIFFICULT_LEFT_OUT = "difficult objects left out, as darknet's own conversion does"
OUTLINES = "outlines and their areas left out, the boxes stay"
TOO_THIN = "objects less than a pixel wide or high left out"
REPEATED = "objects with the class and box of another in the image left out"


@dataclass(frozen=True, slots=True, eq=False)
class Page:
    """One split on its way to a file."""

    split: str
    data: Annotations
    file_names: Sequence[str]  # [I] of the images in the new folder; their stems are unique
    numbers: Sequence[int]  # [I] COCO's ids of the images
    lost: dict[str, int] = field(default_factory=dict)  # kind -> what this format cannot hold

    def lose(self, kind: str, rows: NDArray[np.bool_]) -> None:
        """Count the objects of the ``[T]`` mask ``rows``."""
        self.lost[kind] = self.lost.get(kind, 0) + int(rows.sum())

    @property
    def boxes(self) -> NDArray[np.floating[Any]]:
        """``[T, 4]`` xyxy within the image: as the source states them, else in float32."""
        if self.data.stated is None:
            return self.data.boxes
        limits = np.tile(self.data.sizes[self.data.image_of_row()][:, ::-1], 2)
        return np.clip(corners(self.data.stated), 0, limits)

    def rows(self, image: int) -> range:
        """Rows of an image's objects."""
        return range(int(self.data.offsets[image]), int(self.data.offsets[image + 1]))


# -------------------------------------------------------------------------------- formats


def write_voc(folder: Path, page: Page) -> None:
    """Write ``Annotations/*.xml`` and ``ImageSets/Main/<split>.txt``."""
    data, boxes = page.data, page.boxes
    sides = boxes[:, 2:] - boxes[:, :2]
    thin = np.asarray((sides < ONE_PIXEL - ROUNDING).any(axis=1))
    page.lose(TOO_THIN, thin)
    page.lose(CROWD_AS_DIFFICULT, data.crowd & ~thin)
    page.lose(OUTLINES, _with_outline(data) & ~thin)
    texts = voc_texts(boxes)
    difficult = data.difficult | data.crowd
    (folder / "Annotations").mkdir(exist_ok=True)
    for image, name in enumerate(page.file_names):
        height, width = data.sizes[image].tolist()
        lines = [
            "<annotation>",
            f"\t<filename>{escape(name)}</filename>",
            f"\t<source><annotation>{DETKIT}</annotation></source>",
            f"\t<size><width>{width}</width><height>{height}</height><depth>3</depth></size>",
        ]
        for row in page.rows(image):
            if not thin[row]:
                label = escape(data.class_names[data.labels[row]])
                lines += _voc_object(label, texts[row], bool(difficult[row]))
        path = folder / "Annotations" / f"{_stem(name)}.xml"
        path.write_text("\n".join([*lines, "</annotation>", ""]), encoding="utf-8")
    sets = folder / "ImageSets" / "Main"
    sets.mkdir(parents=True, exist_ok=True)
    ids = [_stem(name) for name in page.file_names]
    if all(FLAGGED.fullmatch(image_id) for image_id in ids):  # would lose their endings as flags
        ids = [f"{image_id}  1" for image_id in ids]
    (sets / f"{page.split}.txt").write_text("".join(f"{i}\n" for i in ids), encoding="utf-8")


def _voc_object(name: str, corners: Sequence[str], difficult: bool) -> list[str]:
    xmin, ymin, xmax, ymax = corners
    return [
        f"\t<object>\n\t\t<name>{name}</name>\n\t\t<difficult>{int(difficult)}</difficult>",
        f"\t\t<bndbox><xmin>{xmin}</xmin><ymin>{ymin}</ymin>"
        f"<xmax>{xmax}</xmax><ymax>{ymax}</ymax></bndbox>\n\t</object>",
    ]


def write_coco(folder: Path, page: Page) -> None:
    """Write ``annotations/instances_<split>.json``, an object a line."""
    data = page.data
    ids = data.category_ids
    numbers = range(1, len(data.class_names) + 1) if ids is None else ids.tolist()
    categories = [
        {"id": number, "name": name} for number, name in zip(numbers, data.class_names, strict=True)
    ]
    images = [
        {"id": number, "file_name": name, "height": size[0], "width": size[1]}
        for number, name, size in zip(
            page.numbers, page.file_names, data.sizes.tolist(), strict=True
        )
    ]
    (folder / "annotations").mkdir(exist_ok=True)
    path = folder / "annotations" / f"instances_{page.split}.json"
    with path.open("w", encoding="utf-8") as file:
        for key, block in (("images", images), ("categories", categories)):
            entries = ",\n".join(json.dumps(entry, ensure_ascii=False) for entry in block)
            file.write(f'{"," if key != "images" else "{"}\n"{key}": [\n{entries}\n]')
        file.write(',\n"annotations": [\n')
        for row, entry in enumerate(_coco_objects(page, list(numbers))):
            file.write(f"{',' * bool(row)}\n{entry}")
        file.write("\n]}\n")


def _coco_objects(page: Page, category_ids: Sequence[int]) -> Iterator[str]:
    data = page.data
    texts = coco_texts(page.boxes, data.stated)
    areas = plain_texts(data.area)
    for image, number in enumerate(page.numbers):
        for row in page.rows(image):
            outline = data.segments[row] if data.segments is not None else ""
            ignored = ', "ignore": 1' * bool(data.difficult[row])
            yield (
                f'{{"id": {row + 1}, "image_id": {number}, '
                f'"category_id": {category_ids[data.labels[row]]}, '
                f'"bbox": [{", ".join(texts[row])}], "area": {areas[row]}, '
                f'"iscrowd": {int(data.crowd[row])}{ignored}, "segmentation": {outline or "[]"}}}'
            )


def write_yolo(folder: Path, page: Page) -> None:
    """Write ``labels/*.txt`` and the list ``<split>.txt``; :func:`write_yolo_names` adds names."""
    data = page.data
    page.lose(CROWD_LEFT_OUT, data.crowd)
    page.lose(DIFFICULT_LEFT_OUT, data.difficult & ~data.crowd)
    kept = ~(data.crowd | data.difficult)
    kept &= _first_of_its_kind(page, kept)
    page.lose(OUTLINES, _with_outline(data) & kept)
    texts = yolo_texts(page.boxes, data.sizes[data.image_of_row()])
    (folder / "labels").mkdir(exist_ok=True)
    for image, name in enumerate(page.file_names):
        rows = [row for row in page.rows(image) if kept[row]]
        lines = [f"{data.labels[row]} {' '.join(texts[row])}\n" for row in rows]
        (folder / "labels" / f"{_stem(name)}.txt").write_text("".join(lines), encoding="utf-8")
    listing = "".join(f"./images/{name}\n" for name in page.file_names)
    (folder / f"{page.split}.txt").write_text(listing, encoding="utf-8")


def write_yolo_names(folder: Path, class_names: Sequence[str], splits: Sequence[str]) -> None:
    """Write ``data.yaml``: class names by number, and lists for train, val and test."""
    listed: dict[str, str] = {}
    for key in ("train", "val", "test"):
        near = [key] if key in splits else [name for name in splits if name.startswith(key)]
        if near:
            listed[key] = f"{near[0]}.txt"
    content = {**listed, "nc": len(class_names), "names": dict(enumerate(class_names))}
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    (folder / "data.yaml").write_text(text, encoding="utf-8")


def write_csv(folder: Path, page: Page) -> None:
    """Write ``<split>.csv`` with a header; a column ``difficult`` where an object is."""
    data = page.data
    page.lose(CROWD_AS_DIFFICULT, data.crowd)
    kept = _first_of_its_kind(page, np.ones(len(data.boxes), dtype=np.bool_))
    page.lose(OUTLINES, _with_outline(data) & kept)
    texts = csv_texts(page.boxes)
    difficult = data.difficult | data.crowd
    header = ["path", "x1", "y1", "x2", "y2", "name"] + ["difficult"] * bool(difficult.any())
    with (folder / f"{page.split}.csv").open("w", encoding="utf-8", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(header)
        for image, name in enumerate(page.file_names):
            path = f"images/{name}"
            rows = [row for row in page.rows(image) if kept[row]]
            for row in rows:
                cells = [path, *texts[row], data.class_names[data.labels[row]]]
                out.writerow([*cells, int(difficult[row])][: len(header)])
            if not rows:
                out.writerow([path, *[""] * (len(header) - 1)])


def _stem(file_name: str) -> str:
    return file_name.rpartition(".")[0] or file_name


def _with_outline(data: Annotations) -> NDArray[np.bool_]:
    if data.segments is None:
        return np.zeros(len(data.boxes), dtype=np.bool_)
    return np.asarray(np.diff(data.segments.offsets) > 0)


def _first_of_its_kind(page: Page, kept: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """``[T]`` False for kept objects of which the image has the same already; they are counted."""
    data = page.data
    flags = data.difficult | data.crowd
    rows = np.column_stack([data.image_of_row(), data.labels, flags, page.boxes.astype(np.float64)])
    places = np.flatnonzero(kept)
    _, first = np.unique(rows[places], axis=0, return_index=True)
    unique = np.zeros(len(rows), dtype=np.bool_)
    unique[places[first]] = True
    page.lose(REPEATED, kept & ~unique)
    return unique | ~kept
