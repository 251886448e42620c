"""What lies in a folder, what it is used for, and that one command trains on all of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from detkit.cli.anchors import main as anchors
from detkit.cli.eval import main as evaluate
from detkit.config import read_config
from detkit.data import Annotations, join, read_dataset
from detkit.data.auto import resolve
from detkit.data.formats.base import looked_for
from detkit.data.recognise import Recognised, recognise
from detkit.engine.train import train
from detkit.errors import ConfigError, DataError, DetkitError
from detkit.experiment.read import read_experiment
from tests.data.formats import (
    objects,
    write_coco,
    write_createml,
    write_csv,
    write_cvat,
    write_labelme,
    write_yolo,
)
from tests.oracles import voc_xml, write_image, write_voc

Writer = Callable[[Path, Annotations, str], None]
WRITERS = {
    **{"coco": write_coco, "yolo": write_yolo, "csv": write_csv},
    **{"labelme": write_labelme, "createml": write_createml, "cvat": write_cvat},
}
TITLES = {
    **{"voc": "PASCAL VOC", "coco": "COCO JSON", "yolo": "YOLO text", "csv": "CSV"},
    **{"labelme": "labelme JSON", "createml": "CreateML JSON", "cvat": "CVAT XML"},
}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A VOC folder with six images in train, two in val and two in test."""
    folder = tmp_path / "voc"
    box = (1, 1, 40, 30)
    for split, count in (("train", 6), ("val", 2), ("test", 2)):
        pages = {f"{split}{n}": voc_xml([("dog" if n % 2 else "cat", box)]) for n in range(count)}
        write_voc(folder, pages, split=split)
    return folder


def voc_split(source: Path, split: str) -> Annotations:
    return read_dataset({"format": "voc", "root": str(source), "split": split})


def in_format(source: Path, name: str, splits: tuple[str, ...] = ("train", "val", "test")) -> Path:
    """The same data in another format."""
    if name == "voc":
        return source
    root = source.parent / name
    root.mkdir()
    for split in splits:
        WRITERS[name](root, voc_split(source, split), split) if name != "csv" else None
    if name == "csv":
        (root / "images").mkdir()
        for split in splits:
            data = voc_split(source, split)
            part = root / split
            part.mkdir()
            write_csv(part, data, split)
            for path in (part / "images").iterdir():
                path.rename(root / "images" / path.name)
            (part / f"{split}.csv").rename(root / f"{split}.csv")
            shutil.rmtree(part)
    return root


@pytest.mark.parametrize("name", TITLES)
def test_recognises_each_format(source: Path, name: str) -> None:
    root = in_format(source, name)
    found = recognise(root)
    assert found.format == name
    entries = {kind: ({"format": name, "root": str(root), "split": kind},)
               for kind in ("train", "val", "test")}  # fmt: skip
    assert (found.train, found.val, found.test) == tuple(entries.values())
    assert found.line() == (
        f"{root}: {TITLES[name]}, splits train 6, val 2, test 2; "
        "training on train, evaluating on val"
    )
    assert found.line("eval") == (
        f"{root}: {TITLES[name]}, splits train 6, val 2, test 2; evaluating on test"
    )


@pytest.mark.parametrize("name", TITLES)
def test_without_a_second_split_the_data_is_parted(source: Path, name: str) -> None:
    for split in ("val", "test"):
        (source / "ImageSets" / "Main" / f"{split}.txt").unlink()
    root = in_format(source, name, ("train",))
    found = recognise(root, keys={"hold_out": 0.34})
    assert found.val == found.test
    assert found.line() == (
        f"{root}: {TITLES[name]}, splits train 6; training on 66% of train, "
        "evaluating on 34% of train"
    )
    learned, measured = read_dataset(found.train[0]), read_dataset(found.val[0])
    assert sorted([*learned.image_ids, *measured.image_ids]) == sorted(
        read_dataset({"format": name, "root": root, "split": "train"}).image_ids
    )
    assert len(measured) == 2
    assert set(measured.labels.tolist()) == {0, 1}  # a cat and a dog: each class's share


