"""Folders of YOLO text as programs leave them: their splits, and the names of their classes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from detkit.data import Annotations, read_dataset
from detkit.data.recognise import recognise
from detkit.errors import ConfigError, DataError
from detkit.workflows.data_keys import all_splits
from tests.oracles import voc_xml, write_image, write_voc

ROW = "1 0.5 0.5 0.5 0.5\n"
NAMES = "cat\ndog\n"
DATA = "classes = 2\ntrain = {}\nvalid = {}\nnames = {}\nbackup = backup/\n"


def add(root: Path, folder: str, stems: str, labels: str = "") -> list[str]:
    """Images of 60 x 80 in a folder, with label files beside them or in another; their paths."""
    paths = []
    for stem in stems.split():
        write_image(root / folder / f"{stem}.png")
        label = root / (labels or folder) / f"{stem}.txt"
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_text(ROW)
        paths.append(f"{folder}/{stem}.png" if folder else f"{stem}.png")
    return paths


def put(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def listed(names: list[str], start: str = "") -> str:
    return "".join(f"{start}{name}\n" for name in names)


def read(root: Path, split: str = "", **keys: Any) -> Annotations:
    return read_dataset({"format": "yolo", "root": str(root), "split": split, **keys})


def splits(root: Path) -> dict[str, int]:
    found = recognise(root)
    assert found.format == "yolo"
    for split in found.splits:
        data = read(root, split.name)
        assert len(data) == split.images
        assert data.class_names == ("cat", "dog")
        assert data.boxes.tolist() == [[20, 15, 60, 45]] * split.images
        assert not any(data.report.counts.values())
    return {split.name: split.images for split in found.splits}


def labelimg(root: Path) -> dict[str, int]:
    add(root, "", "a b")
    put(root, {"classes.txt": NAMES})
    return {"": 2}


def labelimg_in_splits(root: Path) -> dict[str, int]:
    for split in ("train", "val"):
        add(root, split, f"{split}1 {split}2")
        put(root, {f"{split}/classes.txt": NAMES})
    return {"train": 2, "val": 2}


def label_studio(root: Path) -> dict[str, int]:
    add(root, "images", "1b2c3d4e-a 5f6a7b8c-b", "labels")
    put(root, {"classes.txt": NAMES, "notes.json": '{"categories": [{"id": 0, "name": "cat"}]}'})
    return {"": 2}


def roboflow_darknet(root: Path) -> dict[str, int]:
    for split, stems in (("train", "a b c"), ("valid", "d"), ("test", "e")):
        add(root, split, stems)
        put(root, {f"{split}/_darknet.labels": NAMES})
    put(
        root, {"README.roboflow.txt": "5 images in Darknet format\n", "README.dataset.txt": "# x\n"}
    )
    return {"train": 3, "valid": 1, "test": 1}


def roboflow_of_one_split(root: Path) -> dict[str, int]:
    add(root, "train", "a b")
    put(root, {"train/_darknet.labels": NAMES})
    return {"train": 2}


def cvat_yolo(root: Path) -> dict[str, int]:
    names = add(root, "obj_train_data", "a b")
    text = DATA.replace("valid = {}\n", "").format("data/train.txt", "data/obj.names")
    put(root, {"obj.data": text, "obj.names": NAMES, "train.txt": listed(names, "data/")})
    return {"train": 2}


def datumaro_yolo(root: Path) -> dict[str, int]:
    for split in ("train", "valid"):
        names = add(root, f"obj_{split}_data", f"{split}1 {split}2")
        put(root, {f"{split}.txt": listed(names, "data/")})
    text = DATA.format("data/train.txt", "data/valid.txt", "data/obj.names")
    put(root, {"obj.data": text, "obj.names": NAMES})
    return {"train": 2, "valid": 2}


def cvat_ultralytics(root: Path) -> dict[str, int]:
    names = add(root, "images/train", "a b", "labels/train")
    text = "names:\n  0: cat\n  1: dog\npath: .\ntrain: train.txt\n"
    put(root, {"data.yaml": text, "train.txt": listed(names, "data/")})
    return {"train": 2}


def fiftyone_yolov4(root: Path) -> dict[str, int]:
    names = add(root, "data", "a b c")
    put(root, {"obj.names": NAMES, "images.txt": listed(names)})
    return {"": 3}


def fiftyone_yolov5(root: Path) -> dict[str, int]:
    for split in ("train", "val"):
        add(root, f"images/{split}", f"{split}1 {split}2", f"labels/{split}")
    text = (
        "names:\n  0: cat\n  1: dog\npath: /home/me/x\ntrain: ./images/train/\nval: ./images/val/"
    )
    put(root, {"dataset.yaml": text})
    return {"train": 2, "val": 2}


def darknet(root: Path) -> dict[str, int]:
    names = add(root, "data/obj", "a b c d")
    text = DATA.format("train.txt", "data/test.txt", "data/my.names")
    put(root, {"obj.data": text, "data/my.names": NAMES, "data/my.txt": "nothing",
               "train.txt": listed(names[:2]), "data/test.txt": listed(names[2:])})  # fmt: skip
    return {"train": 2, "valid": 2}


def darknet_of_another_machine(root: Path) -> dict[str, int]:
    names = add(root, "obj", "a b c d")
    home = "C:\\Users\\me\\darknet\\data\\"
    put(root, {"cfg/obj.data": DATA.format(home + "t.txt", home + "v.txt", home + "obj.names"),
               "obj.names": NAMES, "t.txt": listed(names[:3]),
               "v.txt": listed(names[3:])})  # fmt: skip
    return {"train": 3, "valid": 1}


def names_beside_one_folder(root: Path) -> dict[str, int]:
    add(root, "obj", "a b c")
    put(root, {"obj.names": NAMES})
    return {"": 3}


def lists_in_image_sets(root: Path) -> dict[str, int]:
    names = add(root, "images", "a b c", "labels")
    put(root, {"ImageSets/train.txt": listed(names[:2]), "ImageSets/val.txt": listed(names[2:]),
               "labels/classes.txt": NAMES})  # fmt: skip
    return {"train": 2, "val": 1}


def a_yaml_without_names(root: Path) -> dict[str, int]:
    add(root, "", "a b")
    put(root, {"data.yaml": "train: ./\n", "classes.txt": NAMES})
    return {"train": 2}


LAYOUTS = (
    *(labelimg, labelimg_in_splits, label_studio, roboflow_darknet, roboflow_of_one_split),
    *(cvat_yolo, datumaro_yolo, cvat_ultralytics, fiftyone_yolov4, fiftyone_yolov5, darknet),
    *(darknet_of_another_machine, names_beside_one_folder, lists_in_image_sets),
    a_yaml_without_names,
)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_folder_is_recognised_with_its_splits_and_names(
    tmp_path: Path, layout: Callable[[Path], dict[str, int]]
) -> None:
    expected = layout(tmp_path)
    assert splits(tmp_path) == expected


# --- darknet's obj.data ---


def test_a_data_file_stands_for_its_folder(tmp_path: Path) -> None:
    darknet(tmp_path)
    (tmp_path / "obj.data").rename(tmp_path / "mine.data")
    assert splits(tmp_path / "mine.data") == {"train": 2, "valid": 2}
    found = recognise(tmp_path / "mine.data")
    assert found.train[0]["root"] == str(tmp_path / "mine.data")


def test_two_data_files_are_refused_and_the_key_decides(tmp_path: Path) -> None:
    darknet(tmp_path)
    small = DATA.format("data/test.txt", "", "data/my.names")
    put(tmp_path, {"small.data": small, "copy.data": (tmp_path / "obj.data").read_text()})
    refusal = (
        f"{tmp_path}: holds copy.data and small.data, which name different files. Say which counts "
        "with data.names_file=FILE."
    )
    for keys in ({}, {"names_file": ""}):
        with pytest.raises(DataError) as caught:
            recognise(tmp_path, keys=keys)
        assert str(caught.value) == refusal
    with pytest.raises(DataError) as caught:
        read(tmp_path, "train")
    assert str(caught.value) == refusal
    found = recognise(tmp_path, keys={"names_file": "small.data"})
    assert [(split.name, split.images) for split in found.splits] == [("train", 2)]
    assert read(tmp_path, "train", names_file="small.data").image_ids.tolist() == ["c", "d"]
    assert found.train[0]["names_file"] == "small.data"
    entries = all_splits({"root": str(tmp_path), "names_file": "copy.data"})
    assert list(entries) == ["train", "valid"]
    (tmp_path / "small.data").unlink()  # the others say the same
    assert splits(tmp_path) == {"train": 2, "valid": 2}


def test_data_files_whose_paths_are_not_there_do_not_count(tmp_path: Path) -> None:
    darknet(tmp_path)
    put(tmp_path, {"coco.data": DATA.format("coco/t.txt", "coco/v.txt", "data/coco.names"),
                   "weather.data": "1, 2, 3\n", "notes.data": "names =\n"})  # fmt: skip
    assert splits(tmp_path) == {"train": 2, "valid": 2}
    with pytest.raises(DataError) as caught:
        read(tmp_path, "train", names_file="weather.data")
    assert str(caught.value) == (
        f"{tmp_path}/weather.data: has none of the keys train, valid, val, test, names. Is this "
        "darknet's file?"
    )


def test_comments_and_spaces_of_a_data_file(tmp_path: Path) -> None:
    darknet(tmp_path)
    text = "# names = other.names\nCLASSES=2\n train=train.txt \nvalid= data/test.txt\r\n"
    put(tmp_path, {"obj.data": f"\ufeff{text}names =data\\my.names\n\n"})
    assert splits(tmp_path) == {"train": 2, "valid": 2}


# --- lists of names ---


def test_lists_of_names_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    roboflow_darknet(tmp_path)
    put(tmp_path, {"valid/_darknet.labels": "dog\ncat\n", "all.txt": NAMES})
    refusal = (
        f"{tmp_path}: test/_darknet.labels and valid/_darknet.labels number different class names. "
        "Say which counts with data.names_file=FILE."
    )
    for reader in (recognise, lambda root: read(root, "train")):
        with pytest.raises(DataError) as caught:
            reader(tmp_path)
        assert str(caught.value) == refusal
    found = recognise(tmp_path, keys={"names_file": "all.txt"})
    assert found.train[0]["names_file"] == "all.txt"
    assert read_dataset(found.train[0]).class_names == ("cat", "dog")


def test_a_list_of_names_may_go_on_where_another_ends(tmp_path: Path) -> None:
    labelimg_in_splits(tmp_path)
    put(tmp_path, {"val/classes.txt": f"{NAMES}bird\n"})
    assert read(tmp_path, "train").class_names == ("cat", "dog", "bird")


def test_an_empty_list_of_names_says_nothing(tmp_path: Path) -> None:
    labelimg_in_splits(tmp_path)
    put(tmp_path, {"classes.txt": "\n"})
    assert splits(tmp_path) == {"train": 2, "val": 2}


def test_names_that_are_not_read_hinder_no_other_format(tmp_path: Path) -> None:
    write_voc(tmp_path, {"a": voc_xml([("cat", (1, 1, 9, 9))])})
    put(
        tmp_path,
        {"a.yaml": "names: [x]", "b.yaml": "names: [y]", "data/obj.data": "names = a.yaml"},
    )
    assert recognise(tmp_path).format == "voc"
    with pytest.raises(ConfigError, match="names_file: does not go with PASCAL VOC"):
        recognise(tmp_path, keys={"names_file": "a.yaml"})


def test_names_beside_several_folders_make_no_dataset_of_them(tmp_path: Path) -> None:
    add(tmp_path, "first", "a b")
    add(tmp_path, "second", "c d")
    put(tmp_path, {"obj.names": NAMES})
    with pytest.raises(DataError, match="are a dataset each"):
        recognise(tmp_path)


def test_texts_beside_images_that_are_no_labels_are_no_dataset(tmp_path: Path) -> None:
    add(tmp_path, "train", "a b")
    put(tmp_path, {"train/a.txt": "a cat on a mat", "train/b.txt": "two dogs"})
    with pytest.raises(DataError, match="no dataset is recognised"):
        recognise(tmp_path)


def test_lists_of_pascal_voc_stay_pascal_voc(tmp_path: Path) -> None:
    root = write_voc(tmp_path, {"a": voc_xml([("cat", (1, 1, 9, 9))])}, split="train")
    put(root, {"labels/a.txt": ROW})
    assert recognise(root).format == "voc"
    (root / "Annotations" / "a.xml").unlink()  # lost, or a test set
    assert recognise(root).format == "voc"
