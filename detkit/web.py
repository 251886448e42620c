"""One image from the web, in memory: http and https, with limits of time and size."""

from __future__ import annotations

import base64
import http.client
import re
import urllib.error
import urllib.request
from http.client import responses
from urllib.parse import quote, unquote, urljoin, urlsplit

from torch import Tensor

from detkit.connection import Deadline, RefusedError, opener
from detkit.errors import DataError
from detkit.image import decode_image

URL_SECONDS = 20.0  # for the answer to begin, and again for all of the image to come
URL_BYTES = 100 * 2**20  # of one image
_PASSWORD = re.compile(r"^([^:/?#]+://)[^/?#]*@")
_REDIRECTS = range(300, 400)  # status codes
_BLOCK = 2**16  # bytes read at once
_SAFE = "%/:=&?~#+!$,;@()*[]'"  # of a URL; other letters are sent in percent form


def is_url(text: object) -> bool:
    """Whether it is the address of something on the web."""
    return isinstance(text, str) and text.lower().startswith(("http://", "https://"))


def without_password(url: str) -> str:
    """The URL as it may be printed."""
    return _PASSWORD.sub(r"\1", url)


def read_url(url: str, *, seconds: float = URL_SECONDS, limit: int = URL_BYTES) -> Tensor:
    """Read an image from the web, in memory.

    Args:
        url: http or https; redirects stay with these two, and with https where that was given.
        seconds: for the answer to begin, and again for all of it to come.
        limit: bytes.

    Returns:
        ``[3, H, W]`` uint8 RGB, as :func:`detkit.image.read_image` gives it.

    Raises:
        DataError: no answer, a slow, broken or too long one, a web page, or no image.
    """
    from detkit.download import OFFLINE, is_offline

    name = without_password(url)
    if is_offline():
        raise DataError(f"{name}: {OFFLINE} is set, so nothing is fetched. Unset it.")
    return decode_image(_fetch(url, name, seconds, limit), name)


def _fetch(url: str, name: str, seconds: float, limit: int) -> bytes:
    slow = f"{name}: no image within {seconds:g} s. Try again, or download it yourself."
    try:
        with Deadline(seconds) as deadline, _open(_request(url), deadline) as answer:
            _check_answer(answer.headers, name, limit)
            with deadline.step():
                data = _read(answer, name, limit)
            promised = answer.headers.get("Content-Length", "")
    except RefusedError as problem:
        raise DataError(f"{name}: {problem}. Give the image's own address.") from None
    except urllib.error.HTTPError as problem:
        problem.close()
        goal = urljoin(problem.url, problem.headers.get("Location") or "")
        if problem.code in _REDIRECTS and not is_url(goal):  # urllib refuses file: by itself
            goal = quote(goal, safe=_SAFE)
            raise DataError(
                f"{name}: redirects to {goal}, which is neither http nor https. "
                "Give the image's own address."
            ) from None
        if problem.code in _REDIRECTS:
            said = "redirects too often"
        else:
            said = f"the server answers {problem.code} {responses.get(problem.code, '')}".strip()
        raise DataError(f"{name}: {said}. Check the address.") from None
    except DataError:
        raise
    except (OSError, http.client.HTTPException, ValueError) as problem:  # URLError is an OSError
        reason = getattr(problem, "reason", problem)
        if isinstance(reason, TimeoutError):
            raise DataError(slow) from problem
        said = getattr(reason, "strerror", None) or type(reason).__name__
        raise DataError(f"{name}: cannot be reached ({said}). Check the address.") from problem
    if promised.isdecimal() and len(data) < int(promised):
        raise DataError(f"{name}: broke off after {len(data)} of {promised} bytes. Try again.")
    return data


def _request(url: str) -> urllib.request.Request:
    user, at, _ = urlsplit(url).netloc.rpartition("@")
    request = urllib.request.Request(quote(without_password(url), safe=_SAFE))
    request.add_header("User-Agent", "detkit")
    if at:  # never sent on to where a redirect leads
        code = base64.b64encode(unquote(user).encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {code}")
    return request


def _open(request: urllib.request.Request, deadline: Deadline) -> http.client.HTTPResponse:
    with deadline.step():
        answer: http.client.HTTPResponse = opener(deadline).open(request, timeout=deadline.seconds)
        if deadline.has_passed:  # a header that is cut off reads like one that is whole
            answer.close()
    return answer


def _read(answer: http.client.HTTPResponse, name: str, limit: int) -> bytes:
    """The body, as long as it is not too long."""
    data = bytearray()
    while block := answer.read1(_BLOCK):
        data += block
        if len(data) > limit:
            raise DataError(_too_long(name, limit))
    return bytes(data)


def _check_answer(headers: http.client.HTTPMessage, name: str, limit: int) -> None:
    """Refuse by what the server says before its body is read."""
    kind = headers.get_content_type()
    if kind == "text/html":
        raise DataError(f"{name}: a web page, not an image. Give the image's own address.")
    if kind.startswith(("video/", "multipart/")):
        raise DataError(f"{name}: a video, not an image. Write stream:{name} to watch it.")
    promised = headers.get("Content-Length", "")
    if promised.isdecimal() and int(promised) > limit:
        raise DataError(_too_long(name, limit))


def _too_long(name: str, limit: int) -> str:
    return f"{name}: more than {limit / 2**20:g} MiB, too much for an image. Make it smaller."
