"""Two trainings never write to one folder; one that was killed is taken over, and that is said."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import filelock
import pytest

from detkit.engine.run_lock import HOLDER, LOCK, RunLock
from detkit.engine.train import train
from detkit.errors import DetkitError
from tests.engine.test_train import records_of, start, wait_for_step

TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"


def write_holder(folder: Path, pid: int, host: str = "") -> None:
    said = {"pid": pid, "host": host or socket.gethostname(), "since": "2026-01-02 03:04:05"}
    (folder / HOLDER).write_text(json.dumps(said))


def dead_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.mark.slow
def test_a_second_training_in_a_folder_is_refused_and_a_killed_one_taken_over(
    small_config: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    first = start(small_config, out, "train.iterations=100000")
    wait_for_step(out, 3)
    before = (out / "log.jsonl").read_text()
    for resume in (False, True):
        with pytest.raises(DetkitError) as caught:
            train(small_config, out, resume=resume)
        assert re.fullmatch(
            rf"{out}: another training writes here \(process {first.pid} on "
            rf"{re.escape(socket.gethostname())}, since {TIME}\)\. Wait for its end or stop it, or "
            r"train into another --out\.",
            str(caught.value),
        )
    assert (out / "log.jsonl").read_text().startswith(before)
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    with RunLock() as lock:
        (said,) = lock.take_existing([out])
    assert said.startswith(
        f"{out}: taken over from a training that did not end by itself (process {first.pid} on "
    )


def test_a_training_that_ends_lets_go(
    small_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """However it ends."""
    out = tmp_path / "run"
    train(small_config, out, ["train.iterations=1"])
    with pytest.raises(DetkitError):
        train(small_config, out, ["train.iterations=1"])  # holds a run already
    train(small_config, out, ["train.iterations=2"], resume=True)
    assert not (out / HOLDER).exists()
    assert "taken over" not in capsys.readouterr().out
    assert max(record["step"] for record in records_of(out)) == 2


def test_every_stage_has_a_lock_of_its_own(tmp_path: Path) -> None:
    folders = [tmp_path / "run", tmp_path / "run" / "rpn"]
    for folder in folders:
        folder.mkdir()
    with RunLock() as one:
        assert one.take_existing([*folders, tmp_path / "run" / "later"]) == []
        assert one.take_begun(folders) == []  # held already
        for folder in folders:
            with RunLock() as other, pytest.raises(DetkitError) as caught:
                other.take_existing([folder])
            assert f"(process {os.getpid()} on " in str(caught.value)
    with RunLock() as other:
        assert other.take_existing(folders) == []


def test_who_did_not_end_by_itself_is_named(tmp_path: Path) -> None:
    pid = dead_process()
    write_holder(tmp_path, pid)
    with RunLock() as lock:
        assert lock.take_existing([tmp_path]) == [
            f"{tmp_path}: taken over from a training that did not end by itself (process {pid} on "
            f"{socket.gethostname()}, since 2026-01-02 03:04:05)"
        ]
        assert json.loads((tmp_path / HOLDER).read_text())["pid"] == os.getpid()


def test_what_a_killed_training_left_running_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its loader processes hold what it held until they see that it is gone."""
    write_holder(tmp_path, dead_process())
    left = filelock.FileLock(tmp_path / LOCK)
    left.acquire()
    naps: list[float] = []

    def sleep(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 3:
            left.release()

    monkeypatch.setattr("detkit.engine.run_lock.time.sleep", sleep)
    with RunLock() as lock:
        assert len(lock.take_existing([tmp_path])) == 1
    assert len(naps) == 3


@pytest.mark.parametrize(
    "note",
    [
        b"",
        b"\0" * 80,
        b"[1]",
        b'{"pid": -1, "host": "a", "since": "b"}',
        b'{"pid": 1, "host": "a\\u001b[31m", "since": "b"}',
        b'{"pid": 1, "host": "' + b"a" * 2000 + b'", "since": "b"}',
    ],
)
def test_a_note_that_makes_no_sense_is_nobodys(note: bytes, tmp_path: Path) -> None:
    (tmp_path / HOLDER).write_bytes(note)
    held = filelock.FileLock(tmp_path / LOCK)
    with held, RunLock() as lock, pytest.raises(DetkitError) as caught:
        lock.take_existing([tmp_path])
    assert f"{tmp_path}: another training writes here (another process). Wait" in str(caught.value)


def test_a_run_that_began_while_another_read_its_data_is_left_alone(tmp_path: Path) -> None:
    """Both were to make the folder; the other was faster, and is at its end already."""
    (tmp_path / "last").mkdir()
    (tmp_path / "last" / "model.json").write_text("{}")
    with RunLock() as lock, pytest.raises(DetkitError) as caught:
        lock.take_begun([tmp_path])
    assert str(caught.value) == (
        f"{tmp_path}: another training has begun here in the meantime. Go on with that by "
        "--resume, or train into another --out."
    )


def test_a_start_that_fails_leaves_nothing_in_a_folder_that_was_there(
    small_config: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(DetkitError):
        train(small_config, out, ["model.backbone_weights=nowhere.pt"])
    assert not list(out.iterdir())
    with RunLock() as lock:
        lock.take_existing([out])
        lock.take_begun([out])
    assert [path.name for path in out.iterdir()] == [LOCK]


def test_the_run_folder_is_held_while_a_stage_is_trained(tmp_path: Path) -> None:
    run, stage = tmp_path / "run", tmp_path / "run" / "rpn"
    stage.mkdir(parents=True)
    with RunLock() as lock:
        lock.take_begun([run, stage])
        with RunLock() as other, pytest.raises(DetkitError, match="another training writes here"):
            other.take_existing([run])


def test_what_outlives_a_killed_training_for_long_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = dead_process()
    write_holder(tmp_path, pid)
    monkeypatch.setattr("detkit.engine.run_lock.LET_GO_SECONDS", 0.0)
    held = filelock.FileLock(tmp_path / LOCK)
    with held, RunLock() as lock, pytest.raises(DetkitError) as caught:
        lock.take_existing([tmp_path])
    assert str(caught.value) == (
        f"{tmp_path}: is still locked by a training that is gone (process {pid} on "
        f"{socket.gethostname()}, since 2026-01-02 03:04:05). End what it left running, or remove "
        f"{tmp_path / LOCK}."
    )


def test_a_file_system_without_locks_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(self: object, timeout: float) -> None:
        raise NotImplementedError

    monkeypatch.setattr(filelock.BaseFileLock, "acquire", none)
    with RunLock() as lock:
        assert lock.take_existing([tmp_path]) == [
            f"{tmp_path}: has no locks; see to it that no other training writes there"
        ]
        assert lock.take_begun([tmp_path]) == []


def test_a_folder_that_cannot_hold_a_lock_gets_a_sentence(tmp_path: Path) -> None:
    (tmp_path / LOCK).mkdir()
    with RunLock() as lock, pytest.raises(DetkitError) as caught:
        lock.take_existing([tmp_path])
    assert str(caught.value) == (
        f"{tmp_path / LOCK}: cannot be used (Is a directory). Train into another --out."
    )
