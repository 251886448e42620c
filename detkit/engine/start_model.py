"""The model of a config that starts from weights: what comes with them, and what it states itself.

``model: {}`` beside ``train.start: NAME`` is the detector that NAME is, settings and all, so that
one config fine-tunes any of them. A model with a name of its own takes over the anchors and masks
that the weights were trained with: boxes are learned relative to them. What the block states itself
stands in the place of NAME's, and of anchors of its own it has its own masks.

Reading order: ``complete_model`` (before anything is read), ``take_over`` (of a model with a name),
``model_of`` (what a word names, without its weights).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detkit.backbones.weights import DARKNET_FILE
from detkit.checkpoints.files import read_described
from detkit.checkpoints.resolve import find_named
from detkit.config import Origins
from detkit.detectors import DETECTORS
from detkit.engine.build import default_model
from detkit.errors import ConfigError, DetkitError
from detkit.experiment.config import ExperimentConfig
from detkit.weights.zoo import ZOO, entry_of_size

# Settings of a source that a new run decides anew: by its data; by the weights themselves; and what
# R-CNN's later stages fit.
DECIDED_ANEW = ("num_classes", "class_weights", "backbone_weights", "scores", "regress")


def complete_model(
    experiment: ExperimentConfig, origins: Origins, last: Path | None = None
) -> tuple[ExperimentConfig, Origins]:
    """Put what comes with the weights of ``train.start`` into the model. Nothing is fetched.

    Args:
        experiment: as read.
        origins: of its values; what is added is ``train.start NAME``'s.
        last: of a run that goes on, its last checkpoint, which has the model already.

    Raises:
        ConfigError: neither a name nor weights to start from, or weights that say nothing of it.
    """
    word, has_name = experiment.train.start, "name" in experiment.model
    if word is None:
        if has_name:
            return experiment, origins
        raise ConfigError(
            "model.name: missing; name a detector, or weights to start from with train.start=NAME "
            f"(a run folder, or one of {', '.join(ZOO)})."
        )
    if last is None and is_of_unknown_network(word):
        if has_name:
            return experiment, origins
        raise ConfigError(
            f"train.start: {word}: a weight file of darknet that does not say what network it is "
            "of. If it holds the first layers of one, name that with model.name=NAME; if all of "
            f"them, make a checkpoint of it with `detkit convert {word} --cfg FILE --out DIR`."
        )
    try:
        found = _saved_model(last) if last is not None else model_of(word)
    except DetkitError as problem:
        raise ConfigError(f"train.start: {problem}") from problem
    if has_name:
        completed, _ = take_over(experiment, word, found)
    else:
        weighty = _weight_keys(found["name"])
        own = DECIDED_ANEW + (weighty[1:] if experiment.model.keys() & {*weighty[:1]} else ())
        taken = {key: value for key, value in found.items() if key not in own}
        completed = experiment.model_copy(update={"model": {**taken, **experiment.model}})
    added = [key for key in completed.model if key not in experiment.model]
    return completed, {f"model.{key}": f"train.start {word}" for key in added} | origins


def take_over(
    experiment: ExperimentConfig, word: str, theirs: Mapping[str, Any]
) -> tuple[ExperimentConfig, list[str]]:
    """Put settings that belong to weights into a model of the same kind: anchors and masks.

    Only what the config leaves open is taken.

    Args:
        experiment: its ``model`` block has a name.
        word: what names the weights.
        theirs: the ``model`` block of the weights, defaults written out.

    Returns:
        The experiment, and a line for each setting that is taken or is another.
    """
    model = dict(experiment.model)
    keys = _weight_keys(model["name"])
    if not keys or keys != _weight_keys(theirs["name"]):
        return experiment, []
    ours = default_model(model, model.get("num_classes", 1))
    if ours.get("strides") != theirs.get("strides"):
        return experiment, []
    lines = []
    stated = [key for key in keys if key in experiment.model]
    for key in keys:
        if key in stated:
            if ours[key] != theirs.get(key):
                lines.append(
                    f"start {word}: model.{key} is the config's own, {ours[key]}; the weights were "
                    f"trained with {theirs.get(key)}"
                )
        elif keys[0] not in stated and key in theirs and ours[key] != theirs[key]:
            model[key] = theirs[key]
            lines.append(taken_line(word, key, theirs[key]))
    return experiment.model_copy(update={"model": model}), lines


def taken_line(word: str, key: str, value: object) -> str:
    """What is said of a setting that came with weights."""
    return f"start {word}: model.{key} taken over with the weights: {value}"


def taken_lines(experiment: ExperimentConfig, origins: Origins) -> list[str]:
    """What :func:`complete_model` took over into a model with a name of its own, in lines."""
    word, model = experiment.train.start, experiment.model
    origin = f"train.start {word}"
    takes_all = origins.get("model.name") == origin  # a model without a name: nothing of it is news
    if word is None or takes_all:
        return []
    keys = [key for key in _weight_keys(model["name"]) if origins.get(f"model.{key}") == origin]
    return [taken_line(word, key, model[key]) for key in keys]


def taken_over(experiment: ExperimentConfig, last: Path) -> ExperimentConfig:
    """What :func:`take_over` gave the run that ``last`` is of, which goes on with it."""
    if experiment.train.start is None:
        return experiment
    return take_over(experiment, str(last), _saved_model(last))[0]


def _weight_keys(name: str) -> tuple[str, ...]:
    """Settings of a detector that its weights mean nothing without; what sets anchors is first."""
    kind = DETECTORS[name]
    keys = (kind.anchors_key, kind.masks_key, *kind.shape_keys)
    return tuple(key for key in keys if key is not None)


def is_of_unknown_network(word: str) -> bool:
    """Whether a word is a weight file of darknet's that is none of the zoo's: a part, or another's.

    Raises:
        ConfigError: no weight file, in spite of its name.
    """
    path = Path(word)
    is_file = DARKNET_FILE.fullmatch(path.name) is not None and path.is_file()
    try:
        return is_file and entry_of_size(path) is None
    except ConfigError as problem:
        raise ConfigError(f"train.start: {problem}") from problem


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
    model: Mapping[str, Any] = read_described(folder)["experiment"]["model"]
    return {"name": model["name"], **model}
