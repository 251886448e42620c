"""Several ranks: they give what one process gives, and they end together and say why."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from detkit.cli.eval import main as evaluate
from detkit.distributed.ranks import Ranks, check_shares, own_device
from detkit.engine.train import train
from detkit.errors import ConfigError
from tests.engine.runs import unseal
from tests.engine.test_train import all_state, records_of, wait_for_step
from tests.engine.two_ranks import detected, trained
from tests.forked import PATIENCE_SECONDS, ROOT, Forked

BATCH_OF_FOUR = ["train.batch_size=4", "train.micro_batches=1"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start_two(*words: str) -> list[Forked]:
    """`python WORDS` as rank 0 and rank 1, without torchrun: each ends by itself or not at all."""
    shared = {"WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    return [Forked(words, {"RANK": rank, "LOCAL_RANK": rank, **shared}) for rank in range(2)]


def ended(ranks: list[Forked]) -> tuple[list[int | None], list[str], list[str]]:
    """Exit codes, what they printed, and what they complained of."""
    said = [rank.communicate() for rank in ranks]
    return [rank.returncode for rank in ranks], [out for out, _ in said], [err for _, err in said]


def torchrun(*words: str, restarts: int = 0) -> subprocess.Popen[str]:
    options = ["--standalone", "--nproc-per-node=2", f"--max-restarts={restarts}"]
    return subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", *options, "tools/train.py", *words],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def pid_of_rank(rank: int, launcher: int) -> int:
    """The process that ``launcher`` started as ``rank``."""
    for entry in Path("/proc").iterdir():
        try:
            status = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            is_child = entry.name.isdigit() and int(status[1]) == launcher
            if is_child and f"\0RANK={rank}\0" in "\0" + (entry / "environ").read_text():
                return int(entry.name)
        except (OSError, IndexError):  # not a process, or one that has just ended
            continue
    raise AssertionError(f"no rank {rank}")


# ------------------------------------------------------------------------ the same as one


def test_two_ranks_give_what_one_process_gives(tiny_voc: Path, tmp_path: Path) -> None:
    odd = tiny_voc / "ImageSets" / "Main" / "odd.txt"
    odd.write_text("000004\n000001\n000003\n000002\n000006\n")  # five: two ranks cannot halve them
    codes, _, complaints = ended(start_two("-m", "tests.engine.two_ranks", str(tmp_path)))
    assert codes == [0, 0], complaints
    one = {f"one.{name}": tensor for name, tensor in trained(Ranks(), tmp_path).items()}
    whole = {f"two.{name.removeprefix('one.')}": tensor for name, tensor in one.items()}
    found = [torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in range(2)]
    for name, tensor in (one | whole).items():
        for rank in range(2):
            torch.testing.assert_close(found[rank][name], tensor, rtol=1e-9, atol=1e-11, msg=name)
    assert one["one.losses"].isfinite().all()
    assert len(one["one.losses"]) == 6
    for name, tensor in detected(Ranks(), tiny_voc).items():
        assert len(tensor), name
        for rank in range(2):
            # other batches and other threads may round a network's last bit otherwise
            atol = 1e-3 if name in ("model.boxes", "model.scores") else 0
            torch.testing.assert_close(found[rank][name], tensor, rtol=0, atol=atol, msg=name)


def test_training_says_evaluates_and_writes_as_one(small_config: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ["tools/train.py", str(small_config), "--out", str(out), "--device", "cpu"]
    codes, said, complaints = ended(start_two(*words, *BATCH_OF_FOUR))
    assert codes == [0, 0], complaints
    assert "2 ranks with 2 images of each step; batch-norm statistics on each rank" in said[0]
    assert "mAP VOC07" in said[0]
    assert said[1] == ""
    assert complaints[1] == ""
    assert {record["step"] for record in records_of(out)} == set(range(1, 13))
    state = torch.load(out / "last" / "state.pt", weights_only=True)
    assert len(state["random"]) == 2
    assert not torch.equal(*state["random"])
    assert not any(name.startswith("module.") for name in state["model"])


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Compute with one thread, as each rank does: another number rounds the last bit otherwise."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.slow
def test_eval_on_two_ranks_gives_the_figures_of_one(
    small_config: Path, tmp_path: Path, one_thread: None
) -> None:
    out, figures = tmp_path / "run", []
    train(small_config, out, ["train.iterations=2"])
    words = [str(out), "--device", "cpu", "--no-speed", "--no-cache", "--json"]
    codes, said, complaints = ended(start_two("tools/eval.py", *words, str(tmp_path / "two.json")))
    assert codes == [0, 0], complaints
    assert (said[1], complaints[1]) == ("", "")
    assert evaluate([*words, str(tmp_path / "one.json")]) == 0
    for name in ("one", "two"):
        read = json.loads((tmp_path / f"{name}.json").read_text())
        figures.append(json.dumps(read, sort_keys=True).replace(f"{name}.json", ""))
    assert figures[0] == figures[1]


# ------------------------------------------------------------------------ refusals


def test_a_batch_that_ranks_cannot_share_is_refused() -> None:
    check_shares(64, 4)
    with pytest.raises(ConfigError) as caught:
        check_shares(10, 4)
    assert str(caught.value) == (
        "train.batch_size: is 10, which 4 ranks cannot share equally (it is the size over all "
        "ranks); set it to 8 or 12, or start another number of ranks."
    )
    with pytest.raises(ConfigError, match="set it to 4, or start"):
        check_shares(3, 4)


def test_each_rank_needs_a_gpu_of_its_own() -> None:
    assert own_device("cpu", 3) == torch.device("cpu")
    with pytest.raises(ConfigError) as caught:
        own_device("cuda:1", 0)
    assert str(caught.value) == (
        "--device cuda:1: names one GPU for several ranks; use --device cuda, and choose GPUs "
        "with CUDA_VISIBLE_DEVICES."
    )
    with pytest.raises(ConfigError) as caught:
        own_device("cuda", torch.cuda.device_count())
    assert str(caught.value) == (
        f"--nproc-per-node: rank {torch.cuda.device_count()} of this machine has no GPU, torch "
        f"sees {torch.cuda.device_count()}; start as many ranks as GPUs, or use --device cpu."
    )


def test_synchronised_batch_norm_needs_gpus(small_config: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        train(small_config, tmp_path / "run", ["train.sync_batch_norm=true"])
    assert str(caught.value) == (
        "train.sync_batch_norm: needs GPUs; on CPUs every rank normalises its own part of the "
        "batch. Set it to false."
    )


# ------------------------------------------------------------------------ ends

BROKEN = """\
import os, sys, time
import torch
from detkit.cli.train import main
from detkit.engine import decisions
from detkit.data.loader import TrainSet
from detkit.detectors.yolo_v2 import YoloV2
from detkit.errors import DataError

