"""Files appear whole or not at all; folders that cannot be made get a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from detkit.errors import DetkitError
from detkit.files import leaves_folder, make_folder, whole_file, write_atomically


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
        ("a" * 1025, True),
    ],
)
def test_names_that_leave_the_folder_or_are_none(name: str, leaves: bool) -> None:
    assert leaves_folder(name) == leaves
