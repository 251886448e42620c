"""Write datasets in another format: the images under their names, the boxes with their numbers.

Boxes are the sound ones as the source states them, clipped to their images (``writers.py``).

The new folder appears whole or not at all, the source is never written to, and a folder that
exists is never touched. Images are copied or linked, byte for byte. Those that EXIF turns are
written as they lie in the file, but sizes and boxes are those of the upright picture, which is
what viewers show and what every reader here takes.

Order is kept: each format lists the images of a split as the source does, so that training sees
them in the same order. Splits may share images; each is stored once.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from detkit.data.base import Annotations
from detkit.data.formats.base import written_formats
from detkit.data.join import join, shared_category_ids
from detkit.data.scan import scan_images
from detkit.data.writers import Page
from detkit.errors import DataError, UnknownNameError, did_you_mean
from detkit.files import whole_folder
from detkit.image import ImageHeader

MOST_DIGITS = 18  # of an image id; JSON readers elsewhere take 64 bits
RESERVED = ("images", "labels")  # names of folders that a split's list could be taken for
_UNSAFE = re.compile(r'[\\/:*?"<>|]')  # in a file name, on one system or another


@dataclass(frozen=True, slots=True)
class Converted:
    """What was written, and what could not be."""

    folder: Path
    format: str
    splits: tuple[str, ...]  # as an entry's key ``split`` names them
    class_names: tuple[str, ...]
    images: int  # files
    notes: tuple[str, ...]  # what the format does not hold, in sentences


def convert(
    splits: Mapping[str, Annotations],
    data_format: str,
    folder: Path,
    *,
    sources: Sequence[Path] = (),
    link: bool = False,
) -> Converted:
    """Write splits of one dataset to a new folder.

    Args:
        splits: by name; the classes are joined by name, in the order of the first split that has
            them.
        data_format: one that has a writer: ``voc``, ``coco``, ``yolo`` or ``csv``.
        folder: made; it must not exist.
        sources: folders that nothing may be written into.
        link: link the images (hard, else symbolically) where they would be copied.

    Raises:
        DataError: a folder that exists or lies in a source; names that cannot be written.
        DetkitError: the folder cannot be written, or an image cannot be copied.
        UnknownNameError: no such format.
    """
    writers = written_formats()
    if data_format not in writers:
        raise UnknownNameError(
            f"no format {data_format!r} to write.{did_you_mean(data_format, writers)}"
        )
    writer = writers[data_format]
    _check_target(folder, sources)
    names = _class_names(splits)
    stripped = [_stripped(data) for data in splits.values()]
    category_ids = shared_category_ids(stripped, names)
    renamed = {
        split: replace(join([data], names), category_ids=category_ids)
        for split, data in zip(splits, stripped, strict=True)
    }
    if writer.one_entry_an_image:
        _check_twice(splits)
    if writer.one_file_an_image:
        _check_shared(renamed)
    file_names = choose_file_names([path for data in splits.values() for path in data.paths])
    numbers = _image_numbers(list(splits.values()), file_names)
    lost: dict[str, int] = {}
    written = _split_names(list(splits))
    with whole_folder(folder) as temporary:
        for split, data in zip(written, renamed.values(), strict=True):
            paths = [str(path) for path in data.paths]
            page = Page(
                split, data, [file_names[p] for p in paths], [numbers[p] for p in paths], lost
            )
            writer.write(temporary, page)
        if writer.finish is not None:
            writer.finish(temporary, names, written)
        _bring_images(file_names, temporary / writer.images, link=link)
    return Converted(
        folder=folder,
        format=data_format,
        splits=tuple(written),
        class_names=names,
        images=len(file_names),
        notes=tuple(_notes(list(renamed.values()), data_format, lost, file_names)),
    )


# ----------------------------------------------------------------------------------- names


def choose_file_names(paths: Sequence[str]) -> dict[str, str]:
    """A file name in the new folder for each different path, in order.

    Names are kept, but for characters that a list or another system would trip over, and for
    stems that are taken: these get ``_2``, ``_3``, ... (case is not told apart everywhere).
    """
    chosen: dict[str, str] = {}
    taken: set[str] = set()
    for path in dict.fromkeys(str(path) for path in paths):
        plain = "".join(c if c.isprintable() else "_" for c in os.path.basename(path))
        stem, ending = os.path.splitext(_UNSAFE.sub("_", plain))
        stem = stem.strip().strip(".") or "_"
        unique, count = stem, 1
        while unique.casefold() in taken:
            count += 1
            unique = f"{stem}_{count}"
        taken.add(unique.casefold())
        chosen[path] = unique + (ending.rstrip() if len(ending) > 1 else "")
    return chosen


def _class_names(splits: Mapping[str, Annotations]) -> tuple[str, ...]:
    names: dict[str, str] = {}
    for data in splits.values():
        for name, stripped in zip(data.class_names, _stripped(data).class_names, strict=True):
            if names.setdefault(stripped, name) != name:
                raise DataError(
                    f"class names {names[stripped]!r} and {name!r} differ by spaces alone, which "
                    "no format but COCO keeps. Rename one in the annotations."
                )
            if not stripped or not stripped.isprintable():
                raise DataError(
                    f"class name {name!r} cannot be written as one word or line of text. "
                    "Rename it in the annotations."
                )
    return tuple(names)


def _stripped(data: Annotations) -> Annotations:
    return replace(data, class_names=tuple(name.strip() for name in data.class_names))


def _split_names(splits: Sequence[str]) -> list[str]:
    """``VOC2007/trainval`` is ``trainval``, or ``trainval-VOC2007`` where there are several."""
    last = [split.rpartition("/")[2] for split in splits]
    names = []
    for split, name in zip(splits, last, strict=True):
        below = split.rpartition("/")[0].replace("/", "-")
        name = f"{name}-{below}" if last.count(name) > 1 and below else name
        name = _UNSAFE.sub("_", name).strip() or "all"
        names.append(f"{name}-split" if name in RESERVED else name)
    if len({name.casefold() for name in names}) < len(names):
        raise DataError(f"splits {', '.join(splits)} would have the same name. Convert one by one.")
    return names


def _image_numbers(splits: Sequence[Annotations], file_names: Mapping[str, str]) -> dict[str, int]:
    """COCO's image ids: the source's own where all are numbers, else counted from 1."""
    pairs = {
        (path, image_id)
        for data in splits
        for path, image_id in zip(data.paths.tolist(), data.image_ids.tolist(), strict=True)
    }
    if all(i.isascii() and i.isdecimal() and len(i) <= MOST_DIGITS for _, i in pairs):
        own = {path: int(image_id) for path, image_id in pairs}
        if len(pairs) == len(own) == len(set(own.values())):
            return own
    return {path: number for number, path in enumerate(file_names, 1)}


def _check_twice(splits: Mapping[str, Annotations]) -> None:
    """Refuse an image that stands in one split under two ids, as COCO's files allow."""
    for split, data in splits.items():
        id_of: dict[str, str] = {}
        for path, image_id in zip(data.paths.tolist(), data.image_ids.tolist(), strict=True):
            if path in id_of:
                raise DataError(
                    f"{path}: stands in split {split} under the ids {id_of[path]} and {image_id}, "
                    "and the new format has one entry an image. Give the objects of both one "
                    "image_id, and remove the other image."
                )
            id_of[path] = image_id


