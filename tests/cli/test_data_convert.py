"""The convert command: all splits of a folder, one entry, its words and its errors."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from detkit.cli.data_convert import main
from detkit.data import read_dataset
from tests.data.formats import write_yolo
from tests.oracles import voc_xml, write_voc


def convert(*words: str | Path) -> int:
    return main([str(word) for word in words])


def test_all_splits_of_a_folder(
    tiny_voc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert convert(tiny_voc, "--to", "coco", "--out", out) == 0
    said = capsys.readouterr().out
    assert said.startswith(
        f"voc {tiny_voc} test: 2 images (0 without objects), 2 objects of 2 classes\n"
        f"voc {tiny_voc} trainval: 4 images (1 without objects), 5 objects of 2 classes, "
        "1 difficult\n"
        f"written: {out}, 6 images, splits test, trainval; as a config names it:\n"
    )
    block = yaml.safe_load(said[said.index("data:") :])["data"]
    assert block["classes"] == ["cat", "dog"]
    assert [entry["split"] for entry in block["train"] + block["eval"]] == ["trainval", "test"]
    assert len(read_dataset(block["train"][0], block["classes"]).boxes) == 5


def test_one_entry_by_its_words(tiny_voc: Path, tmp_path: Path) -> None:
    words = ("data.format=voc", f"data.root={tiny_voc}", "data.split=test")
    assert convert(*words, "--to", "csv", "--out", tmp_path / "out", "--link") == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["images", "test.csv"]


def test_a_split_of_a_recognised_folder(tiny_voc: Path, tmp_path: Path) -> None:
    assert convert(tiny_voc, "data.split=test", "--to", "yolo", "--out", tmp_path / "out") == 0
    entry = {"format": "yolo", "root": tmp_path / "out", "split": "test"}
    assert len(read_dataset(entry)) == 2


def test_a_format_that_is_named_without_a_split(tiny_voc: Path, tmp_path: Path) -> None:
    words = ("data.format=voc", f"data.root={tiny_voc}")
    assert convert(*words, "--to", "csv", "--out", tmp_path / "out") == 0
    assert sorted(path.name for path in (tmp_path / "out").glob("*.csv")) == [
        "test.csv", "trainval.csv"
    ]  # fmt: skip


def test_what_is_lost_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_voc(
        tmp_path / "in", {"1": voc_xml([("dog", (1, 1, 40, 30))] * 2, difficult=[0, 1])}, "train"
    )
    assert convert(folder, "--to", "yolo", "--out", tmp_path / "out") == 0
    assert (
        "\nnote: yolo cannot hold all: 1 difficult objects left out, as darknet's own conversion "
        "does.\n"
    ) in capsys.readouterr().out


def told(capsys: pytest.CaptureFixture[str], *words: str | Path) -> str:
    assert convert(*words) == 2
    return capsys.readouterr().err


def test_into_the_source(tiny_voc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys, tiny_voc, "--to", "csv", "--out", tiny_voc / "csv") == (
        f"detkit data convert: {tiny_voc / 'csv'}: lies in the source {tiny_voc}, where nothing is "
        "written. Name a folder beside it.\n"
    )


def test_no_folder_and_two(
    tiny_voc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = "detkit data convert: name one folder: ROOT, or data.root=PATH.\n"
    rest = ("--to", "csv", "--out", tmp_path / "out")
    assert told(capsys, "data.format=voc", *rest) == expected
    assert told(capsys, tiny_voc, f"data.root={tiny_voc}", *rest) == expected


def test_a_path_that_no_disk_can_hold(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / ("x" * 300)
    sentence = "cannot be used (File name too long). Name a shorter path. Nothing was left behind."
    said = told(capsys, root, "--to", "csv", "--out", tmp_path / "out")
    assert said == f"detkit data convert: {root}: {sentence}\n"


def test_of_two_formats_the_one_that_is_named(tiny_voc: Path, tmp_path: Path) -> None:
    for split in ("test", "trainval"):
        data = read_dataset({"format": "voc", "root": tiny_voc, "split": split})
        write_yolo(tiny_voc, data, split)
    (tiny_voc / "data.yaml").write_text("names: [cat, dog]\n")
    out = tmp_path / "out"
    assert convert(tiny_voc, "data.format=yolo", "--to", "csv", "--out", out) == 0
    assert sorted(path.name for path in out.glob("*.csv")) == ["test.csv", "trainval.csv"]


def test_an_unknown_split(
    tiny_voc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = told(capsys, tiny_voc, "data.split=tset", "--to", "csv", "--out", tmp_path / "out")
    assert said == f"detkit data convert: {tiny_voc}: no split 'tset'. Did you mean 'test'?\n"
