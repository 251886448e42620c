"""Supervision, Roboflow's own library: COCO, YOLO and VOC by its dataset class."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import supervision as sv
from truth import BOXES, CLASSES, draw_images


def main(out: Path) -> None:
    """Write one folder a format, with its images."""
    paths = draw_images(out / "supervision_images")
    annotations = {}
    for path in paths:
        boxes = BOXES[path.name]
        corners = np.array([box[1:] for box in boxes], dtype=np.float32).reshape(-1, 4)
        numbers = np.array([CLASSES.index(box.name) for box in boxes], dtype=int)
        annotations[str(path)] = sv.Detections(xyxy=corners, class_id=numbers)
    data = sv.DetectionDataset(list(CLASSES), [str(path) for path in paths], annotations)
    coco, yolo, voc = (out / f"supervision_{kind}" for kind in ("coco", "yolo", "voc"))
    data.as_coco(str(coco / "train"), str(coco / "train" / "_annotations.coco.json"))
    data.as_yolo(str(yolo / "train/images"), str(yolo / "train/labels"), str(yolo / "data.yaml"))
    data.as_pascal_voc(str(voc / "train"), str(voc / "train"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
