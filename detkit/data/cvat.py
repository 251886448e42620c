"""CVAT's own XML: ``CVAT for images 1.1``, one ``annotations.xml`` for all images.

Coordinates are pixels, continuous and zero-based: a box from ``xtl, ytl`` to ``xbr, ybr`` is the
house's box as it stands. The labels listed in ``<meta>`` are the classes, in their order; those
that can hold no box (points, polylines, tags, skeletons) only where objects are of them. The
splits are the ``subset`` of the images (a project), or the files' names (``train.xml``), or folders
called ``train`` and the like. Images lie as exported: ``images/NAME``, ``images/SUBSET/NAME``,
beside the XML, or below the root.

=========================================  ====================================================
``box``                                    the box; rotated: the box around it, counted
                                           (``FROM_ROTATED``)
``polygon``, ``mask``, ``ellipse``,        the box around it, counted by kind
``cuboid``
``points``, ``polyline``, ``skeleton``     no box: dropped, counted (``NO_AREA``)
``tag``                                    of the whole image: dropped, counted (``TAGS``)
an attribute ``difficult``, ``is_crowd``   difficult; a crowd (CVAT keeps VOC's and COCO's so)
``<track>`` (CVAT for video)               refused: export the task as ``CVAT for images 1.1``
=========================================  ====================================================

What becomes of bad data (the rest is in the table of ``detkit/data/settle.py``):

=========================================  ====================================================
a coordinate missing or no number          dropped as a box without numbers, counted
a shape of any other name                  dropped, counted (``UNKNOWN``)
an image found in another folder           taken where one alone fits, counted
an image that stands twice                 refused: whose objects are they?
a shape without a label, an image without  refused, naming the image
a name, XML entities, XML that is broken
=========================================  ====================================================
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from detkit.data.base import Annotations
from detkit.data.documents import (
    NO_BOX,
    Box,
    Page,
    box_around,
    choose_split,
    files_in,
    folders_in,
    holds_images,
    is_split,
    load_xml,
    look_into,
    make_draft,
)
from detkit.data.formats.base import DatasetConfig
from detkit.data.image_index import FOUND_BY_NAME, ImageIndex
from detkit.data.listing import inner_path, is_class_name, number_in
from detkit.data.settle import settle
from detkit.errors import DataError, shown

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

FROM_ROTATED = "boxes made around rotated boxes"
FROM = {
    "polygon": "boxes made from polygons",
    "mask": "boxes made from masks",
    "ellipse": "boxes made from ellipses",
    "cuboid": "boxes made from cuboids",
}
NO_AREA = "points and lines without a box dropped"
TAGS = "tags of whole images dropped"
UNKNOWN = "shapes of unknown types dropped"

FLAT = ("points", "polyline", "skeleton")
NO_BOX_TYPES = (*FLAT, "tag")  # of a label
TRUE = ("1", "true", "yes")
CORNERS = tuple(
    (f"x{side}{face}", f"y{side}{face}") for face in (1, 2) for side in ("tl", "bl", "tr", "br")
)  # of a cuboid's two faces
IMAGE = re.compile(rb"<image\s[^>]*>")
SUBSET = re.compile(rb"""\ssubset\s*=\s*(?:"([^"]*)"|'([^']*)')""")
FOLDERS = ("images", "", "data")  # of images, beside the XML and in the root


class CvatConfig(DatasetConfig):
    """``split`` is a subset, or the name of an XML or of its folder; none: the only one."""

    split: str = ""


class Part(NamedTuple):
    """Where images of one split are listed."""

    path: Path  # the XML
    subset: str | None  # of the images that are meant; None: all of the file


def read_cvat(config: CvatConfig, classes: Sequence[str] = ()) -> Annotations:
    """Read one split of a CVAT export.

    Args:
        config: where, and which split.
        classes: the classes to expect, in the order of their labels; empty: those of ``<meta>``.

    Raises:
        DataError: data that is missing or is refused, as the tables of this module say.
    """
    root, parts = config.root, cvat_parts(config.root)
    split, chosen = choose_split(root, config.split, parts, "CVAT XML (annotations.xml)")
    foreign = {name for name in parts if name not in ("", split)}
    index = ImageIndex(root)
    pages: list[Page] = []
    names: dict[str, None] = {}
    for path, subset in chosen:
        document = _load(path)
        names |= dict.fromkeys(_labels(document))
        for entry in document.iter("image"):
            if subset is None or (entry.get("subset") or "") == subset:
                page = _read_page(path, entry)
                _find_image(page, root, index, entry, foreign)
                pages.append(page)
    if not pages:
        raise DataError(f"{chosen[0].path}: lists no images. Is this the right file?")
    names |= dict.fromkeys(sorted({n for page in pages for n in page.names if n not in names}))
    draft = make_draft(root, chosen[0].path, pages, list(names), classes)
    return settle(draft, config.max_unreadable, look=config.looks_at_images)


