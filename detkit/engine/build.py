"""From a config to a run: data, model, optimiser and average, ready for the loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from detkit.class_names import OtherClassesError, few
from detkit.config import Config, parse
from detkit.data import Annotations, for_training, join
from detkit.data.augment import as_placed
from detkit.data.reading import read_entries
from detkit.data.sampling import class_weights
from detkit.detectors import DETECTORS, build_detector
from detkit.device import build_scaler
from detkit.engine.clock import Clock
from detkit.engine.decisions import Decisions
from detkit.engine.optimizer import build_average, build_optimizer
from detkit.engine.schedule import Horizon, auto_epochs, horizon
from detkit.engine.state import TrainState
from detkit.engine.stopping import part_of
from detkit.engine.tasks.base import Task
from detkit.errors import ConfigError, shown
from detkit.experiment.config import ExperimentConfig, TrainConfig


def read_data(experiment: ExperimentConfig) -> tuple[Annotations, Annotations | None]:
    """Read what the config trains and evaluates on; labels mean the same in both."""
    data = experiment.data
    if not data.train:
        raise ConfigError("data.train: missing; name what to train on, e.g. {format, root, split}.")
    train_data = join_train(experiment, read_entries(data.train, data.classes))
    if not data.eval:
        return train_data, None
    names = train_data.class_names
    try:
        eval_data = join(read_entries(data.eval, names), names)
    except OtherClassesError as problem:
        if data.classes:
            raise
        raise not_trained_on(problem) from problem
    return train_data, eval_data if len(eval_data) else None  # of one image none can be held out


def join_train(experiment: ExperimentConfig, parts: Sequence[Annotations]) -> Annotations:
    """Join what the training entries hold into what is learned from.

    Raises:
        ConfigError: nothing in it can be learned.
        DataError: an image stands in two entries.
    """
    crowds = DETECTORS[experiment.model["name"]].uses_crowds
    train_data = for_training(join(parts, experiment.data.classes), crowds=crowds)
    if not len(train_data):
        raise ConfigError("data.train: no images; check data.root and data.split.")
    if not train_data.class_names:
        raise ConfigError(
            f"data.train: no objects in {len(train_data)} images, so there is no class to learn; "
            "check the <object> entries of the annotations, or name data.classes."
        )
    return train_data


def not_trained_on(problem: OtherClassesError) -> OtherClassesError:
    """The same where the classes are those that the training data has."""
    return problem.in_words(
        "is not in data.train",
        "data.train has",
        "Name all of them in data.classes.",
    )


def check_model(experiment: ExperimentConfig) -> None:
    """Build the model without memory, so that a mistake in it is known before data is read.

    Raises:
        ConfigError: in the model block, in the parts to freeze, or because nothing would learn.
    """
    with torch.device("meta"):
        model = build_detector({"num_classes": 1, **experiment.model})
        freeze(model, experiment.train.freeze)
        build_optimizer(model, experiment.train)


def check_placement(experiment: ExperimentConfig) -> None:
    """Refuse to train a detector on images of other shapes than those it will see."""
    placement = experiment.train.augment.placement
    name = experiment.model["name"]
    if _stretches(experiment) and placement not in ("crop", "auto"):
        raise ConfigError(
            f"train.augment.placement: is {placement}, but {name} stretches images in detection; "
            "set it to crop, so that it is trained on the shapes it will see."
        )


def _stretches(experiment: ExperimentConfig) -> bool:
    with torch.device("meta"):
        return build_detector({"num_classes": 1, **experiment.model}).stretches


def settle(experiment: ExperimentConfig, train_data: Annotations) -> ExperimentConfig:
    """Fill in what the data decides: class names and their number; weights and epochs if asked."""
    names = train_data.class_names
    stated = experiment.model.get("num_classes", len(names))
    if stated != len(names):
        raise ConfigError(
            f"model.num_classes: is {stated}, but the data has {len(names)} classes "
            f"({few(names)}). Leave the key out to take the data's."
        )
    model = {**experiment.model, "num_classes": len(names)}
    if experiment.train.class_weights == "auto":
        if "class_weights" not in DETECTORS[model["name"]].config_type.model_fields:
            raise ConfigError(f"train.class_weights: {model['name']} has no weights of classes.")
        model["class_weights"] = class_weights(train_data)
    data = experiment.data.model_copy(update={"classes": names})
    augment = as_placed(experiment.train.augment, stretches=_stretches(experiment))
    train = experiment.train.model_copy(update={"augment": augment})
    if train.epochs == "auto":
        train = train.model_copy(update={"epochs": auto_epochs(len(train_data))})
        most = horizon(train, len(train_data)).steps // 10  # else a few photos never leave it
        train = train.model_copy(update={"burn_in": min(train.burn_in, most)})
    return experiment.model_copy(update={"model": model, "data": data, "train": train})


def build_run(
    task: Task, experiment: ExperimentConfig, train_data: Any, folder: Path, device: torch.device
) -> TrainState:
    """Build model, optimiser and average; the weights are drawn from ``train.seed``."""
    config = experiment.train
    decided = Decisions.at_start(config, device)
    if decided.precision == "fp16" and device.type != "cuda":
        raise ConfigError("train.precision: fp16 needs a GPU; use bf16 or fp32 on a CPU.")
    plan = horizon(config, len(train_data))
    check_unfreezing(config, plan)
    if config.sync_batch_norm and device.type != "cuda":
        raise ConfigError(
            "train.sync_batch_norm: needs GPUs; on CPUs every rank normalises its own part of "
            "the batch. Set it to false."
        )
    torch.manual_seed(config.seed)
    model = task.build_model(experiment, train_data)
    freeze(model, config.freeze)
    model.to(device)
    if config.channels_last:
        model.to(memory_format=torch.channels_last)
    return TrainState(
        task=task,
        model=model,
        optimizer=build_optimizer(model, config),
        scaler=build_scaler(decided.precision, device),
        average=build_average(model, config.average_decay),
        config=config,
        horizon=plan,
        device=device,
        folder=folder,
        decided=decided,
        clock=Clock(device),
    )


def freeze(model: nn.Module, parts: Sequence[str]) -> None:
    """Stop the parameters whose names begin with one of ``parts`` from learning."""
    for part in parts:
        named = [p for n, p in model.named_parameters() if part_of(n, [part])]
        if not named:
            children = ", ".join(name for name, _ in model.named_children())
            raise ConfigError(
                f"train.freeze: the model has no part {shown(part)}; it has {children}."
            )
        for parameter in named:
            parameter.requires_grad_(False)


def check_unfreezing(config: TrainConfig, plan: Horizon) -> None:
    """Refuse parts that would begin to learn when training is over."""
    for part, epoch in config.unfreeze.items():
        if plan.after(epoch) >= plan.steps:
            raise ConfigError(
                f"train.unfreeze: {part} would learn after epoch {epoch}, but training ends after "
                f"{plan.epochs:.4g}; name an earlier one, or leave it in train.freeze alone."
            )


def default_model(model: Mapping[str, Any], num_classes: int) -> dict[str, Any]:
    """A ``model`` block with every default of its detector written out."""
    settings = {**model, "num_classes": num_classes}
    config = parse(DETECTORS[settings.pop("name")].config_type, settings, path="model.")
    return {"name": model["name"], **config.model_dump(mode="json")}


def with_defaults(experiment: ExperimentConfig, run: TrainState) -> ExperimentConfig:
    """The experiment with every default of its model written out."""
    config = cast(Config, run.model.config)
    model = {"name": experiment.model["name"], **config.model_dump(mode="json")}
    return experiment.model_copy(update={"model": model})
