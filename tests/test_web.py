"""Images from the web, and all that a server can do instead."""

from __future__ import annotations

import http.client
import io
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.request import Request

import numpy as np
import pytest
import torch
from PIL import Image

from detkit.errors import DataError
from detkit.web import read_url, without_password
from tests.web_server import Answer, says, serve

PIXELS = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)


def png() -> bytes:
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, "PNG")
    return file.getvalue()


def only_with_password(handler: BaseHTTPRequestHandler) -> None:
    known = handler.headers.get("Authorization") == "Basic bWU6cEBzcw=="  # me:p@ss
    says(png() if known else b"", "image/png", status=200 if known else 401)(handler)


def not_with_password(handler: BaseHTTPRequestHandler) -> None:
    says(png(), "image/png", status=500 if handler.headers.get("Authorization") else 200)(handler)


def to_http(handler: BaseHTTPRequestHandler) -> None:
    goal = f"http://{handler.headers['Host']}/a.png"
    says(b"", "text/plain", status=302, Location=goal)(handler)


def trickle(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    for _ in range(100):
        handler.wfile.write(b"x")
        time.sleep(0.05)


def trickle_of_header(handler: BaseHTTPRequestHandler) -> None:
    """Each byte would begin a socket's own timeout anew."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    for _ in range(100):
        handler.wfile.write(b"x")
        time.sleep(0.05)


def trickle_of_chunk(handler: BaseHTTPRequestHandler) -> None:
    """A chunk's length with an endless remark: no byte of the image comes."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;")
    for _ in range(100):
        handler.wfile.write(b"x")
        time.sleep(0.05)


def endless(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(b"\0" * 65536)


def pages(gone: threading.Event) -> dict[str, Answer]:
    return {
        "/a.png": says(png(), "image/png"),
        "/unnamed": says(png(), "application/octet-stream"),
        "/a%20%C3%A9.png": says(png(), "image/png"),
        "/moved": says(b"", "text/plain", status=302, Location="/a.png"),
        "/private": only_with_password,
        "/moved-private": says(b"", "text/plain", status=302, Location="/public"),
        "/public": not_with_password,
        "/page": says(b"<html></html>", "text/html; charset=utf-8"),
        "/hidden-page": says(b"<!DOCTYPE html><html></html>", "image/png"),
        "/clip": says(b"", "video/mp4"),
        "/file": says(b"", "text/plain", status=302, Location="file:///etc/passwd"),
        "/ftp": says(b"", "text/plain", status=302, Location="ftp://127.0.0.1/a.png"),
        "/unencrypted": to_http,
        "/round": says(b"", "text/plain", status=302, Location="/round"),
        "/short": says(png()[:500], "image/png", Content_Length=str(len(png()))),
        "/huge": says(b"", "image/png", Content_Length="99999999999"),
        "/endless": endless,
        "/stall": lambda handler: bool(gone.wait(10)) and None,
        "/trickle": trickle,
        "/slow-header": trickle_of_header,
        "/slow-chunk": trickle_of_chunk,
        "/empty": says(b"", "image/png"),
    }


@pytest.fixture(scope="module")
def web() -> Iterator[str]:
    gone = threading.Event()
    with serve(pages(gone)) as address:
        yield address
        gone.set()


@pytest.mark.parametrize("path", ["/a.png", "/unnamed", "/a é.png", "/moved"])
def test_an_image_comes_as_from_a_file(web: str, path: str) -> None:
    image = read_url(web + path)
    assert torch.equal(image, torch.from_numpy(PIXELS).permute(2, 0, 1))


def test_a_password_is_sent_to_its_server_and_printed_nowhere(web: str) -> None:
    owned = web.replace("//", "//me:p%40ss@")
    assert read_url(owned + "/private").shape == (3, 30, 40)
    assert read_url(owned + "/moved-private").shape == (3, 30, 40)  # not sent on
    assert without_password(owned + "/private") == web + "/private"
    with pytest.raises(DataError) as caught:
        read_url(owned + "/nothing")
    assert "me" not in str(caught.value).split("/nothing")[0]


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("/nothing", "the server answers 404 Not Found. Check the address."),
        ("/page", "a web page, not an image. Give the image's own address."),
        ("/hidden-page", "a web page or XML, not an image. Download the image again."),
        ("/clip", "a video, not an image. Write stream:{web}/clip to watch it."),
        (
            "/file",
            "redirects to file:///etc/passwd, which is neither http nor https. "
            "Give the image's own address.",
        ),
        (
            "/ftp",
            "redirects to ftp://127.0.0.1/a.png, which is neither http nor https. "
            "Give the image's own address.",
        ),
        ("/round", "redirects too often. Check the address."),
        ("/short", "broke off after 500 of {size} bytes. Try again."),
        ("/huge", "more than 2 MiB, too much for an image. Make it smaller."),
        ("/endless", "more than 2 MiB, too much for an image. Make it smaller."),
        ("/stall", "no image within 0.5 s. Try again, or download it yourself."),
        ("/trickle", "no image within 0.5 s. Try again, or download it yourself."),
        ("/slow-header", "no image within 0.5 s. Try again, or download it yourself."),
        ("/slow-chunk", "no image within 0.5 s. Try again, or download it yourself."),
        ("/empty", "the file is empty. Copy or download it again."),
    ],
)
def test_what_a_server_does_instead_gets_one_sentence(web: str, path: str, sentence: str) -> None:
    begun = time.monotonic()
    with pytest.raises(DataError) as caught:
        read_url(web + path, seconds=0.5, limit=2 * 2**20)
    assert time.monotonic() - begun < 3
    assert str(caught.value) == f"{web}{path}: {sentence.format(web=web, size=len(png()))}"


def test_from_https_to_http_is_refused(web: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was asked for over an encrypted line must not come over one that is not."""

    def without_encryption(self: Any, request: Request) -> http.client.HTTPResponse:
        return self.do_open(http.client.HTTPConnection, request)

    monkeypatch.setattr("detkit.connection._WatchedSecureHandler.https_open", without_encryption)
    address = web.replace("http:", "https:")
    assert read_url(f"{address}/moved").shape == (3, 30, 40)
    with pytest.raises(DataError) as caught:
        read_url(f"{address}/unencrypted")
    assert str(caught.value) == (
        f"{address}/unencrypted: redirects from https to {web}/a.png, which is not encrypted. "
        "Give the image's own address."
    )


def test_nobody_answers() -> None:
    with serve({}) as address:
        pass
    with pytest.raises(DataError) as caught:
        read_url(f"{address}/a.png")
    assert str(caught.value) == (
        f"{address}/a.png: cannot be reached (Connection refused). Check the address."
    )


def test_offline_means_offline(web: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DETKIT_OFFLINE", "1")
    with pytest.raises(DataError) as caught:
        read_url(f"{web}/a.png")
    assert str(caught.value) == (
        f"{web}/a.png: DETKIT_OFFLINE is set, so nothing is fetched. Unset it."
    )
