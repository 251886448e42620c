"""What was measured of the zoo's files on this machine, kept beside them in the cache folder.

A file for each entry, ``yolov3-tiny.weights.measured.json``, the newest figure first. A figure
counts only while the entry is what it was measured of: a file of that length and hash, read with
that model block. What is broken or of another time is as good as none.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from detkit.files import whole_file
from detkit.weights.zoo_entry import METRICS, Measured, ZooEntry

SUFFIX = ".measured.json"
KEEP = 20  # figures an entry, one for each data


@dataclass(frozen=True, slots=True)
class Record:
    """One measurement, and what it was of."""

    file_size: int
    file_hash: str | None  # as the entry states it; None: nobody has published one
    model: str  # the entry's model block
    measured: Measured


def record_of(entry: ZooEntry, file_size: int, measured: Measured) -> Record:
    """A measurement of an entry's file, which has so many bytes."""
    return Record(file_size, entry.file.hash_of(file_size), _model_text(entry), measured)


def _model_text(entry: ZooEntry) -> str:
    return json.dumps(_plain(entry.model), sort_keys=True)


def _plain(value: Any) -> Any:
    """Mappings and tuples as JSON has them."""
    if hasattr(value, "items"):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def place_of(entry: ZooEntry) -> Path:
    """The file that measurements of an entry are kept in."""
    return entry.path.with_name(entry.path.name + SUFFIX)


def measured_here(entry: ZooEntry) -> tuple[Measured, ...]:
    """What was measured on this machine of the file that the entry states, newest first."""
    return tuple(record.measured for record in _read(entry))


def _read(entry: ZooEntry) -> list[Record]:
    try:
        found = TypeAdapter(list[Record]).validate_json(place_of(entry).read_bytes())
    except (OSError, ValueError):  # none, or no such file; ValueError is pydantic's, too
        return []
    return [record for record in found if _is_of(record, entry)]


def _is_of(record: Record, entry: ZooEntry) -> bool:
    sizes, figures = entry.file.sizes, record.measured.percent
    return (
        record.file_size in sizes
        and set(figures) <= set(METRICS)
        and record.file_hash == entry.file.hash_of(record.file_size)
        and record.model == _model_text(entry)
    )


def keep_measured(entry: ZooEntry, record: Record) -> None:
    """Put a measurement before those that are kept; an older one of the same data goes.

    Raises:
        OSError: the cache folder cannot be written.
    """
    kept: Sequence[Record] = [
        other for other in _read(entry) if other.measured.data != record.measured.data
    ]
    text = TypeAdapter(list[Record]).dump_json([record, *kept][:KEEP], indent=1)
    with whole_file(place_of(entry)) as place:
        place.write_bytes(text + b"\n")
