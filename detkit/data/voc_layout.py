"""Where the files of a PASCAL VOC dataset lie, whatever its folders are called.

Names count in upper and lower case alike. ``annots`` stands for any of ``ANNOTATION_FOLDERS`` of
``voc_folders.py``, ``images`` for any of its ``IMAGE_FOLDERS``, and where none of them holds images
for FiftyOne's ``data``:

=====================================================  ==========================================
what is there                                          splits
=====================================================  ==========================================
``ImageSets/Main/NAME.txt``, ``annots``, ``images``    ``NAME``; in a folder of a VOCdevkit
                                                       ``FOLDER/NAME``
``annots/*.xml``, ``images/*``                         ``all``
``a.jpg`` and ``a.xml`` in one folder (labelImg)       ``all``
``train/a.jpg`` and ``train/a.xml`` (Roboflow)         ``train`` and its like
``train/annots/*.xml``, ``train/images/*``             ``train`` and its like
``annots/train/*.xml``, ``images/train/*``             ``train`` and its like
=====================================================  ==========================================

Files may lie in sub-folders of ``annots`` and ``images``; these are part of an image's id.
What no rule finds is named by the keys ``annotations`` and ``images`` of the dataset's entry.
"""

from __future__ import annotations

import glob
import os
from dataclasses import dataclass
from pathlib import Path

from detkit.data.listing import contents
from detkit.data.places import COUNTED, SPLIT, below_root
from detkit.data.voc_folders import (
    OFFICIAL,
    child,
    find_annotations,
    find_images,
    folders_in,
    images_of_split,
    list_files,
    split_folders,
    xml_below,
)
from detkit.errors import ConfigError, DataError, did_you_mean
from detkit.files import leaves_folder
from detkit.image_files import images_below

ALL = "all"  # the split of a folder without lists: all of its annotation files


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the files of one split lie."""

    annotations: Path  # the folder that ids begin at
    images: Path  # likewise; the same where each XML lies beside its image
    listing: Path | None  # the file that lists the ids; None: all annotation files
    beside: tuple[Path, ...]  # folders like ``annotations``, its own and the other splits'
    deep: bool = True  # whether files in sub-folders belong to it
    shares_images: bool = False  # whether other splits' images lie in ``images`` as well

    @property
    def source(self) -> Path:
        """What to name in a sentence about the split."""
        return self.annotations if self.listing is None else self.listing

    def xml_files(self) -> dict[str, Path]:
        """The annotation files by id, sorted."""
        names = sorted(xml_below(self.annotations, deep=self.deep))
        return {os.path.splitext(name)[0]: self.annotations / name for name in names}

    def all_xml_files(self) -> list[Path]:
        """The annotation files of every split, sorted."""
        found = {path: xml_below(path, deep=self.deep) for path in dict.fromkeys(self.beside)}
        return sorted(path / name for path, names in found.items() for name in names)

    def ids_of_others(self) -> set[str]:
        """The ids that other splits' annotation files have."""
        others = [path for path in self.beside if path != self.annotations]
        return {os.path.splitext(n)[0] for p in others for n in xml_below(p, deep=self.deep)}

    def image_files(self) -> dict[str, list[str]]:
        """Names of the image files, below ``images``, by the id that each would have."""
        found: dict[str, list[str]] = {}
        for name in sorted(images_below(self.images)):
            if self.deep or "/" not in name:
                found.setdefault(os.path.splitext(name)[0], []).append(name)
        return found


def find_layout(root: Path, split: str, annotations: str = "", images: str = "") -> Layout:
    """Find the folders of a split and the file that lists its ids.

    Args:
        root: the dataset's folder.
        split: ``[FOLDER/]NAME``; empty: the only one, all annotation files.
        annotations: the folder of the XML files, below root; empty: found by this module's rules.
        images: likewise of the images.

    Raises:
        ConfigError: a key that leaves the folder.
        DataError: a folder or a file that is not there, with what is; several that may be meant.
    """
    if not root.is_dir():
        raise DataError(
            f"{root}: no such folder. Expected a PASCAL VOC tree, such as VOCdevkit with "
            "VOC2007/Annotations, VOC2007/ImageSets and VOC2007/JPEGImages; get it with "
            "'detkit data get voc2007' (or voc2012, bccd), or point to yours with "
            "data.root=PATH."
        )
    if leaves_folder(split):
        raise DataError(f"data.split: {split!r} leaves {root}. Write [FOLDER/]NAME.")
    given = _named(root, "annotations", annotations, split)
    pictures = _named(root, "images", images, split)
    below, _, name = split.rpartition("/")
    base = root / below if below else root
    lists = child(base, "ImageSets", "Main")
    if lists is not None and (lists / f"{name}.txt").is_file():
        listed = given or find_annotations(base, listed=True) or base / OFFICIAL[0]
        place = pictures or find_images(base, listed)
        return Layout(listed, place, lists / f"{name}.txt", (listed,))
    if given is not None and SPLIT in annotations:
        beside = _named_alike(root, annotations)
        place = pictures or find_images(root, given)
        shared = place != given and SPLIT not in images and len(beside) > 1
        return Layout(given, place, None, beside, shares_images=shared)
    if given is not None and split in ("", ALL):
        return Layout(given, pictures or find_images(root, given), None, (given,))
    if given is not None and (given / split).is_dir():
        beside = tuple(folders_in(given))
        return _of_folder(root, split, given / split, beside, pictures, own=SPLIT in images)
    if given is not None:
        raise DataError(_no_split(root, base, split))
    if name == ALL or (not split and not list_files(root) and not split_folders(root)):
        found = find_annotations(base)
        if found is not None:
            place = pictures or find_images(base, found)
            return Layout(found, place, None, (found,), found != base)
    elif split in (names := split_folders(root)):
        beside = tuple(annotations_of(root, name) for name in names)
        base = root / split
        found = find_annotations(base)
        if found is not None:
            place = pictures or find_images(base, found)
            shared = pictures is not None and SPLIT not in images
            return Layout(found, place, None, beside, found != base, shares_images=shared)
        inner = annotations_of(root, split)
        return _of_folder(root, split, inner, beside, pictures, own=SPLIT in images)
    raise DataError(_no_split(root, base, split))


