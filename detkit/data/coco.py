"""COCO JSON: ``annotations/instances_<split>.json`` and the images in ``<split>/``.

Reads the official files and other layouts: ``<split>/_annotations.coco.json`` as Roboflow exports
it, ``annotations/<split>.json``, ``<split>.json``; anything else with the keys ``annotations`` and
``images`` of the entry. Boxes are ``[x, y, width, height]``, zero-based and continuous, so
``(x, y, x + width, y + height)`` is the house's box and nothing is ever added.

Labels are in the order of the category ids, which are kept (``Annotations.category_ids``), as are
crowds, areas and outlines (polygons and RLE). Categories without objects stay; name
``data.classes`` to leave them out. Training leaves crowds out; evaluation knows them. An object
with ``"ignore": 1``, as PASCAL VOC in this format has it, is difficult.

What becomes of bad data (the rest is in the table of ``detkit/data/settle.py``):

=========================================  ====================================================
an image without annotations               kept, as a negative
an annotation of an image not listed       dropped, counted (``NO_IMAGE``), as pycocotools does
no bbox, but polygons                      the box around them, counted (``FROM_POLYGONS``)
a bbox that is no four numbers             dropped as a box without numbers, counted
an annotation id that stands twice         both kept, counted (``REPEATED``)
no area, or one that no object has         the box's
an outline that is no list and no RLE      left out
a category id, category name or image id   refused, naming it (whose label would it be?)
that stands twice
an annotation of an unknown category       refused, naming it
a list, an id or a name that is missing    refused, naming its place in the file
a file name that leaves the folder         refused; sub-folders are allowed
=========================================  ====================================================
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detkit.data.base import DATASETS, Annotations, DatasetFormat
from detkit.data.coco_file import load_blocks
from detkit.data.coco_images import CocoImage, read_images
from detkit.data.coco_layout import CocoConfig, find_annotations, find_folder, places_below_root
from detkit.data.coco_names import read_categories
from detkit.data.coco_values import (
    read_box,
    read_number,
    read_outline,
    read_polygons,
    read_whole,
    wrong_value,
)
from detkit.data.labelling import Labels
from detkit.data.settle import Draft, settle
from detkit.errors import DataError
from detkit.image import MAX_PIXELS

NO_IMAGE = "objects of images that are not listed dropped"
FROM_POLYGONS = "boxes made from polygons"
REPEATED = "repeated annotation ids"


def read_coco(config: CocoConfig, classes: Sequence[str] = ()) -> Annotations:
    """Read one COCO file.

    Args:
        config: where, and which split.
        classes: the classes to expect, in the order of their labels; empty: all categories, in
            the order of their ids.

    Raises:
        ConfigError: keys that contradict each other.
        DataError: data that is missing or is refused, as the table of this module says.
    """
    config = places_below_root(config)
    path = find_annotations(config)
    blocks = load_blocks(path)
    number_of = read_categories(path, blocks["categories"])
    images = read_images(path, blocks["images"])
    rows = _rows(path, blocks["annotations"], images, set(number_of.values()))
    used = set(rows.categories)
    names = tuple(classes) or tuple(number_of)
    labels = Labels.of(list(number_of), names)
    label_of_number = {
        number: labels.find(name, str(path)) for name, number in number_of.items() if number in used
    }
    order = np.argsort(np.array(rows.images, dtype=np.int64), kind="stable")  # [T]
    folder = find_folder(config, path, [image.file_name for image in images.values()])
    draft = Draft(
        source=path,
        class_names=names,
        image_ids=[str(number) for number in images],
        paths=[folder / image.file_name for image in images.values()],
        sizes=[image.size for image in images.values()],
        counts=np.bincount(np.array(rows.images, dtype=np.int64), minlength=len(images)).tolist(),
        boxes=np.array(rows.boxes, dtype=np.float64).reshape(-1, 4)[order],
        labels=[label_of_number[rows.categories[row]] for row in order.tolist()],
        difficult=[rows.difficult[row] for row in order.tolist()],
        crowd=[rows.crowds[row] for row in order.tolist()],
        area=np.array(rows.areas, dtype=np.float64)[order],
        segments=[rows.segments[row] for row in order.tolist()] if any(rows.segments) else (),
        category_ids=_category_ids(labels, number_of),
        noted=rows.noted,
        read_as=labels.read_as,
    )
    return settle(draft, config.max_unreadable)


DATASETS.register("coco")(DatasetFormat(CocoConfig, read_coco))


# ------------------------------------------------------------------------- what the JSON says


@dataclass(frozen=True, slots=True)
class _Rows:
    """Objects in the order of the file, one list a field."""

    images: list[int] = field(default_factory=list)  # index of the image
    categories: list[int] = field(default_factory=list)
    boxes: list[tuple[float, ...]] = field(default_factory=list)  # x1, y1, x2, y2
    difficult: list[bool] = field(default_factory=list)
    crowds: list[bool] = field(default_factory=list)
    areas: list[float] = field(default_factory=list)  # NaN: the box's
    segments: list[str] = field(default_factory=list)
    noted: dict[str, int | list[int]] = field(default_factory=dict)


def _rows(
    path: Path,
    block: Sequence[Mapping[str, Any]],
    images: Mapping[int, CocoImage],
    categories: set[int],
) -> _Rows:
    rows = _Rows()
    ids: set[int] = set()
    without_image = 0
    from_polygons: list[int] = []  # image of each
    repeated: list[int] = []
    for index, entry in enumerate(block):
        image, category = read_whole(entry.get("image_id")), read_whole(entry.get("category_id"))
        if image is None or category is None:
            key = "image_id" if image is None else "category_id"
            where = f"annotations[{index}].{key}"
            raise wrong_value(path, where, "a whole number", entry.get(key))
        if category not in categories:
            raise DataError(
                f"{path}: annotations[{index}] is of category {category}, which is not listed "
                "under categories. Add it there, or remove the annotation."
            )
        if image not in images:
            without_image += 1
            continue
        number = read_whole(entry.get("id"))
        if number in ids:
            repeated.append(images[image].index)
        if number is not None:
            ids.add(number)
        box = read_box(entry.get("bbox"))
        if not entry.get("bbox") and isinstance(entry.get("segmentation"), list):
            box = read_polygons(entry["segmentation"])
            if not math.isnan(box[0]):
                from_polygons.append(images[image].index)
        area = read_number(entry.get("area"))
        rows.images.append(images[image].index)
        rows.categories.append(category)
        rows.boxes.append(box)
        rows.difficult.append(entry.get("ignore") == 1)
        rows.crowds.append(entry.get("iscrowd") == 1)
        rows.areas.append(area if 0 < area <= MAX_PIXELS else math.nan)
        rows.segments.append(read_outline(entry.get("segmentation")))
    rows.noted.update({NO_IMAGE: without_image, FROM_POLYGONS: from_polygons, REPEATED: repeated})
    return rows


def _category_ids(labels: Labels, number_of: Mapping[str, int]) -> NDArray[np.int64] | None:
    """``[K]`` the file's numbers of the classes; None where it has not all of them."""
    number_of_label = {label: number_of[name] for name, label in labels.numbers.items()}
    if len(number_of_label) < len(labels.classes):
        return None
    return np.array([number_of_label[k] for k in range(len(labels.classes))], dtype=np.int64)
