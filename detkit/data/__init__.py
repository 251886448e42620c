"""Datasets: their one form in memory, and the formats they are read from."""

from detkit.data import (  # noqa: F401  (each registers its format)
    auto,
    coco,
    createml,
    csv_table,
    cvat,
    labelme,
    shapes,
    via,
    voc,
    yolo_txt,
)
from detkit.data.base import (
    DATASETS,
    Annotations,
    DatasetConfig,
    DatasetFormat,
    DetectionDataset,
    Report,
    Sample,
    for_training,
    summary,
)
from detkit.data.join import join
from detkit.data.reading import read_dataset

__all__ = [
    "DATASETS",
    "Annotations",
    "DatasetConfig",
    "DatasetFormat",
    "DetectionDataset",
    "Report",
    "Sample",
    "for_training",
    "join",
    "read_dataset",
    "summary",
]
