"""VIA (VGG Image Annotator) 1 and 2: its projects, its annotations as JSON, and as CSV.

=====================================================  ========================================
``{"_via_img_metadata": {KEY: IMAGE}, ...}``           a project, ``via_project_....json``
``{KEY: IMAGE}``, IMAGE ``{"filename", "size",         exported annotations; regions are a list
"regions", "file_attributes"}``                        (2) or a block by number (1)
``filename,file_size,file_attributes,region_count,     exported as CSV; 1.0 writes ``#`` in front
region_id,region_shape_attributes,region_attributes``
=====================================================  ========================================

The file lies beside the images, or in the folder of each split (``train/via_region_data.json``).
The class is the attribute of that name in ``attribute`` of the entry; without it the only one that
regions have, or the only one with a usual name (``class``, ``label``, ``name``, ...), counted.
Numbers of a project's options (``"1"``) are called by the options' descriptions. Regions without
any attribute, as in Matterport's balloons, are all ``object``.

=========================================  ====================================================
an image without regions                   kept, as a negative
polygons, circles, ellipses                the box around them, counted
points and polylines                       dropped, counted
a shape unknown or without its numbers     dropped as a box without numbers, counted
an object that stands twice                read once, counted
images beside those that are named         left out, counted
a region without a class, or with several  refused, naming the region
several attributes that may be the class   refused, naming them
a project of VIA 3                         refused: export it as COCO
=========================================  ====================================================
"""

from __future__ import annotations

import json
import mmap
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from detkit.data.base import Annotations
from detkit.data.counted import Counted
from detkit.data.csv_dialects import is_split
from detkit.data.csv_rows import ENDINGS, first_row, read_rows
from detkit.data.formats.base import DatasetConfig
from detkit.data.listing import contents, inner_path, read_text
from detkit.data.places import COUNTED, SPLIT, below_root
from detkit.data.settle import settle
from detkit.data.stated import written_sides
from detkit.data.table_images import UNNAMED, count_unnamed, find_folder, find_table_images
from detkit.data.table_page import Page, draft_of
from detkit.data.via_regions import Region, box_of, class_attribute, class_of
from detkit.errors import ConfigError, DataError, bare, shown
from detkit.files import leaves_folder

REPEATED = "repeated regions read once"
HEAD_BYTES = 1 << 20  # of a JSON, in which its keys stand
ONE_CLASS = "object"  # of regions without attributes
HEADER = ("filename", "region_shape_attributes", "region_attributes")
_FILE_NAME = re.compile(rb'"filename"\s*:')


class ViaConfig(DatasetConfig):
    """``root`` is the file or its folder; ``split`` the file's name, or the split's folder."""

    split: str = ""
    annotations: str = ""  # the file, below root; {split} in it stands for the split
    images: str = ""  # the folder of the images, below root; {split} as well
    attribute: str = ""  # of regions, that is the class; empty: the only one


@dataclass(frozen=True, slots=True)
class _Content:
    images: dict[str, list[Region]] = field(default_factory=dict)  # by file name
    options: dict[str, dict[str, str]] = field(default_factory=dict)  # by attribute and number


def read_via(config: ViaConfig, classes: Sequence[str] = ()) -> Annotations:
    """Read one file of VIA.

    Args:
        config: where, and which attribute is the class.
        classes: the classes to expect, in the order of their labels; empty: the data's, sorted.

    Raises:
        ConfigError: no file is named, or an attribute that no region has.
        DataError: data that is missing or is refused, as the table of this module says.
    """
    path = find_via(config)
    root = config.root.parent if config.root.is_file() else config.root
    content = _read(path)
    one_class = classes[0] if len(classes) == 1 else ONE_CLASS
    pages, noted = _pages(path, content, config.attribute, one_class)
    folder = find_folder(root, config.images, config.split)
    where = [page.where for page in pages.values()]
    found = find_table_images(list(pages), path.parent, root, where, config.split, folder)
    noted[UNNAMED] = count_unnamed(found.paths, ())
    draft = draft_of(path, list(pages.values()), found, classes, noted)
    draft = replace(draft, sides=written_sides(draft.boxes))
    return settle(draft, config.max_unreadable, look=config.looks_at_images)


