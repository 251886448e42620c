"""Datumaro's exporters, which CVAT uses for its own COCO, VOC and YOLO downloads."""

from __future__ import annotations

import sys
from pathlib import Path

import datumaro as dm
from truth import BOXES, CLASSES, draw_images

KINDS = {  # detkit's folder: Datumaro's format
    "datumaro_coco": "coco_instances",
    "datumaro_voc": "voc_detection",
    "datumaro_yolo": "yolo",
    "datumaro_yolo_ultralytics": "yolo_ultralytics",
    "datumaro_cvat": "cvat",
    "datumaro_open_images": "open_images",
}


def main(out: Path) -> None:
    """Write one folder a format, with its images."""
    paths = draw_images(out / "datumaro_images")
    items = [
        dm.DatasetItem(
            id=path.stem,
            subset="val" if path.stem in ("delta", "empty") else "train",
            media=dm.Image.from_file(path=str(path)),
            annotations=[
                dm.Bbox(
                    box.x1,
                    box.y1,
                    box.x2 - box.x1,
                    box.y2 - box.y1,
                    label=CLASSES.index(box.name),
                    id=number,
                    group=number,
                )
                for number, box in enumerate(BOXES[path.name], 1)
            ],
        )
        for path in paths
    ]
    dataset = dm.Dataset.from_iterable(items, categories=list(CLASSES))
    for folder, kind in KINDS.items():
        try:
            dataset.export(str(out / folder), kind, save_media=True)
        except Exception as problem:
            print(f"datumaro: {kind} was not written: {problem!r}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
