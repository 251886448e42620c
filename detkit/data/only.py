"""The key ``only`` of an entry: the classes to keep of its data.

===========================================  ==================================================
a class of the data that ``only`` names      kept, called as it is there; in the data's order
objects of all other classes                 left out, counted; the line of the data names them
an image that has only such objects          kept, as a negative, counted (``EMPTIED``)
a name that the data lacks                   refused, but where other entries that are read with
                                             it have it, or the labels are settled already: of a
                                             rare class no image may be in the split; counted
names that the data all lacks                refused
===========================================  ==================================================

Synonyms of the official lists are one class, as everywhere. Data is parted before anything is left
out, so that the parts of a folder hold the same images whatever is kept of them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from detkit.class_names import OtherClassesError, few, match_classes, names_in_words
from detkit.data.base import Annotations, Report
from detkit.data.join import join
from detkit.errors import DataError, nearest, shown

EMPTIED = "images left without objects by data.only"
CALLED = re.compile(r"class_\d+")  # YOLO text's classes without names
NAMELESS = (
    "They have no names: give them theirs in a data.yaml or a classes.txt, or by the entry's key "
    "names."
)
ABSENT = "classes of data.only that the data does not have"


@dataclass(frozen=True, slots=True)
class Asked:
    """What an entry asks for."""

    where: str  # the entry, for a sentence
    only: tuple[str, ...]  # empty: all classes
    names: tuple[str, ...]  # of the data

    def found(self) -> dict[str, str]:
        """The data's name of each class that is there, by the name in ``only``."""
        return match_classes(self.only, self.names)


def check_asked(every: Sequence[Asked], known: Sequence[str]) -> None:
    """Refuse names that no data has, as the table of this module says.

    Args:
        every: entries that are read together.
        known: classes whose labels are settled.

    Raises:
        DataError: the first such name, with the nearest that there is.
    """
    has = tuple(dict.fromkeys(name for asked in every for name in asked.names))
    is_any = any(asked.found() for asked in every)
    nameless = has and all(map(CALLED.fullmatch, has))
    todo = NAMELESS if nameless else "Name classes that it has."
    for asked in every:
        settled = match_classes(asked.only, known) if is_any else {}
        for name in dict.fromkeys(asked.only):
            elsewhere = any(name in match_classes(asked.only, other.names) for other in every)
            if not elsewhere and name not in settled:
                raise DataError(
                    f"{asked.where}: data.only: no class {shown(name)} in the data."
                    f"{nearest(name, has)} The data has {names_in_words(has)}. "
                    f"{todo}"
                )


def keep_only(annotations: Annotations, asked: Asked, classes: Sequence[str] = ()) -> Annotations:
    """Keep the classes that are asked for, as the table of this module says.

    Args:
        annotations: with all classes of the data.
        asked: what to keep of them.
        classes: the classes to expect, in the order of their labels; empty: those kept.

    Raises:
        OtherClassesError: one that is kept is not among ``classes``.
    """
    called = {own: name for name, own in asked.found().items()}
    labels = [label for label, own in enumerate(annotations.class_names) if own in called]
    names = tuple(called[annotations.class_names[label]] for label in labels)
    unknown = [name for name in names if classes and name not in match_classes(names, classes)]
    if unknown:
        raise OtherClassesError(asked.where, unknown[0], classes, names)
    place = np.full(len(annotations.class_names), -1, dtype=np.int64)
    place[labels] = np.arange(len(labels))
    is_kept = place[annotations.labels] >= 0
    kept = annotations.keep_rows(is_kept)
    numbers, unsound = annotations.category_ids, kept.unsound
    report = _report(annotations, kept, ~is_kept, asked)
    kept = replace(
        kept,
        class_names=names,
        labels=place[kept.labels],
        category_ids=None if numbers is None else numbers[labels],
        unsound=None if unsound is None else unsound.with_labels(place),
        report=report,
    )
    if not classes:
        return kept
    joined = join([kept], classes)
    return replace(joined, report=replace(report, read_as=joined.report.read_as))


def _report(
    before: Annotations, after: Annotations, gone: NDArray[np.bool_], asked: Asked
) -> Report:
    """What is said of the data already, with what ``only`` took from it."""
    found = asked.found()
    absent = [name for name in dict.fromkeys(asked.only) if name not in found]
    others = [before.class_names[label] for label in np.unique(before.labels[gone]).tolist()]
    emptied = (np.diff(before.offsets) > 0) & (np.diff(after.offsets) == 0)
    images = {
        f"objects of {few(others)} left out by data.only": before.image_of_row()[gone],
        EMPTIED: np.flatnonzero(emptied),
    }
    counts = {kind: len(found) for kind, found in images.items() if len(found)}
    if absent:
        counts[f"{ABSENT} ({few(absent)})"] = len(absent)
    first = {kind: str(before.paths[found[0]]) for kind, found in images.items() if len(found)}
    report = before.report
    return replace(
        report,
        counts={**report.counts, **counts},
        examples={**report.examples, **first},
        read_as={**report.read_as, **{own: name for name, own in found.items() if own != name}},
        dropped=_dropped(before, found.values()),
        left_out=(),  # their labels are those of before, and the data is parted
    )


def _dropped(before: Annotations, kept: Collection[str]) -> dict[str, int | None]:
    """The classes that are not kept, with the data's own numbers."""
    names, numbers = before.class_names, before.category_ids
    own = [None] * len(names) if numbers is None else numbers.tolist()
    return {name: n for name, n in zip(names, own, strict=True) if name not in kept}
