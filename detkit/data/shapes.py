"""A generated dataset: shapes on textured, cluttered grounds, in VOC's layout on disk.

No download, and as many images as wanted, each drawn from (seed, split, index) alone: image 7 of
a split is the same whether ten or ten thousand are made. ``easy`` holds few large shapes, far
apart, for first steps on a CPU; ``standard`` has scales of 1 to 10, occlusion, clutter and
uneven light, to compare detectors on.

A box spans the pixels of its object that can be seen, as in VOC: what other objects or the edge
of the image hide is outside it. ``difficult`` are objects mostly hidden, or too small to tell.

The pictures themselves are drawn in ``detkit/data/scene.py``.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image
from pydantic import NonNegativeInt, PositiveInt, field_validator

from detkit.data.base import Annotations
from detkit.data.formats.base import DatasetConfig
from detkit.data.scene import LOOKS, SHAPE_NAMES, Scene, draw_scene
from detkit.data.voc import VOCConfig, read_voc
from detkit.errors import DataError, did_you_mean
from detkit.flushing import flush, flush_tree

logger = logging.getLogger(__name__)

SPLITS = ("train", "val", "test")
DRAWN_FROM = (
    "difficulty",
    "seed",
    "train_images",
    "val_images",
    "test_images",
    "sides",
)  # settings
RECIPE = 1  # raised when the pictures change, so that an old folder is not taken for a new one
JPEG_QUALITY = 95
LEAST_SIDE = 64  # pixels; smaller images have no room for shapes that can be told apart


class ShapesConfig(DatasetConfig):
    """``split`` is train, val or test; ``root`` is filled when it is not there."""

    difficulty: Literal["easy", "standard"] = "easy"
    seed: NonNegativeInt = 0
    train_images: PositiveInt = 1000
    val_images: PositiveInt = 200
    test_images: PositiveInt = 200
    sides: tuple[int, int] | None = None  # least and greatest side, pixels; None: the difficulty's

    @field_validator("sides")
    @classmethod
    def _in_order(cls, sides: tuple[int, int] | None) -> tuple[int, int] | None:
        if sides is not None and not LEAST_SIDE <= sides[0] <= sides[1]:
            raise ValueError(
                f"expected [least, greatest] with {LEAST_SIDE} <= least <= greatest, "
                f"got {list(sides)}."
            )
        return sides


def read_shapes(config: ShapesConfig, classes: Sequence[str] = ()) -> Annotations:
    """Read one split, after drawing all of them where ``config.root`` holds none yet.

    Raises:
        DataError: an unknown split, or a root that holds something else.
    """
    if config.split not in SPLITS:
        raise DataError(
            f"data.split: shapes have no split {config.split!r}."
            f"{did_you_mean(config.split, SPLITS)}"
        )
    if not _is_made(config):
        make_shapes(config)
    return read_voc(
        VOCConfig(root=config.root, split=config.split, origin=1), classes or SHAPE_NAMES
    )


def _settings(config: ShapesConfig) -> dict[str, Any]:
    return {"recipe": RECIPE, **config.model_dump(mode="json", include=set(DRAWN_FROM))}


def _is_made(config: ShapesConfig) -> bool:
    """Whether the root holds these very shapes; False where it can be filled."""
    root, record = config.root, config.root / "shapes.json"
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    if not record.is_file():
        raise DataError(
            f"{root}: holds other files than generated shapes. "
            "Name a new folder with data.root=PATH."
        )
    try:
        made = json.loads(record.read_text(encoding="utf-8"))
    except ValueError:
        made = {}
    for key, value in _settings(config).items():
        there = made.get(key) if isinstance(made, dict) else None
        if there != value:
            raise DataError(
                f"{root}: holds shapes made with {key}={there}, but {key}={value} is asked for. "
                "Delete the folder, or name another with data.root=PATH."
            )
    return True


def make_shapes(config: ShapesConfig) -> None:
    """Draw every split into a folder beside ``config.root``, then rename it into place.

    Raises:
        DataError: the folder cannot be written.
    """
    counts = {
        "train": config.train_images,
        "val": config.val_images,
        "test": config.test_images,
    }
    logger.info("drawing %d images of %s shapes", sum(counts.values()), config.difficulty)
    try:
        config.root.parent.mkdir(parents=True, exist_ok=True)
        # In a folder of its own, so that a half-filled root is never taken for a whole one.
        with tempfile.TemporaryDirectory(
            prefix=f".{config.root.name}-", dir=config.root.parent
        ) as scratch:
            folder = Path(scratch) / config.root.name
            for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
                (folder / name).mkdir(parents=True)
            for split, count in counts.items():
                ids = [_write(folder, config, split, index) for index in range(count)]
                listing = folder / "ImageSets" / "Main" / f"{split}.txt"
                listing.write_text("\n".join(ids) + "\n", encoding="utf-8")
            record = json.dumps(_settings(config), indent=2) + "\n"
            (folder / "shapes.json").write_text(record, encoding="utf-8")
            _move(folder, config)
    except OSError as problem:
        raise DataError(
            f"{config.root}: shapes cannot be written there ({problem.strerror}). "
            "Name another folder with data.root=PATH."
        ) from problem


def _move(folder: Path, config: ShapesConfig) -> None:
    try:
        flush_tree(folder)
        os.replace(folder, config.root)
        flush(config.root.parent)
    except OSError:
        if not _is_made(config):  # another process may have been faster, with the same result
            raise


def _write(folder: Path, config: ShapesConfig, split: str, index: int) -> str:
    look = LOOKS[config.difficulty]
    rng = np.random.default_rng([config.seed, SPLITS.index(split), index])
    scene = draw_scene(look if config.sides is None else replace(look, sides=config.sides), rng)
    name = f"{split}_{index:06d}"
    Image.fromarray(scene.pixels).save(folder / "JPEGImages" / f"{name}.jpg", quality=JPEG_QUALITY)
    (folder / "Annotations" / f"{name}.xml").write_text(_as_xml(name, scene), encoding="utf-8")
    return name


def _as_xml(name: str, scene: Scene) -> str:
    height, width = scene.pixels.shape[:2]
    lines = [
        "<annotation>",
        f"  <filename>{name}.jpg</filename>",
        f"  <size><width>{width}</width><height>{height}</height><depth>3</depth></size>",
    ]
    for label, (x1, y1, x2, y2), hard in zip(
        scene.names, scene.boxes.tolist(), scene.difficult.tolist(), strict=True
    ):
        box = f"<xmin>{x1 + 1}</xmin><ymin>{y1 + 1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax>"
        lines += [
            f"  <object><name>{label}</name><difficult>{int(hard)}</difficult>",
            f"    <bndbox>{box}</bndbox></object>",
        ]
    return "\n".join([*lines, "</annotation>"]) + "\n"
