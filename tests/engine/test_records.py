"""TensorBoard, W&B and MLflow: what they keep, and that none of them asks, blocks or ends a run."""

from __future__ import annotations

import importlib.util
import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from detkit.engine.log import RunLog
from detkit.engine.records import IDS, LOG, RunFacts, check_records, flat, open_records, read_ids
from detkit.engine.train import train
from detkit.errors import ConfigError, DetkitError

SETTINGS = {"model": {"name": "yolo_v2"}, "train": {"lr": 1e-3, "augment": {"flip": 0.5}}}
FIGURES = [
    {"lr": 0.1, "loss_obj": 4.0},
    {"lr": 0.1, "loss_obj": 2.0},
    {"lr": 0.01, "loss_obj": 1.0},
]


def keep(names: list[str], folder: Path, step: int = 0) -> list[str]:
    """Open the records, file three steps, close; return the lines that were said."""
    said: list[str] = []
    folder.mkdir(exist_ok=True)
    records = open_records(names, RunFacts(folder, step, SETTINGS, said.append))  # type: ignore[arg-type]
    for number, values in enumerate(FIGURES, start=step + 1):
        for record in records:
            record.scalars(number, values)
    for record in records:
        record.close()
    return said


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """Nobody is logged in anywhere, and what the records set is forgotten afterwards."""
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_PROJECT", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no_netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "wandb_config"))
    return monkeypatch


def test_tensorboard_gives_back_what_was_filed(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    assert not keep(["tensorboard", "tensorboard"], tmp_path)  # twice is once
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("loss_obj")] == [(1, 4.0), (2, 2.0), (3, 1.0)]


def test_a_missing_package_is_told_with_its_command(
    small_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_records(["tensorboard"])
    honest = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec",
        lambda name, package=None: None if name == "wandb" else honest(name, package),
    )
    with pytest.raises(ConfigError) as caught:
        train(small_config, tmp_path / "run", ["train.records=[tensorboard, wandb]"])
    assert str(caught.value) == (
        "train.records: wandb is not installed. Install it with: pip install wandb"
    )
    assert not (tmp_path / "run").exists()


def test_a_run_without_records_keeps_its_own_log(small_config: Path, tmp_path: Path) -> None:
    train(small_config, tmp_path / "run", ["train.records=[]", "train.iterations=1"])
    assert (tmp_path / "run" / "log.jsonl").is_file()
    assert not (tmp_path / "run" / "tensorboard").exists()


def test_settings_become_dotted_names() -> None:
    assert flat(SETTINGS) == {"model.name": "yolo_v2", "train.lr": 1e-3, "train.augment.flip": 0.5}


# ------------------------------------------------------------------------- played by fakes


class FakeWandb(types.ModuleType):
    """As much of W&B as is used; ``online`` and ``fails_at`` say how it behaves."""

    class Error(Exception):
        pass

    def __init__(self, *, logged_in: bool, online: bool = True, fails_at: int = 99) -> None:
        super().__init__("wandb")
        self.__version__ = "0.0"
        self.logged_in, self.online, self.fails_at = logged_in, online, fails_at
        self.started: list[dict[str, Any]] = []
        self.logged: list[tuple[int, dict[str, float]]] = []
        self.finished = 0
        self.id = "abc123"

    def login(self, prompt: bool = True, verify: bool = True) -> bool:
        assert not prompt
        return self.logged_in

    def Settings(self, **settings: Any) -> dict[str, Any]:  # noqa: N802
        return settings

    def init(self, **arguments: Any) -> FakeWandb:
        self.started.append(arguments)
        if arguments["mode"] == "online" and not self.online:
            raise self.Error("Run initialization has timed out.\nMore lines.")
        return self

    def log(self, values: dict[str, float], step: int) -> None:
        if step >= self.fails_at:
            raise self.Error("the disk is full.")
        self.logged.append((step, values))

    def finish(self) -> None:
        self.finished += 1


def offline_line(folder: Path) -> str:
    return (
        f"this run is recorded in {folder / 'wandb'}; send it later with: "
        f"wandb sync {folder / 'wandb'}/offline-run-*"
    )


def test_who_is_not_logged_in_is_recorded_offline(tmp_path: Path, bare: pytest.MonkeyPatch) -> None:
    fake = FakeWandb(logged_in=False)
    bare.setitem(sys.modules, "wandb", fake)
    assert keep(["wandb"], tmp_path) == [f"wandb: not logged in, so {offline_line(tmp_path)}"]
    assert [start["mode"] for start in fake.started] == ["offline"]
    assert fake.started[0]["config"] == SETTINGS
    assert fake.logged == list(enumerate(FIGURES, start=1))
    assert fake.finished == 1
    assert read_ids(tmp_path) == {"wandb": "abc123"}
    keep(["wandb"], tmp_path, step=3)
    assert fake.started[1]["id"] == "abc123"  # the same run goes on


def test_who_is_logged_in_is_recorded_online(tmp_path: Path, bare: pytest.MonkeyPatch) -> None:
    fake = FakeWandb(logged_in=True)
    bare.setitem(sys.modules, "wandb", fake)
    assert not keep(["wandb"], tmp_path)
    assert [(start["mode"], start["resume"]) for start in fake.started] == [("online", "allow")]


