"""The label file of each image of YOLO text, and label files that have no image.

``images`` becomes ``labels`` in an image's path; else the label file lies beside the image.

=========================================  ====================================================
``a.txt`` for ``a.jpg``                    read
``a.jpg.txt``                              read, counted (``WITH_ENDING``)
``a.TXT``, ``A.txt``, another form of      read, counted (``OTHER_CASE``)
Unicode
``1b2c3d4e-a.txt``                         read, counted (``WITHOUT_PREFIX``): Label Studio's
                                           prefix
two of these for one image                 the first of this table, counted (``SECOND``)
one for ``a.jpg`` and ``a.png``            read for both, counted (``SHARED``)
none                                       the image is a negative, counted (``UNLABELLED``)
an image of a kind that is not read        left out, counted with an example; refused where
                                           ``max_unreadable`` would refuse it in a list
a label file without an image              likewise, refused above a tenth of all, or above
                                           ``max_unreadable`` where that is more: published sets
                                           have some (two of COCO128's 130)
texts of other content, as                 no label files
``classes.txt``, ``README.txt``
=========================================  ====================================================

A list of images says itself which images there are: of its splits no other label file is looked
for.
"""

from __future__ import annotations

import math
import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from detkit.data.coco_paths import PREFIXED
from detkit.data.listing import number_in, of_unread_kind
from detkit.data.settle import allowed_unreadable
from detkit.data.voc_images import NO_IMAGES
from detkit.data.yolo_rows import BOX_VALUES
from detkit.errors import DataError
from detkit.image_files import EXTENSIONS, UNREAD_EXTENSIONS, files_below, images_below

WITH_ENDING = "label files that keep the ending of their image's name"
WITHOUT_IMAGE = "label files without an image"
OTHER_CASE = "label files found in other upper and lower case or Unicode form"
WITHOUT_PREFIX = "label files found by their name without Label Studio's prefix"
SECOND = "second label files of an image passed over"
SHARED = "images that share a label file with another of their name"

IMAGE_FOLDERS = ("images", "JPEGImages")  # that become labels in a path
LABELS = ".txt"
HEAD_BYTES = 1 << 14  # of a text, in which its first line must stand
HEAD_VALUES = 100  # of that line, which all must be numbers
LOST_SHARE = 0.1  # of the images; so many label files may have lost theirs
PROBED = 200  # texts that are looked into, where none may be a label file


@dataclass(frozen=True, slots=True)
class FoundLabels:
    """The label files of images, by their paths below the root."""

    files: list[str]  # of each image; empty: it has none
    noted: dict[str, list[int]] = field(default_factory=dict)  # kind -> the images of each


def find_labels(root: Path, images: Sequence[str]) -> FoundLabels:
    """Find the label file of each image by its name, as the table of this module says.

    Args:
        root: the dataset's folder.
        images: paths below it.
    """
    folders = _Folders(root)
    own = [folders.exact(places_of(image)) for image in images]
    files = [hits[0] if hits else "" for hits in own]
    sharing = Counter(files)
    noted = {SHARED: [i for i, file in enumerate(files) if file and sharing[file] > 1]}
    claimed = set(files)
    rules: dict[str, Callable[[str], list[str]]] = {
        WITH_ENDING: lambda image: folders.exact(places_of(image, whole=True))[:1],
        OTHER_CASE: folders.in_other_case,
        WITHOUT_PREFIX: folders.without_prefix,
    }
    for kind, rule in rules.items():
        owners: dict[str, list[int]] = {}
        for i in (i for i, file in enumerate(files) if not file):
            hits = [hit for hit in rule(images[i]) if hit not in claimed]
            if len(hits) == 1:
                owners.setdefault(hits[0], []).append(i)
        taken = {file: which[0] for file, which in owners.items() if len(which) == 1}
        for file, i in taken.items():
            files[i] = file
        noted[kind] = sorted(taken.values())
        claimed |= set(taken)
    noted[SECOND] = [
        i
        for i, image in enumerate(images)
        for other in own[i][1:] + folders.exact(places_of(image, whole=True))
        if other not in claimed and looks_like_labels(root / other)
    ]
    return FoundLabels(files, noted)


