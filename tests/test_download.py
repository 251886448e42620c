"""Downloads against a server on this machine that does everything a bad server does."""

from __future__ import annotations

import hashlib
import multiprocessing
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detkit.download import check_file, fetch, is_offline, partial_path
from detkit.errors import DetkitError
from detkit.files import in_words
from detkit.remote import DownloadSettings, RemoteFile, Watch
from tests.localhost import Page, Site, serving, unreachable

BODY = random.Random(0).randbytes(100_000)
OTHER = random.Random(1).randbytes(100_000)
HASH = f"sha256:{hashlib.sha256(BODY).hexdigest()}"
OTHER_HASH = hashlib.sha256(OTHER).hexdigest()
QUICK = DownloadSettings(
    stall_seconds=20.0, slowest=0, tries=2, progress_bytes=1, rounds=1, pause_seconds=0.01
)
IMPATIENT = DownloadSettings(
    stall_seconds=0.5, slowest=0, tries=2, progress_bytes=1, rounds=1, pause_seconds=0.01
)


class Notes(Watch):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.began: list[tuple[str, int, int | None]] = []
        self.moves: list[int] = []

    def begin(self, what: str, done: int, total: int | None) -> None:
        self.began.append((what, done, total))

    def move(self, done: int) -> None:
        self.moves.append(done)

    def say(self, line: str) -> None:
        self.lines.append(line)


@pytest.fixture(autouse=True)
def _no_switches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.delenv("DETKIT_OFFLINE", raising=False)


@pytest.fixture
def site() -> Iterator[Site]:
    with serving() as running:
        yield running


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "files" / "file.bin"


def remote(*addresses: str, size: int | None = len(BODY), of: str | None = HASH) -> RemoteFile:
    return RemoteFile("file.bin", addresses, size, of)


def whole(place: Path, body: bytes = BODY) -> bool:
    """The file is there, and nothing lies beside it but the lock."""
    names = {path.name for path in place.parent.iterdir()}
    return place.read_bytes() == body and names == {place.name, f".{place.name}.lock"}


def refusal(place: Path, file: RemoteFile, settings: DownloadSettings = QUICK) -> str:
    with pytest.raises(DetkitError) as caught:
        fetch(file, place, settings)
    assert not place.exists()
    return str(caught.value)


def unable(reasons: str, file: RemoteFile, place: Path, kept: int = 0) -> str:
    """The sentence that ends a download in vain."""
    going_on = f" {kept:,} bytes are kept, and the next try goes on from there." if kept else ""
    return (
        f"file.bin: cannot be fetched. {reasons}.{going_on} Try again later, or fetch it by hand "
        f"({len(BODY):,} bytes, {HASH}) and put it at {place}."
    )


# ------------------------------------------------------------------------------ what goes well


def test_a_file_comes_whole_and_is_not_fetched_twice(site: Site, place: Path) -> None:
    file, notes = remote(site.add("a", Page(BODY))), Notes()
    assert fetch(file, place, QUICK, notes) == place
    assert whole(place)
    assert notes.began == [("fetching file.bin", 0, 100_000)]
    assert notes.moves[-1] == 100_000
    fetch(file, place, QUICK)
    assert len(site.requests) == 1


@pytest.mark.parametrize("kind", ["sha256", "sha1", "md5"])
def test_every_kind_of_hash(site: Site, place: Path, kind: str) -> None:
    digest = hashlib.new(kind, BODY).hexdigest().upper()
    fetch(remote(site.add("a", Page(BODY)), of=f"{kind}:{digest}"), place, QUICK)
    assert whole(place)


@pytest.mark.parametrize("chunked", [False, True])
def test_a_file_of_unknown_size_and_hash(site: Site, place: Path, chunked: bool) -> None:
    fetch(remote(site.add("a", Page(BODY, chunked=chunked)), size=None, of=None), place, QUICK)
    assert whole(place)


def test_redirects_are_followed(site: Site, place: Path) -> None:
    site.add("there", Page(BODY))
    moved = site.add("here", Page(b"", status=301, location="/there"))
    fetch(remote(moved), place, QUICK)
    assert whole(place)


# ------------------------------------------------------------------------------ what breaks off


def test_a_break_goes_on_at_the_byte(site: Site, place: Path) -> None:
    page = Page(BODY, etag='"one"', breaks=[30_000, 20_001])
    fetch(remote(site.add("a", page)), place, QUICK)
    assert whole(place)
    assert site.requests == [
        ("/a", None, None),
        ("/a", "bytes=30000-", '"one"'),
        ("/a", "bytes=50001-", '"one"'),
    ]