def test_a_server_that_does_not_answer_does_not_end_the_run(
    tmp_path: Path, bare: pytest.MonkeyPatch
) -> None:
    fake = FakeWandb(logged_in=True, online=False)
    bare.setitem(sys.modules, "wandb", fake)
    assert keep(["wandb"], tmp_path) == [
        f"wandb: Run initialization has timed out; {offline_line(tmp_path)}"
    ]
    assert len(fake.logged) == 3


@pytest.mark.parametrize("mode", ["offline", "disabled"])
def test_wandb_mode_is_honoured(mode: str, tmp_path: Path, bare: pytest.MonkeyPatch) -> None:
    fake = FakeWandb(logged_in=True)
    bare.setitem(sys.modules, "wandb", fake)
    bare.setenv("WANDB_MODE", mode)
    assert not keep(["wandb"], tmp_path)
    assert [start["mode"] for start in fake.started] == [mode]
    assert (tmp_path / IDS).exists() == (mode == "offline")


def test_a_record_that_fails_is_left_and_the_run_goes_on(
    tmp_path: Path, bare: pytest.MonkeyPatch
) -> None:
    fake = FakeWandb(logged_in=True, fails_at=2)
    bare.setitem(sys.modules, "wandb", fake)
    assert keep(["wandb"], tmp_path) == [
        "wandb: the disk is full; from step 2 on nothing is recorded there"
    ]
    assert fake.logged == [(1, FIGURES[0])]


def test_a_wandb_that_can_only_ask_is_not_used(tmp_path: Path, bare: pytest.MonkeyPatch) -> None:
    fake = FakeWandb(logged_in=False)
    fake.login = lambda relogin=False: pytest.fail("it asked")  # type: ignore[method-assign]
    bare.setitem(sys.modules, "wandb", fake)
    assert keep(["wandb"], tmp_path) == [
        "wandb 0.0 is too old; update it with: pip install -U wandb; this run is not recorded there"
    ]


# ---------------------------------------------------------------------------- the real ones


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # theirs
def test_wandb_for_real(tmp_path: Path, bare: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    folder = tmp_path / "run"
    assert keep(["wandb"], folder) == [f"wandb: not logged in, so {offline_line(folder)}"]
    name = json.loads((folder / IDS).read_text())["wandb"]
    assert list((folder / "wandb").glob(f"offline-run-*-{name}/run-{name}.wandb"))


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_mlflow_for_real(tmp_path: Path, bare: pytest.MonkeyPatch) -> None:
    tracking = pytest.importorskip("mlflow.tracking")
    folder = tmp_path / "run"
    assert not keep(["mlflow"], folder)
    assert not keep(["mlflow"], folder, step=3)  # resumed
    client = tracking.MlflowClient(f"sqlite:///{folder / 'mlflow' / 'mlflow.db'}")
    name = json.loads((folder / IDS).read_text())["mlflow"]
    found = client.get_run(name)
    assert found.info.status == "FINISHED"
    assert found.data.params == {
        "model.name": "yolo_v2",
        "train.lr": "0.001",
        "train.augment.flip": "0.5",
    }
    history = client.get_metric_history(name, "loss_obj")
    assert [(m.step, m.value) for m in history] == list(enumerate([4.0, 2.0, 1.0] * 2, start=1))


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_an_mlflow_server_that_is_not_there(tmp_path: Path, bare: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow.tracking")
    bare.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # nobody listens
    said = keep(["mlflow"], tmp_path)
    assert len(said) == 1
    assert said[0].startswith("mlflow: API request to http://127.0.0.1:9/")
    assert said[0].endswith("; this run is not recorded there")


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (b"\0" * 40 + b"\n", "1 line is"),
        (b"\0" * 40, "1 line is"),
        (b'{"step": 2, "lo', None),  # as a kill leaves it
        (b'{"stop": 2}\n[]\n\xff\xfe\n', "3 lines are"),
        (b"[" * 100_000 + b"\n", "1 line is"),
    ],
)
def test_a_damaged_line_of_the_log_is_left_out_and_said(
    damage: bytes, told: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / LOG).write_bytes(b'{"step": 1}\n' + damage)
    with RunLog(tmp_path, step=5, steps=9, records=()) as log:
        log.record(6, {"lr": 0.1})
    assert (tmp_path / LOG).read_text() == '{"step": 1}\n{"step": 6, "lr": 0.1}\n'
    said = f"{tmp_path / LOG}: {told} damaged and left out; the run goes on\n"
    assert capsys.readouterr().out == ("" if told is None else said)


@pytest.mark.parametrize("damage", [b"", b"\0" * 20, b"[1]", b'{"wandb": 5}', b"[" * 100_000])
def test_damaged_ids_of_records_are_said(damage: bytes, tmp_path: Path) -> None:
    (tmp_path / IDS).write_bytes(damage)
    with pytest.raises(DetkitError) as caught:
        read_ids(tmp_path)
    assert str(caught.value) == f"{tmp_path / IDS}: is damaged; remove it to begin a new record"
