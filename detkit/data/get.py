"""Get a known dataset: fetch its archives, unpack them, count what came, put it in place whole.

Every stage can break off and goes on where it was: a download at its last byte, unpacking at the
archive at hand. A dataset that is in place is recognised by its counts, and nothing is fetched.
The addresses are in ``known.py``.
"""

from __future__ import annotations

import fnmatch
import os
import shutil
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from detkit.data.known import Archive, DatasetRecord
from detkit.data.unpack import unpack
from detkit.download import (
    OFFLINE,
    by_hand,
    check_file,
    fetch,
    is_offline,
    known_as,
    only_one,
    partial_path,
)
from detkit.errors import DataError, DetkitError
from detkit.files import check_space, make_folder
from detkit.flushing import flush, flush_tree
from detkit.remote import SILENT, DownloadSettings, RemoteFile, Watch
from detkit.transfer import size_of

DOWNLOADS = "downloads"  # the folder, below where the dataset goes, that archives come to


def get_dataset(
    record: DatasetRecord,
    out: Path,
    given: Sequence[Path] = (),
    *,
    keep: bool = False,
    settings: DownloadSettings = DownloadSettings(),
    watch: Watch = SILENT,
) -> Path:
    """Fetch a dataset to ``out``, or find it there.

    Args:
        record: what to get.
        out: the folder for it; archives come to ``downloads`` in it.
        given: archives that were fetched by hand; verified alike, read in place, left alone.
        keep: leave fetched archives where they are; otherwise they are deleted at the end.
        settings: of each download.
        watch: is told how it goes.

    Returns:
        The dataset's folder, which appears whole and counted or not at all.

    Raises:
        DetkitError: it cannot be fetched, does not fit the disk, or something else is in its
            place.
        DataError: the archives hold something else.
    """
    make_folder(out)
    place = out / record.folder
    work = place.parent / f".{record.name}.unpacking"  # on the same disk as its place
    with only_one(out / f".{record.name}.lock", watch):
        if _is_in_place(place, record):
            watch.say(f"{place}: {record.name} is there already; nothing is fetched.")
            if work.exists():  # an earlier run ended before it had cleared up
                _clear_up(record, work, out, keep)
            return place
        make_folder(place.parent)
        hand = match_given(given, record)
        missing = [
            archive
            for archive in record.archives
            if archive.file.name not in hand
            and not _marker(work, archive).exists()
            and not _destination(out, archive).exists()
        ]
        if missing and is_offline():
            raise DetkitError(_offline(record, out, missing))
        _check_space(record, out, work, missing)
        for archive in record.archives:
            if not _marker(work, archive).exists():
                path = hand.get(archive.file.name) or fetch(
                    archive.file, _destination(out, archive), settings, watch
                )
                _unpack_one(archive, path, work, watch)
            _merge(_own_folder(work, archive), work / "whole")
        _put_in_place(
            record,
            work,
            place,
            [hand.get(each.file.name) or _destination(out, each) for each in record.archives],
        )
        _clear_up(record, work, out, keep)
    return place


def count_problems(folder: Path, record: DatasetRecord) -> list[str]:
    """What a dataset's folder has too little or too much of, one phrase each."""
    problems = []
    for expected in record.expected:
        found, what = _count(folder / expected.pattern)
        if found != expected.count:
            problems.append(f"{expected.pattern} has {found:,} {what}, expected {expected.count:,}")
    return problems


def match_given(given: Iterable[Path], record: DatasetRecord) -> dict[str, Path]:
    """Find out which archive each file is, whatever it is called, by size and hash.

    Returns:
        The paths by archive name.

    Raises:
        DetkitError: a file is missing, or is none of the archives.
    """
    found: dict[str, Path] = {}
    for path in given:
        if not path.is_file():
            raise DetkitError(f"{path}: no such file. --from takes archives fetched by hand.")
        for archive in record.archives:
            if _is_archive(path, archive.file):
                found[archive.file.name] = path
                break
        else:
            wanted = "; ".join(
                f"{archive.file.name} ({known_as(archive.file)})" for archive in record.archives
            )
            raise DetkitError(
                f"{path}: is none of {record.name}'s archives, by size and hash. Give {wanted}."
            )
    return found


def _is_archive(path: Path, file: RemoteFile) -> bool:
    if path.name == file.name:
        check_file(path, file)  # its own sentence where it is not: the name says what was meant
        return True
    if file.hash is None:
        return False
    try:
        check_file(path, file)
    except DetkitError:
        return False
    return True