def test_the_next_call_goes_on_at_the_byte(site: Site, place: Path) -> None:
    file = remote(site.add("a", Page(BODY, breaks=[40_000, 0, 0])))
    reason = f"{file.addresses[0]}: sends nothing"
    assert refusal(place, file) == unable(reason, file, place, kept=40_000)
    assert partial_path(place).read_bytes() == BODY[:40_000]
    notes = Notes()
    fetch(file, place, QUICK, notes)
    assert whole(place)
    assert site.ranges()[-1] == "bytes=40000-"
    assert notes.began == [("fetching file.bin", 40_000, 100_000)]


def test_the_next_address_goes_on_where_one_stalls(site: Site, place: Path) -> None:
    stalls = site.add("a", Page(BODY, etag='"a"', stalls=[70_000]))
    notes = Notes()
    fetch(remote(stalls, site.add("b", Page(BODY, etag='"b"'))), place, IMPATIENT, notes)
    assert whole(place)
    assert site.requests[1:] == [("/b", "bytes=70000-", None)]  # a's ETag says nothing to b
    host = f"127.0.0.1:{site.server_port}"
    assert notes.lines == [f"{host}: stalled for 0.5 s; trying {host}"]


def test_a_trickle_is_a_stall(site: Site, place: Path) -> None:
    slow = site.add("a", Page(BODY, trickle=0.02))
    settings = DownloadSettings(stall_seconds=0.5, slowest=1000, rounds=1)
    begun = time.monotonic()
    fetch(remote(slow, site.add("b", Page(BODY))), place, settings)
    assert whole(place)
    assert time.monotonic() - begun < 10  # all of it would take half an hour


def test_a_server_that_never_answers(site: Site, place: Path) -> None:
    file = remote(site.add("a", Page(BODY, stalls=[0])))
    assert refusal(place, file, IMPATIENT) == unable(
        f"{file.addresses[0]}: stalled for 0.5 s", file, place
    )


OK = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("page", "reason"),
    [
        (Page(b"", raw=OK + b"X-Slow: ", drip=b"a"), "no answer for 0.5 s"),
        (Page(b"", raw=b"", drip=b"HTTP/1.1 100 Continue\r\n\r\n"), "no answer for 0.5 s"),
        (
            Page(b"", raw=OK + b"Transfer-Encoding: chunked\r\n\r\n5;", drip=b"x"),
            "stalled for 0.5 s",
        ),
    ],
)
def test_a_trickle_in_what_stands_before_the_bytes_is_a_stall(
    site: Site, place: Path, page: Page, reason: str
) -> None:
    """Each byte would begin a socket's own timeout anew."""
    file = remote(site.add("slow", page))
    begun = time.monotonic()
    assert refusal(place, file, IMPATIENT) == unable(f"{file.addresses[0]}: {reason}", file, place)
    assert time.monotonic() - begun < 5
    fetch(remote(*file.addresses, site.add("good", Page(BODY))), place, IMPATIENT)
    assert whole(place)


def test_the_page_that_comes_with_a_redirect_is_not_read(site: Site, place: Path) -> None:
    site.add("there", Page(BODY))
    head = b"HTTP/1.1 302 Found\r\nLocation: /there\r\nContent-Length: 9999999\r\n\r\n"
    fetch(remote(site.add("here", Page(b"", raw=head, drip=b"endless"))), place, QUICK)
    assert whole(place)


def test_addresses_are_asked_again_after_a_pause(site: Site, place: Path) -> None:
    busy = Page(BODY, status=503)
    address = site.add("a", busy)

    class Repair(Notes):
        def say(self, line: str) -> None:
            super().say(line)
            busy.status = 200

    notes = Repair()
    settings = DownloadSettings(rounds=2, pause_seconds=0.01)
    fetch(remote(address), place, settings, notes)
    assert whole(place)
    assert notes.lines == ["file.bin: trying again in 0.01 s"]


def test_of_a_partial_file_longer_than_the_file_nothing_is_used(site: Site, place: Path) -> None:
    place.parent.mkdir()
    partial_path(place).write_bytes(OTHER + b"more")
    fetch(remote(site.add("a", Page(BODY))), place, QUICK)
    assert whole(place)
    assert site.ranges() == [None]


