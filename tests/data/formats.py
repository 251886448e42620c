"""The same ground truth written in each format: small writers, for tests alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from detkit.data import Annotations


def objects(data: Annotations, index: int) -> list[tuple[str, list[float], bool]]:
    """Class name, box and difficulty of each object of an image."""
    rows = range(int(data.offsets[index]), int(data.offsets[index + 1]))
    return [
        (data.class_names[data.labels[row]], data.boxes[row].tolist(), bool(data.difficult[row]))
        for row in rows
    ]


def coco_json(data: Annotations) -> dict[str, Any]:
    """A COCO file whose category ids have gaps and another order than the names."""
    numbers = {name: 10 * (len(data.class_names) - k) for k, name in enumerate(data.class_names)}
    images, annotations = [], []
    for index, path in enumerate(data.paths):
        height, width = data.sizes[index].tolist()
        name = Path(path).name
        images.append({"id": 100 + index, "file_name": name, "height": height, "width": width})
        for name, (x1, y1, x2, y2), _ in objects(data, index):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": 100 + index,
                    "category_id": numbers[name],
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                    "iscrowd": 0,
                }
            )
    categories = [{"id": number, "name": name} for name, number in numbers.items()]
    return {"images": images, "annotations": annotations, "categories": categories}


def write_coco(folder: Path, data: Annotations, split: str) -> None:
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    link_images(folder / split, data)
    path = folder / "annotations" / f"instances_{split}.json"
    path.write_text(json.dumps(coco_json(data)))


def write_yolo(folder: Path, data: Annotations, split: str) -> None:
    link_images(folder / "images" / split, data)
    (folder / "labels" / split).mkdir(parents=True, exist_ok=True)
    for index, path in enumerate(data.paths):
        height, width = data.sizes[index].tolist()
        lines = []
        for name, (x1, y1, x2, y2), _ in objects(data, index):
            box = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width)
            values = (*box, (y2 - y1) / height)
            number = data.class_names.index(name)
            lines.append(f"{number} {' '.join(f'{value:.9f}' for value in values)}\n")
        (folder / "labels" / split / f"{Path(path).stem}.txt").write_text("".join(lines))
    described = {"names": list(data.class_names), split: f"images/{split}"}
    if (folder / "data.yaml").is_file():
        described |= yaml.safe_load((folder / "data.yaml").read_text())
        described[split] = f"images/{split}"
    (folder / "data.yaml").write_text(yaml.safe_dump(described))


def write_csv(folder: Path, data: Annotations, split: str) -> None:
    link_images(folder / "images", data)
    lines = []
    for index, path in enumerate(data.paths):
        name = f"images/{Path(path).name}"
        rows = [f"{name},{','.join(map(repr, box))},{c}" for c, box, _ in objects(data, index)]
        lines += rows or [f"{name},,,,,"]
    (folder / f"{split}.csv").write_text("\n".join(lines) + "\n")


def write_labelme(folder: Path, data: Annotations, split: str) -> None:
    link_images(folder / split, data)
    for index, path in enumerate(data.paths):
        height, width = data.sizes[index].tolist()
        shapes = [
            {"label": name, "points": [[x2, y1], [x1, y2]], "shape_type": "rectangle"}
            for name, (x1, y1, x2, y2), _ in objects(data, index)
        ]
        content = {"version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": Path(path).name}
        content |= {"imageData": None, "imageHeight": height, "imageWidth": width}
        (folder / split / f"{Path(path).stem}.json").write_text(json.dumps(content, indent=1))


def write_createml(folder: Path, data: Annotations, split: str) -> None:
    link_images(folder / split, data)
    entries = []
    for index, path in enumerate(data.paths):
        found = [
            {"label": name, "coordinates": {"x": (x1 + x2) / 2, "y": (y1 + y2) / 2,
                                            "width": x2 - x1, "height": y2 - y1}}
            for name, (x1, y1, x2, y2), _ in objects(data, index)
        ]  # fmt: skip
        entries.append({"image": Path(path).name, "annotations": found})
    path = folder / split / "_annotations.createml.json"
    path.write_text(json.dumps(entries, indent=1))


def write_cvat(folder: Path, data: Annotations, split: str) -> None:
    link_images(folder / "images", data)
    labels = "".join(f"<label><name>{name}</name></label>" for name in data.class_names)
    lines = [f"<annotations><meta><task><labels>{labels}</labels></task></meta>"]
    for index, path in enumerate(data.paths):
        height, width = data.sizes[index].tolist()
        lines.append(f'<image id="{index}" name="{Path(path).name}" width="{width}" '
                     f'height="{height}">')  # fmt: skip
        lines += [
            f'<box label="{name}" xtl="{x1}" ytl="{y1}" xbr="{x2}" ybr="{y2}"/>'
            for name, (x1, y1, x2, y2), _ in objects(data, index)
        ]
        lines.append("</image>")
    (folder / f"{split}.xml").write_text("\n".join([*lines, "</annotations>"]) + "\n")


def link_images(folder: Path, data: Annotations) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for path in data.paths:
        (folder / Path(path).name).symlink_to(Path(path).resolve())
