"""Which splits of a folder to train and to measure on.

Which split is for what follows from its name (``train2017`` and ``VOC2007/train`` are for
training, ``valid`` is ``val``):

* training learns from ``train`` and measures on ``val``, where there is none on ``test``;
* ``trainval`` is taken in place of ``train`` where there is no ``val`` of its own to measure on;
  whoever trains on it never measures on the ``val`` or ``train`` beside it, which it holds;
* evaluation measures on ``test``, where there is none on ``val``: what was measured during
  training may have been chosen by, so it flatters;
* data with nothing to measure on is parted, every split that is trained on: the entries say
  ``part: train`` and ``part: eval``, the same draw for both commands.

The years of a VOCdevkit are joined, and each goes by these rules. Where some have a ``test``, what
is measured is theirs, and the ``val`` of other years is learned from, if they have a ``trainval``:
2007 of ``trainval`` and ``test`` with 2012 of all three is the papers' 07+12. Otherwise two splits
for one purpose are refused, and ``data.split`` decides; it is measured on its own year where that
has something.
"""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from pathlib import Path

from detkit.data.formats.base import Split
from detkit.errors import DataError, did_you_mean

PURPOSES = (  # of a split, by how its name begins
    ("trainval", ("trainval",)),
    ("train", ("train",)),
    ("val", ("val", "dev", "eval")),
    ("test", ("test",)),
)
LETTERS = string.ascii_letters


def purpose_of(name: str) -> str:
    """What a split is for by its name: a key of :data:`PURPOSES`, or empty."""
    word = name.lower()
    return next((kind for kind, starts in PURPOSES if word.startswith(starts)), "")


def choose_splits(
    root: Path, data_format: str, splits: Sequence[Split], split: str, learned: Sequence[str]
) -> tuple[list[str], list[str], list[str]]:
    """Names of the splits to learn from, and of each ``val`` and ``test`` that shares no image."""
    known = [entry.name for entry in splits]
    if split and split not in known:
        raise DataError(f"{root}: no split {split!r}.{did_you_mean(split, known)}")

    def named(purpose: str) -> list[str]:
        names = [entry.name for entry in splits if entry.purpose == purpose]
        return _one_of(root, names, split, years=data_format == "voc")

    if split or len(splits) == 1:
        train = [split or known[0]]
    else:
        train = _to_learn_from({purpose: named(purpose) for purpose, _ in PURPOSES})
        if not train:
            raise DataError(
                f"{root}: which of its splits {', '.join(known)} is for training? "
                "Say data.split=NAME."
            )
    seen = [*train, *learned]
    val, test = (
        [name for name in named(purpose) if not any(_holds(other, name) for other in seen)]
        for purpose in ("val", "test")
    )
    if split and any(_year(name) == _year(split) for name in val + test):
        val, test = ([n for n in names if _year(n) == _year(split)] for names in (val, test))
    return train, val, test


def _to_learn_from(named: Mapping[str, Sequence[str]]) -> list[str]:
    """``train`` or ``trainval`` of each year; ``named`` has the splits of each purpose."""
    years: dict[str, dict[str, str]] = {}
    for purpose, names in named.items():
        for name in names:
            years.setdefault(_year(name), {})[purpose] = name
    tested = [y for y in years.values() if "test" in y and ("train" in y or "trainval" in y)]
    chosen = []
    for _, year in sorted(years.items()):
        is_measured = "train" in year and "val" in year and (year in tested or not tested)
        first, second = ("train", "trainval") if is_measured else ("trainval", "train")
        chosen += [year[purpose] for purpose in (first, second) if purpose in year][:1]
    return chosen


def _year(name: str) -> str:
    """The folder of a split of a VOCdevkit; empty for all others."""
    return name.rpartition("/")[0]


def _holds(trained: str, name: str) -> bool:
    """Whether a split that is trained on has the images of another, as far as names tell."""
    if trained == name:
        return True
    purposes = [purpose_of(split.rpartition("/")[2]) for split in (trained, name)]
    return _year(trained) == _year(name) and purposes in (
        ["trainval", "train"],
        ["trainval", "val"],
    )


def _one_of(root: Path, names: Sequence[str], split: str, *, years: bool) -> list[str]:
    """Of splits for one purpose, the one that goes with ``split``: val2014 with train2014."""
    folders = {_year(name) for name in names}
    if len(names) < 2 or (years and "" not in folders and len(folders) == len(names)):
        return [*names]
    if not split:
        raise DataError(
            f"{root}: {' and '.join(names)} are for the same purpose. Say data.split=NAME."
        )
    return [name for name in names if name.lstrip(LETTERS) == split.lstrip(LETTERS)][:1]
