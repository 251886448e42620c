"""What it costs that nothing is lost: hashes of a checkpoint at load, hashes and flushing at save.

    python benchmarks/checkpoints.py [--rounds 9]

Each figure beside the same work without it, in turns, in one process; files are in memory (the page
cache), so that what a disk takes to read is not counted in a load's favour.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

from detkit.checkpoints import checkpoint
from detkit.checkpoints import files as checkpoint_files
from detkit.checkpoints.checkpoint import Content, load_checkpoint, write_checkpoint
from detkit.checkpoints.description import HASHES
from detkit.checkpoints.files import MODEL
from detkit.detectors import build_detector
from detkit.experiment.config import ExperimentConfig

MODELS = ("yolo_v2", "yolo_v3", "faster_rcnn_fpn")


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def compare(title: str, ways: dict[str, Callable[[], object]], rounds: int) -> None:
    """Print the median of each way, and what the first adds to the last in percent."""
    taken: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, work in ways.items():
            taken[way].append(seconds(work))
    medians = {way: statistics.median(each) for way, each in taken.items()}
    first, *_, last = medians.values()
    cells = ", ".join(f"{way} {median * 1000:.0f} ms" for way, median in medians.items())
    print(f"{title}: {cells} ({100 * (first / last - 1):+.1f} %)", flush=True)


def main() -> None:
    """Measure each model's load and save."""
    parser = argparse.ArgumentParser(description="cost of hashes and flushing")
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    for name in MODELS:
        model = {"name": name, "num_classes": 80}
        experiment = ExperimentConfig.model_validate({"model": model, "train": {"iterations": 1}})
        weights = build_detector(model).state_dict()
        moments = {
            "momentum": dict(weights),
            "raw": dict(weights),
        }  # as an optimiser's and a mean's
        names = tuple(map(str, range(80)))
        content = Content(experiment, names, weights, 1, 1, state=moments)
        with tempfile.TemporaryDirectory(dir=".") as folder:
            sealed, plain = Path(folder, "sealed"), Path(folder, "plain")
            for place in (sealed, plain):
                write_checkpoint(place, content, replace=False)
            described = json.loads((plain / MODEL).read_text())
            del described[HASHES]
            (plain / MODEL).write_text(json.dumps(described))
            load = {
                "with hash": lambda at=sealed: load_checkpoint(at),
                "without": lambda at=plain: load_checkpoint(at),
            }
            compare(f"{name}, load", load, rounds)

            def save(at: Path = sealed, content: Content = content) -> None:
                write_checkpoint(at, content, replace=True)

            def unflushed() -> None:
                with mock.patch.object(checkpoint, "flush"):
                    save()

            def bare() -> None:
                with (
                    mock.patch.object(checkpoint, "flush"),
                    mock.patch.object(checkpoint_files, "_hash_of", return_value="0" * 32),
                ):
                    save()

            size = sum(path.stat().st_size for path in sealed.iterdir()) / 1e6
            save_ways = {"hashed and flushed": save, "hashed": unflushed, "neither": bare}
            compare(f"{name}, save {size:.0f} MB", save_ways, rounds)


if __name__ == "__main__":
    main()
