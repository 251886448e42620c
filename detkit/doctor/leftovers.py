"""Files below a dataset's folder that none of its splits speaks of: images, and labels of none.

Names alone are looked at; no image is opened.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from detkit.config import parse
from detkit.data.base import Annotations
from detkit.data.recognise import find_splits
from detkit.data.voc import VOCConfig
from detkit.data.voc_images import Images
from detkit.data.voc_layout import Layout, find_layout
from detkit.data.voc_list import read_list
from detkit.data.voc_page import read_page
from detkit.data.yolo_labels import LABELS, find_labels, looks_like_labels, places_of
from detkit.data.yolo_layout import list_split, open_folder
from detkit.errors import DetkitError
from detkit.image_files import files_below, images_below

COUNTED = ("csv", "via", "labelme", "createml")  # formats whose readers count images left out
MASKS = ("segmentationclass", "segmentationobject")  # PASCAL VOC's folders of other than photos
SPLIT_NAMES = ("train", "val", "test", "dev", "eval")  # how the folders of splits begin
COMPANIONS = 0.5  # of a folder's images; where more are called as named ones are, they are masks


@dataclass(frozen=True, slots=True)
class Leftovers:
    """What lies below one folder and is in none of its splits; names are relative to it."""

    root: Path
    images: tuple[str, ...] = ()  # that lie beside images of its splits
    annotated: int = 0  # of these, those that have an annotation file
    beside: int = 0  # all images in the same folders
    folders: Mapping[str, int] = field(default_factory=dict)  # of nothing else -> images in each
    annotations: tuple[str, ...] = ()  # annotation files that no image belongs to
    other_splits: tuple[str, ...] = ()  # of the folder, that were not read
    is_counted: bool = False  # whether the reader says itself how many such images there are


def find_leftovers(
    entries: Sequence[Mapping[str, Any]],
    data: Sequence[Annotations],
    unread: Collection[str] = (),
) -> list[Leftovers]:
    """What lies in the folders of entries and is in none of them.

    Args:
        entries: all there are, for whatever purpose.
        data: all that was read of them.
        unread: the ``root`` of entries that could not be read. Of such a folder nothing is known,
            unless lists of ids tell its images.
    """
    places = _Places()
    named: set[tuple[str, str]] = set()
    for each in data:
        unusable = [path for path, _ in each.report.unreadable]
        named |= {places.find(path) for path in [*each.paths.tolist(), *unusable]}
    of_root: dict[Path, list[Mapping[str, Any]]] = defaultdict(list)
    for entry in entries:
        if "root" in entry:  # else it is generated
            root = Path(str(entry["root"]))
            of_root[root.parent if root.is_file() else root].append(entry)
    found = []
    for root, inside in of_root.items():
        lists = _find_lists(inside)
        if lists or not any(str(entry["root"]) in unread for entry in inside):
            inner = [_below(r, root) for r in of_root if r != root and r.is_relative_to(root)]
            others = tuple(f"{name}/" for name in inner)  # datasets of their own
            found.append(_look_below(root, others, inside, lists, named, places))
    return [each for each in found if each.images or each.folders or each.annotations]


class _Places:
    """Where files really lie, as (folder, name); each folder is asked for once."""

    def __init__(self) -> None:
        self._real: dict[str, str] = {}

    def find(self, path: str) -> tuple[str, str]:
        folder, name = os.path.split(path)
        if folder not in self._real:
            self._real[folder] = os.path.realpath(folder)
        return self._real[folder], name


def _look_below(
    root: Path,
    others: tuple[str, ...],
    entries: Sequence[Mapping[str, Any]],
    lists: Sequence[_Lists],
    named: Collection[tuple[str, str]],
    places: _Places,
) -> Leftovers:
    images = sorted(name for name in images_below(root) if not name.startswith(others))
    unnamed: dict[str, list[str]] = {}  # by folder
    in_folder: Counter[str] = Counter()  # images
    used: set[str] = set()  # folders that hold named images
    stems: set[str] = set()  # of named images
    for name in images:
        folder, _, last = name.rpartition("/")
        in_folder[folder] += 1
        is_named = places.find(os.path.join(root, name)) in named
        if is_named or any(each.names(root / name) for each in lists):
            used.add(folder)
            stems.add(os.path.splitext(last)[0])
        else:
            unnamed.setdefault(folder, []).append(name)
    if not used:  # its images lie elsewhere
        return Leftovers(root)
    if _has_other_part(entries):  # which may have any of them
        unnamed = {}
    beside = [name for folder in sorted(used) for name in unnamed.get(folder, ())]
    apart = {f: names for f, names in unnamed.items() if f not in used}
    is_yolo = any(entry.get("format") == "yolo" for entry in entries)
    labelled = find_labels(root, beside).files if is_yolo else [""] * len(beside)
    lost = [_below(path, root) for each in lists for path in each.without_image()]
    lost += [n for n in _labels_of_no_image(root, images, entries) if not n.startswith(others)]
    return Leftovers(
        root=root,
        images=tuple(map(_plain, beside)),
        annotated=sum(
            any(each.annotates(root / name) for each in lists) or labels != ""
            for name, labels in zip(beside, labelled, strict=True)
        ),
        beside=sum(in_folder[folder] for folder in used),
        folders=_by_folder(apart, used, stems),
        annotations=tuple(map(_plain, lost)),
        other_splits=_other_splits(entries) if (beside or apart) and not lists else (),
        is_counted=not lists and any(entry.get("format") in (*COUNTED, "voc") for entry in entries),
    )


def _by_folder(
    apart: Mapping[str, Sequence[str]], used: Collection[str], stems: Collection[str]
) -> dict[str, int]:
    """How many images each folder holds, those in it counted with it, the fullest first."""
    above = {""} | {up for folder in used for up in _ups(folder)}
    inside: dict[str, list[str]] = defaultdict(list)
    for folder, names in apart.items():
        outermost = next((up for up in _ups(folder) if up not in above), folder)
        inside[outermost] += names
    found = Counter({_plain(f): len(n) for f, n in inside.items() if not _go_with(f, n, stems)})
    return dict(found.most_common())


def _go_with(folder: str, names: Sequence[str], stems: Collection[str]) -> bool:
    """Whether the images of a folder are masks of the dataset's images, or the like."""
    last = folder.rpartition("/")[2].lower()
    if last.startswith(SPLIT_NAMES):
        return False
    alike = sum(os.path.splitext(name.rpartition("/")[2])[0] in stems for name in names)
    return last in MASKS or alike > COMPANIONS * len(names)


