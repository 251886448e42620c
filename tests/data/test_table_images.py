"""Images of tables: beside them, near them, by the end of their path; and what a table leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from detkit.data import Annotations, read_dataset, summary
from detkit.data.recognise import recognise
from detkit.errors import ConfigError, DataError
from tests.oracles import write_image


def make(root: Path, table: str, names: list[str], images: list[str]) -> Path:
    for image in images:
        write_image(root / image)
    path = root / table
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{name},1,2,9,8,dog\n" for name in names))
    return path


def read(root: Path, **keys: Any) -> Annotations:
    return read_dataset({"format": "csv", "root": str(root), "split": "train", **keys})


def found(data: Annotations, root: Path) -> list[str]:
    return [Path(path).relative_to(root).as_posix() for path in data.paths]


@pytest.mark.parametrize(
    ("table", "folder"),
    [
        ("train.csv", "images"),
        ("train.csv", "train"),
        ("train.csv", "images/train"),
        ("annotations/train.csv", "images"),
        ("annotations/train.csv", "images/train"),
        ("labels/train.csv", "train"),
    ],
)
def test_images_in_a_folder_near_the_table(tmp_path: Path, table: str, folder: str) -> None:
    make(tmp_path, table, ["a.png", "b"], [f"{folder}/a.png", f"{folder}/b.png"])
    (entry,) = recognise(tmp_path).train
    assert entry["split"] == "train"
    data = read(tmp_path)
    assert found(data, tmp_path) == [f"{folder}/a.png", f"{folder}/b.png"]
    assert data.image_ids.tolist() == ["a", "b"]
    assert summary(data) == (
        f"2 images (0 without objects), 2 objects of 1 classes, 2 images found in {folder}/"
    )


def test_images_in_the_folder_of_the_split_that_a_tables_name_tells(tmp_path: Path) -> None:
    for name in ("train_labels", "labels-val"):
        make(tmp_path, f"{name}.csv", ["a.png"], ["train/a.png", "val/a.png"])
    recognised = recognise(tmp_path)
    (learned,), (measured,) = recognised.train, recognised.val
    assert found(read_dataset(learned), tmp_path) == ["train/a.png"]
    assert found(read_dataset(measured), tmp_path) == ["val/a.png"]


def test_images_beside_the_table_come_first(tmp_path: Path) -> None:
    make(tmp_path, "train.csv", ["a.png"], ["a.png", "images/a.png", "train/a.png"])
    data = read(tmp_path)
    assert found(data, tmp_path) == ["a.png"]
    assert summary(data) == "1 images (0 without objects), 1 objects of 1 classes"


def test_the_key_images_names_their_folder(tmp_path: Path) -> None:
    make(tmp_path, "meta/boxes.csv", ["a.png"], ["photos/train/a.png", "photos/val/a.png"])
    keys = {"annotations": "meta/boxes.csv", "images": "photos/val"}
    (entry,) = recognise(tmp_path, "", keys).train
    assert (entry["annotations"], entry["images"]) == ("meta/boxes.csv", "photos/val")
    data = read(tmp_path, **keys)
    assert found(data, tmp_path) == ["photos/val/a.png"]
    assert summary(data) == "1 images (0 without objects), 1 objects of 1 classes"
    data = read(tmp_path, annotations="meta/boxes.csv", images="photos/{split}")
    assert found(data, tmp_path) == ["photos/train/a.png"]


@pytest.mark.parametrize(
    "name",
    [
        "/home/x/data/cam1/a.png",
        "C:\\data\\cam1\\a.png",
        "../data/cam1/a.png",
        "gs://bucket/cam1/a.png",
        "other/cam1/a.png",
        "/home/x/cam1/a",
    ],
)
def test_paths_of_another_machine_by_their_end(tmp_path: Path, name: str) -> None:
    make(tmp_path, "train.csv", [name], ["cam1/a.png", "cam2/a.png"])
    data = read(tmp_path)
    assert found(data, tmp_path) == ["cam1/a.png"]
    assert summary(data) == (
        "1 images (0 without objects), 1 objects of 1 classes, 1 images found by the end of their "
        "path"
    )


def test_names_as_a_browser_writes_them(tmp_path: Path) -> None:
    make(tmp_path, "train.csv", ["my%20photo.png", "50%.png"], ["my photo.png", "50%.png"])
    assert found(read(tmp_path), tmp_path) == ["my photo.png", "50%.png"]


def test_an_end_that_fits_several_files(tmp_path: Path) -> None:
    path = make(tmp_path, "train.csv", ["/x/a.png"], ["cam1/a.png", "cam2/a.png"])
    with pytest.raises(DataError) as caught:
        read(tmp_path)
    assert str(caught.value) == (
        f"{path}: line 1: '/x/a.png' may be cam1/a.png or cam2/a.png in {tmp_path}. Say where the "
        "images are with data.images=FOLDER."
    )
    assert found(read(tmp_path, images="cam2"), tmp_path) == ["cam2/a.png"]


def test_a_name_without_ending_that_fits_several_files(tmp_path: Path) -> None:
    path = make(tmp_path, "train.csv", ["a"], ["a.png", "a.jpg"])
    with pytest.raises(DataError) as caught:
        read(tmp_path)
    assert str(caught.value) == (
        f"{path}: line 1: 'a' may be a.jpg or a.png in {tmp_path}. Say where the images are with "
        "data.images=FOLDER."
    )


def test_one_image_under_two_names_is_one(tmp_path: Path) -> None:
    make(tmp_path, "train.csv", ["a.png", "/home/x/a.png"], ["a.png"])
    data = read(tmp_path)
    assert data.offsets.tolist() == [0, 2]
    assert summary(data) == (
        "1 images (0 without objects), 2 objects of 1 classes, 1 images found by the end of their "
        "path, 1 images named in two ways joined"
    )


def test_images_that_no_table_names_are_counted(tmp_path: Path) -> None:
    images = [f"images/{name}.png" for name in "abcde"]
    make(tmp_path, "train.csv", ["a.png", "b.png"], images)
    make(tmp_path, "val.csv", ["c.png"], [])
    (tmp_path / "notes.csv").write_text("when,what\nmonday,rain\n")
    assert summary(read(tmp_path)) == (
        "2 images (0 without objects), 2 objects of 1 classes, 2 images that the table does not "
        "name left out, 2 images found in images/"
    )


@pytest.mark.parametrize("name", ["/etc/passwd", "../../x.png", "\\\\server\\x.png"])
def test_no_path_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    write_image(tmp_path.parent / "x.png")
    path = make(tmp_path / "data", "train.csv", [name], ["a.png"])
    with pytest.raises(DataError) as caught:
        read(tmp_path / "data", images="")
    assert str(caught.value) == (
        f"{path}: line 1: {name!r} is no path below the table's folder. Write paths relative to "
        "it, without '..'."
    )


def test_places_that_are_not_there(tmp_path: Path) -> None:
    make(tmp_path, "train.csv", ["a.png"], ["a.png"])

    def refusal(error: type[Exception], **keys: str) -> str:
        with pytest.raises(error) as caught:
            read(tmp_path, **keys)
        return str(caught.value)

    counted = "Its path counts from data.root."
    assert refusal(DataError, images="x") == (
        f"data.images: {tmp_path}/x is no folder; it holds a.png, train.csv. {counted}"
    )
    assert refusal(ConfigError, images="../x") == (
        f"data.images: '../x' leaves {tmp_path}. {counted} Write one below it."
    )
    assert refusal(DataError, annotations="x.csv") == (
        f"data.annotations: {tmp_path}/x.csv is no file; it holds a.png, train.csv. {counted}"
    )
    assert refusal(ConfigError, annotations="../x.csv") == (
        f"data.annotations: '../x.csv' leaves {tmp_path}. {counted} Write one below it."
    )
