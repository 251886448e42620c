"""Names are data: nothing in one moves a cursor, breaks a line, turns it round or runs."""

from __future__ import annotations

import csv
import io
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from detkit.cli.ending import ended, reader_may_leave
from detkit.detections import Detections
from detkit.drawing import draw
from detkit.errors import DataError
from detkit.evaluation.html_page import escaped
from detkit.evaluation.table_files import no_formula
from detkit.fonts import plain_label, readable
from detkit.visible import LONGEST, visible, visible_lines, visible_name
from detkit.workflows.detect import in_words

HOSTILE = "a\x1b[2J\x1b[1A\r\n\x9b31m\u202egpj.exe\u2028\ufeff\x00\x7f\u2066\udcff"
SEEN = r"a\x1b[2J\x1b[1A\r\n\x9b31m\u202egpj.exe\u2028\ufeff\x00\x7f\u2066\udcff"
JOINED = "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645 \U0001f469\u200d\U0001f52c"


def is_seen(text: str) -> bool:
    """Whether it holds no control, half of a character or mark of direction (Unicode)."""
    turns = ("LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI", "BN")
    return not any(
        unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp")
        or (unicodedata.bidirectional(letter) in turns and letter not in "\u200c\u200d")
        or letter in "\u200e\u200f\u061c"
        for letter in text
    )


@given(st.text(st.characters()) | st.text(st.sampled_from(HOSTILE + JOINED)))
def test_what_is_shown_is_seen(text: str) -> None:
    assert is_seen(visible(text))
    assert visible(visible(text)) == visible(text)
    assert is_seen(visible_lines(text).replace("\n", "").replace("\t", ""))
    assert len(visible_name(text)) <= 10 * LONGEST


def test_names_of_any_language_stay_as_they_are() -> None:
    for name in (
        JOINED,
        "caf\u00e9",
        "\u732b",
        "C:\\new\\table",
        "100% \u00a0wide",
        "[red]",
        "$a$",
    ):
        assert visible(name) == visible_lines(name) == name
    assert visible(HOSTILE) == SEEN
    assert visible("x" * 10_000, 20) == "x" * 17 + "..."


def test_an_error_is_one_line_whatever_it_quotes(capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> None:
        raise DataError(f"{HOSTILE}: is no image. Take another.")

    assert ended("eval", work) == 2
    assert capsys.readouterr().err == f"detkit eval: {SEEN}: is no image. Take another.\n"


def test_whatever_is_printed_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "out.txt"
    with path.open("w", encoding="utf-8") as file:
        stream = io.TextIOWrapper(io.FileIO(file.fileno(), "w", closefd=False), encoding="utf-8")
        monkeypatch.setattr(sys, "stdout", stream)
        with reader_may_leave():
            print("two\nlines\tand", HOSTILE.replace("\n", ""), JOINED)
        stream.detach()
    seen = SEEN.replace(r"\n", "", 1)
    assert path.read_text(encoding="utf-8") == f"two\nlines\tand {seen} {JOINED}\n"


def test_on_a_terminal_progress_bars_can_be_drawn() -> None:
    kept = visible_lines(HOSTILE, terminal=True)
    assert [letter for letter in "\x1b\r\x9b\u202e\x00" if letter in kept] == ["\x1b", "\r"]


def test_words_tables_pictures_and_pages_show_names() -> None:
    boxes, one = torch.tensor([[1.0, 2.0, 30.0, 40.0]]), torch.ones(1)
    found = Detections(boxes, one, torch.tensor([0]), (HOSTILE,))
    assert in_words(found) == f"1 {visible_name(HOSTILE)}"
    assert draw(torch.zeros(3, 50, 50, dtype=torch.uint8), found).shape == (3, 50, 50)
    assert readable([HOSTILE, "dog"]) == (visible_name(HOSTILE), "dog")
    assert is_seen(escaped(f"<b>{HOSTILE}").replace("\n", ""))
    assert escaped("<b>\x1b") == r"&lt;b&gt;\x1b"


@pytest.mark.parametrize("name", ["$a", "$a$", r"\$x$", "$\\frac$", HOSTILE])
def test_a_plot_writes_a_name_and_no_mathematics(name: str) -> None:
    figure = Figure()
    axes = figure.subplots()
    axes.set_title(plain_label(name))
    axes.set_yticks([0], [plain_label(name)])
    axes.plot(np.zeros(2), label=plain_label(name))
    axes.legend()
    figure.savefig(io.BytesIO(), format="png")
    drawn, is_mathematics = axes.title._preprocess_math(axes.title.get_text())
    assert not is_mathematics
    assert drawn == visible(name)


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-x", "@sum", "\t=1", "\r=1", "=cmd|' /C calc'!A0"])
def test_a_cell_for_a_spreadsheet_is_no_formula(cell: str) -> None:
    assert no_formula(cell) == f"'{cell}"
    page = io.StringIO()
    csv.writer(page).writerow([no_formula(cell)])
    assert next(csv.reader(io.StringIO(page.getvalue(), newline="")))[0].startswith("'")
    for kept in (-1.5, 0, None, True, "1-2", "a=b", "", " =1"):
        assert no_formula(kept) is kept
