"""The images of a COCO file: the id that annotations know each by, and its file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detkit.data.coco_values import read_whole, wrong_value
from detkit.data.listing import inner_path
from detkit.errors import DataError


@dataclass(frozen=True, slots=True)
class CocoImage:
    """One entry of the list ``images``."""

    index: int  # among the images
    file_name: str
    size: tuple[int, int] | None  # height, width


def read_images(path: Path, block: Sequence[Mapping[str, Any]]) -> dict[int, CocoImage]:
    """The images by their ids, in the order of the file.

    Raises:
        DataError: an id or a file name that is none, an id that stands twice, no images.
    """
    images: dict[int, CocoImage] = {}
    for index, entry in enumerate(block):
        number = read_whole(entry.get("id"))
        if number is None:
            raise wrong_value(path, f"images[{index}].id", "a whole number", entry.get("id"))
        if number in images:
            raise DataError(f"{path}: image id {number} stands twice. Number the images apart.")
        file_name = inner_path(entry.get("file_name"))
        if file_name is None:
            where = f"images[{index}].file_name"
            raise wrong_value(path, where, "a file name inside the folder", entry.get("file_name"))
        height, width = read_whole(entry.get("height")), read_whole(entry.get("width"))
        size = (height, width) if height and width and min(height, width) > 0 else None
        images[number] = CocoImage(index, file_name, size)
    if not images:
        raise DataError(f"{path}: lists no images. Is this the right file?")
    return images
