"""The splits of a folder of YOLO text, found by what lies in it."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from detkit.data.choose_splits import purpose_of
from detkit.data.unrecognised import has_images
from detkit.data.voc_folders import find_annotations, folders_in
from detkit.data.yolo_described import ENDINGS
from detkit.data.yolo_labels import PROBED, find_labels, looks_like_labels
from detkit.data.yolo_layout import IMAGE_SETS, LIST_OF_ALL, list_files, list_split, open_folder
from detkit.data.yolo_lists import is_list
from detkit.data.yolo_names import Described
from detkit.errors import DataError


def yolo_counts(root: Path, names_file: str = "") -> dict[str, int]:
    """How many images each split has; ``""`` where the folder has no splits.

    Args:
        root: the folder, or its ``data.yaml`` or ``obj.data``.
        names_file: the file of names and splits, below the folder; empty: found.

    Raises:
        DataError: what the folder says of itself cannot be read, and label files are there.
    """
    if root.is_file() and root.suffix.lower() not in ENDINGS:
        return {}
    problem = None
    try:
        top, described = open_folder(root, names_file)
    except DataError as refused:
        if not root.is_dir():
            raise
        problem, top, described = refused, root, Described()
    counts: dict[tuple[str, ...], tuple[str, int]] = {}  # data.yaml may call images/valid val
    for name in _names(top, described):
        try:
            images = list_split(top, name, described).images
        except DataError:  # such as a train.txt of another kind
            continue
        files = islice((file for file in find_labels(top, images).files if file), PROBED)
        if any(looks_like_labels(top / file, empty=True) for file in files):
            counts.setdefault(tuple(images), (name, len(images)))
    if counts and problem is not None:
        raise problem
    return dict(counts.values())


def why_lists(root: Path) -> str:
    """What is wrong with lists of images in a folder of which no split is found; empty: nothing."""
    for path in list_files(root) if root.is_dir() else []:
        if purpose_of(path.stem) and is_list(path):
            try:
                list_split(root, path.stem, Described(), max_unreadable=0.0)
            except DataError as refused:
                return str(refused)
    return ""


def _names(root: Path, described: Described) -> list[str]:
    """Names that splits may have by the folders and lists that are there, each once."""
    names = list(described.splits)
    names += [path.name for path in folders_in(root / "images")]
    folders = folders_in(root)
    names += [path.name for path in folders if has_images(path / "images")]
    names += [path.name for path in folders if purpose_of(path.name) and has_images(path)]
    for path in list_files(root):
        of_ids = path.relative_to(root).parts[0] == IMAGE_SETS
        if purpose_of(path.stem) and (not _has_voc(root) if of_ids else is_list(path)):
            names.append(path.stem)
    if not names:
        beside = described.source is not None and sum(map(has_images, folders)) == 1
        if beside or (root / LIST_OF_ALL).is_file():
            return [""]
        names = [""] if has_images(root / "images") or has_images(root) else []
    return list(dict.fromkeys(names))


def _has_voc(root: Path) -> bool:
    """Whether the folder is PASCAL VOC's, whose lists name XML files."""
    try:
        return find_annotations(root, listed=True) is not None
    except DataError:  # several
        return True