def places_of(image: str, *, whole: bool = False) -> list[str]:
    """Where an image's label file may lie, the usual place first, all below the dataset's folder.

    Args:
        image: its path below the dataset's folder.
        whole: of a label file that keeps the ending of the image's name.
    """
    folder, _, name = image.rpartition("/")
    label = (name if whole else os.path.splitext(name)[0]) + LABELS
    return [_join(place, label) for place in _label_folders(folder)]


def _label_folders(folder: str) -> list[str]:
    """Where the label files of a folder's images may lie: ``labels`` for ``images``, and it."""
    parts = folder.split("/")
    for index in range(len(parts) - 1, -1, -1):
        if parts[index] in IMAGE_FOLDERS:
            return ["/".join([*parts[:index], "labels", *parts[index + 1 :]]), folder]
    return [folder]


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


class _Folders:
    """The texts of each folder, listed once; all paths are below the root."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._texts: dict[str, dict[str, list[str]]] = {}  # folder -> name in one form -> names
        self._bare: dict[str, dict[str, list[str]]] = {}  # folder -> name less its prefix -> names

    def exact(self, places: Sequence[str]) -> list[str]:
        """Those of the paths that are there."""
        found = []
        for place in places:
            folder, _, name = place.rpartition("/")
            if name in self._listed(folder).get(_form(name), ()):
                found.append(place)
        return found

    def in_other_case(self, image: str) -> list[str]:
        """Label files called as an image where case and form of Unicode do not count."""
        for whole in (False, True):
            for place in places_of(image, whole=whole):
                folder, _, name = place.rpartition("/")
                if hits := self._listed(folder).get(_form(name)):
                    return [_join(folder, hit) for hit in hits]
        return []

    def without_prefix(self, image: str) -> list[str]:
        """Label files called as an image with Label Studio's prefix before it."""
        for place in places_of(image):
            folder, _, name = place.rpartition("/")
            if folder not in self._bare:
                bare = self._bare[folder] = {}
                for prefixed in (n for names in self._listed(folder).values() for n in names):
                    if match := PREFIXED.fullmatch(prefixed):
                        bare.setdefault(match[1], []).append(prefixed)
            if hits := self._bare[folder].get(name):
                return [_join(folder, hit) for hit in hits]
        return []

    def _listed(self, folder: str) -> dict[str, list[str]]:
        if folder not in self._texts:
            texts = self._texts[folder] = {}
            place = self.root / folder
            for name in sorted(os.listdir(place)) if os.path.isdir(place) else []:
                if name.lower().endswith(LABELS) and not name.startswith("."):
                    texts.setdefault(_form(name), []).append(name)
        return self._texts[folder]


