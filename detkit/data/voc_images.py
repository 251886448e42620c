"""The image of each of VOC's annotation files, found by its id, and files of another case."""

from __future__ import annotations

import ntpath
import os
from collections.abc import Iterable, Sequence, Set
from functools import cached_property
from pathlib import Path

from detkit.data.voc_layout import Layout
from detkit.data.voc_page import Page
from detkit.errors import DataError, shown
from detkit.files import leaves_folder
from detkit.image_files import EXTENSIONS, UNREAD_EXTENSIONS, files_below

NO_IMAGES = (".xml", ".txt", ".json", ".csv", ".yaml", ".yml", ".md", ".npy")


class Images:
    """The image files of a layout, found by id."""

    def __init__(self, layout: Layout, ids: Set[str] = frozenset(), *, needed: bool = True) -> None:
        self.layout = layout
        self.needed = needed  # or they may as well be nowhere
        self.ids = ids  # all of the split, so that no image of another one is taken
        self._files: dict[str, dict[str, list[str]]] = {}  # folder -> stem -> names

    @cached_property
    def of_id(self) -> dict[str, list[str]]:
        """Names of the files below the folder of images, by the id that each would have."""
        return self.layout.image_files()

    @cached_property
    def of_folded(self) -> dict[str, list[str]]:
        """The ids that files have and no annotation, by what is left of them in lower case."""
        return _folded(stem for stem in self.of_id if stem not in self.ids)

    def find(self, image_id: str, page: Page) -> Path:
        """The image of an id: ``<id>.jpg``, else ``<id>`` with another ending, else ``<filename>``.

        Where there is none of these, the one whose name differs in upper and lower case alone, and
        then the one file of that id with an ending that is no known image's. A path that may not
        exist: the first is returned when there is none.

        Raises:
            DataError: ``<filename>`` is needed and leaves the folder, or several images differ from
                the id in case alone.
        """
        folder = self.layout.images
        expected = folder / f"{image_id}.jpg"
        if os.path.isfile(expected):  # no error for a name that is too long
            return expected
        own = self.of_id.get(image_id, [])
        if own:
            named = [name for name in own if name.rpartition("/")[2] == page.file_name]
            order = [f"{image_id}{ext}" for ext in EXTENSIONS]
            return folder / (named or sorted(own, key=lambda name: _place(name.lower(), order)))[0]
        alike = self._in_other_case(image_id, page)
        if leaves_folder(page.file_name) and alike is not None:
            return alike
        if leaves_folder(page.file_name) and not self.needed:
            return self._of_any_ending(image_id) or expected
        if leaves_folder(page.file_name):
            raise DataError(
                f"{page.path}: <filename> {shown(page.file_name)} leaves the folder, and "
                f"{expected} does not exist. Write the image's plain name."
            )
        plain = page.file_name.replace("\\", "/")
        candidates = [folder / name for name in (plain, ntpath.basename(plain)) if name]
        exact = next((path for path in candidates if os.path.isfile(path)), None)
        if exact is not None and self._is_of_another(exact):
            exact, alike = None, alike or self._of_any_ending(image_id) or exact
        return exact or alike or self._of_any_ending(image_id) or expected

    def _in_other_case(self, image_id: str, page: Page) -> Path | None:
        """The one image whose id differs from this in upper and lower case alone."""
        stems = self.of_folded.get(image_id.casefold(), [])
        if len(stems) > 1:
            names = " and ".join(self.of_id[stem][0] for stem in stems)
            raise DataError(
                f"{page.path}: no image is called {image_id} in {self.layout.images}, but {names} "
                "are, in other upper and lower case. Rename the one that is meant."
            )
        return self.layout.images / self.of_id[stems[0]][0] if stems else None

    def has(self, image_id: str) -> bool:
        """Whether an image of this very id is there, or one that differs in case alone."""
        return image_id in self.of_id or len(self.of_folded.get(image_id.casefold(), [])) == 1

    def others(self, paths: Sequence[Path]) -> list[str]:
        """Ids of the images that are none of ``paths``, nor another form of one of their ids.

        Images of other splits, where all lie in one folder, are none of them.
        """
        used = {os.path.splitext(path)[0] for path in paths}
        stems = [stem for stem in self.of_id if str(self.layout.images / stem) not in used]
        if not self.layout.shares_images:
            return stems
        theirs = self.layout.ids_of_others()
        return [stem for stem in stems if stem not in theirs]

    def unread(self, paths: Sequence[Path]) -> list[str]:
        """Names of images of a kind that is not read, that are of no id; none where splits share.

        What lies in sub-folders counts where ids have folders.
        """
        if self.layout.shares_images:
            return []
        used = {os.path.splitext(path)[0] for path in paths}
        names = files_below(self.layout.images, UNREAD_EXTENSIONS)
        return [
            name
            for name in names
            if (self.layout.deep or "/" not in name)
            and os.path.splitext(self.layout.images / name)[0] not in used
        ]

    def _is_of_another(self, path: Path) -> bool:
        """Whether an image has an id of the split by its own name."""
        return os.path.splitext(path.relative_to(self.layout.images).as_posix())[0] in self.ids

    def _of_any_ending(self, image_id: str) -> Path | None:
        """The one file of an id whose ending is no known image's: opened, it may say more."""
        folder, _, stem = str(self.layout.images / image_id).rpartition(os.sep)
        if folder not in self._files:
            names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
            self._files[folder] = _by_stem(names)
        names = self._files[folder].get(stem, [])
        return Path(folder, names[0]) if len(names) == 1 else None


def _by_stem(names: Iterable[str]) -> dict[str, list[str]]:
    """File names by stem; texts that lie beside images are left out."""
    found: dict[str, list[str]] = {}
    for name in names:
        stem, ending = os.path.splitext(name)
        if ending and ending.lower() not in NO_IMAGES:
            found.setdefault(stem, []).append(name)
    return found


def _folded(names: Iterable[str]) -> dict[str, list[str]]:
    """Names by what is left of them where upper and lower case count alike."""
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(name.casefold(), []).append(name)
    return found


def files_in_other_case(layout: Layout, ids: Sequence[str]) -> dict[str, Path]:
    """The annotation files of listed ids whose names differ from them in case alone."""
    lacking = [i for i in ids if not os.path.isfile(layout.annotations / f"{i}.xml")]
    if not lacking or not layout.annotations.is_dir():
        return {}
    files, listed = layout.xml_files(), frozenset(ids)
    exact = {i: files[i] for i in lacking if i in files}  # NAME.XML
    folded = _folded(name for name in files if name not in listed)
    alike = {i: folded.get(i.casefold(), []) for i in lacking}
    return {i: files[names[0]] for i, names in alike.items() if len(names) == 1} | exact


def _place(name: str, order: Sequence[str]) -> int:
    lowered = [entry.lower() for entry in order]
    return lowered.index(name) if name in lowered else len(lowered)
