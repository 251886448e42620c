"""What the readers of labelling tools' own documents share: parsing, splits, the way to a draft.

labelme's and CreateML's JSON and CVAT's XML each say for an image which objects it has; the
documents were made by anybody, so each is parsed with care and refused by a sentence.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from detkit.data.labelling import Labels
from detkit.data.listing import contents, read_text, short_ids
from detkit.data.settle import Draft
from detkit.errors import ConfigError, DataError, did_you_mean
from detkit.image_files import EXTENSIONS

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

T = TypeVar("T")

Box = tuple[float, float, float, float]  # x1, y1, x2, y2, exclusive edges
NO_BOX: Box = (
    math.nan,
    math.nan,
    math.nan,
    math.nan,
)  # dropped and counted as a box without numbers

HEAD_BYTES = 1 << 16  # of a document, in which its first keys must stand
TAIL_BYTES = 1 << 12  # behind a picture embedded in it
MAX_DOCUMENT = 1 << 30  # bytes
PURPOSES = ("train", "val", "test", "dev", "eval")  # how a name begins that is a split's
ALL = "all"
PROBED = 20  # documents of a folder that are looked into


@dataclass(slots=True)
class Page:
    """What a document says of one image."""

    document: Path
    image: str  # name below the root; a file that may not be there
    size: tuple[int, int] | None = None  # height, width
    names: list[str] = field(default_factory=list)  # one an object
    boxes: list[Box] = field(default_factory=list)
    difficult: list[bool] = field(default_factory=list)
    crowd: list[bool] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)  # what is counted of it, one entry a case

    def add(self, name: str, box: Box, *, difficult: bool = False, crowd: bool = False) -> None:
        """Add an object."""
        self.names.append(name)
        self.boxes.append(box)
        self.difficult.append(difficult)
        self.crowd.append(crowd)


def make_draft(
    root: Path,
    source: Path,
    pages: Sequence[Page],
    names: Sequence[str],
    classes: Sequence[str],
    noted: Mapping[str, int] | None = None,
) -> Draft:
    """Lay out the pages of a split.

    Args:
        root: that the images' names begin at.
        source: what to name in an error.
        pages: one an image.
        names: the data's own classes, in their order; those of objects are among them.
        classes: the classes to expect, in the order of their labels; empty: ``names``.
        noted: counts that concern no image of their own.

    Raises:
        DataError: an image that two pages speak of, or an object of another class.
    """
    _refuse_claimed_twice(root, pages)
    known = tuple(classes) or tuple(names)
    labels = Labels.of(names, known)
    kinds: dict[str, int | list[int]] = {}
    for index, page in enumerate(pages):
        for kind in page.kinds:
            images = kinds.setdefault(kind, [])
            assert isinstance(images, list)
            images.append(index)
    boxes = np.array([box for page in pages for box in page.boxes], dtype=np.float64)
    return Draft(
        source=source,
        class_names=known,
        image_ids=short_ids([page.image for page in pages]),
        paths=[root / page.image for page in pages],
        sizes=[page.size for page in pages] if any(page.size for page in pages) else (),
        counts=[len(page.boxes) for page in pages],
        boxes=boxes.reshape(-1, 4),
        labels=[labels.find(name, str(page.document)) for page in pages for name in page.names],
        difficult=[flag for page in pages for flag in page.difficult],
        crowd=[flag for page in pages for flag in page.crowd],
        noted=kinds | dict(noted or {}),
        read_as=labels.read_as,
    )


def _refuse_claimed_twice(root: Path, pages: Sequence[Page]) -> None:
    first: dict[str, Page] = {}
    for page in pages:
        other = first.setdefault(page.image, page)
        if other is page:
            continue
        where = f"{other.document} and {page.document} both speak"
        if other.document == page.document:
            where = f"{page.document} speaks twice"
        raise DataError(
            f"{root / page.image}: {where} of this image. Keep one, or give each its own image."
        )


def box_around(points: Sequence[tuple[float, float]]) -> Box:
    """The box around points; ``NO_BOX`` where one is no number, or there is none."""
    xs, ys = [x for x, _ in points], [y for _, y in points]
    if not points or not all(map(math.isfinite, (*xs, *ys))):
        return NO_BOX
    return min(xs), min(ys), max(xs), max(ys)


# ------------------------------------------------------------------------------------- parsing


def load_json(path: Path) -> Any:
    """Parse a JSON document.

    Raises:
        DataError: it cannot be read, or is no JSON.
    """
    text = read_text(path, MAX_DOCUMENT)
    try:
        return json.loads(text)
    except RecursionError:
        raise DataError(f"{path}: is nested too deep for an annotation file. Repair it.") from None
    except ValueError as problem:  # not JSON; a number of thousands of digits
        raise DataError(f"{path}: not readable as JSON ({problem}). Repair the file.") from None


def load_xml(path: Path) -> Element:
    """Parse an XML document; entities are refused, as they can attack memory.

    Raises:
        DataError: it cannot be read, or is no XML, or declares entities.
    """
    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import ParseError, fromstring

    try:
        if path.stat().st_size > MAX_DOCUMENT:
            raise DataError(f"{path}: has more than {MAX_DOCUMENT:,} bytes. Is this a document?")
        root: Element = fromstring(path.read_bytes())
    except OSError as problem:
        raise DataError(
            f"{path}: cannot be read ({problem.strerror}). Check that it is a file you may open."
        ) from problem
    except DefusedXmlException:
        raise DataError(
            f"{path}: declares XML entities, which are refused as unsafe. Remove its DOCTYPE."
        ) from None
    except (ParseError, ValueError, LookupError) as problem:  # LookupError: unknown encoding
        raise DataError(f"{path}: not readable as XML ({problem}). Repair the file.") from problem
    return root


def look_into(path: Path) -> tuple[bytes, bytes]:
    """The first and the last bytes of a file; both empty where it cannot be read."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
            file.seek(max(0, path.stat().st_size - TAIL_BYTES))
            return head.lstrip(b"\xef\xbb\xbf \t\r\n"), file.read(TAIL_BYTES)
    except OSError:
        return b"", b""


