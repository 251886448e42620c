"""One HTTP request that appends to a partial file, suspicious of what the server says.

What becomes of a bad server is in the table of ``detkit/download.py``, which asks again, asks
others, and verifies what came.
"""

from __future__ import annotations

import errno
import http.client
import json
import re
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from email.message import Message
from pathlib import Path
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import (
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
)

from detkit.errors import DetkitError

SCHEMES = ("http", "https")
HASHES = ("sha256", "sha1", "md5")
TEMPORARY = (408, 425, 429)  # as is every 5xx: the same request may succeed later
CHUNK = 1 << 20  # bytes
HTML_STARTS = (b"<!doctype html", b"<html", b"<head", b"<body", b"<script")
HTML_TYPES = ("text/html", "application/xhtml+xml")
HTML_PROBLEM = "sends an HTML page in place of the file"
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


class MismatchError(RefusedError):
    """This address serves another file."""


class BrokenOffError(Exception):
    """This address may serve the rest if asked again."""


class UnavailableError(BrokenOffError):
    """This address is better left for the next one, and asked again later."""


@dataclass(frozen=True, slots=True)
class _Origin:
    """Where a partial file began, so that the server can be asked whether its file changed."""

    address: str = ""
    tag: str = ""  # a strong ETag, else Last-Modified, else empty
    total: int | None = None  # bytes of the whole file, if the server said


def size_of(path: Path) -> int:
    """Bytes of a file; 0 where there is none."""
    return path.stat().st_size if path.exists() else 0


