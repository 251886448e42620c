"""The optimiser of a run, its groups of parameters, and the average of its weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from detkit.engine.stopping import frozen_parts, part_of
from detkit.errors import ConfigError
from detkit.experiment.config import TrainConfig


def build_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Decay on convolution, local and linear weights only, as darknet; a rate for the backbone.

    Biases of those layers have a decay and a rate of their own where the config says so, as Caffe's
    recipes do. Parameters that learn later are in it from the start: without a gradient nothing
    moves them, and a resumed run finds the same groups.
    """
    groups: dict[tuple[bool, bool, bool], list[nn.Parameter]] = {}
    every = dict(model.named_parameters())
    forever = frozen_parts(config.freeze, config.unfreeze, max(config.unfreeze.values(), default=0))
    for name, parameter in every.items():
        later = part_of(name, config.freeze) and not part_of(name, forever)
        if parameter.requires_grad or later:
            is_bias = is_layer_bias(name, every)
            is_weight = parameter.ndim > 1 and not name.endswith("bias")  # Local's has three
            decays = is_weight or (is_bias and config.bias_decay)
            factored = is_bias and config.bias_lr_factor != 1
            key = (decays, name.startswith("backbone."), factored)
            groups.setdefault(key, []).append(parameter)
    settings: list[dict[str, Any]] = [
        {
            "params": parameters,
            "weight_decay": config.weight_decay if decays else 0.0,
            "lr_factor": (config.backbone_lr_factor if in_backbone else 1.0)
            * (config.bias_lr_factor if factored else 1.0),
        }
        for (decays, in_backbone, factored), parameters in groups.items()
    ]
    if not settings:
        raise ConfigError("train.freeze: nothing is left to train.")
    if config.optimizer == "adamw":
        return torch.optim.AdamW(settings, lr=config.lr, betas=(config.momentum, 0.999))
    return torch.optim.SGD(settings, lr=config.lr, momentum=config.momentum)


def is_layer_bias(name: str, parameters: Mapping[str, nn.Parameter]) -> bool:
    """Whether ``name`` is the bias of a convolution, local or linear layer, not of batch norm."""
    stem, _, last = name.rpartition(".")
    weight = parameters.get(f"{stem}.weight")
    return last == "bias" and weight is not None and weight.ndim > 1


def build_average(model: nn.Module, decay: float | None) -> AveragedModel | None:
    """Exponential average of weights and batch-norm statistics, quick to forget its start."""
    if decay is None:
        return None

    @torch.no_grad()
    def update(ours: Any, theirs: Any, averaged: Any) -> None:
        now = min(decay, (1 + int(averaged)) / (10 + int(averaged)))
        for our, their in zip(ours, theirs, strict=True):
            if our.is_floating_point():
                our.lerp_(their, 1 - now)
            else:  # a counter
                our.copy_(their)

    return AveragedModel(model, multi_avg_fn=update, use_buffers=True)
