"""The folders of PASCAL VOC's files, found by their names and by what lies in them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from detkit.data.listing import contents
from detkit.errors import DataError
from detkit.image_files import EXTENSIONS, images_below

ANNOTATION_FOLDERS = (
    *("annotations", "annotation", "annots", "annot", "labels", "label"),
    *("xmls", "xml", "anns", "ann", "bboxes", "bbox"),
)
IMAGE_FOLDERS = (
    *("jpegimages", "images", "image", "imgs", "img", "jpegs", "jpgs", "jpeg", "jpg"),
    *("photos", "pictures", "pics", "frames"),
)
LAST_IMAGE_FOLDERS = ("data",)  # FiftyOne's; where no other holds images
PURPOSES = ("train", "val", "test", "dev", "eval")  # how a folder's name begins that is a split
OFFICIAL = ("Annotations", "JPEGImages")
PROBED = 20  # annotation files that are looked at where a folder is to be chosen
FIRST_TAG = re.compile(rb"<(?:\w+:)?annotation[\s>/]")
MIT_TAGS = (b"<nrows>", b"<pt>")  # of LabelMe 3.0, which begins as VOC does and has polygons
HEAD_BYTES = 4096  # of an XML file, in which its first tag must stand


def child(folder: Path, *names: str) -> Path | None:
    """The folder of these names below ``folder``, written in any case; None: there is none."""
    for name in names:
        exact = folder / name
        if not exact.is_dir():
            alike = [path for path in folders_in(folder) if path.name.lower() == name.lower()]
            if not alike:
                return None
            exact = alike[0]
        folder = exact
    return folder


def list_files(root: Path) -> list[Path]:
    """The split files of a folder, or of each folder of a VOCdevkit, sorted."""
    mains = [child(folder, "ImageSets", "Main") for folder in (root, *folders_in(root))]
    return sorted(path for main in mains if main is not None for path in main.glob("*.txt"))


def split_folders(root: Path) -> list[str]:
    """Names of the folders that are a split each, of ``root`` or of its folder of annotations."""
    names = [
        folder.name
        for folder in folders_in(root)
        if folder.name.lower().startswith(PURPOSES) and find_annotations(folder) is not None
    ]
    found = find_annotations(root)
    if found is None or found == root or any(xml_below(found, deep=False)):
        return names
    inner = folders_in(found)
    if inner and all(folder.name.lower().startswith(PURPOSES) for folder in inner):
        names += [folder.name for folder in inner if _holds_xml(folder)]
    return list(dict.fromkeys(names))


def find_annotations(base: Path, *, listed: bool = False) -> Path | None:
    """The folder of VOC's XML files of ``base``; ``base`` itself where they lie beside images.

    Args:
        base: the folder of a dataset, or of one of its splits.
        listed: whether lists of ids are there, so that ``Annotations`` may as well be empty.

    Raises:
        DataError: several folders may be meant.
    """
    official = base / OFFICIAL[0]
    if official.is_dir() and (listed or (any(xml_below(official)) and not _holds_mit(official))):
        return official
    found = [
        folder
        for folder in folders_in(base)
        if folder.name.lower() in ANNOTATION_FOLDERS and _holds_xml(folder)
    ]
    if len(found) > 1:
        raise DataError(_several(base, found, "annotation files", "annotations"))
    if found:
        return found[0]
    if _holds_images(base) and _holds_xml(base, deep=False):
        return base
    return None


def find_images(base: Path, annotations: Path) -> Path:
    """The folder of the images that belong to ``annotations``.

    Raises:
        DataError: there is none, or several may be meant.
    """
    official = base / OFFICIAL[1]
    if official.is_dir() and any(images_below(official)):
        return official
    named = [folder for folder in folders_in(base) if folder.name.lower() in IMAGE_FOLDERS]
    found = [folder for folder in named if any(images_below(folder))]
    for folder in dict.fromkeys((annotations, base)):  # beside the XML, or beside its folder
        if _holds_images(folder):
            found.append(folder)
    if not found:
        named = [path for path in folders_in(base) if path.name.lower() in LAST_IMAGE_FOLDERS]
        found = [path for path in named if any(images_below(path))]
    if len(found) > 1:  # those that have what the annotation files speak of
        ids = [_stem(name) for name in islice(xml_below(annotations), PROBED)]
        stems = [{_stem(name) for name in images_below(path)} for path in found]
        found = [path for path, have in zip(found, stems, strict=True) if have & {*ids}] or found
    if len(found) > 1:
        raise DataError(_several(base, found, "images", "images"))
    if found:
        return found[0]
    if official.is_dir() or annotations == base / OFFICIAL[0]:
        return official
    raise DataError(
        f"{base}: annotation files lie in {annotations.name}/, but no folder of their images is "
        f"found (JPEGImages, images, imgs and the like); {contents(base)}. Name it with "
        "data.images=FOLDER."
    )


def _stem(name: str) -> str:
    """A file's name without its ending, upper and lower case alike."""
    return os.path.splitext(name)[0].casefold()


def images_of_split(root: Path, split: str) -> Path | None:
    """The folder ``images/SPLIT`` that holds images; None: there is none."""
    for folder in folders_in(root):
        same = child(folder, split) if folder.name.lower() in IMAGE_FOLDERS else None
        if same is not None and any(images_below(same)):
            return same
    return None


def _several(base: Path, found: Sequence[Path], what: str, key: str) -> str:
    names = [path.name + "/" if path != base else "the folder itself" for path in found]
    return (
        f"{base}: holds {what} in {' and '.join(names)}. Say which are meant with "
        f"data.{key}=FOLDER."
    )


def xml_below(folder: Path, *, deep: bool = True) -> Iterator[str]:
    """Names of the XML files below a folder, relative to it, in any order; hidden ones not."""
    for where, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if deep and not name.startswith(".")]
        below = os.path.relpath(where, folder)
        for name in names:
            if name.lower().endswith(".xml") and not name.startswith("."):
                yield name if below == "." else f"{below}/{name}".replace(os.sep, "/")


def _holds_xml(folder: Path, *, deep: bool = True) -> bool:
    """Whether one of the first XML files below a folder is an annotation of VOC's."""
    return any(_is_voc(folder / name) for name in islice(xml_below(folder, deep=deep), PROBED))


def _holds_images(folder: Path) -> bool:
    """Whether images lie in a folder itself."""
    if not folder.is_dir():
        return False
    with os.scandir(folder) as entries:
        return any(entry.name.lower().endswith(EXTENSIONS) for entry in entries)


def _holds_mit(folder: Path) -> bool:
    """Whether one of the first XML files below a folder is LabelMe's 3.0."""
    return any(_is_mit(_head(folder / name)) for name in islice(xml_below(folder), PROBED))


def _is_mit(head: bytes) -> bool:
    return any(tag in head for tag in MIT_TAGS) and b"<bndbox>" not in head


def _is_voc(path: Path) -> bool:
    head = _head(path)
    return FIRST_TAG.search(head) is not None and not _is_mit(head)


def _head(path: Path) -> bytes:
    """The first bytes of a file; none where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(HEAD_BYTES).replace(b"\0", b"")  # UTF-16's
    except OSError:
        return b""


def folders_in(folder: Path) -> list[Path]:
    """The folders in a folder, sorted; hidden ones not."""
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        names = [e.name for e in entries if not e.name.startswith(".") and e.is_dir()]
    return [folder / name for name in sorted(names)]