def test_parts_do_not_hang_on_the_order_of_the_classes(source: Path) -> None:
    entry = {"format": "voc", "root": source, "split": "train", "hold_out": 0.5}
    learned = read_dataset({**entry, "part": "train"}, ("dog", "unused", "cat"))
    measured = read_dataset({**entry, "part": "eval"}, ("cat", "dog"))
    assert not set(learned.image_ids) & set(measured.image_ids)
    assert len(learned) + len(measured) == 6


def test_which_split_is_for_what(source: Path, tmp_path: Path) -> None:
    lists = source / "ImageSets" / "Main"
    shutil.copy(lists / "train.txt", lists / "trainval.txt")
    (lists / "cat_train.txt").write_text("train0  1\ntrain1 -1\n")  # a class's own list
    found = recognise(source)
    assert [split.name for split in found.splits] == ["train", "val", "test", "trainval"]
    assert [entry["split"] for entry in found.train + found.val] == ["train", "val"]
    (lists / "val.txt").unlink()
    found = recognise(source)
    assert [e["split"] for e in found.train + found.val + found.test] == [
        "trainval",
        "test",
        "test",
    ]
    assert chosen(recognise(source, "train")) == ("train", "test", "train")
    with pytest.raises(DataError) as caught:
        recognise(source, "tran")
    assert str(caught.value) == f"{source}: no split 'tran'. Did you mean 'train'?"


def write_years(root: Path, **years: str) -> Path:
    """A VOCdevkit whose years have these splits; trainval is train and val."""
    for year, splits in years.items():
        ids = {"train": [f"{year}a", f"{year}b"], "val": [f"{year}c"], "test": [f"{year}d"]}
        ids["trainval"] = ids["train"] + ids["val"]
        for split in splits.split():
            pages = {image: voc_xml([("dog", (1, 1, 40, 30))]) for image in ids[split]}
            write_voc(root / year, pages, split=split)
    return root


def chosen(found: Recognised) -> tuple[str, str, str]:
    """The splits to train on, to measure on meanwhile and afterwards."""
    train, val, test = (
        " ".join(str(entry["split"]) for entry in block)
        for block in (found.train, found.val, found.test)
    )
    return train, val, test


def images(entries: Iterable[Mapping[str, Any]]) -> list[str]:
    return sorted(name for entry in entries for name in read_dataset(entry).image_ids.tolist())


def test_who_trains_on_trainval_does_not_measure_on_val(tmp_path: Path) -> None:
    root = write_years(tmp_path, voc="train val trainval test") / "voc"
    assert chosen(recognise(root)) == ("train", "val", "test")
    found = recognise(root, "trainval")
    assert chosen(found) == ("trainval", "test", "trainval")
    assert found.line().endswith("; training on trainval, evaluating on test")
    (root / "ImageSets" / "Main" / "test.txt").unlink()
    found = recognise(root, "trainval", {"hold_out": 0.34})
    assert found.line() == (
        f"{root}: PASCAL VOC, splits train 2, val 1, trainval 3; "
        "training on 66% of trainval, evaluating on 34% of trainval"
    )
    assert len(images(found.val)) == 1
    assert images(found.train + found.val) == ["voca", "vocb", "vocc"]
    (root / "ImageSets" / "Main" / "train.txt").unlink()
    assert chosen(recognise(root)) == ("trainval", "trainval", "trainval")


