"""Training: build everything, loop over epochs, evaluate, save."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detkit.checkpoints.files import last_checkpoint
from detkit.config import find_config
from detkit.distributed.launch import join_ranks
from detkit.distributed.ranks import Ranks, check_shares
from detkit.engine.build import with_defaults
from detkit.engine.determinism import determinism_line, deterministic
from detkit.engine.log import RunLog
from detkit.engine.loop import train_epoch
from detkit.engine.records import check_records
from detkit.engine.report import (
    config_files,
    epoch_line,
    farewell,
    introduce,
    ranks_lines,
    with_picture,
)
from detkit.engine.run_lock import RunLock
from detkit.engine.saving import SavedOnError, is_evaluated, owes_evaluation, save_last
from detkit.engine.stages import Stage, Training, has_begun, left_to_train, plan_stages
from detkit.engine.start import Prepared, before_first_step, find_run, prepare
from detkit.engine.start_model import complete_model, taken_lines
from detkit.engine.state import TrainState
from detkit.engine.stopping import thaw
from detkit.engine.tasks.base import Task
from detkit.engine.tasks.detection import DetectionTask
from detkit.engine.training_state import save_checkpoint
from detkit.errors import ConfigError
from detkit.evaluation.readable import TooFewReadableError
from detkit.experiment.config import ExperimentConfig
from detkit.experiment.entries import recognised
from detkit.experiment.read import read_experiment
from detkit.files import make_folder, write_atomically
from detkit.progress import Progress
from detkit.signals import ctrl_c

STOPPING = "stopping after the step or evaluation at hand; Ctrl-C again stops at once"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a training ended."""

    folder: Path
    finished: bool  # False: Ctrl-C
    metrics: dict[str, float]


def train(
    config: str | Path,
    out: Path | None = None,
    overrides: Sequence[str] = (),
    *,
    resume: bool = False,
    device: str = "cpu",
    ranks: Ranks | None = None,
    allow_changed_data: bool = False,
    progress: Progress | None = None,
    stopped: Callable[[], bool] | None = None,
    task: Task | None = None,
) -> Outcome:
    """Train what a config file describes, from its data to its checkpoints.

    Every rank of a distributed training calls this and takes the same steps; rank 0 alone writes
    and prints.

    Args:
        config: a config file, or a recipe's name.
        out: the run folder; without it ``runs/<name of the config>``.
        overrides: ``key=value`` texts.
        resume: go on from the run folder's last checkpoint, if it has one.
        device: among several ranks ``cuda`` means each rank's own GPU.
        ranks: joined already; without it, those that torchrun started, or one process alone.
        allow_changed_data: resume though the data is no longer what the run began with.
        progress: is told every line in the place of the console.
        stopped: asked between two steps whether to save and end, as Ctrl-C does.
        task: what is learned; detection unless told.

    Raises:
        DetkitError: anything wrong with config, data or disk, and a loss that is not finite.
        SystemExit: the same, after it was printed once, where there are several ranks.
    """
    if ranks is None:
        with join_ranks() as ranks:
            return train(
                config,
                out,
                overrides,
                resume=resume,
                device=device,
                ranks=ranks,
                allow_changed_data=allow_changed_data,
                progress=progress,
                stopped=stopped,
                task=task,
            )
    asked = Asked(resume, device, allow_changed_data, progress, stopped, task or DetectionTask())
    with RunLock() as lock:
        return _train(config, out, overrides, asked, ranks, lock)


@dataclass(frozen=True, slots=True)
class Asked:
    """How a training is run, whatever its config says."""

    resume: bool
    device: str
    allow_changed_data: bool
    progress: Progress | None  # None: the console
    stopped: Callable[[], bool] | None
    task: Task

    def say(self, ranks: Ranks, lines: Sequence[str]) -> None:
        """Tell lines, of all ranks on rank 0 alone."""
        for line in lines if ranks.is_main else ():
            if self.progress is None:
                print(line)
            else:
                self.progress.say(line)


