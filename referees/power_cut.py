"""What power_cut.sh does: trains on a mounted file system, cuts its power, and looks."""

from __future__ import annotations

import fcntl
import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TextIO

SHUTDOWN = 0x8004587D  # FS_IOC_SHUTDOWN, of ext4, f2fs and xfs alike
NO_LOG_FLUSH = 2  # what is in memory is lost, the journal's end as well
KINDS = {  # of file systems: how each is made, and how it is mounted
    "ext4": (["mkfs.ext4", "-q", "-F"], "loop"),
    "ext4, data=writeback": (["mkfs.ext4", "-q", "-F"], "loop,data=writeback"),
    "xfs": (["mkfs.xfs", "-q", "-f"], "loop"),
}
SIZE = 400_000_000  # bytes; mkfs.xfs asks for 300 MB
SAVE_EVERY = 5  # steps
LOAD = (
    "import sys; from detkit.checkpoints.checkpoint import load_checkpoint as load\n"
    "print(load(sys.argv[1]).step)"
)
WAIT = 120.0  # seconds for a first checkpoint
SETTINGS = (
    "train.iterations=100000",
    "train.epochs=null",
    "train.schedule=step",
    f"train.save_every={SAVE_EVERY}",
    "train.records=[]",
    "eval.every=100000",
    "data.workers=0",
)


def main(folder: Path, detkit: Path, cuts: int) -> int:
    """Cut each kind; returns how many cuts left something that was not whole."""
    failures = 0
    for kind, (make, options) in KINDS.items():
        if shutil.which(make[0]) is None:
            print(f"{kind}: not tried, no {make[0]} here")
            continue
        draw, bad = random.Random(0), 0
        for number in range(cuts):
            said = one_cut(folder, detkit, make, options, draw.uniform(0.0, 12.0))
            bad += said is not None
            if said is not None:
                print(f"{kind}, cut {number}: {said}")
        print(f"{kind}: {cuts - bad} of {cuts} cuts left a whole last checkpoint that trains on")
        failures += bad
    return failures


def one_cut(
    folder: Path, detkit: Path, make: list[str], options: str, seconds: float
) -> str | None:
    """What was wrong after a cut some seconds behind the first checkpoint; None: nothing."""
    image, disk = folder / "image", folder / "disk"
    image.unlink(missing_ok=True)
    with image.open("wb") as file:
        file.truncate(SIZE)
    subprocess.run([*make, str(image)], check=True)
    disk.mkdir(exist_ok=True)
    mount = ["mount", "-o", options, str(image), str(disk)]
    subprocess.run(mount, check=True)
    out = disk / "run"
    with (folder / "said").open("w+", encoding="utf-8") as said:
        training = start(folder, detkit, said, *train_words(detkit, out))
        try:
            wait_for(out / "last" / "model.json", training, said)
            time.sleep(seconds)
            seen = json.loads(read_last(out))["step"]
            descriptor = os.open(disk, os.O_RDONLY)
            try:
                fcntl.ioctl(descriptor, SHUTDOWN, NO_LOG_FLUSH.to_bytes(4, "little"))
            finally:
                os.close(descriptor)
        finally:
            training.kill()
            training.wait()
    subprocess.run(["umount", disk], check=True)
    subprocess.run(mount, check=True)
    try:
        return look(folder, detkit, out, seen)
    finally:
        subprocess.run(["umount", disk], check=True)


def look(folder: Path, detkit: Path, out: Path, seen: int) -> str | None:
    """Load what is left, and train on from it for some steps."""
    loaded = run(folder, detkit, "-c", LOAD, str(out / "last"))
    if loaded.returncode != 0:
        sizes = {str(path.relative_to(out)): path.stat().st_size for path in out.rglob("*")}
        return f"{last_line(loaded.stderr)} ({sizes})"
    step = int(loaded.stdout.split()[-1])
    if step < seen - SAVE_EVERY:  # the one that was seen may have been on its way to the disk
        return f"a checkpoint of step {seen} was there before, and one of step {step} after the cut"
    tool, config = detkit / "tools" / "train.py", out / "config.yaml"
    resumed = run(
        folder, detkit, str(tool), str(config), "--resume", f"train.iterations={step + 2}"
    )
    if resumed.returncode != 0:
        return f"does not go on from step {step}: {last_line(resumed.stderr)}"
    return None


def train_words(detkit: Path, out: Path) -> list[str]:
    """The command that trains, behind ``python``."""
    tool, config = detkit / "tools" / "train.py", detkit / "configs" / "quickstart.yaml"
    return [str(tool), str(config), "--out", str(out), *SETTINGS]


def read_last(out: Path) -> str:
    """``model.json`` of the last checkpoint, also in the moment when another takes its place."""
    while True:
        for folder in (out / "last", out / ".last.old"):
            try:
                return (folder / "model.json").read_text(encoding="utf-8")
            except OSError:
                continue


def wait_for(path: Path, training: subprocess.Popen[bytes], said: TextIO) -> None:
    """Wait for a training's first checkpoint."""
    until = time.monotonic() + WAIT
    while not path.exists():
        if training.poll() is not None or time.monotonic() > until:
            said.seek(0)
            raise SystemExit(f"no checkpoint came of the training: {said.read()}")
        time.sleep(0.02)


def start(folder: Path, detkit: Path, said: TextIO, *words: str) -> subprocess.Popen[bytes]:
    """A command of the detkit in a folder, run in another."""
    return subprocess.Popen(
        [sys.executable, *words], cwd=folder, env=environment(detkit), stdout=said, stderr=said
    )


def run(folder: Path, detkit: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The same, to its end."""
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=environment(detkit),
        capture_output=True,
        text=True,
        check=False,
    )


def environment(detkit: Path) -> dict[str, str]:
    """In which that detkit is imported, and not the one that is installed."""
    return os.environ | {"PYTHONPATH": str(detkit), "OMP_NUM_THREADS": "1"}


def last_line(text: str) -> str:
    """Of what a command said."""
    return (text.strip().splitlines() or ["nothing was said"])[-1]


if __name__ == "__main__":
    failing = main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
    raise SystemExit(1 if failing else 0)
