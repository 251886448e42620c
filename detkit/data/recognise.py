"""Look at a folder, say which format lies there, and which splits to train and measure on.

What is chosen is told in ``choose_splits.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from detkit.data.choose_splits import choose_splits, purpose_of
from detkit.data.coco_file import load_blocks
from detkit.data.csv_rows import ENDINGS
from detkit.data.find_splits import count_coco_images, find_voc, finder
from detkit.data.formats.base import (
    DATASETS,
    MEANING_KEYS,
    PLACE_KEYS,
    VIA_KEYS,
    DatasetConfig,
    Split,
    found_formats,
)
from detkit.data.listing import contents
from detkit.data.places import COUNTED, below_root
from detkit.data.table_splits import splits_of_table
from detkit.data.unread_split import find_unread, find_unread_to_measure_on
from detkit.data.unrecognised import nothing_found
from detkit.data.via import count_images
from detkit.data.yolo_splits import why_lists, yolo_counts
from detkit.errors import ConfigError, DataError
from detkit.files import leaves_folder

Use = Literal["train", "eval"]

ORDER = ("train", "val", "test", "trainval", "")


@dataclass(frozen=True, slots=True)
class Recognised:
    """What lies in a folder, and what it will be used for."""

    root: Path
    format: str
    splits: tuple[Split, ...]
    train: tuple[dict[str, Any], ...]  # entries to learn from
    val: tuple[dict[str, Any], ...]  # entries to measure on while training
    test: tuple[dict[str, Any], ...]  # entries to measure on afterwards
    unread: str = ""  # what to say of a split for training that cannot be read; empty: none
    unmeasured: str = ""  # a split to measure on that cannot be read; empty: none

    def line(self, use: Use = "train") -> str:
        """What was found and what comes of it, in one line."""
        splits = ", ".join(f"{split.name or 'all'} {split.images}" for split in self.splits)
        found = f"{self.root}: {DATASETS[self.format].title}, splits {splits}; "
        if use == "eval":
            return f"{found}evaluating on {self._said(self.test)}"
        aside = f", as nothing of {self.unmeasured} can be read" if self.unmeasured else ""
        measured = f"evaluating on {self._said(self.val)}{aside}"
        return f"{found}training on {self._said(self.train)}, {measured}"

    def _said(self, entries: Sequence[Mapping[str, Any]]) -> str:
        names = [str(entry["split"] or "all") for entry in entries]
        if "part" not in entries[0]:
            return " and ".join(names)
        images = {split.name: split.images for split in self.splits}
        is_held_out = entries[0]["part"] == "eval"
        if all(images[entry["split"]] == 1 for entry in entries):  # parted entry by entry
            nothing = "nothing, as one image cannot be parted"
            return nothing if is_held_out else " and ".join(names)
        share = entries[0].get("hold_out", DatasetConfig.model_fields["hold_out"].default)
        share = share if is_held_out else 1 - share
        return f"{share:.0%} of {' and '.join(names)}"


def recognise(
    root: Path,
    split: str = "",
    keys: Mapping[str, Any] | None = None,
    learned: Sequence[str] = (),
) -> Recognised:
    """Find out which format a folder has, and choose splits as this module says.

    Args:
        root: the folder, or a CSV table, ``data.yaml`` or ``obj.data`` itself.
        split: what to train on, or to evaluate on; empty: chosen by name.
        keys: more keys for every entry (``hold_out``, ``split_seed``, ``max_unreadable``, and
            ``annotations`` and ``images``, which say where the files lie, VOC's ``origin`` and
            ``unannotated``, YOLO's ``rows`` and ``names_file``).
        learned: splits of the folder that other entries train on, so never to measure on.

    Raises:
        DataError: no format is recognised, or several; no split can be chosen.
    """
    keys = dict(keys or {})
    for key in PLACE_KEYS:
        if keys.get(key):  # the same file from wherever the entry is read
            keys[key] = below_root(root, str(keys[key]))
    data_format, splits = find_splits(
        root,
        annotations=str(keys.get("annotations", "")),
        names_file=str(keys.get("names_file", "")),
    )
    _check_keys(data_format, keys)
    train, val, test = choose_splits(root, data_format, splits, split, learned)

    def entries(names: Sequence[str], **more: str) -> tuple[dict[str, Any], ...]:
        place = {"format": data_format, "root": str(root)}
        return tuple({**place, "split": name, **more, **keys} for name in names)

    is_named = bool(split or keys.get("annotations"))
    measured = entries(val or test) or entries(train, part="eval")
    return Recognised(
        root=root,
        format=data_format,
        splits=tuple(splits),
        train=entries(train) if val or test else entries(train, part="train"),
        val=measured,
        test=entries([split]) if split else entries(test) or measured,
        unread="" if is_named else unread_split(root, splits),
        unmeasured="" if is_named else find_unread_to_measure_on(root, splits),
    )


def unread_split(root: Path, splits: Sequence[Split]) -> str:
    """What to say of a split for training of which nothing is among ``splits``; empty: none."""
    said = find_unread(root, splits)
    return f"{said} {why_lists(root)}".rstrip() if said else ""


def _check_keys(data_format: str, keys: Mapping[str, Any]) -> None:
    """Refuse keys of other formats: where files lie, and how they are meant."""
    known = DATASETS[data_format]
    for key in (*PLACE_KEYS, *VIA_KEYS, *MEANING_KEYS):
        if keys.get(key, "") != "" and key not in known.config_type.model_fields:
            raise ConfigError(f"data.{key}: does not go with {known.title}. Leave it out.")


# --------------------------------------------------------------------------- what lies there


def find_splits(
    root: Path, data_format: str = "", annotations: str = "", names_file: str = ""
) -> tuple[str, list[Split]]:
    """Find out which format a folder has, and its splits, those to train on first.

    Args:
        root: the folder, or a CSV table, ``data.yaml`` or ``obj.data`` itself.
        data_format: the only one to look for; empty: the one that is there.
        annotations: where they lie, below root: a folder of VOC's XML files, or COCO's JSON;
            empty: to be found. Only without ``data_format``.
        names_file: of YOLO text, the file of names and splits, below root; empty: to be found.

    Returns:
        The format, and its splits; none of a format that is named and not found.

    Raises:
        DataError: no such folder; without a name, no format is recognised, or several.
    """
    finders = {n: f for n, f in found_formats().items() if data_format in ("", n)}
    if names_file and "yolo" in finders:
        finders["yolo"] = finder(lambda folder: yolo_counts(folder, names_file))
    if finders and not root.exists():
        raise DataError(f"{root}: no such folder. Point to your data with data.root=PATH.")
    if annotations:
        return _find_named(root, annotations)
    found = {name: [*splits] for name, find in finders.items() if (splits := find(root))}
    for splits in found.values():
        splits.sort(key=lambda split: (ORDER.index(split.purpose), split.name))
    if data_format:
        return data_format, found.get(data_format, [])
    if not found:
        raise DataError(why_lists(root) or nothing_found(root, purpose_of))
    if len(found) > 1:
        shown = " and ".join(
            f"{DATASETS[name].title} (splits {', '.join(s.name or 'all' for s in splits)})"
            for name, splits in found.items()
        )
        choices = " or ".join(f"data.format={name}" for name in found)
        raise DataError(f"{root}: holds {shown}. Say which with {choices}, and name data.split.")
    return next(iter(found.items()))


def _find_named(root: Path, annotations: str) -> tuple[str, list[Split]]:
    """The format and the one split of annotations whose place is named."""
    annotations = below_root(root, annotations)
    if not leaves_folder(annotations) and (root / annotations).is_file():
        if count := count_images(root / annotations):
            return "via", [Split("", count, "")]
        if annotations.lower().endswith(ENDINGS):
            return "csv", splits_of_table("", root / annotations, purpose_of)
    if not annotations.lower().endswith(".json"):
        splits = [split for split in find_voc(root, annotations) if split.images]
        if not splits:
            raise DataError(
                f"data.annotations: {root / annotations} holds no XML files; "
                f"{contents(root / annotations)}."
            )
        return "voc", splits
    if leaves_folder(annotations):
        raise ConfigError(
            f"data.annotations: {annotations!r} leaves {root}. {COUNTED} Write one below it."
        )
    if not (root / annotations).is_file():
        raise DataError(
            f"data.annotations: {root / annotations} is no file; {contents(root)}. {COUNTED}"
        )
    count = count_coco_images(root / annotations)
    if not count:
        load_blocks(root / annotations)  # which says what it is instead
        raise DataError(f"data.annotations: {root / annotations} is no COCO file with images.")
    return "coco", [Split("", count, "")]
