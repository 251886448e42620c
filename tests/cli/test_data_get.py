"""The data commands as typed, and what a terminal shows of a download."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from detkit.cli import data, data_get
from detkit.cli import main as detkit_main
from detkit.cli.ending import INTERRUPTED
from detkit.engine.console_watch import ConsoleWatch
from tests.test_imports import HEAVY, modules_after


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DETKIT_OFFLINE", "1")  # no test here may reach the network


def test_data_commands_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert detkit_main(["data"]) == 0
    said = capsys.readouterr().out
    assert all(f"\n  {name} " in said for name in ("check", "convert", "get"))
    assert data.main(["gte"]) == 2
    assert capsys.readouterr().err == "detkit data: no command 'gte'. Did you mean 'get'?\n"


def test_without_a_name_the_known_datasets_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert detkit_main(["data", "get"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["voc2007", "voc2012", "coco2017", "bccd"]
    assert lines[1] == (
        "voc2012   PASCAL VOC 2012: 17,125 images, 11,540 of them trainval, 20 classes, 2.0 GB to "
        "fetch; images under the Flickr terms of use"
    )


def test_an_unknown_name_gets_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert data_get.main(["voc207"]) == 2
    assert capsys.readouterr().err == (
        "detkit data get: no dataset named 'voc207'. Did you mean 'voc2007'?\n"
    )


def test_offline_ends_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert data_get.main(["bccd", "--out", str(tmp_path)]) == 2
    address = "https://github.com/Shenggan/BCCD_Dataset/archive/refs/tags/v1.0.zip"
    assert capsys.readouterr().err == (
        "detkit data get: bccd: DETKIT_OFFLINE is set, so nothing is fetched. Unset it, or fetch "
        f"it by hand (size not known, hash not known) from {address} and put it at "
        f"{tmp_path}/downloads/BCCD_Dataset-1.0.zip. Or say --from FILE for each.\n"
    )


def test_ctrl_c_ends_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*words: object, **named: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("detkit.data.get.get_dataset", interrupt)
    assert data_get.main(["voc2007", "--out", str(tmp_path)]) == INTERRUPTED
    assert capsys.readouterr().err == (
        "detkit data get: stopped. The same command goes on from here.\n"
    )


@pytest.mark.parametrize("words", [["get", "--help"], ["get", "--no-such-flag"], ["--help"]])
def test_help_and_usage_errors_import_nothing_heavy(words: list[str]) -> None:
    code = (
        "from detkit.cli import main\n"
        f"try:\n    main(['data', *{words}])\nexcept SystemExit:\n    pass"
    )
    assert not modules_after(code) & set(HEAVY)


def test_a_folder_that_cannot_be_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / ("x" * 300)
    assert data_get.main(["bccd", "--out", str(out)]) == 2
    assert capsys.readouterr().err == (
        f"detkit data get: {out}: cannot be used (File name too long). Name a shorter path. "
        "The same command goes on from here.\n"
    )


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_log_gets_a_line_at_the_start_and_one_at_the_end(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with ConsoleWatch() as watch:
        watch.begin("fetching a.tar", 500_000, 2_000_000)
        watch.move(1_000_000)
        watch.say("https://a.example/a.tar: 404 Not Found")
        watch.move(2_000_000)
        watch.end()
    assert capsys.readouterr().err.splitlines() == [
        "fetching a.tar (2 MB), 500 kB of it are there",
        "https://a.example/a.tar: 404 Not Found",
        "fetching a.tar: done, 2 MB in 0 s",
    ]


def test_a_terminal_gets_a_bar_that_goes_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    terminal = _Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with ConsoleWatch() as watch:
        watch.begin("fetching [a].tar", 0, 2_000_000)
        watch.move(1_000_000)
        watch.say("https://a.example/[a].tar: 404 Not Found")
        watch.move(2_000_000)
        watch.end()
        watch.begin("unpacking [a].tar", 0, None)
    shown = terminal.getvalue()
    assert "fetching [a].tar" in shown
    assert "https://a.example/[a].tar: 404 Not Found\n" in shown
    assert "fetching [a].tar: done, 2 MB in 0 s\n" in shown
    assert shown.endswith("\x1b[2K")  # the last bar's line is cleared, though nothing ended it