rank, what = int(os.environ["RANK"]), sys.argv.pop(1)
honest, steps = YoloV2.losses, []

def late(*args, **kwargs):
    time.sleep(3)
    raise DataError("somewhere: this file is broken.")

if rank == 1 and what == "before connecting":
    sys.modules["detkit.engine.train"].read_experiment = late
if rank == 1 and what == "connecting":
    torch.distributed.init_process_group = late
if rank == 1 and what == "precision":
    decisions.choose_precision = lambda asked, device: "bf16"

def losses(self, batch, targets, step):
    steps.append(step)
    found = honest(self, batch, targets, step)
    if rank == 1 and len(steps) == 3:
        if what == "data":
            raise DataError("somewhere: this image is broken.")
        if what == "bug":
            raise RuntimeError("size of tensor a must match")
        if what == "nan":
            found["loss_obj"] = found["loss_obj"] * float("nan")
        if what == "sleep":
            time.sleep(5)
        if what == "die":
            time.sleep(1.5)  # long enough to have told where it is
            os.kill(os.getpid(), 9)
        if what == "stop":
            os.kill(os.getpid(), 15)
    return found

YoloV2.losses = losses
sys.exit(main())
"""


def broken(what: str, config: Path, out: Path, *words: str) -> list[Forked]:
    """A training in which ``what`` happens to rank 1, in its third step where not before."""
    script = config.parent / "broken.py"
    script.write_text(BROKEN)
    fixed = ["--out", str(out), "--device", "cpu", *BATCH_OF_FOUR]
    return start_two(str(script), what, str(config), *fixed, *words)


def test_an_error_on_one_rank_ends_both_and_is_said_once(
    small_config: Path, tmp_path: Path
) -> None:
    codes, _, complaints = ended(broken("data", small_config, tmp_path / "run"))
    assert codes == [2, 2]
    assert complaints == ["", "detkit: rank 1: somewhere: this image is broken.\n"]


@pytest.mark.parametrize("when", ["before connecting", "connecting"])
def test_an_error_on_one_rank_ends_another_that_waits_for_it_to_connect(
    small_config: Path, tmp_path: Path, when: str
) -> None:
    codes, _, complaints = ended(broken(when, small_config, tmp_path / "run"))
    assert codes == [2, 2]
    assert complaints == ["", "detkit: rank 1: somewhere: this file is broken.\n"]


def test_ranks_that_chose_unlike_precisions_are_refused(small_config: Path, tmp_path: Path) -> None:
    codes, _, complaints = ended(broken("precision", small_config, tmp_path / "run"))
    assert codes == [2, 2]
    assert complaints == [
        "",
        "detkit: rank 1: train.precision: is bf16 on rank 1, but fp32 on rank 0; the GPUs differ, "
        "so set it to one that all of them have: fp16, or fp32.\n",
    ]


@pytest.mark.slow
def test_a_loss_that_is_not_finite_on_one_rank_stops_both(
    small_config: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    codes, _, complaints = ended(broken("nan", small_config, out))
    folder = out / "not_finite_step_2_rank_1"
    assert codes == [2, 2]
    assert complaints[0] == ""
    found = re.fullmatch(
        r"detkit: rank 1: step 2: loss_obj is not finite on images \d+, \d+; the batch is in "
        rf"{folder}\. Try a lower train.lr, or train.clip_norm=10; the checkpoint of step 2 is "
        r"whole.\n",
        complaints[1],
    )
    assert found, complaints[1]
    assert [path.name for path in out.glob("not_finite*")] == [folder.name]


@pytest.mark.slow
def test_a_bug_on_one_rank_shows_where_it_is(small_config: Path, tmp_path: Path) -> None:
    codes, _, complaints = ended(broken("bug", small_config, tmp_path / "run"))
    assert all(codes)
    assert complaints[0] == ""
    assert complaints[1].startswith("detkit: rank 1: Traceback")
    assert complaints[1].endswith("RuntimeError: size of tensor a must match\n")


@pytest.mark.slow
def test_a_rank_that_dies_is_named(small_config: Path, tmp_path: Path) -> None:
    codes, _, complaints = ended(broken("die", small_config, tmp_path / "run"))
    assert codes == [2, -signal.SIGKILL]
    assert complaints[0] == (
        f"detkit: rank 0: lost rank 1 on {socket.gethostname()} (last heard: step 2, in forward): "
        "no sign of life for 6 s. This rank: step 2, in forward. Start again; a training goes on "
        "with --resume.\n"
    )


@pytest.mark.slow
def test_ranks_that_wait_too_long_say_where_each_is(small_config: Path, tmp_path: Path) -> None:
    short = "train.rank_timeout_minutes=0.05"
    codes, _, complaints = ended(broken("sleep", small_config, tmp_path / "run", short))
    assert all(codes)
    found = re.fullmatch(
        r"detkit: rank 0: the ranks waited 3 s for one another \(rank 0: step 2, in forward, for "
        r"\d+ s; rank 1: step 2, in forward, for \d+ s\)\. See why one is late, or raise "
        r"train\.rank_timeout_minutes\.\n",
        complaints[0],
    )
    assert found, complaints[0]
    assert "detkit" not in complaints[1]  # torch itself may mention the store


@pytest.mark.slow
def test_a_stop_on_one_rank_stops_all_at_the_same_step(small_config: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    codes, said, complaints = ended(broken("stop", small_config, out, "train.save_every=100"))
    assert codes == [130, 130], complaints
    assert said[0].splitlines()[-1] == (
        f"stopped and saved at step 3. Go on: detkit train {out / 'config.yaml'} --resume"
    )
    assert torch.load(out / "last" / "state.pt", weights_only=True)["step"] == 3


# ------------------------------------------------------------------------ restart


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds ranks through /proc")
def test_a_killed_rank_is_started_again_and_ends_with_the_same_bytes(
    small_config: Path, tmp_path: Path
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"

    def words(out: Path) -> list[str]:
        fixed = ["--out", str(out), "--device", "cpu", "--resume", *BATCH_OF_FOUR]
        return [str(small_config), *fixed, "train.iterations=40", "train.save_every=3"]

    process = torchrun(*words(killed), restarts=1)  # --resume, and nothing to resume: it starts
    wait_for_step(killed, 5)
    os.kill(pid_of_rank(1, process.pid), signal.SIGKILL)
    said = process.communicate(timeout=PATIENCE_SECONDS)[0]
    assert process.returncode == 0, said
    assert "detkit: rank 0: lost rank 1 on" in said
    assert "resuming after step" in said
    codes, _, complaints = ended(start_two("tools/train.py", *words(whole)))
    assert codes == [0, 0], complaints
    ours, theirs = all_state(whole / "last"), all_state(killed / "last")
    assert ours.keys() == theirs.keys()
    assert not [name for name in ours if not torch.equal(ours[name], theirs[name])]


def test_resuming_on_another_number_of_ranks_is_said(
    small_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    train(small_config, out, ["train.iterations=2", "train.save_every=2"])
    state = torch.load(out / "last" / "state.pt", weights_only=True)
    state["random"] = state["random"].repeat(2, 1)  # as two ranks leave it
    torch.save(state, out / "last" / "state.pt")
    unseal(out / "last")
    capsys.readouterr()
    train(small_config, out, ["train.iterations=3"], resume=True)
    assert (
        "warning: this run was saved by 2 ranks and goes on with 1: images and their draws stay "
        "the same, batch norm sees other parts of them\n"
    ) in capsys.readouterr().out