# --------------------------------------------------------------------------- where the file is


def via_files(root: Path) -> list[tuple[str, Path]]:
    """VIA's files, with the split that each is by its place: its own name, or its folder's.

    Files in the folders below are looked at where the root has none.
    """
    if root.is_file():
        return [(root.stem, root)] if count_images(root) else []
    found = [(path.stem, path) for path in _files_in(root)]
    if not found:
        folders = [path for path in sorted(root.iterdir()) if _is_place(path)]
        found = [(folder.name, path) for folder in folders for path in _files_in(folder)]
    return found


def count_images(path: Path) -> int:
    """How many images a file of VIA names, without parsing its JSON; 0 for other files."""
    if path.suffix.lower() in ENDINGS:
        if not _is_header(first_row(path, _is_header)):
            return 0
        return len(_read_table(path).images)
    if path.suffix.lower() != ".json" or not path.is_file() or not path.stat().st_size:
        return 0
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        head = text[:HEAD_BYTES]
        known = b'"_via_img_metadata"' in head or (b'"regions"' in head and b'"size"' in head)
        return len(_FILE_NAME.findall(text)) if known else 0


def find_via(config: ViaConfig) -> Path:
    """Return the file that an entry means; it is there.

    Raises:
        ConfigError: a folder of several files, but no split; a name that leaves the folder.
        DataError: no such file, with what is there.
    """
    root, split = config.root, config.split
    if config.annotations:
        named = below_root(root, config.annotations).replace(SPLIT, split)
        if leaves_folder(named):
            raise ConfigError(
                f"data.annotations: {config.annotations!r} leaves {root}. {COUNTED} Write one "
                "below it."
            )
        if not (root / named).is_file():
            there = contents(root) if root.is_dir() else "data.root is no folder"
            raise DataError(f"data.annotations: {root / named} is no file; {there}. {COUNTED}")
        return root / named
    if root.is_file():
        return root
    if not root.is_dir():
        raise DataError(f"{root}: no such folder. Point to your data with data.root=PATH.")
    files = [(name, path) for name, path in via_files(root) if split in ("", name)]
    if len(files) == 1:
        return files[0][1]
    if not files:
        raise DataError(f"{root}: no file of VIA{f' for {split}' if split else ''}; "
                        f"{contents(root)}. Check data.split.")  # fmt: skip
    names = " and ".join(path.relative_to(root).as_posix() for _, path in files[:2])
    raise DataError(f"{root}: {names} are files of VIA. Say data.annotations=FILE.")


def _is_place(path: Path) -> bool:
    """Whether a folder's file is the root's; in one of another name it is a dataset of its own."""
    name = path.name.lower()
    return path.is_dir() and (is_split(name) or name in ("annotations", "labels"))


