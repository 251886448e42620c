from __future__ import annotations

import logging
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from PIL import Image, ImageFont

from detkit import fonts
from detkit.detections import Detections
from detkit.drawing import PALETTE, draw

GREY = torch.full((3, 120, 160), 128, dtype=torch.uint8)


@pytest.fixture(autouse=True)
def nothing_remembered() -> Iterator[None]:
    fonts._readable.cache_clear()
    fonts._with_letters.cache_clear()
    yield
    fonts._readable.cache_clear()
    fonts._with_letters.cache_clear()


@pytest.fixture
def no_other_fonts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without fonts of its own, such as a container."""
    from matplotlib.font_manager import fontManager

    monkeypatch.setattr(fontManager, "ttflist", [])


def picture(name: str, label: int = 0) -> bytes:
    names = (*("x",) * label, name)
    box = torch.tensor([[20.0, 40.0, 120.0, 100.0]])
    found = Detections(box, torch.tensor([0.9]), torch.tensor([label]), names)
    return draw(GREY, found).permute(1, 2, 0).numpy().tobytes()


@pytest.mark.parametrize(("one", "other"), [("é", "è"), ("кот", "дом"), ("γάτα", "σκύλος")])
@pytest.mark.usefixtures("no_other_fonts")
def test_names_of_other_alphabets_are_readable(one: str, other: str) -> None:
    """As DejaVu Sans, which is installed with matplotlib, writes them."""
    path = fonts.find_font(one)
    assert path is not None
    assert path.endswith("DejaVuSans.ttf")
    masks = [np.asarray(ImageFont.truetype(path, 20).getmask(text)) for text in (one, other)]
    assert masks[0].tobytes() != masks[1].tobytes()
    assert picture(one) != picture(other)
    assert fonts.readable((one, other)) == (one, other)


@pytest.mark.usefixtures("no_other_fonts")
def test_names_that_no_font_can_write_are_told_apart_by_number(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, logger="detkit.fonts")
    names = ("cat", "汽", "车")
    assert fonts.readable(names) == ("cat", "#1", "#2")
    fonts.readable(names)  # the next picture says nothing more
    assert [record.getMessage() for record in caplog.records] == [
        "no font on this machine has the letters of these class names, so pictures show their "
        "numbers: #1 汽, #2 车. Install one that has them, such as Noto Sans CJK."
    ]
    assert picture("汽", 1) != picture("车", 2)  # one colour each, but the texts differ as well
    same_colour = len(PALETTE)
    assert picture("汽", 0) != picture("汽", same_colour)


def test_a_font_that_has_only_frames_is_none() -> None:
    """matplotlib carries one that draws the same kind of frame for any letter."""
    path = fonts.find_font("\ufdd0汽")
    assert path is None or "LastResort" not in path


def test_english_names_look_as_before() -> None:
    (font,) = fonts.fonts_for(["traffic light 0.97"], 12)
    own = ImageFont.load_default(size=12)
    assert isinstance(own, ImageFont.FreeTypeFont)
    assert font.getname() == own.getname()
    ink = [np.asarray(each.getmask("traffic light 0.97")).tobytes() for each in (font, own)]
    assert ink[0] == ink[1]


def test_a_font_of_the_machine_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-in for a machine's font of another script is one of matplotlib's own."""
    from matplotlib import font_manager

    stix = font_manager.findfont("STIXGeneral")
    entry = next(e for e in font_manager.fontManager.ttflist if e.fname == stix)
    monkeypatch.setattr(font_manager.fontManager, "ttflist", [entry])
    letter = "\u210a"  # in STIX, in neither of the fonts that come first
    assert fonts.find_font(letter) == stix
    assert fonts.families(["cat", letter]) == ["sans-serif", "STIXGeneral"]


def test_accents_that_stand_alone_are_joined_first() -> None:
    assert fonts.find_font("cafe\u0301") == fonts.find_font("caf\u00e9")


def test_a_picture_with_a_name_of_another_alphabet_shows_no_frame() -> None:
    missing = np.asarray(ImageFont.load_default(size=20).getmask("кот")).tobytes()
    (font,) = fonts.fonts_for(["кот"], 20)
    assert np.asarray(font.getmask("кот")).tobytes() != missing
    assert isinstance(Image.frombytes("RGB", (160, 120), picture("кот")), Image.Image)