def _count(pattern: Path) -> tuple[int, str]:
    if pattern.suffix == ".txt":
        with suppress(OSError):
            text = pattern.read_text(encoding="utf-8", errors="replace")
            return sum(bool(line.strip()) for line in text.splitlines()), "lines"
        return 0, "lines"
    with suppress(OSError), os.scandir(pattern.parent) as entries:
        return sum(fnmatch.fnmatchcase(entry.name, pattern.name) for entry in entries), "files"
    return 0, "files"


def _is_in_place(place: Path, record: DatasetRecord) -> bool:
    if not place.exists():
        return False
    if place.is_dir() and not any(place.iterdir()):
        place.rmdir()  # an empty folder holds nothing of anybody's
        return False
    problems = count_problems(place, record)
    if problems:
        raise DetkitError(
            f"{place}: is there, but is not all of {record.name}: {'; '.join(problems)}. It is "
            "left as it is; move it away, or name another folder with --out."
        )
    return True


def _offline(record: DatasetRecord, out: Path, missing: Iterable[Archive]) -> str:
    todo = " Also ".join(by_hand(each.file, _destination(out, each)) for each in missing)
    return (
        f"{record.name}: {OFFLINE} is set, so nothing is fetched. Unset it, or {todo} "
        "Or say --from FILE for each."
    )


def _check_space(record: DatasetRecord, out: Path, work: Path, missing: Iterable[Archive]) -> None:
    """Refuse at once what would fill the disk hours later."""
    to_fetch = sum(
        max(0, (each.file.size or 0) - size_of(partial_path(_destination(out, each))))
        for each in missing
    )
    to_unpack = sum(
        each.limits.size for each in record.archives if not _marker(work, each).exists()
    )
    if out.stat().st_dev == work.parent.stat().st_dev:
        check_space(out, to_fetch + to_unpack, record.name)
    else:
        check_space(out, to_fetch, record.name)
        check_space(work.parent, to_unpack, f"{record.name}, unpacked,")


def _destination(out: Path, archive: Archive) -> Path:
    return out / DOWNLOADS / archive.file.name


def _marker(work: Path, archive: Archive) -> Path:
    """There once the archive is unpacked."""
    return work / f"{archive.file.name}.unpacked"


def _own_folder(work: Path, archive: Archive) -> Path:
    return work / f"{archive.file.name}.members"


def _unpack_one(archive: Archive, path: Path, work: Path, watch: Watch) -> None:
    folder = _own_folder(work, archive)
    shutil.rmtree(folder, ignore_errors=True)  # half of an earlier run
    make_folder(folder)
    try:
        unpack(path, folder, archive.limits, watch)
    except DetkitError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    flush_tree(folder)  # before what says that all of it is there
    _marker(work, archive).touch()


def _merge(source: Path, target: Path) -> None:
    """Move everything in ``source`` into ``target``, joining folders; it may have begun before."""
    if not source.is_dir():
        return
    target.mkdir(exist_ok=True)
    for entry in list(source.iterdir()):
        if entry.is_dir() and (target / entry.name).is_dir():
            _merge(entry, target / entry.name)
        else:
            os.replace(entry, target / entry.name)
    source.rmdir()


def _put_in_place(record: DatasetRecord, work: Path, place: Path, archives: Iterable[Path]) -> None:
    whole = work / "whole" / record.inside
    problems = count_problems(whole, record)
    if problems:
        shutil.rmtree(work)
        raise DataError(
            f"{record.name}: its archives hold something else than expected: "
            f"{'; '.join(problems)}. Remove {', '.join(map(str, archives))} and fetch again."
        )
    flush_tree(work)
    os.replace(whole, place)
    flush(place.parent)  # before the archives go


def _clear_up(record: DatasetRecord, work: Path, out: Path, keep: bool) -> None:
    """Delete what the dataset no longer needs, ``work`` last: it says that this is to be done."""
    downloads = out / DOWNLOADS
    if not keep:
        for archive in record.archives:
            _destination(out, archive).unlink(missing_ok=True)
    for archive in record.archives:
        # the lock of the dataset is still held, so nobody waits for that of its file
        (downloads / f".{archive.file.name}.lock").unlink(missing_ok=True)
    with suppress(OSError):  # archives are kept, or something else lies there
        downloads.rmdir()
    shutil.rmtree(work)
