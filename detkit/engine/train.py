"""Training: build everything, loop over epochs, evaluate, save."""

from __future__ import annotations

import itertools
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from detkit.backbones.weights import load_backbone_weights
from detkit.config import Origins, explain
from detkit.data import Annotations, DetectionDataset, for_training, join, read_dataset, summary
from detkit.data.augment import Augmentation
from detkit.data.loader import BatchOrder, TrainBatch, TrainSet, train_batches
from detkit.detectors import Detector, build_detector
from detkit.draw import draw_target
from detkit.engine.checkpoint import (
    existing_checkpoint,
    restore,
    save_checkpoint,
    versions,
    write_text,
)
from detkit.engine.experiment import ExperimentConfig, TrainConfig, horizon, read_experiment
from detkit.engine.log import RunLog, losses_line
from detkit.engine.loop import TrainState, train_epoch
from detkit.errors import ConfigError
from detkit.evaluation import EvalResult, evaluate
from detkit.preprocess import denormalise
from detkit.types import Target

CPU_WORKERS, GPU_WORKERS = 1, 8  # loader processes: a CPU's cores are busy with the network
PICTURE_IMAGES = 8  # of the first batch


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a training ended."""

    folder: Path
    finished: bool  # False: Ctrl-C
    metrics: dict[str, float]


def train(
    config: Path,
    out: Path | None = None,
    overrides: Sequence[str] = (),
    *,
    resume: bool = False,
    device: str = "cpu",
) -> Outcome:
    """Train what a config file describes, from its data to its checkpoints.

    Args:
        config: a file from ``configs/``.
        out: the run folder; without it ``runs/<name of the config>``.
        overrides: ``key=value`` texts.
        resume: go on from the run folder's last checkpoint, if it has one.

    Raises:
        DetkitError: anything wrong with config, data or disk, and a loss that is not finite.
    """
    experiment, origins = read_experiment(config, overrides)
    folder = out or Path("runs") / config.stem
    last = existing_checkpoint(folder / "last")
    if last is not None and not resume:
        raise ConfigError(
            f"{folder}: holds a run already. Add --resume to go on with it, "
            "or --out FOLDER to start another."
        )
    train_data, eval_data = read_data(experiment)
    experiment = settle(experiment, train_data)
    folder.mkdir(parents=True, exist_ok=True)
    run = build_run(experiment, train_data, folder, torch.device(device))
    if resume and last is not None:
        restore(run, last)
    with RunLog(folder, step=run.step, steps=run.horizon.steps) as log, ctrl_c() as stop_asked:
        run.stop_asked = stop_asked
        introduce(log, experiment, run, train_data, eval_data)
        if last is None:
            start_weights(log, run, experiment)
        write_text(folder / "config.yaml", explain_run(experiment, origins, run))
        metrics = train_all(log, run, experiment, train_data, eval_data)
        finished = run.step >= run.horizon.steps
        log.say(farewell(folder, config, finished, run.step))
    return Outcome(folder, finished, metrics)


# ---------------------------------------------------------------------------- preparation


def read_data(experiment: ExperimentConfig) -> tuple[Annotations, Annotations | None]:
    """Read what the config trains and evaluates on; labels mean the same in both."""
    data = experiment.data
    if not data.train:
        raise ConfigError("data.train: missing; name what to train on, e.g. {format, root, split}.")
    parts = [read_dataset(entry, data.classes) for entry in data.train]
    train_data = for_training(join(parts, data.classes))
    if not len(train_data):
        raise ConfigError("data.train: no images; check data.root and data.split.")
    if not data.eval:
        return train_data, None
    names = train_data.class_names
    return train_data, join([read_dataset(entry, names) for entry in data.eval], names)


def settle(experiment: ExperimentConfig, train_data: Annotations) -> ExperimentConfig:
    """Fill in what the data decides: the class names, and ``model.num_classes``."""
    names = train_data.class_names
    stated = experiment.model.get("num_classes", len(names))
    if stated != len(names):
        raise ConfigError(
            f"model.num_classes: is {stated}, but the data has {len(names)} classes "
            f"({', '.join(names)}). Leave the key out to take the data's."
        )
    model = {**experiment.model, "num_classes": len(names)}
    data = experiment.data.model_copy(update={"classes": names})
    return experiment.model_copy(update={"model": model, "data": data})


def build_run(
    experiment: ExperimentConfig, train_data: Annotations, folder: Path, device: torch.device
) -> TrainState:
    """Build model, optimiser and average; the weights are drawn from ``train.seed``."""
    config = experiment.train
    if config.precision == "fp16" and device.type != "cuda":
        raise ConfigError("train.precision: fp16 needs a GPU; use bf16 or fp32 on a CPU.")
    torch.manual_seed(config.seed)
    model = build_detector(experiment.model)
    model.class_names = train_data.class_names
    freeze(model, config.freeze)
    model.to(device)
    if config.channels_last:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return TrainState(
        model=model,
        optimizer=build_optimizer(model, config),
        scaler=torch.amp.GradScaler(device.type, enabled=config.precision == "fp16"),
        average=build_average(model, config.average_decay),
        config=config,
        horizon=horizon(config, len(train_data)),
        device=device,
        folder=folder,
    )


def freeze(model: Detector, parts: Sequence[str]) -> None:
    """Stop the parameters whose names begin with one of ``parts`` from learning."""
    for part in parts:
        named = [p for n, p in model.named_parameters() if n == part or n.startswith(f"{part}.")]
        if not named:
            children = ", ".join(name for name, _ in model.named_children())
            raise ConfigError(f"train.freeze: the model has no part {part!r}; it has {children}.")
        for parameter in named:
            parameter.requires_grad_(False)


def build_optimizer(model: Detector, config: TrainConfig) -> torch.optim.Optimizer:
    """Decay on convolution and linear weights only, as darknet; a rate for the backbone."""
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            key = (parameter.ndim > 1, name.startswith("backbone."))
            groups.setdefault(key, []).append(parameter)
    settings: list[dict[str, Any]] = [
        {
            "params": parameters,
            "weight_decay": config.weight_decay if is_weight else 0.0,
            "lr_factor": config.backbone_lr_factor if in_backbone else 1.0,
        }
        for (is_weight, in_backbone), parameters in groups.items()
    ]
    if not settings:
        raise ConfigError("train.freeze: nothing is left to train.")
    if config.optimizer == "adamw":
        return torch.optim.AdamW(settings, lr=config.lr, betas=(config.momentum, 0.999))
    return torch.optim.SGD(settings, lr=config.lr, momentum=config.momentum)


def build_average(model: Detector, decay: float | None) -> AveragedModel | None:
    """Exponential average of weights and batch-norm statistics, quick to forget its start."""
    if decay is None:
        return None

    @torch.no_grad()
    def update(ours: Any, theirs: Any, averaged: Any) -> None:
        now = min(decay, (1 + int(averaged)) / (10 + int(averaged)))
        if torch.is_floating_point(ours[0]):
            torch._foreach_lerp_(ours, theirs, 1 - now)
        else:  # counters
            for our, their in zip(ours, theirs, strict=True):
                our.copy_(their)

    return AveragedModel(model, multi_avg_fn=update, use_buffers=True)


def start_weights(log: RunLog, run: TrainState, experiment: ExperimentConfig) -> None:
    """Apply ``model.backbone_weights`` to a new run; a checkpoint has weights of its own."""
    settings = settled(experiment, run).model
    source = settings["backbone_weights"]
    if source == "none":
        return
    log.say(str(load_backbone_weights(run.model.backbone, settings["backbone"], source)))
    if run.average is not None:
        run.average.module.load_state_dict(run.model.state_dict())


# ------------------------------------------------------------------------------- the run


def train_all(
    log: RunLog,
    run: TrainState,
    experiment: ExperimentConfig,
    train_data: Annotations,
    eval_data: Annotations | None,
) -> dict[str, float]:
    """Epoch by epoch to the end, or until Ctrl-C: train, save, evaluate, keep the best."""
    config, plan = run.config, run.horizon
    order = BatchOrder(
        len(train_data),
        config.batch_size,
        range(run.step, plan.steps),
        config.seed,
        lambda step: run.model.train_size(step, plan.steps, config.seed),
    )
    batches = train_batches(
        TrainSet(train_data, Augmentation(config.augment), config.seed),
        order,
        workers_for(experiment, run.device),
        pin_memory=run.device.type == "cuda",
    )
    if run.step == 0:
        batches = with_picture(batches, run)
    metrics: dict[str, float] = {}
    latest: dict[str, float] = {}

    def record(**values: float) -> None:
        latest.update(values)
        log.record(run.step, values)

    while run.step < plan.steps and not run.stop_asked():
        epoch = run.step // plan.steps_per_epoch
        end = min((epoch + 1) * plan.steps_per_epoch, plan.steps)
        metrics = {}  # of an earlier step
        train_epoch(run, itertools.islice(batches, end - run.step), record)
        ended = run.step == end
        if ended:
            log.say(epoch_line(epoch, run, latest))
        due = experiment.eval.every is not None and (epoch + 1) % experiment.eval.every == 0
        if ended and eval_data is not None and (due or run.step == plan.steps):
            metrics = measure(log, run, experiment, eval_data)
        if run.step % config.save_every == 0 or (ended and due) or run.step == plan.steps:
            save_last(run, experiment, metrics)
    if run.stop_asked():
        save_last(run, experiment, metrics)
    return metrics


def save_last(run: TrainState, experiment: ExperimentConfig, metrics: dict[str, float]) -> None:
    """Save what training can go on from."""
    folder = run.folder / "last"
    save_checkpoint(folder, run, settled(experiment, run), metrics, resumable=True)


def measure(
    log: RunLog, run: TrainState, experiment: ExperimentConfig, eval_data: Annotations
) -> dict[str, float]:
    """Evaluate what would be saved now; save it as the best when it is."""
    detector = run.model if run.average is None else run.average.module
    was_training = detector.training
    detector.eval()
    with run.autocast():
        result = evaluate(
            detector, DetectionDataset(eval_data), batch_size=experiment.eval.batch_size
        )
    detector.train(was_training)
    run.clock.read()  # the next reading starts here
    metrics = {name: value for name, value in result.metrics().items() if value == value}
    log.record(run.step, metrics)
    log.say(metrics_line(result))
    chosen = experiment.eval.best
    if chosen is not None and metrics.get(chosen, 0.0) > (-1.0 if run.best is None else run.best):
        run.best = metrics.get(chosen, 0.0)
        best = run.folder / "best"
        save_checkpoint(best, run, settled(experiment, run), metrics, resumable=False)
    return metrics


def settled(experiment: ExperimentConfig, run: TrainState) -> ExperimentConfig:
    """The experiment with every default of its model written out."""
    model = {"name": experiment.model["name"], **run.model.config.model_dump(mode="json")}
    return experiment.model_copy(update={"model": model})


def workers_for(experiment: ExperimentConfig, device: torch.device) -> int:
    """Loader processes: the config's, or what suits the device."""
    if experiment.data.workers is not None:
        return experiment.data.workers
    return GPU_WORKERS if device.type == "cuda" else CPU_WORKERS


