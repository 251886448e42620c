"""The images of a COCO file: the id that annotations know each by, and what is said of its file."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detkit.data.coco_paths import last_parts
from detkit.data.coco_values import (
    Id,
    is_number_as_text,
    read_id,
    read_whole,
    shown_id,
    wrong_value,
)
from detkit.errors import DataError
from detkit.files import is_plain

LONGEST_NAME = 4096  # characters of a file's name: a signed address may have a page of them
PADDED = re.compile(r"0\d+", re.ASCII)  # a number that is written back as the text it was


@dataclass(frozen=True, slots=True)
class CocoImage:
    """One entry of the list ``images``."""

    index: int  # among the images
    image_id: str  # as it is called in :class:`~detkit.data.base.Annotations`
    file_name: str
    size: tuple[int, int] | None  # height, width


@dataclass(frozen=True, slots=True)
class CocoImages:
    """The images of a file."""

    of_id: Mapping[Id, CocoImage]  # in the order of the file
    as_text: int  # entries whose id is a number that is written as text


def read_images(path: Path, block: Sequence[Mapping[str, Any]]) -> CocoImages:
    """Read the list ``images`` of a file.

    Args:
        path: the file, for the messages.
        block: the list.

    Raises:
        DataError: an id or a file name that is none, an id that stands twice, no images.
    """
    images: dict[Id, CocoImage] = {}
    as_text = 0
    for index, entry in enumerate(block):
        given, file_name = entry.get("id"), entry.get("file_name")
        number = read_id(given)
        if number is None:
            raise wrong_value(path, f"images[{index}].id", "a whole number", given)
        if number in images:
            raise DataError(
                f"{path}: image id {shown_id(number)} stands twice. Number the images apart."
            )
        if not _is_file_name(file_name):
            where = f"images[{index}].file_name"
            raise wrong_value(path, where, "a file name inside the folder", file_name)
        as_text += is_number_as_text(given, number)
        image_id = given if isinstance(given, str) and PADDED.fullmatch(given) else str(number)
        height, width = read_whole(entry.get("height")), read_whole(entry.get("width"))
        size = (height, width) if height and width and min(height, width) > 0 else None
        images[number] = CocoImage(index, image_id, str(file_name), size)
    if not images:
        raise DataError(f"{path}: lists no images. Is this the right file?")
    return CocoImages(images, as_text)


def _is_file_name(name: object) -> bool:
    """Whether some file may be meant, below the folder or elsewhere."""
    is_text = isinstance(name, str) and len(name) <= LONGEST_NAME and is_plain(name)
    return is_text and bool(last_parts(str(name)))
