"""Every command ends in the same way: an exit code, and one line that says why."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from detkit.cli.ending import ended, reader_may_leave
from detkit.detectors import build_detector
from detkit.errors import ConfigError
from detkit.weights.darknet import Header, write_darknet
from tests.engine.conftest import CONFIG
from tests.weights.cfgs import cfg_text

ROOT = Path(__file__).parents[2]


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


# --------------------------------------------------------------- when nobody reads any longer


def unread(words: Sequence[str], *, first: int = 0) -> tuple[int, str, str]:
    """Run a command whose reader leaves after ``first`` lines.

    Returns:
        Its exit code, what was read, and all of its error stream.
    """
    with subprocess.Popen(
        [sys.executable, *words],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        read = "".join(process.stdout.readline() for _ in range(first))
        process.stdout.close()
        said = process.stderr.read()
    return process.returncode, read, said


@pytest.mark.parametrize(
    "words",
    [
        ["-c", "import sys; from detkit.cli import main; sys.exit(main(['--help']))"],
        ["tools/zoo.py", "list"],
        ["tools/zoo.py", "list", "--json"],
        ["-u", "tools/zoo.py", "list"],
        ["tools/train.py", "--help"],
        ["tools/data.py", "check", "--help"],
    ],
    ids=" ".join,
)
def test_a_reader_who_leaves_is_no_error(words: list[str]) -> None:
    assert unread(words) == (0, "", "")


def test_an_error_keeps_its_code_and_its_line() -> None:
    code, _, said = unread(["tools/zoo.py", "get", "nothing_of_this_name"])
    assert code == 2
    assert said.startswith("detkit zoo get: ")
    assert said.count("\n") == 1


def test_a_conversion_is_whole_though_nobody_reads_of_it(tmp_path: Path) -> None:
    cfg, weights, out = tmp_path / "my.cfg", tmp_path / "my.weights", tmp_path / "out"
    cfg.write_text(cfg_text("yolov3-tiny", size=(64, 64), classes=3))
    torch.manual_seed(0)
    detector = build_detector({"name": "yolo_v3_tiny", "num_classes": 3, "input_size": 64})
    write_darknet(detector, weights, Header())
    words = ["tools/convert.py", str(weights), "--cfg", str(cfg), "--list", "--out", str(out)]
    code, read, said = unread(words, first=1)
    assert (code, said) == (0, "")
    assert read == "layer       filters    size             input                output\n"
    assert sorted(path.name for path in out.iterdir()) == ["model.json", "weights.safetensors"]
    assert len(json.loads((out / "model.json").read_text())["class_names"]) == 3


def test_a_training_goes_on_though_nobody_reads_of_it(tiny_voc: Path, tmp_path: Path) -> None:
    config, out = tmp_path / "small.yaml", tmp_path / "run"
    config.write_text(CONFIG.format(root=tiny_voc))
    words = ["tools/train.py", str(config), "--out", str(out), "--device", "cpu"]
    code, read, said = unread([*words, "train.iterations=3"], first=1)
    assert read
    assert (code, said) == (0, "")
    assert json.loads((out / "last" / "model.json").read_text())["step"] == 3


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
@pytest.mark.parametrize(
    ("words", "name"), [(["list"], "detkit zoo list"), (["--help"], "detkit")], ids=["list", "help"]
)
def test_an_output_on_a_full_disk_is_an_error(words: list[str], name: str) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "tools/zoo.py", *words],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr == (
        f"{name}: standard output: cannot be used (No space left on device). Free some space, or "
        "take another disk.\n"
    )


def test_streams_of_others_stay_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout, sys.stderr
    with reader_may_leave():
        assert (sys.stdout, sys.stderr) == before
        print("said")
    assert capsys.readouterr() == ("said\n", "")
