"""What a task is: all that training asks of what is learned, be it detection or another thing.

The loop, the schedule, saving and resuming, records, distribution and precision know no more of it
than this. A new task is a class with these functions; ``detection.py`` is one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor, nn

from detkit.checkpoints.fingerprint import Fingerprint
from detkit.experiment.config import ExperimentConfig

if TYPE_CHECKING:
    from detkit.engine.log import RunLog
    from detkit.engine.start import Prepared
    from detkit.engine.state import TrainState


class Part(Protocol):
    """The samples of a step, or some of them."""

    @property
    def share(self) -> float:
        """Of the step's samples."""

    def __len__(self) -> int:
        """Samples."""

    def split(self, parts: int) -> list[Any]:
        """Cut into ``parts`` whose gradients add up to this one's."""

    def tensors(self) -> dict[str, Tensor]:
        """All that the model sees of it, by name, kept in a file where a loss is not finite."""

    def described(self) -> list[dict[str, str]]:
        """``image_id`` and ``path`` of each sample."""


class Task(Protocol):
    """What is learned: data, model, batches, figures.

    A model has ``class_names`` and ``config``, is called with :meth:`inputs` in training, and gives
    its losses by name; they are added up.
    """

    def check(self, experiment: ExperimentConfig) -> None:
        """Refuse what can be known to be wrong before any data is read.

        Raises:
            ConfigError: saying which key.
        """

    def read_data(self, experiment: ExperimentConfig) -> tuple[Any, Any | None]:
        """What is learned from and what is measured on, or None; both have a length.

        Raises:
            DetkitError: it cannot be read.
        """

    def fill_from_data(self, experiment: ExperimentConfig, train_data: Any) -> ExperimentConfig:
        """The experiment with what the data decides, such as the number of classes."""

    def fingerprints(self, train_data: Any, eval_data: Any | None) -> Mapping[str, Fingerprint]:
        """Of each split, by its name in the config's ``data`` block."""

    def build_model(self, experiment: ExperimentConfig, train_data: Any) -> nn.Module:
        """The model, its weights drawn from torch's random state."""

    def before_first_step(self, prepared: Prepared) -> list[str]:
        """What else a run needs, in lines of what was done: weights that a new one starts from."""

    def begin(self, prepared: Prepared, log: RunLog) -> None:
        """What is left once the log is open, on every rank: what takes long and can be stopped."""

    def describe(self, prepared: Prepared) -> list[str]:
        """The data and the model in lines, for the head of the log."""

    def batches(
        self, run: TrainState, experiment: ExperimentConfig, train_data: Any
    ) -> Iterator[Any]:
        """This rank's :class:`Part` of every batch, from the step reached to the last."""

    def inputs(self, run: TrainState, part: Any) -> tuple[Any, ...]:
        """What the model is called with to learn from a part."""

    def worst_batch(self, run: TrainState, train_data: Any, images: int) -> tuple[Any, str]:
        """A batch of ``images`` that needs the most memory, and what it is in words."""

    def picture(self, run: TrainState, first: Any) -> Tensor | None:
        """``[3, H, W]`` uint8 of what the network sees of the first batch; None: nothing to see."""

    def measure(
        self, run: TrainState, experiment: ExperimentConfig, eval_data: Any, log: RunLog
    ) -> dict[str, float]:
        """The figures of what would be saved now, on every rank; ``log`` is told them.

        Raises:
            TooFewReadableError: too little of the data can still be read.
        """

    def finish(
        self, prepared: Prepared, experiment: ExperimentConfig, log: RunLog
    ) -> dict[str, float] | None:
        """What comes after the last step, and its figures; empty: nothing. None: it was stopped."""

    def finishes(self, experiment: ExperimentConfig) -> str:
        """What :meth:`finish` does, in words; empty where there is nothing to do."""
