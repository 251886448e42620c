"""The COCO reader: hand-written files, pycocotools on real ones, and sentences for mistakes."""

from __future__ import annotations

import contextlib
import io
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detkit.data import for_training, read_dataset, summary
from tests.data.coco_files import (
    CATEGORIES,
    IMAGES,
    POLYGON,
    RLE,
    counts,
    one,
    read,
    refusal,
    write,
)
from tests.data.formats import objects, write_coco


def test_reads_a_file(tmp_path: Path) -> None:
    write(tmp_path)
    data = read(tmp_path)
    assert data.class_names == ("cat", "dog", "brush")  # by category id
    assert data.category_ids is not None
    assert data.category_ids.tolist() == [2, 18, 90]
    assert data.image_ids.tolist() == ["7", "3", "5"]
    assert data.paths[1] == str(tmp_path / "mini" / "deep" / "b.png")
    assert data.sizes.tolist() == [[60, 80]] * 3
    assert data.offsets.tolist() == [0, 2, 2, 3]
    assert data.boxes.tolist() == [[10, 20, 40, 45.5], [1, 2, 4, 6], [0, 0, 80, 60]]
    assert data.labels.tolist() == [1, 0, 0]
    assert data.crowd.tolist() == [False, False, True]
    assert data.area.tolist() == [50.5, 12, 4800]
    assert data.segments is not None
    kept = [data.segments[row] for row in range(3)]
    assert [json.loads(text or "null") for text in kept] == [POLYGON, None, RLE]
    assert summary(data) == "3 images (1 without objects), 3 objects of 3 classes"
    trained = for_training(data)
    assert trained.boxes.tolist() == [[10, 20, 40, 45.5], [1, 2, 4, 6]]
    assert counts(trained) == {"crowds dropped from training": 1}


def test_given_classes_order_the_labels_and_leave_out_the_unused(tmp_path: Path) -> None:
    write(tmp_path)
    data = read(tmp_path, classes=("dog", "cat"))
    assert data.labels.tolist() == [0, 1, 1]
    assert data.category_ids is not None
    assert data.category_ids.tolist() == [18, 2]
    assert read(tmp_path, classes=("dog", "cat", "bird")).category_ids is None  # bird has none


@pytest.mark.parametrize(
    ("keys", "kept", "kind"),
    [
        ({"bbox": [10, 20, 0, 5]}, None, "inverted boxes dropped"),
        ({"bbox": [10, 20, -3, 5]}, None, "inverted boxes dropped"),
        ({"bbox": [70, 20, 30, 5]}, [70, 20, 80, 25], "boxes clipped to the image"),
        ({"bbox": [90, 20, 30, 5]}, None, "boxes outside the image dropped"),
        ({"bbox": [float("nan"), 20, 30, 5]}, None, "boxes without numbers dropped"),
        ({"bbox": [float("inf"), 20, 30, 5]}, None, "boxes without numbers dropped"),
        ({"bbox": [10**400, 20, 30, 5]}, None, "boxes without numbers dropped"),
        ({"bbox": ["ten", 20, 30, 5], "area": 150}, None, "boxes without numbers dropped"),
        ({"bbox": [10, 20, 30]}, None, "boxes without numbers dropped"),
        ({"bbox": {"x": 1}}, None, "boxes without numbers dropped"),
        ({"bbox": None}, None, "boxes without numbers dropped"),
        ({"bbox": None, "segmentation": RLE}, None, "boxes without numbers dropped"),
        ({"bbox": None, "segmentation": POLYGON}, [10, 10, 20, 20], "boxes made from polygons"),
        ({"bbox": [], "segmentation": [[1, 2]]}, None, "boxes without numbers dropped"),
        ({"image_id": 99}, None, "objects of images that are not listed dropped"),
        ({"id": 9}, [10, 20, 40, 45.5], "repeated annotation ids"),
    ],
)
def test_fate_of_a_box(tmp_path: Path, keys: dict[str, Any], kept: list | None, kind: str) -> None:
    write(tmp_path, annotations=[one(**keys), one(id=9, bbox=[1, 1, 2, 2])])
    data = read(tmp_path)
    assert data.boxes.tolist() == ([] if kept is None else [kept]) + [[1, 1, 3, 3]]
    assert counts(data) == {kind: 1}


@pytest.mark.parametrize("area", [None, float("nan"), float("inf"), "many", True])
def test_an_area_that_is_no_number_is_the_boxs(tmp_path: Path, area: object) -> None:
    write(tmp_path, annotations=[one(area=area)])
    assert read(tmp_path).area.tolist() == [30 * 25.5]


@pytest.mark.parametrize("area", [0, -5, 1e300, 0.1, 1023.9999999])
def test_any_other_area_is_kept_in_float64_as_pycocotools_takes_it(
    tmp_path: Path, area: float
) -> None:
    write(tmp_path, annotations=[one(area=area)])
    data = read(tmp_path)
    assert data.area.tolist() == [area]
    kind = "objects whose stated area is 0 (small to COCO's figures) or less (none to them)"
    assert counts(data) == ({kind: 1} if area <= 0 else {})


