"""JSON lists in files, written entry by entry: closed at the end, or whole at any time."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any

from detkit.system_errors import naming


class JsonList:
    """A JSON list of any length, one entry a line."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file
        self._between = "\n"
        file.write("[")

    def add(self, entry: Mapping[str, Any]) -> None:
        """Append one entry."""
        self._file.write(self._between + json.dumps(entry, allow_nan=False))
        self._between = ",\n"

    def end(self) -> None:
        """Close the list."""
        self._file.write("]" if self._between == "\n" else "\n]")


class GrowingJsonList:
    """A file with a JSON list, one entry a line, that is whole whenever somebody looks.

    An earlier file of the name stays until the first entries come.
    """

    END = b"\n]\n"

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: io.FileIO | None = None
        self._end = 1  # bytes before what closes the list

    def add(self, entries: Iterable[Mapping[str, Any]]) -> None:
        """Append entries, all or, where the disk does not take them, none.

        Raises:
            OSError: the file cannot be written.
        """
        with naming(self._path):
            if self._file is None:
                make_way(self._path)
                self._file = io.FileIO(self._path, "w")
                _write_at(self._file, 0, b"[]\n")
            lines = [json.dumps(entry, allow_nan=False) for entry in entries]
            if not lines:
                return
            text = ("\n" if self._end == 1 else ",\n") + ",\n".join(lines)
            data = text.encode()
            try:
                _write_at(self._file, self._end, data + self.END)
            except OSError:
                self._file.truncate(self._end)
                _write_at(self._file, self._end, b"]\n" if self._end == 1 else self.END)
                raise
            self._end += len(data)

    def __enter__(self) -> GrowingJsonList:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Close the file; a list that stayed empty is written where all went well."""
        if kind is None:
            self.add(())
        if self._file is not None:
            self._file.close()


def make_way(path: Path) -> None:
    """Make the folder of a file that is to be written, and remove an earlier one of its name.

    Not emptied, since other names may stand for it, too.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)


def _write_at(file: io.FileIO, place: int, data: bytes) -> None:
    """Write all of ``data``, in one call where the disk takes it."""
    file.seek(place)
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]
