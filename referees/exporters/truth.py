"""What every exporter is given: five small drawn images and the boxes on them.

Boxes are xyxy in continuous pixels, zero-based, with exclusive right and bottom edges. All edges
are whole numbers, so that exporters that write whole numbers lose nothing; one box begins at 0, one
fills its image, and one image has none.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple


class Box(NamedTuple):
    """One object."""

    name: str
    x1: int
    y1: int
    x2: int
    y2: int


CLASSES = ("circle", "square", "star")
SIZES = {  # (width, height) by the image's name
    "alpha.png": (200, 150),
    "beta.png": (120, 160),
    "gamma.png": (200, 150),
    "delta.png": (64, 48),
    "empty.png": (200, 150),
}
BOXES: dict[str, tuple[Box, ...]] = {
    "alpha.png": (Box("circle", 0, 0, 40, 30), Box("star", 50, 60, 120, 150)),
    "beta.png": (Box("square", 10, 20, 60, 100), Box("square", 60, 0, 120, 80)),
    "gamma.png": (Box("star", 0, 0, 200, 150), Box("circle", 30, 40, 31, 60)),
    "delta.png": (Box("circle", 4, 8, 24, 40),),
    "empty.png": (),
}


def draw_images(folder: Path) -> list[Path]:
    """Write the images into ``folder``; plain colours with the boxes painted in."""
    from PIL import Image, ImageDraw

    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for turn, (name, size) in enumerate(SIZES.items()):
        image = Image.new("RGB", size, (40 * turn, 90, 200 - 30 * turn))
        pen = ImageDraw.Draw(image)
        for box in BOXES[name]:
            pen.rectangle((box.x1, box.y1, box.x2 - 1, box.y2 - 1), outline=(255, 255, 255))
        image.save(folder / name)
        paths.append(folder / name)
    return paths


def as_json() -> str:
    """The truth as the reader's side compares it."""
    return json.dumps({name: [list(box) for box in boxes] for name, boxes in BOXES.items()})