@given(st.lists(st.integers(1, 5000), max_size=6), st.booleans(), st.booleans(), st.booleans())
def test_whatever_breaks_the_file_is_whole(
    tmp_path_factory: pytest.TempPathFactory,
    breaks: list[int],
    ranges: bool,
    known_size: bool,
    known_hash: bool,
) -> None:
    body = BODY[:20_000]
    digest = f"sha256:{hashlib.sha256(body).hexdigest()}" if known_hash else None
    place = tmp_path_factory.mktemp("broken") / "file.bin"
    settings = DownloadSettings(tries=10, progress_bytes=1, pause_seconds=0.0, rounds=1)
    with serving() as site:
        page = Page(body, etag='"one"', ranges=ranges, breaks=breaks)
        size = len(body) if known_size else None
        fetch(RemoteFile("file.bin", (site.add("a", page),), size, digest), place, settings)
    assert whole(place, body)


# ------------------------------------------------------------------------------ what lies


def test_a_server_without_ranges_starts_over(site: Site, place: Path) -> None:
    fetch(remote(site.add("a", Page(BODY, ranges=False, breaks=[30_000]))), place, QUICK)
    assert whole(place)
    assert site.ranges() == [None, "bytes=30000-"]


@pytest.mark.parametrize("if_range", [True, False])
@pytest.mark.parametrize("digest", [HASH, None])
def test_a_file_that_changes_between_parts_starts_over(
    site: Site, place: Path, if_range: bool, digest: str | None
) -> None:
    page = Page(OTHER, etag='"old"', if_range=if_range, breaks=[30_000, 0, 0])
    file = remote(site.add("a", page), of=digest)
    refusal(place, file)
    page.body, page.etag, page.breaks = BODY, '"new"', []
    fetch(file, place, QUICK)
    assert whole(place)


def test_without_a_hash_parts_of_two_addresses_are_never_joined(site: Site, place: Path) -> None:
    stalls = site.add("a", Page(OTHER, etag='"a"', stalls=[70_000]))
    fetch(remote(stalls, site.add("b", Page(BODY)), of=None), place, IMPATIENT)
    assert whole(place)
    assert site.ranges() == [None, None]


def test_a_joint_that_does_not_fit_is_fetched_once_more_from_zero(site: Site, place: Path) -> None:
    stalls = site.add("a", Page(OTHER, stalls=[70_000]))
    fetch(remote(stalls, site.add("b", Page(BODY))), place, IMPATIENT)
    assert whole(place)
    assert site.ranges() == [None, "bytes=70000-", None]


@pytest.mark.parametrize("shift", [1, 10])
def test_a_range_that_begins_elsewhere_is_not_used(site: Site, place: Path, shift: int) -> None:
    fetch(remote(site.add("a", Page(BODY, shift=shift, breaks=[30_000]))), place, QUICK)
    assert whole(place)
    assert site.ranges() == [None, "bytes=30000-", None]


def test_a_server_that_has_no_more_is_left_for_the_next(site: Site, place: Path) -> None:
    place.parent.mkdir()
    partial_path(place).write_bytes(BODY[:60_000])
    file = remote(site.add("a", Page(BODY[:50_000])), site.add("b", Page(BODY)))  # 416 from a
    fetch(file, place, QUICK)
    assert whole(place)
    assert site.ranges() == ["bytes=60000-", "bytes=60000-"]


def test_a_server_that_has_no_more_of_a_file_of_unknown_size(site: Site, place: Path) -> None:
    place.parent.mkdir()
    partial_path(place).write_bytes(OTHER)
    fetch(remote(site.add("a", Page(BODY)), size=None), place, QUICK)
    assert whole(place)
    assert site.ranges() == ["bytes=100000-", None]


