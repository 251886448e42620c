"""COCO files where exporters put them: each folder is recognised and read as it stands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from detkit.data import read_dataset, summary
from detkit.data.recognise import recognise
from detkit.errors import DataError
from tests.oracles import write_image


def split(root: Path, file: str, names: dict[str, str], **blocks: Any) -> None:
    """A COCO file of images of one object each; ``names`` has the file of each image's name."""
    path = root / file
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [
        {"id": n, "file_name": name, "width": 80, "height": 60} for n, name in enumerate(names)
    ]
    annotations = [
        {"id": n, "image_id": n, "category_id": 1, "bbox": [1, 1, 9, 9]} for n in range(len(names))
    ]
    content = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "cat", "supercategory": ""}],
    } | blocks
    path.write_text(json.dumps(content))
    for seed, place in enumerate(names.values()):
        write_image(root / place, seed=seed)


def numbered(count: int, folder: str, before: str = "") -> dict[str, str]:
    """Files in a folder by their names in the JSON: ``before`` and the file's own."""
    return {f"{before}{n}.jpg": f"{folder}/{n}.jpg" for n in range(count)}


ROOT = {"id": 0, "name": "cat", "supercategory": "none"}
CAT = {"id": 1, "name": "cat", "supercategory": "cat"}


def roboflow(root: Path) -> None:
    for name, count in (("train", 3), ("valid", 2), ("test", 1)):
        file = f"{name}/_annotations.coco.json"
        split(root, file, numbered(count, name), categories=[ROOT, CAT])


def cvat(root: Path) -> None:
    split(root, "annotations/instances_default.json", numbered(3, "images/default"))


def cvat_older(root: Path) -> None:
    split(root, "annotations/instances_default.json", numbered(3, "images"))


def cvat_subsets(root: Path) -> None:
    for name, count in (("Train", 3), ("Validation", 2)):
        split(root, f"annotations/instances_{name}.json", numbered(count, f"images/{name}"))


def datumaro(root: Path) -> None:
    for name, count in (("train", 3), ("val", 2)):
        split(root, f"annotations/instances_{name}.json", numbered(count, f"images/{name}"))


def label_studio(root: Path) -> None:
    split(root, "result.json", numbered(3, "images", "images/1a2b3c4d-"))
    for n in range(3):
        (root / f"images/{n}.jpg").rename(root / f"images/1a2b3c4d-{n}.jpg")


def label_studio_windows(root: Path) -> None:
    split(root, "result.json", numbered(3, "images", "..\\..\\media\\upload\\4\\"))


def fiftyone(root: Path) -> None:
    split(root, "labels.json", numbered(3, "data"))


def fiftyone_splits(root: Path) -> None:
    for name, count in (("train", 3), ("validation", 2)):
        split(root, f"{name}/labels.json", numbered(count, f"{name}/data"))


def labelme2coco(root: Path) -> None:
    split(root, "annotations.json", numbered(3, "JPEGImages", "JPEGImages/"))


def beside(root: Path) -> None:
    split(root, "coco.json", {f"{n}.jpg": f"{n}.jpg" for n in range(3)})


def ultralytics(root: Path) -> None:
    for name, count in (("train2017", 3), ("val2017", 2)):
        split(root, f"annotations/instances_{name}.json", numbered(count, f"images/{name}"))


def plain(root: Path) -> None:
    for name, count in (("train", 3), ("val", 2)):
        split(root, f"annotations/{name}.json", numbered(count, f"images/{name}"))


def beside_splits(root: Path) -> None:
    for name, count in (("train", 3), ("test", 1)):
        split(root, f"{name}/annotations.json", numbered(count, f"{name}/images"))


def at_the_top(root: Path) -> None:
    for name, count in (("train", 3), ("val", 2)):
        split(root, f"instances_{name}.json", numbered(count, name))