# ------------------------------------------------------------------------------ where it lies


def cvat_parts(root: Path) -> dict[str, list[Part]]:
    """Where the images of each split are listed; the name of one without splits is empty."""
    parts = _of_folder(root)
    inner = folders_in(root)
    for folder in inner:
        if is_split(folder.name) and (paths := _documents(folder)):
            parts.setdefault(folder.name, []).extend(Part(path, None) for path in paths)
    if parts:
        return parts
    apart = [path for path in inner if not holds_images(path) and _documents(path)]
    return _of_folder(apart[0]) if len(apart) == 1 else {}


def cvat_counts(root: Path) -> dict[str, int]:
    """How many images each split lists, without parsing the XML."""
    return {name: sum(map(_count, parts)) for name, parts in cvat_parts(root).items()}


def _count(part: Part) -> int:
    images = IMAGE.findall(part.path.read_bytes())
    return sum(part.subset is None or _subset(image) == part.subset for image in images)


def is_cvat(path: Path) -> bool:
    """Whether a file looks like CVAT's XML; only its first bytes are looked at."""
    head, _ = look_into(path)
    head = head.replace(b"\0", b"")  # UTF-16's
    return re.search(rb"<annotations[\s>]", head) is not None and (
        b"<meta" in head or IMAGE.search(head) is not None or b"<track" in head
    )


def _subset(image: bytes) -> str:
    found = SUBSET.search(image)
    return (found[1] or found[2] or b"").decode("utf-8", "replace") if found else ""


def _documents(folder: Path) -> list[Path]:
    return [path for path in files_in(folder, ".xml") if is_cvat(path)]


def _of_folder(folder: Path) -> dict[str, list[Part]]:
    parts: dict[str, list[Part]] = {}
    for path in _documents(folder):
        subsets = {_subset(image) for image in IMAGE.findall(path.read_bytes())}
        if subsets <= {""}:
            name = path.stem if is_split(path.stem) else ""
            parts.setdefault(name, []).append(Part(path, None))
            continue
        for subset in sorted(subsets):
            parts.setdefault(subset, []).append(Part(path, subset))
    return parts


def _find_image(
    page: Page, root: Path, index: ImageIndex, entry: Element, foreign: Collection[str]
) -> None:
    written = entry.get("name") or ""
    inner = inner_path(written)
    subset = inner_path(entry.get("subset") or "")
    bases = dict.fromkeys(  # an ordered set
        f"{below}{folder}/{inside}"
        for below in (f"{page.document.parent.relative_to(root).as_posix()}/", "")
        for folder in FOLDERS
        for inside in ([f"{subset}/", ""] if subset else [""])
    )
    expected = [inner_path(f"{base}{inner}".lstrip("/")) for base in bases] if inner else []
    names = [name for name in expected if name is not None]
    exact = next((name for name in names if name in index), None)
    # Frames of a video are called frame_000000, and their files frame_000000.PNG.
    ended = next((found[0] for name in names if (found := index.with_stem(name))), None)
    page.image = exact or ended or ""
    if page.image:
        return
    elsewhere = index.elsewhere(written, foreign)
    if elsewhere is not None:
        page.image = elsewhere
        page.kinds.append(FOUND_BY_NAME)
    elif not names:
        raise DataError(
            f"{page.document}: the image name {shown(written)} is no path below the folder, and no "
            "image of its name lies there. Write the image's plain name."
        )
    else:  # a file that is not there
        page.image = names[0]


# --------------------------------------------------------------------------- what the XML says


