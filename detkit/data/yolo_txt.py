"""YOLO text: an image beside a ``.txt`` of the same name, one line ``class cx cy w h`` an object.

Class numbers count from zero. Centre, width and height are shares of the image's own, continuous
and zero-based, so ``(cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2)`` times width and height is
the house's box. Rows may have more values (``yolo_rows.py``).

Layouts: ``images/<split>`` with ``labels/<split>``; ``<split>/images`` with ``<split>/labels``; a
list ``<split>.txt`` of images; the paths of ``data.yaml`` or darknet's ``obj.data``; without splits
``images`` with ``labels``, or all in one folder. Names: the entry's ``names``, ``data.yaml``,
``obj.data``, ``classes.txt`` and its like (``yolo_described.py``); else the numbers are named in
the order of ``data.classes``, and without these they are called ``class_00``, ``class_01``, ...

What becomes of bad data (the rest is in the tables of ``yolo_labels.py``, which finds the files,
``yolo_rows.py`` and ``settle.py``):

=========================================  ====================================================
a label file empty                         the image is kept, as a negative
all label files of a split missing         refused: they lie elsewhere
an edge off the image by a rounding error  put on the image's edge
numbers in pixels                          refused, where many files have them
a file that is no text                     refused
a path that leaves the folder              not followed in ``data.yaml`` and ``obj.data``; lists
                                           of images have a table in ``yolo_lists.py``
=========================================  ====================================================
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detkit.data.base import Annotations
from detkit.data.formats.base import DatasetConfig
from detkit.data.image_index import BY_END
from detkit.data.labelling import Labels
from detkit.data.listing import short_ids
from detkit.data.settle import Draft, settle
from detkit.data.yolo_labels import count_lost, find_labels, places_of
from detkit.data.yolo_layout import list_split, open_folder
from detkit.data.yolo_names import number_names
from detkit.data.yolo_rows import Rows, read_labels
from detkit.errors import DataError

REPEATED_IMAGES = "repeated images read once"
BY_ORDER = "classes named by number, in the order of data.classes"
NAMELESS = "classes without names, called class_00, class_01, ... (name them in a data.yaml)"

ROUNDING = 1e-5  # of the image; what six digits take from an edge, with some room
FAR = 2.0  # an edge this many images away from the first is no slip: it is in pixels
PIXEL_SHARE = 0.1  # of the files with objects; more of them in pixels are refused
CALLED_DIGITS = 2  # at least, so that two folders of up to a hundred classes agree
_CALLED = re.compile(r"class_(\d+)")


class YoloConfig(DatasetConfig):
    """``split`` as in ``images/<split>`` or a key of ``data.yaml``; none: the folder has none."""

    split: str = ""
    names: tuple[str, ...] = ()  # by class number; empty: as the folder says
    # a data.yaml, an obj.data or a list of names, below root; empty: the usual ones
    names_file: str = ""
    # what rows of more than 5 values are: boxes, whose other values are passed over, or polygons;
    # auto: as data.yaml's kpt_shape says, else as all rows of the split together show
    rows: Rows = "auto"


def read_yolo(config: YoloConfig, classes: Sequence[str] = ()) -> Annotations:
    """Read one split of a YOLO folder.

    Args:
        config: where, and which split.
        classes: the classes to expect, in the order of their labels; empty: the folder's, in the
            order of their numbers.

    Raises:
        DataError: data that is missing or is refused, as the table of this module says.
    """
    root, described = open_folder(config.root, config.names_file)
    if config.names:
        described = replace(described, source=None, names=number_names(config.names, "data.names"))
    listing = list_split(root, config.split, described, config.max_unreadable)
    source, images = listing.source, list(dict.fromkeys(listing.images))
    names, kind = _name_numbers(described.names, classes)
    found = find_labels(root, images)
    if not any(found.files):
        raise DataError(
            f"{root / images[0]}: has no labels, nor has any of the {len(images)} images; looked "
            f"for {root / places_of(images[0])[0]} and beside the image. An image without objects "
            "has an empty file."
        )
    lost = count_lost(root, listing.folders, images, found.files, config.max_unreadable)
    files = [root / file if file else None for file in found.files]
    rows = read_labels(files, described, names, config.rows)
    rows.noted[BY_END] = [index for index, name in enumerate(images) if name in listing.by_end]
    rows.noted.update({**listing.noted, **found.noted, **lost})
    rows.noted[REPEATED_IMAGES] = len(listing.images) - len(images)
    if not names:
        names = _called(max(rows.numbers, default=-1) + 1)
    if kind:
        rows.noted[kind] = len(names)
    class_names = tuple(classes) or tuple(names.values())
    used = [names[number] for number in sorted(set(rows.numbers))]
    labels = Labels.of(list(names.values()), class_names)
    label_of = {name: labels.find(name, str(source)) for name in used}
    boxes = np.array(rows.boxes, dtype=np.float64).reshape(-1, 4)
    _refuse_pixels(source, boxes, rows.counts, [root / name for name in images])
    draft = Draft(
        source=source,
        class_names=class_names,
        image_ids=short_ids(images),
        paths=[root / name for name in images],
        sizes=(),
        counts=rows.counts,
        boxes=_without_rounding(boxes),
        labels=[label_of[names[number]] for number in rows.numbers],
        relative=True,
        noted=rows.noted,
        read_as=labels.read_as,
    )
    return settle(draft, config.max_unreadable, look=config.looks_at_images)


def _name_numbers(
    described: Mapping[int, str], classes: Sequence[str]
) -> tuple[dict[int, str], str]:
    """Names by class number, and what to note of their origin; no names: as the labels need."""
    if described:
        return dict(described), ""
    if not classes:
        return {}, NAMELESS
    called = [_CALLED.fullmatch(name) for name in classes]
    if all(called):
        return {int(match[1]): match[0] for match in called if match}, NAMELESS
    return dict(enumerate(classes)), BY_ORDER


def _called(count: int) -> dict[int, str]:
    """What classes without names are called; the digits keep their order when sorted."""
    digits = max(CALLED_DIGITS, len(str(count - 1)))
    return {number: f"class_{number:0{digits}d}" for number in range(count)}


def _refuse_pixels(
    source: Path, boxes: NDArray[np.float64], counts: Sequence[int], paths: Sequence[Path]
) -> None:
    image_of_row = np.repeat(np.arange(len(counts)), counts)
    in_pixels = np.unique(image_of_row[(np.nan_to_num(boxes, nan=0.0) > FAR).any(axis=1)])
    with_objects = int(np.count_nonzero(counts))
    if len(in_pixels) > PIXEL_SHARE * with_objects:
        raise DataError(
            f"{source}: the labels of {len(in_pixels)} of {with_objects} images reach beyond "
            f"{FAR:g} image sizes, first those of {paths[int(in_pixels[0])].name}; they seem to be "
            "in pixels. Divide them by the image's width and height."
        )


def _without_rounding(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Put edges that stand off the image by a rounding error on its edge."""
    edges = np.clip(boxes, 0.0, 1.0)
    return np.where(np.abs(boxes - edges) <= ROUNDING, edges, boxes)
