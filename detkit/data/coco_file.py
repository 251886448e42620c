"""The JSON of a COCO dataset as its three lists, nothing in them looked at yet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from detkit.data.coco_values import wrong_value
from detkit.data.listing import read_text
from detkit.errors import DataError


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
