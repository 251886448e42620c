"""The JSON of a COCO dataset as its three lists, nothing in them looked at yet."""

from __future__ import annotations

import json
from collections.abc import Set
from pathlib import Path
from typing import Any

from detkit.data.coco_values import wrong_value
from detkit.data.listing import read_text
from detkit.errors import DataError

# COCO's JSON files of other kinds, by a key that their annotations alone have.
OTHER_KINDS = {
    "segments_info": (
        "is of panoptic segmentation: its objects lie in PNG files. Convert it with panopticapi's "
        "panoptic2detection_coco_format.py, or name the file of instances."
    ),
    "caption": "holds captions, which have no boxes. Name the file of instances.",
}
STUFF = {"food-stuff", "furniture-stuff"}  # supercategories of COCO-Stuff alone


def load_blocks(path: Path) -> dict[str, list[Any]]:
    """Return the lists ``images``, ``annotations`` and ``categories``, of blocks of keys each.

    Raises:
        DataError: no JSON, or no COCO file of instances.
    """
    text = read_text(path)
    try:
        content = json.loads(text)
    except RecursionError:
        raise DataError(f"{path}: is nested too deep for a COCO file. Repair it.") from None
    except ValueError as problem:  # not JSON; a number of thousands of digits
        raise DataError(f"{path}: not readable as JSON ({problem}). Repair the file.") from None
    _refuse_other_kinds(path, content)
    blocks = {}
    for name in ("images", "annotations", "categories"):
        block = content.get(name) if isinstance(content, dict) else None
        if not isinstance(block, list):
            raise DataError(f"{path}: has no list {name!r}. Is this a COCO file of instances?")
        for index, entry in enumerate(block):
            if not isinstance(entry, dict):
                raise wrong_value(path, f"{name}[{index}]", "a block of keys", entry)
        blocks[name] = block
    return blocks


def _refuse_other_kinds(path: Path, content: Any) -> None:
    """Call COCO's other files, and its results files, what they are."""
    if _keys_of_first(content) >= {"image_id", "score"}:
        raise DataError(
            f"{path}: is a list of detections, not of annotations. Measure them with detkit eval "
            "--detections FILE."
        )
    if not isinstance(content, dict):
        return
    keys = _keys_of_first(content.get("annotations"))
    for key, sentence in OTHER_KINDS.items():
        if key in keys:
            raise DataError(f"{path}: {sentence}")
    categories = content.get("categories")
    parents = [
        entry.get("supercategory")
        for entry in (categories if isinstance(categories, list) else ())
        if isinstance(entry, dict)
    ]
    if any(parent in STUFF for parent in parents if isinstance(parent, str)):
        raise DataError(
            f"{path}: holds COCO's stuff: its boxes go around regions such as sky, not around "
            "objects. Name the file of instances."
        )


def _keys_of_first(block: Any) -> Set[str]:
    """The keys of a list's first entry; none of what is no such list."""
    return (
        block[0].keys()
        if isinstance(block, list) and block and isinstance(block[0], dict)
        else set()
    )