def _ups(folder: str) -> list[str]:
    """``a``, ``a/b`` and ``a/b/c`` of ``a/b/c``."""
    parts = folder.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]


def _labels_of_no_image(
    root: Path, images: Sequence[str], entries: Sequence[Mapping[str, Any]]
) -> list[str]:
    """Label files of YOLO text whose image is neither there nor listed.

    Where no lists name the images, the reader counts such files itself.
    """
    listed: list[str] = []
    for entry in entries:
        if entry.get("format") != "yolo":
            return []
        try:
            top, described = open_folder(Path(str(entry["root"])), entry.get("names_file", ""))
            listing = list_split(top, entry.get("split", ""), described)
        except DetkitError:  # as was said where it was read
            return []
        if listing.folders:
            return []
        listed += listing.images
    every = list(dict.fromkeys([*images, *listed]))
    known = set(find_labels(root, every).files)
    known |= {
        place for image in every for w in (False, True) for place in places_of(image, whole=w)
    }
    labels = (name for name in files_below(root, (LABELS,)) if name not in known)
    return sorted(name for name in labels if looks_like_labels(root / name))


def _has_other_part(entries: Sequence[Mapping[str, Any]]) -> bool:
    """Whether images are in a part of a split that none of the entries reads."""
    parts = {(entry.get("split", ""), entry.get("part", "all")) for entry in entries}
    both = {"train": "eval", "eval": "train"}
    return any(
        part in both and not parts & {(split, both[part]), (split, "all")} for split, part in parts
    )


def _other_splits(entries: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Splits of the folder that none of the entries reads."""
    others: list[str] = []
    for entry in entries:
        if not entry.get("annotations"):
            try:
                _, splits = find_splits(Path(str(entry["root"])), entry["format"])
            except (DetkitError, OSError):
                continue
            others += [split.name for split in splits if split.name]
    read = {entry.get("split", "") for entry in entries}
    return tuple(name for name in dict.fromkeys(others) if name not in read)


# ------------------------------------------------------------------------- PASCAL VOC's lists


@dataclass(frozen=True, slots=True)
class _Lists:
    """All lists of ids of one folder of PASCAL VOC's, and its annotation files."""

    layout: Layout
    ids: frozenset[str]
    files: Mapping[str, Path]  # by id

    def _id(self, image: Path) -> str:
        """The id that an image has by where it lies; empty: it is no image of the folder."""
        if not image.is_relative_to(self.layout.images):
            return ""
        return os.path.splitext(_below(image, self.layout.images))[0]

    def names(self, image: Path) -> bool:
        """Whether a list names an image."""
        return self._id(image) in self.ids

    def annotates(self, image: Path) -> bool:
        """Whether an image has an annotation file."""
        return self._id(image) in self.files

    def without_image(self) -> list[Path]:
        """The annotation files that are in no list, and of no image."""
        images = Images(self.layout, self.ids)
        lost = []
        for image_id, path in self.files.items():
            if image_id in self.ids or images.has(image_id):
                continue
            try:
                is_there = images.find(image_id, read_page(path, path)).is_file()
            except DetkitError:  # not to be read, or a name that leaves the folder
                is_there = False
            if not is_there:
                lost.append(path)
        return lost


def _find_lists(entries: Sequence[Mapping[str, Any]]) -> list[_Lists]:
    found: dict[tuple[Path, Path], _Lists] = {}
    for entry in entries:
        if entry.get("format") != "voc":
            continue
        settings = {key: value for key, value in entry.items() if key != "format"}
        try:
            config = parse(VOCConfig, settings, path="data.")
            layout = find_layout(config.root, config.split, config.annotations, config.images)
        except DetkitError:  # as was said where it was read
            continue
        if layout.listing is not None:
            key = (layout.annotations, layout.listing.parent)
            if key not in found:
                found[key] = _Lists(layout, _listed_ids(layout.listing, layout), layout.xml_files())
    return list(found.values())


def _listed_ids(listing: Path, layout: Layout) -> frozenset[str]:
    paths = sorted(listing.parent.glob("*.txt"))
    stems = {path.stem for path in paths}
    ids: set[str] = set()
    for path in paths:
        if path.stem.rpartition("_")[2] not in stems - {path.stem}:  # cat_train lists train again
            try:
                ids.update(read_list(path, layout))
            except DetkitError:  # an empty one
                continue
    return frozenset(ids)


def _below(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


def _plain(name: str) -> str:
    """A file's name as text on one line, whatever its bytes are."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii")
        for letter in name.encode("utf-8", "backslashreplace").decode()
    )
