"""Where the images of each split of YOLO text lie: in folders, or as lists of images name them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from detkit.data.listing import contents, find_images
from detkit.data.yolo_described import ENDINGS, describe
from detkit.data.yolo_lists import COMMENTS, read_image_list
from detkit.data.yolo_names import Described
from detkit.errors import DataError
from detkit.files import leaves_folder
from detkit.image_files import UNREAD_EXTENSIONS, files_below

IMAGE_SETS = "ImageSets"  # whose lists may be of ids, as PASCAL VOC's are
# of lists of images, SPLIT.txt
LIST_FOLDERS = ("", "data", IMAGE_SETS, f"{IMAGE_SETS}/Main")
LIST_OF_ALL = "images.txt"  # FiftyOne's list of a folder without splits


@dataclass(frozen=True, slots=True)
class Listing:
    """The images of one split."""

    source: Path  # what to name in an error: the folder, or the list
    images: list[str]  # paths below the root, in order; may stand twice
    folders: list[str]  # below the root, that were searched; none: lists name the images
    by_end: set[str] = field(default_factory=set)  # images that are found by the end of a path
    noted: dict[str, int] = field(default_factory=dict)  # what else is counted of lists


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


def list_split(
    root: Path, split: str, described: Described, max_unreadable: float = 1.0
) -> Listing:
    """The images of a split.

    Args:
        root: the dataset's folder.
        split: its name; empty: the folder has none.
        described: what the folder says of itself.
        max_unreadable: greatest share of images that may be missing of those that a list names.

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
            listed = read_image_list(root, root / name, max_unreadable)
            found.images.extend(listed.images)
            found.by_end.update(listed.by_end)
            found.noted[COMMENTS] = found.noted.get(COMMENTS, 0) + listed.comments
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
