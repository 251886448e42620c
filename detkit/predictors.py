"""Predictors that are no detectors, such as any callable; and what a predictor may do beside."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, cast, runtime_checkable

from torch import Tensor

from detkit.detections import Detections, Predictor
from detkit.errors import ConfigError, DetkitError
from detkit.types import Boxes


@runtime_checkable
class FindsProposals(Protocol):
    """A predictor that finds the regions it needs where none are given."""

    def find_proposals(self, images: list[Tensor]) -> list[Boxes] | None:
        """``[R, 4]`` regions of each image, in its pixels."""


@runtime_checkable
class HasParts(Protocol):
    """A predictor whose parts can be timed apart."""

    def preprocess(self, images: list[Tensor]) -> Any:
        """Images to the batch that its network takes."""

    def outputs(self, batch: Any) -> Any:
        """What its network says of a batch."""

    def postprocess(self, outputs: Any, batch: Any) -> list[Detections]:
        """Detections made of it."""


class NamedCallable(Protocol):
    """Any callable from images to detections that knows the names of its classes."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of labels 0..K-1."""

    def __call__(self, images: list[Tensor], /) -> Sequence[Detections]:
        """Detect in ``[3, H, W]`` uint8 RGB images; boxes are in their pixels."""


@dataclass(frozen=True, slots=True)
class CallablePredictor:
    """Any function from images to detections as a predictor.

    ``CallablePredictor(lambda images: [...], ("cat", "dog"))`` can be given to ``detkit.detect``
    and ``detkit.evaluate``.
    """

    call: Callable[[list[Tensor]], Sequence[Detections]]
    class_names: tuple[str, ...]
    show_threshold: float = 0.0
    needs_proposals: bool = False

    def detect_batch(
        self, images: list[Tensor], proposals: list[Boxes] | None = None
    ) -> list[Detections]:
        """What the function says of the images; each by the names of the classes."""
        found = list(self.call(images))
        if len(found) != len(images):
            raise DetkitError(
                f"the predictor gave {len(found)} detections for {len(images)} images; expected "
                "one Detections for each."
            )
        return [replace(each, names=each.names or self.class_names) for each in found]


MEMBERS = ("class_names", "show_threshold", "needs_proposals", "detect_batch")


def as_predictor(model: object, where: str) -> Predictor:
    """``model`` where it is a predictor; a callable with ``class_names`` as one.

    Args:
        model: what shall detect.
        where: the function that was called, for messages.

    Raises:
        ConfigError: it is neither.
        DetkitError: it is in training mode.
    """
    if getattr(model, "training", False):
        raise DetkitError(f"{where}: the detector is in training mode; call .eval() first.")
    is_made = not isinstance(model, type)  # a class has the same names, and nothing to call
    if is_made and all(hasattr(model, name) for name in MEMBERS):
        return cast(Predictor, model)
    if is_made and callable(model) and hasattr(model, "class_names"):
        return CallablePredictor(model, tuple(model.class_names))
    shown = repr(model) if isinstance(model, str | int | float | None) else type(model).__name__
    if isinstance(model, type):
        shown = f"the class {model.__name__}"
    raise ConfigError(
        f"{where}: the model is {shown}; expected a detector, which detkit.load(PATH) gives, or "
        f"what has {', '.join(MEMBERS[:-1])} and {MEMBERS[-1]}, or what is called with images and "
        "has class_names."
    )