def _files_in(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.is_file() and count_images(path):
            yield path


# ------------------------------------------------------------------------- what the file says


def _pages(
    path: Path, content: _Content, named: str, one_class: str
) -> tuple[dict[str, Page], dict[str, int]]:
    """What the file says of each image, and what was counted."""
    regions = [region for image in content.images.values() for region in image]
    attribute, found = class_attribute(regions, named)
    noted, first = Counter(found), dict[str, str]()
    if not attribute and regions:
        noted[f"objects without a class name called {one_class!r}"] = len(regions)
    options = content.options.get(attribute, {})
    pages: dict[str, Page] = {}
    for name, image in content.images.items():
        page = pages.setdefault(name, Page(f"{path}: {bare(name)}"))
        seen: set[tuple[str, tuple[float, ...]]] = set()
        for region in image:
            box, kind = box_of(region.shape)
            if box is not None:
                called = class_of(region, attribute, options) if attribute else one_class
                if (called, box) in seen:
                    noted[REPEATED] += 1
                    first.setdefault(REPEATED, page.where)
                    continue
                seen.add((called, box))
                page.add(called, box)
            if kind:
                noted[kind] += 1
                first.setdefault(kind, page.where)
    return pages, {kind: Counted(n, first.get(kind, "")) for kind, n in noted.items()}


def _read(path: Path) -> _Content:
    if path.suffix.lower() in ENDINGS:
        return _read_table(path)
    text = read_text(path)
    try:
        content = json.loads(text)
    except RecursionError:
        raise DataError(f"{path}: is nested too deep for a file of VIA. Repair it.") from None
    except ValueError as problem:
        raise DataError(f"{path}: not readable as JSON ({problem}). Repair the file.") from None
    if isinstance(content, dict) and {"project", "file", "metadata"} <= {*content}:
        raise DataError(
            f"{path}: a project of VIA 3, which detkit does not read. Export it in VIA as COCO."
        )
    options: dict[str, dict[str, str]] = {}
    if isinstance(content, dict) and "_via_img_metadata" in content:
        options = _options(content.get("_via_attributes"))
        content = content["_via_img_metadata"]
    if not isinstance(content, dict) or not content:
        raise DataError(f"{path}: lists no images. Is this a file of VIA?")
    images: dict[str, list[Region]] = {}
    for key, image in content.items():
        name = image.get("filename") if isinstance(image, dict) else None
        if not isinstance(name, str) or not name:
            raise DataError(f"{path}: {shown(key)} names no file. Is this a file of VIA?")
        regions = image.get("regions")
        listed = list(regions.values()) if isinstance(regions, dict) else regions or []
        if not isinstance(listed, list):
            raise DataError(f"{path}: {bare(name)}: regions are no list. Repair the file.")
        images.setdefault(inner_path(name) or name, []).extend(
            _region(f"{path}: {bare(name)}: region {index + 1}", region)
            for index, region in enumerate(listed)
        )
    return _Content(images, options)


def _region(where: str, region: Any) -> Region:
    if not isinstance(region, dict):
        raise DataError(f"{where}: expected a block of keys. Repair the file.")
    shape, attributes = (region.get(f"{key}_attributes") or {} for key in ("shape", "region"))
    if not isinstance(shape, dict) or not isinstance(attributes, dict):
        raise DataError(f"{where}: its attributes are no block of keys. Repair the file.")
    return Region(where, shape, attributes)


def _options(attributes: Any) -> dict[str, dict[str, str]]:
    """What numbers stand for, by attribute: VIA keeps an option's id, a person reads the rest."""
    of_regions = attributes.get("region") if isinstance(attributes, dict) else None
    found: dict[str, dict[str, str]] = {}
    for name, described in (of_regions if isinstance(of_regions, dict) else {}).items():
        options = described.get("options") if isinstance(described, dict) else None
        if isinstance(options, dict):
            found[name] = {
                id_: text
                for id_, text in options.items()
                if id_.isdigit() and isinstance(text, str) and text
            }
    return found


def _is_header(cells: Sequence[str]) -> bool:
    return {*HEADER} <= {cell.lstrip("#") for cell in cells}


def _read_table(path: Path) -> _Content:
    _, rows = read_rows(path, _is_header)
    columns: list[str] = []
    images: dict[str, list[Region]] = {}
    for line, cells in rows:
        if not columns:
            columns = [cell.lstrip("#") for cell in cells]
            lacking = next((name for name in HEADER if name not in columns), None)
            if lacking is not None:
                raise DataError(
                    f"{path}: the header has no column {lacking!r}. Is this a table of VIA?"
                )
            continue
        where = f"{path}: line {line}"
        if len(cells) != len(columns):
            raise DataError(
                f"{where}: has {len(cells)} columns, expected {len(columns)}. Export it again."
            )
        said = dict(zip(columns, cells, strict=True))
        if not said["filename"]:
            raise DataError(f"{where}: names no file. Export it again.")
        image = images.setdefault(inner_path(said["filename"]) or said["filename"], [])
        shape = _block(where, said["region_shape_attributes"])
        attributes = _block(where, said["region_attributes"])
        if shape:
            image.append(Region(where, shape, attributes))
    if not images:
        raise DataError(f"{path}: lists no images. Is this a file of VIA?")
    return _Content(images)


def _block(where: str, text: str) -> Mapping[str, Any]:
    try:
        block = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        block = None
    if not isinstance(block, dict):
        raise DataError(f"{where}: a cell is no JSON block. Export the file again.")
    return block