PARTED = "training on 80% of {0}, evaluating on 20% of {0}"
BY_LAST_PART = ", 3 images found by the last part of their name"
NO_ROOT = ", 1 root categories without objects left out"


@pytest.mark.parametrize(
    ("layout", "splits", "use", "more"),
    [
        (roboflow, "train 3, valid 2, test 1", "training on train, evaluating on valid", NO_ROOT),
        (cvat, "default 3", PARTED.format("default"), ""),
        (cvat_older, "default 3", PARTED.format("default"), ""),
        (cvat_subsets, "Train 3, Validation 2", "training on Train, evaluating on Validation", ""),
        (datumaro, "train 3, val 2", "training on train, evaluating on val", ""),
        (label_studio, "result 3", PARTED.format("result"), ""),
        (label_studio_windows, "result 3", PARTED.format("result"), BY_LAST_PART),
        (fiftyone, "labels 3", PARTED.format("labels"), ""),
        (fiftyone_splits, "train 3, validation 2", "training on train, evaluating on validation",
         ""),
        (labelme2coco, "annotations 3", PARTED.format("annotations"), ""),
        (beside, "coco 3", PARTED.format("coco"), ""),
        (ultralytics, "train2017 3, val2017 2", "training on train2017, evaluating on val2017", ""),
        (plain, "train 3, val 2", "training on train, evaluating on val", ""),
        (beside_splits, "train 3, test 1", "training on train, evaluating on test", ""),
        (at_the_top, "train 3, val 2", "training on train, evaluating on val", ""),
    ],
)  # fmt: skip
def test_exports_are_recognised_and_read(
    tmp_path: Path, layout: Any, splits: str, use: str, more: str
) -> None:
    layout(tmp_path)
    found = recognise(tmp_path)
    assert found.line() == f"{tmp_path}: COCO JSON, splits {splits}; {use}"
    whole = {key: value for key, value in found.train[0].items() if key != "part"}
    data = read_dataset(whole)
    line = "3 images (0 without objects), 3 objects of 1 classes"
    assert summary(data) == line + more
    for entries in (found.train, found.val, found.test):
        assert all(len(read_dataset(entry)) for entry in entries if "part" not in entry)


def test_folders_of_other_names_are_datasets_of_their_own(tmp_path: Path) -> None:
    """A name that tells no purpose makes no split of what lies in it."""
    for name in ("cats", "dogs"):
        split(tmp_path, f"{name}/labels.json", numbered(2, f"{name}/data"))
    with pytest.raises(DataError) as caught:
        recognise(tmp_path)
    assert "cats (COCO JSON, 2 images) and dogs (COCO JSON, 2 images) are a dataset each" in str(
        caught.value
    )


def test_other_files_beside_the_instances_are_no_splits(tmp_path: Path) -> None:
    """As in COCO's own folder: captions, key points and panoptic segmentation beside instances."""
    ultralytics(tmp_path)
    panoptic = [{"image_id": 0, "file_name": "0.png", "segments_info": []}]
    split(tmp_path, "annotations/panoptic_val2017.json", {}, annotations=panoptic)
    split(tmp_path, "annotations/person_keypoints_val2017.json", numbered(2, "images/val2017"))
    found = recognise(tmp_path)
    assert [entry.name for entry in found.splits] == ["train2017", "val2017"]


def test_a_file_that_is_named_and_holds_no_objects_is_called_what_it_is(tmp_path: Path) -> None:
    captions = [{"id": 0, "image_id": 0, "caption": "A cat."}]
    split(tmp_path, "annotations/captions.json", numbered(1, "images"), annotations=captions)
    path = tmp_path / "annotations" / "captions.json"
    content = json.loads(path.read_text())
    del content["categories"]
    path.write_text(json.dumps(content))
    with pytest.raises(DataError) as caught:
        recognise(tmp_path, keys={"annotations": "annotations/captions.json"})
    assert str(caught.value) == (
        f"{path}: holds captions, which have no boxes. Name the file of instances."
    )