@contextmanager
def ctrl_c() -> Iterator[Callable[[], bool]]:
    """Let Ctrl-C ask for a stop after the step at hand; a second one stops at once."""
    asked: list[int] = []

    def ask(number: int, frame: object) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    try:
        before = signal.signal(signal.SIGINT, ask)
    except ValueError:  # not the main thread, so no signals come here
        yield lambda: False
        return
    try:
        yield lambda: bool(asked)
    finally:
        signal.signal(signal.SIGINT, before)


# ------------------------------------------------------------------------- what it says


def introduce(
    log: RunLog,
    experiment: ExperimentConfig,
    run: TrainState,
    train_data: Annotations,
    eval_data: Annotations | None,
) -> None:
    """First lines of a run: versions, device, data, length, where results go."""
    config, plan = run.config, run.horizon
    found = versions()
    log.say(
        f"detkit {found['detkit']}, torch {found['torch']}, python {found['python']}; "
        f"device {run.device}, {torch.get_num_threads()} threads, {config.precision}"
    )
    log.say(f"train: {summary(train_data)}")
    if eval_data is not None:
        log.say(f"eval:  {summary(eval_data)}")
    parameters = sum(p.numel() for p in run.model.parameters()) / 1e6
    log.say(f"model: {experiment.model['name']}, {parameters:.2f} M parameters")
    log.say(
        f"{plan.steps} steps of {config.batch_size} images "
        f"({config.micro_batches} micro-batches), {plan.steps_per_epoch} steps an epoch; "
        f"results in {run.folder}"
    )
    if run.step:
        log.say(f"resuming after step {run.step}")


