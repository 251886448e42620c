"""labelme: one JSON an image, as labelme and X-AnyLabeling save it.

Coordinates are pixels of the upright picture, continuous and zero-based, so the box around a
shape's points is the house's box as it stands. A JSON lies beside its image, or in a folder of its
own (``annotations/a.json``, ``images/a.jpg``); folders called ``train``, ``val`` and the like are
the splits. The image is the one of the JSON's own name; ``imagePath`` counts where none is.

=========================================  ====================================================
``rectangle`` (2 or 4 points, any order)   the box around the points
``polygon``                                the box around it, counted (``FROM_POLYGONS``)
``circle`` (its centre, a point on it)     the box around it, counted (``FROM_CIRCLES``)
``mask`` (first and last pixel, both       the box around it, counted (``FROM_MASKS``)
belong to it)
``oriented_rectangle``, ``rotation``       the box around it, counted (``FROM_ROTATED``)
``point``, ``line``, ``linestrip``, ...    has no box: dropped, counted (``NO_AREA``)
a shape of any other type                  dropped, counted (``UNKNOWN``)
outlines of one label and ``group_id``     parts of one object, as labelme's own converters have
                                           it: the box around all, counted (``JOINED``)
=========================================  ====================================================

What becomes of bad data (the rest is in the table of ``detkit/data/settle.py``):

=========================================  ====================================================
points that are no numbers, or too few     dropped as a box without numbers, counted
an image without a JSON                    left out, counted (``UNANNOTATED``)
an image found in another folder           taken where one alone fits, counted
a picture that is only in ``imageData``    counted (``EMBEDDED``); refused above
                                           ``max_unreadable``, saying how to write the files
a JSON of another kind among them          passed over, counted (``OTHER_JSON``)
an image that two JSONs speak of           refused, naming both
a JSON that cannot be read, a shape        refused, naming the file
without a label
=========================================  ====================================================
"""

from __future__ import annotations

