"""PASCAL VOC: an XML file an image, as ``Annotations/*.xml`` and ``JPEGImages/*``.

Reads the real ``VOCdevkit/VOC2007`` tree and other folders of such files, as ``voc_layout.py``
finds them. An image is named by its id, the XML file's own name; ``<filename>`` counts where no
image of that id is, as after a rename, and last the one image whose name differs in upper and
lower case alone. The XML counts pixels from one and includes both corners;
``(xmin - 1, ymin - 1, xmax, ymax)`` makes that the house's continuous boxes with exclusive right
and bottom edges, of the same areas.

What becomes of bad data (the rest is in the table of ``detkit/data/settle.py``):

=========================================  ====================================================
xmax = xmin or ymax = ymin                 one pixel wide: kept; ``for_training`` drops it
an id that stands twice in a split         read once, counted (``REPEATED``)
an image without XML, where no list        left out, counted (``UNANNOTATED``)
names it
an image that two ids claim                refused, naming both
an annotation file missing or not XML      refused, naming the file
XML entities                               refused, naming the file (they can attack memory)
a class that is not in ``data.classes``    refused, naming file, class and the nearest name
an id or file name that leaves the folder  refused
=========================================  ====================================================
"""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from detkit.data.base import DATASETS, Annotations, DatasetConfig, DatasetFormat
from detkit.data.labelling import Labels
from detkit.data.settle import Draft, settle
from detkit.data.voc_images import Images, files_in_other_case
from detkit.data.voc_layout import Layout, find_layout
from detkit.errors import DataError, shown
from detkit.files import leaves_folder
from detkit.image import EXTENSIONS

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

REPEATED = "repeated ids read once"
UNANNOTATED = "images without an annotation file left out"

ONE_PIXEL = 1.0  # the least side of a sound box: both corners are included
TRUE = ("1", "1.0", "true", "yes")  # as exporters write difficult
DECLARED = re.compile(rb"""\s*<\?xml[^>]*?encoding\s*=\s*["']([A-Za-z0-9._-]+)["'][^>]*\?>""")
FLAGGED = re.compile(r"(.*\S)\s+(?:-1|0|1)")  # "id  1" in a class's own split file


class VOCConfig(DatasetConfig):
    """``split`` is ``[FOLDER/]NAME``: ``VOC2007/trainval`` under VOCdevkit, or plain ``test``.

    ``all`` are all annotations of a folder that has no list of that name; none: the only split.
    """

    split: str = ""
    annotations: str = ""  # folder of the XML, below root; {split} in it stands for the split
    images: str = ""  # folder of the images, likewise; both empty: found by their names


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
    layout = find_layout(config.root, config.split, config.annotations, config.images)
    if layout.listing is None:
        files = layout.xml_files()
        lines = [*files]
        if not lines:
            raise DataError(f"{layout.annotations}: holds no annotation files, NAME.xml.")
    else:
        files = {}
        lines = read_split(layout.listing, layout.annotations)
    _stay_inside(layout, lines)
    ids = list(dict.fromkeys(lines))
    if layout.listing is not None:
        files = files_in_other_case(layout, ids)
    pages = [_read_page(layout, image_id, files.get(image_id)) for image_id in ids]
    images = Images(layout, frozenset(ids))
    paths = [images.find(i, page) for i, page in zip(ids, pages, strict=True)]
    _refuse_claimed_twice(ids, paths, pages)
    names = tuple(classes) or tuple(sorted({name for page in pages for name in page.names}))
    labels = Labels.of([name for page in pages for name in page.names], names)
    corners = np.array([c for page in pages for c in page.corners], dtype=np.float64)
    draft = Draft(
        source=layout.source,
        class_names=names,
        image_ids=ids,
        paths=paths,
        sizes=[page.size for page in pages],
        counts=[len(page.names) for page in pages],
        boxes=corners.reshape(-1, 4) - [1, 1, 0, 0],
        labels=[labels.find(name, str(page.path)) for page in pages for name in page.names],
        difficult=[flag for page in pages for flag in page.difficult],
        least_side=ONE_PIXEL,
        noted={
            REPEATED: _repeated(lines, ids),
            UNANNOTATED: images.count_others(paths) if layout.listing is None else 0,
        },
        read_as=labels.read_as,
    )
    return settle(draft, config.max_unreadable)


