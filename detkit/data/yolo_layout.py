"""Where the images of each split of YOLO text lie: in folders, or as lists of images name them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from detkit.data.listing import contents, find_images, inner_path, read_text
from detkit.data.yolo_described import ENDINGS, describe
from detkit.data.yolo_names import Described
from detkit.errors import DataError, shown
from detkit.files import leaves_folder
from detkit.image import UNREAD_EXTENSIONS, files_below

LIST_FOLDERS = ("", "data", "ImageSets", "ImageSets/Main")  # of lists of images, SPLIT.txt
LIST_OF_ALL = "images.txt"  # FiftyOne's list of a folder without splits


@dataclass(frozen=True, slots=True)
class Listing:
    """The images of one split."""

    source: Path  # what to name in an error: the folder, or the list
    images: list[str]  # paths below the root, in order; may stand twice
    folders: list[str]  # below the root, that were searched; none: lists name the images


def open_folder(root: Path, names_file: str = "") -> tuple[Path, Described]:
    """The folder of a dataset and what it says of itself.

    Args:
        root: the folder, or its ``data.yaml`` or ``obj.data``.
        names_file: the file that says it, below the folder; empty: found.

    Raises:
        DataError: no such folder, or a file in it that cannot be read.
    """
    if leaves_folder(names_file):
        raise DataError(f"data.names_file: {names_file!r} leaves {root}. Write a path below it.")
    if root.suffix.lower() in ENDINGS and root.is_file():
        root, names_file = root.parent, root.name
    if not root.is_dir():
        raise DataError(
            f"{root}: no such folder. Expected images/SPLIT and labels/SPLIT, or SPLIT/images and "
            "SPLIT/labels; point to it with data.root=PATH."
        )
    return root, describe(root, names_file)


def list_split(root: Path, split: str, described: Described) -> Listing:
    """The images of a split.

    Raises:
        DataError: there is no such split, or it holds no images.
    """
    if leaves_folder(split):
        raise DataError(f"data.split: {split!r} leaves {root}. Write the name of a split.")
    layouts = (f"images/{split}", f"{split}/images", split) if split else ("images", "")
    names = [*described.splits.get(split, ())]
    if not split and (root / LIST_OF_ALL).is_file() and not (root / "images").is_dir():
        names = [LIST_OF_ALL]
    names = names or [name for name in layouts if (root / name).is_dir()][:1]
    lists = [path for path in list_files(root) if split and path.stem == split]
    if not names:
        names = [path.relative_to(root).as_posix() for path in lists[:1]]
    if not names:
        looked = ", ".join([*(f"{name}/" for name in layouts), f"{split}.txt"])
        raise DataError(
            f"{root}: no split {split!r}: looked for {looked} and in data.yaml or obj.data; "
            f"{contents(root)}. Check data.split."
        )
    found = Listing(root / names[0], [], [name for name in names if (root / name).is_dir()])
    for name in names:
        if name in found.folders:
            inside = find_images(root / name)
            found.images.extend(f"{name}/{image}" if name else image for image in inside)
        else:
            found.images.extend(_listed(root, root / name))
    if not found.images:
        folders = [root / name for name in found.folders]
        unread = [name for folder in folders for name in files_below(folder, UNREAD_EXTENSIONS)]
        if unread:
            raise DataError(
                f"{root / names[0]}: its images are of a kind that is not read, such as "
                f"{min(unread)}. Convert them to JPEG or PNG under the same names."
            )
        raise DataError(f"{root / names[0]}: holds no images. Check data.root and data.split.")
    return found


def list_files(root: Path) -> list[Path]:
    """Texts that may be lists of images, those of the first folders first."""
    return [path for folder in LIST_FOLDERS for path in sorted((root / folder).glob("*.txt"))]


def _listed(root: Path, path: Path) -> list[str]:
    """The images that a text file lists, one a line, relative to the root or absolute in it."""
    found = []
    inside = f"{root.resolve().as_posix()}/"
    for line, text in enumerate(read_text(path).splitlines(), 1):
        if not text.strip():
            continue
        name = inner_path(text.strip().removeprefix(inside))
        if name is None:
            raise DataError(
                f"{path}: line {line}: {shown(text)} is no path below {root}. "
                "Write paths relative to it."
            )
        inner = name.partition("/")[2]  # CVAT writes data/ in front of all
        found.append(inner if _is_only(root, inner, name) else name)
    return found


def _is_only(root: Path, inner: str, name: str) -> bool:
    return bool(inner) and os.path.isfile(root / inner) and not os.path.isfile(root / name)
