"""The lines of a table: its cells, whichever sign parts them.

Commas are tried first, then semicolons (spreadsheets of countries whose decimal sign is the comma
write these), tabs and bars: the first that makes a known header or an object of the first line.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from detkit.data.listing import read_text
from detkit.errors import DataError

DELIMITERS = (",", ";", "\t", "|")
ENDINGS = (".csv", ".tsv")
HEAD_BYTES = 1 << 16  # in which the first line of a table stands
_EXCEL = re.compile(r"\s*\"?sep=(.)\"?\s*")  # a first line that only spreadsheets read


def read_rows(
    path: Path, knows: Callable[[list[str]], bool]
) -> tuple[str, Iterator[tuple[int, list[str]]]]:
    """The sign between the cells of a table; number and cells of each line that is not blank.

    Args:
        path: the table.
        knows: whether the cells of a first line make sense.

    Raises:
        DataError: no text file in UTF-8; while lines are read, one that is no CSV.
    """
    text = read_text(path)
    delimiter = _delimiter(text[:HEAD_BYTES], knows)
    return delimiter, _rows(path, text, delimiter)


def first_row(path: Path, knows: Callable[[list[str]], bool]) -> list[str]:
    """The cells of the first line, of which no more than a part of the file is read.

    Returns:
        Empty for a file that is no text or no CSV.
    """
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES).decode("utf-8-sig", errors="replace")
    except OSError:
        return []
    if "\0" in head:
        return []
    try:
        return next(_rows(path, head, _delimiter(head, knows)), (0, []))[1]
    except DataError:
        return []


def _delimiter(head: str, knows: Callable[[list[str]], bool]) -> str:
    lines = [line for line in head.splitlines() if line.strip()][:2]
    named = _EXCEL.fullmatch(lines[0]) if lines else None
    if named is not None:
        return named[1]
    for delimiter in DELIMITERS:
        try:
            row = next(_cells(lines[0] if lines else "", delimiter), [])
        except csv.Error:
            continue
        if knows(row):
            return delimiter
    return ","


def _cells(text: str, delimiter: str) -> Iterator[list[str]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    return ([cell.strip() for cell in cells] for cells in reader)


def _rows(path: Path, text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    first = True
    try:
        for raw in reader:
            cells = [cell.strip() for cell in raw]
            if any(cells) and not (first and _EXCEL.fullmatch(delimiter.join(raw))):
                yield reader.line_num, cells
            first = False
    except csv.Error as problem:
        raise DataError(
            f"{path}: line {reader.line_num}: not readable as CSV ({problem}). Repair the line."
        ) from None
