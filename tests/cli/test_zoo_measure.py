"""`detkit zoo check --measure`: figures, verdicts and exit codes."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from detkit.checkpoints import resolve as named
from detkit.cli import zoo as zoo_command
from detkit.cli.zoo_measure import compared, scored_objects
from detkit.data import read_dataset
from detkit.detectors import build_detector
from detkit.evaluation.bootstrap import bootstrap_map
from detkit.evaluation.results import Results
from detkit.evaluation.rows import Row
from detkit.evaluation.run import evaluate_results
from detkit.remote import RemoteFile
from detkit.weights import zoo
from detkit.weights.darknet import Header, write_darknet
from detkit.weights.zoo import ZOO
from detkit.weights.zoo_darknet import DarknetEntry
from detkit.weights.zoo_entry import Benchmark, Published
from detkit.weights.zoo_measured import measured_here
from tests.oracles import voc_xml, write_voc

SMALL = {
    "name": "yolo_v2",
    "num_classes": 2,
    "backbone": "tiny",
    "input_size": 64,
    "passthrough": False,
    "head_channels": 16,
    "score_threshold": 0.95,  # that random weights never reach
}
PETS = ("cat", "dog")
TEST = Benchmark("pets", PETS, 2, 2)  # split test of the fixture
OTHER = Benchmark("other pets", PETS, 3, 2)
HIDDEN = Benchmark("hidden pets", PETS)


def figure(percent: float, on: Benchmark = TEST) -> Published:
    return Published({"voc07_map": percent}, on, 64, "a paper")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DETKIT_OFFLINE", "1")
    monkeypatch.setenv("DETKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache" / "zoo"


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DarknetEntry:
    """A small detector of random weights, the only entry; its file is ``small.weights``."""
    torch.manual_seed(0)
    write_darknet(build_detector(SMALL), tmp_path / "small.weights", Header())
    body = (tmp_path / "small.weights").read_bytes()
    known = f"sha256:{hashlib.sha256(body).hexdigest()}"
    entry = DarknetEntry(
        name="toy",
        model=SMALL,
        class_names=PETS,
        file=RemoteFile("toy.weights", ("https://a.example/toy.weights",), len(body), known),
        floats=(len(body) - 20) // 4,
        data="toys",
        published=figure(1.0),
        licence="public domain",
        paper="https://arxiv.org/abs/0",
    )
    put(monkeypatch, entry)
    return entry


def put(monkeypatch: pytest.MonkeyPatch, entry: DarknetEntry) -> None:
    for module in (zoo, named):
        monkeypatch.setattr(module, "ZOO", {entry.name: entry})


# ------------------------------------------------------------------------------- the verdict


@pytest.fixture
def half(tiny_voc: Path) -> Row:
    """The cat is found and the dog is not: AP 1 and 0, so that mAP is 0.5."""
    annotations = read_dataset({"format": "voc", "root": tiny_voc, "split": "test"}, PETS)
    found = Results(
        images=np.array([0], np.int64),
        boxes=annotations.boxes[:1].copy(),
        scores=np.array([0.9]),
        labels=annotations.labels[:1].copy(),
    )
    result = evaluate_results(found, annotations)
    drawn = bootstrap_map(result, annotations, 100)
    return Row("toy", "voc pets test", result, bootstrap=drawn)


def of(percent: float, on: Benchmark = TEST) -> DarknetEntry:
    return replace(ZOO["yolo_v2_voc"], published=figure(percent, on))  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("percent", "too_far", "said"),
    [
        (50.0, False, "+0.00 points from the published figure, on the same images: right, "),
        (49.0, False, "+1.00 points from the published figure, on the same images: right, "),
        (51.0, False, "-1.00 points from the published figure, on the same images: right, "),
        (48.9, True, "+1.10 points from the published figure, on the same images: WRONG, "),
        (51.1, True, "-1.10 points from the published figure, on the same images: WRONG, "),
    ],
)
def test_on_the_same_images_there_is_a_verdict(
    half: Row, percent: float, too_far: bool, said: str
) -> None:
    found = compared(of(percent), half, is_known=True)
    assert found.too_far == too_far
    end = (
        "within 1."
        if not too_far
        else (
            "more than 1. The file is the published one, so something else is not as it was: the "
            "labels, the photos, or how detkit reads the file."
        )
    )
    assert found.lines[-1] == f"VOC07 mAP: {said}{end}"


def test_a_file_without_a_published_hash_may_be_another_one(half: Row) -> None:
    found = compared(of(60.0), half, is_known=False)
    assert found.too_far
    assert found.lines[-1] == (
        "VOC07 mAP: -10.00 points from the published figure, on the same images: WRONG, more than "
        "1. Nobody has published the file's hash, so it may be another file; or the labels, the "
        "photos, or how detkit reads it are others."
    )


def test_both_of_two_figures_must_be_right(half: Row) -> None:
    entry = of(50.0)
    two = Published({"voc07_map": 50.0, "coco_ap50": 40.0}, TEST, 64, "a paper")
    found = compared(replace(entry, published=two), half, is_known=True)
    assert found.too_far
    assert found.lines[-2].startswith("VOC07 mAP: +0.00 points")
    assert found.lines[-1].startswith("AP50: +10.00 points")


def test_on_other_images_both_figures_and_no_verdict(half: Row) -> None:
    found = compared(of(99.0, OTHER), half, is_known=True)
    assert not found.too_far
    assert list(found.lines) == [
        "",
        "           measured  95 % interval  published",
        "VOC07 mAP      50.0   0.0 to 100.0       99.0",
        "",
        "published: other pets (3 images, 2 scored objects), input 64; from a paper",
        "measured: voc pets test, 2 images, 2 scored objects, 2 classes",
        # darknet's own figure, a remark of the entry's, is this test's no longer
        "No verdict: these are not the images of other pets.",
    ]


def test_a_figure_on_hidden_labels_has_no_verdict_anywhere(half: Row) -> None:
    entry = of(1.0, HIDDEN)
    remark = replace(entry.published, remark="A remark.")
    found = compared(replace(entry, published=remark), half, is_known=True)
    assert not found.too_far
    assert found.lines[-2:] == (
        "A remark.",
        "No verdict: nobody can measure on hidden pets, so these are other images.",
    )
    assert found.lines[4] == (
        "published: hidden pets (its labels are not public), input 64; from a paper"
    )


def test_a_figure_of_another_network_has_no_verdict_on_its_own_images(half: Row) -> None:
    entry = of(1.0)
    other = replace(entry.published, of_another="the paper's head")
    found = compared(replace(entry, published=other), half, is_known=True)
    assert not found.too_far
    assert found.lines[-1] == (
        "No verdict: the published figure is of the paper's head, not of this."
    )


def test_classes_that_the_data_lacks_are_said(half: Row) -> None:
    lines = compared(of(1.0), replace(half, left_out=78), is_known=True).lines
    assert lines[5] == "measured: voc pets test, 2 images, 2 scored objects, 2 classes of 80"


def test_difficult_objects_are_not_scored(tiny_voc: Path) -> None:
    """Three of the five objects are dogs, and one of these is difficult."""
    annotations = read_dataset({"format": "voc", "root": tiny_voc, "split": "trainval"}, PETS)
    none = Results(
        *(
            np.zeros((0, *end), kind)
            for end, kind in (((), np.int64), ((4,), np.float32), ((), np.float64), ((), np.int64))
        )
    )
    result = evaluate_results(none, annotations)
    assert scored_objects(Row("toy", "data", result)) == len(annotations.boxes) - 1 == 4


# ------------------------------------------------------------------------------- the command


def test_from_the_file_to_the_list(
    toy: DarknetEntry,
    tiny_voc: Path,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Random weights find nothing: 0 is within a point of 1, and not of 1.1."""
    words = ["check", "--measure", "small.weights", str(tiny_voc), "--device", "cpu"]
    words += ["data.split=test", "eval.batch_size=1"]  # behind an option, too
    assert zoo_command.main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "toy: right by size and sha256 (small.weights)"
    assert lines[3].split() == ["VOC07", "mAP", "0.0", "0.0", "to", "0.0", "1.0"]
    assert lines[-2] == (
        "VOC07 mAP: -1.00 points from the published figure, on the same images: right, within 1."
    )
    assert lines[-1] == "detkit zoo list shows these figures from now on"
    (kept,) = measured_here(toy)
    assert (kept.percent, kept.data, kept.images, kept.objects) == (
        {"voc07_map": 0.0},
        "voc tiny_voc test",
        2,
        2,
    )
    assert kept.command == (
        f"detkit zoo check --measure small.weights {tiny_voc} data.split=test eval.batch_size=1"
    )
    assert zoo_command.main(["list"]) == 0
    assert "  VOC07 mAP 0.0\n" in capsys.readouterr().out

    (tiny_voc.parent / "small.weights").rename(cache / "toy.weights")
    far = replace(toy, published=figure(1.1))
    put(monkeypatch, far)
    assert zoo_command.main(["check", "toy", "--measure", *words[3:]]) == 1
    said = capsys.readouterr().out
    assert said.startswith(f"toy: right by size and sha256 ({cache}/toy.weights)\n")
    assert "WRONG, more than 1." in said

    put(monkeypatch, replace(toy, published=figure(1.1, OTHER)))
    assert zoo_command.main(["check", "--measure", "toy", f"data.root={tiny_voc}", *words[4:]]) == 0
    assert "No verdict: these are not the images of other pets." in capsys.readouterr().out


