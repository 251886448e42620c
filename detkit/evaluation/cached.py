"""Detections of a checkpoint on a split, kept so that a table of ten models is not run ten times.

They lie in the user's cache folder (``DETKIT_CACHE`` names another), one file a measurement, under
a name that is a hash of everything they depend on: the checkpoint's content, the images (path,
size, time of change), the classes, precision, device, settings, and detkit's and torch's own code.
Change one of these and the name is another. A file that is broken or foreign is as good as none.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import TypeAdapter

from detkit.data.base import Annotations
from detkit.evaluation.results import Results
from detkit.evaluation.speed import Speed
from detkit.files import cache_folder, read_arrays, sha256_of, whole_file

KEEP = 100  # files; the longest unused one goes when another comes
PACKAGE = Path(__file__).parents[1]
CHECKPOINT_FILES = ("weights.safetensors", "model.json")
DECIDING = ("torch", "torchvision", "numpy", "pillow")  # decode, resize, compute, suppress
ARRAYS = {"images": np.int64, "boxes": np.float32, "scores": np.float64, "labels": np.int64}


@dataclass(frozen=True, slots=True)
class About:
    """What is kept beside the arrays, as JSON."""

    when: str  # the detections were made, by the local clock
    speed: Speed | None = None  # None: not measured
    speed_when: str = ""
    device: str = ""  # that the speed was measured on, by name


@dataclass(frozen=True, slots=True, eq=False)
class Cached:
    """One measurement as it was kept."""

    results: Results
    about: About


def now() -> str:
    """The time as a person reads it, to the minute."""
    return datetime.now().astimezone().strftime("%Y-%m-%d %H:%M")


def cache_key(
    checkpoint: Path, annotations: Annotations, device: torch.device, settings: Mapping[str, Any]
) -> str:
    """Name what a measurement depends on, in 64 hexadecimal digits.

    Args:
        checkpoint: its folder, or a weight file of darknet's, of which ``settings`` then say what
            detector it is taken for.
        annotations: the images, and the classes that give labels their meaning.
        device: CPUs are alike; a GPU is itself.
        settings: what else decides: precision, thresholds; plain values.
    """
    is_gpu = device.type == "cuda"
    inside = [checkpoint / name for name in CHECKPOINT_FILES]
    parts = {
        "checkpoint": list(map(sha256_of, [checkpoint] if checkpoint.is_file() else inside)),
        "classes": annotations.class_names,
        "images": _images_hash(annotations),
        "device": torch.cuda.get_device_name(device) if is_gpu else device.type,
        "settings": dict(settings),
        "libraries": [f"{name} {version(name)}" for name in DECIDING],
        "code": _code_hash(),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _images_hash(annotations: Annotations) -> str:
    digest = hashlib.sha256()
    for image_id, path in zip(annotations.image_ids, annotations.paths, strict=True):
        place = os.path.abspath(str(path))
        try:
            stat = os.stat(place)
            state = f"{stat.st_size} {stat.st_mtime_ns}"
        except OSError:
            state = "missing"  # reading it will say more
        digest.update(f"{image_id}\n{place}\n{state}\n".encode(errors="surrogatepass"))
    return digest.hexdigest()


def _code_hash() -> str:
    """Hash detkit's own code, so that who changes it never sees what it found before."""
    digest = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        digest.update(f"{path.relative_to(PACKAGE)}\n".encode() + path.read_bytes())
    return digest.hexdigest()


def _place(key: str) -> Path:
    return cache_folder() / "detections" / f"{key}.npz"


def load_cached(key: str, annotations: Annotations) -> Cached | None:
    """What was kept under ``key``; None where nothing is, or nothing that can be used."""
    path = _place(key)
    try:
        arrays = read_arrays(path, *ARRAYS, "about")
        about = TypeAdapter(About).validate_json(arrays.pop("about").tobytes())
    except ValueError:  # pydantic's, too
        return None
    if not _are_results(arrays, len(annotations), len(annotations.class_names)):
        return None
    with contextlib.suppress(OSError):
        os.utime(path)  # used just now
    return Cached(Results(**arrays), about)


def _are_results(arrays: Mapping[str, NDArray[Any]], images: int, classes: int) -> bool:
    if any(arrays[name].dtype != kind for name, kind in ARRAYS.items()):
        return False
    rows = len(arrays["scores"]) if arrays["scores"].ndim == 1 else -1
    shapes = {name: (rows, 4) if name == "boxes" else (rows,) for name in ARRAYS}
    if any(arrays[name].shape != shape for name, shape in shapes.items()):
        return False
    return all(
        ((arrays[name] >= 0) & (arrays[name] < end)).all()
        for name, end in (("images", images), ("labels", classes))
    ) and all(np.isfinite(arrays[name]).all() for name in ("boxes", "scores"))


def store(key: str, cached: Cached) -> None:
    """Keep a measurement under ``key``, whole or not at all.

    Raises:
        OSError: the cache folder cannot be written.
    """
    path = _place(key)
    arrays = {name: getattr(cached.results, name) for name in ARRAYS}
    about = TypeAdapter(About).dump_json(cached.about)
    with whole_file(path) as place:
        np.savez_compressed(place, about=np.frombuffer(about, dtype=np.uint8), **arrays)
    _forget_the_oldest(path.parent)


def _forget_the_oldest(folder: Path) -> None:
    times: list[tuple[float, Path]] = []
    for path in folder.glob("*.npz"):
        with contextlib.suppress(OSError):  # another process was quicker
            times.append((path.stat().st_mtime, path))
    for _, path in sorted(times)[:-KEEP]:
        with contextlib.suppress(OSError):
            path.unlink()
