"""Fetch one file from the network: resumed, verified, whole or not at all.

A partial file ``NAME.part`` lies beside the destination under a stable name; whatever breaks off
goes on from its last byte, in the same call or in the next. What becomes of a bad server:

=====================================  ========================================================
it breaks off                          resumed there, as long as that brings bytes
it stalls or trickles, in its body or  the next address goes on from the same byte
in what stands before it
it is unreachable, or says 408, 425,   the next address; all of them again after a pause
429 or 5xx
it says 404 or another 4xx             the next address; this one is not asked again
it ignores Range (200)                 starts over there
it has no such byte (416)              the next address; starts over if the size is not known
its file changed between parts         starts over (If-Range; a 206 with another ETag)
it speaks of another length, or of     refused before the first byte; the next address
more than may come where the length
is not known
it sends more than it should           refused, deleted; the next address
it sends HTML in place of the file     refused, by content type or by first bytes
its bytes have another hash            deleted; once more from zero if parts were joined; then
                                       the next address
it redirects from https to http, or    refused; the next address
to a scheme that is not http(s)
=====================================  ========================================================

Nothing is fetched where the environment says ``DETKIT_OFFLINE=1``.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import filelock

from detkit.connection import RefusedError
from detkit.errors import DetkitError
from detkit.files import LOOK, check_space, in_words, is_html, make_folder
from detkit.flushing import flush
from detkit.remote import SILENT, DownloadSettings, RemoteFile, Watch, same_hash
from detkit.transfer import (
    BrokenOffError,
    MismatchError,
    UnavailableError,
    origin_path,
    size_of,
    transfer,
)

OFFLINE = "DETKIT_OFFLINE"
SLOW_CHECK = 1 << 30  # bytes; hashing more takes long enough to say so


class AnotherFileError(DetkitError):
    """What is there, or what an address serves, is another file than the one meant."""


def fetch(
    remote: RemoteFile,
    destination: Path,
    settings: DownloadSettings = DownloadSettings(),
    watch: Watch = SILENT,
) -> Path:
    """Fetch a file, or use the one that is at ``destination`` already, verified the same way.

    Of several processes that start at once, one fetches and the others wait and use its file.

    Returns:
        ``destination``, which appears whole and verified or not at all.

    Raises:
        AnotherFileError: what is at ``destination``, or an address serves, is another file.
        DetkitError: no address serves it, the switch says offline, or the disk is full. The
            message says what to fetch by hand.
    """
    if destination.exists():  # whole, so there is nobody to wait for; the folder may be read-only
        return _used(destination, remote, watch)
    make_folder(destination.parent, settings.named_by)
    with only_one(destination.with_name(f".{destination.name}.lock"), watch):
        if destination.exists():
            return _used(destination, remote, watch)
        if is_offline():
            raise DetkitError(
                f"{remote.name}: {OFFLINE} is set, so nothing is fetched. Unset it, or "
                f"{by_hand(remote, destination)}"
            )
        part = partial_path(destination)
        if remote.most is not None:
            missing = remote.most - size_of(part)
            check_space(destination.parent, missing, remote.name, settings.named_by)
        _fetch_from_any(remote, destination, settings, watch)
    return destination


def _used(destination: Path, remote: RemoteFile, watch: Watch) -> Path:
    check_file(destination, remote, watch)
    with suppress(OSError):  # of a process that ended between its last two steps
        origin_path(partial_path(destination)).unlink(missing_ok=True)
    return destination


def is_offline() -> bool:
    """Whether the environment forbids the network."""
    return os.environ.get(OFFLINE, "") not in ("", "0")


def partial_path(destination: Path) -> Path:
    """Where the bytes lie that have come so far."""
    return destination.with_name(f"{destination.name}.part")


def check_file(path: Path, remote: RemoteFile, watch: Watch = SILENT) -> None:
    """Verify size and hash of a file, however it came.

    Raises:
        AnotherFileError: it is another file.
        DetkitError: it cannot be read.
    """
    try:
        problem = _mismatch(path, remote, watch)
    except OSError as error:
        raise DetkitError(f"{path}: cannot be read ({error.strerror}).") from error
    if problem:
        raise AnotherFileError(
            f"{path}: {problem}. It is not {remote.name}, or not all of it; remove it or put the "
            "right file in its place."
        )


@contextmanager
def only_one(path: Path, watch: Watch = SILENT) -> Iterator[None]:
    """Hold a lock file, after whoever holds it; a process that dies lets go of it.

    The file stays where it is: deleting it would let two processes lock two files of one name.

    Raises:
        DetkitError: the lock file cannot be made.
    """
    lock = filelock.FileLock(path)
    try:
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            watch.say(f"waiting for another process that is at the same ({path})")
            lock.acquire()
    except OSError as problem:
        raise DetkitError(f"{path}: cannot be made ({problem.strerror}).") from problem
    try:
        yield
    finally:
        lock.release()


def by_hand(remote: RemoteFile, destination: Path) -> str:
    """What to fetch without this program, and where to put it: the end of a sentence."""
    return (
        f"fetch it by hand ({known_as(remote)}) from {' or '.join(remote.addresses)} and put it at "
        f"{destination}."
    )


def known_as(remote: RemoteFile) -> str:
    """What a file fetched by hand is to be compared with: its size and hash."""
    if not remote.sizes:
        return f"size not known, {remote.hash or 'hash not known'}"
    hashes = [form.hash or "hash not known" for form in remote.forms]
    if len(set(hashes)) == 1:
        return f"{remote.sizes_in_words()} bytes, {hashes[0]}"
    each = zip(remote.sizes, hashes, strict=True)
    return ", or ".join(f"{size:,} bytes, {said}" for size, said in each)


def _mismatch(path: Path, remote: RemoteFile, watch: Watch = SILENT) -> str:
    """What is wrong with a file; empty if nothing is."""
    size = path.stat().st_size
    if remote.sizes and size not in remote.sizes:
        with path.open("rb") as file:
            page = "is an HTML page of" if is_html(file.read(LOOK)) else "has"
        return f"{page} {size:,} bytes, expected {remote.sizes_in_words()}"
    wanted = remote.hash_of(size)
    if wanted is None:
        return ""
    if size > SLOW_CHECK:
        watch.say(f"checking {path.name} ({in_words(size)})")
    kind, _, expected = wanted.partition(":")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, kind).hexdigest()
    return "" if same_hash(wanted, found) else f"has {kind} {found}, expected {expected}"


# ----------------------------------------------------------------------- addresses, one by one


def _fetch_from_any(
    remote: RemoteFile, destination: Path, settings: DownloadSettings, watch: Watch
) -> None:
    part = partial_path(destination)
    watch.begin(f"fetching {remote.name}", size_of(part), remote.most)
    reasons: dict[str, str] = {}
    open_to_it = list(remote.addresses)  # that have not refused
    error = DetkitError
    for turn in range(settings.rounds):
        asked = tuple(open_to_it)
        for address, next_one in zip(asked, (*asked[1:], ""), strict=True):
            try:
                _fetch_from(address, part, remote, settings, watch)
            except (RefusedError, BrokenOffError) as problem:
                if isinstance(problem, RefusedError):
                    open_to_it.remove(address)
                if isinstance(problem, MismatchError):
                    error = AnotherFileError
                if next_one and reasons.get(address) != str(problem):
                    watch.say(f"{_host(address)}: {problem}; trying {_host(next_one)}")
                reasons[address] = str(problem)
                continue
            flush(part)
            os.replace(part, destination)
            flush(destination.parent)
            origin_path(part).unlink(missing_ok=True)
            watch.end()
            return
        if not open_to_it:
            break
        if turn + 1 < settings.rounds:
            watch.say(f"{remote.name}: trying again in {settings.pause_seconds:g} s")
            time.sleep(settings.pause_seconds)
    kept = size_of(part)
    if not kept:
        part.unlink(missing_ok=True)
        origin_path(part).unlink(missing_ok=True)
    raise error(
        f"{remote.name}: cannot be fetched. {_by_reason(reasons)}."
        + (f" {kept:,} bytes are kept, and the next try goes on from there." if kept else "")
        + f" Try again later, or fetch {'it' if len(reasons) == 1 else 'one of these'} by hand "
        + f"({known_as(remote)}) and put it at {destination}."
    )


def _host(address: str) -> str:
    return urlsplit(address).netloc or address


def _by_reason(reasons: Mapping[str, str]) -> str:
    """``A and B: why; C: why``, so that what went wrong everywhere is said once."""
    addresses: dict[str, list[str]] = {}
    for address, reason in reasons.items():
        addresses.setdefault(reason, []).append(address)
    return "; ".join(f"{' and '.join(each)}: {reason}" for reason, each in addresses.items())


def _fetch_from(
    address: str, part: Path, remote: RemoteFile, settings: DownloadSettings, watch: Watch
) -> None:
    """Complete and verify the partial file from one address, resuming what breaks off."""
    fruitless = 0
    furthest = size_of(part)  # starting over again and again is no progress
    joined = restarted = False
    while True:
        joined |= size_of(part) > 0
        try:
            transfer(address, part, remote, settings, watch)
        except UnavailableError:
            raise
        except BrokenOffError as problem:
            gained = size_of(part) - furthest
            fruitless = 0 if gained >= settings.progress_bytes else fruitless + 1
            furthest += max(0, gained)
            if fruitless >= settings.tries:
                raise
            watch.say(f"{address}: {problem}; asking again")
            if fruitless:
                time.sleep(settings.pause_seconds)
            continue
        problem_found = _mismatch(part, remote, watch)
        if not problem_found:
            return
        part.unlink()
        if restarted or not joined:
            raise MismatchError(problem_found)
        watch.say(f"{address}: joined with an earlier part, {problem_found}; starting over")
        joined, restarted, furthest = False, True, 0
