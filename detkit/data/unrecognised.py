"""What to do about a folder that is no dataset by itself: where its parts lie, and the keys to say.

:func:`nothing_found` is the one sentence that a person gets who points to such a folder.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from detkit.data.csv_places import named_tables
from detkit.data.csv_table import why_no_table
from detkit.data.foreign import name_foreign
from detkit.data.formats.base import DATASETS, Split, found_formats, looked_for
from detkit.data.listing import contents
from detkit.data.voc_folders import xml_below
from detkit.data.yolo_labels import why_unmatched
from detkit.image_files import EXTENSIONS, images_below

SHOWN = 4  # folders in a sentence
PROBED = 5  # names of images in a JSON that are looked for
HEAD_BYTES = 1 << 20  # of a JSON, in which these stand
FILE_NAME = re.compile(r'"file_name"\s*:\s*("(?:[^"\\]|\\.)*")')
PLAIN = re.compile(r"[\w./~-]+")  # text that YAML takes for itself within brackets


@dataclass(frozen=True, slots=True)
class _Inner:
    """A folder in the folder that is a dataset of its own."""

    path: Path
    format: str
    splits: Sequence[Split]
    purpose: str  # by its own name

    @property
    def text(self) -> str:
        images = sum(split.images for split in self.splits)
        plural = "image" if images == 1 else "images"
        return f"{self.path.name} ({DATASETS[self.format].title}, {images} {plural})"

    @property
    def auto(self) -> str:
        return f"{{format: auto, root: {in_brackets(self.path)}}}"

    @property
    def whole(self) -> str:
        """An entry of all of it, where auto would hold something out."""
        (split,) = self.splits
        named = f", split: {in_brackets(split.name)}" if split.name else ""
        return f"{{format: {self.format}, root: {in_brackets(self.path)}{named}}}"


def nothing_found(root: Path, purpose_of: Callable[[str], str]) -> str:
    """Say what a folder, or a file, lacks to be a dataset, and what to write instead.

    Args:
        root: the folder.
        purpose_of: what a name says that a split is for.
    """
    finders = found_formats()
    if root.is_file():
        if why := why_no_table(root):
            return why
        foreign = name_foreign(root)
        if foreign:
            return foreign
        for name, find in finders.items():
            if find(root.parent):
                return (
                    f"{root}: is a file of a folder that holds {DATASETS[name].title}. "
                    f"Write data.root={root.parent}."
                )
        return f"{root}: neither a CSV table (path,x1,y1,x2,y2,name) nor a YOLO data.yaml."
    folders = [p for p in sorted(root.iterdir()) if p.is_dir() and not p.name.startswith(".")]
    inner = []
    for path in folders:
        for name, find in finders.items():
            if splits := find(path):
                inner.append(_Inner(path, name, splits, purpose_of(path.name)))
                break
    apart = [one for one in inner if one.format == "coco" and not any(images_below(one.path))]
    if apart and len(apart) == len(inner):
        return _coco_apart(root, apart[0].path, folders)
    if not inner and (why := why_unmatched(root)):
        return why
    if not inner and (foreign := name_foreign(root)):
        return f"{root}: no dataset is recognised, but {foreign}"
    for path in folders:
        bare = any(xml_below(path, deep=False)) and not has_images(path)
        if bare and path not in [one.path for one in inner]:
            return (
                f"{root}: no dataset is recognised, but {path} holds XML files. If they are "
                f"PASCAL VOC's, write data.annotations={path.name}, and where their images lie "
                "data.images=FOLDER."
            )
    inner = [one for one in inner if one not in apart]
    if len(inner) > 1:
        return _several(root, inner)
    if inner:
        (one,) = inner
        return (
            f"{root}: no dataset by itself, but {one.path} holds {DATASETS[one.format].title}. "
            f"Write data.root={one.path}."
        )
    for _, path in named_tables(root):
        if why := why_no_table(path):
            return why
    more = " (images, but no annotations)" if has_images(root) else ""
    return f"{root}: no dataset is recognised; {contents(root)}{more}. Looked for {looked_for()}."


def has_images(folder: Path) -> bool:
    """Whether images lie in a folder itself; else it may be another dataset's ``images``."""
    return folder.is_dir() and any(p.suffix.lower() in EXTENSIONS for p in folder.iterdir())


def in_brackets(value: object) -> str:
    """A text as YAML has it within brackets, quoted where it has to be."""
    text = str(value)
    return text if PLAIN.fullmatch(text) and not text.isdigit() else json.dumps(text)


def _several(root: Path, inner: Sequence[_Inner]) -> str:
    shown = [one.text for one in inner[:SHOWN]]
    shown += [f"{len(inner) - SHOWN} more"] if len(inner) > SHOWN else []
    named = f"{', '.join(shown[:-1])} and {shown[-1]}"
    learned = [one for one in inner if one.purpose.startswith("train")]
    measured = [one for one in inner if one.purpose == "val"]
    measured = measured or [one for one in inner if one.purpose == "test"]
    whole = all(len(one.splits) == 1 for one in (*learned, *measured))
    if len(learned) == len(measured) == 1 and whole and all(one.purpose for one in inner):
        words = f"'data.train={learned[0].whole}' 'data.eval={measured[0].whole}'"
        how = f"Learn from one and measure on another with {words}"
    else:
        entries = ", ".join(one.auto for one in inner[: SHOWN if len(inner) <= SHOWN else 2])
        entries += ", ..." if len(inner) > SHOWN else ""
        how = f"Train on all of them with 'data.train=[{entries}]' 'data.eval=[]'"
    return (
        f"{root}: no dataset by itself, but {named} are a dataset each. {how}; or on one alone, "
        f"such as data.root={max(inner, key=lambda one: _rank(one)).path}."
    )


def _rank(one: _Inner) -> tuple[bool, int]:
    return one.purpose.startswith("train"), sum(split.images for split in one.splits)


def _coco_apart(root: Path, holder: Path, folders: Sequence[Path]) -> str:
    """Of JSON files whose images lie in another folder."""
    files = [path for path in sorted(holder.rglob("*.json")) if any(_file_names(path))]
    file = files[0] if files else holder
    names = list(islice(_file_names(file), PROBED)) if files else []
    below = file.relative_to(root).as_posix()
    images = next(
        (
            place
            for place in (root, *folders)
            if any(os.path.isfile(place / name) for name in names)
        ),
        None,
    )
    if images is None:
        keys, rest = f"data.annotations={below}", ", and where its images lie data.images=FOLDER"
    elif images == root:
        keys, rest = f"data.annotations={below}", ""
    else:
        keys, rest = f"data.annotations={below} data.images={images.name}", ""
    others = ""
    if len(files) > 1:
        shown = ", ".join(path.relative_to(root).as_posix() for path in files[1 : 1 + SHOWN])
        others = f" Of its other files likewise: {shown}."
    return (
        f"{root}: no dataset by itself, but {file} is COCO JSON, and its images are not beside it. "
        f"Write {keys}{rest}.{others}"
    )


def _file_names(path: Path) -> Iterator[str]:
    """The first image names in a JSON that is not parsed; those that are no text are left out."""
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES).decode("utf-8", errors="replace")
    for match in FILE_NAME.finditer(head):
        try:
            name = str(json.loads(match[1]))
        except ValueError:
            continue
        if "\0" not in name:
            yield name
