"""Images of an evaluation that cannot be read any more, though they could when the data was read.

They are left out with their objects, said and counted, as an entry's ``max_unreadable`` allows for
those that were unreadable from the start; both together. More of them, and there is no figure.

Reading order: ``ReadableSamples``, ``in_readable``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from torch.utils.data import Dataset

from detkit.data.base import Annotations, DetectionDataset, Sample
from detkit.data.formats.base import DatasetConfig
from detkit.data.settle import allowed_unreadable
from detkit.errors import DataError
from detkit.evaluation.results import Results


class TooFewReadableError(DataError):
    """So many images cannot be read that no figure is given."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """What a loader hands over in the place of a sample."""

    index: int  # in the dataset
    reason: str  # a sentence


class ReadableSamples(Dataset[Sample | Unreadable]):
    """The samples of a dataset, and the reason for each that cannot be read.

    Raised in a loader process, it would arrive as a traceback.
    """

    def __init__(self, dataset: DetectionDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample | Unreadable:
        try:
            return self.dataset[index]
        except DataError as problem:
            path = self.dataset.annotations.paths[index]
            return Unreadable(index, str(problem).removeprefix(f"{path}: "))


@dataclass(frozen=True, slots=True, eq=False)
class Detected:
    """What was found in the images of a dataset that could be read."""

    results: Results  # of these images
    annotations: Annotations  # of these images; its report tells of the others


def in_readable(
    results: Results, annotations: Annotations, unreadable: Mapping[int, str]
) -> Detected:
    """Leave images out, with their objects, and note them among those that were unreadable.

    Args:
        results: nothing in the images that are left out.
        annotations: of all images.
        unreadable: why, by index of the image.

    Raises:
        TooFewReadableError: they and those that were left out before are more than the data's
            ``max_unreadable`` allows, or all.
    """
    if not unreadable:
        return Detected(results, annotations)
    report = annotations.report
    now = [(str(annotations.paths[index]), why) for index, why in sorted(unreadable.items())]
    lost, listed = (*report.unreadable, *now), len(annotations) + len(report.unreadable)
    share = report.max_unreadable
    if share is None:
        share = DatasetConfig.model_fields["max_unreadable"].default
    allowed = int(allowed_unreadable(share, listed))
    if len(lost) > allowed or len(now) == len(annotations):
        path, why = now[0]
        raise TooFewReadableError(
            f"evaluation: {len(lost)} of {listed} images cannot be read (any more), of which "
            f"max_unreadable={share} allows {allowed}. Put them back, or raise max_unreadable in "
            f"the config's entry under data (data.max_unreadable=SHARE). The first: {path}: {why}"
        )
    keep = np.isin(np.arange(len(annotations)), list(unreadable), invert=True)
    kept = replace(annotations.keep_images(keep), report=replace(report, unreadable=lost))
    return Detected(replace(results, images=(np.cumsum(keep) - 1)[results.images]), kept)