def _train(
    config: str | Path,
    out: Path | None,
    overrides: Sequence[str],
    asked: Asked,
    ranks: Ranks,
    lock: RunLock,
) -> Outcome:
    path = find_config(config)
    experiment, origins = read_experiment(path, overrides)
    check_shares(experiment.train.batch_size, ranks.world)
    own = ranks.connect(asked.device, experiment.train.rank_timeout_minutes)
    folder = ranks.from_main(lambda: find_run(path, out, experiment))
    stages_of = [folder, *(folder / stage.name for stage in experiment.train.stages)]
    asked.say(ranks, ranks.from_main(lambda: lock.take_existing(stages_of)))
    last = ranks.from_main(lambda: reached(folder, experiment)) if asked.resume else None
    experiment, origins = ranks.from_main(lambda: complete_model(experiment, origins, last))
    stages = plan_stages(Training(experiment, origins, folder), asked.task)
    begun = ranks.from_main(lambda: has_begun(stages))
    if asked.resume and not begun:
        asked.say(ranks, [f"{folder}: no run to resume; a new one begins"])
    if begun and not asked.resume:
        raise ConfigError(
            f"{folder}: holds a run already. Add --resume to go on with it, "
            "or --out FOLDER to start another."
        )
    for stage in stages:  # all of them, before the first step
        check_shares(stage.experiment.train.batch_size, ranks.world)
        if ranks.is_main:
            check_records(stage.experiment.train.records)
    for stage in left_to_train(stages, ranks):
        prepared = prepare(
            asked.task,
            stage.experiment,
            stage.folder,
            own,
            ranks,
            allow_changed_data=asked.allow_changed_data,
        )
        outcome = carry_out(prepared, stage, lock, asked)
        if not outcome.finished:
            break
    return outcome


def reached(folder: Path, experiment: ExperimentConfig) -> Path | None:
    """The last checkpoint of a run, or of the latest of its stages that has one.

    Raises:
        ConfigError: not all of it is there.
    """
    stages = [folder / stage.name for stage in reversed(experiment.train.stages)]
    found = map(last_checkpoint, (folder, *stages))
    return next((path for path in found if path is not None), None)


def carry_out(prepared: Prepared, stage: Stage, lock: RunLock, asked: Asked) -> Outcome:
    """Take every step of a run, say and write what comes of it."""
    experiment, run = prepared.experiment, prepared.run
    folder, ranks = run.folder, run.ranks
    with deterministic(run.config.deterministic) as run.unfixed:
        done = before_first_step(prepared)
        ranks.from_main(lambda: make_folder(folder))  # here, so that a start that fails leaves none
        own = (stage.training.folder, folder)  # the first also while an earlier stage is trained
        asked.say(ranks, ranks.from_main(lambda: lock.take_begun(own)))
        with open_log(run, experiment, asked.progress) as log, ctrl_c(STOPPING) as stop_asked:
            run.stop_asked, run.say = either(stop_asked, asked.stopped), log.say
            for line in [*stage.heading(), *recognised(stage.origins)]:
                log.say(line)
            introduce(log, prepared)
            taken = taken_lines(stage.experiment, stage.origins) if prepared.last is None else []
            for line in ranks_lines(ranks, experiment.train, prepared.saved_by) + taken + done:
                log.say(line)
            if ranks.world > 1:
                run.spread = ranks.spread(run.model, sync_batch_norm=run.config.sync_batch_norm)
            is_finished_again = stage.is_last and run.task.finishes(experiment)
            if ranks.is_main and (run.step < run.horizon.steps or is_finished_again):
                for path, text in config_files(stage, experiment, run).items():
                    write_atomically(path, text)
            run.task.begin(prepared, log)
            metrics = train_all(log, run, experiment, prepared.train_data, prepared.eval_data)
            finished = run.step >= run.horizon.steps or enough(run, experiment) is not None
            if finished and is_finished_again:
                fitted = run.task.finish(prepared, with_defaults(experiment, run), log)
                finished, metrics = fitted is not None, fitted or metrics
            log.say(farewell(stage, finished, run.step))
    return Outcome(folder, finished, metrics)


def either(ours: Callable[[], bool], theirs: Callable[[], bool] | None) -> Callable[[], bool]:
    """Whether one of two asks for a stop."""
    return ours if theirs is None else lambda: ours() or theirs()


def open_log(
    run: TrainState, experiment: ExperimentConfig, progress: Progress | None = None
) -> RunLog:
    """The records of a run; only rank 0's are kept."""
    return RunLog(
        run.folder,
        step=run.step,
        steps=run.horizon.steps,
        records=run.config.records,
        settings=with_defaults(experiment, run).model_dump(mode="json"),
        silent=not run.ranks.is_main,
        progress=progress,
    )


