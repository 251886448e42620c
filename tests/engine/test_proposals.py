"""Proposals of whole datasets: found once, by any number of processes, and after any stop."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor

from detkit.detectors import build_detector
from detkit.engine.build import read_data
from detkit.engine.proposals import (
    Computed,
    compute_proposals,
    processes_for,
    store_of,
    stored_proposals,
)
from detkit.engine.tasks.detection_worst_batch import worst_batch
from detkit.engine.train import train
from detkit.errors import DetkitError
from detkit.experiment.config import DataConfig
from detkit.experiment.read import read_experiment
from detkit.files import in_words
from detkit.image import read_image
from detkit.proposals.selective_search import ProposalConfig
from detkit.proposals.store import ProposalStore, default_folder
from detkit.types import Boxes
from tests.engine.test_distributed import torchrun
from tests.oracles import write_image

CONFIG = ProposalConfig(mode="single", scales=(30.0,), most=40)
TRAINING = """\
model:
  name: rcnn
  backbone: tiny
  head: fc
  head_size: 1
  head_width: 8
  warp_size: 64
  context_padding: 4
  windows: 8
  proposals: {{mode: single, scales: [30], most: 12}}

data:
  workers: 0
  proposals: {store}
  train: [{{format: voc, root: {root}, split: trainval}}]
  eval: [{{format: voc, root: {root}, split: test}}]

train:
  iterations: 2
  batch_size: 2
  lr: 1.0e-3
  records: []
  augment: {{jitter: 0}}
