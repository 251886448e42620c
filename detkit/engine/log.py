"""What a run says: lines and progress on the console, ``log.jsonl``, and the records asked for."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from detkit.engine.records import LOG, Record, RunFacts, open_records
from detkit.experiment.config import RecordName
from detkit.files import write_atomically
from detkit.progress import Progress as Listener
from detkit.system_errors import naming
from detkit.visible import visible_lines


class RunLog:
    """Console, JSONL and other records of one run; use it in a ``with`` block."""

    def __init__(
        self,
        folder: Path,
        *,
        step: int,
        steps: int,
        records: Sequence[RecordName] = ("tensorboard",),
        settings: Mapping[str, Any] | None = None,
        silent: bool = False,
        progress: Listener | None = None,
    ) -> None:
        """Open the records of ``folder``; lines of steps after ``step`` are dropped first.

        Args:
            folder: of the run.
            step: steps taken already.
            steps: of the whole training.
            records: what is kept besides ``log.jsonl``.
            settings: the resolved config, for records that keep it.
            silent: print and write nothing; for ranks other than the main one.
            progress: is told every line in the place of the console.
        """
        unseen = silent or progress is not None
        self.console = Console(highlight=False, soft_wrap=True, quiet=unseen)
        self._listener = None if silent else progress
        self.silent = silent
        self.folder = folder
        self._step, self._steps = step, steps
        self._jsonl: TextIO | None = None
        self._record_names, self._settings = records, settings or {}
        self._records: list[Record] = []
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("time left"),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            TextColumn("{task.fields[said]}"),
            console=self.console,
            transient=True,
            disable=unseen or not self.console.is_terminal,
        )

    def __enter__(self) -> RunLog:
        if self.silent:
            return self
        path = self.folder / LOG
        unreadable = drop_after(path, self._step)
        if unreadable:
            lines = "1 line is" if unreadable == 1 else f"{unreadable} lines are"
            self.say(f"{path}: {lines} damaged and left out; the run goes on")
        self._jsonl = path.open("a", encoding="utf-8")
        facts = RunFacts(self.folder, self._step, self._settings, self.say)
        self._records = open_records(self._record_names, facts)
        self._task = self._progress.add_task(
            "training", total=self._steps, completed=self._step, said=""
        )
        self._progress.start()
        return self

    def __exit__(self, *problem: object) -> None:
        self._progress.stop()
        if self._jsonl is not None:
            self._jsonl.close()
        for record in self._records:
            record.close()

    def say(self, text: str) -> None:
        """Print a line, or tell it."""
        if self._listener is not None:
            self._listener.say(visible_lines(text))
        else:
            self.console.print(visible_lines(text), markup=False)

    def follow(self, what: str, total: int) -> Callable[[int], None]:
        """Show a progress line of its own, for work after the last step; it goes when all is done.

        Args:
            what: its name.
            total: how much there is to do.

        Returns:
            What is told how much is done.
        """
        task = self._progress.add_task(what, total=total, said="")
        return lambda done: self._progress.update(task, completed=done, visible=done < total)

    def record(self, step: int, values: Mapping[str, float]) -> None:
        """File the figures of ``step`` and show them beside the progress bar."""
        if self.silent:
            return
        assert self._jsonl is not None  # only inside the with block
        with naming(Path(self._jsonl.name)):
            self._jsonl.write(json.dumps({"step": step, **values}) + "\n")
            self._jsonl.flush()
        for record in self._records:
            record.scalars(step, values)
        self._progress.update(self._task, completed=step, said=loss_total(values))


def loss_total(values: Mapping[str, float]) -> str:
    """``loss 12.31``, or nothing where ``values`` are those of an evaluation."""
    losses = [value for name, value in values.items() if name.startswith("loss_")]
    return f"loss {sum(losses):.4g}" if losses else ""


def losses_line(values: Mapping[str, float]) -> str:
    """``loss 12.31 (coord 3.20, obj 4.11)`` of the ``loss_*`` figures among ``values``."""
    losses = {n.removeprefix("loss_"): x for n, x in values.items() if n.startswith("loss_")}
    parts = ", ".join(f"{name} {value:.3g}" for name, value in losses.items())
    return f"loss {sum(losses.values()):.4g} ({parts})"


def drop_after(path: Path, step: int) -> int:
    """Drop the records of steps that a resumed run will take again, and what is no record.

    Returns:
        How many lines were none, as a power cut or a failing disk leaves them; but for the last,
        which a kill breaks off.
    """
    if not path.exists():
        return 0
    text = path.read_text(encoding="utf-8", errors="replace")
    lines = text.split("\n")  # what follows the last line break is no whole line
    steps = [_step_of(line) for line in lines[:-1]]
    kept = [line for line, at in zip(lines, steps, strict=False) if at is not None and at <= step]
    write_atomically(path, "".join(f"{line}\n" for line in kept))
    return steps.count(None) + ("\0" in lines[-1])


def _step_of(line: str) -> int | None:
    """The step of a record; None of what is none."""
    try:
        step = json.loads(line)["step"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return step if isinstance(step, int) else None