def explain_run(experiment: ExperimentConfig, origins: Origins, run: TrainState) -> str:
    """The resolved config, with the origin of each value."""
    said = "".join(f"# {name} {version}\n" for name, version in versions().items())
    return said + explain(settled(experiment, run), origins)


def with_picture(batches: Iterator[TrainBatch], run: TrainState) -> Iterator[TrainBatch]:
    """Pass ``batches`` on; draw the first as the loss will see it."""
    from PIL import Image

    first = next(batches)
    samples = first.samples[:PICTURE_IMAGES]
    canvas = run.model.preprocess([sample.image for sample in samples], first.size)
    backbone = run.model.backbone
    pixels = denormalise(canvas.pixels, backbone.mean, backbone.std).cpu()
    targets: list[Target] = [
        geometry.place(sample.target.without_difficult())
        for sample, geometry in zip(samples, canvas.geometry, strict=True)
    ]
    names = run.model.class_names
    drawn = [draw_target(p, t, names) for p, t in zip(pixels, targets, strict=True)]
    Image.fromarray(contact_sheet(drawn).permute(1, 2, 0).numpy()).save(
        run.folder / "first_batch.png"
    )
    yield first
    yield from batches


def contact_sheet(images: Sequence[Tensor], columns: int = 4) -> Tensor:
    """Lay ``[3, H, W]`` images of one size out in rows."""
    blank = torch.zeros_like(images[0])
    rows = [[*images[i : i + columns]] for i in range(0, len(images), columns)]
    width = min(columns, len(images))
    return torch.cat(
        [torch.cat(row + [blank] * (width - len(row)), dim=2) for row in rows], dim=1
    )


