"""``detkit zoo list``: every entry in two or more short lines, or all that is known as JSON."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from detkit.remote import RemoteFile
    from detkit.weights.zoo_entry import Measured, ZooEntry

SIZE_ONLY = "size"  # of the column "checked by"
NONE = "not measured"
WIDEST = 28  # characters of the last column; the table then has at most 120
HEAD = (
    ("name", "  detector, trained on, licence"),
    ("size",),
    ("fetched", "checked by"),
    ("published", "on"),
    ("measured here", "on"),
)


def show(*, as_json: bool) -> None:
    """Print every entry: a table, or all that is known as JSON."""
    from detkit.weights.zoo import DEFAULT_MODEL, ZOO

    entries = tuple(ZOO.values())
    if as_json:
        print(json.dumps([described(entry) for entry in entries], indent=2))
        return
    for line in table([HEAD, *(_cells(entry) for entry in entries)]):
        print(line)
    print(f"\nfetched files are in {entries[0].path.parent}; DETKIT_CACHE names another place")
    print(f"checked by {SIZE_ONLY}: nobody has published a hash of the file")
    print("figures are percent; measured here: by this project, and below it by you, with")
    print("detkit zoo check --measure NAME FOLDER; figures on other data do not compare")
    print(f"where no model is named, detkit.detect and detkit detect take {DEFAULT_MODEL}")
    for entry in entries:
        if entry.note:
            print(f"{entry.name}: {entry.note}")


def table(rows: Sequence[Sequence[Sequence[str]]]) -> list[str]:
    """Lines of a table whose cells have several lines each."""
    widths = [
        max(len(line) for cell in column for line in cell) for column in zip(*rows, strict=True)
    ]
    lines = []
    for row in rows:
        for turn in range(max(map(len, row))):
            cells = (cell[turn] if turn < len(cell) else "" for cell in row)
            lines.append("  ".join(map(str.ljust, cells, widths)).rstrip())
    return lines


def _cells(entry: ZooEntry) -> tuple[Sequence[str], ...]:
    from detkit.files import in_words
    from detkit.weights.zoo_entry import in_percent

    size, published = entry.file.size, entry.published
    of = [f"of {published.of_another}"] if published.of_another else []
    return (
        [entry.name, f"  {entry.model['name']}, {entry.data}, {entry.licence}"],
        ["" if size is None else in_words(size)],
        [_state(entry), _checked_by(entry.file)],
        [in_percent(published.percent), published.where, *of],
        _measured_lines(entry),
    )


def _measured_lines(entry: ZooEntry) -> list[str]:
    """By the project, then by who uses this machine; figures and data alone."""
    from detkit.weights.zoo_measured import measured_here

    lines = [] if entry.measured is None else _figure(entry.measured)
    for one in measured_here(entry):
        lines += _figure(one)
    return lines or [NONE]


def _figure(one: Measured) -> list[str]:
    from detkit.weights.zoo_entry import in_percent

    on = one.data if not one.when else f"{one.data}, {one.images:,} images, {one.when}"
    return [in_percent(one.percent), *textwrap.wrap(on, WIDEST)]


def _state(entry: ZooEntry) -> str:
    from detkit.download import partial_path

    if entry.path.exists():
        return "yes" if entry.lies_in_cache else "another file"
    return "in part" if partial_path(entry.path).exists() else "no"


def _checked_by(file: RemoteFile) -> str:
    hashes = [
        SIZE_ONLY if form.hash is None else form.hash.partition(":")[0] for form in file.forms
    ]
    return " or ".join(dict.fromkeys(hashes))


def described(entry: ZooEntry) -> dict[str, object]:
    """Everything about an entry, as plain values."""
    from detkit.weights.zoo_measured import measured_here

    file, published = entry.file, entry.published
    return {
        "name": entry.name,
        "format": entry.format,
        "model": dict(entry.model),
        "class_names": list(entry.class_names),
        "data": entry.data,
        "published": {
            "percent": dict(published.percent),
            "on": published.on.name,
            "input_size": published.input_size,
            "source": published.source,
            "of_another": published.of_another,
            "remark": published.remark,
        },
        "measured": None if entry.measured is None else asdict(entry.measured),
        "measured_here": [asdict(one) for one in measured_here(entry)],
        "paper": entry.paper,
        "licence": entry.licence,
        "note": entry.note,
        "file": file.name,
        "forms": [{"bytes": form.size, "hash": form.hash} for form in file.forms],
        "addresses": list(file.addresses),
        "path": str(entry.path),
        "fetched": _state(entry),
    }
