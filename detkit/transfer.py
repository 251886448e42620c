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
from typing import IO
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request

from detkit.connection import SCHEMES, Deadline, RefusedError, opener
from detkit.errors import DetkitError
from detkit.files import check_space, is_html
from detkit.remote import DownloadSettings, RemoteFile, Watch

TEMPORARY = (408, 425, 429)  # as is every 5xx: the same request may succeed later
REDIRECTS = range(300, 400)
CHUNK = 1 << 20  # bytes
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
    with (
        Deadline(settings.stall_seconds) as deadline,
        _open(Request(address, headers=headers), remote, part, deadline) as response,
    ):
        start, total = _where_it_starts(response, have, origin.tag if same else "", part)
        if total is not None:
            _check_total(total, total - start, part, remote, settings)
        if start and remote.also and total != origin.total:
            part.unlink()  # the first part is of another form
            raise BrokenOffError("has another form of the file; starting over")
        first = _read(response, deadline)
        if not first and total != 0:
            raise BrokenOffError("sends nothing")
        if start == 0:
            if is_html(first):
                raise RefusedError(HTML_PROBLEM)
            part.unlink(missing_ok=True)  # before the note beside it speaks of another version
            _write_origin(part, _Origin(address, _tag(response.headers), total))
        most = remote.most if total is None else total
        span = _Span(start, settings.most_bytes if most is None else most)
        chunks = _chunks(first, response, deadline)
        done = _copy(chunks, part, span, settings, watch)
    if most is not None and done < most and (total is not None or done not in remote.sizes):
        raise BrokenOffError(f"broke off after {done:,} of {most:,} bytes")


def _check_total(
    total: int, rest: int, part: Path, remote: RemoteFile, settings: DownloadSettings
) -> None:
    """Refuse by what the server says before its first byte is written.

    Args:
        total: bytes of the whole file, as the server says.
        rest: those of them that are still to come.
        part: the partial file.
        remote: what is known of the file.
        settings: how much may come where nothing is known of it.

    Raises:
        RefusedError: another file, or one too large.
        DetkitError: the disk has no room for it.
    """
    if remote.sizes and total not in remote.sizes:
        raise MismatchError(f"serves {total:,} bytes, expected {remote.sizes_in_words()}")
    if not remote.sizes:
        if total > settings.most_bytes:
            raise RefusedError(
                f"serves {total:,} bytes, more than the {settings.most_bytes:,} that are taken of "
                "a file of unknown size"
            )
        check_space(part.parent, rest, remote.name, settings.named_by)


def _status(code: int) -> str:
    """A status as the standard names it: what a server says instead may be anything."""
    return f"{code} {http.client.responses.get(code, '')}".strip()


def _open(
    request: Request, remote: RemoteFile, part: Path, deadline: Deadline
) -> http.client.HTTPResponse:
    try:
        with deadline.step():
            response: http.client.HTTPResponse = opener(deadline).open(
                request, timeout=deadline.seconds
            )
            if deadline.has_passed:  # a header that is cut off reads like one that is whole
                response.close()
    except HTTPError as problem:
        problem.close()
        said = _status(problem.code)
        if problem.code in REDIRECTS:
            said += ", to where nothing can be fetched"  # without end, or to another scheme
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
            raise UnavailableError(f"no answer for {deadline.seconds:g} s") from problem
        if isinstance(reason, ssl.SSLCertVerificationError):
            raise RefusedError(f"its certificate is not valid: {reason.verify_message}") from (
                problem
            )
        if isinstance(reason, ValueError):  # a host name that cannot be one
            raise RefusedError("is not a usable address") from problem
        if isinstance(reason, http.client.HTTPException):  # its text is the server's
            raise UnavailableError(f"does not speak HTTP ({type(reason).__name__})") from problem
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
        raise RefusedError(f"{_status(response.status)}, which was not asked for")
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
    chunks: Iterator[bytes], part: Path, span: _Span, settings: DownloadSettings, watch: Watch
) -> int:
    """Write what comes to the partial file; how many bytes it has then."""
    done = span.start
    since, mark = time.monotonic(), done
    with _for_writing(part, done) as file:
        for chunk in chunks:
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
    return done


def _chunks(
    chunk: bytes, response: http.client.HTTPResponse, deadline: Deadline
) -> Iterator[bytes]:
    while chunk:
        yield chunk
        chunk = _read(response, deadline)


def _read(response: http.client.HTTPResponse, deadline: Deadline) -> bytes:
    try:
        with deadline.step():
            return response.read1(CHUNK)
    except TimeoutError as problem:
        raise UnavailableError(f"stalled for {deadline.seconds:g} s") from problem
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
