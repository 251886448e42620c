"""Where a run's figures are kept besides ``log.jsonl``: TensorBoard, and if asked W&B and MLflow.

None of them asks a question, and none is let onto the network unless the user is logged in there
or names a server. One that fails is left out, and the run goes on.
"""

from __future__ import annotations

import importlib.util
import inspect
import json
import os
import textwrap
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pydantic import TypeAdapter

from detkit.errors import ConfigError, DetkitError
from detkit.experiment.config import RecordName
from detkit.files import write_atomically

LOG = "log.jsonl"  # in the run folder: a line for every step that is recorded
PROJECT = "detkit"  # W&B's project, MLflow's experiment
IDS = "record_ids.json"  # in the run folder; a resumed run goes on in the same W&B and MLflow run
WANDB_START_SECONDS = 30  # how long W&B may try to reach its server before it goes offline
MLFLOW_PARAMS_AT_ONCE = 100  # MLflow refuses more in one call
LONGEST_REASON = 160  # characters of another library's message
QUIET = {  # no figures about the user, no news, no minutes of retries
    "WANDB_ERROR_REPORTING": "false",
    "WANDB_SILENT": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What the records are told of a run when they are opened."""

    folder: Path
    step: int  # steps taken already; 0 for a new run
    settings: Mapping[str, Any]  # the resolved config, nested
    say: Callable[[str], None]  # prints a line


class Record(Protocol):
    """One place that keeps a run's figures."""

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Keep the figures of ``step``."""

    def close(self) -> None:
        """Finish writing."""


def check_records(names: Sequence[RecordName]) -> None:
    """Refuse records whose package is not installed, before anything is read or built.

    Raises:
        ConfigError: naming the command that installs it.
    """
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise ConfigError(
                f"train.records: {name} is not installed. Install it with: pip install {name}"
            )


def open_records(names: Sequence[RecordName], facts: RunFacts) -> list[Record]:
    """Open each of ``names``; one that cannot be opened is left out with a line."""
    if set(names) - {"tensorboard"}:
        for variable, value in QUIET.items():
            os.environ.setdefault(variable, value)
    opened: list[Record] = []
    for name in dict.fromkeys(names):
        try:
            if name == "tensorboard":
                opened.append(TensorBoardRecord(facts))
            elif name == "wandb":
                opened.append(WandbRecord(facts))
            else:
                opened.append(MlflowRecord(facts))
        except DetkitError as problem:
            facts.say(f"{problem}; this run is not recorded there")
    return opened


class TensorBoardRecord:
    """Event files in the run's folder ``tensorboard``."""

    def __init__(self, facts: RunFacts) -> None:
        from torch.utils.tensorboard import SummaryWriter  # imported here: it takes a second

        purge = facts.step + 1 if facts.step else None
        self._writer = SummaryWriter(str(facts.folder / "tensorboard"), purge_step=purge)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Keep the figures of ``step``."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Finish writing."""
        self._writer.close()


class WandbRecord:
    """A run of Weights & Biases: online for who is logged in, else in files of the run folder.

    ``WANDB_MODE`` and W&B's other variables are honoured, but it never asks for a key.
    """

    def __init__(self, facts: RunFacts) -> None:
        import wandb

        # W&B watches for imports of such libraries, and a forked loader process that meets one
        # fails; so it is imported here first.
        import detkit.data.darknet_augment  # noqa: F401

        if "prompt" not in inspect.signature(wandb.login).parameters:
            raise DetkitError(
                f"wandb {wandb.__version__} is too old; update it with: pip install -U wandb"
            )
        self._failed: type[Exception] = wandb.Error
        self._say: Callable[[str], None] = facts.say
        wanted = os.environ.get("WANDB_MODE", "online")
        if wanted in ("offline", "disabled"):
            self._run: Any = self._start(facts, wanted)
        elif not wandb.login(prompt=False, verify=False):
            facts.say(f"wandb: not logged in, so {_offline(facts.folder)}")
            self._run = self._start(facts, "offline")
        else:
            try:
                self._run = self._start(facts, wanted)
            except wandb.Error as problem:
                facts.say(f"wandb: {_first_line(problem)}; {_offline(facts.folder)}")
                self._run = self._start(facts, "offline")

    def _start(self, facts: RunFacts, mode: str) -> Any:
        import wandb

        ids = read_ids(facts.folder)
        run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=facts.folder.name,
            dir=str(facts.folder),
            id=ids.get("wandb"),
            resume="allow" if mode == "online" else None,  # offline files join when sent
            config=dict(facts.settings),
            mode=mode,
            save_code=False,
            settings=wandb.Settings(silent=True, console="off", init_timeout=WANDB_START_SECONDS),
        )
        if mode != "disabled":
            write_ids(facts.folder, {**ids, "wandb": run.id})
        return run

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Keep the figures of ``step``."""
        if self._run is None:
            return
        try:
            self._run.log(dict(values), step=step)
        except self._failed as problem:
            self._say(
                f"wandb: {_first_line(problem)}; from step {step} on nothing is recorded there"
            )
            self._run = None

    def close(self) -> None:
        """Finish writing."""
        if self._run is not None:
            self._run.finish()


class MlflowRecord:
    """A run of MLflow: at ``MLFLOW_TRACKING_URI`` where that is set, else in the run folder."""

    def __init__(self, facts: RunFacts) -> None:
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient

        self._failed: type[Exception] = MlflowException
        self._say: Callable[[str], None] = facts.say
        local = facts.folder.resolve() / "mlflow"
        uri = os.environ.get("MLFLOW_TRACKING_URI")
        if uri is None:
            local.mkdir(exist_ok=True)
            uri = f"sqlite:///{local / 'mlflow.db'}"
        artifacts = local.as_uri() if uri.startswith("sqlite") else None
        try:
            self._client: Any = MlflowClient(tracking_uri=uri)
            self._run_id: str | None = self._start(facts, artifacts)
        except MlflowException as problem:
            raise DetkitError(f"mlflow: {_first_line(problem)}") from problem

    def _start(self, facts: RunFacts, artifacts: str | None) -> str:
        from mlflow.entities import Param

        ids = read_ids(facts.folder)
        if "mlflow" in ids:
            self._client.update_run(ids["mlflow"], status="RUNNING")
            return ids["mlflow"]
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        known = self._client.get_experiment_by_name(name)
        experiment = (
            known.experiment_id if known else self._client.create_experiment(name, artifacts)
        )
        run_id: str = self._client.create_run(experiment, run_name=facts.folder.name).info.run_id
        params = [Param(key, str(value)) for key, value in flat(facts.settings).items()]
        for start in range(0, len(params), MLFLOW_PARAMS_AT_ONCE):
            self._client.log_batch(run_id, params=params[start : start + MLFLOW_PARAMS_AT_ONCE])
        write_ids(facts.folder, {**ids, "mlflow": run_id})
        return run_id

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Keep the figures of ``step``."""
        from mlflow.entities import Metric

        if self._run_id is None:
            return
        now = int(time.time() * 1000)  # milliseconds
        try:
            metrics = [Metric(name, value, now, step) for name, value in values.items()]
            self._client.log_batch(self._run_id, metrics=metrics)
        except self._failed as problem:
            self._say(
                f"mlflow: {_first_line(problem)}; from step {step} on nothing is recorded there"
            )
            self._run_id = None

    def close(self) -> None:
        """Finish writing."""
        if self._run_id is not None:
            self._client.set_terminated(self._run_id)


# --------------------------------------------------------------------------------- parts


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings under dotted keys, ``train.lr`` and so on."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        name = f"{prefix}{key}"
        found |= flat(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return found


def read_ids(folder: Path) -> dict[str, str]:
    """The names under which W&B and MLflow know the run of ``folder``; empty for a new one."""
    path = folder / IDS
    if not path.is_file():
        return {}
    try:
        return dict(TypeAdapter(dict[str, str]).validate_json(path.read_bytes()))
    except ValueError as problem:
        raise DetkitError(f"{path}: is damaged; remove it to begin a new record") from problem


def write_ids(folder: Path, ids: Mapping[str, str]) -> None:
    """Note those names for a resumed run."""
    write_atomically(folder / IDS, json.dumps(ids, indent=2) + "\n")


def _offline(folder: Path) -> str:
    return (
        f"this run is recorded in {folder / 'wandb'}; send it later with: "
        f"wandb sync {folder / 'wandb'}/offline-run-*"
    )


def _first_line(problem: Exception) -> str:
    said = (str(problem).splitlines() or [type(problem).__name__])[0]
    return textwrap.shorten(said, LONGEST_REASON).rstrip(".")
