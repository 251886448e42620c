"""The doctor's figures: what a dataset holds, and which of its images are the same.

What a detector makes of the data is in ``fit.py``. What follows from the figures is said in
``verdicts.py``, and shown in ``page.py`` and ``plots.py``.
"""

from __future__ import annotations

import difflib
import itertools
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from detkit.data.base import Annotations
from detkit.data.copies import MOST_DECODED, find_copies
from detkit.data.join import join
from detkit.data.scan import scan_images
from detkit.detectors import Detector
from detkit.doctor.fit import Fit, fit_detector
from detkit.doctor.leftovers import Leftovers
from detkit.evaluation.coco_map import AREA_RANGES
from detkit.image import ImageHeader

Role: TypeAlias = Literal["train", "eval", "other"]

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
NEAR_NAMES = 0.9  # likeness of two class names, as difflib measures it
LEAST_NAME = 5  # letters; shorter words are alike by chance
MOST_NAMES = 300  # compared letter by letter: with more of them it takes too long


@dataclass(frozen=True, slots=True)
class Entry:
    """One dataset entry of a split, and how many of its images can be used."""

    source: str  # e.g. "voc data/bccd trainval"
    images: int  # usable
    unreadable: int
    missing: tuple[str, ...] = ()  # of the unreadable, those that are no files at all


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """The images of one purpose: what is trained on, what is evaluated on, or a folder's split."""

    name: str
    role: Role  # what its images are for
    annotations: Annotations
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Figures:
    """What one split holds: I images, T objects, K classes."""

    images: int
    empty_images: int
    unreadable: int
    objects: int
    difficult: int
    crowd: int
    repeated_objects: int  # of the same class and box as another of the image
    objects_of_class: NDArray[np.int64]  # [K]
    images_of_class: NDArray[np.int64]  # [K]
    object_sides: tuple[float, ...]  # square root of the box's area at QUANTILES, pixels
    small: int  # COCO's classes of area
    medium: int
    large: int
    objects_per_image: tuple[float, float, int]  # median, mean, greatest
    image_sizes: dict[str, int]  # "height x width" -> images, most frequent first
    orientations: dict[int, int]  # EXIF, other than upright -> images


@dataclass(frozen=True, slots=True)
class Duplicate:
    """Images that show the same, C of them, each as (split, image)."""

    places: tuple[tuple[int, int], ...]  # [C] sorted
    contents: tuple[int, ...]  # [C] a number that files of the same bytes share


@dataclass(frozen=True, slots=True, eq=False)
class Checkup:
    """All that the doctor found: S splits whose labels mean the same K classes."""

    class_names: tuple[str, ...]  # [K]
    splits: tuple[Split, ...]  # [S]
    figures: tuple[Figures, ...]  # [S]
    fits: tuple[Fit, ...]  # [S]; empty where no detector is asked
    duplicates: tuple[Duplicate, ...]
    expected: tuple[str, ...] = ()  # the config's data.classes; empty: none are stated
    refused: tuple[str, ...] = ()  # what training or evaluation refuses: where, what, what to do
    unused: tuple[str, ...] = ()  # the same of splits that neither reads
    model: str = ""  # the detector that was asked, in words
    leftovers: tuple[Leftovers, ...] = ()  # of each folder, what none of its splits speaks of
    decoded: bool = True  # whether copies that were saved anew are among the duplicates

    def of_role(self, role: Role) -> list[int]:
        """Which splits are trained on, or evaluated on."""
        return [index for index, split in enumerate(self.splits) if split.role == role]


def examine(
    splits: Sequence[Split],
    detector: Detector | None,
    *,
    expected: Sequence[str] = (),
    refused: Sequence[str] = (),
    unused: Sequence[str] = (),
    model: str = "",
    leftovers: Sequence[Leftovers] = (),
    decode: bool = True,
) -> Checkup:
    """Look at splits, singly and together, and through a detector's eyes.

    Args:
        splits: as read; labels are mapped by name to one list, the expected classes first.
        detector: on the CPU, of as many classes as there are then; it needs no weights.
            None: none is asked, which is quick.
        expected: the config's ``data.classes``.
        refused: what training or evaluation says of what it refuses.
        unused: the same of splits that neither reads.
        model: what to call the detector.
        leftovers: what lies in the folders of the splits and is in none of them.
        decode: look for copies that were saved anew as well, which decodes every image once; of
            more than ``MOST_DECODED`` images none is.
    """
    names = all_classes(splits, expected)
    decode = decode and sum(len(split.annotations) for split in splits) <= MOST_DECODED
    same = [replace(s, annotations=join([s.annotations], names)) for s in splits]
    return Checkup(
        class_names=names,
        splits=tuple(same),
        figures=tuple(count(split) for split in same),
        fits=()
        if detector is None
        else tuple(fit_detector(detector, split.annotations) for split in same),
        duplicates=tuple(find_duplicates(same, decode=decode)),
        expected=tuple(expected),
        refused=tuple(refused),
        unused=tuple(unused),
        model=model,
        leftovers=tuple(leftovers),
        decoded=decode,
    )


def all_classes(splits: Sequence[Split], expected: Sequence[str] = ()) -> tuple[str, ...]:
    """The classes that labels of a checkup count in: the expected ones, then others found."""
    found = [name for split in splits for name in split.annotations.class_names]
    return tuple(dict.fromkeys([*expected, *found]))


