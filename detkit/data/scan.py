"""One look at every image of a dataset: sizes, orientations, and what is wrong; remembered.

The answers are kept in the user's cache folder under (path, file size, modification time), so
that a second run does not open a hundred thousand files again. Nothing is ever written beside the
images. A cache that cannot be read or written costs time, never a run.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeAlias, TypeVar

from detkit.data.thumbnails import thumbnail
from detkit.errors import DataError
from detkit.files import cache_folder, sha256_of
from detkit.image import ImageHeader, check_image

logger = logging.getLogger(__name__)

THREADS = 8  # image headers wait for the disk more than for a core
RULES = 2  # raised when check_image judges otherwise, so that old answers are not taken
WAIT_SECONDS = 10.0  # for another process that writes the cache
_TABLES = """
CREATE TABLE IF NOT EXISTS images (path TEXT PRIMARY KEY, stamp TEXT NOT NULL,
    height INTEGER, width INTEGER, orientation INTEGER, truncated INTEGER);
CREATE TABLE IF NOT EXISTS hashes (path TEXT PRIMARY KEY, stamp TEXT NOT NULL, digest TEXT);
CREATE TABLE IF NOT EXISTS thumbnails (path TEXT PRIMARY KEY, stamp TEXT NOT NULL, small BLOB);
"""

Look: TypeAlias = ImageHeader | str  # str: why the image cannot be used
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class _Question(Generic[Answer]):
    """What is asked of a file, and the columns in which a sound answer is remembered."""

    table: str
    columns: tuple[str, ...]
    ask: Callable[[Path], Answer]
    as_row: Callable[[Answer], tuple[object, ...] | None]  # None: not to be remembered
    from_row: Callable[[tuple[Any, ...]], Answer]


def scan_images(paths: Sequence[Path]) -> list[Look]:
    """Look at each image: its header, or the reason why it cannot be used.

    Reasons are not remembered: a disk may come back, a permission may change.
    """
    return _remembered(paths, _HEADER)


def hash_files(paths: Sequence[Path]) -> list[str]:
    """SHA-256 of the contents of each file in hexadecimal; empty where it cannot be read."""
    return _remembered(paths, _HASH)


def thumbnails(paths: Sequence[Path]) -> list[bytes]:
    """What each image shows, as :func:`~detkit.data.thumbnails.thumbnail` has it.

    Empty where it cannot be decoded.
    """
    return _remembered(paths, _SMALL)


def same_content(paths: Sequence[Path]) -> list[tuple[int, ...]]:
    """Which of the files are copies of one another, by SHA-256: each group as places in ``paths``.

    Only files of a size that another file has are read; those that cannot be are in no group.
    """
    of_size: dict[int, list[int]] = defaultdict(list)
    for index, path in enumerate(paths):
        with suppress(OSError):  # gone since it was listed
            of_size[os.stat(path).st_size].append(index)
    alike = [index for group in of_size.values() if len(group) > 1 for index in group]
    same: dict[str, list[int]] = defaultdict(list)
    for index, digest in zip(alike, hash_files([paths[i] for i in alike]), strict=True):
        if digest:
            same[digest].append(index)
    return [tuple(group) for group in same.values() if len(group) > 1]


def _look(path: Path) -> Look:
    try:
        return check_image(path)
    except DataError as problem:
        return str(problem).removeprefix(f"{path}: ")


def _digest(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError:
        return ""


_HEADER: _Question[Look] = _Question(
    "images",
    ("height", "width", "orientation", "truncated"),
    _look,
    lambda look: None if isinstance(look, str) else tuple(look),
    lambda row: ImageHeader(row[0], row[1], row[2], bool(row[3])),
)
_HASH: _Question[str] = _Question(
    "hashes", ("digest",), _digest, lambda digest: (digest,) if digest else None, lambda row: row[0]
)
_SMALL: _Question[bytes] = _Question(
    "thumbnails", ("small",), thumbnail, lambda s: (s,) if s else None, lambda row: row[0]
)


def _remembered(paths: Sequence[Path], question: _Question[Answer]) -> list[Answer]:
    """The answer for each path, asked for only where the cache does not know it."""
    names = [os.path.abspath(path) for path in paths]
    with ThreadPoolExecutor(THREADS) as pool:
        stamps = list(pool.map(_stamp, names))
        known = _read(question, dict(zip(names, stamps, strict=True)))
        missing = [index for index, name in enumerate(names) if name not in known]
        found = dict(zip(missing, pool.map(lambda i: question.ask(paths[i]), missing), strict=True))
    rows = []
    for index, answer in found.items():
        row = question.as_row(answer)
        if row is not None:
            rows.append((names[index], stamps[index], *row))
    _write(question.table, rows)
    return [found[i] if i in found else known[name] for i, name in enumerate(names)]


def _stamp(name: str) -> str:
    """File size and modification time; empty where there is no such file."""
    try:
        status = os.stat(name)
    except (OSError, ValueError):  # ValueError: a zero byte in the name
        return ""
    return f"{status.st_size} {status.st_mtime_ns}"


@contextmanager
def _open() -> Iterator[sqlite3.Connection]:
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(folder / f"scan-{RULES}.sqlite", timeout=WAIT_SECONDS)
    with closing(connection), connection:
        connection.executescript(_TABLES)
        yield connection


def _read(question: _Question[Answer], stamps: Mapping[str, str]) -> dict[str, Answer]:
    """Answers of the files that are as they were when they were asked."""
    columns = ", ".join(f"kept.{column}" for column in question.columns)
    try:
        with _open() as cache:
            cache.execute("CREATE TEMP TABLE asked (path TEXT, stamp TEXT)")
            cache.executemany("INSERT INTO asked VALUES (?, ?)", stamps.items())
            rows = cache.execute(
                f"SELECT kept.path, {columns} FROM asked JOIN {question.table} AS kept "
                "ON kept.path = asked.path AND kept.stamp = asked.stamp"
            )
            return {row[0]: question.from_row(row[1:]) for row in rows}
    except (OSError, sqlite3.Error) as problem:
        logger.debug("the cache of scans is not used: %s", problem)
        return {}


def _write(table: str, rows: Sequence[tuple[object, ...]]) -> None:
    if not rows:
        return
    marks = ", ".join("?" * len(rows[0]))
    try:
        with _open() as cache:
            cache.executemany(f"INSERT OR REPLACE INTO {table} VALUES ({marks})", rows)
    except (OSError, sqlite3.Error, UnicodeEncodeError) as problem:
        logger.debug("the cache of scans is not used: %s", problem)
