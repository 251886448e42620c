"""What R-CNN's stages are done on, and where they keep what they have done.

Reading order: ``Work``, ``part_folder``, ``read_kept``.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from detkit.data import Annotations, DetectionDataset, Sample
from detkit.detectors import RCNN
from detkit.engine.log import RunLog
from detkit.errors import DetkitError
from detkit.files import read_arrays, sha256_of
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
    """A digest of the image files and objects of a dataset, wherever it lies."""
    digest = hashlib.sha256()
    for path in data.paths:
        digest.update(sha256_of(Path(str(path))).encode())
    for array in (data.offsets, data.boxes, data.labels, data.difficult):
        digest.update(array.tobytes())
    return digest.hexdigest()


def read_kept(path: Path, *names: str) -> dict[str, NDArray[Any]]:
    """Arrays of an ``.npz`` file that a stage has kept.

    Raises:
        DetkitError: it is damaged, as a disk may leave it; with what to do.
    """
    try:
        return read_arrays(path, *names)
    except ValueError as problem:
        raise DetkitError(
            f"{path}: is damaged. Delete it and go on with --resume, which makes it again."
        ) from problem