def _load(path: Path) -> Element:
    document = load_xml(path)
    if document.tag != "annotations":
        raise DataError(
            f"{path}: begins with <{document.tag}>, expected <annotations>. Is this a CVAT file?"
        )
    if document.find("track") is not None:
        raise DataError(
            f"{path}: holds tracks, so it is 'CVAT for video'. Export the task as 'CVAT for images "
            "1.1' or as 'COCO 1.0', which hold the frames as images."
        )
    return document


def _labels(document: Element) -> list[str]:
    """The labels of ``<meta>`` that may hold boxes."""
    names = []
    for label in document.iterfind("meta/*/labels/label"):
        kind = (label.findtext("type") or "").strip()
        name = (label.findtext("name") or "").strip()
        is_part = bool((label.findtext("parent") or "").strip())  # of a skeleton
        if is_class_name(name) and not is_part and kind not in NO_BOX_TYPES:
            names.append(name)
    return names


def _read_page(path: Path, entry: Element) -> Page:
    written = entry.get("name") or ""
    if not written.replace("\\", "/").rpartition("/")[2]:
        raise DataError(f"{path}: an <image> has no name. Name its file.")
    height, width = (number_in(entry.get(side) or "") for side in ("height", "width"))
    page = Page(path, "")
    if all(side >= 1 and math.isfinite(side) for side in (height, width)):
        page.size = int(height), int(width)
    for shape in entry:
        if shape.tag == "tag":
            page.kinds.append(TAGS)
        elif shape.tag in FLAT:
            page.kinds.append(NO_AREA)
        elif shape.tag not in FROM and shape.tag != "box":
            page.kinds.append(UNKNOWN)
        else:
            _read_shape(page, written, shape)
    return page


def _read_shape(page: Page, image: str, shape: Element) -> None:
    name = (shape.get("label") or "").strip()
    if not is_class_name(name):
        raise DataError(
            f"{page.document}: a <{shape.tag}> of the image {shown(image)} has no label that can "
            "be read. Name its class or remove it."
        )
    box = READ[shape.tag](shape)
    kind = FROM.get(shape.tag, FROM_ROTATED if _angle(shape) else "")
    if kind and not math.isnan(box[0]):
        page.kinds.append(kind)
    said = {
        entry.get("name") or ""
        for entry in shape.iterfind("attribute")
        if (entry.text or "").strip().lower() in TRUE
    }
    page.add(name, box, difficult="difficult" in said, crowd="is_crowd" in said)


def _numbers(shape: Element, *names: str) -> list[float]:
    values = [number_in(shape.get(name) or "") for name in names]
    return values if all(map(math.isfinite, values)) else [math.nan] * len(names)


def _angle(shape: Element) -> float:
    """A shape's rotation about its centre in radians, clockwise as it is seen."""
    degrees = number_in(shape.get("rotation") or "0")
    return math.radians(degrees % 360) if math.isfinite(degrees) else 0.0


def _box(shape: Element) -> Box:
    x1, y1, x2, y2 = _numbers(shape, "xtl", "ytl", "xbr", "ybr")
    angle = _angle(shape)
    if not angle:
        return x1, y1, x2, y2
    sine, cosine = abs(math.sin(angle)), abs(math.cos(angle))
    x, y, width, height = (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1
    across, down = cosine * width + sine * height, sine * width + cosine * height
    return x - across / 2, y - down / 2, x + across / 2, y + down / 2


def _ellipse(shape: Element) -> Box:
    x, y, across, down = _numbers(shape, "cx", "cy", "rx", "ry")
    sine, cosine = math.sin(_angle(shape)), math.cos(_angle(shape))
    wide, high = math.hypot(across * cosine, down * sine), math.hypot(across * sine, down * cosine)
    return x - wide, y - high, x + wide, y + high


def _mask(shape: Element) -> Box:
    left, top, width, height = _numbers(shape, "left", "top", "width", "height")
    return left, top, left + width, top + height


def _polygon(shape: Element) -> Box:
    pairs = [pair.split(",") for pair in (shape.get("points") or "").split(";")]
    if len(pairs) < 3 or any(len(pair) != 2 for pair in pairs):
        return NO_BOX
    return box_around([(number_in(x), number_in(y)) for x, y in pairs])


def _cuboid(shape: Element) -> Box:
    return box_around([(x, y) for x, y in (_numbers(shape, *pair) for pair in CORNERS)])


READ = {"box": _box, "ellipse": _ellipse, "mask": _mask, "polygon": _polygon, "cuboid": _cuboid}