def _of_folder(
    root: Path, split: str, inner: Path, beside: tuple[Path, ...], pictures: Path | None, own: bool
) -> Layout:
    """The layout of the annotation files in ``annots/SPLIT``; ``own``: pictures are the split's."""
    found = pictures
    if found is None:
        found = images_of_split(root, split)
        own = found is not None
    place = found or find_images(root, inner)
    shared = not own and place != inner and len(beside) > 1
    return Layout(inner, place, None, beside, shares_images=shared)


def unlisted_splits(root: Path, annotations: str = "") -> dict[str, int]:
    """Splits that no list of ids makes, and how many annotation files each has.

    Args:
        root: the dataset's folder.
        annotations: the folder of the XML files, below root; empty: found by this module's rules.
    """
    if annotations:
        given = _named(root, "annotations", annotations, "")
        return {ALL: sum(1 for _ in xml_below(given))} if given is not None else {}
    found = find_annotations(root)
    names = split_folders(root)
    inner = {name for name in names if found is not None and (found / name).is_dir()}
    counts = {name: _count(annotations_of(root, name), root / name) for name in names}
    if found is not None and not inner:
        counts[ALL] = _count(found, root)
    return counts


def annotations_of(root: Path, split: str) -> Path:
    """The folder of the XML files of a split that is a folder."""
    own = find_annotations(root / split)
    if own is not None:
        return own
    shared = find_annotations(root)
    assert shared is not None  # split_folders found it there
    return shared / split


def _count(annotations: Path, base: Path) -> int:
    return sum(1 for _ in xml_below(annotations, deep=annotations != base))


def _named(root: Path, key: str, value: str, split: str) -> Path | None:
    """The folder that a key names, below ``root``."""
    if not value:
        return None
    value = below_root(root, value)
    if leaves_folder(value):
        raise ConfigError(
            f"data.{key}: {value!r} leaves {root}. {COUNTED} Write a folder below it, and let "
            "data.root hold both annotations and images."
        )
    folder = root / value.replace(SPLIT, split)
    if not folder.is_dir():
        raise DataError(f"data.{key}: {folder} is no folder; {contents(root)}. {COUNTED}")
    return folder


def _named_alike(root: Path, value: str) -> tuple[Path, ...]:
    """The folders that a key with ``{split}`` names, for any split."""
    pattern = "*".join(glob.escape(part) for part in below_root(root, value).split(SPLIT))
    return tuple(path for path in sorted(root.glob(pattern)) if path.is_dir())


def _no_split(root: Path, base: Path, split: str) -> str:
    lists = list_files(root)
    known = [path.stem for path in lists if path.parents[2] == root]
    known += [f"{path.parts[-4]}/{path.stem}" for path in lists if path.parents[2] != root]
    known += split_folders(root)
    if not split and known:
        return f"{root}: which of its splits {', '.join(known)}? Say data.split=NAME."
    if not split:
        return (
            f"{root}: no folder of VOC's XML files is found (Annotations, annots and the like, or "
            f"beside the images); {contents(root)}. Name it with data.annotations=FOLDER."
        )
    if not known and split != ALL and find_annotations(root) is not None:
        return (
            f"{root}: no split {split!r}, as no ImageSets/Main/*.txt lists one; its annotation "
            "files lie all together. Set data.format=auto, which holds some out to measure on, or "
            f"data.split={ALL}."
        )
    listing = base / "ImageSets" / "Main" / f"{split.rpartition('/')[2]}.txt"
    return f"{listing}: no such split file." + (
        did_you_mean(split, known) if known else f" {root} holds no ImageSets/Main/*.txt."
    )