def test_a_cache_that_cannot_be_written_does_not_take_the_figures(
    toy: DarknetEntry,
    tiny_voc: Path,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cache.parent.mkdir()
    cache.write_text("a file where the folder should be")
    words = ["check", "--measure", "small.weights", str(tiny_voc), "data.split=test"]
    assert zoo_command.main([*words, "--device", "cpu"]) == 0
    said = capsys.readouterr()
    assert "right, within 1." in said.out
    assert said.err.splitlines()[-1] == (
        f"{cache}: not writable (Not a directory), so detkit zoo list will not show these figures; "
        "DETKIT_CACHE names another folder."
    )


def test_data_without_objects_has_no_figure_and_nothing_is_kept(
    toy: DarknetEntry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_voc(tmp_path / "empty", {"000001": voc_xml([]), "000002": voc_xml([])}, split="test")
    words = ["check", "--measure", "small.weights", "empty", "data.split=test"]
    assert zoo_command.main([*words, "--device", "cpu"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[3].split() == ["VOC07", "mAP", "-", "-", "to", "-", "1.0"]
    assert lines[-1] == "No verdict: these are not the images of pets."
    assert measured_here(toy) == ()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["toy", "pets"],
            "toy: not fetched, and nothing is fetched here. `detkit zoo get toy` fetches it; or "
            "name the file itself in place of its name.",
        ),
        (["tox", "pets"], "zoo: nothing is named 'tox'. Did you mean 'toy'?"),
        (
            ["mine.weights", "pets"],
            "mine.weights: none of the zoo's files, though as long as that of toy, so no figure "
            "was published of it. detkit eval measures other weights.",
        ),
        (
            ["short.weights", "pets"],
            "short.weights: none of the zoo's files, so no figure was published of it. detkit "
            "eval measures other weights.",
        ),
        (
            ["toy"],
            "--measure needs a folder with photos and their labels: detkit zoo check --measure "
            "NAME FOLDER [data.split=val2017] [eval.batch_size=8].",
        ),
        (
            [],
            "--measure takes one name and one folder: detkit zoo check --measure NAME FOLDER "
            "[data.split=val2017] [eval.batch_size=8].",
        ),
        (
            ["toy", "pets", "more"],
            "--measure takes one name and one folder: detkit zoo check --measure NAME FOLDER "
            "[data.split=val2017] [eval.batch_size=8].",
        ),
        (
            ["toy", "pets", "data.root=others"],
            "pets, data.root=others: name one folder.",
        ),
        (
            ["toy", "pets", "model.input_size=96"],
            "model.input_size: not for --measure, which takes data.* and eval.*; the figure is "
            "that of the settings it was published with. detkit eval measures with others.",
        ),
        (
            ["small.weights", "pets"],
            "pets: no such folder. Point to your data with data.root=PATH.",
        ),
    ],
)
def test_what_cannot_be_measured_ends_in_one_sentence(
    toy: DarknetEntry,
    tmp_path: Path,
    words: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    body = (tmp_path / "small.weights").read_bytes()
    (tmp_path / "mine.weights").write_bytes(body[:-1] + bytes([body[-1] ^ 1]))
    (tmp_path / "short.weights").write_bytes(body[:-4])
    assert zoo_command.main(["check", "--measure", *words, "--device", "cpu"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == f"detkit zoo check: {said}"


def test_a_file_in_the_cache_of_another_content_is_not_measured(
    toy: DarknetEntry, tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache.mkdir(parents=True)
    (cache / "toy.weights").write_bytes(b"\n<!doctype html>")
    assert zoo_command.main(["check", "--measure", "toy", "pets", "--device", "cpu"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert f"{cache}/toy.weights: is an HTML page of 16 bytes" in said.err


@pytest.mark.parametrize("header", [b"\x00\x00\x00\x00\x01\x00\x00\x00", None])
def test_a_file_without_a_hash_is_known_by_size_and_header(
    toy: DarknetEntry,
    tmp_path: Path,
    header: bytes | None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The older header is four bytes shorter, so a file of that length is shifted: another one."""
    put(monkeypatch, replace(toy, file=replace(toy.file, hash=None)))
    if header is not None:
        body = (tmp_path / "small.weights").read_bytes()
        (tmp_path / "small.weights").write_bytes(header + body[8:])
    words = ["check", "--measure", "small.weights", "pets", "--device", "cpu"]
    assert zoo_command.main(words) == 2
    said = capsys.readouterr()
    if header is None:
        assert said.out == "toy: right by size and header (small.weights)\n"
    else:
        assert said.out == ""
        assert "small.weights: none of the zoo's files, though as long as that of toy" in said.err


def test_words_that_are_no_names_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for words, said in (
        (["check", "--device", "cpu"], "--device goes with --measure"),
        (["list", "toy"], "unrecognized arguments: toy"),
        (["check", "--bootstrap=9"], "unrecognized arguments: --bootstrap=9"),
    ):
        with pytest.raises(SystemExit) as caught:
            zoo_command.main(words)
        assert caught.value.code == 2
        assert capsys.readouterr().err.splitlines()[-1] == f"detkit zoo: error: {said}"


@pytest.mark.data
def test_the_table_states_what_the_published_tiny_file_gives(
    data_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The figures that `zoo list` shows, and the authors' C program gives: AP 0.198, AP50 0.405."""
    tiny = ZOO["yolo_v3_tiny_coco"]
    file, photos = data_root / "weights" / "yolov3-tiny.weights", data_root / "coco_mini"
    words = [str(file), str(photos), "data.split=val2017", "--device", "cpu"]
    assert zoo_command.main(["check", "--measure", *words]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[3].split()[:2] == ["AP", "19.8"]
    assert lines[4].split()[:2] == ["AP50", "40.5"]
    assert lines[4].split()[-1] == "33.1"
    assert lines[-2] == (
        "No verdict: nobody can measure on COCO test-dev, so these are other images."
    )
    (here,) = measured_here(tiny)
    assert tiny.measured is not None
    assert {key: round(value, 1) for key, value in here.percent.items()} == tiny.measured.percent
    assert (here.images, here.objects) == (tiny.measured.images, tiny.measured.objects)


def test_a_folder_without_splits_is_measured_whole(
    toy: DarknetEntry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is trained on, so nothing has to be held out."""
    pages = {name: voc_xml([("cat", (1, 1, 30, 30)), ("dog", (9, 9, 50, 50))]) for name in "abcde"}
    folder = write_voc(tmp_path / "pets", pages, split="photos")
    words = ["check", "--measure", str(tmp_path / "small.weights"), str(folder), "--device", "cpu"]
    assert zoo_command.main(words) == 0
    assert ", 5 images, 10 scored objects, 2 classes\n" in capsys.readouterr().out
