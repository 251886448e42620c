"""PASCAL VOC: ``Annotations/*.xml``, ``JPEGImages/*`` and ``ImageSets/Main/<split>.txt``.

Reads the real ``VOCdevkit/VOC2007`` tree and any folder laid out like it. The XML counts pixels
from one and includes both corners; ``(xmin - 1, ymin - 1, xmax, ymax)`` makes that the house's
continuous boxes with exclusive right and bottom edges, of the same areas.

What becomes of bad data (the rest is in the table of ``detkit/data/settle.py``):

=========================================  ====================================================
xmax = xmin or ymax = ymin                 one pixel wide: kept; ``for_training`` drops it
an id that stands twice in a split         read once, counted (``REPEATED``)
an annotation file missing or not XML      refused, naming the file
XML entities                               refused, naming the file (they can attack memory)
a class that is not in ``data.classes``    refused, naming file, class and the nearest name
an id or file name that leaves the folder  refused
=========================================  ====================================================
"""

from __future__ import annotations

import math
import ntpath
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from detkit.data.base import DATASETS, Annotations, DatasetConfig, DatasetFormat
from detkit.data.labelling import Labels
from detkit.data.settle import Draft, settle
from detkit.errors import DataError, did_you_mean, shown
from detkit.files import leaves_folder
from detkit.image import EXTENSIONS

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

REPEATED = "repeated ids read once"

ALL = "all"  # the split of a folder without ImageSets
ONE_PIXEL = 1.0  # the least side of a sound box: both corners are included
FLAGGED = re.compile(r"(.*\S)\s+(?:-1|0|1)")  # "id  1" in a class's own split file


class VOCConfig(DatasetConfig):
    """``split`` is ``[FOLDER/]NAME``: ``VOC2007/trainval`` under VOCdevkit, or plain ``test``.

    ``all`` are all annotations of a folder that has no list of that name.
    """


@dataclass(frozen=True, slots=True)
class _Page:
    """What one annotation file says, as it stands there."""

    path: Path
    size: tuple[int, int] | None  # height, width
    file_name: str
    names: list[str]  # one an object
    corners: list[tuple[float, ...]]  # (xmin, ymin, xmax, ymax), one-based, inclusive
    difficult: list[bool]


def read_voc(config: VOCConfig, classes: Sequence[str] = ()) -> Annotations:
    """Read one split of a VOC folder.

    Args:
        config: where, and which split.
        classes: the classes to expect, in the order of their labels; empty: the data's, sorted.

    Raises:
        DataError: data that is missing or is refused, as the table of this module says.
    """
    folder, split_file = find_split(config.root, config.split)
    lines = read_split(split_file)
    ids = list(dict.fromkeys(lines))
    pages = [_read_page(folder, image_id, split_file) for image_id in ids]
    paths = [find_image(folder, i, page.file_name) for i, page in zip(ids, pages, strict=True)]
    names = tuple(classes) or tuple(sorted({name for page in pages for name in page.names}))
    labels = Labels.of([name for page in pages for name in page.names], names)
    corners = np.array([c for page in pages for c in page.corners], dtype=np.float64)
    draft = Draft(
        source=split_file,
        class_names=names,
        image_ids=ids,
        paths=paths,
        sizes=[page.size for page in pages],
        counts=[len(page.names) for page in pages],
        boxes=corners.reshape(-1, 4) - [1, 1, 0, 0],
        labels=[labels.find(name, str(page.path)) for page in pages for name in page.names],
        difficult=[flag for page in pages for flag in page.difficult],
        least_side=ONE_PIXEL,
        noted={REPEATED: len(lines) - len(ids)},
        read_as=labels.read_as,
    )
    return settle(draft, config.max_unreadable)


DATASETS.register("voc")(DatasetFormat(VOCConfig, read_voc))


def find_split(root: Path, split: str) -> tuple[Path, Path]:
    """Return the folder that holds Annotations and JPEGImages, and the file that lists ids.

    Raises:
        DataError: a folder or a file that is not there, with what is.
    """
    if not root.is_dir():
        raise DataError(
            f"{root}: no such folder. Expected a PASCAL VOC tree, such as VOCdevkit with "
            "VOC2007/Annotations, VOC2007/ImageSets and VOC2007/JPEGImages; get it with "
            "'detkit data get voc2007' (or voc2012, bccd), or point to yours with "
            "data.root=PATH."
        )
    below, _, name = split.rpartition("/")
    if leaves_folder(split):
        raise DataError(f"data.split: {split!r} leaves {root}. Write [FOLDER/]NAME.")
    folder = root / below if below else root
    split_file = folder / "ImageSets" / "Main" / f"{name}.txt"
    if name == ALL and not split_file.exists() and (folder / "Annotations").is_dir():
        return folder, folder / "Annotations"
    if not split_file.is_file():
        known = [path.stem for path in root.glob("ImageSets/Main/*.txt")]
        known += [f"{path.parts[-4]}/{path.stem}" for path in root.glob("*/ImageSets/Main/*.txt")]
        raise DataError(
            f"{split_file}: no such split file."
            + (did_you_mean(split, known) if known else f" {root} holds no ImageSets/Main/*.txt.")
        )
    return folder, split_file


