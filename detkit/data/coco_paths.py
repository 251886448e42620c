"""The image file of each entry of a COCO file, also where its name is of another machine.

An export may call its images by where they lay: ``images\\1/0.jpg``, ``/data/upload/1/0.jpg``,
``C:\\photos\\0.jpg``, ``s3://bucket/0.jpg``, ``/data/local-files/?d=photos/0.jpg``. Nothing
outside the root is ever looked at:

=========================================  ====================================================
a name below the folder of the images      that file
no such file, but there is one once        that one, counted (``BY_LAST_PART``)
``%20`` and the like are undone
a name of another folder or machine, or    the one image that is called by the name's last part,
no name of the whole file that is right    below the folder of the images, else below the root;
                                           counted (``BY_LAST_PART``)
likewise, and only without the eight       that one, counted (``WITHOUT_PREFIX``)
digits that Label Studio puts in front
likewise, in the folder of another split   passed over: ``val/0.jpg`` is no ``train/0.jpg``
several images of that last part, or two   refused, naming them: none is picked
names that come to one file
none                                       one that is missing (see ``settle.py``); more of them
                                           than may be missing are refused, saying why
the same name twice, under two ids         both kept, each with its own objects, as pycocotools
                                           measures them; counted (``AGAIN``)
=========================================  ====================================================
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from urllib.parse import unquote

from detkit.data.coco_layout import CocoConfig, find_folder
from detkit.data.listing import find_images, inner_path
from detkit.data.settle import allowed_unreadable
from detkit.errors import DataError, shown

BY_LAST_PART = "images found by the last part of their name"
WITHOUT_PREFIX = "images found without Label Studio's prefix"
AGAIN = "images listed again under another id, each id with its own objects"

PREFIXED = re.compile(r"[0-9a-f]{8}-(.+)")  # as Label Studio calls what is uploaded
LOCAL_FILES = re.compile(r".*/local-files/\?(?:.*&)?d=([^&]*).*")  # its address of a local file
ADDRESS = re.compile(r"[A-Za-z][\w+.-]*://[^?#]*")  # up to a query
PURPOSES = ("train", "val", "test")
SHOWN_ALIKE = 3  # images of one name, in an error


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
    missing = [i for i, file in enumerate(paths) if not inner[i] or not os.path.isfile(file)]
    any_is_right = len(missing) < len(names)
    noted: dict[str, list[int]] = {BY_LAST_PART: [], WITHOUT_PREFIX: []}
    lost: list[int] = []
    search = _Search(path, config, folder)
    for i in missing:
        undone = inner_path(unquote(names[i])) if inner[i] else None
        inside = None if inner[i] else _inside(config.root, names[i])
        found: tuple[str, Path] | None = None
        if inside:
            paths[i] = inside
            continue
        if undone and os.path.isfile(folder / undone):
            found = BY_LAST_PART, folder / undone
        elif inner[i] and any_is_right:
            continue  # an image that is lost, as its name says where it was
        else:
            found = search.find(i, names[i])
        if found:
            noted[found[0]].append(i)
            paths[i] = found[1]
        else:
            lost.append(i)
    _check_lost(config, search, names, lost)
    noted[AGAIN] = _check_shared(path, names, paths)
    return paths, noted


class _Search:
    """Looks for images by what they are called, wherever they lie below the root."""

    def __init__(self, path: Path, config: CocoConfig, folder: Path) -> None:
        self.path = path  # the JSON, for the messages
        self.folder = folder  # of the images: looked through first
        self.root = folder if config.images else config.root
        named = (config.split or str(path.relative_to(config.root))).lower()
        words = [word for word in PURPOSES if word in named]
        self.others = tuple(word for word in PURPOSES if words and word not in words)

    @cached_property
    def by_name(self) -> Sequence[Mapping[str, Sequence[Path]]]:
        """The images of the folder, and then those of the root, by the last part of their path."""
        places = [self.folder] if self.folder == self.root else [self.folder, self.root]
        found: list[dict[str, list[Path]]] = []
        for place in places:
            found.append({})
            for name in find_images(place) if place.is_dir() else ():
                *folders, last = name.split("/")
                if place == self.folder or not any(map(self._is_other, folders)):
                    found[-1].setdefault(last, []).append(place / name)
        return found

    def _is_other(self, folder: str) -> bool:
        return bool(self.others) and folder.lower().startswith(self.others)

    def find(self, index: int, name: str) -> tuple[str, Path] | None:
        """The one image that may be meant, and how it was found; None where there is none.

        Raises:
            DataError: several may be meant.
        """
        lasts = last_parts(name)
        bare = [match[1] for last in lasts if (match := PREFIXED.fullmatch(last))]
        for kind, parts in ((BY_LAST_PART, lasts), (WITHOUT_PREFIX, bare)):
            for alike in self.by_name:
                hits = [hit for part in parts for hit in alike.get(part, ())]
                if len(hits) > 1:
                    raise DataError(self._several(index, name, hits))
                if hits:
                    return kind, hits[0]
        return None

    def _several(self, index: int, name: str, hits: Sequence[Path]) -> str:
        listed = ", ".join(str(hit.relative_to(self.root)) for hit in sorted(hits)[:SHOWN_ALIKE])
        more = f" and {len(hits) - SHOWN_ALIKE} more" if len(hits) > SHOWN_ALIKE else ""
        return (
            f"{self.path}: images[{index}].file_name: {shown(name)} is not there, and "
            f"{len(hits)} images below {self.root} may be meant: {listed}{more}. Write each file's "
            "path below the folder of the images, or name that folder with data.images=FOLDER."
        )


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
    if not foreign or len(lost) <= allowed_unreadable(config.max_unreadable, len(names)):
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
