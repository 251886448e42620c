from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from detkit.data.base import Annotations
from detkit.evaluation import cached
from detkit.evaluation.cached import About, Cached, cache_key, load_cached, store
from detkit.evaluation.results import Results
from detkit.evaluation.speed import Speed, SpeedParts, SpeedProtocol
from tests.evaluation.noise import make_annotations, make_results, noisy_detections

WHOLE = (0.0, 0.0, 10.0, 10.0)
ANNOTATIONS = make_annotations([(0, 0, WHOLE), (2, 1, WHOLE)], images=3, classes=2)
RESULTS = make_results([(0, 1, WHOLE, 0.25), (2, 0, WHOLE, 0.5)])
SPEED = Speed(5.0, 7.25, SpeedParts(2.0, 0.5, 3.5, 1.0), SpeedProtocol(images=50), 0.5)
ABOUT = About("2026-01-02 13:04", SPEED, "2026-01-02 13:05", "x86_64 CPU, 2 threads")
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DETKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "detections"


def same(one: Results, other: Results) -> bool:
    fields = ("images", "boxes", "scores", "labels")
    return all(np.array_equal(getattr(one, f), getattr(other, f)) for f in fields)


def test_what_is_kept_comes_back(folder: Path) -> None:
    store("abc", Cached(RESULTS, ABOUT))
    kept = load_cached("abc", ANNOTATIONS)
    assert kept is not None
    assert same(kept.results, RESULTS)
    assert kept.about == ABOUT
    assert [path.name for path in folder.iterdir()] == ["abc.npz"]


def test_without_speed_and_without_detections() -> None:
    store("abc", Cached(make_results([]), About("2026-01-02 13:04")))
    kept = load_cached("abc", ANNOTATIONS)
    assert kept is not None
    assert (len(kept.results), kept.about.speed) == (0, None)


def test_nothing_kept() -> None:
    assert load_cached("abc", ANNOTATIONS) is None


def test_of_other_data_is_none() -> None:
    """A key never means other data; a file under a wrong name could."""
    store("abc", Cached(RESULTS, ABOUT))
    fewer_images = make_annotations([(0, 0, WHOLE)], images=2, classes=2)
    fewer_classes = make_annotations([(0, 0, WHOLE)], images=3, classes=1)
    assert load_cached("abc", fewer_images) is None
    assert load_cached("abc", fewer_classes) is None


@pytest.mark.parametrize(
    "change",
    [
        {"boxes": RESULTS.boxes.astype(np.float64)},
        {"boxes": RESULTS.boxes[:, :3]},
        {"boxes": RESULTS.boxes * np.float32("nan")},
        {"scores": RESULTS.scores[:1]},
        {"scores": RESULTS.scores * np.inf},
        {"labels": RESULTS.labels - 1},
        {"images": RESULTS.images[:, None]},
    ],
)
def test_arrays_that_are_no_results_are_none(change: dict[str, np.ndarray]) -> None:
    store("abc", Cached(replace(RESULTS, **change), ABOUT))
    assert load_cached("abc", ANNOTATIONS) is None


def test_foreign_files_are_none(folder: Path) -> None:
    folder.mkdir(parents=True)
    place = folder / "abc.npz"
    about = np.frombuffer(b'{"when": "today"}', np.uint8)
    plain = {name: getattr(RESULTS, name) for name in ("images", "boxes", "scores", "labels")}
    place.write_text("not a zip file")
    assert load_cached("abc", ANNOTATIONS) is None
    with place.open("wb") as file:
        np.save(file, RESULTS.boxes)
    assert load_cached("abc", ANNOTATIONS) is None
    np.savez(place, **plain)
    assert load_cached("abc", ANNOTATIONS) is None
    np.savez(place, about=np.frombuffer(b'{"when": 3}', np.uint8), **plain)
    assert load_cached("abc", ANNOTATIONS) is None
    np.savez(place, about=about, **{**plain, "boxes": np.array([{"a": 1}])})  # a pickle
    assert load_cached("abc", ANNOTATIONS) is None
    np.savez(place, about=about, **plain)  # the same, and good
    assert load_cached("abc", ANNOTATIONS) is not None