@pytest.mark.parametrize(
    ("page", "reason"),
    [
        (Page(BODY, length=99_999), "serves 99,999 bytes, expected 100,000"),
        (Page(BODY, length=100_001), "serves 100,001 bytes, expected 100,000"),
        (Page(BODY + b"more", chunked=True), "sends more than 100,000 bytes"),
        (Page(BODY, kind="text/html"), "sends an HTML page in place of the file"),
        (
            Page(b"\n <!DOCTYPE html><html>Gone".ljust(100_000)),
            "sends an HTML page in place of the file",
        ),
        (Page(b"", status=404), "404 Not Found"),
        (Page(b"", status=403), "403 Forbidden"),
        (Page(b"", raw=b"HTTP/1.1 404 \x1b[2J\x1b[31mpwned\r\n\r\n"), "404 Not Found"),
        (Page(b"", raw=b"HTTP/1.1 499 \x1b[2J\r\n\r\n"), "499"),
        (Page(b"", raw=b"HTTP/1.1 204 \x1b[2J\r\n\r\n"), "204 No Content, which was not asked for"),
        (Page(b"", raw=b"\x1b[2J\x1b[31mpwned\r\n"), "does not speak HTTP (BadStatusLine)"),
        (Page(OTHER), f"has sha256 {OTHER_HASH}, expected {HASH.removeprefix('sha256:')}"),
        (
            Page(b"", status=302, location="file:///etc/hostname"),
            "302 Found, to where nothing can be fetched",
        ),
        (
            Page(b"", status=302, location="ftp://127.0.0.1/file"),
            "redirects to ftp://127.0.0.1/file, which is neither http nor https",
        ),
    ],
)
def test_a_bad_address_is_refused_and_the_next_one_asked(
    site: Site, place: Path, page: Page, reason: str
) -> None:
    bad = remote(site.add("bad", page))
    assert refusal(place, bad) == unable(f"{bad.addresses[0]}: {reason}", bad, place)
    assert not partial_path(place).exists()
    fetch(remote(*bad.addresses, site.add("good", Page(BODY))), place, QUICK)
    assert whole(place)


def test_a_length_that_is_never_reached(site: Site, place: Path) -> None:
    file = remote(site.add("a", Page(BODY[:80_000], length=100_000)))
    reason = f"{file.addresses[0]}: 416 Requested Range Not Satisfiable"
    assert refusal(place, file) == unable(reason, file, place, kept=80_000)
    page = site.pages["a"]
    page.ranges = False  # it sends all it has again and again
    site.requests.clear()
    reason = f"{file.addresses[0]}: broke off after 80,000 of 100,000 bytes"
    assert refusal(place, file) == unable(reason, file, place, kept=80_000)
    assert len(site.requests) == QUICK.tries


def test_a_page_in_place_of_the_rest_does_not_cost_what_has_come(site: Site, place: Path) -> None:
    page = Page(b"<html>Gone</html>".ljust(100_000), ranges=False)
    stalls, gone = site.add("a", Page(BODY, stalls=[70_000])), site.add("b", page)
    fetch(remote(stalls, gone, site.add("c", Page(BODY))), place, IMPATIENT)
    assert whole(place)
    assert site.ranges() == [None, "bytes=70000-", "bytes=70000-"]


def test_a_file_of_unknown_size_has_a_limit(site: Site, place: Path) -> None:
    settings = DownloadSettings(rounds=1, most_bytes=99_999)
    said = refusal(place, remote(site.add("a", Page(BODY, chunked=True)), size=None), settings)
    assert (
        "/a: sends more than 99,999 bytes. Try again later, or fetch it by hand (size not" in said
    )


@pytest.mark.parametrize("known", [100_000, None])
def test_a_stated_length_keeps_to_the_limit_too(site: Site, place: Path, known: int | None) -> None:
    settings = DownloadSettings(rounds=1, most_bytes=99_999)
    file = remote(site.add("a", Page(BODY)), size=known)
    if known is None:
        assert (
            f"{file.addresses[0]}: serves 100,000 bytes, more than the 99,999 that are taken of a "
            "file of unknown size."
        ) in refusal(place, file, settings)
        assert not partial_path(place).exists()
    else:  # the limit is of what nobody knows
        fetch(file, place, settings)
        assert whole(place)


def test_a_stated_length_that_the_disk_has_no_room_for(site: Site, place: Path) -> None:
    settings = DownloadSettings(rounds=1, most_bytes=10**19, named_by="a prayer")
    file = remote(site.add("a", Page(BODY, length=10**18)), size=None)
    said = refusal(place, file, settings)
    assert said.startswith(f"{place.parent}: file.bin needs 1000000000.0 GB, and ")
    assert said.endswith(" GB more, or name a folder on another disk with a prayer.")
    assert not partial_path(place).exists()


def test_from_https_to_http_is_refused(tmp_path: Path) -> None:
    from email.message import Message
    from io import BytesIO
    from urllib.request import Request

    from detkit.connection import RefusedError, _CarefulRedirects

    follow = _CarefulRedirects().redirect_request
    answer = (BytesIO(), 302, "Found", Message())
    with pytest.raises(RefusedError) as caught:
        follow(Request("https://a.example/file"), *answer, "http://b.example/file")
    assert str(caught.value) == (
        "redirects from https to http://b.example/file, which is not encrypted"
    )
    assert follow(Request("http://a.example/file"), *answer, "https://b.example/file") is not None


