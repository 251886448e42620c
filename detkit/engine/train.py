"""Training: build everything, loop over epochs, evaluate, save."""

from __future__ import annotations

import itertools
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch

from detkit.data import Annotations, DetectionDataset
from detkit.data.augment import Augmentation
from detkit.data.loader import BatchOrder, TrainSet, train_batches
from detkit.detectors import Detector
from detkit.engine.build import build_run, check_model, read_data, settle, settled, start_weights
from detkit.engine.checkpoint import (
    changes_since,
    existing_checkpoint,
    restore,
    save_checkpoint,
)
from detkit.engine.experiment import ExperimentConfig, read_experiment
from detkit.engine.log import RunLog
from detkit.engine.loop import TrainState, train_epoch
from detkit.engine.report import (
    epoch_line,
    explain_run,
    farewell,
    introduce,
    metrics_line,
    with_picture,
)
from detkit.errors import ConfigError
from detkit.evaluation import evaluate
from detkit.files import make_folder, write_atomically

CPU_WORKERS, GPU_WORKERS = 1, 8  # loader processes: a CPU's cores are busy with the network


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
    folder = out or default_folder(config)
    last = existing_checkpoint(folder / "last")
    if last is not None and not resume:
        raise ConfigError(
            f"{folder}: holds a run already. Add --resume to go on with it, "
            "or --out FOLDER to start another."
        )
    check_model(experiment)
    train_data, eval_data = read_data(experiment)
    experiment = settle(experiment, train_data)
    make_folder(folder)
    run = build_run(experiment, train_data, folder, torch.device(device))
    if resume and last is not None:
        restore(run, last)
    with RunLog(folder, step=run.step, steps=run.horizon.steps) as log, ctrl_c() as stop_asked:
        run.stop_asked = stop_asked
        introduce(log, experiment, run, train_data, eval_data)
        if last is None:
            log.say(start_weights(run, experiment))
        else:
            for change in changes_since(last, settled(experiment, run)):
                log.say(f"differs from the run so far: {change}")
        if run.step < run.horizon.steps:
            write_atomically(folder / "config.yaml", explain_run(experiment, origins, run))
        metrics = train_all(log, run, experiment, train_data, eval_data)
        finished = run.step >= run.horizon.steps
        log.say(farewell(folder, finished, run.step))
    return Outcome(folder, finished, metrics)


def default_folder(config: Path) -> Path:
    """``runs/<name of the config>``; a run's own ``config.yaml`` means that run's folder."""
    if config.name == "config.yaml" and existing_checkpoint(config.parent / "last") is not None:
        return config.parent
    return Path("runs") / config.stem


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
    detector = run.model if run.average is None else cast(Detector, run.average.module)
    was_training = detector.training
    detector.eval()
    with run.autocast():
        result = evaluate(
            detector,
            DetectionDataset(eval_data),
            batch_size=experiment.eval.batch_size,
            coco=run.step == run.horizon.steps or str(experiment.eval.best).startswith("coco"),
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


def workers_for(experiment: ExperimentConfig, device: torch.device) -> int:
    """Loader processes: the config's, or what suits the device."""
    if experiment.data.workers is not None:
        return experiment.data.workers
    return GPU_WORKERS if device.type == "cuda" else CPU_WORKERS


@contextmanager
def ctrl_c() -> Iterator[Callable[[], bool]]:
    """Let Ctrl-C (or SIGTERM) ask for a stop after the step at hand; a second stops at once."""
    asked: list[int] = []

    def ask(number: int, frame: object) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    try:
        before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread, so no signals come here
        yield lambda: False
        return
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
