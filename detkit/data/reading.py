"""Read what one entry of a config names, whatever its format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from detkit.arguments import check_flag, check_names, check_settings
from detkit.config import parse
from detkit.data.base import Annotations, Report
from detkit.data.copies import find_copies
from detkit.data.foreign import name_foreign
from detkit.data.formats.base import DATASETS, DatasetConfig
from detkit.data.only import Asked, check_asked, keep_only
from detkit.data.recognise import find_splits
from detkit.data.split import part_images
from detkit.data.without_images import (
    holds_images,
    refuse_parting,
    shares_need_images,
    without_images,
)
from detkit.errors import ConfigError, DataError

ENTRY = "{'format': 'voc', 'root': FOLDER, 'split': 'test'}"

ONE_PICTURE = "images that are all one picture, so that none is held out"


def read_dataset(
    entry: Mapping[str, Any], classes: Sequence[str] = (), *, images: bool = True
) -> Annotations:
    """Read what one entry of ``data.train`` or ``data.eval`` names.

    Args:
        entry: ``format`` and that format's own keys, ``root`` and ``split`` always among them.
        classes: the classes to expect, in the order of their labels; empty: take the data's.
        images: look at the images; without, ids, classes and boxes are as the files state them,
            which is enough to measure detections that there are (``without_images.py``).

    Raises:
        ConfigError: an entry that cannot be.
        UnknownNameError: no such format.
        DataError: data that is missing or cannot be used, with what to do.
    """
    check_flag(images, "read_dataset: images")
    check_settings(entry, "read_dataset: entry", ENTRY)
    check_names(classes, "read_dataset: classes")
    return read_entries([entry], classes, images=images)[0]


def read_entries(
    entries: Sequence[Mapping[str, Any]],
    classes: Sequence[str] = (),
    known: Sequence[str] = (),
    *,
    images: bool = True,
) -> list[Annotations]:
    """Read entries that belong together; a class that ``only`` names may be in one of them alone.

    Args:
        entries: each as :func:`read_dataset` takes it.
        classes: likewise.
        known: more classes that ``only`` may name where none of the entries has them.
        images: likewise.

    Raises:
        As :func:`read_dataset`.
    """
    read = [_read(entry, classes, images=images) for entry in entries]
    asked = [
        Asked(_words(entry), config.only, annotations.class_names)
        for entry, (annotations, config) in zip(entries, read, strict=True)
    ]
    check_asked(asked, (*classes, *known))
    return [
        keep_only(annotations, what, classes) if what.only else annotations
        for (annotations, _), what in zip(read, asked, strict=True)
    ]


def _words(entry: Mapping[str, Any]) -> str:
    return " ".join(str(entry[key]) for key in ("root", "split") if entry.get(key))


def _read(
    entry: Mapping[str, Any], classes: Sequence[str], *, images: bool
) -> tuple[Annotations, DatasetConfig]:
    """All classes of an entry's data, where it is to keep some; its settings."""
    settings = dict(entry)
    if "format" not in settings:
        raise ConfigError(f"data: an entry lacks its format; known: {', '.join(DATASETS)}.")
    name = settings.pop("format")
    data_format = DATASETS[name]
    config: DatasetConfig = parse(data_format.config_type, settings, path="data.")
    if not images:
        config = without_images(config)
    try:
        annotations = data_format.read(config, () if config.only else classes)
    except DataError as problem:
        if not images and name == "yolo" and not holds_images(config.root):
            raise shares_need_images(config.root) from problem
        hint = _other_format(name, config.root)
        if not hint:
            raise
        raise DataError(f"{problem} {hint}") from problem
    if config.part == "all":
        return annotations, config
    refuse_parting(annotations, config)
    return part(annotations, config), config


def part(annotations: Annotations, config: DatasetConfig) -> Annotations:
    """Return the part of a dataset that its settings name, with what concerns it of the report.

    Images that cannot be used are drawn with the others: each lies in one part, and whoever
    repairs it changes nothing of the rest. Copies of one picture lie in one part, of the same bytes
    or saved anew.
    """
    report = annotations.report
    lost = np.array([image.index for image in report.left_out], dtype=np.int64)
    listed = len(annotations) + len(lost)
    good = np.setdiff1d(np.arange(listed), lost)
    has = np.zeros((listed, len(annotations.class_names)), dtype=np.bool_)
    has[good] = annotations.classes_of_images()
    for image in report.left_out:
        has[image.index, list(image.labels)] = True
    # Whoever reads the other part may have the classes in another order, or call them otherwise.
    order = sorted(np.flatnonzero(has.any(axis=0)), key=lambda label: has[:, label].tobytes())
    paths = np.empty(listed, dtype=object)
    paths[good] = annotations.paths
    paths[lost] = [image.path for image in report.left_out]
    copies = [found.places for found in find_copies([Path(path) for path in paths])]
    inside = part_images(has[:, order], config.hold_out, config.split_seed, copies)
    is_whole = listed > 0 and config.hold_out > 0 and not inside.any()
    if config.part == "train":
        inside = ~inside
    kept = annotations.keep_images(inside[good])
    unusable = [image.path for image in report.left_out if inside[image.index]]
    told = [*kept.paths.tolist(), *unusable]
    report = report.of_part(told, whole=config.part == "train")
    return replace(kept, report=report + Report({ONE_PICTURE: listed}) if is_whole else report)


def _other_format(name: str, root: Path) -> str:
    """What to add to an error where the folder plainly has another format than ``name``."""
    if DATASETS[name].find is None:  # generated data, or a format that was recognised
        return ""
    try:
        found, _ = find_splits(root)
    except (DataError, OSError):  # no format, several, or a folder that cannot be read
        return ""
    if found == name:  # label files of another kind may lie where this format has its own
        return name_foreign(root)
    looks, said = DATASETS[found].title, DATASETS[name].title
    return f"It looks like {looks}, not {said}: set data.format=auto."