def epoch_line(epoch: int, run: TrainState, latest: dict[str, float]) -> str:
    """One line an epoch: losses, rate, speed, share of time spent waiting for data."""
    steps = run.config.log_every
    speed = steps * run.config.batch_size / max(latest.get("seconds", 0.0), 1e-9)
    left = (run.horizon.steps - run.step) * run.config.batch_size / max(speed, 1e-9)
    return (
        f"epoch {epoch + 1}, step {run.step}/{run.horizon.steps}: {losses_line(latest)}, "
        f"lr {latest.get('lr', 0.0):.3g}, {speed:.3g} images/s, "
        f"{latest.get('data_share', 0.0):.0%} waiting for data, "
        f"{time.strftime('%H:%M:%S', time.gmtime(left))} left"
    )


def metrics_line(result: EvalResult) -> str:
    """The figures of an evaluation, in one line."""
    shown = {"mAP VOC07": "voc07_map", "mAP VOC10+": "voc10_map", "COCO AP": "coco_ap"}
    metrics = result.metrics()
    parts = [f"{name} {metrics[key]:.3f}" for name, key in shown.items() if key in metrics]
    return f"  on {result.images} images: {', '.join(parts)}"


def farewell(folder: Path, config: Path, finished: bool, step: int) -> str:
    """The last line: what to type next."""
    if not finished:
        return f"stopped and saved at step {step}. Go on: tools/train.py {config} --out {folder} --resume"
    return f"done. Next: tools/eval.py {folder}   or: tools/detect.py IMAGE --weights {folder} --out found"
