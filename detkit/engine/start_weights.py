"""Weights from elsewhere: what a new run starts from, and whose proposals it learns from.

Reading order: ``load_start_weights`` (what a new run gets, once), ``copy_weights`` (which tensors
fit), ``load_proposer``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from detkit.backbones.weights import NAMES_SHOWN, load_backbone_weights
from detkit.detectors import DETECTORS, Detector, build_detector
from detkit.engine.build import with_defaults
from detkit.engine.console_watch import ConsoleWatch
from detkit.engine.experiment import ExperimentConfig
from detkit.engine.named import find_named
from detkit.engine.state import Proposer, TrainState
from detkit.errors import ConfigError, DetkitError

START, PROPOSALS = "train.start", "train.proposals"  # where a person names them
NOT_COMPARED = ("name", "num_classes", "backbone_weights")  # of two models' settings
COUNTER = "num_batches_tracked"  # of batch norm: no weight, and of the same shape everywhere
PREFIX = "backbone."


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """A detector from elsewhere, on the CPU, in what can be sent to other ranks."""

    name: str  # as it was named
    model: Mapping[str, Any]  # the ``model`` block, defaults written out
    tensors: Mapping[str, Tensor]

    def build(self) -> Detector:
        """The detector itself, in eval mode; nothing in it learns."""
        detector = build_detector(self.model)
        detector.load_state_dict(self.tensors)
        return detector.eval().requires_grad_(False)


@dataclass(frozen=True, slots=True)
class StartReport:
    """What became of each tensor of :data:`START`. ``str()`` of it is one line for the log."""

    source: str
    loaded: tuple[str, ...]
    re_initialised: tuple[str, ...]  # the model's, absent from the source or of another shape
    ignored: tuple[str, ...]  # the source's, unknown to the model
    differences: tuple[str, ...] = ()  # of the two models' settings

    def __str__(self) -> str:
        line = (
            f"start {self.source}: {len(self.loaded)} tensors loaded, "
            f"{len(self.re_initialised)} re-initialised{_few(self.re_initialised)}, "
            f"{len(self.ignored)} ignored{_few(self.ignored)}"
        )
        if not self.differences:
            return line
        return f"{line}; its settings were others{_few(self.differences)}"


def _few(names: Sequence[str]) -> str:
    if not names:
        return ""
    more = len(names) - NAMES_SHOWN
    shown = ", ".join(names[:NAMES_SHOWN])
    return f" ({shown}, and {more} more)" if more > 0 else f" ({shown})"


def load_start_weights(run: TrainState, experiment: ExperimentConfig) -> list[str]:
    """Apply ``train.start``, else ``model.backbone_weights``, to a new run; say what was loaded.

    ``train.start`` holds the backbone's weights, too, so the other is not read where both are
    given. Never called on a run that is resumed: its checkpoint has weights of its own. Every rank
    calls it.

    Raises:
        ConfigError: no such weights, or none that fit.
    """
    settings = with_defaults(experiment, run).model
    weights = settings.get("backbone_weights", "none")
    lines = []
    if run.config.start is not None:
        source = read_source(run, run.config.start, START)
        lines.append(str(copy_weights(run.model, settings, source)))
        if weights != "none":
            lines.append(f"model.backbone_weights: {weights} is not read, since {START} is given")
    elif weights != "none":
        trunk, name = run.model.backbone.trunk, settings["backbone"]
        report = run.ranks.main_first(lambda: load_backbone_weights(trunk, name, weights))
        lines.append(str(report))
    else:
        lines.append("weights: drawn from train.seed; none loaded")
    if run.average is not None:
        run.average.module.load_state_dict(run.model.state_dict())
    return lines


def read_source(run: TrainState, word: str, key: str) -> Source:
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
        return Source(word, found.experiment.model, found.detector.state_dict())

    return run.ranks.from_main(read)


def copy_weights(model: Detector, settings: Mapping[str, Any], source: Source) -> StartReport:
    """Copy the tensors of ``source`` whose name and shape agree into ``model``.

    The others stay as they are drawn: the layers that speak of classes, where their number is
    another one.

    Args:
        model: as built; changed in place.
        settings: its ``model`` block, defaults written out.
        source: what to copy from.

    Raises:
        ConfigError: no weight of the backbone fits.
    """
    own: dict[str, Tensor] = model.state_dict()
    fits = {
        name: tensor
        for name, tensor in source.tensors.items()
        if name in own and own[name].shape == tensor.shape
    }
    loaded = tuple(name for name in fits if not name.endswith(COUNTER))
    if not any(name.startswith(PREFIX) for name in loaded):
        raise ConfigError(
            f"{START}: {source.name}: none of its weights fits the backbone. It is a "
            f"{_model_words(source.model)}, the config's a {_model_words(settings)}; start from a "
            "detector on the same backbone, or set train.start: null."
        )
    model.load_state_dict(fits, strict=False)
    return StartReport(
        source.name,
        loaded,
        tuple(name for name in own if name not in fits and not name.endswith(COUNTER)),
        tuple(name for name in source.tensors if name not in own and not name.endswith(COUNTER)),
        tuple(_differences(source.model, settings)),
    )


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
        source = read_source(run, word, PROPOSALS)
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
