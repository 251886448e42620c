"""PASCAL VOC: an XML file an image, as ``Annotations/*.xml`` and ``JPEGImages/*``.

Reads the real ``VOCdevkit/VOC2007`` tree and other folders of such files, as ``voc_layout.py``
finds them. An image is named by its id, the XML file's own name; ``<filename>`` counts where no
image of that id is, as after a rename, and last the one image whose name differs in upper and
lower case alone. The devkit's XML counts pixels from one and includes both corners;
``(xmin - 1, ymin - 1, xmax, ymax)`` makes that the house's continuous boxes with exclusive right
and bottom edges, of the same areas. Files that count from zero (``voc_origin.py``) have such boxes
as they stand.

What becomes of bad data (the rest is in the tables of ``voc_page.py``, ``voc_list.py`` and
``settle.py``):

=========================================  ====================================================
xmax = xmin or ymax = ymin                 one pixel wide: kept; ``for_training`` drops it; where
                                           corners count from zero, of no width: dropped, counted
an id that stands twice in a split         read once, counted (``REPEATED``)
a listed image without an annotation file  a negative, counted (``NEGATIVES``); where most of a
                                           list lack theirs, refused; ``unannotated`` decides
an image without an annotation file, where left out, counted (``UNANNOTATED``); ``unannotated``
no list names it                           decides; Label Studio's are negatives
such an image of a kind that is not read   left out, counted
an image that two ids claim                refused, naming both
an id without annotation file and image    refused, naming the file
a class that is not in ``data.classes``    refused, naming file, class and the nearest name
an id or file name that leaves the folder  refused
=========================================  ====================================================
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from detkit.data.base import Annotations
from detkit.data.counted import Counted
from detkit.data.formats.base import DatasetConfig
from detkit.data.labelling import Labels
from detkit.data.listing import of_unread_kind
from detkit.data.scan import scan_images
from detkit.data.settle import Draft, settle
from detkit.data.voc_images import Images, files_in_other_case
from detkit.data.voc_layout import Layout, find_layout
from detkit.data.voc_list import read_list
from detkit.data.voc_origin import find_origin
from detkit.data.voc_page import Page, read_page
from detkit.errors import ConfigError, DataError, shown
from detkit.files import leaves_folder

REPEATED = "repeated ids read once"
NEGATIVES = (
    "images without an annotation file taken as negatives (data.unannotated=leave_out leaves them "
    "out)"
)
UNANNOTATED = (
    "images without an annotation file left out (data.unannotated=negatives takes them as "
    "negatives)"
)

ONE_PIXEL = 1.0  # the least side of a sound box whose corners are both included
HERE = "."  # the root, for images that are nowhere
MOST = 0.5  # share of a list; where more lack their annotation files, these are lost

Origin = Literal[0, 1, "auto"]
Unannotated = Literal["auto", "negatives", "leave_out"]


class VOCConfig(DatasetConfig):
    """``split`` is ``[FOLDER/]NAME``: ``VOC2007/trainval`` under VOCdevkit, or plain ``test``.

    ``all`` are all annotations of a folder that has no list of that name; none: the only split.
    """

    split: str = ""
    annotations: str = ""  # folder of the XML, below root; {split} in it stands for the split
    images: str = ""  # folder of the images, likewise; both empty: found by their names
    # the number of the first pixel: 1 as the devkit counts, 0 as CVAT, datumaro, Label Studio and
    # FiftyOne do; auto: by the signs in the folder's files, said in the data line
    origin: Origin = "auto"
    # what becomes of images without an annotation file: negatives, or leave_out; auto: a listed
    # one is a negative, unless most of the list lack theirs, and others are left out, but of
    # folders that Label Studio wrote
    unannotated: Unannotated = "auto"


@dataclass(slots=True)
class _Split:
    """The images of one split, I of them."""

    ids: list[str]  # [I]
    pages: list[Page]  # [I]
    paths: list[Path]  # [I]
    noted: dict[str, int | list[int]]  # kind -> how many, or the image (0..I-1) of each


def read_voc(config: VOCConfig, classes: Sequence[str] = ()) -> Annotations:
    """Read one split of a VOC folder.

    Args:
        config: where, and which split.
        classes: the classes to expect, in the order of their labels; empty: the data's, sorted.

    Raises:
        ConfigError: negatives asked for where nothing tells which split they are of.
        DataError: data that is missing or is refused, as the table of this module says.
    """
    layout = _find_layout(config)
    needed = config.looks_at_images
    if layout.listing is None:
        split = _read_all(layout, config.unannotated, needed=needed)
    else:
        split = _read_listed(layout, layout.listing, config.unannotated, needed=needed)
    pages = split.pages
    names = tuple(classes) or tuple(sorted({name for page in pages for name in page.names}))
    labels = Labels.of([name for page in pages for name in page.names], names)
    origin, told = config.origin, ""
    if origin == "auto":
        origin, told = find_origin(layout, {page.path: page for page in pages})
    if told:
        split.noted[told] = [index for index, page in enumerate(pages) for _ in page.names]
    corners = np.array([c for page in pages for c in page.corners], dtype=np.float64)
    draft = Draft(
        source=layout.source,
        class_names=names,
        image_ids=split.ids,
        paths=split.paths,
        sizes=[page.size for page in pages],
        counts=[len(page.names) for page in pages],
        boxes=corners.reshape(-1, 4) - [origin, origin, 0, 0],
        labels=[labels.find(name, str(page.path)) for page in pages for name in page.names],
        difficult=[flag for page in pages for flag in page.difficult],
        least_side=ONE_PIXEL * origin,
        noted=split.noted,
        read_as=labels.read_as,
    )
    return settle(draft, config.max_unreadable, look=config.looks_at_images)


def _find_layout(config: VOCConfig) -> Layout:
    """The layout of an entry, where images are needed one with a folder of them."""
    place = (config.root, config.split, config.annotations)
    try:
        return find_layout(*place, config.images)
    except DataError:
        if config.looks_at_images or config.images:
            raise
        return find_layout(*place, HERE)


def _read_all(layout: Layout, unannotated: Unannotated, *, needed: bool) -> _Split:
    """Read a split that is all annotation files of a folder."""
    files = layout.xml_files()
    if not files:
        raise DataError(f"{layout.annotations}: holds no annotation files, NAME.xml.")
    _stay_inside(layout, files)
    images = Images(layout, frozenset(files), needed=needed)
    split = _Split(list(files), [read_page(path, layout.source) for path in files.values()], [], {})
    split.paths += [images.find(i, p) for i, p in zip(split.ids, split.pages, strict=True)]
    _refuse_claimed_twice(split)
    others = images.others(split.paths)
    split.noted.update(of_unread_kind(images.unread(split.paths)))
    few = len(others) <= MOST * (len(files) + len(others)) and not layout.shares_images
    if unannotated == "auto" and few and all(page.origin == 0 for page in split.pages):
        unannotated = "negatives"  # Label Studio exports what was annotated, and no XML of no box
    if unannotated != "negatives":
        split.noted[UNANNOTATED] = Counted.of(others, layout.images)
        return split
    if others and layout.shares_images:
        raise ConfigError(
            f"data.unannotated: {layout.images} holds the images of several splits, so that "
            "nothing tells whose those without an annotation file are. List the ids of each "
            "split in ImageSets/Main/NAME.txt, or leave the key out."
        )
    _stay_inside(layout, others)
    _add_negatives(split, others, [images.find(i, Page(layout.annotations)) for i in others])
    return split


def _read_listed(
    layout: Layout, listing: Path, unannotated: Unannotated, *, needed: bool
) -> _Split:
    """Read a split that a file lists."""
    lines = read_list(listing, layout)
    _stay_inside(layout, lines)
    ids = list(dict.fromkeys(lines))
    images = Images(layout, frozenset(ids), needed=needed)
    others = files_in_other_case(layout, ids)
    files = {i: others.get(i) or layout.annotations / f"{i}.xml" for i in ids}
    lacking = [i for i in ids if not os.path.isfile(files[i]) and images.has(i)]
    if unannotated == "auto" and len(lacking) > MOST * len(ids):
        raise DataError(
            f"{listing}: {len(lacking)} of its {len(ids)} images have no annotation file in "
            f"{layout.annotations}; the test sets of VOC 2008 to 2012 have no public ones. Restore "
            "them, or take these images as negatives with data.unannotated=negatives."
        )
    missing = frozenset(lacking)
    pages = {i: read_page(files[i], listing) for i in ids if i not in missing}
    split = _Split(list(pages), list(pages.values()), [], {})
    split.paths += [images.find(i, page) for i, page in pages.items()]
    _refuse_claimed_twice(split)
    if unannotated == "leave_out":
        split.noted[UNANNOTATED] = Counted.of(lacking, layout.images)
    else:
        _add_negatives(split, lacking, [images.find(i, Page(files[i])) for i in lacking])
        split = _in_order(split, ids)
    place = {image_id: index for index, image_id in enumerate(split.ids)}
    often = Counter(lines)
    split.noted[REPEATED] = [place[i] for i in split.ids for _ in range(often[i] - 1)]
    return split


def _add_negatives(split: _Split, ids: Sequence[str], paths: Sequence[Path]) -> None:
    """Add images without an annotation file, whose sizes are then their own."""
    claimed = {path: page.path for path, page in zip(split.paths, split.pages, strict=True)}
    for image_id, path in zip(ids, paths, strict=True):
        if path in claimed:
            raise DataError(
                f"{path}: {claimed[path]} speaks of this image by its <filename>, and {image_id}, "
                "whose image it is, has no annotation file. Rename the annotation file, or "
                "restore the image that it is of."
            )
    first = len(split.ids)
    split.ids += ids
    split.paths += paths
    for path, look in zip(paths, scan_images(paths), strict=True):
        size = None if isinstance(look, str) else (look.height, look.width)
        split.pages.append(Page(path, size))
    split.noted[NEGATIVES] = list(range(first, len(split.ids)))


def _in_order(split: _Split, ids: Sequence[str]) -> _Split:
    """The same images in the order of ``ids``."""
    place = {image_id: index for index, image_id in enumerate(split.ids)}
    order = [place[image_id] for image_id in ids]
    new = {old: index for index, old in enumerate(order)}
    noted = {kind: [new[i] for i in found] if isinstance(found, list) else found
             for kind, found in split.noted.items()}  # fmt: skip
    return _Split(
        list(ids),
        [split.pages[index] for index in order],
        [split.paths[index] for index in order],
        noted,
    )


def _stay_inside(layout: Layout, ids: Iterable[str]) -> None:
    for image_id in ids:
        if leaves_folder(image_id):
            raise DataError(
                f"{layout.source}: id {shown(image_id)} leaves the folder. Write file names "
                "without '..'."
            )


def _refuse_claimed_twice(split: _Split) -> None:
    """Refuse an image that two annotation files speak of: one of them has lost its own."""
    ids, pages = split.ids, split.pages
    first: dict[Path, int] = {}
    for index, path in enumerate(split.paths):
        other = first.setdefault(path, index)
        if other != index:
            liar = index if Path(ids[index]).name != path.stem else other
            raise DataError(
                f"{path}: {pages[other].path} and {pages[index].path} both speak of this image, "
                f"{pages[liar].path.name} by its <filename>, as no image is called "
                f"{ids[liar]}. Restore that image, or remove its annotation file."
            )