@pytest.mark.parametrize("name", ["coco", "yolo", "csv"])
def test_trainval_of_other_formats(source: Path, name: str) -> None:
    lists = source / "ImageSets" / "Main"
    (lists / "trainval.txt").write_text(
        (lists / "train.txt").read_text() + (lists / "val.txt").read_text()
    )
    if name == "csv":  # tables of one folder share their images
        root = in_format(source, name)
        rows = [(root / f"{split}.csv").read_text() for split in ("train", "val")]
        (root / "trainval.csv").write_text("".join(rows))
    else:
        root = in_format(source, name, ("train", "val", "test", "trainval"))
    assert chosen(recognise(root, "trainval")) == ("trainval", "test", "trainval")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        # the papers' 07+12: 2012's val is not measured on, so it is learned from
        ("trainval test", "train val trainval", ("7trainval 12trainval", "7test", "7test")),
        ("trainval test", "trainval", ("7trainval 12trainval", "7test", "7test")),
        ("trainval test", "train val", ("7trainval 12train", "12val", "7test")),
        # the year that is tested has a val of its own
        ("train val trainval test", "train val trainval", ("7train 12trainval", "7val", "7test")),
        ("train val test", "train", ("7train 12train", "7val", "7test")),
        ("train val test", "train val", ("7train 12train", "7val 12val", "7test")),
        # no year has a test and something to learn from
        ("test", "train val trainval", ("12train", "12val", "7test")),
        ("trainval", "train val trainval", ("7trainval 12train", "12val", "12val")),
        ("train val trainval", "train val trainval", ("7train 12train", "7val 12val",
                                                      "7val 12val")),
        # nothing to measure on: a part of every year
        ("train", "train", ("7train 12train", "7train 12train", "7train 12train")),
        ("trainval", "train trainval", ("7trainval 12trainval",) * 3),
    ],
)  # fmt: skip
def test_years_go_by_the_rules_one_by_one(
    tmp_path: Path, old: str, new: str, expected: tuple[str, str, str]
) -> None:
    found = recognise(write_years(tmp_path, VOC2007=old, VOC2012=new))
    short = [
        names.replace("VOC2007/", "7").replace("VOC2012/", "12") for names in chosen(found)
    ]  # fmt: skip
    assert tuple(short) == expected
    learned, measured = images(found.train), images(found.val)
    if "part" in found.train[0]:
        assert {entry["part"] for entry in found.train} == {"train"}
        assert {entry["part"] for entry in found.val + found.test} == {"eval"}
    assert len(set(learned)) == len(learned)  # join refuses an image that stands twice
    assert not set(learned) & {*measured, *images(found.test)}


def test_years_without_a_second_split_are_all_parted(tmp_path: Path) -> None:
    root = write_years(tmp_path, VOC2007="train", VOC2012="train")
    assert recognise(root, keys={"hold_out": 0.5}).line() == (
        f"{root}: PASCAL VOC, splits VOC2007/train 2, VOC2012/train 2; "
        "training on 50% of VOC2007/train and VOC2012/train, "
        "evaluating on 50% of VOC2007/train and VOC2012/train"
    )
    found = recognise(root, keys={"hold_out": 0.5})
    assert len(images(found.train)) == len(images(found.val)) == 2
    assert len(images(found.train + found.val)) == 4


def test_a_split_that_is_named_is_measured_on_its_own_year(tmp_path: Path) -> None:
    full = "train val trainval"
    root = write_years(tmp_path, VOC2007=f"{full} test", VOC2012=full)
    assert chosen(recognise(root, "VOC2012/train"))[1] == "VOC2012/val"
    assert chosen(recognise(root, "VOC2007/trainval"))[1] == "VOC2007/test"
    assert chosen(recognise(root, "VOC2012/trainval"))[1] == "VOC2007/val"  # 2012 has nothing else


def test_two_splits_for_one_purpose_in_one_year(tmp_path: Path) -> None:
    root = write_years(tmp_path, VOC2007="train test", VOC2012="train")
    shutil.copy(root / "VOC2007/ImageSets/Main/train.txt",
                root / "VOC2007/ImageSets/Main/train_small.txt")  # fmt: skip
    with pytest.raises(DataError) as caught:
        recognise(root)
    assert str(caught.value) == (
        f"{root}: VOC2007/train and VOC2007/train_small and VOC2012/train are for the same "
        "purpose. Say data.split=NAME."
    )


def test_voc_without_lists_of_ids(source: Path) -> None:
    shutil.rmtree(source / "ImageSets")
    found = recognise(source)
    assert found.line() == (
        f"{source}: PASCAL VOC, splits all 10; training on 80% of all, evaluating on 20% of all"
    )
    assert len(read_dataset(found.train[0])) + len(read_dataset(found.val[0])) == 10


