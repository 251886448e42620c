"""Every command ends in the same way: an exit code, and one line that says why."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

import detkit.cli.train as train_command
from detkit import system_errors
from detkit.cli.ending import ended, reader_may_leave
from detkit.detectors import build_detector
from detkit.errors import ConfigError
from detkit.files import whole_file, write_atomically
from detkit.signals import ctrl_c
from detkit.weights.darknet import Header, write_darknet
from tests.conftest import SMALL_CONFIG
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


@pytest.mark.parametrize(
    ("problem", "said"),
    [
        (
            OSError("encoder error -2"),
            "encoder error -2. The system does not say of which file.",
        ),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            "No space left on device. Free some space, or take another disk.",
        ),
        (
            OSError(errno.EMFILE, "Too many open files"),
            "Too many open files. Raise the limit of open files: ulimit -n 4096.",
        ),
        (
            OSError(errno.ENOMEM, "Cannot allocate memory"),
            "Cannot allocate memory. Close something else that needs it.",
        ),
        (OSError(), "OSError. The system does not say of which file."),
    ],
    ids=str,
)
def test_a_refusal_of_no_file_names_none(
    problem: OSError, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended("detect", _raise(problem)) == 2
    assert capsys.readouterr() == ("", f"detkit detect: {said}\n")


@pytest.mark.parametrize("problem", [ZeroDivisionError(), RuntimeError("sizes do not match")])
def test_a_fault_of_ours_is_not_hidden(problem: Exception) -> None:
    with pytest.raises(type(problem)):
        ended("train", _raise(problem))


# -------------------------------------------------------------------------------- memory, signals

TOO_MUCH = 1 << 46  # bytes


@pytest.mark.parametrize(
    ("work", "what"),
    [
        (lambda: bytearray(TOO_MUCH), "memory"),
        (lambda: np.empty(TOO_MUCH, np.uint8), "memory"),
        (lambda: torch.empty(TOO_MUCH, dtype=torch.uint8), "memory"),
        (lambda: cv2.resize(np.zeros((2, 2, 3), np.uint8), (2**30, 2**13)), "memory"),
        (_raise(torch.OutOfMemoryError("CUDA out of memory.")), "GPU memory"),
        (
            _raise(MemoryError("Caught MemoryError in DataLoader worker process 0.\nTrace")),
            "memory",
        ),
    ],
    ids=["python", "numpy", "torch", "opencv", "gpu", "worker"],
)
def test_memory_that_runs_out_is_one_sentence(
    work: Callable[[], object], what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    less = "ask for less at once: a smaller batch"
    assert ended("eval", lambda: bool(work()), left="The rest is whole.", less=less) == 2
    expected = (
        f"detkit eval: {what} ran out. Close something else that needs it, or ask for less at "
        "once: a smaller batch. The rest is whole.\n"
    )
    assert capsys.readouterr() == ("", expected)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_end_is_ctrl_c(
    number: signal.Signals, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = signal.signal(number, signal.SIG_DFL)  # these tests themselves may run under nohup

    def work() -> None:
        with whole_file(tmp_path / "figures.json") as place:
            place.write_text("half")
            os.kill(os.getpid(), number)
            time.sleep(60)

    try:
        assert ended("eval", work) == 130
        assert capsys.readouterr() == ("", "detkit eval: stopped.\n")
        assert list(tmp_path.iterdir()) == []
        assert signal.getsignal(number) == signal.SIG_DFL
    finally:
        signal.signal(number, before)


def test_a_hangup_that_was_ignored_stays_ignored() -> None:
    """As `nohup` starts a command: the terminal may be closed."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        asked = []

        def work() -> None:
            with ctrl_c() as stop_asked:
                os.kill(os.getpid(), signal.SIGHUP)
                asked.append(stop_asked())
                os.kill(os.getpid(), signal.SIGTERM)
                asked.append(stop_asked())

        assert ended("train", work) == 0
        assert asked == [False, True]
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_no_signals_are_taken_outside_the_main_thread(capsys: pytest.CaptureFixture[str]) -> None:
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(ended("eval", lambda: 0)))
    thread.start()
    thread.join()
    assert codes == [0]


