"""Files appear whole or not at all; folders that cannot be made get a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from detkit.errors import DetkitError
from detkit.files import (
    is_html,
    is_text,
    leaves_folder,
    make_folder,
    sha256_of,
    whole_file,
    write_atomically,
)


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "new" / "figures.json"
    write_atomically(path, "first\n")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "half \ud800")
    assert path.read_text() == "first\n"
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_that_cannot_be_made_gets_a_sentence(tmp_path: Path) -> None:
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    (tmp_path / "file").touch()
    with pytest.raises(DetkitError) as caught:
        make_folder(tmp_path / "file")
    assert str(caught.value) == (
        f"{tmp_path / 'file'}: is a file, but a folder is needed. Name another with --out."
    )
    with pytest.raises(DetkitError) as caught:
        make_folder(tmp_path / "file" / "inside")
    assert str(caught.value) == (
        f"{tmp_path / 'file' / 'inside'}: this folder cannot be made (Not a directory). "
        "Name another with --out."
    )


def test_a_picture_that_is_broken_off_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"before")

    def draw() -> None:
        with whole_file(path) as place:
            assert place.suffix == ".jpg"
            place.write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        draw()
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "leaves"),
    [
        ("a.jpg", False),
        ("deep/er/a b.jpg", False),
        ("..a/b..", False),
        ("\u00e9\u200d\u3000.jpg", False),
        ("../a", True),
        ("a\\..\\b", True),
        ("/a", True),
        ("C:a", True),
        ("a\0b", True),
        ("a\nb", True),
        ("a\x85b", True),
        ("a\u2028b", True),
        ("\ud800", True),
        ("a" * 255, False),
        ("a" * 256, True),
        ("b/" * 500, False),
        ("b/" * 513, True),
    ],
)
def test_names_that_leave_the_folder_or_are_none(name: str, leaves: bool) -> None:
    assert leaves_folder(name) == leaves


@pytest.mark.parametrize(
    "start",
    [
        b"\xef\xbb\xbf\r\n <!DOCTYPE HTML><html>",
        b"<HTML lang=en>",
        b"<script>top.location = '/'</script>",
        b"<body>Sign in</body>",
        b"<?xml version='1.0'?>\n<html xmlns='http://www.w3.org/1999/xhtml'>",
    ],
)
def test_web_pages_are_known(start: bytes) -> None:
    assert is_html(start)
    assert is_text(start)


@pytest.mark.parametrize(
    ("start", "text"),
    [
        (b'{"error": "quota exceeded"}', True),
        (b"<?xml version='1.0'?><annotation>", True),
        ("\u00fcber\n".encode(), True),
        (b"", False),
        (b"\0\0\0\0\2\0\0\0", False),  # darknet's
        (b"PK\3\4", False),
        (b"\x80\2\x8a\nl", False),  # a pickle
    ],
)
def test_other_files_are_no_web_pages(start: bytes, text: bool) -> None:
    assert not is_html(start)
    assert is_text(start) is text


def test_the_hash_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")  # FIPS 180-2, appendix B.1
    assert sha256_of(tmp_path / "abc") == (
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )
