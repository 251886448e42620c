"""COCO JSON: ``annotations/instances_<split>.json`` and the images in ``<split>/``.

Reads the official files and those of exporters: ``<split>/_annotations.coco.json`` as Roboflow has
it, ``result.json`` as Label Studio, ``labels.json`` as FiftyOne, and what else ``coco_layout.py``
lists; anything else with the keys ``annotations`` and ``images`` of the entry. Boxes are ``[x, y,
width, height]``, zero-based and continuous, so ``(x, y, x + width, y + height)`` is the house's box
and nothing is ever added.

Labels are in the order of the category ids, which are kept (``Annotations.category_ids``), as are
crowds, areas and outlines (polygons and RLE). Categories without objects stay, less the roots that
``coco_names.py`` speaks of; name ``data.classes`` to leave them out. Training leaves crowds out;
evaluation knows them. An object with ``"ignore": 1``, as PASCAL VOC in this format has it, is
difficult; COCO's figures count it, as pycocotools does, which puts ``iscrowd`` in its place.

What becomes of bad data (of images' files: the table of ``coco_paths.py``; the rest is in that of
``settle.py``):

=========================================  ====================================================
an image without annotations               kept, as a negative
an annotation of an image not listed       dropped, counted (``NO_IMAGE``), as pycocotools does
one that names it by another kind of id    refused: text where all ids are numbers, or a number
no bbox, but polygons, or an RLE mask of   the box around them, counted (``FROM_POLYGONS``,
the image's size                           ``FROM_MASKS``)
a bbox that is no four numbers             dropped as a box without numbers, counted
numbers, 0, 1, false or true as text       read, counted by object (``AS_TEXT``)
``iscrowd``, ``ignore`` of another value   refused, naming its place
ids of digits as text                      read as numbers, on both sides; counted by entry
                                           (``IDS_AS_TEXT``)
other texts as ids                         ids of their own, ``2007_000027``; where a category
                                           has such, classes go by name (``category_ids`` None)
an annotation id that stands twice         both kept, counted (``REPEATED``)
one picture under two image ids            both kept, counted (``AGAIN``): joined, they would
                                           not be the images that pycocotools measures, and
                                           detections may name either
key points                                 left out, counted by object (``KEY_POINTS``)
boxes that are plainly corners             read as COCO's all the same, counted
                                           (``LIKE_CORNERS``): another format may be meant
no area, or one that is no number          the box's; any other is kept: 0 and less, which
                                           sizes of COCO's figures go by, are counted (``NO_AREA``)
an outline that is no list and no RLE      left out
a category id, category name or image id   refused, naming it (whose label would it be?), but
that stands twice                          for a root's name; 1, 1.0 and "1" are one id
an annotation of an unknown category       refused, naming it
a list, an id or a name that is missing    refused, naming its place in the file
panoptic, captions, stuff, results         refused, called what they are (``coco_file.py``)
=========================================  ====================================================
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detkit.data.base import Annotations
from detkit.data.coco_file import load_blocks
from detkit.data.coco_images import CocoImage, read_images
from detkit.data.coco_layout import CocoConfig, find_annotations, places_below_root
from detkit.data.coco_names import ROOTS, read_categories
from detkit.data.coco_paths import find_files
from detkit.data.coco_values import (
    Id,
    has_key_points,
    holds_text,
    is_number_as_text,
    read_box,
    read_flag,
    read_id,
    read_mask,
    read_number,
    read_outline,
    read_polygons,
    shown_id,
    wrong_value,
)
from detkit.data.counted import Counted
from detkit.data.labelling import Labels
from detkit.data.settle import Draft, settle
from detkit.errors import DataError

NO_IMAGE = "objects of images that are not listed dropped"
FROM_POLYGONS = "boxes made from polygons"
FROM_MASKS = "boxes made from masks"
REPEATED = "repeated annotation ids"
IDS_AS_TEXT = "ids written as text read as numbers"
AS_TEXT = "objects whose box, area or flags are written as text"
KEY_POINTS = "objects whose key points are left out"
LIKE_CORNERS = "boxes that leave their image but would fit as [x1, y1, x2, y2]"
FLAGS = ("ignore", "iscrowd")  # difficult, and a crowd
FEWEST, MANY = 10, 0.1  # boxes, and the share of them, that this is said of
NO_AREA = "objects whose stated area is 0 (small to COCO's figures) or less (none to them)"
NOTED = (
    FROM_POLYGONS,
    FROM_MASKS,
    REPEATED,
    AS_TEXT,
    KEY_POINTS,
    NO_AREA,
)  # of objects of known images


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
    categories = read_categories(
        path, blocks["categories"], _numbers_used(blocks["annotations"]), classes
    )
    number_of = categories.number_of
    images = read_images(path, blocks["images"])
    rows = _rows(path, blocks["annotations"], images.of_id, set(number_of.values()))
    used = set(rows.categories)
    names = tuple(classes) or tuple(number_of)
    labels = Labels.of(list(number_of), names)
    label_of_number = {
        number: labels.find(name, str(path)) for name, number in number_of.items() if number in used
    }
    order = np.argsort(np.array(rows.images, dtype=np.int64), kind="stable")  # [T]
    listed = list(images.of_id.values())
    paths, found = find_files(config, path, [image.file_name for image in listed])
    as_text = categories.as_text + images.as_text + rows.ids_as_text
    draft = Draft(
        source=path,
        class_names=names,
        image_ids=[image.image_id for image in listed],
        paths=paths,
        sizes=[image.size for image in listed],
        counts=np.bincount(np.array(rows.images, dtype=np.int64), minlength=len(listed)).tolist(),
        boxes=np.array(rows.boxes, dtype=np.float64).reshape(-1, 4)[order],
        labels=[label_of_number[rows.categories[row]] for row in order.tolist()],
        difficult=[rows.difficult[row] for row in order.tolist()],
        crowd=[rows.crowds[row] for row in order.tolist()],
        sides=np.array(rows.sides, dtype=np.float64).reshape(-1, 2)[order],
        area=np.array(rows.areas, dtype=np.float64)[order],
        segments=[rows.segments[row] for row in order.tolist()] if any(rows.segments) else (),
        category_ids=_category_ids(labels, number_of),
        noted={
            NO_IMAGE: Counted.of(f"annotations[{place}]" for place in rows.without_image),
            ROOTS: categories.roots,
            IDS_AS_TEXT: as_text,
            **rows.noted,
            LIKE_CORNERS: _like_corners(rows, [image.size for image in listed]),
            **found,
        },
        read_as=labels.read_as,
        is_coco=True,
    )
    return settle(draft, config.max_unreadable, look=config.looks_at_images)


# ------------------------------------------------------------------------- what the JSON says


@dataclass(slots=True)
class _Rows:
    """Objects in the order of the file, one list a field."""

    images: list[int] = field(default_factory=list)  # index of the image
    categories: list[Id] = field(default_factory=list)
    boxes: list[tuple[float, ...]] = field(default_factory=list)  # x1, y1, x2, y2
    sides: list[tuple[float, ...]] = field(default_factory=list)  # width, height as stated
    difficult: list[bool] = field(default_factory=list)
    crowds: list[bool] = field(default_factory=list)
    areas: list[float] = field(default_factory=list)  # NaN: the box's
    segments: list[str] = field(default_factory=list)
    without_image: list[int] = field(default_factory=list)  # places of annotations
    ids_as_text: int = 0
    noted: dict[str, list[int]] = field(  # kind -> image of each
        default_factory=lambda: {kind: [] for kind in NOTED}
    )

    def note(self, kind: str, image: int) -> None:
        """Count an object of an image."""
        self.noted[kind].append(image)


def _rows(
    path: Path,
    block: Sequence[Mapping[str, Any]],
    images: Mapping[Id, CocoImage],
    categories: Set[Id],
) -> _Rows:
    rows = _Rows()
    kinds_of_ids = {type(number) for number in images}
    ids: set[Id] = set()
    for index, entry in enumerate(block):
        where = f"annotations[{index}]"
        image, category = read_id(entry.get("image_id")), read_id(entry.get("category_id"))
        for key, read in (("image_id", image), ("category_id", category)):
            if read is None:
                raise wrong_value(path, f"{where}.{key}", "a whole number", entry.get(key))
            rows.ids_as_text += is_number_as_text(entry[key], read)
        assert image is not None
        assert category is not None
        if category not in categories:
            raise DataError(
                f"{path}: {where} is of category {shown_id(category)}, which is not listed under "
                "categories. Add it there, or remove the annotation."
            )
        if image not in images:
            if type(image) not in kinds_of_ids:  # what names no image in its way names none at all
                expected = "a text" if isinstance(image, int) else "a whole number"
                expected += ", as the ids of the images are"
                raise wrong_value(path, f"{where}.image_id", expected, entry["image_id"])
            rows.without_image.append(index)
            continue
        number = read_id(entry.get("id"))
        if number in ids:
            rows.note(REPEATED, images[image].index)
        if number is not None:
            ids.add(number)
        _add(rows, path, where, entry, images[image])
        rows.categories.append(category)
    return rows


def _add(rows: _Rows, path: Path, where: str, entry: Mapping[str, Any], image: CocoImage) -> None:
    """Add what an annotation says of its object, its category left out."""
    bbox, outline = entry.get("bbox"), entry.get("segmentation")
    box, kind = read_box(bbox), ""
    sides = tuple(map(read_number, bbox[2:])) if bbox and not math.isnan(box[0]) else ()
    if not bbox and isinstance(outline, list):
        box, kind = read_polygons(outline), FROM_POLYGONS
    elif not bbox and isinstance(outline, dict):
        box, kind = read_mask(outline, image.size), FROM_MASKS
    if kind and not math.isnan(box[0]):
        rows.note(kind, image.index)
    area = read_number(entry.get("area"))
    area = area if math.isfinite(area) else math.nan
    if area <= 0 and box[2] > box[0] and box[3] > box[1]:
        rows.note(NO_AREA, image.index)
    flags = [read_flag(entry.get(key)) for key in FLAGS]
    if None in flags:
        key = FLAGS[flags.index(None)]
        raise wrong_value(path, f"{where}.{key}", "0 or 1", entry[key])
    read_text = [holds_text(outline if kind else bbox) and not any(map(math.isnan, box))]
    read_text += [holds_text(entry.get("area")) and not math.isnan(area)]
    if any(read_text) or any(holds_text(entry.get(key)) for key in FLAGS):
        rows.note(AS_TEXT, image.index)
    if has_key_points(entry):
        rows.note(KEY_POINTS, image.index)
    rows.images.append(image.index)
    rows.boxes.append(box)
    rows.sides.append(sides or (box[2] - box[0], box[3] - box[1]))
    rows.difficult.append(bool(flags[0]))
    rows.crowds.append(bool(flags[1]))
    rows.areas.append(area)
    rows.segments.append(read_outline(outline))


def _like_corners(rows: _Rows, sizes: Sequence[tuple[int, int] | None]) -> list[int]:
    """The image of each box that leaves it, where ``[x1, y1, x2, y2]`` is plainly what was meant.

    That is where all boxes of a file, read so, are boxes within their images, and many leave them
    as ``[x, y, width, height]``.
    """
    known = [row for row, image in enumerate(rows.images) if sizes[image] is not None]
    if len(known) < FEWEST:
        return []
    boxes = np.array([rows.boxes[row] for row in known])
    low, high = boxes[:, :2], boxes[:, 2:]  # [T, 2] x, y
    limits = np.array([sizes[rows.images[row]] for row in known])[:, ::-1] + 1.0  # may be rounded
    with np.errstate(invalid="ignore"):  # infinity less infinity
        would_fit = ((high - low > low) & (high - low <= limits)).all()
    leaves = np.flatnonzero((high > limits).any(axis=1)).tolist()
    if not would_fit or len(leaves) < MANY * len(known):
        return []
    return [rows.images[known[place]] for place in leaves]


def _numbers_used(block: Sequence[Mapping[str, Any]]) -> set[Id]:
    numbers = (read_id(entry.get("category_id")) for entry in block)
    return {number for number in numbers if number is not None}


def _category_ids(labels: Labels, number_of: Mapping[str, Id]) -> NDArray[np.int64] | None:
    """``[K]`` the file's numbers of the classes; None where it has not all of them."""
    number_of_label = {label: number_of[name] for name, label in labels.numbers.items()}
    numbers = [number for number in number_of_label.values() if isinstance(number, int)]
    if len(numbers) < len(labels.classes):
        return None
    return np.array([number_of_label[k] for k in range(len(labels.classes))], dtype=np.int64)
