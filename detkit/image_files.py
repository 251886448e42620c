"""Files of images by their names: the endings that are read, and those below a folder."""

from __future__ import annotations

import os
from collections.abc import Iterator

EXTENSIONS = (
    *(".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"),
    *(".jfif", ".jpe", ".jif", ".mpo"),  # JPEG, too
    *(".apng", ".pbm", ".pnm"),  # PNG and PPM
)
# Pictures that are not read: another format, or a camera's raw data.
UNREAD_EXTENSIONS = (
    *(".heic", ".heif", ".avif", ".jp2", ".j2k", ".jxl", ".jxr", ".tga", ".exr", ".dcm"),
    *(".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf"),
)


def images_below(folder: str | os.PathLike[str]) -> Iterator[str]:
    """Names of the image files below ``folder`` at any depth, relative to it, in any order.

    What a name tells is all that is looked at. Hidden files and folders are passed over, among
    them macOS's ``._a.jpg``; so are folders with an image's ending.
    """
    return files_below(folder, EXTENSIONS)


def files_below(folder: str | os.PathLike[str], endings: tuple[str, ...]) -> Iterator[str]:
    """Names of the files below ``folder`` with one of the ``endings``, which are in lower case.

    In upper and lower case alike, at any depth, relative to it, in any order; hidden files and
    folders are passed over.
    """
    for where, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        below = os.path.relpath(where, folder)
        for name in names:
            if name.lower().endswith(endings) and not name.startswith("."):
                yield name if below == "." else f"{below}/{name}".replace(os.sep, "/")
