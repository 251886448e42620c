"""Every command ends in the same way: an exit code, and one line that says why."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from detkit.cli.ending import ended
from detkit.errors import ConfigError


def _raise(problem: BaseException) -> Callable[[], int]:
    def work() -> int:
        raise problem

    return work


@pytest.mark.parametrize(("returned", "code"), [(None, 0), (0, 0), (2, 2), (130, 130)])
def test_work_that_ends_well_decides_the_code(
    returned: int | None, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended("train", lambda: returned) == code
    assert capsys.readouterr() == ("", "")


def test_an_error_of_ours_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended("data get", _raise(ConfigError("x: wrong. Mend it.")), left="Not said.") == 2
    assert capsys.readouterr() == ("", "detkit data get: x: wrong. Mend it.\n")


def test_ctrl_c_says_what_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended("train", _raise(KeyboardInterrupt()), left="The last checkpoint is whole.") == 130
    expected = "detkit train: stopped. The last checkpoint is whole.\n"
    assert capsys.readouterr() == ("", expected)


def test_a_file_that_cannot_be_opened_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / ("x" * 300)

    def work() -> None:
        path.read_text()

    assert ended("eval", work) == 2
    expected = f"detkit eval: {path}: cannot be used (File name too long). Name a shorter path.\n"
    assert capsys.readouterr() == ("", expected)


def test_a_full_disk_names_the_place_it_was_told(capsys: pytest.CaptureFixture[str]) -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # a write knows no file's name
    assert ended("detect", _raise(full), left="The rest is whole.", place=Path("out")) == 2
    expected = (
        "detkit detect: out: cannot be used (No space left on device). "
        "Free some space, or take another disk. The rest is whole.\n"
    )
    assert capsys.readouterr() == ("", expected)


def test_a_reason_without_a_number_is_passed_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended("detect", _raise(OSError("encoder error -2"))) == 2
    expected = (
        "detkit detect: a file: cannot be used (encoder error -2). "
        "Check that it is there and can be used.\n"
    )
    assert capsys.readouterr() == ("", expected)


def test_a_fault_of_ours_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        ended("train", _raise(ZeroDivisionError()))
