"""What R-CNN's stages are done on, and where they keep what they have done.

Reading order: ``Work``, ``part_folder``.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from detkit.data import Annotations, DetectionDataset, Sample
from detkit.detectors import RCNN
from detkit.engine.log import RunLog
from detkit.proposals.store import ProposalStore
from detkit.types import Boxes

FOLDER = "stages"  # in the run folder
DIGITS = 12  # of a digest


class StoppedError(Exception):
    """Ctrl-C was asked for; all that was done so far is on the disk."""


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """What the stages are done on, and whom they tell."""

    detector: RCNN  # in eval mode, fine-tuned
    folder: Path  # of the run
    train_data: Annotations
    eval_data: Annotations | None
    store: ProposalStore
    seed: int
    log: RunLog
    stopping: Callable[[], bool]

    def check_stop(self) -> None:
        """End here where a stop was asked for."""
        if self.stopping():
            raise StoppedError

    def sample(self, data: Annotations, image: int) -> Sample:
        """An image with the objects that training may see."""
        sample = DetectionDataset(data)[image]
        return replace(sample, target=sample.target.without_difficult())

    def proposals(self, sample: Sample) -> Boxes:
        """``[R, 4]`` of an image: from the store, where they are there already."""
        return self.store.find(Path(sample.path), sample.image)


def part_folder(work: Work, name: str, depends_on: list[Any]) -> Path:
    """The folder of a part; what another state of things had left there is removed."""
    text = json.dumps(depends_on, sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:DIGITS]
    folder = work.folder / FOLDER / f"{name}-{digest}"
    folder.mkdir(parents=True, exist_ok=True)
    for other in folder.parent.glob(f"{name}-*"):
        if other != folder:
            shutil.rmtree(other)
    return folder


def content_of(data: Annotations) -> str:
    """A digest of the images and objects of a dataset."""
    arrays = (data.paths, data.offsets, data.boxes, data.labels, data.difficult)
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()
