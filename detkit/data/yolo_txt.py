"""YOLO text: an image beside a ``.txt`` of the same name, one line ``class cx cy w h`` an object.

Class numbers count from zero. Centre, width and height are shares of the image's own, continuous
and zero-based, so ``(cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2)`` times width and height is
the house's box. Rows may have more values (``yolo_rows.py``).

Layouts: ``images/<split>`` with ``labels/<split>``; ``<split>/images`` with ``<split>/labels``; a
list ``<split>.txt`` of images; the paths of ``data.yaml``; without splits ``images`` with
``labels``, or all in one folder. Names: the entry's ``names``, ``data.yaml``, ``classes.txt``
(``detkit/data/yolo_names.py``); else the numbers are named in the order of ``data.classes``, and
without these they are called ``class_00``, ``class_01``, ...

What becomes of bad data (the rest is in the tables of ``yolo_rows.py`` and ``settle.py``):

=========================================  ====================================================
a label file missing or empty              the image is kept, as a negative
all label files of a split missing         refused: they lie elsewhere
an edge off the image by a rounding error  put on the image's edge
numbers in pixels                          refused, where many files have them
a file that is no text                     refused
a path that leaves the folder              refused in lists; not followed in ``data.yaml``
=========================================  ====================================================
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from detkit.data.base import DATASETS, Annotations, DatasetConfig, DatasetFormat
from detkit.data.labelling import Labels
from detkit.data.listing import (
    contents,
    find_images,
    inner_path,
    read_text,
    short_ids,
)
from detkit.data.settle import Draft, settle
from detkit.data.yolo_names import (
    YAML_ENDINGS,
    Described,
    describe,
    number_names,
)
from detkit.data.yolo_rows import LabelRows, Rows, read_labels
from detkit.errors import DataError, shown
from detkit.files import leaves_folder

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
    names_file: str = ""  # a data.yaml or a list of names, below root; empty: the usual ones
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
    source, listed = list_split(root, config.split, described)
    images = list(dict.fromkeys(listed))
    names, kind = _name_numbers(described.names, classes)
    rows = _read_labels(root, images, names, described, config.rows)
    rows.noted[REPEATED_IMAGES] = len(listed) - len(images)
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
    return settle(draft, config.max_unreadable)


DATASETS.register("yolo")(DatasetFormat(YoloConfig, read_yolo))


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


# -------------------------------------------------------------------------- where things lie


def open_folder(root: Path, names_file: str = "") -> tuple[Path, Described]:
    """The folder of a dataset and what it says of itself; ``root`` may be its ``data.yaml``.

    Raises:
        DataError: no such folder, or a file in it that cannot be read.
    """
    if leaves_folder(names_file):
        raise DataError(f"data.names_file: {names_file!r} leaves {root}. Write a path below it.")
    if root.suffix.lower() in YAML_ENDINGS and root.is_file():
        root, names_file = root.parent, root.name
    if not root.is_dir():
        raise DataError(
            f"{root}: no such folder. Expected images/SPLIT and labels/SPLIT, or SPLIT/images and "
            "SPLIT/labels; point to it with data.root=PATH."
        )
    return root, describe(root, names_file)


def list_split(root: Path, split: str, described: Described) -> tuple[Path, list[str]]:
    """What to name in an error, and the images of a split, relative to ``root``.

    Raises:
        DataError: there is no such split, or it holds no images.
    """
    if leaves_folder(split):
        raise DataError(f"data.split: {split!r} leaves {root}. Write the name of a split.")
    layouts = (f"images/{split}", f"{split}/images", split) if split else ("images", "")
    names = [*described.splits.get(split, ())]
    names = names or [name for name in layouts if (root / name).is_dir()][:1]
    if split and not names and (root / f"{split}.txt").is_file():
        names = [f"{split}.txt"]
    if not names:
        looked = ", ".join([*(f"{name}/" for name in layouts), f"{split}.txt"])
        raise DataError(
            f"{root}: no split {split!r}: looked for {looked} and in data.yaml; "
            f"{contents(root)}. Check data.split."
        )
    found: list[str] = []
    for name in names:
        if (root / name).is_dir():
            found += [f"{name}/{image}" if name else image for image in find_images(root / name)]
        else:
            found += _listed(root, root / name)
    if not found:
        raise DataError(f"{root / names[0]}: holds no images. Check data.root and data.split.")
    return root / names[0], found


def _listed(root: Path, path: Path) -> list[str]:
    """The images that a text file lists, one a line, relative to the root or absolute in it."""
    found = []
    inside = f"{root.resolve().as_posix()}/"
    for line, text in enumerate(read_text(path).splitlines(), 1):
        if not text.strip():
            continue
        name = inner_path(text.strip().removeprefix(inside))
        if name is None:
            raise DataError(
                f"{path}: line {line}: {shown(text)} is no path below {root}. "
                "Write paths relative to it."
            )
        inner = name.partition("/")[2]  # CVAT writes data/ in front of all
        found.append(inner if _is_only(root, inner, name) else name)
    return found


def _is_only(root: Path, inner: str, name: str) -> bool:
    return bool(inner) and os.path.isfile(root / inner) and not os.path.isfile(root / name)


def label_file(root: Path, image: str) -> Path:
    """The labels of an image: ``images`` becomes ``labels`` in its path, else beside it."""
    parts = list(PurePosixPath(image).with_suffix(".txt").parts)
    beside = root.joinpath(*parts)
    for index in range(len(parts) - 2, -1, -1):
        if parts[index] in ("images", "JPEGImages"):
            parts[index] = "labels"
            swapped = root.joinpath(*parts)
            return swapped if os.path.isfile(swapped) or not os.path.isfile(beside) else beside
    return beside


# ----------------------------------------------------------------------- what the labels say


def _read_labels(
    root: Path, images: Sequence[str], names: Mapping[int, str], described: Described, rows: Rows
) -> LabelRows:
    places = [label_file(root, image) for image in images]
    files = [path if os.path.lexists(path) else None for path in places]
    if not any(files):
        raise DataError(
            f"{root / images[0]}: has no labels, nor has any of the {len(files)} images; looked "
            f"for {places[0]} and beside the image. An image without objects has an empty file."
        )
    return read_labels(files, described, names, rows)


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