def test_a_whole_checkpoint_is_named_only_where_there_is_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_command, "run", _raise_with(MemoryError()))
    out = tmp_path / "run"
    words = [str(tmp_path / "small.yaml"), "--out", str(out)]
    ran_out = (
        "detkit train: memory ran out. Close something else that needs it, or ask for less at "
        "once: train.micro_batches=2 or more, fewer data.workers, a smaller eval.batch_size, "
        "data.cache=none."
    )
    assert train_command.main(words) == 2
    assert capsys.readouterr().err == f"{ran_out}\n"
    for name in (".last.old", "fast1/last", "last"):
        (out / name).mkdir(parents=True)
        (out / name / "model.json").write_text("{}")
        assert train_command.main(words) == 2
        whole = f"The checkpoint in {out / name} is whole; --resume goes on from it."
        assert capsys.readouterr().err == f"{ran_out} {whole}\n"


def _raise_with(problem: BaseException) -> Callable[[object], int]:
    def work(args: object) -> int:
        raise problem

    return work


# ----------------------------------------------------------------------------- files have names


def test_a_write_that_fails_names_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The system's own error of it names none: here of a file that may not grow so large."""
    path, limits = tmp_path / "figures.json", resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        assert ended("eval", lambda: write_atomically(path, "x" * 2000)) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert capsys.readouterr().err == (
        f"detkit eval: {path}: cannot be used (File too large). Take a disk and a limit "
        "(ulimit -f) for larger files.\n"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("full", [False, True])
def test_a_picture_that_cannot_be_written_says_whether_the_disk_is_full(
    full: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(system_errors, "is_full", lambda folder: full)
    path = tmp_path / "wide.jpg"

    def work() -> None:
        with whole_file(path) as place:
            Image.new("RGB", (70_000, 8)).save(place)  # wider than a JPEG may be

    assert ended("detect", work) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"detkit detect: {path}: cannot be used (")
    assert ("No space left on device). Free some space, or take another disk.\n" in said) == full


def test_a_name_is_kept_that_the_system_gave(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def work() -> None:
        with whole_file(tmp_path / "copy") as place:
            place.write_bytes((tmp_path / "original").read_bytes())

    assert ended("convert", work) == 2
    assert capsys.readouterr().err == (
        f"detkit convert: {tmp_path / 'original'}: cannot be used (No such file or directory). "
        "Check the path.\n"
    )


def test_a_disk_is_full_where_nothing_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")
    for free, full in ((0, True), (4096, True), (1 << 30, False)):
        monkeypatch.setattr(shutil, "disk_usage", lambda path, free=free: usage._replace(free=free))
        assert system_errors.is_full(Path("/")) == full
    assert not system_errors.is_full(Path("/nowhere/at/all")) or not full


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
    config.write_text(SMALL_CONFIG.format(root=tiny_voc))
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


def test_what_is_printed_unbuffered_is_read_at_once() -> None:
    """As with `python -u` or PYTHONUNBUFFERED, which containers set."""
    code = (
        "import sys\nfrom detkit.cli.ending import reader_may_leave\n"
        "with reader_may_leave():\n    print('first', end='')\n    sys.stdin.readline()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-u", "-c", code],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert os.read(process.stdout.fileno(), 100) == b"first"
        process.communicate(b"go on\n")


def test_a_name_that_the_output_cannot_write_is_escaped() -> None:
    code = (
        "from detkit.cli.ending import reader_may_leave\n"
        "with reader_may_leave():\n    print('na\u00efve \u732b')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=True,
    )
    assert done.stdout == b"na\\xefve \\u732b\n"


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="terminals of POSIX")
def test_a_terminal_that_is_closed_is_no_error() -> None:
    code = (
        "import sys\nfrom detkit.cli.ending import reader_may_leave\n"
        "with reader_may_leave():\n    print('first')\n    sys.stdin.readline()\n"
        "    print('second', flush=True)\nsys.exit(7)"
    )
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=theirs,
        stderr=theirs,
    )
    assert os.read(ours, 5) == b"first"
    os.close(theirs)
    os.close(ours)
    process.communicate(b"go on\n")
    assert process.returncode == 7


def test_streams_of_others_stay_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout, sys.stderr
    with reader_may_leave():
        assert (sys.stdout, sys.stderr) == before
        print("said")
    assert capsys.readouterr() == ("said\n", "")
