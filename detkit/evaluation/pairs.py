"""Which detections overlap which truths, over a whole dataset at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detkit.data.stated import corners
from detkit.evaluation.results import Results
from detkit.evaluation.truth import Truth
from detkit.evaluation.voc_map import pair_iou

PAIRS_AT_ONCE = 2**20  # of detection and truth; bounds memory on crowded images


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Detections and truths of the same image that overlap, J pairs in order of detections."""

    detection: NDArray[np.int64]  # [J] row of the Results
    truth: NDArray[np.int64]  # [J] row of the Truth, rising for each detection
    iou: NDArray[np.float64]  # [J]

    def select(self, keep: NDArray[np.bool_]) -> Pairs:
        """Return the pairs of the mask ``keep``."""
        return Pairs(self.detection[keep], self.truth[keep], self.iou[keep])


def overlapping_pairs(results: Results, objects: Truth, floor: float) -> Pairs:
    """Every detection with every truth of its image, of any class, where IoU >= ``floor`` > 0."""
    begin = objects.offsets[results.images]  # [N]
    count = objects.offsets[results.images + 1] - begin  # [N] truths in its image
    done = np.concatenate([[0], np.cumsum(count)])  # pairs before each detection
    found, true = corners(results.measured), objects.boxes
    parts = []
    start = 0
    while start < len(results):
        end = int(np.searchsorted(done, done[start] + PAIRS_AT_ONCE, "right")) - 1
        end = max(end, start + 1)  # one detection at least, however crowded its image
        detection = np.repeat(np.arange(start, end), count[start:end])
        turn = np.arange(len(detection)) - (done[detection] - done[start])
        truth = begin[detection] + turn
        iou = pair_iou(found[detection], true[truth])
        parts.append(Pairs(detection, truth, iou).select(iou >= floor))
        start = end
    nothing = Pairs(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    parts = parts or [nothing]
    return Pairs(
        np.concatenate([part.detection for part in parts]),
        np.concatenate([part.truth for part in parts]),
        np.concatenate([part.iou for part in parts]),
    )
