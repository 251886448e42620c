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

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detkit.data.base import (
    DATASETS,
    PLACE_KEYS,
    Annotations,
    DatasetConfig,
    DatasetFormat,
)
from detkit.data.coco_values import (
    read_box,
    read_number,
    read_outline,
    read_polygons,
    read_whole,
    wrong_value,
)
from detkit.data.labelling import Labels
from detkit.data.listing import contents, inner_path, is_class_name, read_text
from detkit.data.places import COUNTED, SPLIT, below_root
from detkit.data.settle import Draft, settle
from detkit.errors import ConfigError, DataError, shown
from detkit.files import leaves_folder
from detkit.image import MAX_PIXELS

NO_IMAGE = "objects of images that are not listed dropped"
FROM_POLYGONS = "boxes made from polygons"
REPEATED = "repeated annotation ids"

LAYOUTS = (  # where the JSON of a split lies below the root
    "annotations/instances_{split}.json",
    "{split}/_annotations.coco.json",
    "annotations/{split}.json",
    "{split}.json",
)
IMAGE_FOLDERS = ("{split}", "images/{split}", "images", "data", ".")  # or beside the JSON
PROBED_IMAGES = 5  # that are looked for in each of these folders


class CocoConfig(DatasetConfig):
    """``split`` is as in the JSON's name: ``train2017``; or the two keys say where things are."""

    split: str = ""
    annotations: str = ""  # the JSON, below root; {split} in it stands for the split
    images: str = ""  # the folder that file names begin at, below root; {split} as well


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
    config = _below_root(config)
    path = find_annotations(config)
    blocks = _load(path)
    number_of = _categories(path, blocks["categories"])
    images = _images(path, blocks["images"])
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


# -------------------------------------------------------------------------- where things lie


def _below_root(config: CocoConfig) -> CocoConfig:
    places = {key: below_root(config.root, getattr(config, key)) for key in PLACE_KEYS}
    return config.model_copy(update=places)


def find_annotations(config: CocoConfig) -> Path:
    """Return the JSON that an entry means; it is there.

    Raises:
        ConfigError: neither ``split`` nor ``annotations``, or both where one would do nothing.
        DataError: no such file, with what was looked for.
    """
    for key in ("split", "annotations", "images"):
        if leaves_folder(getattr(config, key)):
            raise ConfigError(
                f"data.{key}: {getattr(config, key)!r} leaves {config.root}. "
                + ("Write a name." if key == "split" else f"{COUNTED} Write one below it.")
            )
    if not config.split and not config.annotations:
        raise ConfigError(
            "data.split: missing; name the split, e.g. train2017 of instances_train2017.json, or "
            "give the file below data.root in the entry's key annotations."
        )
    if config.split and config.annotations and SPLIT not in config.annotations:
        raise ConfigError(
            f"data.annotations: {config.annotations!r} is one file, so split "
            f"{config.split!r} would do nothing. Leave split out, or write {SPLIT} in the name."
        )
    if not config.root.is_dir():
        raise DataError(
            f"{config.root}: no such folder. Expected annotations/instances_SPLIT.json and the "
            "images in SPLIT/; point to it with data.root=PATH."
        )
    layouts = (config.annotations,) if config.annotations else LAYOUTS
    looked = [layout.replace(SPLIT, config.split) for layout in layouts]
    for name in looked:
        if os.path.isfile(config.root / name):
            return config.root / name
    if config.annotations:
        raise DataError(
            f"data.annotations: {config.root / looked[0]} is no file; {contents(config.root)}. "
            f"{COUNTED}"
        )
    raise DataError(
        f"{config.root}: no {' or '.join(looked)}; {contents(config.root)}. "
        "Check data.split, or name the file in the entry's key annotations."
    )


def find_folder(config: CocoConfig, path: Path, names: Sequence[str]) -> Path:
    """Return the folder that file names begin at: the one named, or the first that has some."""
    if config.images:
        folder = config.root / config.images.replace(SPLIT, config.split)
        if not folder.is_dir():
            raise DataError(
                f"data.images: {folder} is no folder; {contents(config.root)}. {COUNTED}"
            )
        return folder
    folders = [config.root / name.replace(SPLIT, config.split) for name in IMAGE_FOLDERS]
    folders.insert(1, path.parent)
    for folder in folders:
        if any(os.path.isfile(folder / name) for name in names[:PROBED_IMAGES]):
            return folder
    return next((folder for folder in folders if folder.is_dir()), config.root)


# ------------------------------------------------------------------------- what the JSON says


@dataclass(frozen=True, slots=True)
class _Image:
    index: int  # among the images
    file_name: str
    size: tuple[int, int] | None  # height, width


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


def _load(path: Path) -> dict[str, list[Any]]:
    text = read_text(path)
    try:
        content = json.loads(text)
    except RecursionError:
        raise DataError(f"{path}: is nested too deep for a COCO file. Repair it.") from None
    except ValueError as problem:  # not JSON; a number of thousands of digits
        raise DataError(f"{path}: not readable as JSON ({problem}). Repair the file.") from None
    blocks = {}
    for name in ("images", "annotations", "categories"):
        block = content.get(name) if isinstance(content, dict) else None
        if not isinstance(block, list):
            raise DataError(f"{path}: has no list {name!r}. Is this a COCO file of instances?")
        for index, entry in enumerate(block):
            if not isinstance(entry, dict):
                raise wrong_value(path, f"{name}[{index}]", "a block of keys", entry)
        blocks[name] = block
    return blocks


def _categories(path: Path, block: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """The id of each category by its name, in the order of the ids."""
    name_of: dict[int, str] = {}
    for index, entry in enumerate(block):
        number, name = read_whole(entry.get("id")), entry.get("name")
        if number is None:
            raise wrong_value(path, f"categories[{index}].id", "a whole number", entry.get("id"))
        if not is_class_name(name):
            raise wrong_value(path, f"categories[{index}].name", "a name", name)
        if number in name_of:
            raise DataError(f"{path}: category id {number} stands twice. Number them apart.")
        if name in name_of.values():
            raise DataError(
                f"{path}: category {shown(name)} stands twice. Rename one, or merge them."
            )
        name_of[number] = name
    return {name_of[number]: number for number in sorted(name_of)}


def _images(path: Path, block: Sequence[Mapping[str, Any]]) -> dict[int, _Image]:
    images: dict[int, _Image] = {}
    for index, entry in enumerate(block):
        number = read_whole(entry.get("id"))
        if number is None:
            raise wrong_value(path, f"images[{index}].id", "a whole number", entry.get("id"))
        if number in images:
            raise DataError(f"{path}: image id {number} stands twice. Number the images apart.")
        file_name = inner_path(entry.get("file_name"))
        if file_name is None:
            where = f"images[{index}].file_name"
            raise wrong_value(path, where, "a file name inside the folder", entry.get("file_name"))
        height, width = read_whole(entry.get("height")), read_whole(entry.get("width"))
        size = (height, width) if height and width and min(height, width) > 0 else None
        images[number] = _Image(index, file_name, size)
    if not images:
        raise DataError(f"{path}: lists no images. Is this the right file?")
    return images


def _rows(
    path: Path,
    block: Sequence[Mapping[str, Any]],
    images: Mapping[int, _Image],
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
