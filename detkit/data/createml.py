"""CreateML: Apple's JSON for object detection, as Create ML, Roboflow and labelImg write it.

A list of ``{"image": NAME, "annotations": [{"label": NAME, "coordinates": {"x", "y", "width",
"height"}}]}``. ``x`` and ``y`` are the box's **centre**, in pixels from the upper left corner,
continuous and zero-based, so ``(x - width / 2, y - height / 2, x + width / 2, y + height / 2)`` is
the house's box. Apple's own reference writes ``imagefilename`` and ``annotation``; both are read.

Create ML is told in the call, not in the file, where units or anchor are others. The keys
``units`` and ``anchor`` say so here: pixel and centre unless told. Some tools write the upper left
corner by mistake: a file of which many boxes then begin outside the image is refused until
``anchor`` is named.

Layouts: ``<split>/_annotations.createml.json`` beside the images (Roboflow), ``<split>.json``, or
one JSON, or one an image (labelImg), in the folder itself; images lie beside the JSON or below the
root.

What becomes of bad data (the rest is in the table of ``detkit/data/settle.py``):

=========================================  ====================================================
an image that stands twice                 its objects are joined, counted (``TWICE``)
an object that stands twice                read once, counted (``REPEATED``)
coordinates missing or no numbers          dropped as a box without numbers, counted
an image found in another folder           taken where one alone fits, counted
an image below the folder that no entry    left out, counted (``UNLISTED``)
names
an entry without an image or annotations,  refused, naming its place
an object without a label
=========================================  ====================================================
"""

from __future__ import annotations

import math
import posixpath
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from detkit.data.base import Annotations
from detkit.data.coco_values import read_number, wrong_value
from detkit.data.counted import Counted
from detkit.data.documents import (
    NO_BOX,
    PROBED,
    Box,
    Page,
    choose_split,
    files_in,
    folders_in,
    holds_images,
    is_split,
    load_json,
    look_into,
    make_draft,
)
from detkit.data.formats.base import DatasetConfig
from detkit.data.image_index import FOUND_BY_NAME, ImageIndex
from detkit.data.listing import inner_path, is_class_name
from detkit.data.settle import settle
from detkit.data.stated import written_sides
from detkit.errors import DataError, shown

TWICE = "images that stand twice, their objects joined"
REPEATED = "objects that stand twice read once"
UNLISTED = "images that no entry names left out"

NAMED = "_annotations.createml.json"
IMAGE_KEYS = ("image", "imagefilename")
OBJECT_KEYS = ("annotations", "annotation")
NAMES_IMAGE = re.compile(rb'"(?:image|imagefilename)"\s*:\s*"')
NAMES_OBJECTS = re.compile(rb'"annotations?"\s*:\s*\[\s*(?:\]|\{)')
OUTSIDE = 2.0  # pixels off the image's upper or left edge; what no tool writes that clips
OUTSIDE_SHARE = 0.1  # of the boxes; more of them that begin outside are corners, not centres


class CreateMLConfig(DatasetConfig):
    """``split`` is a folder with its JSON, or a JSON's name: ``train``; none: the only one."""

    split: str = ""
    units: Literal["pixel", "normalized"] = "pixel"  # normalized: shares of the image
    anchor: Literal["", "center", "topLeft"] = ""  # what x and y are; empty: the centre, checked


