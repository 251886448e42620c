"""The keys of a data entry on the command line, ``data.root=`` and its like, and what they replace.

In training ``split`` and ``part`` go to what is trained on alone, all other keys to every entry; in
evaluation only the ``eval`` entries change.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from detkit.config import Origins, parse_override
from detkit.data.formats.base import FOLDER_KEYS, MEANING_KEYS, PLACE_KEYS, VIA_KEYS

# keys of an entry whose values are names
RECOGNISED = "recognised "  # how the origin of entries begins that were format: auto
NAMES = ("format", "root", "split", "part", *PLACE_KEYS, *VIA_KEYS)
ONE_SPLIT = (".json", ".csv", ".tsv")  # annotations in one file, of one split as split is
OF_ONE_USE = ("split", "part")  # of them those that only the entries of the command itself get
PARTING = ("part", "hold_out", "split_seed")


def split_overrides(overrides: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Part what belongs to every entry, ``data.format=`` and its like, from other overrides.

    Names are taken as they are typed, whatever YAML makes of a split called ``2007`` or ``no``.
    """
    entry_overrides: dict[str, Any] = {}
    rest = []
    for text in overrides:
        key, _, value = text.partition("=")
        name = key.removeprefix("data.")
        if name == key or name not in (*NAMES, *FOLDER_KEYS, *MEANING_KEYS) or not value:
            rest.append(text)
        else:
            entry_overrides[name] = value if name in NAMES else parse_override(text)[1]
    return entry_overrides, rest


def replace_entries(
    data: dict[str, Any], overrides: Mapping[str, Any], use: Literal["train", "eval"]
) -> dict[str, list[dict[str, Any]]]:
    """Return the ``train`` and ``eval`` entries of a data block with ``overrides`` in place."""
    replaced = {}
    for name in ("train", "eval"):
        entries = data.get(name) or [{}]
        entries = [entries] if isinstance(entries, dict) else list(entries)
        here = dict(overrides) if name == use else {}
        if use == "train" and name == "eval":
            here = {key: value for key, value in overrides.items() if key not in OF_ONE_USE}
            if here.get("annotations", "").lower().endswith(ONE_SPLIT):
                del here["annotations"]
        if use == "eval" and name == "eval":
            entries = [_whole(entry, here) for entry in entries]
        # one that is not there is made of keys that say all; without it auto measures what fits
        whole = len(here) > 1 if name == use else "format" in here
        replaced[name] = [_replaced(entry, here) for entry in entries if entry or whole]
    return replaced


def is_parted_no_more(entry: Mapping[str, Any], here: Mapping[str, Any]) -> bool:
    """Whether overrides of an evaluation point an entry that holds a part at all of something.

    A split that is named is measured whole, and so is another folder. A folder that lies elsewhere
    now, under its name, is the same one.
    """
    if entry.get("part", "all") == "all" or "part" in here:
        return False
    if "split" in here:
        return True
    before, now = str(entry.get("root") or ""), str(here.get("root") or "")
    return bool(before and now) and not _is_same(Path(before), Path(now))


def _is_same(before: Path, now: Path) -> bool:
    """Whether a folder is the one of before, or the same moved: of its name, where that is gone."""
    if not os.path.exists(before):
        return os.path.abspath(before) == os.path.abspath(now) or before.name == now.resolve().name
    return os.path.exists(now) and os.path.samefile(before, now)


def _whole(entry: dict[str, Any], here: Mapping[str, Any]) -> dict[str, Any]:
    if not is_parted_no_more(entry, here):
        return entry
    return {key: value for key, value in entry.items() if key not in PARTING}


def _replaced(entry: dict[str, Any], here: Mapping[str, Any]) -> dict[str, Any]:
    if here.get("format") == "auto":  # another folder has other splits
        entry = {key: value for key, value in entry.items() if key in ("root", "only")}
    if here.get("format", entry.get("format")) != entry.get("format"):  # its own keys go with it
        entry = {key: value for key, value in entry.items() if key in ("root", "split", "only")}
    return {**entry, **here}


def recognised(origins: Origins) -> list[str]:
    """What ``format: auto`` found, a line each folder."""
    said = dict.fromkeys(origins.get(f"data.{name}", "") for name in ("train", "eval"))
    return [origin for origin in said if origin.startswith(RECOGNISED)]