def test_sizes_are_checked_against_the_images(tmp_path: Path) -> None:
    images = [dict(image) for image in IMAGES]
    images[0]["width"], images[1]["height"] = 90, None
    write(tmp_path, images=images)
    data = read(tmp_path)
    assert data.sizes.tolist() == [[60, 80]] * 3
    assert counts(data) == {
        "annotations without a size": 1,
        "annotations of another size than the image": 1,
    }


@pytest.mark.parametrize(
    ("file", "folder", "keys"),
    [
        ("annotations/instances_mini.json", "mini", {}),
        ("mini/_annotations.coco.json", "mini", {}),  # Roboflow
        ("annotations/mini.json", "images/mini", {}),
        ("mini.json", "images", {}),
        ("mini.json", "data", {}),
        ("x/labels.json", "x", {"split": "", "annotations": "x/labels.json"}),
        ("x/mini_labels.json", "y/mini", {"annotations": "x/{split}_labels.json",
                                          "images": "y/{split}"}),
    ],
)  # fmt: skip
def test_layouts(tmp_path: Path, file: str, folder: str, keys: dict[str, str]) -> None:
    path = write(tmp_path)
    whole = read(tmp_path)
    path = path.rename(tmp_path / "kept.txt")
    images = (tmp_path / "mini").rename(tmp_path / "kept")
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / folder).parent.mkdir(parents=True, exist_ok=True)
    if (tmp_path / folder).is_dir():
        (tmp_path / folder).rmdir()
    images.rename(tmp_path / folder)
    path.rename(tmp_path / file)
    data = read(tmp_path, **keys)
    assert data.boxes.tolist() == whole.boxes.tolist()
    assert data.paths[0] == str(tmp_path / folder / "a.png")


# --- refusals ---


@pytest.mark.parametrize(
    ("blocks", "sentence"),
    [
        ({"annotations": None}, "has no list 'annotations'. Is this a COCO file of instances?"),
        ({"images": {}}, "has no list 'images'. Is this a COCO file of instances?"),
        ({"images": []}, "lists no images. Is this the right file?"),
        ({"images": [3]}, "images[0]: expected a block of keys; got 3."),
        ({"images": [{"id": "\n"}]}, "images[0].id: expected a whole number; got '\\n'."),
        ({"images": [{"id": True}]}, "images[0].id: expected a whole number; got True."),
        ({"images": [{"id": 10**30}]}, "images[0].id: expected a whole number; got "
                                       "1000000000000000000000000000000."),
        ({"images": [{"id": 1}]},
         "images[0].file_name: expected a file name inside the folder; got nothing."),
        ({"images": [{"id": 1, "file_name": "../.."}]},
         "images[0].file_name: expected a file name inside the folder; got '../..'."),
        ({"images": [{"id": 1, "file_name": "a\0.png"}]},
         "images[0].file_name: expected a file name inside the folder; got 'a\\x00.png'."),
        ({"images": [*IMAGES, IMAGES[0]]},
         "image id 7 stands twice. Number the images apart."),
        ({"categories": [*CATEGORIES, {"id": 2, "name": "bird"}]},
         "category id 2 stands twice. Number them apart."),
        ({"categories": [*CATEGORIES, {"id": 4, "name": "dog"}]},
         "category 'dog' stands twice, with the ids 18 and 4. Rename one, or merge them: give all "
         "its annotations one id and remove the other."),
        ({"categories": [{"id": 1, "name": ["dog"]}]},
         "categories[0].name: expected a name; got list."),
        ({"annotations": [one(category_id=4)]},
         "annotations[0] is of category 4, which is not listed under categories. Add it there, or "
         "remove the annotation."),
        ({"annotations": [one(), one(image_id=[])]},
         "annotations[1].image_id: expected a whole number; got list."),
        ({"annotations": [one(category_id=float("nan"))]},
         "annotations[0].category_id: expected a whole number; got nan."),
    ],
)  # fmt: skip
def test_mistakes_get_a_sentence(tmp_path: Path, blocks: dict[str, Any], sentence: str) -> None:
    path = write(tmp_path, **blocks)
    assert refusal(tmp_path) == f"{path}: {sentence}"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "not readable as JSON (Expecting property name enclosed in double quotes: line 1 "
              "column 2 (char 1)). Repair the file."),
        ("[1]", "has no list 'images'. Is this a COCO file of instances?"),
        ("[" * 100_000, "is nested too deep for a COCO file. Repair it."),
    ],
)  # fmt: skip
def test_broken_files_get_a_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    path = write(tmp_path)
    path.write_text(text)
    assert refusal(tmp_path) == f"{path}: {sentence}"


