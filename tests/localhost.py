"""A web server on this machine that serves files as badly as it is told to."""

from __future__ import annotations

import itertools
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Page:
    """How one path is served; lists are used up, one entry a request, and then nothing happens."""

    body: bytes
    etag: str = ""
    ranges: bool = True  # whether Range is honoured
    if_range: bool = True  # whether If-Range is
    shift: int = 0  # a 206 begins this many bytes after what was asked for
    kind: str = "application/octet-stream"
    status: int = 200
    location: str = ""  # of a redirect
    length: int | None = None  # what Content-Length says, where it lies
    chunked: bool = False
    breaks: list[int] = field(default_factory=list)  # bytes after which the connection closes
    stalls: list[int] = field(default_factory=list)  # bytes after which nothing more comes
    trickle: float = 0.0  # seconds between bytes
    raw: bytes | None = None  # sent in place of an answer
    drip: bytes = b""  # a byte of it every DRIP seconds after that, again and again


DRIP = 0.05  # seconds


class Site(ThreadingHTTPServer):
    """Pages by name, and the requests that came: (path, Range, If-Range)."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.pages: dict[str, Page] = {}
        self.requests: list[tuple[str, str | None, str | None]] = []
        self.closing = threading.Event()

    def address(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{name}"

    def add(self, name: str, page: Page) -> str:
        self.pages[name] = page
        return self.address(name)

    def ranges(self) -> list[str | None]:
        return [asked for _, asked, _ in self.requests]


@contextmanager
def serving() -> Iterator[Site]:
    """A running server."""
    with Site() as site:
        thread = threading.Thread(target=site.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield site
        finally:
            site.closing.set()
            site.shutdown()
            thread.join()


def unreachable() -> str:
    """An address at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    return f"http://127.0.0.1:{port}/gone"


class _Handler(BaseHTTPRequestHandler):
    server: Site

    def log_message(self, *words: object) -> None:
        pass

    def do_GET(self) -> None:
        self.server.requests.append(
            (self.path, self.headers.get("Range"), self.headers.get("If-Range"))
        )
        page = self.server.pages.get(self.path[1:])
        if page is None:
            self.send_error(404)
            return
        with suppress(BrokenPipeError, ConnectionResetError):
            if page.raw is None:
                self._answer(page)
            else:
                self._send_raw(page, page.raw)

    def _send_raw(self, page: Page, raw: bytes) -> None:
        self.close_connection = True
        self.wfile.write(raw)
        for turn in itertools.count() if page.drip else ():
            index = turn % len(page.drip)
            self.wfile.write(page.drip[index : index + 1])
            if self.server.closing.wait(DRIP):
                return

    def _answer(self, page: Page) -> None:
        body, status, asked = page.body, page.status, self.headers.get("Range")
        kept = self.headers.get("If-Range") in (None, page.etag) or not page.if_range
        first = 0
        if asked and page.ranges and kept:
            first = int(asked.removeprefix("bytes=").rstrip("-")) + page.shift
            status = 206 if first < len(body) else 416
        self.send_response(status)
        if status == 206:
            self.send_header("Content-Range", f"bytes {first}-{len(body) - 1}/{len(body)}")
        if page.location:
            self.send_header("Location", page.location)
        if page.etag:
            self.send_header("ETag", page.etag)
        self.send_header("Content-Type", page.kind)
        rest = body[first:]
        if page.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(page.length or len(rest)))
        self.end_headers()
        self._send(page, rest)

    def _send(self, page: Page, rest: bytes) -> None:
        breaks = page.breaks.pop(0) if page.breaks else None
        stalls = page.stalls.pop(0) if page.stalls else None
        if page.chunked:
            rest = b"%x\r\n%b\r\n0\r\n\r\n" % (len(rest), rest)
        if page.trickle:
            for index in range(len(rest)):
                self.wfile.write(rest[index : index + 1])
                if self.server.closing.wait(page.trickle):
                    return
        self.wfile.write(rest[: stalls if breaks is None else breaks])
        if stalls is not None:
            self.server.closing.wait()
