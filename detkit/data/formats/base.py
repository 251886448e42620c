"""What a format of datasets is: a record that says how one is found, read and written.

``format: auto``, ``detkit data convert --to``, ``detkit detect --save-format`` and every message
that names formats ask ``DATASETS`` for these records. A new format is a record in one file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

from pydantic import NonNegativeInt, PrivateAttr, field_validator

from detkit.arguments import is_no_path
from detkit.config import Config, Fraction
from detkit.errors import bare, shown
from detkit.registry import Registry

if TYPE_CHECKING:
    from detkit.data.base import Annotations
    from detkit.data.writers import Page
    from detkit.detections import Detections


AUTO = "auto"  # the format of entries that leave it to their folder


class DatasetConfig(Config):
    """One entry of ``data.train`` or ``data.eval``, less its ``format``.

    Data without a split of its own is parted here: an entry with ``part: train`` and one with
    ``part: eval``, alike in all else, never share an image.
    """

    root: Path
    split: str
    part: Literal["all", "train", "eval"] = "all"  # of the split, parted as hold_out says
    hold_out: Fraction = 0.2  # share of the images in part eval, each class's share alike
    split_seed: NonNegativeInt = 0  # of the draw
    # of the images; more of them stop the run, but one alone only where this is 0
    max_unreadable: Fraction = 0.01
    only: tuple[str, ...] = ()  # classes to keep, as detkit/data/only.py says; empty: all

    # whether images are looked at; not a key, as only boxes can be had without (without_images.py)
    _looks: bool = PrivateAttr(default=True)

    @property
    def looks_at_images(self) -> bool:
        """Whether sizes, orientations and damage are read from the images."""
        return self._looks

    def without_images(self) -> Self:
        """The same entry, whose images are not looked at."""
        copy = self.model_copy()
        copy._looks = False
        return copy

    @field_validator("root")
    @classmethod
    def _can_be_there(cls, value: Path) -> Path:
        if is_no_path(value):
            raise ValueError(f"{shown(str(value))} can be no folder. Write a path.")
        return value

    @field_validator("only", mode="before")
    @classmethod
    def _is_a_list(cls, value: Any) -> Any:
        if isinstance(value, str):
            raise ValueError(f"expected a list of names, such as [{bare(value) or 'cat'}].")
        return value


# Keys that a folder goes by whichever of its splits is read, and in whichever format.
FOLDER_KEYS = tuple(
    key for key in DatasetConfig.model_fields if key not in ("root", "split", "part")
)

# Keys of formats that say where files lie, below the root.
PLACE_KEYS = ("annotations", "images")

# Keys of VIA, in every split of a folder alike.
VIA_KEYS = ("attribute",)

# Keys that say how files are meant, VOC's and YOLO text's, in every split of a folder alike.
MEANING_KEYS = ("origin", "unannotated", "rows", "names_file")


class Split(NamedTuple):
    """One split of a folder."""

    name: str  # as in an entry's key split
    images: int  # that it lists
    purpose: str  # trainval, train, val, test, or empty where its name does not tell


@dataclass(frozen=True, slots=True)
class DatasetWriter:
    """How splits are written to a new folder."""

    write: Callable[[Path, Page], None]  # one split
    images: str = "images"  # the folder of the images
    finish: Callable[[Path, Sequence[str], Sequence[str]], None] | None = None  # classes, splits
    one_entry_an_image: bool = True  # in a split, so that an image cannot stand there twice
    one_file_an_image: bool = False  # for all splits, so that its objects are the same in each
    lists_classes: bool = True  # those without objects, too


@dataclass(frozen=True, slots=True, eq=False)
class ImageDetections:
    """One image and what was found in it."""

    image_id: str  # unique; the file's stem where that is
    path: str
    size: tuple[int, int]  # (height, width)
    found: Detections

    @property
    def file_name(self) -> str:
        """The last part of the path."""
        return self.path.replace("\\", "/").rpartition("/")[2]


Save = Callable[[ImageDetections], None]


@dataclass(frozen=True, slots=True)
class DetectionWriter:
    """How detections are written as they come, one image after another.

    ``open`` takes the folder, the names of the classes, and what numbers them where a format has
    numbers (``"coco"``: COCO's own); leaving what it gives ends the files.
    """

    open: Callable[[Path, tuple[str, ...], Literal["coco"] | None], AbstractContextManager[Save]]
    files: str  # that it writes, for messages


@dataclass(frozen=True, slots=True)
class DatasetFormat:
    """A registry entry: how one format is found, read, written and called.

    ``read`` takes the settings of an entry and the class names, or none, which means all of the
    data's own.
    """

    config_type: type[DatasetConfig]
    read: Callable[[Any, Sequence[str]], Annotations]
    title: str = ""  # what messages call it; empty: generated, or found by another
    looked_for: str = ""  # by what files it is known
    find: Callable[[Path], Sequence[Split]] | None = None  # its splits in a folder, none of others
    writer: DatasetWriter | None = None
    detections: DetectionWriter | None = None


def is_auto(entry: Mapping[str, Any]) -> bool:
    """Whether an entry leaves its format to ``recognise``."""
    return entry.get("format") == AUTO


DATASETS: Registry[DatasetFormat] = Registry("data format")


def found_formats() -> Mapping[str, Callable[[Path], Sequence[Split]]]:
    """What finds the splits of each format that ``auto`` knows, in the order looked for."""
    return {name: each.find for name, each in DATASETS.entries().items() if each.find is not None}


def written_formats() -> Mapping[str, DatasetWriter]:
    """What writes each format that datasets are converted to."""
    return {n: each.writer for n, each in DATASETS.entries().items() if each.writer is not None}


def looked_for() -> str:
    """``PASCAL VOC (XML files ...), COCO JSON (...) and CVAT XML (...)``."""
    every = [each for each in DATASETS.entries().values() if each.find is not None]
    *first, last = [f"{each.title} ({each.looked_for})" for each in every]
    return f"{', '.join(first)} and {last}" if first else last
