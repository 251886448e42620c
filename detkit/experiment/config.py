"""One experiment: the four blocks of a config file, typed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import (
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationInfo,
    field_validator,
    model_validator,
)

from detkit.config import (
    Config,
    Fraction,
)
from detkit.data.augment import AugmentConfig
from detkit.data.formats.base import FOLDER_KEYS, MEANING_KEYS
from detkit.errors import did_you_mean, shown, shown_value
from detkit.evaluation import metrics
from detkit.evaluation.coco_map import COCO_LIMIT
from detkit.evaluation.voc_map import DEVKIT, VocRule
from detkit.experiment.entries import NAMES

OLD_KEYS = {"rcnn_stages": "fit_svm"}  # of the train block: what is still read, and its name now
RecordName = Literal["tensorboard", "wandb", "mlflow"]
STAGE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
RUN_FOLDERS = ("best", "last", "tensorboard")  # what a stage cannot be called


def names_of_now(train: Mapping[str, Any]) -> dict[str, Any]:
    """A ``train`` block whose keys of ``OLD_KEYS`` go by their present names."""
    old = {name: train[key] for key, name in OLD_KEYS.items() if key in train}
    return {**{key: value for key, value in train.items() if key not in OLD_KEYS}, **old}


class DataConfig(Config):
    """What is trained and evaluated on. Each entry: ``format`` and that format's own keys."""

    also_known: ClassVar = (*NAMES, *FOLDER_KEYS, *MEANING_KEYS)
    also_known_where: ClassVar = (
        "In a file it belongs in an entry of data.train or data.eval; the command line gives it "
        "to all of them."
    )

    train: tuple[dict[str, Any], ...] = ()
    eval: tuple[dict[str, Any], ...] = ()
    classes: tuple[str, ...] = ()  # order of the labels; empty: the data's names, sorted
    workers: NonNegativeInt | None = None  # loader processes; none: chosen by the device
    cache: Literal["none", "ram"] = "none"  # ram: training images stay decoded in memory
    # folder that region proposals are kept in, for detectors that need them; none: the user's cache
    proposals: Path | None = None

    @field_validator("train", "eval", mode="before")
    @classmethod
    def _one_entry_is_a_list(cls, value: Any) -> Any:
        return [value] if isinstance(value, dict) else value


class StageConfig(Config):
    """One of the runs that a training consists of: what differs from the rest of the config."""

    # of its folder in the run folder; the last stage's run is the run folder itself
    name: str
    model: dict[str, Any] = Field(default_factory=dict)
    train: dict[str, Any] = Field(default_factory=dict)
    start: str | None = None  # the earlier stage whose last weights it starts from
    proposals: str | None = None  # the earlier stage whose detector proposes its regions

    @field_validator("name")
    @classmethod
    def _is_a_folder(cls, value: str) -> str:
        if not STAGE_NAME.fullmatch(value):
            raise ValueError(f"{shown(value)} cannot name a folder; use letters, digits, - and _.")
        if value in RUN_FOLDERS:
            raise ValueError(f"{value!r} is a folder of every run; take another name.")
        return value


