"""Connections over HTTP and HTTPS that no server can hold open for longer than it may.

A timeout of a socket begins anew with every byte, so that a server which sends one now and then
holds a reader for ever. ``Deadline`` is of the clock.
"""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import IO, Any
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

SCHEMES = ("http", "https")
LOOKS = 4  # at the clock, within the time a step may take
LONGEST_SHOWN = 200  # characters of an address that a server names


class RefusedError(Exception):
    """This address is of no use."""


class Deadline:
    """Shuts a connection down when a step takes too long, whatever comes in the meantime.

    Use as a context manager; each step is ``with deadline.step(): ...``. Within a step, every
    connection made begins it anew: each of an address' machines, and each redirect, may take
    as long.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.has_passed = False
        self._until = float("inf")  # of the monotonic clock
        self._watched: list[socket.socket] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Deadline:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, what: BaseException | None, at: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        for each in self._watched:
            each.close()

    def watch(self, connected: socket.socket) -> None:
        """Shut this connection down, too, when time runs out."""
        self._watched.append(connected.dup())  # the same connection; TLS takes the first one over
        self._until = time.monotonic() + self.seconds

    @contextmanager
    def step(self) -> Iterator[None]:
        """Something that may take ``seconds``.

        Raises:
            TimeoutError: in place of what the step raises or returns, if it took longer.
        """
        self._until = time.monotonic() + self.seconds
        try:
            yield
        except (OSError, http.client.HTTPException, ValueError) as problem:
            if self.has_passed:  # it is what became of the connection that was shut down
                raise TimeoutError from problem
            raise
        finally:
            self._until = float("inf")
        if self.has_passed:
            raise TimeoutError

    def _run(self) -> None:
        while not self._ended.is_set():
            left = self._until - time.monotonic()
            if left <= 0:
                self.has_passed = True
                for each in self._watched:
                    with suppress(OSError):  # the server was quicker
                        each.shutdown(socket.SHUT_RDWR)
                return
            self._ended.wait(min(left, self.seconds / LOOKS))


class _Watched(http.client.HTTPConnection):
    """Tells a deadline of its socket before anything is sent."""

    deadline: Deadline

    def connect(self) -> None:
        super().connect()
        self.deadline.watch(self.sock)


class _WatchedSecure(http.client.HTTPSConnection, _Watched):  # in this order: TLS comes after
    """The same before the handshake."""


class _WatchedHandler(HTTPHandler):
    def __init__(self, deadline: Deadline) -> None:
        super().__init__()

        class Connection(_Watched):
            pass

        Connection.deadline = deadline
        self._kind = Connection

    def http_open(self, req: Request) -> http.client.HTTPResponse:
        return self.do_open(self._kind, req)


class _WatchedSecureHandler(HTTPSHandler):
    def __init__(self, deadline: Deadline) -> None:
        super().__init__()

        class Connection(_WatchedSecure):
            pass

        Connection.deadline = deadline
        self._kind = Connection

    def https_open(self, req: Request) -> http.client.HTTPResponse:
        return self.do_open(self._kind, req)


class _CarefulRedirects(HTTPRedirectHandler):
    """Follows no redirect to a scheme that can be read along, or that is no HTTP at all."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> Request | None:
        """The request to follow with, as the base class makes it, if the scheme is allowed."""
        fp.close()  # the page that comes with a redirect is of no use, and may have no end
        scheme, shown = urlsplit(newurl).scheme, newurl[:LONGEST_SHOWN]
        if scheme not in SCHEMES:
            raise RefusedError(f"redirects to {shown}, which is neither http nor https")
        if scheme == "http" and urlsplit(req.full_url).scheme == "https":
            raise RefusedError(f"redirects from https to {shown}, which is not encrypted")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def opener(deadline: Deadline) -> OpenerDirector:
    """HTTP and HTTPS through the environment's proxies, and no other scheme.

    Args:
        deadline: is told of every connection.

    ``open`` raises :class:`RefusedError` at a redirect to another scheme, or from https to http.
    """
    opens = OpenerDirector()
    for handler in (
        ProxyHandler(),
        _WatchedHandler(deadline),
        _WatchedSecureHandler(deadline),
        HTTPDefaultErrorHandler(),
        HTTPErrorProcessor(),
        _CarefulRedirects(),
    ):
        opens.add_handler(handler)
    return opens
