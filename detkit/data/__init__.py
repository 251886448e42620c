"""Datasets: their one form in memory, and the formats they are read from."""

from detkit.data.base import Annotations, DetectionDataset, Report, Sample, for_training, summary
from detkit.data.formats import known as _known  # noqa: F401  (registers the formats)
from detkit.data.formats.base import DATASETS, DatasetConfig, DatasetFormat
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