def test_a_broken_file_is_none_and_is_written_again(folder: Path) -> None:
    """A hundred files with bytes changed or cut off: whole, or none, and never an error."""
    store("abc", Cached(RESULTS, ABOUT))
    place = folder / "abc.npz"
    good = place.read_bytes()
    rng = np.random.default_rng(0)
    broken = 0
    for turn in range(100):
        content = bytearray(good)
        for at in rng.integers(0, len(good), 1 + turn % 4):
            content[at] = rng.integers(0, 256)
        place.write_bytes(content[: int(rng.integers(1, len(good)))] if turn % 3 else content)
        kept = load_cached("abc", ANNOTATIONS)
        broken += kept is None
        assert kept is None or (same(kept.results, RESULTS) and kept.about == ABOUT)
    assert broken > 50
    store("abc", Cached(RESULTS, ABOUT))
    assert load_cached("abc", ANNOTATIONS) is not None


WRITER = """
import sys
sys.path.insert(0, sys.argv[1])
from tests.evaluation.test_cached import ABOUT, Cached, many, store
print("ready", flush=True)
for turn in range(40):
    store("abc", Cached(many(), ABOUT))
"""


def many() -> Results:
    return noisy_detections(ANNOTATIONS, 3000, seed=0)


def test_two_processes_at_once(folder: Path) -> None:
    root = Path(__file__).parents[2]
    words = [sys.executable, "-c", WRITER, str(root)]
    expected = many()
    with subprocess.Popen(words, stdout=subprocess.PIPE, cwd=root) as other:
        assert other.stdout is not None
        other.stdout.readline()
        reads = 0
        while other.poll() is None:
            store("abc", Cached(expected, ABOUT))
            kept = load_cached("abc", ANNOTATIONS)
            assert kept is not None
            assert same(kept.results, expected)
            reads += 1
    assert other.returncode == 0
    assert reads > 3
    assert [path.name for path in folder.iterdir()] == ["abc.npz"]


def test_the_longest_unused_goes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cached, "KEEP", 3)
    for turn, key in enumerate("abc"):
        store(key, Cached(RESULTS, ABOUT))
        os.utime(folder / f"{key}.npz", (turn, turn))
    assert load_cached("a", ANNOTATIONS) is not None  # used: b is the oldest now
    store("d", Cached(RESULTS, ABOUT))
    assert sorted(path.stem for path in folder.iterdir()) == ["a", "c", "d"]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    (tmp_path / "best").mkdir()
    for name in ("weights.safetensors", "model.json"):
        (tmp_path / "best" / name).write_text(name)
    return tmp_path / "best"


@pytest.fixture
def images(tmp_path: Path) -> Annotations:
    paths = [tmp_path / f"{number}.jpg" for number in range(3)]
    for path in paths:
        path.write_text("pixels")
    return replace(ANNOTATIONS, paths=np.array([str(path) for path in paths]))


SAID = {"precision": "fp32", "model": {}}


def test_the_key_names_all_that_a_measurement_depends_on(
    checkpoint: Path, images: Annotations, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = cache_key(checkpoint, images, CPU, SAID)
    assert len(first) == 64
    assert cache_key(checkpoint, images, CPU, SAID) == first
    keys = [first]
    keys.append(cache_key(checkpoint, images, CPU, {**SAID, "precision": "bf16"}))
    keys.append(cache_key(checkpoint, images, CPU, {**SAID, "model": {"nms_iou": 0.5}}))
    keys.append(cache_key(checkpoint, images, torch.device("meta"), SAID))
    keys.append(cache_key(checkpoint, replace(images, class_names=("b", "a")), CPU, SAID))
    keys.append(cache_key(checkpoint, replace(images, paths=images.paths[::-1]), CPU, SAID))
    os.utime(str(images.paths[1]), (1, 1))
    keys.append(cache_key(checkpoint, images, CPU, SAID))
    Path(str(images.paths[1])).unlink()
    keys.append(cache_key(checkpoint, images, CPU, SAID))
    for name in ("model.json", "weights.safetensors"):
        (checkpoint / name).write_text("other")
        keys.append(cache_key(checkpoint, images, CPU, SAID))
    monkeypatch.setattr(cached, "PACKAGE", checkpoint)  # other code
    keys.append(cache_key(checkpoint, images, CPU, SAID))
    assert len(set(keys)) == len(keys)


def test_the_key_does_not_depend_on_the_folder(
    checkpoint: Path, images: Annotations, tmp_path: Path
) -> None:
    first = cache_key(checkpoint, images, CPU, SAID)
    moved = checkpoint.rename(tmp_path / "moved")
    assert cache_key(moved, images, CPU, SAID) == first