class TrainConfig(Config):
    """How a detector learns. The optimiser's defaults are darknet's; a recipe gives the rest."""

    # weights that the whole detector starts from, in the place of model.backbone_weights: a run or
    # checkpoint folder, a name of the zoo, or a .weights file of darknet's. Classes are copied by
    # name; layers of another shape stay as they are drawn
    start: str | None = None
    # detector whose proposals are learned from, named in the same ways; none: the model's own
    proposals: str | None = None
    # runs one after another, such as the four of Faster R-CNN's alternating training; none: one
    stages: tuple[StageConfig, ...] = ()
    fit_svm: bool = False  # R-CNN's SVMs and box regressions are fitted after the last step
    iterations: PositiveInt | None = None  # optimiser steps; or
    # auto: 6,000 images are shown, between 10 epochs and 100: for tuning published weights
    epochs: PositiveInt | Literal["auto"] | None = None
    batch_size: PositiveInt = 64  # images a step, whatever the memory
    # parts a step is computed in, darknet's "subdivisions"; auto: as few as the GPU's memory lets
    # the largest batch be computed in (1 on a CPU). A step that runs out of GPU memory doubles it
    micro_batches: int | Literal["auto"] = 1
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: PositiveFloat = 1e-3
    backbone_lr_factor: float = Field(1.0, ge=0)  # less than 1 for transfer learning
    momentum: Fraction = 0.9  # AdamW: its first beta
    weight_decay: float = Field(5e-4, ge=0)  # on convolution and linear weights only
    bias_decay: bool = False  # on their biases as well; never on batch norm
    bias_lr_factor: PositiveFloat = 1.0  # on their biases; Caffe's recipes have 2
    burn_in: NonNegativeInt = 0  # steps over which the rate rises
    burn_in_power: PositiveFloat = 4.0
    schedule: Literal["step", "poly", "cosine"] = "step"
    lr_step_iterations: tuple[PositiveInt, ...] = ()
    lr_step_epochs: tuple[PositiveFloat, ...] = ()
    lr_step_factors: tuple[PositiveFloat, ...] = ()  # one a step; empty: 0.1 each
    poly_power: PositiveFloat = 4.0
    lr_final: Fraction = 0.0  # cosine: share of lr left at the end
    clip_norm: PositiveFloat | None = None  # none in the papers' recipes
    # what the network computes in; auto: bf16 where GPU or CPU has it; else fp16 on a GPU, or fp32
    precision: Literal["fp32", "bf16", "fp16", "auto"] = "fp32"
    # steps, from the first, at which the loss is also computed in fp32; 0: never
    precision_check_steps: NonNegativeInt = 5
    precision_tolerance: PositiveFloat = 0.1  # share of the loss; further off, fp32 is used
    fp16_skips: NonNegativeInt = 2  # batches in a row that may overflow; one more ends the run
    deterministic: bool = False  # the same bits in every run on the same device; slower on a GPU
    sync_batch_norm: bool = False  # statistics over the batches of all ranks; GPUs only
    rank_timeout_minutes: PositiveFloat = 30.0  # how long ranks wait for one another
    channels_last: bool = True  # memory layout; the numbers are the same
    average_decay: Fraction | None = None  # exponential average of the weights; none: off
    sampler: Literal["shuffle", "repeat_factor"] = "shuffle"  # the latter shows rare classes more
    repeat_threshold: Fraction = 0.1  # classes in a smaller share of the images are rare
    class_weights: Literal["none", "auto"] = "none"  # auto: rare classes count more in the loss
    freeze: tuple[str, ...] = ()  # parts that stay as they are, e.g. [backbone]
    # of the frozen parts, the epochs after which one learns after all, e.g. {backbone: 5}
    unfreeze: dict[str, PositiveInt] = Field(default_factory=dict)
    # evaluations in a row without a gain in eval.best's metric that end the training; none: off
    stop_patience: PositiveInt | None = None
    stop_min_gain: float = Field(0.0, ge=0)  # a rise of this or less is no gain
    seed: NonNegativeInt = 0
    log_every: PositiveInt = 10  # steps
    save_every: PositiveInt = 500  # steps
    # besides log.jsonl; wandb and mlflow are packages of their own and stay off unless named here
    records: tuple[RecordName, ...] = ("tensorboard",)
    augment: AugmentConfig = AugmentConfig()

    @model_validator(mode="before")
    @classmethod
    def _by_names_of_now(cls, settings: Any) -> Any:
        return names_of_now(settings) if isinstance(settings, Mapping) else settings

    @field_validator("micro_batches", mode="before")
    @classmethod
    def _parts_or_auto(cls, value: Any) -> Any:
        is_count = isinstance(value, int) and not isinstance(value, bool) and value > 0
        if not is_count and value != "auto":
            raise ValueError(f"expected a whole number above 0, or auto; got {shown_value(value)}.")
        return value

    @field_validator("records", mode="before")
    @classmethod
    def _one_record_is_a_list(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("stages")
    @classmethod
    def _each_builds_on_earlier_ones(
        cls, value: tuple[StageConfig, ...]
    ) -> tuple[StageConfig, ...]:
        earlier: list[str] = []
        for stage in value:
            if stage.name in earlier:
                raise ValueError(f"two are called {stage.name!r}; give each a name of its own.")
            if "stages" in stage.train:
                raise ValueError(f"{stage.name}: has stages itself; put them all in one list.")
            for key in ("start", "proposals"):
                source = getattr(stage, key)
                if source is not None and source not in earlier:
                    raise ValueError(
                        f"{stage.name}: {key} is {shown(source)}, which is no earlier stage "
                        f"({', '.join(earlier) or 'it is the first'})."
                        f"{did_you_mean(source, earlier)}"
                    )
            earlier.append(stage.name)
        return value

    @field_validator("unfreeze")
    @classmethod
    def _is_frozen_at_first(cls, value: dict[str, int], info: ValidationInfo) -> dict[str, int]:
        frozen = info.data.get("freeze", ())
        for part in value:
            if part not in frozen:
                raise ValueError(
                    f"{shown(part)} does not stand in train.freeze "
                    f"({', '.join(frozen) or 'empty'}), so it learns from the start; "
                    "add it there, or take it out here."
                )
        return value

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> TrainConfig:
        if (self.iterations is None) == (self.epochs is None):
            raise ValueError(
                f"give either iterations or epochs (iterations is {self.iterations}, epochs is "
                f"{self.epochs}); set the other to null."
            )
        if self.lr_step_iterations and self.lr_step_epochs:
            raise ValueError("give lr_step_iterations or lr_step_epochs, not both.")
        drops = len(self.lr_step_iterations) + len(self.lr_step_epochs)
        if self.lr_step_factors and len(self.lr_step_factors) != drops:
            raise ValueError(
                f"lr_step_factors has {len(self.lr_step_factors)} values for {drops} steps."
            )
        return self


class EvalConfig(Config):
    """When and how a detector is measured."""

    every: PositiveInt | None = None  # epochs between evaluations; none: only at the end
    batch_size: PositiveInt = 8  # images; no result depends on it
    best: str | None = "voc07_map"  # of METRICS, what the best is chosen by; none: keep the last
    # whose VOC figures: its own devkit's (IoU >= 0.5), or Fast R-CNN's voc_eval.py's (IoU > 0.5)
    voc_rule: VocRule = DEVKIT
    # of an image and class that COCO's figures take, the best ones; COCO's own are with 100
    max_detections: int = Field(COCO_LIMIT, gt=10)

    @field_validator("best")
    @classmethod
    def _is_metric(cls, best: str | None) -> str | None:
        if best is not None:
            metrics.check_key(best)
        return best


class ExperimentConfig(Config):
    """A whole config file."""

    model: dict[str, Any]  # name, and the keys of that detector's config class
    data: DataConfig = DataConfig()
    train: TrainConfig
    eval: EvalConfig = EvalConfig()

    @model_validator(mode="after")
    def _stopping_needs_evaluations(self) -> ExperimentConfig:
        if self.train.stop_patience is None:
            return self
        if not self.data.eval:
            raise ValueError("train.stop_patience: needs data.eval to evaluate on.")
        lacking = [key for key in ("every", "best") if getattr(self.eval, key) is None]
        if lacking:
            raise ValueError(
                f"train.stop_patience: needs evaluations to count, but eval.{lacking[0]} is not "
                f"set; e.g. {'eval.every=1' if lacking[0] == 'every' else 'eval.best=voc07_map'}."
            )
        return self
