"""What a table says of each image, and the draft that is made of it: CSV and VIA alike."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from detkit.data.image_index import BY_END
from detkit.data.labelling import Labels
from detkit.data.listing import short_ids
from detkit.data.settle import Draft
from detkit.data.table_images import FoundImages

JOINED = "images named in two ways joined"


@dataclass(slots=True)
class Page:
    """What a table says of one image."""

    where: str = ""  # it is named first, for an error
    split: str = ""
    size: tuple[int, int] | None = None  # height, width
    names: list[str] = field(default_factory=list)  # one an object
    boxes: list[tuple[float, ...]] = field(default_factory=list)
    difficult: list[bool] = field(default_factory=list)
    crowd: list[bool] = field(default_factory=list)

    def add(
        self, name: str, box: tuple[float, ...], *, difficult: bool = False, crowd: bool = False
    ) -> None:
        """Append an object."""
        self.names.append(name)
        self.boxes.append(box)
        self.difficult.append(difficult)
        self.crowd.append(crowd)

    def extend(self, other: Page) -> None:
        """Append the objects of the same image under another name."""
        self.names += other.names
        self.boxes += other.boxes
        self.difficult += other.difficult
        self.crowd += other.crowd


def draft_of(
    source: Path,
    pages: Sequence[Page],
    found: FoundImages,
    classes: Sequence[str],
    noted: Mapping[str, int],
    *,
    relative: bool = False,
) -> Draft:
    """Lay out pages, those of one file as one image.

    Args:
        source: the table.
        pages: one a name.
        found: the file of each.
        classes: to expect; empty: the data's, sorted.
        noted: what the reader counted.
        relative: boxes are shares of the image.
    """
    by_path: dict[Path, Page] = {}
    by_end = {found.paths[index] for index in found.by_end}
    for page, path in zip(pages, found.paths, strict=True):
        if path in by_path:
            by_path[path].extend(page)
        by_path.setdefault(path, page)
    kept = list(by_path.values())
    names = tuple(classes) or tuple(sorted({name for page in kept for name in page.names}))
    labels = Labels.of([name for page in kept for name in page.names], names)
    boxes = np.array([box for page in kept for box in page.boxes], dtype=np.float64)
    ends = [index for index, path in enumerate(by_path) if path in by_end]
    return Draft(
        source=source,
        class_names=names,
        image_ids=short_ids([Path(os.path.relpath(p, found.home)).as_posix() for p in by_path]),
        paths=list(by_path),
        sizes=[page.size for page in kept] if any(page.size for page in kept) else (),
        counts=[len(page.names) for page in kept],
        boxes=boxes.reshape(-1, 4),
        labels=[labels.find(name, str(source)) for page in kept for name in page.names],
        difficult=[flag for page in kept for flag in page.difficult],
        crowd=[flag for page in kept for flag in page.crowd],
        relative=relative,
        noted={**noted, **found.noted, BY_END: ends, JOINED: len(pages) - len(kept)},
        read_as=labels.read_as,
    )
