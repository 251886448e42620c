"""PASCAL VOC: ``Annotations/*.xml``, ``JPEGImages/*`` and ``ImageSets/Main/<split>.txt``.

Reads the real ``VOCdevkit/VOC2007`` tree and any folder laid out like it. The XML counts pixels
from one and includes both corners; ``(xmin - 1, ymin - 1, xmax, ymax)`` makes that the house's
continuous boxes with exclusive right and bottom edges, of the same areas.

What becomes of bad data (the counted kinds stand in the data summary):

=========================================  ====================================================
xmax < xmin or ymax < ymin                 box dropped, counted (``INVERTED``)
xmax = xmin or ymax = ymin                 one pixel wide: kept; ``for_training`` drops it
a coordinate that is no finite number      box dropped, counted (``NOT_NUMBERS``)
wholly outside the image                   box dropped, counted (``OUTSIDE``)
partly outside the image                   clipped, counted (``CLIPPED``)
no ``<size>``, or one of zero              taken from the image, counted (``NO_SIZE``)
``<size>`` unlike the image's              the image's wins, counted (``OTHER_SIZE``)
an id that stands twice in a split         read once, counted (``REPEATED``)
an image without objects                   kept, as a negative
an image missing, foreign or damaged       left out and listed; too many of them stop the run
an annotation file missing or not XML      refused, naming the file
XML entities                               refused, naming the file (they can attack memory)
a class that is not in ``data.classes``    refused, naming file, class and the nearest name
an id or file name that leaves the folder  refused
=========================================  ====================================================
"""

from __future__ import annotations

import math
import ntpath
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from detkit.config import Fraction
from detkit.data.base import DATASETS, Annotations, DatasetConfig, DatasetFormat, Report
from detkit.errors import DataError, did_you_mean
from detkit.image import EXTENSIONS, check_image

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

INVERTED = "inverted boxes dropped"
NOT_NUMBERS = "boxes without numbers dropped"
OUTSIDE = "boxes outside the image dropped"
CLIPPED = "boxes clipped to the image"
NO_SIZE = "annotations without a size"
OTHER_SIZE = "annotations of another size than the image"
REPEATED = "repeated ids read once"

ROUNDING = 0.01  # pixels; what float32 may take from a side
CHECK_THREADS = 8  # image headers wait for the disk more than for a core
SHOWN_UNREADABLE = 3  # of the unusable images, in an error
_FLAG = re.compile(r"(.*\S)\s+(?:-1|0|1)")  # "id  1" in a class's own split file


class VOCConfig(DatasetConfig):
    """``split`` is ``[FOLDER/]NAME``: ``VOC2007/trainval`` under VOCdevkit, or plain ``test``."""

    max_unreadable: Fraction = 0.01  # of the images; more of them stop the run


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
    with ThreadPoolExecutor(CHECK_THREADS) as pool:
        found = list(pool.map(_size_or_reason, paths))
    good = [index for index, entry in enumerate(found) if not isinstance(entry, str)]
    unreadable = tuple(
        (str(path), entry)
        for path, entry in zip(paths, found, strict=True)
        if isinstance(entry, str)
    )
    if len(unreadable) > config.max_unreadable * len(ids):
        raise DataError(_too_many(split_file, unreadable, len(ids), config.max_unreadable))
    sizes = np.array([found[index] for index in good], dtype=np.int32).reshape(-1, 2)
    counts = {
        REPEATED: len(lines) - len(ids),
        NO_SIZE: sum(pages[index].size is None for index in good),
        OTHER_SIZE: sum(pages[index].size not in (None, found[index]) for index in good),
    }
    every = _flatten(
        [pages[index] for index in good],
        np.array([ids[index] for index in good], dtype=np.str_),
        np.array([str(paths[index]) for index in good], dtype=np.str_),
        sizes,
        tuple(classes),
    )
    return _settle(every, Report(counts, unreadable))


DATASETS.register("voc")(DatasetFormat(VOCConfig, read_voc))


