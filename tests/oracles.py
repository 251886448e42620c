"""What tests share: random boxes, and small VOC folders written by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

VocObject = tuple[str, tuple[object, object, object, object]]  # class, (xmin, ymin, xmax, ymax)


def random_boxes(n: int, seed: int) -> Tensor:
    """``[n, 4]`` xyxy boxes with sides of 1 to 200 in an image of 500 x 500 pixels."""
    generator = torch.Generator().manual_seed(seed)
    sides = 1 + 199 * torch.rand(n, 2, generator=generator)
    low = torch.rand(n, 2, generator=generator) * (500 - sides)
    return torch.cat([low, low + sides], dim=1)


def voc_xml(
    objects: Sequence[VocObject],
    *,
    size: tuple[int, int] | None = (60, 80),
    file_name: str = "",
    difficult: Sequence[int] = (),
) -> str:
    """An annotation file as the VOC devkit writes it; ``size`` is (height, width)."""
    lines = ["<annotation>", f"<filename>{file_name}</filename>"]
    if size is not None:
        lines.append(f"<size><width>{size[1]}</width><height>{size[0]}</height></size>")
    for index, (name, corners) in enumerate(objects):
        sides = zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True)
        box = "".join(f"<{side}>{value}</{side}>" for side, value in sides)
        flag = difficult[index] if index < len(difficult) else 0
        lines.append(f"<object><name>{name}</name><difficult>{flag}</difficult>")
        lines.append(f"<bndbox>{box}</bndbox></object>")
    return "\n".join([*lines, "</annotation>"])


def write_image(path: Path, size: tuple[int, int] = (60, 80), seed: int = 0) -> None:
    """An image of noise, of ``size`` (height, width)."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (*size, 3), generator=generator, dtype=torch.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.numpy()).save(path)


def write_voc(folder: Path, pages: Mapping[str, str], split: str = "trainval") -> Path:
    """A VOC folder with one split; ``pages`` maps ids to XML. Images are 60 x 80 JPEGs."""
    for name in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    listing = folder / "ImageSets" / "Main" / f"{split}.txt"
    listing.write_text("".join(f"{image_id}\n" for image_id in pages))
    for seed, (image_id, xml) in enumerate(pages.items()):
        (folder / "Annotations" / f"{image_id}.xml").write_text(xml)
        write_image(folder / "JPEGImages" / f"{image_id}.jpg", seed=seed)
    return folder