def read_split(split_file: Path) -> list[str]:
    """Return the ids of a split file, a class's flag (1, 0, -1) behind each left off.

    Of the folder of annotations, which stands for ``ALL`` of them, their names.

    Raises:
        DataError: a file without ids, or an id that leaves the folder.
    """
    if split_file.is_dir():
        lines = sorted(path.stem for path in split_file.glob("*.xml"))
    else:
        text = split_file.read_text(encoding="utf-8-sig", errors="replace")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        flagged = [FLAGGED.fullmatch(line) for line in lines]
        if all(flagged):  # an id such as "photo 1" has a number too, but seldom do all
            lines = [match[1] for match in flagged if match]
    if not lines:
        raise DataError(f"{split_file}: lists no images. Write one id a line.")
    for line in lines:
        if leaves_folder(line):
            raise DataError(
                f"{split_file}: id {shown(line)} leaves the folder. Write file names without '..'."
            )
    return lines


def find_image(folder: Path, image_id: str, file_name: str = "") -> Path:
    """Return the image of an id: ``<id>.jpg``, else what the XML names, else another extension.

    A path that may not exist: the first is returned when there is none.

    Raises:
        DataError: ``file_name`` is needed and leaves the folder.
    """
    images = folder / "JPEGImages"
    expected = images / f"{image_id}.jpg"
    if os.path.isfile(expected):  # no error for a name that is too long
        return expected
    if leaves_folder(file_name):
        raise DataError(
            f"{folder / 'Annotations' / image_id}.xml: <filename> {shown(file_name)} leaves the "
            f"folder, and {expected} does not exist. Write the image's plain name."
        )
    candidates = [images / ntpath.basename(file_name)] if file_name else []
    candidates += [images / f"{image_id}{ext}" for e in EXTENSIONS for ext in (e, e.upper())]
    return next((path for path in candidates if os.path.isfile(path)), expected)


def _read_page(folder: Path, image_id: str, split_file: Path) -> _Page:
    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import ParseError, fromstring

    path = folder / "Annotations" / f"{image_id}.xml"
    try:
        root = fromstring(path.read_bytes())
    except FileNotFoundError:
        raise DataError(
            f"{path}: no such annotation file, though {split_file} lists the id. Restore it or "
            "remove the line; the test sets of VOC 2008 to 2012 have no public annotations."
        ) from None
    except OSError as problem:  # a name too long, a folder of that name
        raise DataError(
            f"{path}: cannot be read ({problem.strerror}). Check the id in {split_file}."
        ) from problem
    except DefusedXmlException:
        raise DataError(
            f"{path}: declares XML entities, which are refused as unsafe. Remove its DOCTYPE."
        ) from None
    except (ParseError, ValueError, LookupError) as problem:  # LookupError: unknown encoding
        raise DataError(f"{path}: not readable as XML ({problem}). Repair the file.") from problem
    if root.tag != "annotation":
        raise DataError(
            f"{path}: begins with <{root.tag}>, expected <annotation>. Is this a VOC file?"
        )
    return _parse_page(path, root)


def _parse_page(path: Path, root: Element) -> _Page:
    height, width = (_number(root, f"size/{side}") for side in ("height", "width"))
    has_size = height >= 1 and width >= 1  # False for NaN
    names: list[str] = []
    corners: list[tuple[float, ...]] = []
    difficult: list[bool] = []
    for entry in root.findall("object"):  # direct children: a <part> inside has a box as well
        name = (entry.findtext("name") or "").strip()
        if not name:
            raise DataError(
                f"{path}: object {len(names) + 1} has no <name>. Name its class or remove it."
            )
        names.append(name)
        sides = ("xmin", "ymin", "xmax", "ymax")
        corners.append(tuple(_number(entry, f"bndbox/{side}") for side in sides))
        difficult.append((entry.findtext("difficult") or "").strip() == "1")
    size = (int(height), int(width)) if has_size else None
    file_name = (root.findtext("filename") or "").strip()
    return _Page(path, size, file_name, names, corners, difficult)


def _number(entry: Element, name: str) -> float:
    """The number below ``entry``, NaN where there is none; VOC 2011 writes some with a point."""
    try:
        value = float(entry.findtext(name) or "nan")
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan
