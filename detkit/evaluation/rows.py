"""One evaluated checkpoint or file of detections, with all that a table says of it."""

from __future__ import annotations

from dataclasses import dataclass

from detkit.evaluation.bootstrap import Bootstrap
from detkit.evaluation.confusion import Confusion
from detkit.evaluation.errors import ErrorSplit
from detkit.evaluation.run import EvalResult
from detkit.evaluation.speed import Network, Speed


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One evaluated checkpoint, or one file of detections."""

    name: str  # of the run or the file
    data: str  # what it was evaluated on, e.g. "voc ../data/bccd test"
    result: EvalResult
    network: Network | None = None  # None for a file of detections
    speed: Speed | None = None  # None: not measured
    device: str = ""
    precision: str = ""
    step: int | None = None  # of training, where the checkpoint was written
    source: str = ""  # path of the checkpoint or the file
    left_out: int = 0  # classes that the detector knows and the data has not
    # detections that the detector gives at most, and of what: (100, "an image: model.max_det...")
    own_limit: tuple[int, str] | None = None
    changed: tuple[str, ...] = ()  # settings of the model that are not the checkpoint's, "a=1"
    cached: str = ""  # when the detections were made, where they come from the cache
    speed_cached: str = ""  # the same of the speed
    bootstrap: Bootstrap | None = None
    errors: ErrorSplit | None = None
    confusion: Confusion | None = None