def test_one_image_is_not_said_to_be_parted(tmp_path: Path) -> None:
    root = write_voc(tmp_path, {"x": voc_xml([("cat", (1, 1, 9, 9))])}, split="mine")
    found = recognise(root)
    begin = f"{root}: PASCAL VOC, splits mine 1; "
    nothing = "evaluating on nothing, as one image cannot be parted"
    assert found.line() == f"{begin}training on mine, {nothing}"
    assert found.line("eval") == begin + nothing
    assert [len(read_dataset(*entry)) for entry in (found.train, found.val)] == [1, 0]


def test_years_of_a_devkit_are_joined(source: Path, tmp_path: Path) -> None:
    devkit = tmp_path / "VOCdevkit"
    shutil.copytree(source, devkit / "VOC2007")
    write_voc(devkit / "VOC2012", {"x": voc_xml([])}, split="train")
    found = recognise(devkit)
    assert found.line() == (
        f"{devkit}: PASCAL VOC, splits VOC2007/train 6, VOC2012/train 1, VOC2007/val 2, "
        "VOC2007/test 2; training on VOC2007/train and VOC2012/train, evaluating on VOC2007/val"
    )
    with pytest.raises(DataError) as caught:
        recognise(tmp_path / "a")
    assert str(caught.value) == (
        f"{tmp_path}/a: no such folder. Point to your data with data.root=PATH."
    )
    outer = tmp_path / "outer"
    outer.mkdir()
    shutil.move(devkit, outer / "VOCdevkit")
    with pytest.raises(DataError) as caught:
        recognise(outer)
    assert str(caught.value) == (
        f"{outer}: no dataset by itself, but {outer}/VOCdevkit holds PASCAL VOC. "
        f"Write data.root={outer}/VOCdevkit."
    )


def test_other_layouts(source: Path, tmp_path: Path) -> None:
    coco = in_format(source, "coco")
    for split, other in (("train", "train"), ("val", "valid")):  # as Roboflow exports it
        (coco / split).rename(coco / other) if split != other else None
        (coco / "annotations" / f"instances_{split}.json").rename(
            coco / other / "_annotations.coco.json"
        )
    shutil.rmtree(coco / "annotations")
    found = recognise(coco)
    assert [entry["split"] for entry in found.train + found.val] == ["train", "valid"]
    assert len(read_dataset(found.val[0])) == 2

    yolo = in_format(source, "yolo")
    for split in ("train", "val", "test"):
        (yolo / split).mkdir()
        for kind in ("images", "labels"):
            (yolo / kind / split).rename(yolo / split / kind)
    (yolo / "images").rmdir()
    (yolo / "labels").rmdir()
    (yolo / "data.yaml").write_text("names: [cat, dog]\ntrain: ../train/images\n")
    assert [split.name for split in recognise(yolo).splits] == ["train", "val", "test"]
    assert recognise(yolo / "data.yaml").train[0]["root"] == str(yolo / "data.yaml")

    flat = tmp_path / "flat"
    flat.mkdir()
    for n in range(4):
        write_image(flat / f"{n}.png")
        (flat / f"{n}.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    assert recognise(flat).line() == (
        f"{flat}: YOLO text, splits all 4; training on 80% of all, evaluating on 20% of all"
    )


def test_two_splits_for_one_purpose(source: Path) -> None:
    root = in_format(source, "coco")
    for split in ("train", "val"):
        for year in (2014, 2017):
            shutil.copytree(root / split, root / f"{split}{year}")
            shutil.copy(root / "annotations" / f"instances_{split}.json",
                        root / "annotations" / f"instances_{split}{year}.json")  # fmt: skip
        (root / "annotations" / f"instances_{split}.json").unlink()
    with pytest.raises(DataError) as caught:
        recognise(root)
    assert str(caught.value) == (
        f"{root}: train2014 and train2017 are for the same purpose. Say data.split=NAME."
    )
    found = recognise(root, "train2017")
    assert [entry["split"] for entry in found.train + found.val] == ["train2017", "val2017"]


