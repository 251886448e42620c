"""The splits of a folder, format by format: what ``format: auto`` looks for.

Those of CSV tables and VIA's files are in ``table_splits.py``, those of YOLO text are counted in
``yolo_splits.py``.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Callable
from pathlib import Path

from detkit.data.choose_splits import purpose_of
from detkit.data.coco_layout import LAYOUTS, MORE_LAYOUTS
from detkit.data.formats.base import Split
from detkit.data.places import SPLIT
from detkit.data.voc_folders import find_annotations, list_files
from detkit.data.voc_layout import unlisted_splits
from detkit.data.voc_list import read_list

_COCO_KEYS = (b'"images"', b'"annotations"', b'"categories"')


def find_voc(root: Path, annotations: str = "") -> list[Split]:
    """The splits of PASCAL VOC in a folder: those of its lists, or of folders of XML files."""
    lists = [] if annotations or not root.is_dir() else list_files(root)
    if not lists:
        found = unlisted_splits(root, annotations)
        return [Split(name, count, purpose_of(name)) for name, count in found.items()]
    below = {path: path.parents[2].relative_to(root).as_posix() for path in lists}
    if not any(find_annotations(path.parents[2], listed=True) for path in lists):
        return []
    whole = {(below[path], path.stem) for path in lists}
    splits = []
    for path in lists:
        _, _, end = path.stem.rpartition("_")  # cat_train lists train again, with flags
        if end == path.stem or (below[path], end) not in whole:
            name = path.stem if below[path] == "." else f"{below[path]}/{path.stem}"
            count = len(read_list(path)) if path.stat().st_size else 0
            splits.append(Split(name, count, purpose_of(path.stem)))
    return [split for split in splits if split.images]


def find_coco(root: Path) -> list[Split]:
    """The splits of COCO's JSON files in a folder."""
    found: dict[str, Path] = {}
    for layout in (*LAYOUTS[:-1], *MORE_LAYOUTS, LAYOUTS[-1]):  # the reader's order: the first
        before, _, behind = layout.partition(SPLIT)
        for path in sorted(root.glob(before + "*" + behind)):
            name = path.relative_to(root).as_posix()
            split = name[len(before) : len(name) - len(behind)]
            if path not in found.values() and (layout in LAYOUTS or purpose_of(split)):
                found.setdefault(split, path)
    official = {name: path for name, path in found.items() if path.name.startswith("instances_")}
    counts = {name: count_coco_images(path) for name, path in (official or found).items()}
    return [Split(name, count, purpose_of(name)) for name, count in counts.items() if count]


def count_coco_images(path: Path) -> int:
    """How many images a JSON names, without parsing it; 0 where it is no COCO file."""
    if not path.is_file() or not path.stat().st_size:
        return 0
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        if any(text.find(key) < 0 for key in _COCO_KEYS):
            return 0
        return len(re.findall(rb'"file_name"', text))


def finder(count: Callable[[Path], dict[str, int]]) -> Callable[[Path], list[Split]]:
    """A finder, from what counts the images of each split."""

    def find(root: Path) -> list[Split]:
        counts = count(root)
        return [Split(name, counts[name], purpose_of(name)) for name in counts if counts[name]]

    return find
