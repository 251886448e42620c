"""The first bytes of the authors' weight files, and what is no such file.

Source: darknet, ``parser.c: load_weights_upto, save_weights_upto``.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from detkit.errors import ConfigError
from detkit.files import LOOK, is_html, is_text

TRANSPOSED_ABOVE = 1000  # a version number above it says that connected weights lie transposed
LARGEST_VERSION = 65_535  # of any part; above it these four bytes are something else
WIDE_SEEN = 2  # from version 0.2 on, as 10 * major + minor, ``seen`` has eight bytes
SHORT, LONG = 16, 20  # bytes of a header
FLOAT_BYTES = 4  # of each number that follows
LINE_SHOWN = 60  # characters of a text in place of a weight file

OTHER_KINDS = (
    (b"PK\x03\x04", "a zip, as PyTorch saves its weights"),
    (b"\x80\x02\x8a\nl\xfc\x9cF", "a pickle, as old versions of PyTorch save their weights"),
    (b"\x89HDF", "an HDF5 file, as Keras saves its weights"),
    (b"\x1f\x8b\x08", "a gzip file; unpack it first"),
    (
        b"version https://git-lfs",
        "a pointer of git-lfs; fetch what it points to with `git lfs pull`",
    ),
)


@dataclass(frozen=True, slots=True)
class Header:
    """What stands before the numbers. The defaults are what the authors' program writes today."""

    major: int = 0
    minor: int = 2
    revision: int = 0
    seen: int = 0  # images trained on

    def __post_init__(self) -> None:
        try:
            self.to_bytes()
        except struct.error as problem:
            raise ConfigError(
                f"header of a weight file: version {self.version} with seen {self.seen} does not "
                f"fit its {self.size} bytes. Use numbers of 4 bytes (seen: {self.size - 12})."
            ) from problem

    @property
    def version(self) -> str:
        """As people write it, ``0.2.0``."""
        return f"{self.major}.{self.minor}.{self.revision}"

    @property
    def transposed(self) -> bool:
        """Whether connected weights lie as [in, out]."""
        return self.major > TRANSPOSED_ABOVE or self.minor > TRANSPOSED_ABOVE

    @property
    def size(self) -> int:
        """Bytes: 20 from version 0.2 on, 16 before it and in the old transposed files."""
        small = self.major < TRANSPOSED_ABOVE and self.minor < TRANSPOSED_ABOVE
        return LONG if small and 10 * self.major + self.minor >= WIDE_SEEN else SHORT

    def to_bytes(self) -> bytes:
        """As it stands in a file."""
        form = "<iiiq" if self.size == LONG else "<iiii"
        return struct.pack(form, self.major, self.minor, self.revision, self.seen)


def read_header(path: str | Path, floats: int | None = None) -> Header:
    """Read the header of a weight file alone.

    Args:
        path: of the file.
        floats: how many numbers should follow, for the messages; None where nobody knows.

    Raises:
        ConfigError: no such file, or one that is no weight file of darknet.
    """
    with opened(Path(path)) as file:
        return parse_header(file, Path(path), floats)


def parse_header(file: BinaryIO, path: Path, floats: int | None = None) -> Header:
    """Read the header, and leave ``file`` at the first number after it.

    Args:
        file: opened for reading, at its start.
        path: what to call it.
        floats: how many numbers the network at hand wants, for the messages.

    Raises:
        ConfigError: the file is no weight file of darknet; with the bytes found and expected.
    """
    start = file.read(LOOK)
    found = os.fstat(file.fileno()).st_size
    if is_html(start):
        raise ConfigError(
            f"{path}: this is a web page of {found:,} bytes, not weights. "
            f"Download the file again.{_expected(floats)}"
        )
    for magic, kind in OTHER_KINDS:
        if start.startswith(magic):
            raise ConfigError(
                f"{path}: {found:,} bytes, but no weight file of darknet: this is {kind}."
                f"{_expected(floats)}"
            )
    if is_text(start):
        shown = " ".join(start.decode(errors="replace").split())[:LINE_SHOWN]
        raise ConfigError(
            f"{path}: {found:,} bytes, but no weight file of darknet: this is text, which begins "
            f"with {shown!r}. Download the file again.{_expected(floats)}"
        )
    if len(start) < SHORT:
        raise ConfigError(
            f"{path}: {found} bytes are fewer than the header of a weight file of darknet has "
            f"({SHORT} or {LONG}). Download it again.{_expected(floats)}"
        )
    major, minor, revision, seen = struct.unpack("<iiii", start[:SHORT])
    if not all(0 <= part <= LARGEST_VERSION for part in (major, minor, revision)):
        raise ConfigError(
            f"{path}: {found:,} bytes, but no weight file of darknet: its version would be "
            f"{major}.{minor}.{revision}. Download it again; if another program wrote it, make "
            f"that one write little-endian numbers.{_expected(floats)}"
        )
    header = Header(major, minor, revision, seen)
    if header.size == LONG:
        if found < LONG:
            raise ConfigError(
                f"{path}: {found} bytes end inside the header, which has {LONG} in version "
                f"{header.version}. Download it again.{_expected(floats)}"
            )
        header = Header(major, minor, revision, struct.unpack("<q", start[LONG - 8 : LONG])[0])
    file.seek(header.size)
    return header


def _expected(floats: int | None) -> str:
    if floats is None:
        return ""
    return (
        f" The weights of this network have {LONG + FLOAT_BYTES * floats:,} bytes, or "
        f"{SHORT + FLOAT_BYTES * floats:,} with the older header."
    )


def opened(path: Path) -> BinaryIO:
    """Open a weight file for reading.

    Raises:
        ConfigError: there is none, or it may not be read.
    """
    if path.is_dir():
        raise ConfigError(f"{path}: is a folder. Name a .weights file of darknet.")
    if not path.exists():
        raise ConfigError(f"{path}: no such file. Name a .weights file of darknet.")
    if not path.is_file():  # a device or a pipe has no length
        raise ConfigError(f"{path}: is not an ordinary file. Name a .weights file of darknet.")
    try:
        return path.open("rb")
    except OSError as problem:
        raise ConfigError(
            f"{path}: cannot be read ({problem.strerror}). Check that you may read it."
        ) from problem
