"""Weights from elsewhere: what a new run starts from, and whose proposals it learns from.

Reading order: ``read_start`` (the detector that ``train.start`` names), ``load_start_weights``
(what a new run gets, once), ``copy_weights`` (which tensors fit, classes by name),
``load_proposer``. Settings that come with weights are in ``start_model.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from detkit.backbones.weights import (
    DARKNET_FILE,
    NAMES_SHOWN,
    load_backbone_weights,
    other_pixels,
    sees_plain_pixels,
)
from detkit.checkpoints.resolve import find_named
from detkit.class_names import match_classes
from detkit.detectors import DETECTORS, NO_CLASS, Detector, build_detector
from detkit.distributed.ranks import Ranks
from detkit.engine.build import default_model, with_defaults
from detkit.engine.console_watch import ConsoleWatch
from detkit.engine.state import Proposer, TrainState
from detkit.errors import ConfigError, DetkitError
from detkit.experiment.config import ExperimentConfig
from detkit.weights.darknet import load_partial
from detkit.weights.finite import refuse_not_finite
from detkit.weights.zoo import entry_of_size

START, PROPOSALS = "train.start", "train.proposals"  # where a person names them
NOT_COMPARED = ("name", "num_classes", "backbone_weights")  # of two models' settings
COUNTER = "num_batches_tracked"  # of batch norm: no weight, and of the same shape everywhere
PREFIX = "backbone."


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """A detector from elsewhere, on the CPU, in what can be sent to other ranks."""

    name: str  # as it was named
    model: Mapping[str, Any]  # the ``model`` block, defaults written out
    tensors: Mapping[str, Tensor]  # all of them, or those that a partial file holds
    class_names: tuple[str, ...] = ()  # in the order of its outputs; empty: not known

    def build(self) -> Detector:
        """The detector itself, in eval mode; nothing in it learns."""
        detector = build_detector(self.model)
        detector.load_state_dict(self.tensors)
        return detector.eval().requires_grad_(False)


@dataclass(frozen=True, slots=True)
class StartReport:
    """What became of each tensor of :data:`START`. ``str()`` of it is one line for the log."""

    source: str
    loaded: tuple[str, ...]  # in whole, or but for the rows of classes that are new
    re_initialised: tuple[str, ...]  # the model's, absent from the source or of another shape
    ignored: tuple[str, ...]  # the source's, unknown to the model
    differences: tuple[str, ...] = ()  # of the two models' settings
    known: tuple[str, ...] = ()  # classes that the source has, too: their rows are its own
    new: tuple[str, ...] = ()  # classes whose rows stay as they are drawn

    def __str__(self) -> str:
        line = (
            f"start {self.source}: {len(self.loaded)} tensors loaded, "
            f"{len(self.re_initialised)} re-initialised{_few(self.re_initialised)}, "
            f"{len(self.ignored)} ignored{_few(self.ignored)}"
        )
        if self.known or self.new:
            line += f"; classes by name: {len(self.known)} taken over{_few(self.known)}, "
            line += f"{len(self.new)} re-initialised{_few(self.new)}"
        if not self.differences:
            return line
        return f"{line}; its settings were others{_few(self.differences)}"


def _few(names: Sequence[str]) -> str:
    if not names:
        return ""
    more = len(names) - NAMES_SHOWN
    shown = ", ".join(names[:NAMES_SHOWN])
    return f" ({shown}, and {more} more)" if more > 0 else f" ({shown})"


# ------------------------------------------------------------------------------- the source


def read_start(experiment: ExperimentConfig, word: str, ranks: Ranks) -> Source:
    """Find and read what ``train.start`` names.

    Args:
        experiment: with its ``model`` block complete, by which a partial file is read.
        word: that key's value.
        ranks: rank 0 reads, and tells the others.

    Raises:
        ConfigError: nothing that can be read; the sentence begins with the key.
    """
    path = Path(word)
    if DARKNET_FILE.fullmatch(path.name) and path.is_file():
        return ranks.from_main(lambda: _read_darknet(path, word, experiment.model))
    return read_source(ranks, word, START)


def read_source(ranks: Ranks, word: str, key: str) -> Source:
    """Find and read the detector that ``word`` names; rank 0 does, and tells the others.

    Raises:
        ConfigError: nothing that can be read; the sentence begins with ``key``.
    """

    def read() -> Source:
        try:
            with ConsoleWatch() as watch:
                found = find_named(word, watch).load()
        except DetkitError as problem:
            raise ConfigError(f"{key}: {problem}") from problem
        detector = found.detector
        return Source(word, found.experiment.model, detector.state_dict(), detector.class_names)

    return ranks.from_main(read)


def _read_darknet(path: Path, word: str, model: Mapping[str, Any]) -> Source:
    """A weight file of darknet's: a whole one of the zoo's networks, or the first layers of ours.

    A whole one of another network, or of other classes, says neither its anchors nor its names.
    """
    try:
        if entry_of_size(path) is not None:
            return read_source(Ranks(), word, START)
        with torch.random.fork_rng(devices=()):
            detector = build_detector(model)
        if not sees_plain_pixels(detector.backbone):
            raise ConfigError(other_pixels(str(model.get("backbone")), path, START))
        part = load_partial(detector, path)
    except ConfigError as problem:
        raise ConfigError(f"{START}: {str(problem).removeprefix(f'{START}: ')}") from problem
    if part.layers == part.of:
        raise ConfigError(
            f"{START}: {path}: holds every layer of a {model['name']}, but neither its anchors nor "
            f"the names of its classes; make a checkpoint of it with `detkit convert {path} --cfg "
            "FILE --names FILE --out DIR`, and start from that folder."
        )
    state = detector.state_dict()
    refuse_not_finite(f"{START}: {path}", {name: state[name] for name in part.loaded})
    described = default_model(model, model["num_classes"])
    return Source(word, described, {name: state[name] for name in part.loaded})


# ------------------------------------------------------------------------------ the weights


def load_start_weights(
    run: TrainState, experiment: ExperimentConfig, source: Source | None
) -> list[str]:
    """Apply ``train.start``, else ``model.backbone_weights``, to a new run; say what was loaded.

    ``train.start`` holds the backbone's weights, too, so the other is not read where both are
    given. Never called on a run that is resumed: its checkpoint has weights of its own. Every rank
    calls it.

    Args:
        run: changed in place.
        experiment: its config.
        source: what :func:`read_start` gave.

    Raises:
        ConfigError: no such weights, or none that fit.
    """
    model = cast(Detector, run.model)
    settings = with_defaults(experiment, run).model
    weights = settings.get("backbone_weights", "none")
    lines = []
    if source is not None:
        lines.append(str(copy_weights(model, settings, source)))
        if weights != "none":
            lines.append(f"model.backbone_weights: {weights} is not read, since {START} is given")
    elif weights != "none":
        trunk, name = model.backbone.trunk, settings["backbone"]
        report = run.ranks.main_first(lambda: load_backbone_weights(trunk, name, weights))
        lines.append(str(report))
    else:
        lines.append("weights: drawn from train.seed; none loaded")
    if run.average is not None:
        run.average.module.load_state_dict(run.model.state_dict())
    return lines


@torch.no_grad()
def copy_weights(model: Detector, settings: Mapping[str, Any], source: Source) -> StartReport:
    """Copy the tensors of ``source`` whose name and shape agree into ``model``.

    Layers that speak of classes are copied row by row: what is of no class (boxes, objectness,
    background) by its place, and each class from the one of the same name, wherever it stands. A
    class without a namesake stays as it is drawn.

    Args:
        model: as built, with its class names; changed in place.
        settings: its ``model`` block, defaults written out.
        source: what to copy from.

    Raises:
        ConfigError: no weight of the backbone fits.
    """
    own: dict[str, Tensor] = model.state_dict()  # shares memory with the model
    with torch.device("meta"):
        built = build_detector(source.model)
    our_rows, their_rows = model.class_rows(), built.class_rows()
    namesakes = _namesakes(model.class_names, source.class_names)
    loaded: list[str] = []
    by_class = False
    for name, tensor in source.tensors.items():
        if name not in own or name in model.derived:
            continue
        ours, theirs = our_rows.get(name), their_rows.get(name)
        if ours is not None and theirs is not None:
            if _copy_rows(own[name], ours, tensor, theirs, namesakes):
                by_class = True
                loaded.append(name)
        elif own[name].shape == tensor.shape:
            own[name].copy_(tensor)
            loaded.append(name)
    weights = [name for name in loaded if not name.endswith(COUNTER)]
    theirs, ours = (each.get("backbone") for each in (source.model, settings))
    if theirs != ours or not any(name.startswith(PREFIX) for name in weights):
        raise ConfigError(
            f"{START}: {source.name}: none of its weights fits the backbone. It is a "
            f"{_model_words(source.model)}, the config's a {_model_words(settings)}; start from a "
            "detector on the same backbone, or set train.start: null."
        )
    ignored = [name for name in source.tensors if name not in own]
    known = [label for label in namesakes if by_class]
    return StartReport(
        source.name,
        tuple(weights),
        tuple(n for n in own if n not in loaded and _is_weight(n, model)),
        tuple(n for n in ignored if not n.endswith(COUNTER)),
        tuple(_differences(source.model, settings)),
        tuple(model.class_names[label] for label in known),
        tuple(n for label, n in enumerate(model.class_names) if by_class and label not in known),
    )


def _is_weight(name: str, model: Detector) -> bool:
    return not name.endswith(COUNTER) and name not in model.derived


def _namesakes(ours: Sequence[str], theirs: Sequence[str]) -> dict[int, int]:
    """Our label to theirs, of every class that both have."""
    places = {name: label for label, name in enumerate(theirs)}
    met = match_classes(ours, theirs)
    return {label: places[met[name]] for label, name in enumerate(ours) if name in met}


def _copy_rows(
    own: Tensor,
    own_labels: Tensor,
    tensor: Tensor,
    labels: Tensor,
    namesakes: Mapping[int, int],
) -> bool:
    """Copy rows of no class by place and those of classes by name; False where they do not fit.

    Args:
        own: ``[R, ...]``, changed in place.
        own_labels: ``[R]`` the label of each of its rows.
        tensor: ``[S, ...]`` to copy from.
        labels: ``[S]`` likewise.
        namesakes: label of ``own_labels`` to label of ``labels``.
    """
    pairs = [(NO_CLASS, NO_CLASS), *namesakes.items()]
    rows = [(own_labels == mine, labels == theirs) for mine, theirs in pairs]
    fits = own.shape[1:] == tensor.shape[1:] and all(a.sum() == b.sum() for a, b in rows)
    if fits:
        for mine, theirs in rows:
            own[mine.to(own.device)] = tensor[theirs].to(own)
    return bool(fits)


def _model_words(model: Mapping[str, Any]) -> str:
    return f"{model['name']} on {model.get('backbone', 'a backbone of its own')}"


def _differences(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
    """``nms_iou: 0.3, now 0.5`` for every setting that both models have, with another value."""
    found = (
        [] if theirs["name"] == ours["name"] else [f"name: {theirs['name']}, now {ours['name']}"]
    )
    shared = [key for key in ours if key in theirs and key not in NOT_COMPARED]
    changed = [key for key in shared if theirs[key] != ours[key]]
    return found + [f"{key}: {theirs[key]}, now {ours[key]}" for key in changed]


def check_proposals(experiment: ExperimentConfig) -> None:
    """Refuse proposals for a detector that takes none.

    Raises:
        ConfigError: saying so.
    """
    detector = DETECTORS[experiment.model["name"]]
    takes = detector.needs_proposals or issubclass(detector, Proposer)
    if experiment.train.proposals is not None and not takes:
        raise ConfigError(
            f"{PROPOSALS}: {experiment.model['name']} learns from no proposals; take the key out."
        )


def load_proposer(run: TrainState) -> Proposer | None:
    """The detector of ``train.proposals``, on the run's device; None where none is named.

    Raises:
        ConfigError: nothing that can be read, or a detector that proposes nothing.
    """
    word = run.config.proposals
    if word is None:
        return None
    with torch.random.fork_rng(devices=()):  # a resumed run builds it after its draws are restored
        source = read_source(run.ranks, word, PROPOSALS)
        detector = source.build()
    if not isinstance(detector, Proposer):
        raise ConfigError(
            f"{PROPOSALS}: {word} is a {_model_words(source.model)}, which proposes no regions; "
            "name a faster_rcnn."
        )
    detector.to(run.device)
    if run.config.channels_last:
        detector.to(memory_format=torch.channels_last)
    return detector
