"""The image file of each entry of a COCO file, also where its name is of another machine.

An export may call its images by where they lay: ``images\\1/0.jpg``, ``/data/upload/1/0.jpg``,
``C:\\photos\\0.jpg``, ``s3://bucket/0.jpg``, ``/data/local-files/?d=photos/0.jpg``. Nothing
outside the root is ever looked at:

=========================================  ====================================================
a name below the folder of the images, or  that file
an absolute path into the root
no such file, but one where ``%20`` and    that one, counted (``BY_LAST_PART``)
the like are undone
no such file, but one in other upper and   that one, if no entry names it; counted
lower case or form of Unicode (macOS's)    (``IN_OTHER_FORM``)
a name of another folder or machine; any,  the one image below the folder of the images, else below
where no name of the file is right         the root, that is called by the name's last part, counted
                                           (``BY_LAST_PART``, ``IN_OTHER_FORM``), else by that
                                           without Label Studio's prefix of eight digits, counted
                                           (``WITHOUT_PREFIX``)
likewise, in the folder of another split   passed over: ``val/0.jpg`` is no ``train/0.jpg``
several such images, or two names that     refused, naming them: none is picked
come to one
none                                       one that is missing (see ``settle.py``); more of them
                                           than may be missing are refused, saying why, where the
                                           root has any image
the same name twice, under two ids         both kept, each with its own objects, as pycocotools
                                           measures them; counted (``AGAIN``)
=========================================  ====================================================
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeAlias
from urllib.parse import unquote

from detkit.data.coco_layout import CocoConfig, find_folder
from detkit.data.listing import find_images, inner_path
from detkit.data.settle import allowed_unreadable
from detkit.errors import DataError, shown

BY_LAST_PART = "images found by the last part of their name"
IN_OTHER_FORM = "images found in other upper and lower case or Unicode form"
WITHOUT_PREFIX = "images found without Label Studio's prefix"
AGAIN = "images listed again under another id, each id with its own objects"

PREFIXED = re.compile(r"[0-9a-f]{8}-(.+)")  # as Label Studio calls what is uploaded
LOCAL_FILES = re.compile(r".*/local-files/\?(?:.*&)?d=([^&]*).*")  # its address of a local file
ADDRESS = re.compile(r"[A-Za-z][\w+.-]*://[^?#]*")  # up to a query
PURPOSES = ("train", "val", "test")
SHOWN_ALIKE = 3  # images of one name, in an error

Found: TypeAlias = tuple[str, Path]  # how it is counted; empty: not at all


def last_parts(name: str) -> list[str]:
    """What the file itself may be called: as it stands, and with ``%20`` and the like undone."""
    local = LOCAL_FILES.fullmatch(name)
    address = ADDRESS.match(name)
    path = local[1] if local else address[0].partition("://")[2] if address else name
    lasts = [text.replace("\\", "/").rpartition("/")[2] for text in (path, unquote(path))]
    return [last for last in dict.fromkeys(lasts) if inner_path(last) and last != ".."]


def find_files(
    config: CocoConfig, path: Path, names: Sequence[str]
) -> tuple[list[Path], dict[str, list[int]]]:
    """Find the file of each image, as the table of this module says.

    Args:
        config: where the dataset lies.
        path: its JSON.
        names: ``file_name`` of each image.

    Returns:
        A path below the root for each image, which need not exist; and the kinds counted, with
        the indices of their images.

    Raises:
        DataError: images whose files cannot be told; no folder of that name.
    """
    inner = [None if ADDRESS.match(name) else inner_path(name) for name in names]
    folder = find_folder(config, path, [name for name in inner if name])
    paths = [folder / (inner[i] or last_parts(name)[-1]) for i, name in enumerate(names)]
    there = [bool(inner[i]) and os.path.isfile(file) for i, file in enumerate(paths)]
    right = {file for i, file in enumerate(paths) if there[i]}
    search = _Search(path, config, folder, right)
    noted: dict[str, list[int]] = {BY_LAST_PART: [], IN_OTHER_FORM: [], WITHOUT_PREFIX: [], "": []}
    lost: list[int] = []
    for i in (i for i in range(len(names)) if not there[i]):
        found = search.in_its_folder(names[i], inner[i])
        if found is None and inner[i] and right:
            continue  # its name says where it was, as those of others say where they are
        found = found or search.anywhere(i, names[i])
        if found is None:
            lost.append(i)
        else:
            noted[found[0]].append(i)
            paths[i] = found[1]
    _check_lost(config, search, names, lost)
    del noted[""]  # as they were named
    noted[AGAIN] = _check_shared(path, names, paths)
    return paths, noted


@dataclass(frozen=True, slots=True)
class _Below:
    """The images below a folder by the last part of their path."""

    of_name: Mapping[str, Sequence[Path]]
    of_form: Mapping[str, Sequence[Path]]  # in one case and form of Unicode

    @staticmethod
    def of(folder: Path, names: Sequence[str]) -> _Below:
        of_name: dict[str, list[Path]] = {}
        of_form: dict[str, list[Path]] = {}
        for name in names:
            last = name.rpartition("/")[2]
            of_name.setdefault(last, []).append(folder / name)
            of_form.setdefault(_one_form(last), []).append(folder / name)
        return _Below(of_name, of_form)


class _Search:
    """Looks for images by what they are called, wherever they lie below the root."""

    def __init__(
        self, path: Path, config: CocoConfig, folder: Path, right: Collection[Path]
    ) -> None:
        self.path = path  # the JSON, for the messages
        self.top = config.root
        self.folder = folder  # of the images: looked through first
        self.root = folder if config.images else config.root
        self.right = right  # images that are called as they are
        named = (config.split or str(path.relative_to(config.root))).lower()
        words = [word for word in PURPOSES if word in named]
        self.others = tuple(word for word in PURPOSES if words and word not in words)

    def in_its_folder(self, name: str, inner: str | None) -> Found | None:
        """The image that a name may mean without another folder; None where there is none."""
        if inner is None:
            inside = _inside(self.top, name)
            return ("", inside) if inside else None
        undone = inner_path(unquote(name))
        if undone and os.path.isfile(self.folder / undone):
            return BY_LAST_PART, self.folder / undone
        alike = [file for file in self.by_form.get(_one_form(inner), ()) if file not in self.right]
        return (IN_OTHER_FORM, alike[0]) if len(alike) == 1 else None

    def anywhere(self, index: int, name: str) -> Found | None:
        """The one image that is called by the last part of a name; None where there is none.

        Raises:
            DataError: several may be meant.
        """
        lasts = last_parts(name)
        bare = [match[1] for last in lasts if (match := PREFIXED.fullmatch(last))]
        forms = list(dict.fromkeys(map(_one_form, lasts)))
        for kind, parts in ((BY_LAST_PART, lasts), (IN_OTHER_FORM, forms), (WITHOUT_PREFIX, bare)):
            for images in self.below:
                alike = images.of_form if kind == IN_OTHER_FORM else images.of_name
                hits = [hit for part in parts for hit in alike.get(part, ())]
                if len(hits) > 1:
                    raise DataError(self._several(index, name, hits))
                if hits:
                    return kind, hits[0]
        return None

    @cached_property
    def by_form(self) -> Mapping[str, Sequence[Path]]:
        """The images of the folder by their paths there, in one case and form of Unicode."""
        found: dict[str, list[Path]] = {}
        for name in _images_of(self.folder):
            found.setdefault(_one_form(name), []).append(self.folder / name)
        return found

    @cached_property
    def below(self) -> Sequence[_Below]:
        """The images of the folder, then those of the root that are of no other split."""
        places = [_Below.of(self.folder, _images_of(self.folder))]
        if self.folder != self.root:
            names = [name for name in _images_of(self.root) if not self._is_of_others(name)]
            places.append(_Below.of(self.root, names))
        return places

    def _is_of_others(self, name: str) -> bool:
        folders = name.lower().split("/")[:-1]
        return bool(self.others) and any(folder.startswith(self.others) for folder in folders)

    def _several(self, index: int, name: str, hits: Sequence[Path]) -> str:
        listed = ", ".join(str(hit.relative_to(self.root)) for hit in sorted(hits)[:SHOWN_ALIKE])
        more = f" and {len(hits) - SHOWN_ALIKE} more" if len(hits) > SHOWN_ALIKE else ""
        return (
            f"{self.path}: images[{index}].file_name: {shown(name)} is not there, and "
            f"{len(hits)} images below {self.root} may be meant: {listed}{more}. Write each file's "
            "path below the folder of the images, or name that folder with data.images=FOLDER."
        )


def _images_of(folder: Path) -> list[str]:
    return find_images(folder) if folder.is_dir() else []


def _one_form(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _inside(root: Path, name: str) -> Path | None:
    """The file below the root that an absolute path names; None where it is no such file."""
    for top in {os.path.abspath(root), os.path.realpath(root)}:
        inner = inner_path(name[len(top) + 1 :]) if name.startswith(top + os.sep) else None
        if inner and os.path.isfile(root / inner):
            return root / inner
    return None


def _check_lost(
    config: CocoConfig, search: _Search, names: Sequence[str], lost: Sequence[int]
) -> None:
    """Refuse more lost images than may be missing, where names of other folders are the reason."""
    foreign = [index for index in lost if names[index] != last_parts(names[index])[-1]]
    if not lost or not any(images.of_name for images in search.below):
        return  # no names are the reason where no image is
    allowed = allowed_unreadable(config.max_unreadable, len(names))
    if not foreign or len(lost) <= allowed or not config.looks_at_images:
        return
    index = foreign[0]
    raise DataError(
        f"{search.path}: images[{index}].file_name: {shown(names[index])} is not there, and no "
        f"image below {search.root} is called {shown(last_parts(names[index])[-1])}; so it is with "
        f"{len(lost)} of {len(names)} images. Exports may name images by where another machine has "
        f"them: put them below {config.root} under their own names, or name their folder there "
        "with data.images=FOLDER."
    )


def _check_shared(path: Path, names: Sequence[str], paths: Sequence[Path]) -> list[int]:
    """The images whose name stood before; two names that come to one file are refused."""
    first: dict[Path, int] = {}
    again = []
    for index, file in enumerate(paths):
        before = first.setdefault(file, index)
        if before == index:
            continue
        if inner_path(names[index]) != inner_path(names[before]) or (
            inner_path(names[index]) is None and names[index] != names[before]
        ):
            raise DataError(
                f"{path}: images[{before}].file_name {shown(names[before])} and "
                f"images[{index}].file_name {shown(names[index])} both come to {file}. Write each "
                "image's own path below the folder of the images, or remove one of the entries."
            )
        again.append(index)
    return again
