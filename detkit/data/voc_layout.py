"""Where the files of a PASCAL VOC dataset lie, whatever its folders are called.

Names count in upper and lower case alike. ``annots`` stands for any of ``ANNOTATION_FOLDERS``,
``images`` for any of ``IMAGE_FOLDERS``:

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

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from detkit.data.listing import contents
from detkit.data.places import COUNTED, SPLIT, below_root
from detkit.errors import ConfigError, DataError, did_you_mean
from detkit.files import leaves_folder
from detkit.image import EXTENSIONS, images_below

ALL = "all"  # the split of a folder without lists: all of its annotation files
ANNOTATION_FOLDERS = (
    *("annotations", "annotation", "annots", "annot", "labels", "label"),
    *("xmls", "xml", "anns", "ann", "bboxes", "bbox"),
)
IMAGE_FOLDERS = (
    *("jpegimages", "images", "image", "imgs", "img", "jpegs", "jpgs", "jpeg", "jpg"),
    *("photos", "pictures", "pics", "frames"),
)
PURPOSES = ("train", "val", "test", "dev", "eval")  # how a folder's name begins that is a split
OFFICIAL = ("Annotations", "JPEGImages")
PROBED = 20  # annotation files that are looked at where a folder is to be chosen
FIRST_TAG = re.compile(rb"<(?:\w+:)?annotation[\s>/]")
MIT_TAGS = (b"<nrows>", b"<pt>")  # of LabelMe 3.0, which begins as VOC does and has polygons
HEAD_BYTES = 4096  # of an XML file, in which its first tag must stand


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the files of one split lie."""

    annotations: Path  # the folder that ids begin at
    images: Path  # likewise; the same where each XML lies beside its image
    listing: Path | None  # the file that lists the ids; None: all annotation files
    deep: bool = True  # whether files in sub-folders belong to it

    @property
    def source(self) -> Path:
        """What to name in a sentence about the split."""
        return self.annotations if self.listing is None else self.listing

    def xml_files(self) -> dict[str, Path]:
        """The annotation files by id, sorted."""
        names = sorted(xml_below(self.annotations, deep=self.deep))
        return {os.path.splitext(name)[0]: self.annotations / name for name in names}

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
        return Layout(listed, pictures or find_images(base, listed), lists / f"{name}.txt")
    if given is not None and (split in ("", ALL) or SPLIT in annotations):
        return Layout(given, pictures or find_images(root, given), None)
    if given is not None and (given / split).is_dir():
        inner = given / split
        return Layout(inner, pictures or _images_of_split(root, inner, split), None)
    if given is not None:
        raise DataError(_no_split(root, base, split))
    if name == ALL or (not split and not list_files(root) and not split_folders(root)):
        found = find_annotations(base)
        if found is not None:
            return Layout(found, pictures or find_images(base, found), None, found != base)
    elif split in split_folders(root):
        base = root / split
        found = find_annotations(base)
        if found is not None:
            return Layout(found, pictures or find_images(base, found), None, found != base)
        inner = annotations_of(root, split)
        return Layout(inner, pictures or _images_of_split(root, inner, split), None)
    raise DataError(_no_split(root, base, split))


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


# ------------------------------------------------------------------------------- what is there


def child(folder: Path, *names: str) -> Path | None:
    """The folder of these names below ``folder``, written in any case; None: there is none."""
    for name in names:
        exact = folder / name
        if not exact.is_dir():
            alike = [path for path in _folders(folder) if path.name.lower() == name.lower()]
            if not alike:
                return None
            exact = alike[0]
        folder = exact
    return folder


def list_files(root: Path) -> list[Path]:
    """The split files of a folder, or of each folder of a VOCdevkit, sorted."""
    mains = [child(folder, "ImageSets", "Main") for folder in (root, *_folders(root))]
    return sorted(path for main in mains if main is not None for path in main.glob("*.txt"))


def split_folders(root: Path) -> list[str]:
    """Names of the folders that are a split each, of ``root`` or of its folder of annotations."""
    names = [
        folder.name
        for folder in _folders(root)
        if folder.name.lower().startswith(PURPOSES) and find_annotations(folder) is not None
    ]
    found = find_annotations(root)
    if found is None or found == root or any(xml_below(found, deep=False)):
        return names
    inner = _folders(found)
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
        for folder in _folders(base)
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
    named = [folder for folder in _folders(base) if folder.name.lower() in IMAGE_FOLDERS]
    found = [folder for folder in named if any(images_below(folder))]
    for folder in dict.fromkeys((annotations, base)):  # beside the XML, or beside its folder
        if _holds_images(folder):
            found.append(folder)
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


def _images_of_split(root: Path, inner: Path, split: str) -> Path:
    """The images of the annotation files in ``annots/SPLIT``."""
    for folder in _folders(root):
        same = child(folder, split) if folder.name.lower() in IMAGE_FOLDERS else None
        if same is not None and any(images_below(same)):
            return same
    return find_images(root, inner)


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


def _folders(folder: Path) -> list[Path]:
    """The folders in a folder, sorted; hidden ones not."""
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        names = [e.name for e in entries if not e.name.startswith(".") and e.is_dir()]
    return [folder / name for name in sorted(names)]