def find_split(root: Path, split: str) -> tuple[Path, Path]:
    """Return the folder that holds Annotations and JPEGImages, and the file that lists ids.

    Raises:
        DataError: a folder or a file that is not there, with what is.
    """
    if not root.is_dir():
        raise DataError(
            f"{root}: no such folder. Expected a PASCAL VOC tree, such as VOCdevkit with "
            "VOC2007/Annotations, VOC2007/ImageSets and VOC2007/JPEGImages; get it from "
            "'The PASCAL Visual Object Classes Homepage' (host.robots.ox.ac.uk/pascal/VOC), "
            "or point to yours with data.root=PATH."
        )
    below, _, name = split.rpartition("/")
    if leaves_folder(split):
        raise DataError(f"data.split: {split!r} leaves {root}. Write [FOLDER/]NAME.")
    folder = root / below if below else root
    split_file = folder / "ImageSets" / "Main" / f"{name}.txt"
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

    Raises:
        DataError: a file without ids, or an id that leaves the folder.
    """
    text = split_file.read_text(encoding="utf-8-sig", errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    flagged = [_FLAG.fullmatch(line) for line in lines]
    if all(flagged):  # an id such as "photo 1" has a number too, but seldom do all
        lines = [match[1] for match in flagged if match]
    if not lines:
        raise DataError(f"{split_file}: lists no images. Write one id a line.")
    for line in lines:
        if leaves_folder(line):
            raise DataError(
                f"{split_file}: id {line!r} leaves the folder. Write file names without '..'."
            )
    return lines


def leaves_folder(name: str) -> bool:
    """Whether joining ``name`` to a folder could lead out of it, on any system."""
    parts = name.replace("\\", "/").split("/")
    absolute = name.startswith(("/", "\\")) or bool(ntpath.splitdrive(name)[0])
    return absolute or ".." in parts


def find_image(folder: Path, image_id: str, file_name: str = "") -> Path:
    """Return the image of an id: ``<id>.jpg``, else what the XML names, else another extension.

    A path that may not exist: the first is returned when there is none.

    Raises:
        DataError: ``file_name`` is needed and leaves the folder.
    """
    images = folder / "JPEGImages"
    expected = images / f"{image_id}.jpg"
    if expected.is_file():
        return expected
    if leaves_folder(file_name):
        raise DataError(
            f"{folder / 'Annotations' / image_id}.xml: <filename> {file_name!r} leaves the "
            f"folder, and {expected} does not exist. Write the image's plain name."
        )
    candidates = [images / ntpath.basename(file_name)] if file_name else []
    candidates += [images / f"{image_id}{ext}" for e in EXTENSIONS for ext in (e, e.upper())]
    return next((path for path in candidates if path.is_file()), expected)


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


def _size_or_reason(path: Path) -> tuple[int, int] | str:
    try:
        return check_image(path)
    except DataError as problem:
        return str(problem).removeprefix(f"{path}: ")


def _too_many(
    split_file: Path, unreadable: Sequence[tuple[str, str]], total: int, allowed: float
) -> str:
    first = " ".join(f"{path}: {reason}" for path, reason in unreadable[:SHOWN_UNREADABLE])
    return (
        f"{split_file}: {len(unreadable)} of {total} images cannot be used, more than "
        f"max_unreadable={allowed} allows. Repair them, or raise max_unreadable in the config's "
        f"entry under data. The first: {first}"
    )


def _flatten(
    pages: Sequence[_Page],
    ids: NDArray[Any],
    paths: NDArray[Any],
    sizes: NDArray[np.int32],
    classes: tuple[str, ...],
) -> Annotations:
    """All objects as they stand in the files, good or bad, in house coordinates."""
    known = classes or tuple(sorted({name for page in pages for name in page.names}))
    index = {name: label for label, name in enumerate(known)}
    for page in pages:
        unknown = [name for name in page.names if name not in index]
        if unknown:
            raise DataError(
                f"{page.path}: class {unknown[0]!r} is not in data.classes."
                f"{did_you_mean(unknown[0], known)}"
            )
    corners = np.array([c for page in pages for c in page.corners], dtype=np.float64)
    with np.errstate(over="ignore"):  # beyond float32: infinite, and dropped
        boxes = (corners.reshape(-1, 4) - [1, 1, 0, 0]).astype(np.float32)
    return Annotations(
        class_names=known,
        image_ids=ids,
        paths=paths,
        sizes=sizes,
        offsets=np.cumsum([0, *(len(page.names) for page in pages)]).astype(np.int64),
        boxes=boxes,
        labels=np.array([index[n] for page in pages for n in page.names], dtype=np.int64),
        difficult=np.array([d for page in pages for d in page.difficult], dtype=np.bool_),
        crowd=np.zeros(len(boxes), dtype=np.bool_),
        area=np.zeros(len(boxes), dtype=np.float32),
    )


def _settle(every: Annotations, report: Report) -> Annotations:
    """Drop and clip boxes as the module's table says, and count them."""
    limits = np.tile(every.sizes[every.image_of_row()][:, ::-1], 2).astype(np.float32)  # W H W H
    low, high = every.boxes[:, :2], every.boxes[:, 2:]
    numbers = np.isfinite(every.boxes).all(axis=1)
    ordered = ((high - low) >= 1 - ROUNDING).all(axis=1)  # one pixel where xmax = xmin
    inside = ((high > 0) & (low < limits[:, :2])).all(axis=1)
    keep = np.asarray(numbers & ordered & inside)
    clipped = np.clip(every.boxes, 0, limits)
    changed = keep & (clipped != every.boxes).any(axis=1)
    sides = clipped[:, 2:] - clipped[:, :2]
    counts = {
        NOT_NUMBERS: int((~numbers).sum()),
        INVERTED: int((numbers & ~ordered).sum()),
        OUTSIDE: int((numbers & ordered & ~inside).sum()),
        CLIPPED: int(changed.sum()),
    }
    settled = replace(every, boxes=clipped, area=sides.prod(axis=1), report=report + Report(counts))
    return settled.keep_rows(keep)
