"""The image files of a COCO file, also where their names are those of another machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from detkit.data import Annotations, read_dataset, summary
from detkit.errors import DataError
from tests.oracles import write_image

BY_LAST_PART = "images found by the last part of their name"
IN_OTHER_FORM = "images found in other upper and lower case or Unicode form"
WITHOUT_PREFIX = "images found without Label Studio's prefix"
AGAIN = "images listed again under another id, each id with its own objects"


def export(root: Path, *names: str, file: str = "result.json") -> Path:
    """A COCO file that calls its images so, each with an object as wide as its place says."""
    images = [
        {"id": n, "file_name": name, "height": 60, "width": 80} for n, name in enumerate(names)
    ]
    annotations = [
        {"id": n, "image_id": n, "category_id": 0, "bbox": [1, 1, 10 + n, 10], "iscrowd": 0}
        for n in range(len(names))
    ]
    content = {
        "images": images, "annotations": annotations, "categories": [{"id": 0, "name": "cat"}]
    }  # fmt: skip
    path = root / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def read(root: Path, split: str = "result", **keys: Any) -> Annotations:
    return read_dataset({"format": "coco", "root": root, "split": split, **keys})


def found(root: Path, split: str = "result", **keys: Any) -> list[str]:
    return [Path(p).relative_to(root).as_posix() for p in read(root, split, **keys).paths]


def counts(root: Path, split: str = "result", **keys: Any) -> dict[str, int]:
    report = read(root, split, **keys).report
    return {kind: count for kind, count in report.counts.items() if count}


def refusal(root: Path, split: str = "result", **keys: Any) -> str:
    with pytest.raises(DataError) as caught:
        read(root, split, **keys)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "file", "kind"),
    [
        ("images\\1/0.jpg", "images/0.jpg", BY_LAST_PART),
        ("..\\..\\media\\upload\\4\\0.jpg", "images/0.jpg", BY_LAST_PART),
        ("/data/upload/1/0.jpg", "images/0.jpg", BY_LAST_PART),
        ("my%20photo.jpg", "images/my photo.jpg", BY_LAST_PART),
        ("images/my%20photo.jpg", "images/my photo.jpg", BY_LAST_PART),
        ("/data/local-files/?d=dir/0.jpg", "images/0.jpg", BY_LAST_PART),
        ("/data/local-files/?d=dir%2Fa%20b.jpg", "images/a b.jpg", BY_LAST_PART),
        ("s3://bucket/x/0.jpg", "images/0.jpg", BY_LAST_PART),
        ("http://host:8080/x/0.jpg?token=a/b.jpg", "images/0.jpg", BY_LAST_PART),
        ("C:\\x\\0.jpg", "images/0.jpg", BY_LAST_PART),
        ("\\\\server\\share\\0.jpg", "images/0.jpg", BY_LAST_PART),
        ("0.jpg", "deep/er/0.jpg", BY_LAST_PART),
        ("1a2b3c4d-photo.jpg", "images/photo.jpg", WITHOUT_PREFIX),
        ("/data/upload/4/1a2b3c4d-my%20photo.jpg", "images/my photo.jpg", WITHOUT_PREFIX),
        ("IMG_0.JPG", "images/img_0.jpg", IN_OTHER_FORM),
        ("images/Caf\u00e9.jpg", "images/Cafe\u0301.jpg", IN_OTHER_FORM),  # as macOS writes it
        # names that are right are counted as nothing
        ("images/0.jpg", "images/0.jpg", ""),
        ("images\\0.jpg", "images/0.jpg", ""),
        ("0.jpg", "images/0.jpg", ""),
        ("100%25.jpg", "images/100%25.jpg", ""),
        ("1a2b3c4d-photo.jpg", "images/1a2b3c4d-photo.jpg", ""),
    ],
)
def test_the_image_that_a_name_means(tmp_path: Path, name: str, file: str, kind: str) -> None:
    export(tmp_path, name)
    write_image(tmp_path / file)
    write_image(tmp_path / "images" / "other.jpg")
    assert found(tmp_path) == [file]
    assert counts(tmp_path) == ({kind: 1} if kind else {})


def test_the_count_is_in_the_data_line(tmp_path: Path) -> None:
    export(tmp_path, "/data/upload/1/0.jpg", "/data/upload/1/1.jpg")
    for name in ("0.jpg", "1.jpg"):
        write_image(tmp_path / "images" / name)
    assert summary(read(tmp_path)) == (
        "2 images (0 without objects), 2 objects of 1 classes, 2 images found by the last part of "
        "their name"
    )


def test_an_absolute_path_into_the_root_is_right(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        write_image(tmp_path / folder / "0.jpg")
    export(tmp_path, str(tmp_path / "a" / "0.jpg"), str(tmp_path / "b" / "0.jpg"))
    assert found(tmp_path) == ["a/0.jpg", "b/0.jpg"]
    assert counts(tmp_path) == {}


def test_several_images_of_that_name_are_refused(tmp_path: Path) -> None:
    path = export(tmp_path, "/data/upload/1/0.jpg")
    for folder in ("a", "b"):
        write_image(tmp_path / folder / "0.jpg")
    start = f"{path}: images[0].file_name: '/data/upload/1/0.jpg' is not there, and 2 images below "
    end = (
        "Write each file's path below the folder of the images, or name that folder with "
        "data.images=FOLDER."
    )
    assert refusal(tmp_path) == f"{start}{tmp_path} may be meant: a/0.jpg, b/0.jpg. {end}"
    assert found(tmp_path, images="b") == ["b/0.jpg"]  # as it says
    path = export(tmp_path, "x/my%20photo.jpg")
    for name in ("my photo.jpg", "my%20photo.jpg"):
        write_image(tmp_path / "a" / name)
    assert "2 images below" in refusal(tmp_path)


def test_two_names_that_come_to_one_file_are_refused(tmp_path: Path) -> None:
    write_image(tmp_path / "images" / "0.jpg")
    for names in (("/upload/1/0.jpg", "/upload/2/0.jpg"), ("images/0.jpg", "/upload/0.jpg")):
        path = export(tmp_path, *names)
        assert refusal(tmp_path) == (
            f"{path}: images[0].file_name {names[0]!r} and images[1].file_name {names[1]!r} both "
            f"come to {tmp_path}/images/0.jpg. Write each image's own path below the folder of the "
            "images, or remove one of the entries."
        )


def test_names_of_another_machine_whose_images_are_not_here(tmp_path: Path) -> None:
    names = [f"..\\upload\\{n}.jpg" for n in range(3)]
    path = export(tmp_path, *names)
    write_image(tmp_path / "images" / "2.jpg")
    said = (
        f"{path}: images[0].file_name: '..\\\\upload\\\\0.jpg' is not there, and no image below "
        f"{tmp_path} is called '0.jpg'; so it is with 2 of 3 images. Exports may name images by "
        f"where another machine has them: put them below {tmp_path} under their own names, or name "
        "their folder there with data.images=FOLDER."
    )
    assert refusal(tmp_path) == said
    write_image(tmp_path / "images" / "1.jpg")
    data = read(tmp_path)  # one may be missing, however few there are
    assert [Path(p).name for p in data.paths] == ["1.jpg", "2.jpg"]
    assert len(data.report.unreadable) == 1
    path = export(tmp_path, "../0.jpg")
    write_image(tmp_path.parent / "0.jpg")  # never looked for outside
    assert refusal(tmp_path).startswith(f"{path}: images[0].file_name: '../0.jpg' is not there")


def test_a_lost_image_is_not_looked_for_in_other_folders(tmp_path: Path) -> None:
    """Frames of several cameras have the same names; where names are right, they stay right."""
    export(tmp_path, "cam1/0.jpg", "cam1/1.jpg")
    for name in ("cam1/0.jpg", "cam2/1.jpg"):
        write_image(tmp_path / name)
    data = read(tmp_path)
    assert [Path(p).relative_to(tmp_path).as_posix() for p in data.paths] == ["cam1/0.jpg"]
    assert [path for path, _ in data.report.unreadable] == [str(tmp_path / "cam1" / "1.jpg")]


def test_an_image_that_another_entry_names_is_not_taken_for_one_in_other_case(
    tmp_path: Path,
) -> None:
    export(tmp_path, "images/a.jpg", "images/A.JPG", "images/B.jpg")
    for name in ("a.jpg", "b.jpg"):
        write_image(tmp_path / "images" / name)
    data = read(tmp_path)
    assert [Path(p).name for p in data.paths] == ["a.jpg", "b.jpg"]
    assert [path for path, _ in data.report.unreadable] == [str(tmp_path / "images" / "A.JPG")]
    assert data.report.counts[IN_OTHER_FORM] == 1


def test_images_of_another_split_are_not_taken(tmp_path: Path) -> None:
    export(tmp_path, "0.jpg", "1.jpg", file="annotations/instances_train.json")
    for name in ("0.jpg", "1.jpg"):
        write_image(tmp_path / "val" / name)
    assert "2 of 2 images cannot be used" in refusal(tmp_path, "train")
    for name in ("0.jpg", "1.jpg"):
        write_image(tmp_path / "photos" / "training" / name)
    assert found(tmp_path, "train") == ["photos/training/0.jpg", "photos/training/1.jpg"]


def test_one_picture_under_two_ids_is_said(tmp_path: Path) -> None:
    """Both stay: pycocotools measures each id, and detections may name either."""
    export(tmp_path, "0.jpg", "1.jpg", "./0.jpg")
    for name in ("0.jpg", "1.jpg"):
        write_image(tmp_path / "images" / name)
    data = read(tmp_path)
    assert found(tmp_path) == ["images/0.jpg", "images/1.jpg", "images/0.jpg"]
    assert data.image_ids.tolist() == ["0", "1", "2"]
    assert counts(tmp_path) == {AGAIN: 1}
    export(tmp_path, "/upload/0.jpg", "/upload/0.jpg")
    assert counts(tmp_path) == {BY_LAST_PART: 2, AGAIN: 1}


@pytest.mark.parametrize(
    "name", ["..", "x/..", "/", "a/", "s3://bucket/", "x\\", "/local-files/?d="]
)
def test_names_of_no_file(tmp_path: Path, name: str) -> None:
    path = export(tmp_path, name)
    write_image(tmp_path / "images" / "0.jpg")
    assert refusal(tmp_path) == (
        f"{path}: images[0].file_name: expected a file name inside the folder; got {name!r}."
    )


def test_where_no_image_is_at_all_no_name_is_to_blame(tmp_path: Path) -> None:
    path = export(tmp_path, "..\\upload\\0.jpg", "..\\upload\\1.jpg")
    assert refusal(tmp_path).startswith(
        f"{path}: 2 of 2 images cannot be used, more than the 1 that max_unreadable=0.01 allows. "
    )