def read_createml(config: CreateMLConfig, classes: Sequence[str] = ()) -> Annotations:
    """Read one split of a CreateML folder.

    Args:
        config: where, and which split.
        classes: the classes to expect, in the order of their labels; empty: the data's, sorted.

    Raises:
        DataError: data that is missing or is refused, as the table of this module says.
    """
    root, parts = config.root, createml_parts(config.root)
    split, paths = choose_split(root, config.split, parts, "CreateML JSON")
    foreign = {name for name in parts if name not in ("", split)}
    index = ImageIndex(root)
    pages: dict[str, Page] = {}  # by the document's folder and the name that it writes
    seen: set[tuple[str, str, Box]] = set()
    for path in paths:
        for place, entry in enumerate(_load(path)):
            written = _text_of(path, place, entry)
            key = f"{path.parent}/{written}"
            if key in pages:
                pages[key].kinds.append(TWICE)
            else:
                pages[key] = Page(path, "")
                _find_image(pages[key], root, index, written, foreign)
            _read_objects(pages[key], key, path, place, entry, config.anchor, seen)
    found = list(pages.values())
    if not found:
        raise DataError(f"{paths[0]}: lists no images. Is this the right file?")
    boxes = [box for page in found for box in page.boxes]
    if config.units == "pixel":
        _refuse_shares(paths[0], boxes)
        if config.anchor == "":
            _refuse_corners(paths[0], boxes)
    names = sorted({name for page in found for name in page.names})
    noted = {UNLISTED: Counted.of(_unlisted(index, found, split, parts), root)}
    draft = make_draft(root, paths[0], found, names, classes, noted)
    if config.units == "normalized":
        draft = replace(draft, relative=True)
    else:
        draft = replace(draft, sides=written_sides(draft.boxes))
    return settle(draft, config.max_unreadable, look=config.looks_at_images)


# ------------------------------------------------------------------------------ where it lies


def createml_parts(root: Path) -> dict[str, list[Path]]:
    """The JSON files of each split; the name of one without splits is empty."""
    parts = _by_stem(root)
    inner = folders_in(root)
    for folder in inner:
        if is_split(folder.name) and (paths := _documents(folder)):
            parts.setdefault(folder.name, []).extend(paths)
    if parts:
        return parts
    apart = [path for path in inner if not holds_images(path) and _documents(path)]
    return _by_stem(apart[0]) if len(apart) == 1 else {}


def createml_counts(root: Path) -> dict[str, int]:
    """How many entries the JSON files of each split have, without parsing them."""
    return {
        name: sum(len(NAMES_IMAGE.findall(path.read_bytes())) for path in paths)
        for name, paths in createml_parts(root).items()
    }


def is_createml(path: Path) -> bool:
    """Whether a file looks like CreateML's JSON, by Roboflow's name for it or its first bytes."""
    if path.name.lower().endswith(NAMED):
        return True
    head, _ = look_into(path)
    return (
        head.startswith(b"[")
        and NAMES_IMAGE.search(head) is not None
        and NAMES_OBJECTS.search(head) is not None
        and (b'"coordinates"' in head or b'"label"' not in head)
        and b'"result"' not in head  # Label Studio's tasks
    )


def _documents(folder: Path) -> list[Path]:
    paths = files_in(folder, ".json")
    if len(paths) > PROBED and not any(is_createml(path) for path in paths[:PROBED]):
        return []
    return [path for path in paths if is_createml(path)]


def _by_stem(folder: Path) -> dict[str, list[Path]]:
    parts: dict[str, list[Path]] = {}
    for path in _documents(folder):
        parts.setdefault(path.stem if is_split(path.stem) else "", []).append(path)
    return parts


def _find_image(
    page: Page, root: Path, index: ImageIndex, written: str, foreign: Collection[str]
) -> None:
    folder = page.document.parent.relative_to(root).as_posix()
    inner = inner_path(written)
    beside = [] if inner is None else [posixpath.normpath(posixpath.join(folder, inner)), inner]
    page.image = next((name for name in beside if name in index), "")
    if page.image:
        return
    found = index.elsewhere(written, foreign)
    if found is not None:
        page.image = found
        page.kinds.append(FOUND_BY_NAME)
    elif inner is None:
        raise DataError(
            f"{page.document}: the image {shown(written)} is no path below the folder, and no "
            "image of its name lies there. Write the image's plain name."
        )
    else:  # a file that is not there
        page.image = beside[0]


