from __future__ import annotations

from pathlib import Path

import pytest

from detkit.cli.measuring import ticker
from tests.cli.measured import figures_of

pytestmark = pytest.mark.usefixtures("cache")


def test_a_second_time_comes_from_the_cache(
    tmp_path: Path, run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(run_folder), "--speed-images", "2"]
    first = figures_of(words, tmp_path)
    said = capsys.readouterr()
    assert said.err == "measuring tiny_run on 3 images\ntiming 22 images, one by one\n"
    second = figures_of(words, tmp_path)
    said = capsys.readouterr()
    when = second["measured"]
    assert said.err == f"tiny_run: detections of {when}, from the cache\n"
    note = f"tiny_run: detections and speed of {when}, from the cache; --no-cache measures again."
    assert note in said.out or second["speed_measured"] != when  # the minute may turn between
    about_time = ("measured", "speed_measured")
    assert {k: v for k, v in first.items() if k not in about_time} == {
        k: v for k, v in second.items() if k not in about_time
    }
    assert (first["measured"], first["speed_measured"]) == (None, None)


def test_what_the_cache_lacks_is_measured(
    tmp_path: Path, run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No speed was kept: it is timed now. Another number of images: again. Then it is kept."""
    assert "fps" not in figures_of([str(run_folder), "--no-speed"], tmp_path)
    two = figures_of([str(run_folder), "--speed-images", "2"], tmp_path)
    assert (two["measured"] is not None, two["speed_measured"]) == (True, None)
    three = figures_of([str(run_folder), "--speed-images", "3"], tmp_path)
    assert three["speed_measured"] is None
    again = figures_of([str(run_folder), "--speed-images", "3"], tmp_path)
    assert again["speed_measured"] is not None
    assert again["fps"] == three["fps"]
    assert capsys.readouterr().err.count("measuring tiny_run") == 1
    assert "fps" not in figures_of([str(run_folder), "--no-speed"], tmp_path)


def test_no_cache_measures_again_and_keeps_that(
    tmp_path: Path, run_folder: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(run_folder), "--no-speed"]
    figures_of(words, tmp_path)
    (kept,) = (cache / "detections").iterdir()
    before = kept.stat().st_ino
    assert figures_of([*words, "--no-cache"], tmp_path)["measured"] is None
    assert capsys.readouterr().err == "measuring tiny_run on 3 images\n" * 2
    assert kept.stat().st_ino != before


def test_a_broken_cache_is_measured_again(
    tmp_path: Path, run_folder: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(run_folder), "--no-speed"]
    first = figures_of(words, tmp_path)
    (kept,) = (cache / "detections").iterdir()
    kept.write_bytes(kept.read_bytes()[:100])
    assert figures_of(words, tmp_path) == first
    assert capsys.readouterr().err == "measuring tiny_run on 3 images\n" * 2


def test_a_cache_that_cannot_be_written_is_no_reason_to_stop(
    tmp_path: Path, run_folder: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache.write_text("a file where the folder should be")
    figures_of([str(run_folder), "--no-speed"], tmp_path)
    assert capsys.readouterr().err.splitlines()[1] == (
        f"{cache}: not writable (Not a directory), so these detections are not kept for the next "
        "time; DETKIT_CACHE names another folder."
    )


def test_the_model_may_select_otherwise(
    tmp_path: Path, run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = figures_of([str(run_folder), "--no-speed"], tmp_path)
    words = [str(run_folder), "--no-speed", "model.score_threshold=0.5", "model.input_size=96"]
    changed = figures_of(words, tmp_path)
    assert changed["detections"] < plain["detections"]
    assert (changed["input_size"], changed["score_threshold"]) == ([96, 96], 0.5)
    assert changed["changed"] == ["model.score_threshold=0.5", "model.input_size=96"]
    said = capsys.readouterr().out
    assert "tiny_run: measured with model.score_threshold=0.5, model.input_size=96." in said
    assert "Scores: from 0.5 up." in said
    assert changed["measured"] is None  # not what was kept of the plain one


def test_progress_in_a_log_is_a_line_every_half_minute(
    capsys: pytest.CaptureFixture[str],
) -> None:
    seconds = iter([0.0, 29.0, 31.0, 31.0, 60.0, 62.0, 62.0, 100.0])
    tick = ticker("cells", lambda: next(seconds))
    for done in (8, 16, 24, 32, 40):
        tick(done, 40)
    assert capsys.readouterr().err.splitlines() == [
        "cells: 16 of 40 images in 31 s, about 46 s left",
        "cells: 32 of 40 images in 62 s, about 16 s left",
    ]