@pytest.mark.parametrize(
    "address", ["file:///etc/hostname", "ftp://127.0.0.1/file", "/etc/hostname", "data:,hello"]
)
def test_other_schemes_are_refused(place: Path, address: str) -> None:
    file = remote(address)
    assert refusal(place, file) == unable(f"{address}: is neither http nor https", file, place)


def test_an_address_where_nobody_listens(site: Site, place: Path) -> None:
    gone = unreachable()
    file = remote(gone)
    assert refusal(place, file) == unable(f"{gone}: Connection refused", file, place)
    fetch(remote(gone, site.add("a", Page(BODY))), place, QUICK)
    assert whole(place)


# ------------------------------------------------------------------------------ this machine


def test_offline_says_what_to_fetch_and_where_to_put_it(
    site: Site, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DETKIT_OFFLINE", "1")
    file = remote(site.add("a", Page(BODY)), site.address("b"))
    assert refusal(place, file) == (
        "file.bin: DETKIT_OFFLINE is set, so nothing is fetched. Unset it, or fetch it by hand "
        f"(100,000 bytes, {HASH}) from {site.address('a')} or {site.address('b')} and put it at "
        f"{place}."
    )
    assert not site.requests
    place.write_bytes(BODY)  # as that sentence says
    assert fetch(file, place, QUICK) == place
    monkeypatch.setenv("DETKIT_OFFLINE", "0")
    assert not is_offline()


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (BODY[:-1], "has 99,999 bytes, expected 100,000"),
        (OTHER, f"has sha256 {OTHER_HASH}, expected {HASH.removeprefix('sha256:')}"),
    ],
)
def test_another_file_in_its_place_is_left_there(
    site: Site, place: Path, body: bytes, problem: str
) -> None:
    place.parent.mkdir()
    place.write_bytes(body)
    for look in (fetch, lambda file, path: check_file(path, file)):
        with pytest.raises(DetkitError) as caught:
            look(remote(site.add("a", Page(BODY))), place)
        assert str(caught.value) == (
            f"{place}: {problem}. It is not file.bin, or not all of it; remove it or put the "
            "right file in its place."
        )
    assert place.read_bytes() == body
    assert not site.requests


def test_too_little_room_is_said_before_the_first_byte(site: Site, place: Path) -> None:
    said = refusal(place, remote(site.add("a", Page(BODY)), size=10**18))
    assert said.startswith(f"{place.parent}: file.bin needs 1000000000.0 GB, and ")
    assert said.endswith(" GB more, or name a folder on another disk with --out.")
    assert not site.requests


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_full_disk_gets_a_sentence(
    site: Site, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = partial_path(place)
    real = Path.open

    def full(path: Path, mode: str = "r", **rest: int) -> object:
        return real(Path("/dev/full") if path == part else path, mode, **rest)

    monkeypatch.setattr(Path, "open", full)
    assert refusal(place, remote(site.add("a", Page(BODY)))) == (
        f"{part}: the disk is full. What has come is kept; make room, and the same command goes "
        "on from there."
    )


def test_a_lock_that_cannot_be_made_gets_a_sentence(site: Site, place: Path) -> None:
    lock = place.with_name(f".{place.name}.lock")
    lock.mkdir(parents=True)
    said = refusal(place, remote(site.add("a", Page(BODY))))
    assert said == f"{lock}: cannot be made (Is a directory)."


def _fetch_at_once(file: RemoteFile, place: Path, start: object) -> None:
    start.wait()  # type: ignore[attr-defined]
    fetch(file, place, QUICK)


def test_of_two_processes_one_fetches(site: Site, place: Path) -> None:
    file = remote(site.add("a", Page(BODY)))
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(2)
    both = [context.Process(target=_fetch_at_once, args=(file, place, start)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(60)
    assert [process.exitcode for process in both] == [0, 0]
    assert whole(place)
    assert len(site.requests) == 1


@pytest.mark.parametrize(
    ("size", "words"),
    [(0, "0 bytes"), (999, "999 bytes"), (451_020_800, "451 MB"), (19_336_861_798, "19.3 GB")],
)
def test_sizes_in_words(size: int, words: str) -> None:
    assert in_words(size) == words


def test_a_hash_of_an_unknown_kind_is_a_mistake_in_the_table() -> None:
    with pytest.raises(ValueError, match="no hash of kind 'crc32'") as caught:
        RemoteFile("file.bin", (), 1, "crc32:00")
    assert str(caught.value) == ("file.bin: no hash of kind 'crc32'; known: sha256, sha1, md5.")