# -------------------------------------------------------------------------------------- splits


def is_split(name: str) -> bool:
    """Whether a folder or a file of this name is a split by its name."""
    return name.lower().startswith(PURPOSES)


def folders_in(folder: Path) -> list[Path]:
    """The folders in a folder, sorted; hidden ones not."""
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        names = [e.name for e in entries if not e.name.startswith(".") and e.is_dir()]
    return [folder / name for name in sorted(names)]


def files_in(folder: Path, ending: str) -> list[Path]:
    """The files with an ending that lie in a folder itself, sorted; hidden ones not."""
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        names = [e.name for e in entries if e.name.lower().endswith(ending) and e.is_file()]
    return [folder / name for name in sorted(names) if not name.startswith(".")]


def files_below(folder: Path, ending: str) -> Iterator[Path]:
    """The files with an ending below a folder, at any depth, in any order; hidden ones not."""
    for where, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if name.lower().endswith(ending) and not name.startswith("."):
                yield Path(where, name)


def holds_images(folder: Path) -> bool:
    """Whether images lie in a folder itself."""
    with os.scandir(folder) as entries:
        return any(entry.name.lower().endswith(EXTENSIONS) for entry in entries)


def choose_split(root: Path, split: str, parts: Mapping[str, T], what: str) -> tuple[str, T]:
    """The split that an entry means, and where it lies.

    Args:
        root: the dataset's folder.
        split: its name; empty: the only one.
        parts: the splits that are there.
        what: the documents that are expected, for the messages.

    Raises:
        ConfigError: several splits, and none named.
        DataError: no such folder, no such split, or no document at all.
    """
    if not root.is_dir():
        raise DataError(
            f"{root}: no such folder. Expected a folder with {what}; point to it with "
            "data.root=PATH."
        )
    if not parts:
        raise DataError(f"{root}: holds no {what}; {contents(root)}. Check data.root.")
    if split in parts:
        return split, parts[split]
    if split == ALL and "" in parts:  # as format auto calls it
        return "", parts[""]
    if not split and len(parts) == 1:
        return next(iter(parts.items()))
    if not split:
        raise ConfigError(
            f"data.split: missing; {root} has {', '.join(sorted(parts))}. Name one of them."
        )
    named = [name for name in parts if name]
    raise DataError(f"{root}: no split {split!r}.{did_you_mean(split, named)}")