def count(split: Split) -> Figures:
    """Count what a split holds."""
    data = split.annotations
    per_image = np.diff(data.offsets)
    sides = data.boxes[:, 2:] - data.boxes[:, :2]
    area = np.where(data.area > 0, data.area, sides.prod(axis=1))  # some tools write 0 for all
    small, medium = (area < AREA_RANGES[size][1] for size in ("small", "medium"))
    classes = len(data.class_names)
    return Figures(
        images=len(data),
        empty_images=int((per_image == 0).sum()),
        unreadable=sum(entry.unreadable for entry in split.entries),
        objects=len(data.boxes),
        difficult=int(data.difficult.sum()),
        crowd=int(data.crowd.sum()),
        repeated_objects=_count_repeated(data),
        objects_of_class=np.bincount(data.labels, minlength=classes),
        images_of_class=data.classes_of_images().sum(axis=0),
        object_sides=quantiles(np.sqrt(sides.prod(axis=1))),
        small=int(small.sum()),
        medium=int((medium & ~small).sum()),
        large=int((~medium).sum()),
        objects_per_image=(
            (float(np.median(per_image)), float(per_image.mean()), int(per_image.max()))
            if len(data)
            else (0.0, 0.0, 0)
        ),
        image_sizes=_by_frequency([f"{h} x {w}" for h, w in data.sizes.tolist()]),
        orientations=_orientations(data.paths.tolist()),
    )


def quantiles(values: NDArray[np.floating]) -> tuple[float, ...]:
    """The values at ``QUANTILES``; NaN where there are none."""
    if not len(values):
        return (float("nan"),) * len(QUANTILES)
    return tuple(np.quantile(values, QUANTILES).tolist())


def _count_repeated(data: Annotations) -> int:
    rows = np.column_stack([data.image_of_row(), data.labels, data.boxes])
    return len(rows) - len(np.unique(rows, axis=0))


def _by_frequency(words: Sequence[str]) -> dict[str, int]:
    names, counts = np.unique(np.array(words, dtype=np.str_), return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return {str(names[i]): int(counts[i]) for i in order}


def _orientations(paths: Sequence[str]) -> dict[int, int]:
    looks = scan_images([Path(path) for path in paths])  # remembered from the reading
    found: dict[int, int] = defaultdict(int)
    for look in looks:
        if isinstance(look, ImageHeader) and look.orientation != 1:
            found[look.orientation] += 1
    return dict(sorted(found.items()))


# -------------------------------------------------------------------------- duplicates


def find_duplicates(splits: Sequence[Split], *, decode: bool = True) -> list[Duplicate]:
    """Images that show the same, within a split and across splits; ``decode`` as in ``examine``."""
    places = [(s, i) for s, split in enumerate(splits) for i in range(len(split.annotations))]
    paths = [Path(str(splits[s].annotations.paths[i])) for s, i in places]
    return [
        Duplicate(tuple(places[index] for index in found.places), found.contents)
        for found in find_copies(paths, decode=decode)
    ]


class Pair(NamedTuple):
    """Two images that show the same."""

    first: int
    second: int
    is_exact: bool  # of the same bytes; else the picture was saved anew


def shared_images(duplicates: Sequence[Duplicate], a: int, b: int) -> list[Pair]:
    """An image of split ``a`` and one of split ``b`` of each picture that both have."""
    pairs = []
    for duplicate in duplicates:
        ours, theirs = (_first_of_each(duplicate, split) for split in (a, b))
        same = [Pair(ours[c], theirs[c], True) for c in ours if c in theirs]
        other = [Pair(i, j, False) for i in ours.values() for j in theirs.values()]
        pairs += (same or other)[:1]
    return sorted(pairs)


def _first_of_each(duplicate: Duplicate, split: int) -> dict[int, int]:
    """The first image of a split with each content."""
    found: dict[int, int] = {}
    for (where, image), content in zip(duplicate.places, duplicate.contents, strict=True):
        if where == split:
            found.setdefault(content, image)
    return found


def repeated_images(duplicates: Sequence[Duplicate], split: int) -> list[Pair]:
    """Pairs of images of one split that show the same: the first, and each further one."""
    pairs = []
    for duplicate in duplicates:
        mine = [
            (image, content)
            for (where, image), content in zip(duplicate.places, duplicate.contents, strict=True)
            if where == split
        ]
        pairs += [Pair(mine[0][0], image, mine[0][1] == content) for image, content in mine[1:]]
    return sorted(pairs)


# ------------------------------------------------------------------------- class names


def near_names(names: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs that differ in case, spaces or a plural's s only, or by very few letters."""
    plain = [re.sub(r"[\W_]+", "", name.casefold()) for name in names]
    pairs = []
    for (i, a), (j, b) in itertools.combinations(enumerate(plain), 2):
        if a == b or a + "s" == b or b + "s" == a or a + "es" == b or b + "es" == a:
            pairs.append((names[i], names[j]))
        elif len(names) <= MOST_NAMES and min(len(a), len(b)) >= LEAST_NAME:
            letters, others = (re.sub(r"\d", "", word) for word in (a, b))
            if letters != others and _likeness(a, b) >= NEAR_NAMES:
                pairs.append((names[i], names[j]))
    return pairs


def _likeness(a: str, b: str) -> float:
    matcher = difflib.SequenceMatcher(None, a, b)
    if matcher.real_quick_ratio() < NEAR_NAMES:
        return 0.0
    return matcher.ratio()