"""


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """Twenty images, the last one a copy of the first."""
    found = [tmp_path / f"{number:02d}.png" for number in range(20)]
    for number, path in enumerate(found[:-1]):
        write_image(path, (40 + number, 60), seed=number)
    shutil.copy(found[0], found[-1])
    return found


def kept(store: ProposalStore) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in store.folder.glob("*.npy")}


def refuse(self: ProposalConfig, image: Tensor) -> Boxes:
    raise AssertionError("searched again")


def test_each_content_is_searched_once_and_told(paths: list[Path], tmp_path: Path) -> None:
    store = ProposalStore(tmp_path / "store", CONFIG)
    told: list[tuple[int, int]] = []
    done = compute_proposals(store, paths, 1, lambda now, total: told.append((now, total)))
    assert told == [(number, 19) for number in range(1, 20)]
    assert (done.images, done.found, done.stopped, done.unreadable) == (19, 19, False, ())
    assert done.size == sum(map(len, kept(store).values()))
    found = stored_proposals(store, paths)
    for path, boxes in zip(paths, found, strict=True):
        assert torch.equal(boxes, CONFIG.find(read_image(path)))


def test_processes_keep_the_same_bytes(paths: list[Path], tmp_path: Path) -> None:
    one, two = (ProposalStore(tmp_path / name, CONFIG) for name in ("one", "two"))
    before = torch.random.get_rng_state()
    compute_proposals(one, paths, 1)
    done = compute_proposals(two, paths, 2)
    assert done.found == 19
    assert kept(one) == kept(two)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_what_is_there_is_left_alone(
    paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ProposalStore(tmp_path / "store", CONFIG)
    compute_proposals(store, paths, 1)
    monkeypatch.setattr(ProposalConfig, "find", refuse)
    done = compute_proposals(store, paths, 1)
    assert (done.images, done.found, done.seconds) == (19, 0, 0.0)


@pytest.mark.parametrize("processes", [1, 2])
def test_work_goes_on_after_ctrl_c(paths: list[Path], tmp_path: Path, processes: int) -> None:
    def interrupt(done: int, total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    store = ProposalStore(tmp_path / "store", CONFIG)
    with pytest.raises(KeyboardInterrupt):
        compute_proposals(store, paths, processes, interrupt)
    before = kept(store)
    assert 5 <= len(before) < 19
    done = compute_proposals(store, paths, processes)
    assert done.found == 19 - len(before)
    assert before.items() <= kept(store).items()
    assert len(kept(store)) == 19
    assert not [path for path in store.folder.iterdir() if path.name.startswith(".")]


def test_a_wish_to_stop_ends_it_after_the_image_at_hand(paths: list[Path], tmp_path: Path) -> None:
    store = ProposalStore(tmp_path / "store", CONFIG)
    done = compute_proposals(store, paths, 1, stopping=lambda: len(kept(store)) == 4)
    assert (done.found, done.stopped) == (4, True)


@pytest.mark.parametrize("processes", [1, 2])
def test_unreadable_images_are_named_and_left_out(
    paths: list[Path], tmp_path: Path, processes: int
) -> None:
    paths[3].write_bytes(b"no image")
    paths[4].unlink()
    store = ProposalStore(tmp_path / "store", CONFIG)
    done = compute_proposals(store, paths, processes)
    assert (done.images, done.found) == (19, 17)
    assert len(done.unreadable) == 2
    assert done.unreadable[0].startswith(f"{paths[3]}: ")
    assert done.unreadable[1] == f"{paths[4]}: no such image file. Check the path."
    found = stored_proposals(store, paths)
    assert [len(boxes) == 0 for boxes in found] == [number in (3, 4) for number in range(20)]


@pytest.mark.parametrize("processes", [1, 2])
def test_a_folder_that_cannot_be_written_ends_it(
    paths: list[Path], tmp_path: Path, processes: int
) -> None:
    taken = tmp_path / "taken"
    taken.write_text("a file")
    with pytest.raises(DetkitError) as problem:
        compute_proposals(ProposalStore(taken, CONFIG), paths, processes)
    assert str(problem.value) == (
        f"{taken}: is a file, but a folder is needed. Name another with data.proposals."
    )
    store = ProposalStore(tmp_path / "store", CONFIG)
    store.folder.parent.mkdir()
    store.folder.write_text("a file")
    with pytest.raises(DetkitError) as problem:
        compute_proposals(store, paths, processes)
    assert str(problem.value) == (
        f"{store.folder}: is a file, but a folder is needed. Name another with data.proposals."
    )


def test_lines_say_what_was_done() -> None:
    assert Computed(292, 24, 3.12, 2_100_000).text() == (
        "proposals: 292 images, 2 MB, 24 computed now in 3.1 s (0.13 s each)"
    )
    assert Computed(5, 0, 0.0, 70_000).text() == "proposals: 5 images, 70 kB"
    stopped = Computed(5, 2, 1.0, 70, ("a.jpg: the file is empty.",), stopped=True)
    assert stopped.text() == (
        "proposals: 5 images, 70 bytes, 2 computed now in 1.0 s (0.50 s each), 1 unreadable "
        "(first: a.jpg: the file is empty.), stopped before the rest; another start goes on from "
        "here"
    )


def test_the_config_or_the_machine_says_how_many_processes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(6)), raising=False)
    assert processes_for(DataConfig()) == 6
    assert processes_for(DataConfig(), here=4) == 1
    assert processes_for(DataConfig(workers=3), here=4) == 3
    assert processes_for(DataConfig(workers=0)) == 1
    monkeypatch.delattr("os.sched_getaffinity")
    monkeypatch.setattr("os.cpu_count", lambda: 5)
    assert processes_for(DataConfig()) == 5


def test_the_config_or_the_users_cache_says_where(tmp_path: Path) -> None:
    yolo = build_detector({"name": "yolo_v2", "backbone": "tiny", "num_classes": 1})
    assert store_of(DataConfig(), yolo) is None
    with torch.device("meta"):
        rcnn = build_detector({"name": "rcnn", "num_classes": 1})
    usual, named = store_of(DataConfig(), rcnn), store_of(DataConfig(proposals=tmp_path), rcnn)
    assert usual is not None
    assert named is not None
    assert usual.folder.parent == default_folder()
    assert named.folder.parent == tmp_path
    assert usual.config == ProposalConfig()


# ------------------------------------------------------------------------------- training


@pytest.fixture
def config(tiny_voc: Path, tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(TRAINING.format(root=tiny_voc, store=tmp_path / "store"))
    return path


def proposal_lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("proposals:")]


def test_training_finds_what_is_missing_and_then_searches_no_more(
    config: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert train(config, tmp_path / "one").finished
    (line,) = proposal_lines(capsys.readouterr().out)
    assert line.startswith("proposals: 4 images, ")
    assert ", 4 computed now in " in line
    monkeypatch.setattr(ProposalConfig, "find", refuse)
    assert train(config, tmp_path / "two").finished  # trains and evaluates on what is stored
    (line,) = proposal_lines(capsys.readouterr().out)
    size = sum(path.stat().st_size for path in (tmp_path / "store").rglob("*.npy"))
    assert line == f"proposals: 4 images, {in_words(size)}"  # the test images are copies
    one, two = ((tmp_path / name / "last" / "weights.safetensors") for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()


def test_a_detector_without_need_of_proposals_says_nothing_of_them(
    small_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(small_config, tmp_path / "run", ["train.iterations=1"])
    assert proposal_lines(capsys.readouterr().out) == []


def test_ctrl_c_while_they_are_found_ends_the_run_before_its_first_step(
    config: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import signal

    find, images = ProposalConfig.find, []

    def interrupted(self: ProposalConfig, image: Tensor) -> Boxes:
        images.append(image)
        if len(images) == 2:
            signal.raise_signal(signal.SIGINT)
        return find(self, image)

    monkeypatch.setattr(ProposalConfig, "find", interrupted)
    outcome = train(config, tmp_path / "run")
    assert not outcome.finished
    said = capsys.readouterr().out.splitlines()
    assert said[-2].endswith("stopped before the rest; another start goes on from here")
    assert said[-1].startswith("stopped and saved at step 0. ")
    monkeypatch.undo()
    assert train(config, tmp_path / "run", resume=True).finished
    (line,) = proposal_lines(capsys.readouterr().out)
    assert ", 2 computed now in " in line


def test_a_dry_run_is_as_full_of_proposals_as_training(config: Path) -> None:
    experiment, _ = read_experiment(config)
    data, _ = read_data(experiment)
    model = build_detector({"num_classes": 2, **experiment.model})
    batch = worst_batch(model, data, 2, 10, 0)
    proposals = batch.samples[0].proposals
    assert proposals is not None
    assert proposals.shape == (12, 4)


@pytest.mark.slow
def test_ranks_share_the_search(config: Path, tmp_path: Path) -> None:
    words = ["train.micro_batches=1"]
    process = torchrun(str(config), "--out", str(tmp_path / "run"), "--device", "cpu", *words)
    said = process.communicate(timeout=300)[0]
    assert process.returncode == 0, said
    (line,) = proposal_lines(said)
    assert line.startswith("proposals: 4 images, ")
    assert ", 4 computed now in " in line
    assert len([*(tmp_path / "store").rglob("*.npy")]) == 4
