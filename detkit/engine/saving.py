"""When a run is saved: before it is measured, at its steps, and where an error ends it.

An error between two steps (an image, a loader process, a full disk, no memory) takes no step with
it: the run is saved where it stands, then ends. A step that fails is undone first, so that what is
saved is a whole step and a resumed run takes the same one again. Two ends save nothing: a loss that
is not finite, whose weights may be past help while the checkpoint before is not; and Ctrl-C pressed
twice, which asks for an end at once. Of several ranks none saves alone, as the others stand
somewhere else: what ``train.save_every`` has saved counts.
"""

from __future__ import annotations

from types import TracebackType

from detkit.data import Annotations
from detkit.engine.build import with_defaults
from detkit.engine.not_finite import NotFiniteError
from detkit.engine.schedule import Horizon
from detkit.engine.state import TrainState
from detkit.engine.training_state import save_checkpoint
from detkit.errors import DetkitError
from detkit.experiment.config import ExperimentConfig


def save_last(run: TrainState, experiment: ExperimentConfig, metrics: dict[str, float]) -> None:
    """Save what training can go on from."""
    run.ranks.turn(f"step {run.step}, saving")
    folder = run.folder / "last"
    save_checkpoint(folder, run, with_defaults(experiment, run), metrics, resumable=True)
    run.saved = run.step


def is_evaluated(step: int, every: int | None, plan: Horizon) -> bool:
    """Whether an evaluation follows ``step`` steps: after ``every`` epochs, and at the end."""
    if every is not None and plan.epoch(step) // every > plan.epoch(step - 1) // every:
        return True
    return step == plan.steps


def owes_evaluation(
    run: TrainState, experiment: ExperimentConfig, eval_data: Annotations | None
) -> bool:
    """Whether the evaluation of the step that is reached is still to come."""
    if eval_data is None or not run.step or run.decided.measured == run.step:
        return False
    return is_evaluated(run.step, experiment.eval.every, run.horizon)


class SavedOnError:
    """Around steps: an error that ends the block between two of them finds the run saved."""

    def __init__(self, run: TrainState, experiment: ExperimentConfig) -> None:
        self.run, self.experiment = run, experiment

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Save where that is due, say so, and let the error go on."""
        run = self.run
        is_due = isinstance(problem, Exception) and not isinstance(problem, NotFiniteError)
        if not is_due or not run.is_whole or run.ranks.world > 1 or run.saved == run.step:
            return
        try:
            save_last(run, self.experiment, {})
            run.say(f"an error ends this run; step {run.step} is saved, and --resume goes on there")
        except (DetkitError, MemoryError) as second:  # the first is the one to end with
            run.say(f"step {run.step} could not be saved: {second}")
