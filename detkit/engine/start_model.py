"""The model of a config that names none: that of the weights it starts from.

``model: {}`` beside ``train.start: NAME`` is the detector that NAME is, settings and all, so that
one config fine-tunes any of them. What the block states itself stands in the place of NAME's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detkit.config import Origins
from detkit.engine.build import default_model
from detkit.engine.checkpoint import MODEL
from detkit.engine.experiment import ExperimentConfig
from detkit.engine.named import find_named
from detkit.errors import ConfigError, DetkitError
from detkit.weights.zoo import ZOO

DECIDED_ELSEWHERE = ("num_classes", "backbone_weights")  # by the data; by the weights themselves


def complete_model(
    experiment: ExperimentConfig, origins: Origins, last: Path | None = None
) -> tuple[ExperimentConfig, Origins]:
    """Fill in a ``model`` block without a name; any other stays as it is. Nothing is fetched.

    Args:
        experiment: as read.
        origins: of its values.
        last: of a run that goes on, its last checkpoint, which has the model already.

    Raises:
        ConfigError: neither a name nor weights to start from, or weights that say nothing of it.
    """
    if "name" in experiment.model:
        return experiment, origins
    word = experiment.train.start
    if word is None:
        raise ConfigError(
            "model.name: missing; name a detector, or weights to start from with train.start=NAME "
            f"(a run folder, or one of {', '.join(ZOO)})."
        )
    try:
        found = _saved_model(last) if last is not None else model_of(word)
    except DetkitError as problem:
        raise ConfigError(f"train.start: {problem}") from problem
    taken = {key: value for key, value in found.items() if key not in DECIDED_ELSEWHERE}
    said = {f"model.{key}": f"train.start {word}" for key in taken if key not in experiment.model}
    model = {**taken, **experiment.model}
    return experiment.model_copy(update={"model": model}), said | origins


def model_of(word: str) -> Mapping[str, Any]:
    """The ``model`` block, defaults written out, of what a word names; no weight is read.

    Raises:
        ConfigError: nothing that can be read.
        UnknownNameError: a single word that names nothing.
    """
    named = find_named(word, fetch=False)
    if named.entry is None:
        return _saved_model(named.path)
    return default_model(named.entry.model, named.entry.model["num_classes"])


def _saved_model(folder: Path) -> Mapping[str, Any]:
    try:
        described = json.loads((folder / MODEL).read_text(encoding="utf-8"))
        model: Mapping[str, Any] = described["experiment"]["model"]
        return {"name": model["name"], **model}
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise ConfigError(
            f"{folder / MODEL}: not a checkpoint that this detkit can read ({problem})."
        ) from problem
