"""Annotations whose images are not looked at: enough to measure detections that somebody has.

A detections file needs boxes, classes and ids, no pixels. What the images would have decided, the
files decide:

=========================================  ====================================================
the size of an image                       as stated, whatever the image's is
no size stated                             none: nothing is clipped or dropped by it, counted as
                                           in ``settle.py``
boxes in shares of the image               refused where the size of one image is not stated
EXIF, truncated and damaged files          not seen
a part of a split (``part``)               refused: copies of a picture lie in one part, which
                                           only the pictures tell
=========================================  ====================================================
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from detkit.data.base import Annotations
from detkit.data.counted import Counted
from detkit.data.formats.base import DatasetConfig
from detkit.data.places import SPLIT, below_root
from detkit.errors import DataError
from detkit.image import ImageHeader
from detkit.image_files import images_below

NOT_LOOKED_AT = "images not looked at (sizes and boxes as stated)"
NOT_THERE = "of them not there"
SHARES = "boxes are shares of each image's width and height, which no file states"
UNKNOWN = (0, 0)  # height and width of an image whose size nobody states


class NeedsImagesError(DataError):
    """Data that cannot be read as it is meant without the images that it lacks."""


class AllThereError(DataError):
    """Images that have to be looked at, and are all there."""


def shares_need_images(source: Path) -> NeedsImagesError:
    """What is said of boxes that are shares of images whose sizes nobody states."""
    return NeedsImagesError(
        f"{source}: {SHARES}, so the images are needed. Put them where they belong, or convert the "
        "data to another format where they are: detkit data convert."
    )


def holds_images(root: Path) -> bool:
    """Whether there is any image below a folder, or beside the file that stands for it."""
    return any(images_below(root.parent if root.is_file() else root))


def headers_as_stated(
    source: Path,
    paths: Sequence[Path],
    sizes: Sequence[tuple[int, int] | None],
    *,
    relative: bool,
) -> list[ImageHeader]:
    """The header of each image as if the image were of the size that is stated.

    Args:
        source: what to name in an error.
        paths: of the images.
        sizes: height and width of each; empty: none is stated.
        relative: boxes are shares of these sizes.

    Raises:
        NeedsImagesError: a size that is needed is not stated, and some image is not there.
        AllThereError: likewise where all are there.
    """
    stated = [*sizes] or [None] * len(paths)
    if relative and None in stated:
        if count_not_looked_at(paths)[NOT_THERE]:
            raise shares_need_images(source)
        raise AllThereError(f"{source}: {SHARES}, so the images have to be looked at.")
    return [ImageHeader(*(size or UNKNOWN), orientation=1, truncated=False) for size in stated]


def count_not_looked_at(paths: Sequence[Path]) -> dict[str, int]:
    """What is noted of images that were not looked at."""
    missing = Counted.of(path for path in paths if not os.path.isfile(path))
    return {NOT_LOOKED_AT: len(paths), NOT_THERE: missing}


def without_images(config: DatasetConfig) -> DatasetConfig:
    """The entry whose images are not looked at; its key ``images`` goes where it leads nowhere."""
    config = config.without_images()
    images = below_root(config.root, str(getattr(config, "images", "")))
    if images and not (config.root / images.replace(SPLIT, config.split)).is_dir():
        return config.model_copy(update={"images": ""})
    return config


def refuse_parting(annotations: Annotations, config: DatasetConfig) -> None:
    """Refuse to hold out images of which some are not there.

    Raises:
        NeedsImagesError: copies of a picture lie in one part, and cannot be told.
    """
    if annotations.report.counts.get(NOT_THERE):
        raise NeedsImagesError(
            f"data.part: is {config.part}, and which images of {config.root} that is, is told by "
            "the images too, as copies of one stay together; some are not there. Put them where "
            "they belong, or measure on all with data.part=all."
        )


def read_as_far_as_there(read: Callable[[bool], Annotations]) -> Annotations:
    """Read data for a file of detections: with its images where all are there, else without.

    Args:
        read: of whether images are looked at.

    Raises:
        DataError: what ``read`` says with images, where these are all there; without them, where
            some are not.
    """
    try:
        found = read(True)
    except DataError as problem:
        try:
            bare = read(False)
        except AllThereError:
            raise problem from None
        if not bare.report.counts.get(NOT_THERE):
            raise
        return bare
    is_missing = any(not os.path.exists(path) for path, _ in found.report.unreadable)
    return read(False) if is_missing else found