DATASETS.register("voc")(DatasetFormat(VOCConfig, read_voc))


def _repeated(lines: Sequence[str], ids: Sequence[str]) -> list[int]:
    """The image (0..I-1) of each line that repeats an earlier one."""
    index = {image_id: place for place, image_id in enumerate(ids)}
    often = Counter(lines)
    return [index[i] for i in ids for _ in range(often[i] - 1)]


def read_split(split_file: Path, annotations: Path | None = None) -> list[str]:
    """Return the ids of a split file.

    A class's flag (1, 0, -1) behind each is left off, and an image's folder and ending, where the
    folder of annotations says that they are no part of the ids.

    Raises:
        DataError: a file without ids.
    """
    text = split_file.read_text(encoding="utf-8-sig", errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise DataError(f"{split_file}: lists no images. Write one id a line.")
    flagged = [FLAGGED.fullmatch(line) for line in lines]
    if all(flagged) and not _names_xml(annotations, lines[0]):  # "photo 1" may be an id
        lines = [match[1] for match in flagged if match]
    return [_without_ending(line, annotations) for line in lines]


def _names_xml(annotations: Path | None, image_id: str) -> bool:
    """Whether an annotation file of this id is there; asked only of ids that stay in the folder."""
    if annotations is None or leaves_folder(image_id):
        return False
    return os.path.isfile(annotations / f"{image_id}.xml")


def _without_ending(line: str, annotations: Path | None) -> str:
    """``JPEGImages/0.jpg`` as the id ``0``, where an annotation file bears that out."""
    stem, ending = os.path.splitext(line)
    if ending.lower() not in (*EXTENSIONS, ".xml") or _names_xml(annotations, line):
        return line
    shorter = (stem, stem.rpartition("/")[2])
    return next((name for name in shorter if _names_xml(annotations, name)), line)


def _stay_inside(layout: Layout, ids: Sequence[str]) -> None:
    for image_id in ids:
        if leaves_folder(image_id):
            raise DataError(
                f"{layout.source}: id {shown(image_id)} leaves the folder. Write file names "
                "without '..'."
            )


def _refuse_claimed_twice(
    ids: Sequence[str], paths: Sequence[Path], pages: Sequence[_Page]
) -> None:
    """Refuse an image that two annotation files speak of: one of them has lost its own."""
    first: dict[Path, int] = {}
    for index, path in enumerate(paths):
        other = first.setdefault(path, index)
        if other != index:
            liar = index if Path(ids[index]).name != path.stem else other
            raise DataError(
                f"{path}: {pages[other].path} and {pages[index].path} both speak of this image, "
                f"{pages[liar].path.name} by its <filename>, as no image is called "
                f"{ids[liar]}. Restore that image, or remove its annotation file."
            )


def _read_page(layout: Layout, image_id: str, path: Path | None) -> _Page:
    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import ParseError

    path = path or layout.annotations / f"{image_id}.xml"
    try:
        root = _parse_xml(path.read_bytes())
    except FileNotFoundError:
        raise DataError(
            f"{path}: no such annotation file, though {layout.source} lists the id. Restore it or "
            "remove the line; the test sets of VOC 2008 to 2012 have no public annotations."
        ) from None
    except OSError as problem:  # a name too long, a folder of that name
        raise DataError(
            f"{path}: cannot be read ({problem.strerror}). Check the id in {layout.source}."
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


def _parse_xml(data: bytes) -> Element:
    """The root of an XML text, its tags without their namespaces.

    Encodings of several bytes, such as gb2312, are decoded here: Python's parser has but UTF's.
    """
    from defusedxml.ElementTree import fromstring

    declared = DECLARED.match(data)
    try:
        root: Element = fromstring(data)
    except ValueError:
        if declared is None:
            raise
        root = fromstring(data[declared.end() :].decode(declared[1].decode("ascii")))
    for entry in root.iter():
        entry.tag = entry.tag.rpartition("}")[2]
    return root


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
        flag = (entry.findtext("difficult") or "").strip().lower()
        difficult.append(flag in TRUE)
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