def test_two_formats_in_one_folder(source: Path) -> None:
    write_csv(source, voc_split(source, "train"), "train")
    with pytest.raises(DataError) as caught:
        recognise(source)
    assert str(caught.value) == (
        f"{source}: holds PASCAL VOC (splits train, val, test) and CSV (splits train). "
        "Say which with data.format=voc or data.format=csv, and name data.split."
    )


def test_nothing_that_is_known(tmp_path: Path) -> None:
    def said() -> str:
        with pytest.raises(DataError) as caught:
            recognise(tmp_path)
        return str(caught.value)

    assert (
        said() == f"{tmp_path}: no dataset is recognised; it is empty. Looked for {looked_for()}."
    )
    write_image(tmp_path / "a.png")
    for n in range(9):
        (tmp_path / f"{n}.doc").touch()
    assert said() == (
        f"{tmp_path}: no dataset is recognised; it holds 0.doc, 1.doc, 2.doc, 3.doc, 4.doc, 5.doc, "
        f"6.doc, 7.doc and 2 more (images, but no annotations). Looked for {looked_for()}."
    )


def test_files_that_are_something_else_are_passed_over(source: Path) -> None:
    (source / "notes.csv").write_text("when,what\nmonday,rain\n")
    (source / "ids.csv").write_text("cat,0\ndog,1\n")
    (source / "train.json").write_text("[]")
    (source / "train.txt").write_text("hello\n")
    assert recognise(source).format == "voc"


# --- entries ---


def test_entries_become_explicit(source: Path) -> None:
    root = str(source)
    auto = {"format": "auto", "root": root, "hold_out": 0.3}
    data, lines = resolve({"train": [auto, auto], "eval": []})
    entry = {"format": "voc", "root": root, "hold_out": 0.3}
    assert data == {"train": [{**entry, "split": "train"}], "eval": [{**entry, "split": "val"}]}
    assert lines == [recognise(source).line()]
    other = {"format": "voc", "root": "elsewhere", "split": "x"}
    data, _ = resolve({"train": [other, auto], "eval": [other]})
    assert data == {"train": [other, {**entry, "split": "train"}], "eval": [other]}
    data, lines = resolve({"train": [auto], "eval": [auto]}, "eval")
    assert data["eval"] == [{**entry, "split": "test"}]
    assert lines == [recognise(source).line("eval")]


