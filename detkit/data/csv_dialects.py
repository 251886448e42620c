"""The headers of tables that people bring, each with how its boxes are read.

=============================================  ================================================
``path,x1,y1,x2,y2,name`` and other names of   corners in pixels: Roboflow and TensorFlow
the same columns, in any order                 (``filename,width,height,class,xmin,...``), VoTT,
                                               Kaggle (``image_id,class_name,x_min,...``)
``x0,y0,x1,y1``                                corners as well, counted from 0
``x_min,y_min,w,h``; ``bbox_x,bbox_y,``        a corner and the box's size: makesense.ai
``bbox_width,bbox_height``
``image_id,width,height,bbox``                 ``[x, y, width, height]`` in one cell, the image's
                                               size beside it: Kaggle's global wheat of 2020
``image_name,BoxesString``                     ``x1 y1 x2 y2;x1 y1 x2 y2``: global wheat of 2021
``ImageID,...,LabelName,...,XMin,XMax,...``    shares of the image: Open Images
no header: ``path,x1,y1,x2,y2,name``           keras-retinanet; with the image's width and height
                                               behind the name SKU-110K
no header: ``name,x,y,width,height,path,W,H``  makesense.ai
no header: ``TRAIN,path,name,x,y,,,x,y,,``     shares: Google's AutoML Vision and Vertex AI, two
                                               or four corners, the split in front
=============================================  ================================================

These headers stand so in the programs' own documents or in files that they wrote; no document of
Amazon's services has a table of boxes (SageMaker takes JSON lines), so none is read. What could
mean two things is not read but named, with what to write instead (:func:`why_not`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from detkit.data.listing import number_in
from detkit.image_files import EXTENSIONS

Boxes = Literal["corners", "size", "cell", "list", "vertices"]

COLUMNS = ("path", "x1", "y1", "x2", "y2", "name")  # without a header, in this order
SIDES = ("x1", "y1", "x2", "y2")
ALSO_CALLED = {
    **dict.fromkeys(("image", "image_path", "img_path", "filename", "file_name", "file"), "path"),
    **{"xmin": "x1", "ymin": "y1", "xmax": "x2", "ymax": "y2"},
    **{"x_min": "x1", "y_min": "y1", "x_max": "x2", "y_max": "y2"},
    **dict.fromkeys(("class", "class_name", "label", "category"), "name"),
}
# Taken, the first of them, where no column has the name itself or one of those above.
IN_NEED = {
    "path": (
        *("image_name", "image_filename", "filepath", "file_path", "img_name", "img"),
        *("image_id", "imageid", "img_id", "frame"),
    ),
    "name": ("label_name", "labelname", "category_name", "classname", "label_str"),
    "x1": ("bbox_x", "bbox_xmin", "bbox_x1", "xtl", "left"),
    "y1": ("bbox_y", "bbox_ymin", "bbox_y1", "ytl", "top"),
    "x2": ("bbox_xmax", "bbox_x2", "xbr", "right"),
    "y2": ("bbox_ymax", "bbox_y2", "ybr", "bottom"),
    "w": ("bbox_width", "bbox_w", "box_width"),
    "h": ("bbox_height", "bbox_h", "box_height"),
    "width": ("image_width", "img_width"),
    "height": ("image_height", "img_height"),
    "split": ("subset", "ml_use"),
    "crowd": ("iscrowd", "is_crowd", "isgroupof"),
    "boxes": ("boxesstring",),
}
NUMBERS = ("class_id", "classid", "label_id", "category_id")  # of classes, where no name is there
FROM_ZERO = {"x0": "x1", "y0": "y1", "x1": "x2", "y1": "y2"}
OF_THE_BOX = {"width": "w", "height": "h", "image_width": "width", "image_height": "height"}
OPEN_IMAGES = {"imageid", "labelname", "xmin", "xmax", "ymin", "ymax"}
SPLIT_WORDS = ("train", "val", "test", "dev", "eval", "unassigned")  # a split's name begins so
SHOWN_COLUMNS = 12  # of a header, in a sentence
LONGEST_SHOWN = 40  # characters of one

_SIZED = (*COLUMNS, "width", "height")  # SKU-110K
_NAME_FIRST = ("name", "x1", "y1", "w", "h", "path", "width", "height")  # makesense.ai
_AUTOML = ("split", "path", "name", *(f"v{index}" for index in range(8)))


@dataclass(frozen=True, slots=True)
class Layout:
    """How the lines of one table are read."""

    columns: tuple[str, ...]  # in our words; what is not read keeps its own
    boxes: Boxes
    header: bool = True  # the first line is one
    relative: bool = False  # boxes are shares of the image
    open_images: bool = False
    numbered: bool = False  # classes are numbers, as no names are there

    @property
    def named(self) -> bool:
        """Whether objects have a class."""
        return "name" in self.columns


def understand(cells: Sequence[str]) -> Layout | None:
    """How a table is read, from its first line; None where that tells no boxes of images."""
    return _understand_header(cells) or _understand_object(cells)


def in_our_words(cells: Sequence[str]) -> tuple[str, ...]:
    """The columns of a header, or what would be those, in the words of this module."""
    words = _words(cells)
    if {*FROM_ZERO} <= {*words} and "x2" not in words:
        words = [FROM_ZERO.get(word, word) for word in words]
    columns = [ALSO_CALLED.get(word, word) for word in words]
    needs = {**IN_NEED, "name": IN_NEED["name"] + NUMBERS}
    for ours, others in needs.items():
        if ours not in columns:
            found = next((other for other in others if other in columns), None)
            if found is not None:
                columns[columns.index(found)] = ours
    return tuple(columns)


def is_header(cells: Sequence[str]) -> bool:
    """Whether a line names columns, enough of them to be meant as a table of boxes."""
    known = {*COLUMNS, "w", "h", "bbox", "boxes"}
    return len({*in_our_words(cells)} & known) >= 2


def why_not(cells: Sequence[str]) -> str:
    """What a header lacks to be read, and what to write instead.

    Returns:
        A clause and a sentence, to stand behind the file's name; empty for a header that is read,
        or that has nothing to do with boxes of images.
    """
    columns, words = {*in_our_words(cells)}, {*_words(cells)}
    if not is_header(cells) and not ("path" in columns and words & _TELLING):
        return ""
    if understand(cells) is not None:
        return ""
    if "region_shape_attributes" in words:
        return "a table of VIA. Read it with data.format=via."
    if words & {"x_center", "xcenter", "center_x", "cx", "x_centre"}:
        return (
            "its boxes are centres and sizes. Write x_min = x_center - width / 2, y_min = y_center "
            "- height / 2, x_max = x_center + width / 2, y_max = y_center + height / 2, in pixels."
        )
    if {"x", "y"} <= words:
        return (
            "x and y may be a corner or the centre of a box. Call the columns "
            "x_min,y_min,width,height if they are its upper left corner, in pixels."
        )
    if "bbox" in words:
        return (
            "a column bbox may hold corners, or a corner and a size. Write columns "
            "x_min,y_min,x_max,y_max, or x_min,y_min,width,height, in pixels."
        )
    if "predictionstring" in words:
        return (
            "boxes in a column PredictionString stand in another order in each competition. "
            "Write a line path,x_min,y_min,x_max,y_max,name an object, in pixels."
        )
    if not columns & {*SIDES}:
        return (
            "it has classes of images, no boxes. Detectors need a line "
            "path,x_min,y_min,x_max,y_max,name an object, in pixels."
        )
    lacking = next(name for name in COLUMNS if name not in columns)
    return f"the header has no column {lacking!r}. Needed are {','.join(COLUMNS)}."


def shown_columns(columns: Sequence[str]) -> str:
    """The names of columns, few enough for a sentence."""
    more = len(columns) - SHOWN_COLUMNS
    names = [repr(column[:LONGEST_SHOWN])[1:-1] for column in columns[:SHOWN_COLUMNS]]
    return ",".join(names) + (f",... and {more} more" if more > 0 else "")


_TELLING = {"x", "bbox", "predictionstring", "x_center", "xcenter", "center_x", "cx", "x_centre"}
_TELLING |= {"class", "label", "category", "class_id", "class_name", "labelname"}
_TELLING |= {"region_shape_attributes"}


def _words(cells: Sequence[str]) -> list[str]:
    """Lower case, without the mark of a comment that VIA 1.0 and others put in front."""
    return [cell.lstrip("#").strip().lower().replace(" ", "_") for cell in cells]


def _understand_header(cells: Sequence[str]) -> Layout | None:
    columns, words = in_our_words(cells), {*_words(cells)}
    has = {*columns}
    if "path" not in has:
        return None
    numbered = not words & {"name", *IN_NEED["name"]} and "name" in has
    numbered &= not any(ALSO_CALLED.get(word) == "name" for word in words)
    is_open = words >= OPEN_IMAGES
    if has >= {*SIDES}:
        return Layout(columns, "corners", True, is_open, is_open, numbered)
    if has >= {"x1", "y1"} and not has & {"x2", "y2"}:
        if has >= {"w", "h"}:
            return Layout(columns, "size", numbered=numbered)
        if has >= {"width", "height"}:  # the box's: without it there would be none
            sized = tuple(OF_THE_BOX.get(word, word) for word in columns)
            return Layout(sized, "size", numbered=numbered)
    if has >= {"bbox", "width", "height"} and words & {"image_id", "imageid"}:
        return Layout(columns, "cell", numbered=numbered)
    if "boxes" in has:
        return Layout(columns, "list", numbered=numbered)
    return None


def _understand_object(cells: Sequence[str]) -> Layout | None:
    """A table without a header, from an object or an image without one."""
    count = len(cells)
    if count == len(COLUMNS) and cells[0] and _are_sides(cells[1:5], cells[5:]):
        return Layout(COLUMNS, "corners", header=False)
    if count == len(_SIZED) and all(_is_whole(cell) for cell in cells[6:]):
        if cells[0].lower().endswith(EXTENSIONS) and _are_sides(cells[1:5], cells[5:6]):
            return Layout(_SIZED, "corners", header=False)
        if cells[5].lower().endswith(EXTENSIONS) and _are_sides(cells[1:5], cells[:1]):
            return Layout(_NAME_FIRST, "size", header=False)
    if count == len(_AUTOML) and is_split(cells[0]) and cells[1].lower().endswith(EXTENSIONS):
        numbers = [number_in(cell) for cell in cells[3:] if cell]
        if all(map(math.isfinite, numbers)):
            return Layout(_AUTOML, "vertices", header=False, relative=True)
    return None


def is_split(word: str) -> bool:
    """Whether a cell names a split by a usual name."""
    return word.lower().startswith(SPLIT_WORDS)


def _are_sides(cells: Sequence[str], rest: Sequence[str]) -> bool:
    """Four numbers, or with ``rest`` nothing at all: an image without objects."""
    return all(math.isfinite(number_in(cell)) for cell in cells) or not any([*cells, *rest])


def _is_whole(cell: str) -> bool:
    return not cell or (number_in(cell) >= 1 and number_in(cell).is_integer())
