"""Unpack a tar or zip from elsewhere, trusting nothing it says about itself.

Only plain files and folders are written, only below the folder, and no more of them or of bytes
than stated beforehand. Refused, naming the member: absolute names, ``..``, drive letters and
backslashes, links of either kind, devices and pipes, encrypted members, a file of two names that
are one, and whatever goes over the limits, counted as it is written and not as it is declared.
"""

from __future__ import annotations

import errno
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from detkit.errors import DataError, DetkitError, shown
from detkit.files import in_words
from detkit.remote import SILENT, Watch

CHUNK = 1 << 20  # bytes
LINKS = "is a link, which could lead out of the folder"
SPECIAL = "is neither a file nor a folder"
OUTSIDE = "leads out of the folder"


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that an archive may unpack to."""

    members: int  # files and folders
    size: int  # bytes of all files


@dataclass(frozen=True, slots=True)
class _Member:
    name: str
    is_folder: bool
    trouble: str  # why it is refused; empty if it is not
    content: IO[bytes] | None


def unpack(archive: Path, folder: Path, limits: Limits, watch: Watch = SILENT) -> None:
    """Unpack ``archive`` below ``folder``, which a failure leaves incomplete.

    Raises:
        DataError: neither tar nor zip, damaged, or a member is refused.
        DetkitError: the disk is full or cannot be written.
    """
    members = 0
    written = 0
    watch.begin(f"unpacking {archive.name}", 0, None)
    for member in _members(archive):
        members += 1
        if members > limits.members:
            raise DataError(f"{archive}: holds more than {limits.members:,} files. {_DISTRUST}")
        trouble = member.trouble or _trouble_with(member.name)
        if trouble:
            raise DataError(f"{archive}: {shown(member.name)} {trouble}. {_DISTRUST}")
        place = folder.joinpath(*member.name.split("/"))
        with _writing(place):
            if member.is_folder:
                place.mkdir(parents=True, exist_ok=True)
                continue
            place.parent.mkdir(parents=True, exist_ok=True)
        assert member.content is not None
        for count in _copy(archive, member.content, place):
            written += count
            if written > limits.size:
                raise DataError(
                    f"{archive}: unpacks to more than {in_words(limits.size)}. {_DISTRUST}"
                )
            watch.move(written)
    watch.end()


_DISTRUST = "It is not what it should be; remove it and fetch it again."


def _members(archive: Path) -> Iterator[_Member]:
    """Members in the archive's order, each to be read before the next."""
    with _reading(archive):
        yield from (_zip_members if zipfile.is_zipfile(archive) else _tar_members)(archive)


@contextmanager
def _reading(archive: Path) -> Iterator[None]:
    """Whatever the archive's reader stumbles over ends in a sentence."""
    try:
        yield
    except (
        tarfile.TarError,
        zipfile.BadZipFile,
        zlib.error,
        lzma.LZMAError,
        EOFError,
        NotImplementedError,  # a compression of zip that Python does not know
        ValueError,  # a number in a header that is none, a name in no known encoding
        OSError,  # bzip2 says so of damaged data
    ) as problem:
        raise DataError(
            f"{archive}: cannot be unpacked ({str(problem) or type(problem).__name__}): it is "
            "damaged, or neither a plain tar nor a zip. Remove it and fetch it again."
        ) from problem


@contextmanager
def _writing(place: Path) -> Iterator[None]:
    """Say what is wrong with the disk, or with an archive that names one place twice."""
    try:
        yield
    except (FileExistsError, NotADirectoryError) as problem:
        raise DataError(
            f"{place}: stands in the archive twice, or as a file and as a folder. {_DISTRUST}"
        ) from problem
    except OSError as problem:
        full = problem.errno in (errno.ENOSPC, errno.EDQUOT)
        said = "the disk is full" if full else f"cannot be written ({problem.strerror})"
        raise DetkitError(f"{place}: {said}. Make room, and type the same command again.") from (
            problem
        )


def _tar_members(archive: Path) -> Iterator[_Member]:
    with tarfile.open(archive, "r:") as tar:  # uncompressed: a header cannot fill the memory
        for info in tar:
            trouble = LINKS if info.issym() or info.islnk() else ""
            if not trouble and not info.isreg() and not info.isdir():
                trouble = SPECIAL
            content = tar.extractfile(info) if info.isreg() else None
            yield _Member(info.name, info.isdir(), trouble, content)


def _zip_members(archive: Path) -> Iterator[_Member]:
    with zipfile.ZipFile(archive) as packed:
        for info in packed.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)  # 0 where the packer was no Unix
            trouble = LINKS if kind == stat.S_IFLNK else ""
            if not trouble and kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                trouble = SPECIAL
            if info.flag_bits & 1:
                trouble = trouble or "is encrypted"
            name = info.orig_filename  # as it stands there: the other is tidied up
            if trouble or name.endswith("/"):
                yield _Member(name.rstrip("/"), True, trouble, None)
                continue
            with packed.open(info) as content:
                yield _Member(name, False, "", content)


def _trouble_with(name: str) -> str:
    """Why a member's name is refused; empty if it is not."""
    parts = name.split("/")
    if "\\" in name or "\0" in name or ":" in name:  # a drive, on Windows
        return "has a name that is no plain path"
    if name.startswith("/") or ".." in parts:
        return OUTSIDE
    return "" if name else "has no name"


def _copy(archive: Path, content: IO[bytes], place: Path) -> Iterator[int]:
    """Write a file that must not be there yet, piece by piece; the size of each piece."""
    with _writing(place), place.open("xb") as file:
        while True:
            with _reading(archive):
                chunk = content.read(CHUNK)
            if not chunk:
                return
            file.write(chunk)
            yield len(chunk)
