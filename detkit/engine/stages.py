"""The runs that a training consists of: one, or several that build on each other.

``train.stages`` says what differs from one to the next. Each stage is an ordinary run in a folder
of its own, ``RUN/NAME``, with its own ``config.yaml``, records and checkpoints; the last stage's
run is the run folder itself, so whoever evaluates or loads it need not know that there were stages.
What a stage takes from an earlier one are two keys of its config, ``train.start`` and
``train.proposals``, so each can also be trained again by itself.

A stage that has taken all its steps is never touched again. Only the last is evaluated: in the
others parts of the detector have not learned yet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from detkit.checkpoints.files import existing_checkpoint, last_checkpoint, read_described
from detkit.config import Origins, parse
from detkit.distributed.ranks import Ranks
from detkit.engine.records import flat
from detkit.engine.tasks.base import Task
from detkit.errors import ConfigError, DetkitError
from detkit.experiment.config import ExperimentConfig, StageConfig

BLOCKS = ("model", "train")  # of a config, that a stage changes


@dataclass(frozen=True, slots=True)
class Training:
    """A training as its config file and the command line describe it."""

    experiment: ExperimentConfig
    origins: Origins  # of its values
    folder: Path  # of the run


@dataclass(frozen=True, slots=True)
class Stage:
    """One run: the whole training, or one of its stages."""

    experiment: ExperimentConfig  # without stages
    origins: Origins
    folder: Path  # of this run
    training: Training  # that it belongs to
    title: str = ""  # "stage 2 of 4, fast"; empty where there is but one run
    is_last: bool = True
    before: tuple[str, ...] = ()  # stages that were finished when training was taken up again

    def heading(self) -> list[str]:
        """The first line of a stage."""
        done = f"; finished before: {', '.join(self.before)}" if self.before else ""
        return [f"{self.title}{done}"] if self.title else []


def plan_stages(training: Training, task: Task) -> tuple[Stage, ...]:
    """The runs of ``training``, in their order; every one is a config that can be built.

    Raises:
        ConfigError: a stage that cannot be, before the first one is begun.
    """
    experiment, stages = training.experiment, training.experiment.train.stages
    if not stages:
        task.check(experiment)
        return (Stage(experiment, training.origins, training.folder, training),)
    planned: dict[str, Stage] = {}
    for number, stage in enumerate(stages, 1):
        is_last = number == len(stages)
        try:
            own = _experiment_of(stage, training, planned, is_last=is_last)
            task.check(own)
        except DetkitError as problem:
            raise ConfigError(f"train.stages, {stage.name}: {problem}") from problem
        planned[stage.name] = Stage(
            own,
            training.origins | _origins_of(stage, is_last=is_last),
            training.folder if is_last else training.folder / stage.name,
            training,
            f"stage {number} of {len(stages)}, {stage.name}",
            is_last,
        )
    return tuple(planned.values())


def _experiment_of(
    stage: StageConfig, training: Training, earlier: Mapping[str, Stage], *, is_last: bool
) -> ExperimentConfig:
    """The whole config with what ``stage`` changes; what it takes from others named by path."""
    settings = training.experiment.model_dump()
    for block in BLOCKS:
        settings[block] = _merged(settings[block], getattr(stage, block))
    settings["train"]["stages"] = ()
    for key in ("start", "proposals"):
        source = getattr(stage, key)
        if source is not None:
            settings["train"][key] = str(earlier[source].folder / "last")
    if not is_last:
        settings["data"]["eval"] = ()
    return parse(ExperimentConfig, settings)


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Mappings merge, lists and values replace: as a config file on its base."""
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merged(merged[key], value) if both else value
    return merged


def _origins_of(stage: StageConfig, *, is_last: bool) -> Origins:
    said = f"train.stages, {stage.name}"
    changed = flat({block: getattr(stage, block) for block in BLOCKS})
    taken = [key for key in ("start", "proposals") if getattr(stage, key) is not None]
    keys = [*changed, *(f"train.{key}" for key in taken), "train.stages"]
    return dict.fromkeys(keys if is_last else [*keys, "data.eval"], said)


def left_to_train(stages: tuple[Stage, ...], ranks: Ranks) -> tuple[Stage, ...]:
    """The stages from the one that training has reached; rank 0 looks.

    The last is always among them: it says itself that nothing is left.
    """
    count = ranks.from_main(lambda: _count_finished(stages))
    first, *rest = stages[count:]
    before = tuple(stage.folder.name for stage in stages[:count])
    return replace(first, before=before), *rest


def _count_finished(stages: tuple[Stage, ...]) -> int:
    """What comes before a stage that has begun was finished, even if its folder is gone by now."""
    reached = [number for number, stage in enumerate(stages) if has_begun([stage])]
    if not reached:
        return 0
    stage = stages[reached[-1]]
    return reached[-1] + (not stage.is_last and _is_finished(stage))


def _is_finished(stage: Stage) -> bool:
    last = existing_checkpoint(stage.folder / "last")
    if last is None:
        return False
    said = read_described(last)
    steps = stage.experiment.train.iterations or said.get("steps", 0)
    return bool(said["step"] >= steps)


def has_begun(stages: Sequence[Stage]) -> bool:
    """Whether any of the runs has left a checkpoint to go on from.

    Raises:
        ConfigError: one of them has, but not all of it is there.
    """
    return any(last_checkpoint(stage.folder) is not None for stage in stages)