import math
import os
import posixpath
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from detkit.data.base import Annotations
from detkit.data.coco_values import read_number, read_whole, wrong_value
from detkit.data.counted import Counted
from detkit.data.documents import (
    NO_BOX,
    PROBED,
    Box,
    Page,
    box_around,
    choose_split,
    files_below,
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
from detkit.data.listing import is_class_name
from detkit.data.settle import allowed_unreadable, settle
from detkit.errors import DataError
from detkit.files import leaves_folder
from detkit.image_files import EXTENSIONS

FROM_POLYGONS = "boxes made from polygons"
FROM_CIRCLES = "boxes made from circles"
FROM_MASKS = "boxes made from masks"
FROM_ROTATED = "boxes made around rotated boxes"
NO_AREA = "points and lines without a box dropped"
UNKNOWN = "shapes of unknown types dropped"
JOINED = "outlines joined to one object by their group_id"
UNANNOTATED = "images without an annotation file left out"
EMBEDDED = "images embedded in their JSON alone"
OTHER_JSON = "JSON files of another kind passed over"

LEAST_POINTS = {"rectangle": 2, "circle": 2, "mask": 2}
KIND_OF = {  # of a shape that has a box -> what is counted
    "rectangle": "",
    "polygon": FROM_POLYGONS,
    "circle": FROM_CIRCLES,
    "mask": FROM_MASKS,
    **dict.fromkeys(("oriented_rectangle", "rotation", "quadrilateral"), FROM_ROTATED),
}
FLAT = ("point", "points", "line", "linestrip")
OUTLINES = ("polygon", "circle", "mask")  # that several may make one object
UNPACK = (  # what writes the embedded pictures beside their JSON
    "import base64, json, pathlib, sys; [p.with_suffix('.jpg').write_bytes(base64.b64decode(d)) "
    "for p in pathlib.Path(sys.argv[1]).rglob('*.json') if not p.with_suffix('.jpg').exists() "
    "for d in [json.loads(p.read_text('utf-8')).get('imageData')] if d]"
)


class LabelmeConfig(DatasetConfig):
    """``split`` is a folder of JSON files, such as ``train``; none: the only one."""

    split: str = ""


def read_labelme(config: LabelmeConfig, classes: Sequence[str] = ()) -> Annotations:
    """Read one split of a folder of labelme's JSON files.

    Args:
        config: where, and which split.
        classes: the classes to expect, in the order of their labels; empty: the data's, sorted.

    Raises:
        DataError: data that is missing or is refused, as the tables of this module say.
    """
    root, parts = config.root, labelme_folders(config.root)
    split, folder = choose_split(root, config.split, parts, "labelme JSON files")
    foreign = {name for name in parts if name not in ("", split)}
    paths = sorted(files_below(folder, ".json"))
    if split == "":  # the folders of other splits are theirs
        paths = [p for p in paths if not any(p.is_relative_to(parts[name]) for name in foreign)]
    index = ImageIndex(root)
    own = {posixpath.splitext(_below(path, root))[0] for path in files_below(root, ".json")}
    pages, embedded, others = [], [], list[Path]()
    for path in paths:
        if leaves_folder(path.name):
            raise DataError(
                f"{folder}: the file name {path.name!r} is no readable text. Rename it."
            )
        content = load_json(path)
        if not isinstance(content, dict) or not {"shapes", "imagePath"} & content.keys():
            others.append(path)
            continue
        page = _read_page(path, content)
        _find_image(page, root, index, content.get("imagePath"), own, foreign)
        if page.image not in index and isinstance(content.get("imageData"), str):
            page.kinds.append(EMBEDDED)
            embedded.append(page)
        pages.append(page)
    allowed = allowed_unreadable(config.max_unreadable, len(pages))
    if config.looks_at_images and len(embedded) > allowed:
        raise DataError(
            f"{folder}: {len(embedded)} of {len(pages)} images are no files: they are embedded in "
            f"their JSON (imageData), such as {embedded[0].document.name}. Write them beside it: "
            f'python -c "{UNPACK}" {shlex.quote(str(folder))}'
            " and try again."
        )
    names = sorted({name for page in pages for name in page.names})
    noted = {OTHER_JSON: Counted.of(others)}
    noted[UNANNOTATED] = Counted.of(_unannotated(index, pages, own), root)
    draft = make_draft(root, folder, pages, names, classes, noted)
    return settle(draft, config.max_unreadable, look=config.looks_at_images)


# ------------------------------------------------------------------------------ where it lies


def labelme_folders(root: Path) -> dict[str, Path]:
    """The folder of each split's JSON files; the name of one without splits is empty."""
    if not root.is_dir():
        return {}
    inner = folders_in(root)
    parts = {path.name: path for path in inner if is_split(path.name) and _holds(path)}
    if _any_labelme(files_in(root, ".json")):
        parts[""] = root
    if parts:
        return parts
    apart = [path for path in inner if not holds_images(path) and _holds(path)]
    if len(apart) != 1:  # none, or datasets of their own
        return {}
    parts = {p.name: p for p in folders_in(apart[0]) if is_split(p.name) and _holds(p)}
    if parts or not _any_labelme(files_in(apart[0], ".json")):
        return parts
    return {"": apart[0]}


def labelme_counts(root: Path) -> dict[str, int]:
    """How many JSON files each split has."""
    folders = labelme_folders(root)
    counts = {name: sum(1 for _ in files_below(path, ".json")) for name, path in folders.items()}
    if "" in counts:  # without those of the other splits
        counts[""] -= sum(counts[name] for name in counts if name)
    return counts


def is_labelme(path: Path) -> bool:
    """Whether a file looks like labelme's JSON; only its first and last bytes are looked at."""
    head, tail = look_into(path)
    return (
        head.startswith(b"{")
        and any(b'"shapes"' in part for part in (head, tail))
        and any(key in part for part in (head, tail) for key in (b'"imagePath"', b'"imageData"'))
    )


def _holds(folder: Path) -> bool:
    return any(is_labelme(path) for path in islice(files_below(folder, ".json"), PROBED))


def _any_labelme(paths: Sequence[Path]) -> bool:
    return any(is_labelme(path) for path in paths[:PROBED])


def _below(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def _find_image(
    page: Page,
    root: Path,
    index: ImageIndex,
    written: object,
    own: Collection[str],
    foreign: Collection[str],
) -> None:
    """Set the image of a page: the JSON's own name first, then what ``imagePath`` says."""
    stem = posixpath.splitext(_below(page.document, root))[0]
    plain = written.replace("\\", "/") if isinstance(written, str) else ""
    last = plain.rpartition("/")[2]
    beside = index.with_stem(stem)
    if beside:
        same = [name for name in beside if name.rpartition("/")[2] == last]
        page.image = (same or beside)[0]
        return
    folder = posixpath.dirname(stem)
    named = posixpath.normpath(posixpath.join(folder, plain)) if plain else ""
    is_own = posixpath.splitext(last)[0] == posixpath.basename(stem)
    # Of the JSON's own name in another folder; those that have a JSON beside them are its.
    apart = index.elsewhere(stem, foreign)
    if apart is not None and posixpath.splitext(apart)[0] not in own:
        page.image = apart
        if apart != named:
            page.kinds.append(FOUND_BY_NAME)
    elif named in index:
        page.image = named
    elif last and not is_own and (found := index.elsewhere(plain, foreign)) is not None:
        page.image = found
        page.kinds.append(FOUND_BY_NAME)
    else:  # a file that is not there
        ending = posixpath.splitext(last)[1]
        page.image = stem + (ending if ending.lower() in EXTENSIONS else EXTENSIONS[0])


def _unannotated(index: ImageIndex, pages: Sequence[Page], own: Collection[str]) -> Iterator[str]:
    """Images that lie beside those that are read and have no JSON."""
    used = {page.image for page in pages}
    stems = {os.path.splitext(name)[0] for name in used}
    folders = {posixpath.dirname(name) for name in used if name in index}
    names = {posixpath.basename(stem) for stem in own}  # JSONs of the other splits have theirs
    for name in index.names:
        stem = posixpath.splitext(name)[0]
        beside = posixpath.dirname(name) in folders
        if beside and stem not in stems and posixpath.basename(stem) not in names:
            yield name


# -------------------------------------------------------------------------- what the JSON says


def _read_page(path: Path, content: Mapping[str, Any]) -> Page:
    shapes = content.get("shapes")
    if not isinstance(shapes, list):
        raise wrong_value(path, "shapes", "a list", shapes)
    height, width = (read_whole(content.get(f"image{side}")) for side in ("Height", "Width"))
    page = Page(path, "")
    if height and width and min(height, width) > 0:
        page.size = height, width
    parts: dict[tuple[str, int], int] = {}  # object of a label and a group
    for place, shape in enumerate(shapes):
        if not isinstance(shape, dict):
            raise wrong_value(path, f"shapes[{place}]", "a block of keys", shape)
        if not is_class_name(shape.get("label")):
            raise wrong_value(path, f"shapes[{place}].label", "a name", shape.get("label"))
        kind = shape.get("shape_type", "polygon")  # labelme's first versions had no other
        if not isinstance(kind, str) or kind not in KIND_OF:
            page.kinds.append(NO_AREA if kind in FLAT else UNKNOWN)
            continue
        box = _read_shape(kind, shape.get("points"))
        if KIND_OF[kind] and _is_box(box):
            page.kinds.append(KIND_OF[kind])
        group = read_whole(shape.get("group_id")) if kind in OUTLINES else None
        key = (shape["label"], group if group is not None else -1)
        if group is not None and key in parts and _is_box(box):
            before = page.boxes[parts[key]]
            page.boxes[parts[key]] = box_around([before[:2], before[2:], box[:2], box[2:]])
            page.kinds.append(JOINED)
            continue
        if group is not None and _is_box(box):
            parts[key] = len(page.boxes)
        page.add(shape["label"], box, difficult=_is_difficult(shape))
    return page


def _is_difficult(shape: Mapping[str, Any]) -> bool:
    """Whether X-AnyLabeling's key or a flag of labelme's says so."""
    flags = shape.get("flags")
    flagged = isinstance(flags, dict) and flags.get("difficult") is True
    return flagged or shape.get("difficult") is True


def _read_shape(kind: str, given: object) -> Box:
    """The box around a shape; ``NO_BOX`` where its points are none."""
    points = given if isinstance(given, list) else []
    if len(points) < LEAST_POINTS.get(kind, 3):
        return NO_BOX
    if not all(isinstance(point, list) and len(point) == 2 for point in points):
        return NO_BOX
    read = [(read_number(x), read_number(y)) for x, y in points]
    x1, y1, x2, y2 = box = box_around(read)
    if kind == "circle" and math.isfinite(x1):
        (x, y), (at_x, at_y) = read[:2]
        radius = math.hypot(at_x - x, at_y - y)
        return x - radius, y - radius, x + radius, y + radius
    return (x1, y1, x2 + 1, y2 + 1) if kind == "mask" else box


def _is_box(box: Box) -> bool:
    return not math.isnan(box[0])