# ------------------------------------------------------------------------------- the run


def train_all(
    log: RunLog,
    run: TrainState,
    experiment: ExperimentConfig,
    train_data: Any,
    eval_data: Any | None,
) -> dict[str, float]:
    """Epoch by epoch to the end, or until Ctrl-C: train, save, evaluate, keep the best."""
    config, plan = run.config, run.horizon
    batches = run.task.batches(run, experiment, train_data)
    if run.step == 0 and run.ranks.is_main:
        batches = with_picture(batches, run)
    metrics: dict[str, float] = {}
    latest: dict[str, float] = {}
    if eval_data is not None and owes_evaluation(run, experiment, eval_data):
        metrics = measure_saved(log, run, experiment, eval_data)  # in which the run ended

    def record(**values: float) -> None:
        latest.update(values)
        log.record(run.step, values)

    stop, tell = run.stopping(), config.deterministic
    while run.step < plan.steps and not stop and enough(run, experiment) is None:
        epoch = plan.epoch(run.step)
        end = min(plan.after(epoch + 1), plan.steps)
        metrics = {}  # of an earlier step
        with SavedOnError(run, experiment):
            thaw_parts(run, epoch)
            train_epoch(run, itertools.islice(batches, end - run.step), record)
            if tell:
                log.say(determinism_line(run.unfixed))
                tell = False
            if run.step == end:
                log.say(epoch_line(epoch, run, latest, run.clock.read_epoch()))
        due = is_evaluated(run.step, experiment.eval.every, plan)
        if run.step % config.save_every == 0 or due:
            save_last(run, experiment, metrics)
        if eval_data is not None and due:
            metrics = measure_saved(log, run, experiment, eval_data)
        stop = run.stopping()
    if stop and run.saved != run.step:
        save_last(run, experiment, metrics)
    why = enough(run, experiment)
    if why is not None:
        log.say(why)
    return metrics


def enough(run: TrainState, experiment: ExperimentConfig) -> str | None:
    """Why training ends before its last step, where it does: the metric rises no more."""
    return run.decided.plateau.reason(run.config.stop_patience, experiment.eval.best)


def thaw_parts(run: TrainState, epoch: int) -> None:
    """Let the parts learn whose epoch has come."""
    config = run.config
    begun = thaw(run.model, config.freeze, config.unfreeze, epoch)
    for part in begun:
        run.say(f"epoch {epoch + 1}: {part} learns from here on, as train.unfreeze says")
    if begun and run.spread is not None:  # it knows only the parameters that learned before
        run.spread = None
        run.spread = run.ranks.spread(run.model, sync_batch_norm=config.sync_batch_norm)


def measure_saved(
    log: RunLog, run: TrainState, experiment: ExperimentConfig, eval_data: Any
) -> dict[str, float]:
    """Evaluate the step that is saved, and save it again with its figures.

    Where too few images can still be read, training goes on unmeasured; only at its end that is
    an error, after which a resumed run owes the evaluation alone.
    """
    metrics: dict[str, float] = {}
    try:
        metrics = measure(log, run, experiment, eval_data)
    except TooFewReadableError as problem:
        if run.step == run.horizon.steps:
            raise
        run.say(f"warning: {problem} Training goes on; the next evaluation tries again.")
    else:
        seen = metrics.get(str(experiment.eval.best))
        run.decided.plateau.saw(seen, run.step, run.config.stop_min_gain)
    run.decided.measured = run.step
    save_last(run, experiment, metrics)
    return metrics


def measure(
    log: RunLog, run: TrainState, experiment: ExperimentConfig, eval_data: Any
) -> dict[str, float]:
    """Measure what would be saved now; save it as the best when it is."""
    run.ranks.turn(f"step {run.step}, evaluating")
    metrics = run.task.measure(run, experiment, eval_data, log)
    log.record(run.step, metrics)
    chosen = experiment.eval.best
    if chosen is not None and metrics.get(chosen, 0.0) > (-1.0 if run.best is None else run.best):
        run.best = metrics.get(chosen, 0.0)
        best = run.folder / "best"
        save_checkpoint(best, run, with_defaults(experiment, run), metrics, resumable=False)
    return metrics