def test_two_entries_of_one_folder(tmp_path: Path) -> None:
    root = write_years(tmp_path, VOC2007="train val trainval test", VOC2012="train val trainval")
    auto = {"format": "auto", "root": str(root)}
    entry = {"format": "voc", "root": str(root)}
    both = [{**auto, "split": f"VOC{year}/trainval"} for year in (2007, 2012)]
    explicit = [{**e, "format": "voc"} for e in both]
    test = [{**entry, "split": "VOC2007/test"}]
    for measured in ([], [auto]):
        data, lines = resolve({"train": both, "eval": measured})
        assert data == {"train": explicit, "eval": test}
        assert [line.partition("; ")[2] for line in lines] == [
            f"training on VOC{year}/trainval, evaluating on VOC2007/test" for year in (2007, 2012)
        ]
    data, _ = resolve({"train": [both[1], explicit[0]], "eval": []})  # one of them explicit
    assert data == {"train": [explicit[1], explicit[0]], "eval": test}
    val = {"split": "VOC2012/val"}
    data, lines = resolve({"train": both[:1], "eval": [{**auto, **val}]})  # as the entry says
    assert data == {"train": explicit[:1], "eval": [{**entry, **val}]}
    assert [line.partition("; ")[2] for line in lines] == [
        "training on VOC2007/trainval, evaluating on VOC2007/test", "evaluating on VOC2012/val"
    ]  # fmt: skip
    (root / "VOC2007" / "ImageSets" / "Main" / "test.txt").unlink()
    data, _ = resolve({"train": both, "eval": []})
    assert data == {
        "train": [{**e, "part": "train"} for e in explicit],
        "eval": [{**e, "part": "eval"} for e in explicit],
    }


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"part": "train"}, "data.part: train does not go with format auto, which parts by itself. "
                            "Name the format."),
        ({"part": "eval"}, "data.part: eval does not go with format auto, which parts by itself. "
                           "Name the format."),
        ({"splt": "x"}, "data.splt: unknown key. Did you mean 'split'?"),
    ],
)  # fmt: skip
def test_keys_of_an_auto_entry(source: Path, keys: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve({"train": [{"format": "auto", "root": str(source), **keys}]})
    assert str(caught.value) == sentence


def test_a_script_may_read_auto(source: Path) -> None:
    assert len(read_dataset({"format": "auto", "root": source})) == 6
    assert len(read_dataset({"format": "auto", "root": source, "split": "test"})) == 2
    for split in ("val", "test"):
        (source / "ImageSets" / "Main" / f"{split}.txt").unlink()
    assert len(read_dataset({"format": "auto", "root": source, "hold_out": 0.5})) == 3


def test_several_formats_join(source: Path) -> None:
    entries = [{"format": name, "root": str(in_format(source, name)), "split": "test"}
               for name in TITLES]  # fmt: skip
    parts = [read_dataset(entry) for entry in entries]
    whole = join(parts)
    assert whole.class_names == ("cat", "dog")
    assert len(whole) == 14
    expected = [sorted(objects(parts[0], i)) for i in range(2)]
    for start in range(0, 14, 2):
        for index in (0, 1):
            for ours, theirs in zip(objects(whole, start + index), expected[index], strict=True):
                assert ours[0] == theirs[0]
                np.testing.assert_allclose(ours[1], theirs[1], atol=1e-4)
    assert whole.image_ids.tolist() == [
        "test0", "test1", "100", "101",
        *(f"{place}/test{index}" for place in range(3, 8) for index in (0, 1)),
    ]  # fmt: skip


# --- the commands ---

RECIPE = """\
model: {name: yolo_v2, backbone: tiny, head_channels: 16, input_size: 64, num_classes: 3}
data:
  workers: 0
  classes: [a, b, c]
  train: [{format: voc, root: nowhere, split: x}, {format: voc, root: nowhere, split: y}]
  eval: [{format: voc, root: nowhere, split: z}]
train: {iterations: 1, batch_size: 2}
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE)
    return path


@pytest.mark.parametrize("name", TITLES)
def test_one_command_trains_and_evaluates(
    source: Path, recipe: Path, name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    root = in_format(source, name)
    words = ["data.format=auto", f"data.root={root}"]
    out = tmp_path / "run"
    assert train(recipe, out, words).finished
    line = f"recognised {recognise(root).line()}"
    assert capsys.readouterr().out.splitlines()[0] == line
    kept, _ = read_config(out / "config.yaml")
    entry = {"format": name, "root": str(root)}
    assert kept["data"]["train"] == [{**entry, "split": "train"}]
    assert kept["data"]["eval"] == [{**entry, "split": "val"}]
    assert kept["data"]["classes"] == ["cat", "dog"]
    assert kept["model"]["num_classes"] == 2
    assert f"# {line}\n" in (out / "config.yaml").read_text()
    recorded = json.loads((out / "last" / "model.json").read_text())["experiment"]["data"]
    assert recorded["train"] == kept["data"]["train"]

    assert evaluate([str(out), "--no-speed", "--device", "cpu"]) == 0
    printed = " ".join(capsys.readouterr().out.split())  # a long path wraps the line
    assert f"{name} {root} val: 2 images, 2 objects" in printed
    assert evaluate([str(out), *words, "--no-speed", "--device", "cpu"]) == 0
    said = capsys.readouterr()
    assert f"recognised {recognise(root).line('eval')}\n" in said.err
    assert f"{name} {root} test: 2 images, 2 objects" in " ".join(said.out.split())
    assert anchors([str(recipe), *words, "-k", "1"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == line


def test_classes_of_the_command_line_count(source: Path, recipe: Path) -> None:
    words = ["data.format=auto", f"data.root={source}", "data.classes=[dog,cat]", "data.split=val"]
    experiment, origins = read_experiment(recipe, words)
    assert experiment.data.classes == ("dog", "cat")
    assert [entry["split"] for entry in experiment.data.train] == ["val"]
    assert [entry["split"] for entry in experiment.data.eval] == ["test"]
    assert origins["data.train"].startswith("recognised ")


def test_a_config_entry_may_be_auto(source: Path, recipe: Path) -> None:
    content = RECIPE.replace(
        "format: voc, root: nowhere, split: x", f"format: auto, root: {source}"
    )
    content = content.replace("{format: voc, root: nowhere, split: y}", "")
    recipe.write_text(content.replace("[a, b, c]", "[cat, dog]").replace(", num_classes: 3", ""))
    experiment, _ = read_experiment(recipe)
    assert [entry["format"] for entry in experiment.data.train] == ["voc"]
    assert experiment.data.classes == ("cat", "dog")  # the file's own stay


def test_a_folder_without_data_ends_with_a_sentence(recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DetkitError, match="no dataset is recognised; it is empty"):
        train(recipe, tmp_path / "run", ["data.format=auto", f"data.root={tmp_path / 'empty'}"])


def test_all_of_a_folder_that_would_be_parted(source: Path) -> None:
    for split in ("val", "test"):
        (source / "ImageSets" / "Main" / f"{split}.txt").unlink()
    entry = {"format": "auto", "root": str(source), "part": "all"}
    found, lines = resolve({"eval": [entry]}, "eval")
    assert found["eval"] == [{"format": "voc", "root": str(source), "split": "train"}]
    assert lines == [f"{source}: PASCAL VOC, splits train 6; evaluating on train"]


def photos(folder: Path, count: int) -> Path:
    """A folder of photos with an XML file beside each."""
    folder.mkdir(parents=True)
    for number in range(count):
        write_image(folder / f"{number}.jpg", seed=number)
        (folder / f"{number}.xml").write_text(voc_xml([("cat", (1, 1, 40, 30))]))
    return folder


def refusal(root: Path) -> str:
    with pytest.raises(DataError) as caught:
        recognise(root)
    return str(caught.value)


def test_several_folders_of_photos_are_all_named(tmp_path: Path) -> None:
    """One of them alone would leave the rest out without a word; what is advised joins them."""
    root = tmp_path / "lab"
    for name, count in (("cam1", 3), ("cam2", 1)):
        photos(root / name, count)
    (root / ".idea").mkdir()
    (root / ".idea" / "workspace.xml").write_text("<project/>")
    entries = f"[{{format: auto, root: {root}/cam1}}, {{format: auto, root: {root}/cam2}}]"
    assert refusal(root) == (
        f"{root}: no dataset by itself, but cam1 (PASCAL VOC, 3 images) and cam2 (PASCAL VOC, 1 "
        f"image) are a dataset each. Train on all of them with 'data.train={entries}' "
        f"'data.eval=[]'; or on one alone, such as data.root={root}/cam1."
    )
    joined = yaml.safe_load(entries)
    found, _ = resolve({"train": joined, "eval": []})
    assert [entry["root"] for entry in found["train"]] == [f"{root}/cam1", f"{root}/cam2"]
    for number in (3, 4, 5, 6):
        photos(root / f"cam {number}", 5)
    said = refusal(root)
    assert "cam 3 (PASCAL VOC, 5 images), " in said
    assert "and 2 more are a dataset each" in said
    assert f'\'data.train=[{{format: auto, root: "{root}/cam 3"}}, ' in said
    assert ", ...]'" in said
    shutil.rmtree(root)
    photos(root / "cam1", 1)
    assert refusal(root) == (
        f"{root}: no dataset by itself, but {root}/cam1 holds PASCAL VOC. "
        f"Write data.root={root}/cam1."
    )


def table(folder: Path, name: str, count: int) -> None:
    folder.mkdir(parents=True)
    for number in range(count):
        write_image(folder / f"{number}.jpg", seed=number)
    lines = [f"{number}.jpg,60,80,cat,5,5,30,30" for number in range(count)]
    header = "filename,width,height,class,xmin,ymin,xmax,ymax"
    (folder / name).write_text("\n".join([header, *lines, ""]))


def test_tables_in_the_folders_of_their_splits(tmp_path: Path) -> None:
    """Roboflow's export is recognised; tables of other names are told apart by their purpose."""
    root, other = tmp_path / "robo", tmp_path / "other"
    for split, count in (("train", 3), ("valid", 2), ("test", 1)):
        table(root / split, "_annotations.csv", count)
        table(other / split, "boxes.csv", count)
    found = recognise(root)
    assert found.line() == (
        f"{root}: CSV, splits train 3, valid 2, test 1; training on train, evaluating on valid"
    )
    assert [len(read_dataset(*part)) for part in (found.train, found.val, found.test)] == [3, 2, 1]
    learned = f"{{format: csv, root: {other}/train, split: boxes}}"
    measured = f"{{format: csv, root: {other}/valid, split: boxes}}"
    assert refusal(other) == (
        f"{other}: no dataset by itself, but test (CSV, 1 image), train (CSV, 3 images) and valid "
        f"(CSV, 2 images) are a dataset each. Learn from one and measure on another with "
        f"'data.train={learned}' 'data.eval={measured}'; or on one alone, such as "
        f"data.root={other}/train."
    )
    assert len(read_dataset(yaml.safe_load(learned))) == 3


def test_a_json_apart_from_its_images(tmp_path: Path) -> None:
    root = tmp_path / "d"
    (root / "labels").mkdir(parents=True)
    (root / "photos").mkdir()
    write_image(root / "photos" / "a.jpg")
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 9, 9], "area": 81, "iscrowd": 0}
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "height": 60, "width": 80}],
        "annotations": [box],
        "categories": [{"id": 1, "name": "cat"}],
    }
    file = root / "labels" / "my_export.json"
    file.write_text(json.dumps(content))
    start = f"{root}: no dataset by itself, but {file} is COCO JSON, and its images are not beside "
    start += "it. Write data.annotations=labels/my_export.json"
    assert refusal(root) == f"{start} data.images=photos."
    keys = {"annotations": "labels/my_export.json", "images": "photos"}
    assert len(read_dataset({"format": "coco", "root": root, **keys})) == 1
    assert {**recognise(root, "", keys).train[0], "part": "all"} == {
        **{"format": "coco", "root": str(root), "split": "", "part": "all"},
        **keys,
    }
    (root / "photos" / "a.jpg").rename(root / "a.jpg")
    assert refusal(root) == f"{start}."
    (root / "a.jpg").unlink()
    assert refusal(root) == f"{start}, and where its images lie data.images=FOLDER."
    (root / "labels" / "other.json").write_text(json.dumps(content))
    assert refusal(root).endswith("FOLDER. Of its other files likewise: labels/other.json.")


