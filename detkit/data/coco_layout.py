"""Where the parts of a COCO dataset lie: the JSON of a split, and the folder of its images."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from detkit.data.formats.base import PLACE_KEYS, DatasetConfig
from detkit.data.listing import contents
from detkit.data.places import COUNTED, SPLIT, below_root
from detkit.errors import ConfigError, DataError
from detkit.files import leaves_folder

LAYOUTS = (  # where the JSON of a split lies below the root
    "annotations/instances_{split}.json",
    "{split}/_annotations.coco.json",
    "annotations/{split}.json",
    "{split}.json",
)
# Likewise where the split's name says what it is for; they come before the last of the others.
MORE_LAYOUTS = (
    "{split}/labels.json",  # FiftyOne
    "{split}/result.json",  # Label Studio
    "{split}/annotations.json",
    "instances_{split}.json",
    "annotations_{split}.json",
)
IMAGE_FOLDERS = ("{split}", "images/{split}", "images", "data", ".")  # or beside the JSON
FOLDERS_BESIDE = ("data", "images")  # the JSON, as FiftyOne and Label Studio have them
PROBED_IMAGES = 5  # that are looked for in each of these folders


class CocoConfig(DatasetConfig):
    """``split`` is as in the JSON's name: ``train2017``; or the two keys say where things are."""

    split: str = ""
    annotations: str = ""  # the JSON, below root; {split} in it stands for the split
    images: str = ""  # the folder that file names begin at, below root; {split} as well


def places_below_root(config: CocoConfig) -> CocoConfig:
    """Return the entry with its two places as paths below its root."""
    places = {key: below_root(config.root, getattr(config, key)) for key in PLACE_KEYS}
    return config.model_copy(update=places)


def find_annotations(config: CocoConfig) -> Path:
    """Return the JSON that an entry means; it is there.

    Raises:
        ConfigError: neither ``split`` nor ``annotations``, or both where one would do nothing.
        DataError: no such file, with what was looked for.
    """
    for key in ("split", "annotations", "images"):
        if leaves_folder(getattr(config, key)):
            raise ConfigError(
                f"data.{key}: {getattr(config, key)!r} leaves {config.root}. "
                + ("Write a name." if key == "split" else f"{COUNTED} Write one below it.")
            )
    if not config.split and not config.annotations:
        raise ConfigError(
            "data.split: missing; name the split, e.g. train2017 of instances_train2017.json, or "
            "give the file below data.root in the entry's key annotations."
        )
    if config.split and config.annotations and SPLIT not in config.annotations:
        raise ConfigError(
            f"data.annotations: {config.annotations!r} is one file, so split "
            f"{config.split!r} would do nothing. Leave split out, or write {SPLIT} in the name."
        )
    if not config.root.is_dir():
        raise DataError(
            f"{config.root}: no such folder. Expected annotations/instances_SPLIT.json and the "
            "images in SPLIT/; point to it with data.root=PATH."
        )
    layouts = (config.annotations,) if config.annotations else LAYOUTS
    looked = [layout.replace(SPLIT, config.split) for layout in layouts]
    more = () if config.annotations else MORE_LAYOUTS
    others = [layout.replace(SPLIT, config.split) for layout in more]
    for name in (*looked[:-1], *others, looked[-1]):
        if os.path.isfile(config.root / name):
            return config.root / name
    if config.annotations:
        raise DataError(
            f"data.annotations: {config.root / looked[0]} is no file; {contents(config.root)}. "
            f"{COUNTED}"
        )
    raise DataError(
        f"{config.root}: no {' or '.join(looked)}; {contents(config.root)}. "
        "Check data.split, or name the file in the entry's key annotations."
    )


def find_folder(config: CocoConfig, path: Path, names: Sequence[str]) -> Path:
    """Return the folder that file names begin at: the one named, or the first that has some."""
    if config.images:
        folder = config.root / config.images.replace(SPLIT, config.split)
        if not folder.is_dir():
            raise DataError(
                f"data.images: {folder} is no folder; {contents(config.root)}. {COUNTED}"
            )
        return folder
    folders = [config.root / name.replace(SPLIT, config.split) for name in IMAGE_FOLDERS]
    folders[1:1] = [path.parent, *(path.parent / name for name in FOLDERS_BESIDE)]
    for folder in folders:
        if any(os.path.isfile(folder / name) for name in names[:PROBED_IMAGES]):
            return folder
    return next((folder for folder in folders if folder.is_dir()), config.root)