def _check_shared(splits: Mapping[str, Annotations]) -> None:
    """Refuse an image that has other objects in one split than in another."""
    seen: dict[str, tuple[str, bytes]] = {}
    for split, data in splits.items():
        for image, path in enumerate(data.paths.tolist()):
            rows = slice(*data.offsets[image : image + 2].tolist())
            said = data.boxes[rows].tobytes() + data.labels[rows].tobytes()
            before, same = seen.setdefault(path, (split, said))
            if said != same:
                raise DataError(
                    f"{path}: has other objects in split {split} than in {before}, and the new "
                    "format has one file an image. Convert one split at a time (data.split=NAME)."
                )


# ----------------------------------------------------------------------------------- files


def _check_target(folder: Path, sources: Sequence[Path]) -> None:
    if os.path.lexists(folder):
        raise DataError(f"{folder}: exists already, and nothing is overwritten. Name a new folder.")
    for source in sources:
        if folder.resolve().is_relative_to(source.resolve()):
            raise DataError(
                f"{folder}: lies in the source {source}, where nothing is written. "
                "Name a folder beside it."
            )


def _bring_images(file_names: Mapping[str, str], folder: Path, *, link: bool) -> None:
    folder.mkdir()
    for path, name in file_names.items():
        if link:
            _link(os.path.realpath(path), folder / name)
        else:
            shutil.copyfile(path, folder / name)


def _link(path: str, target: Path) -> None:
    try:
        os.link(path, target)
    except OSError:  # another disk, or a file that is not ours
        os.symlink(path, target)


# ----------------------------------------------------------------------------------- notes


def _notes(
    splits: Sequence[Annotations],
    data_format: str,
    lost: Mapping[str, int],
    file_names: Mapping[str, str],
) -> Iterator[str]:
    """What a person should know of the new folder."""
    for kind, count in lost.items():
        if count:
            yield f"{data_format} cannot hold all: {count} {kind}."
    changed = [name for path, name in file_names.items() if os.path.basename(path) != name]
    if changed:
        yield (
            f"{len(changed)} images have other names now (first: {changed[0]}), because two names "
            "were alike or could not be listed."
        )
    headers = scan_images([Path(path) for path in file_names])
    rotated = sum(isinstance(h, ImageHeader) and h.orientation != 1 for h in headers)
    if rotated:
        yield (
            f"{rotated} images are rotated by EXIF: sizes and boxes are those of the upright "
            "picture; a program that ignores EXIF will see them misplaced."
        )
    held = {name for data in splits for name in _with_objects(data)}
    bare = [name for data in splits[:1] for name in data.class_names if name not in held]
    if bare and not written_formats()[data_format].lists_classes:
        yield (
            f"{data_format} lists no classes: {len(bare)} without objects are known from "
            f"data.classes alone ({', '.join(bare[:3])}{', ...' if len(bare) > 3 else ''})."
        )


def _with_objects(data: Annotations) -> set[str]:
    return {data.class_names[label] for label in set(data.labels.tolist())}
