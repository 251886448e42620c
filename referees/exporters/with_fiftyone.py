"""FiftyOne's dataset exporters, driven without its database."""

from __future__ import annotations

import sys
from pathlib import Path

import fiftyone as fo
import fiftyone.utils.coco as coco
import fiftyone.utils.cvat as cvat
import fiftyone.utils.voc as voc
import fiftyone.utils.yolo as yolo
from truth import BOXES, CLASSES, SIZES, draw_images


def main(out: Path) -> None:
    """Write one folder a format, with its images."""
    paths = draw_images(out / "fiftyone_images")
    names = list(CLASSES)
    exporters = {
        "fiftyone_coco": lambda where: coco.COCODetectionDatasetExporter(
            export_dir=where, classes=names
        ),
        "fiftyone_yolov5": lambda where: yolo.YOLOv5DatasetExporter(
            export_dir=where, split="train", classes=names
        ),
        "fiftyone_yolov4": lambda where: yolo.YOLOv4DatasetExporter(
            export_dir=where, classes=names
        ),
        "fiftyone_voc": lambda where: voc.VOCDetectionDatasetExporter(export_dir=where),
        "fiftyone_cvat": lambda where: cvat.CVATImageDatasetExporter(export_dir=where),
    }
    for folder, make in exporters.items():
        try:
            with make(str(out / folder)) as exporter:
                for path in paths:
                    width, height = SIZES[path.name]
                    label = fo.Detections(
                        detections=[
                            fo.Detection(
                                label=box.name,
                                bounding_box=[
                                    box.x1 / width,
                                    box.y1 / height,
                                    (box.x2 - box.x1) / width,
                                    (box.y2 - box.y1) / height,
                                ],
                            )
                            for box in BOXES[path.name]
                        ]
                    )
                    metadata = fo.ImageMetadata.build_for(str(path))
                    exporter.export_sample(str(path), label, metadata=metadata)
        except Exception as problem:
            print(f"fiftyone: {folder} was not written: {problem!r}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
