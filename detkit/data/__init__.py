"""Datasets: their one form in memory, and the formats they are read from."""

from detkit.data import shapes, voc  # noqa: F401  (each registers its format)
from detkit.data.base import (
    DATASETS,
    Annotations,
    DatasetConfig,
    DatasetFormat,
    DetectionDataset,
    Report,
    Sample,
    for_training,
    join,
    read_dataset,
    summary,
)

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
