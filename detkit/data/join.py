"""Several datasets as one: labels meet by class name, image ids stay apart.

Synonyms of the two official lists are one class: COCO's ``motorcycle`` and VOC's ``motorbike``
would else be two classes of the same things.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from detkit.arguments import check_names
from detkit.class_names import OtherClassesError, match_classes, one_spelling
from detkit.data.base import Annotations, Report, Segments
from detkit.data.stated import Unsound, as_stated
from detkit.errors import ConfigError, DataError, shown

PREFIXED = "image ids with their entry's number in front, as two entries share some"


def join(datasets: Sequence[Annotations], classes: Sequence[str] = ()) -> Annotations:
    """Join datasets into one; labels are mapped by class name, synonyms as one class.

    Where different images have the same id, as COCO's "1" in two datasets, the ids of the later
    dataset get its place in the list in front: ``2/1``.

    Args:
        datasets: what to join; the images keep this order.
        classes: the order of the labels; without it, the datasets' names, sorted; of synonyms the
            one that comes first.

    Raises:
        ConfigError: no datasets, or one by itself instead of a list.
        DataError: a class that ``classes`` lacks, or an image that stands in two datasets.
    """
    _check_given(datasets, classes)
    names = tuple(classes) or tuple(sorted(shared_names(datasets)))
    datasets = [_spelt(data, names) for data in datasets]
    ids, prefixed = _distinct_ids(datasets)
    orders = [
        np.array([names.index(name) for name in data.class_names], dtype=np.int64)
        for data in datasets
    ]
    ends = np.cumsum([0, *(len(d.boxes) for d in datasets)])
    images = np.cumsum([0, *(len(d) for d in datasets)]).tolist()
    report = Report({PREFIXED: prefixed} if prefixed else {})
    for data in datasets:
        report = report + data.report
    return Annotations(
        class_names=names,
        image_ids=ids,
        paths=np.concatenate([d.paths for d in datasets]),
        sizes=np.concatenate([d.sizes for d in datasets]),
        offsets=np.concatenate(
            [[0], *(d.offsets[1:] + end for d, end in zip(datasets, ends[:-1], strict=True))]
        ).astype(np.int64),
        boxes=np.concatenate([d.boxes for d in datasets]),
        labels=np.concatenate(
            [
                order[d.labels] if len(order) else d.labels
                for order, d in zip(orders, datasets, strict=True)
            ]
        ),
        difficult=np.concatenate([d.difficult for d in datasets]),
        crowd=np.concatenate([d.crowd for d in datasets]),
        area=np.concatenate([d.area for d in datasets]),
        report=report,
        category_ids=shared_category_ids(datasets, names),
        segments=_joined_segments(datasets),
        stated=_joined_stated(datasets),
        unsound=Unsound.joined(
            [d.unsound for d in datasets], orders, images[:-1], ends[:-1].tolist()
        ),
        is_coco=all(d.is_coco for d in datasets),
    )


def _check_given(datasets: object, classes: object) -> None:
    is_list = isinstance(datasets, Sequence) and not isinstance(datasets, str)
    if not is_list or not all(isinstance(data, Annotations) for data in datasets):  # type: ignore[attr-defined]
        kind = type(datasets).__name__
        raise ConfigError(f"join: datasets is of type {kind}; expected a list of Annotations.")
    if not datasets:
        raise ConfigError("join: datasets is empty; expected one or more.")
    check_names(classes, "join: classes")


def shared_names(datasets: Sequence[Annotations]) -> tuple[str, ...]:
    """The classes of all datasets, in the order they come in, one name for each."""
    spelling = one_spelling([data.class_names for data in datasets])
    return tuple(dict.fromkeys(spelling[n] for data in datasets for n in data.class_names))


def _spelt(data: Annotations, names: Sequence[str]) -> Annotations:
    """The same with its classes spelt as in ``names``.

    Raises:
        OtherClassesError: it has one that is not there.
    """
    met = match_classes(data.class_names, names)
    unknown = [name for name in data.class_names if name not in met]
    if unknown:
        raise OtherClassesError("data", unknown[0], names, data.class_names)
    read_as = {name: known for name, known in met.items() if name != known}
    if not read_as:
        return data
    spelt = tuple(met[name] for name in data.class_names)
    return replace(data, class_names=spelt, report=data.report + Report(read_as=read_as))


def _distinct_ids(datasets: Sequence[Annotations]) -> tuple[NDArray[np.str_], int]:
    """``[I]`` ids that are unique, and how many of them had to be changed."""
    parts: list[NDArray[np.str_]] = []
    path_of: dict[str, str] = {}
    prefixed = 0
    for place, data in enumerate(datasets, 1):
        ids, paths = data.image_ids.tolist(), [os.path.abspath(path) for path in data.paths]
        shared = [row for row, name in enumerate(ids) if name in path_of]
        for row in shared:
            if path_of[ids[row]] == paths[row]:
                raise DataError(
                    f"image id {shown(ids[row])} stands in the data twice; "
                    "leave out one of the entries, or rename the file."
                )
        if shared:
            prefixed += len(ids)
            ids = [f"{place}/{name}" for name in ids]
        path_of.update(zip(ids, paths, strict=True))
        parts.append(np.array(ids, dtype=np.str_))
    return np.concatenate(parts), prefixed


def shared_category_ids(
    datasets: Sequence[Annotations], names: Sequence[str]
) -> NDArray[np.int64] | None:
    """``[K]`` the datasets' own numbers of ``names``; None where they do not tell classes apart.

    They do where every dataset has numbers, every name has one, and the same in all datasets, and
    no number stands for two names.
    """
    number_of: dict[str, int] = {}
    for data in datasets:
        if data.category_ids is None:
            return None
        for name, number in zip(data.class_names, data.category_ids.tolist(), strict=True):
            if number_of.setdefault(name, number) != number:
                return None
    if len(set(number_of.values())) < len(number_of) or not set(names) <= set(number_of):
        return None
    return np.array([number_of[name] for name in names], dtype=np.int64)


def _joined_stated(datasets: Sequence[Annotations]) -> NDArray[np.float64] | None:
    if all(data.stated is None for data in datasets):
        return None
    return np.concatenate(
        [
            as_stated(data.boxes.astype(np.float64), None, shares=False)
            if data.stated is None
            else data.stated
            for data in datasets
        ]
    )


def _joined_segments(datasets: Sequence[Annotations]) -> Segments | None:
    parts = [
        data.segments if data.segments is not None else Segments.of([""] * len(data.boxes))
        for data in datasets
    ]
    if all(data.segments is None for data in datasets):
        return None
    ends = np.cumsum([0, *(len(part.text) for part in parts)])
    offsets = [part.offsets[1:] + end for part, end in zip(parts, ends[:-1], strict=True)]
    return Segments(
        np.concatenate([part.text for part in parts]),
        np.concatenate([[0], *offsets]).astype(np.int64),
    )
