"""A real training in a process whose network is cut: nothing may even try to connect."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

CUT = '''\
"""Python imports this file by itself: every look-up and connection is written down and refused."""

import os
import sys


def guard(event, arguments):
    if event == "socket.connect" and not isinstance(arguments[1], (str, bytes)):  # not a Unix one
        what = f"connect {arguments[1]}"
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        what = f"{event} {arguments[0]}"
    else:
        return
    with open(os.environ["TRIED"], "a") as file:
        file.write(f"{what}\\n")
    raise OSError("the network is cut")


sys.addaudithook(guard)
'''


def run_cut(folder: Path, *words: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Run Python with ``words`` behind the guard; return its end and what it tried."""
    hook, tried = folder / "hook", folder / "tried.txt"
    hook.mkdir(exist_ok=True)
    (hook / "sitecustomize.py").write_text(CUT)
    tried.write_text("")
    environment = os.environ | {
        "PYTHONPATH": f"{hook}{os.pathsep}{ROOT}",
        "TRIED": str(tried),
        "OMP_NUM_THREADS": "1",
        "HOME": str(folder),  # no keys of this machine
    }
    for name in ("NO_ALBUMENTATIONS_UPDATE", "WANDB_MODE", "WANDB_API_KEY", "MLFLOW_TRACKING_URI"):
        environment.pop(name, None)
    done = subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    return done, tried.read_text().splitlines()


@pytest.mark.slow
def test_training_never_tries_to_connect(small_config: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ["--device", "cpu", "data.workers=1", "train.iterations=4", "eval.every=1"]
    done, tried = run_cut(tmp_path, "tools/train.py", str(small_config), "--out", str(out), *words)
    assert done.returncode == 0, done.stderr
    assert tried == []
    assert (out / "best" / "model.json").is_file()


@pytest.mark.slow
def test_records_never_try_to_connect_uninvited(small_config: Path, tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    pytest.importorskip("mlflow")
    records = "train.records=[tensorboard, wandb, mlflow]"
    words = ["--device", "cpu", "train.iterations=2", "data.workers=1", records]
    done, tried = run_cut(
        tmp_path, "tools/train.py", str(small_config), "--out", str(tmp_path / "run"), *words
    )
    assert done.returncode == 0, done.stderr
    assert tried == []
    assert "wandb: not logged in, so this run is recorded in" in done.stdout


@pytest.mark.slow
def test_the_guard_sees_a_connection(tmp_path: Path) -> None:
    ask = "import urllib.request; urllib.request.urlopen('http://localhost:9')"
    done, tried = run_cut(tmp_path, "-c", ask)
    assert done.returncode == 1
    assert tried == ["socket.getaddrinfo localhost"]