def test_a_number_of_thousands_of_digits_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path)
    path.write_text(path.read_text().replace("18", "1" * 9999))
    assert refusal(tmp_path).startswith(f"{path}: not readable as JSON (Exceeds the limit")


def test_another_encoding_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path)
    path.write_bytes(path.read_text().encode("utf-16"))
    assert refusal(tmp_path) == f"{path}: not a text file in UTF-8. Save it as UTF-8."


def test_where_it_looked(tmp_path: Path) -> None:
    write(tmp_path)
    assert refusal(tmp_path, split="val") == (
        f"{tmp_path}: no annotations/instances_val.json or val/_annotations.coco.json or "
        "annotations/val.json or val.json; it holds annotations/, mini/. Check data.split, or "
        "name the file in the entry's key annotations."
    )
    assert refusal(tmp_path / "x") == (
        f"{tmp_path}/x: no such folder. Expected annotations/instances_SPLIT.json and the images "
        "in SPLIT/; point to it with data.root=PATH."
    )
    assert refusal(tmp_path, split="") == (
        "data.split: missing; name the split, e.g. train2017 of instances_train2017.json, or give "
        "the file below data.root in the entry's key annotations."
    )
    assert refusal(tmp_path, annotations="a.json") == (
        "data.annotations: 'a.json' is one file, so split 'mini' would do nothing. Leave split "
        "out, or write {split} in the name."
    )
    assert refusal(tmp_path, images="../x") == (
        f"data.images: '../x' leaves {tmp_path}. Its path counts from data.root. Write one "
        "below it."
    )


def test_class_that_is_not_expected(tmp_path: Path) -> None:
    path = write(tmp_path)
    assert refusal(tmp_path, classes=("cat", "dgo")) == (
        f"{path}: class 'dog' is not in data.classes. Did you mean 'dgo'? data.classes has 2: cat, "
        "dgo; the data has 3: cat, dog, brush. "
        "Name all of them, or none, which takes the data's. "
        "Or leave the objects of other classes out: 'data.only=[cat, dgo]'."
    )


# --- the real thing ---


@pytest.mark.data
@pytest.mark.parametrize("split", ["train2017", "val2017"])
def test_agrees_with_pycocotools(data_root: Path, split: str) -> None:
    from pycocotools.coco import COCO

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(data_root / "coco_mini" / "annotations" / f"instances_{split}.json")
    data = read_dataset({"format": "coco", "root": data_root / "coco_mini", "split": split})
    assert counts(data) == {}
    assert data.category_ids is not None
    assert data.segments is not None
    assert list(zip(data.category_ids.tolist(), data.class_names, strict=True)) == [
        (category["id"], category["name"]) for category in truth.loadCats(truth.getCatIds())
    ]
    assert sorted(map(int, data.image_ids)) == sorted(truth.getImgIds())
    for index, image_id in enumerate(map(int, data.image_ids)):
        image = truth.imgs[image_id]
        assert data.sizes[index].tolist() == [image["height"], image["width"]]
        assert Path(data.paths[index]).name == image["file_name"]
        rows = slice(int(data.offsets[index]), int(data.offsets[index + 1]))
        entries = truth.imgToAnns[image_id]
        x, y, w, h = np.array([entry["bbox"] for entry in entries]).T
        limits = [image["width"], image["height"]] * 2
        corners = np.minimum(np.stack([x, y, x + w, y + h], 1), limits)
        np.testing.assert_allclose(data.boxes[rows], corners, rtol=1e-6, atol=1e-4)
        assert data.category_ids[data.labels[rows]].tolist() == [e["category_id"] for e in entries]
        assert data.crowd[rows].tolist() == [bool(entry["iscrowd"]) for entry in entries]
        np.testing.assert_allclose(data.area[rows], [entry["area"] for entry in entries], rtol=1e-6)
        kept = [json.loads(data.segments[row]) for row in range(rows.start, rows.stop)]
        assert kept == [entry["segmentation"] for entry in entries]


@pytest.mark.data
def test_blood_cells_are_the_same_boxes(data_root: Path, tmp_path: Path) -> None:
    voc = read_dataset({"format": "voc", "root": data_root / "bccd", "split": "test"})
    write_coco(tmp_path, voc, "test")
    data = read_dataset({"format": "coco", "root": tmp_path, "split": "test"})
    assert [Path(p).name for p in data.paths] == [Path(p).name for p in voc.paths]
    assert [objects(data, i) for i in range(len(data))] == [
        objects(voc, i) for i in range(len(voc))
    ]


def test_a_large_file_is_read_in_seconds(tmp_path: Path) -> None:
    """As many objects as val2017 has, 36,000, on few images."""
    many = [one(id=n, image_id=(7, 3, 5)[n % 3], segmentation=POLYGON) for n in range(36_000)]
    write(tmp_path, annotations=many)
    start = time.process_time()  # of this process, whatever else the machine does
    assert len(read(tmp_path).boxes) == 36_000
    assert time.process_time() - start < 6  # about one