def _form(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


# ------------------------------------------------------------------- labels that have no image


def count_lost(
    root: Path,
    folders: Sequence[str],
    images: Sequence[str],
    files: Iterable[str],
    max_unreadable: float,
) -> dict[str, int]:
    """Count label files without an image, and image files that are not read.

    Args:
        root: the dataset's folder.
        folders: those that the images were found in, below root.
        images: all that were found there.
        files: the label files of these.
        max_unreadable: greatest share of images that may be left out.

    Raises:
        DataError: there are more of them.
    """
    labels, others = _find_lost(root, folders, images, files)
    noted = {}
    if labels:
        first = min(labels)
        cause = f"; {labels[first]} is of a kind that is not read" if labels[first] else ""
        noted[f"{WITHOUT_IMAGE} (first: {first}{cause})"] = len(labels)
    noted |= of_unread_kind(others)
    total = len(images) + len(labels) + len(others)
    unread = len(others) + sum(map(bool, labels.values()))
    share = max(max_unreadable, LOST_SHARE) if max_unreadable else 0.0
    may_be_unread = int(allowed_unreadable(max_unreadable, total))
    may_be_lost = int(allowed_unreadable(share, total))
    if unread > may_be_unread or len(labels) + len(others) > may_be_lost:
        counted = " and ".join(f"{count} {kind}" for kind, count in noted.items())
        raise DataError(
            f"{root}: {counted} beside {len(images)} images; max_unreadable={max_unreadable} "
            f"allows {may_be_unread} that are not read, and {may_be_lost} with those that are "
            "gone. Restore the images, or convert them to JPEG or PNG; or raise max_unreadable in "
            "the config's entry under data (data.max_unreadable=SHARE)."
        )
    return noted


def _find_lost(
    root: Path, folders: Sequence[str], images: Sequence[str], files: Iterable[str]
) -> tuple[dict[str, str], list[str]]:
    """Label files without an image, and images that are not read and have no label file.

    Returns:
        By each such label file the image of its name that is not read, or empty; other images.
    """
    wholes = (False, True)
    known = {p for image in images for whole in wholes for p in places_of(image, whole=whole)}
    known |= set(files)
    stems = {os.path.splitext(image)[0] for image in images}
    labels: dict[str, str] = {}
    others: list[str] = []
    for folder in folders:
        aside = {
            os.path.splitext(name)[0]: name
            for name in files_below(root / folder, ("",))
            if not name.lower().endswith((*EXTENSIONS, *NO_IMAGES))
            and os.path.splitext(_join(folder, name))[0] not in stems
        }
        for place in _label_folders(folder):
            for name in _labels_without_image(root, place, known, empty=place != folder):
                stem = os.path.splitext(name)[0]
                image = aside.pop(stem, "") or aside.pop(os.path.splitext(stem)[0], "")
                labels[_join(place, name)] = _join(folder, image) if image else ""
        unread = (name for name in aside.values() if name.lower().endswith(UNREAD_EXTENSIONS))
        others += [_join(folder, name) for name in unread]
    return labels, others


def _labels_without_image(
    root: Path, folder: str, known: Container[str], *, empty: bool
) -> Iterator[str]:
    """Names of the label files below a folder that are none of ``known``."""
    for name in files_below(root / folder, (LABELS,)):
        path = _join(folder, name)
        if path not in known and looks_like_labels(root / path, empty=empty):
            yield name


def looks_like_labels(path: Path, *, empty: bool = False) -> bool:
    """Whether a text begins with a row of numbers, a class first; ``empty``: one without rows."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES).decode("utf-8-sig", errors="replace")
    except OSError:
        return False
    lines = head.splitlines()
    row = next((line.split() for line in lines if line.strip()), None)
    if row is None:
        return empty
    numbers = [number_in(token) for token in row[:HEAD_VALUES]]
    return len(row) >= BOX_VALUES and numbers[0].is_integer() and all(map(math.isfinite, numbers))


def why_unmatched(root: Path) -> str:
    """What keeps a folder of label files from being read; empty where it holds none."""
    texts = islice(files_below(root, (LABELS,)), PROBED)
    label = min((name for name in texts if looks_like_labels(root / name)), default="")
    if not label:
        return ""
    images, unread = [*images_below(root)], [*files_below(root, UNREAD_EXTENSIONS)]
    if any(find_labels(root, images).files):
        return ""
    said = f"{root}: holds label files of YOLO text, such as {label}, but "
    if images:
        return (
            f"{said}none is called as an image is, such as {min(images)}. Call both alike: "
            "images/NAME.jpg and labels/NAME.txt, or NAME.jpg and NAME.txt in one folder."
        )
    if unread:
        return (
            f"{said}its images are not read, such as {min(unread)}. Convert them to JPEG or PNG "
            "under the same names."
        )
    return (
        f"{said}no images. Put them beside the label files, or into images/ where these are in "
        "labels/."
    )