def test_an_auto_entry_to_measure_on_keeps_its_own_keys_beside_one_to_train_on(
    source: Path,
) -> None:
    learned = {"format": "auto", "root": str(source)}
    measured = learned | {"only": ["cat"], "origin": 1, "max_unreadable": 0.5}
    chosen, _ = resolve({"train": [learned], "eval": [measured]})
    assert chosen["train"] == [{"format": "voc", "root": str(source), "split": "train"}]
    own = {"only": ["cat"], "origin": 1, "max_unreadable": 0.5}
    assert chosen["eval"] == [{"format": "voc", "root": str(source), "split": "val", **own}]


def test_auto_entries_that_name_other_files_of_one_folder_are_each_read(
    tmp_path: Path, source: Path
) -> None:
    for split in ("train", "val"):
        write_coco(tmp_path, voc_split(source, split), split)
    entries = [
        {
            "format": "auto",
            "root": str(tmp_path),
            "annotations": f"annotations/instances_{split}.json",
            "images": split,
        }
        for split in ("train", "val")
    ]
    both, _ = resolve({"train": entries})
    assert [entry["images"] for entry in both["train"]] == ["train", "val"]
    chosen, _ = resolve({"train": entries[:1], "eval": entries[1:]})
    assert [entry["images"] for entry in chosen["eval"]] == ["val"]