def transfer(
    address: str, part: Path, remote: RemoteFile, settings: DownloadSettings, watch: Watch
) -> None:
    """Append to the partial file what one request brings, until it is complete.

    Raises:
        RefusedError, BrokenOffError: it is not complete.
        DetkitError: the disk is full or cannot be written.
    """
    if urlsplit(address).scheme not in SCHEMES:
        raise RefusedError("is neither http nor https")
    have, origin = size_of(part), _read_origin(part)
    if have in remote.sizes and have in (remote.most, origin.total):
        return
    same = origin.address == address and bool(origin.tag)
    too_long = remote.most is not None and have > remote.most
    if too_long or not (remote.has_hash or same):  # nothing would tell a bad joint
        part.unlink(missing_ok=True)
        have = 0
    headers = {"User-Agent": "detkit", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
        if same:
            headers["If-Range"] = origin.tag
    with _open(Request(address, headers=headers), remote, part, settings) as response:
        start, total = _where_it_starts(response, have, origin.tag if same else "", part)
        if total is not None and remote.sizes and total not in remote.sizes:
            raise RefusedError(f"serves {total:,} bytes, expected {remote.sizes_in_words()}")
        if start and remote.also and total != origin.total:
            part.unlink()  # the first part is of another form
            raise BrokenOffError("has another form of the file; starting over")
        first = _read(response, settings)
        if not first and total != 0:
            raise BrokenOffError("sends nothing")
        if start == 0:
            if is_html(first):
                raise RefusedError(HTML_PROBLEM)
            part.unlink(missing_ok=True)  # before the note beside it speaks of another version
            _write_origin(part, _Origin(address, _tag(response.headers), total))
        most = remote.most if total is None else total
        span = _Span(start, settings.most_bytes if most is None else most)
        done = _copy(response, first, part, span, settings, watch)
    if most is not None and done < most and (total is not None or done not in remote.sizes):
        raise BrokenOffError(f"broke off after {done:,} of {most:,} bytes")


def is_html(start: bytes) -> bool:
    """Whether a file that starts like this is a web page."""
    return start.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(HTML_STARTS)


def _open(
    request: Request, remote: RemoteFile, part: Path, settings: DownloadSettings
) -> http.client.HTTPResponse:
    try:
        response: http.client.HTTPResponse = opener().open(request, timeout=settings.stall_seconds)
    except HTTPError as problem:
        problem.close()
        said = f"{problem.code} {problem.reason}".strip()
        whole = remote.size is None or remote.also  # all of it may have been there
        if problem.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE and whole:
            part.unlink(missing_ok=True)
            raise BrokenOffError(f"{said}; starting over") from problem
        if problem.code in TEMPORARY or problem.code >= 500:
            raise UnavailableError(said) from problem
        raise RefusedError(said) from problem
    except (OSError, http.client.HTTPException, ValueError) as problem:
        reason = problem.reason if isinstance(problem, URLError) else problem
        if isinstance(reason, TimeoutError):
            raise UnavailableError(f"no answer for {settings.stall_seconds:g} s") from problem
        if isinstance(reason, ssl.SSLCertVerificationError):
            raise RefusedError(f"its certificate is not valid: {reason.verify_message}") from (
                problem
            )
        if isinstance(reason, ValueError):  # a host name that cannot be one
            raise RefusedError("is not a usable address") from problem
        words = reason.strerror if isinstance(reason, OSError) else None
        raise UnavailableError(words or str(reason) or type(reason).__name__) from problem
    if response.headers.get_content_type() in HTML_TYPES:
        response.close()
        raise RefusedError(HTML_PROBLEM)
    return response


def _where_it_starts(
    response: http.client.HTTPResponse, have: int, tag: str, part: Path
) -> tuple[int, int | None]:
    """The file's byte that the answer begins with, and how many the file has in all if it says."""
    if response.status == http.client.OK:
        return 0, response.length
    if response.status != http.client.PARTIAL_CONTENT or not have:
        raise RefusedError(f"{response.status} {response.reason}, which was not asked for")
    found = _RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
    if not found or int(found[1]) != have or (tag and _tag(response.headers) not in ("", tag)):
        part.unlink(missing_ok=True)  # it skips Range or If-Range: only from zero is safe
        raise BrokenOffError("does not go on where the first part ended; starting over")
    return have, None if found[3] == "*" else int(found[3])


def _tag(headers: Message) -> str:
    """What If-Range may carry: a strong ETag, else the date."""
    tag = headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else headers.get("Last-Modified", "")


@dataclass(frozen=True, slots=True)
class _Span:
    """The bytes of a file that an answer brings."""

    start: int
    most: int  # where it must end at the latest


def _copy(
    response: http.client.HTTPResponse,
    chunk: bytes,
    part: Path,
    span: _Span,
    settings: DownloadSettings,
    watch: Watch,
) -> int:
    """Write ``chunk`` and what comes after it to the partial file; how many bytes it has then."""
    done = span.start
    since, mark = time.monotonic(), done
    with _for_writing(part, done) as file:
        while chunk:
            if done + len(chunk) > span.most:
                file.truncate(0)
                raise RefusedError(f"sends more than {span.most:,} bytes")
            rest = memoryview(chunk)
            while rest:  # an unbuffered file may take less at a time
                rest = rest[file.write(rest) :]
            done += len(chunk)
            watch.move(done)
            now = time.monotonic()
            if now - since >= settings.stall_seconds:
                if done - mark < settings.slowest * settings.stall_seconds:
                    raise UnavailableError(f"sent {done - mark:,} bytes in {now - since:.0f} s")
                since, mark = now, done
            chunk = _read(response, settings)
    return done


def _read(response: http.client.HTTPResponse, settings: DownloadSettings) -> bytes:
    try:
        return response.read1(CHUNK)
    except TimeoutError as problem:
        raise UnavailableError(f"stalled for {settings.stall_seconds:g} s") from problem
    except (OSError, http.client.HTTPException) as problem:
        raise BrokenOffError(f"broke off ({type(problem).__name__})") from problem


@contextmanager
def _for_writing(part: Path, done: int) -> Iterator[IO[bytes]]:
    """Open the partial file to go on at its end, or anew; say what is wrong with the disk."""
    try:
        with part.open("ab" if done else "wb", buffering=0) as file:
            yield file
    except OSError as problem:
        full = problem.errno in (errno.ENOSPC, errno.EDQUOT)
        raise DetkitError(
            f"{part}: {'the disk is full' if full else f'cannot be written ({problem.strerror})'}. "
            "What has come is kept; make room, and the same command goes on from there."
        ) from problem


# --------------------------------------------------------------------- what a partial file is of


def origin_path(part: Path) -> Path:
    """Beside a partial file: which address it began at, and the server's mark of that version."""
    return part.with_name(f"{part.name}.json")


def _write_origin(part: Path, origin: _Origin) -> None:
    with suppress(OSError):  # without it the next run starts over, or trusts the hash
        origin_path(part).write_text(json.dumps(asdict(origin)))


def _read_origin(part: Path) -> _Origin:
    try:
        said = json.loads(origin_path(part).read_text(encoding="utf-8"))
        total = said.get("total")
        return _Origin(
            str(said["address"]), str(said["tag"]), total if total is None else int(total)
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return _Origin()
