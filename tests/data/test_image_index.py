"""Images found by a name that was written elsewhere: the one that fits best, or none."""

from __future__ import annotations

from pathlib import Path

import pytest

from detkit.data.image_index import ImageIndex

NAMES = ("a.png", "cam1/b.png", "cam2/b.png", "train/c.png", "val/c.png", "val/d.jpg", "val/d.png",
         "x/cam1/e.png", "y/cam1/e.png")  # fmt: skip


@pytest.fixture
def index(tmp_path: Path) -> ImageIndex:
    for name in NAMES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return ImageIndex(tmp_path)


@pytest.mark.parametrize(
    ("written", "foreign", "found"),
    [
        ("a.png", (), "a.png"),
        ("/home/me/a.png", (), "a.png"),
        ("C:\\data\\a.png", (), "a.png"),
        ("a", (), "a.png"),  # its ending left off
        ("a.jpg", (), None),
        ("A.png", (), None),
        ("b.png", (), None),  # two fit alike
        ("/data/cam2/b.png", (), "cam2/b.png"),
        ("cam3/b.png", (), None),
        ("c.png", ("val",), "train/c.png"),  # the other split's is another picture
        ("val/c.png", ("val",), "train/c.png"),
        ("c.png", ("train", "val"), None),
        ("y/cam1/e.png", (), "y/cam1/e.png"),
        ("cam1/e.png", (), None),
        ("", (), None),
        ("..", (), None),
        ("/", (), None),
    ],
)
def test_the_image_that_fits_best(
    index: ImageIndex, written: str, foreign: tuple[str, ...], found: str | None
) -> None:
    assert index.elsewhere(written, foreign) == found


def test_images_of_a_stem_come_with_the_usual_ending_first(index: ImageIndex) -> None:
    assert index.with_stem("val/d") == ["val/d.jpg", "val/d.png"]
    assert index.with_stem("d") == []
    assert "val/d.jpg" in index
    assert "d.jpg" not in index
