"""The image files below a folder, found by a name that somebody wrote on another machine."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from detkit.data.listing import find_images
from detkit.image_files import EXTENSIONS

BY_END = "images found by the end of their path"
FOUND_BY_NAME = "images found by their last part, in another folder than is written"


class ImageIndex:
    """Names of the images below ``root``, relative to it, with ``/`` between their parts.

    Raises:
        DataError: a name that is no text.
    """

    def __init__(self, root: Path) -> None:
        self.names = find_images(root)
        self._known = frozenset(self.names)
        self._of_last: dict[str, list[str]] = {}  # by a file's name, with and without its ending
        for name in self.names:
            last = name.rpartition("/")[2]
            for key in (last, os.path.splitext(last)[0]):
                self._of_last.setdefault(key, []).append(name)

    def __contains__(self, name: str) -> bool:
        return name in self._known

    def with_stem(self, path: str) -> list[str]:
        """The images of this path less their ending, the usual endings first."""
        last = path.rpartition("/")[2]
        own = [n for n in self._of_last.get(last, []) if os.path.splitext(n)[0] == path]
        return sorted(own, key=lambda name: _rank(name))

    def elsewhere(self, written: str, foreign: Collection[str] = ()) -> str | None:
        """The one image whose path ends most like a written one.

        Args:
            written: a path of any system, absolute or not; its last part must be the image's
                name, its ending may be missing.
            foreign: folders that are not looked into, such as those of other splits: an image of
                the same name there is another picture.

        Returns:
            Its name; None where there is none, or where several fit alike.
        """
        parts = [part for part in written.replace("\\", "/").split("/") if part not in ("", ".")]
        if not parts:
            return None
        fits: dict[int, list[str]] = {}
        for name in self._of_last.get(parts[-1], []):
            folders = name.split("/")[:-1]
            if not set(folders) & set(foreign):
                fits.setdefault(_common_tail(folders, parts[:-1]), []).append(name)
        best = fits[max(fits)] if fits else []
        return best[0] if len(best) == 1 else None

    def by_end(self, written: str, foreign: Collection[str] = ()) -> tuple[int, list[str]]:
        """The images whose path ends most like a written one; of these the one that is all of it.

        Args:
            written: as for :meth:`elsewhere`.
            foreign: folders that are not looked into, unless it names them.

        Returns:
            How many folders are alike, and their names; several where no one fits best.
        """
        parts = [part for part in written.replace("\\", "/").split("/") if part not in ("", ".")]
        fits: dict[int, list[str]] = {}
        for name in self._of_last.get(parts[-1], []) if parts else []:
            folders = name.split("/")[:-1]
            common = _common_tail(folders, parts[:-1])
            if not set(folders[: len(folders) - common]) & set(foreign):
                fits.setdefault(common, []).append(name)
        most = max(fits, default=0)
        best = fits.get(most, [])
        whole = [name for name in best if name.count("/") == most]
        return most, whole if len(whole) == 1 else best


def _common_tail(one: list[str], other: list[str]) -> int:
    """How many of the last parts of two paths are alike."""
    count = 0
    for left, right in zip(reversed(one), reversed(other), strict=False):
        if left != right:
            break
        count += 1
    return count


def _rank(name: str) -> tuple[int, str]:
    ending = os.path.splitext(name)[1].lower()
    return EXTENSIONS.index(ending), name
