"""PASCAL VOC as each tool exports it, its own XML and folders: recognised, and the boxes right."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from detkit.data import join, read_dataset, summary
from detkit.data.recognise import recognise
from tests.oracles import write_image

Corners = tuple[float | int, ...]
WHOLE, PART = (0, 0, 80, 60), (10, 20, 50, 60)  # true boxes of images of 80 x 60


def elements(pairs: Sequence[tuple[str, object]]) -> str:
    return "".join(f"<{name}>{value}</{name}>" for name, value in pairs)


def objects(boxes: Sequence[Corners], before: str, after: str = "") -> str:
    sides = ("xmin", "ymin", "xmax", "ymax")
    return "".join(
        f"<object><name>cat</name>{before}"
        f"<bndbox>{elements([*zip(sides, box, strict=True)])}</bndbox>{after}</object>"
        for box in boxes
    )


def xml(head: Sequence[tuple[str, object]], boxes: str) -> str:
    size = elements([("width", 80), ("height", 60), ("depth", 3)])
    return f"<annotation>{elements([*head, ('size', size), ('segmented', 0)])}{boxes}</annotation>"


def one_based(boxes: Sequence[Corners]) -> list[Corners]:
    return [(x1 + 1, y1 + 1, x2, y2) for x1, y1, x2, y2 in boxes]


def labelimg(root: Path, name: str, boxes: Sequence[Corners], folder: str = ".") -> None:
    """XML beside the image, an absolute path in it, all flags in its own order."""
    head = [("folder", "photos"), ("filename", f"{name}.jpg"), ("path", f"C:\\photos\\{name}.jpg")]
    flags = "<pose>Unspecified</pose><truncated>1</truncated><difficult>0</difficult>"
    source = ("source", elements([("database", "Unknown")]))
    write(root, f"{folder}/{name}", f"{folder}/{name}.jpg",
          xml([*head, source], objects(one_based(boxes), flags)))  # fmt: skip


def roboflow(root: Path, name: str, boxes: Sequence[Corners], split: str) -> None:
    """A folder for each split, XML beside the image, its xmax before its ymin."""
    head = [
        ("folder", ""),
        ("filename", f"{name}_jpg.rf.0a.jpg"),
        ("path", f"{name}_jpg.rf.0a.jpg"),
    ]
    flags = "<pose>Unspecified</pose><truncated>0</truncated><difficult>0</difficult>"
    flags += "<occluded>0</occluded>"
    source = ("source", elements([("database", "roboflow.com")]))
    stem = f"{split}/{name}_jpg.rf.0a"
    write(root, stem, f"{stem}.jpg", xml([*head, source], objects(one_based(boxes), flags)))


def cvat(root: Path, name: str, boxes: Sequence[Corners]) -> None:
    """Corners from zero with fractions; an image without objects stands in the list alone."""
    listing = root / "ImageSets" / "Main" / "default.txt"
    listing.parent.mkdir(parents=True, exist_ok=True)
    with listing.open("a") as file:
        file.write(f"{name}\n")
    with (listing.parent / "cat_default.txt").open("a") as file:
        file.write(f"{name}  {1 if boxes else -1}\n")
    (root / "labelmap.txt").write_text("# label:color_rgb:parts:actions\ncat:128,0,0::\n")
    if not boxes:
        write_image(root / "JPEGImages" / f"{name}.jpg", seed=sum(name.encode()))
        return
    unknown = elements([(key, "Unknown") for key in ("database", "annotation", "image")])
    flags = "<truncated>0</truncated><occluded>0</occluded><difficult>0</difficult>"
    attribute = elements([("name", "rotation"), ("value", "0.0")])
    after = f"<attributes><attribute>{attribute}</attribute></attributes>"
    text = xml(
        [("folder", ""), ("filename", f"{name}.jpg"), ("source", unknown)],
        objects([tuple(float(v) for v in box) for box in boxes], flags, after),
    )
    write(root, f"Annotations/{name}", f"JPEGImages/{name}.jpg", text)


def label_studio(root: Path, name: str, boxes: Sequence[Corners]) -> None:
    """Corners from zero, whole numbers; images/ beside Annotations/."""
    owner = elements([("flickrid", "NULL"), ("name", "Label Studio")])
    head = [("folder", "images"), ("filename", f"{name}.jpg"), ("owner", owner)]
    text = xml(head, objects(boxes, "<pose>Unspecified</pose><difficult>0</difficult>"))
    write(root, f"Annotations/{name}", f"images/{name}.jpg", f'<?xml version="1.0" ?>\n{text}')


def fiftyone(root: Path, name: str, boxes: Sequence[Corners]) -> None:
    """Corners from zero, whole numbers; labels/ and data/; empty flags."""
    head = [("folder", ""), ("filename", f"{name}.jpg"), ("path", f"/data/{name}.jpg")]
    flags = "<pose></pose><truncated></truncated><difficult></difficult><occluded></occluded>"
    write(root, f"labels/{name}", f"data/{name}.jpg", xml(head, objects(boxes, flags)))


def write(root: Path, stem: str, image: str, text: str) -> None:
    path = root / f"{stem}.xml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    write_image(root / image, seed=sum(image.encode()))  # a picture of its own


IMAGES = {"a": (WHOLE, PART), "b": (WHOLE,), "c": (PART,)}
FROM_ZERO = (
    "{} boxes counted from zero (some begin at 0, none ends beyond its image; data.origin=1 counts "
    "from one)"
)
BY_NAME = "{} boxes counted from zero (Label Studio wrote them; data.origin=1 counts from one)"


@pytest.mark.parametrize(
    ("exporter", "from_zero"),
    [(labelimg, ""), (cvat, FROM_ZERO), (label_studio, BY_NAME), (fiftyone, FROM_ZERO)],
)
def test_exports_without_splits(exporter, from_zero: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    for name, boxes in IMAGES.items():
        exporter(tmp_path, name, boxes)
    recognised = recognise(tmp_path)
    split = "default" if exporter is cvat else "all"
    assert recognised.line() == (
        f"{tmp_path}: PASCAL VOC, splits {split} 3; training on 80% of {split}, evaluating on 20% "
        f"of {split}"
    )
    parts = [read_dataset(entry) for entry in recognised.train + recognised.val]
    data = join(parts)
    true = [list(box) for i in data.image_ids.tolist() for box in IMAGES[i]]
    assert data.boxes.tolist() == true
    told = f", {from_zero.format(4)}" if from_zero else ""
    assert summary(data) == f"3 images (0 without objects), 4 objects of 1 classes{told}"


def test_roboflow_and_labelimg_in_folders_of_splits(tmp_path: Path) -> None:
    for name, split in (("a", "train"), ("b", "valid"), ("c", "test")):
        roboflow(tmp_path / "roboflow", name, IMAGES[name], split)
        labelimg(tmp_path / "labelimg", name, IMAGES[name], split)
    (tmp_path / "roboflow" / "README.roboflow.txt").write_text("exported")
    for root in (tmp_path / "roboflow", tmp_path / "labelimg"):
        found = recognise(root)
        assert found.line() == (
            f"{root}: PASCAL VOC, splits train 1, valid 1, test 1; training on train, evaluating "
            "on valid"
        )
        entries = (*found.train, *found.val, *found.test)
        boxes = [read_dataset(entry).boxes.tolist() for entry in entries]
        assert boxes == [[list(box) for box in IMAGES[name]] for name in "abc"]


def test_label_studio_writes_no_xml_of_an_image_without_boxes(tmp_path: Path) -> None:
    for name, boxes in IMAGES.items():
        label_studio(tmp_path, name, boxes)
    for name in ("d", "e", "f"):
        write_image(tmp_path / "images" / f"{name}.jpg")
    data = read_dataset({"format": "voc", "root": str(tmp_path), "split": "all"})
    assert data.image_ids.tolist() == [*"abcdef"]
    assert summary(data) == (
        "6 images (3 without objects), 4 objects of 1 classes, 3 images without an annotation file "
        "taken as negatives (data.unannotated=leave_out leaves them out), " + BY_NAME.format(4)
    )
    write_image(tmp_path / "images" / "g.jpg")  # most lack theirs
    data = read_dataset({"format": "voc", "root": str(tmp_path), "split": "all"})
    assert data.image_ids.tolist() == [*"abc"]
    assert "4 images without an annotation file left out" in summary(data)


def test_cvat_lists_images_without_objects_and_in_folders(tmp_path: Path) -> None:
    for name, boxes in {**IMAGES, "no cat 1": (), "cam1/a": (WHOLE,)}.items():
        cvat(tmp_path, name, boxes)
    data = read_dataset({"format": "auto", "root": str(tmp_path), "split": "default"})
    assert data.image_ids.tolist() == ["a", "b", "c", "no cat 1", "cam1/a"]
    assert summary(data) == (
        "5 images (1 without objects), 5 objects of 1 classes, 1 images without an annotation file "
        "taken as negatives (data.unannotated=leave_out leaves them out), " + FROM_ZERO.format(5)
    )