def _unlisted(
    index: ImageIndex, pages: Sequence[Page], split: str, parts: Mapping[str, Sequence[Path]]
) -> list[str]:
    """Images that lie beside those of the split and are named by none of its entries."""
    places = {name: {path.parent for path in paths} for name, paths in parts.items()}
    if any(places[split] & places[name] for name in parts if name != split):
        return []  # documents of several splits lie in one folder, and so may their images
    used = {page.image for page in pages}
    folders = {posixpath.dirname(name) for name in used if name in index}
    return [n for n in index.names if posixpath.dirname(n) in folders and n not in used]


# -------------------------------------------------------------------------- what the JSON says


def _load(path: Path) -> list[Mapping[str, Any]]:
    content = load_json(path)
    if not isinstance(content, list):
        raise DataError(f"{path}: is no list of images. Is this a CreateML file?")
    for place, entry in enumerate(content):
        if not isinstance(entry, dict):
            raise wrong_value(path, f"[{place}]", "a block of keys", entry)
    return content


def _text_of(path: Path, place: int, entry: Mapping[str, Any]) -> str:
    key = next((key for key in IMAGE_KEYS if key in entry), IMAGE_KEYS[0])
    name = entry.get(key)
    if not isinstance(name, str) or not name.replace("\\", "/").rpartition("/")[2]:
        raise wrong_value(path, f"[{place}].{key}", "a file name", name)
    return name


def _read_objects(
    page: Page,
    image: str,
    path: Path,
    place: int,
    entry: Mapping[str, Any],
    anchor: str,
    seen: set[tuple[str, str, Box]],
) -> None:
    key = next((key for key in OBJECT_KEYS if key in entry), OBJECT_KEYS[0])
    if not isinstance(entry.get(key), list):
        raise wrong_value(path, f"[{place}].{key}", "a list", entry.get(key))
    for row, given in enumerate(entry[key]):
        where = f"[{place}].{key}[{row}]"
        if not isinstance(given, dict):
            raise wrong_value(path, where, "a block of keys", given)
        if not is_class_name(given.get("label")):
            raise wrong_value(path, f"{where}.label", "a name", given.get("label"))
        box = _read_box(given.get("coordinates"), anchor)
        if (image, given["label"], box) in seen:
            page.kinds.append(REPEATED)
            continue
        if not math.isnan(box[0]):
            seen.add((image, given["label"], box))
        page.add(given["label"], box)


def _read_box(given: object, anchor: str) -> Box:
    if not isinstance(given, dict):
        return NO_BOX
    x, y, width, height = (read_number(given.get(key)) for key in ("x", "y", "width", "height"))
    if not all(map(math.isfinite, (x, y, width, height))):
        return NO_BOX
    if anchor == "topLeft":
        return x, y, x + width, y + height
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def _refuse_shares(source: Path, boxes: Sequence[Box]) -> None:
    """Refuse boxes that all end within the first pixel: they are shares of the image."""
    ends = [max(x, y) for _, _, x, y in boxes if math.isfinite(x)]
    if ends and max(ends) <= 1:
        raise DataError(
            f"{source}: all {len(ends)} boxes end within the first pixel, so they seem to be "
            "shares of the image. Set data.units=normalized (with data.format=createml)."
        )


def _refuse_corners(source: Path, boxes: Sequence[Box]) -> None:
    """Refuse boxes of which many begin outside the image: their x and y are no centres."""
    outside = sum(min(x, y) < -OUTSIDE for x, y, _, _ in boxes)
    if outside > OUTSIDE_SHARE * len(boxes):
        raise DataError(
            f"{source}: {outside} of {len(boxes)} boxes begin left of their image or above it, if "
            "x and y are their centres, as Create ML has it. Some tools write the upper left "
            "corner there: look at the file, and set data.anchor=topLeft or data.anchor=center "
            "(with data.format=createml)."
        )
