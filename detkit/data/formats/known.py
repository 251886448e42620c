"""The formats of datasets, in the order in which ``auto`` looks for them."""

from __future__ import annotations

from detkit.data import detection_writers, writers
from detkit.data.auto import AutoConfig, read_auto
from detkit.data.choose_splits import purpose_of
from detkit.data.coco import read_coco
from detkit.data.coco_layout import CocoConfig
from detkit.data.createml import CreateMLConfig, createml_counts, read_createml
from detkit.data.csv_places import CsvConfig
from detkit.data.csv_table import read_csv
from detkit.data.cvat import CvatConfig, cvat_counts, read_cvat
from detkit.data.find_splits import find_coco, find_voc, finder
from detkit.data.formats.base import AUTO, DATASETS, DatasetFormat, DatasetWriter, DetectionWriter
from detkit.data.labelme import LabelmeConfig, labelme_counts, read_labelme
from detkit.data.shapes import ShapesConfig, read_shapes
from detkit.data.table_splits import find_csv, find_via_files
from detkit.data.via import ViaConfig, read_via
from detkit.data.voc import VOCConfig, read_voc
from detkit.data.yolo_splits import yolo_counts
from detkit.data.yolo_txt import YoloConfig, read_yolo

DATASETS.register("voc")(
    DatasetFormat(
        VOCConfig,
        read_voc,
        title="PASCAL VOC",
        looked_for="XML files in annotations/, or beside the images",
        find=find_voc,
        writer=DatasetWriter(
            writers.write_voc, images="JPEGImages", one_file_an_image=True, lists_classes=False
        ),
        detections=DetectionWriter(detection_writers.write_voc, "Annotations/*.xml"),
    )
)
DATASETS.register("coco")(
    DatasetFormat(
        CocoConfig,
        read_coco,
        title="COCO JSON",
        looked_for="annotations/instances_SPLIT.json, SPLIT/_annotations.coco.json",
        find=find_coco,
        writer=DatasetWriter(writers.write_coco),
        detections=DetectionWriter(detection_writers.write_coco, "coco.json"),
    )
)
DATASETS.register("yolo")(
    DatasetFormat(
        YoloConfig,
        read_yolo,
        title="YOLO text",
        looked_for="images/SPLIT and labels/SPLIT, data.yaml",
        find=finder(yolo_counts),
        writer=DatasetWriter(
            writers.write_yolo, finish=writers.write_yolo_names, one_file_an_image=True
        ),
        detections=DetectionWriter(detection_writers.write_yolo, "labels/*.txt and data.yaml"),
    )
)
DATASETS.register("csv")(
    DatasetFormat(
        CsvConfig,
        read_csv,
        title="CSV",
        looked_for="path,x1,y1,x2,y2,name, Open Images' and others",
        find=lambda root: find_csv(root, purpose_of),
        writer=DatasetWriter(writers.write_csv, one_entry_an_image=False, lists_classes=False),
        detections=DetectionWriter(detection_writers.write_csv, "detections.csv"),
    )
)
DATASETS.register("via")(
    DatasetFormat(
        ViaConfig,
        read_via,
        title="VIA",
        looked_for="JSON or CSV",
        find=lambda root: find_via_files(root, purpose_of),
    )
)
DATASETS.register("labelme")(
    DatasetFormat(
        LabelmeConfig,
        read_labelme,
        title="labelme JSON",
        looked_for="one an image",
        find=finder(labelme_counts),
    )
)
DATASETS.register("createml")(
    DatasetFormat(
        CreateMLConfig,
        read_createml,
        title="CreateML JSON",
        looked_for="SPLIT/_annotations.createml.json",
        find=finder(createml_counts),
    )
)
DATASETS.register("cvat")(
    DatasetFormat(
        CvatConfig,
        read_cvat,
        title="CVAT XML",
        looked_for="annotations.xml",
        find=finder(cvat_counts),
    )
)
DATASETS.register("shapes")(DatasetFormat(ShapesConfig, read_shapes))
DATASETS.register(AUTO)(DatasetFormat(AutoConfig, read_auto))
