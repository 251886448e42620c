"""Open Images' tables, as its own site, FiftyOne and CVAT lay them out; images 80 wide, 60 high.

The header and the meaning of each column are those of the site's page of version 5 and later; the
folders are those of FiftyOne's exporter and of CVAT's page of its format.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from detkit.data import Annotations, for_training, read_dataset, summary
from detkit.data.recognise import recognise
from detkit.errors import DataError
from tests.oracles import write_image

HEADER = (
    "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,"
    "IsDepiction,IsInside"
)
CLICKS = ",XClick1X,XClick2X,XClick3X,XClick4X,XClick1Y,XClick2Y,XClick3Y,XClick4Y"
ROWS = [  # XMin, XMax, YMin, YMax
    "0001eeaf4aed83f9,xclick,/m/0cmf2,1,0.125,0.5,0.25,0.75,0,0,0,0,0",
    "0001eeaf4aed83f9,xclick,/m/01g317,1,0.0,1.0,0.5,1.0,1,1,1,0,0",
    "000595fe6fee6369,activemil,/m/01g317,0.5,0.25,0.375,0.1,0.2,-1,-1,-1,1,1",
]
BOXES = [[10, 15, 40, 45], [0, 30, 80, 60], [20, 6, 30, 12]]
DESCRIBED = "/m/0cmf2,Airplane\n/m/01g317,Person\n/m/04yx4,Man\n"
IMAGES = ("0001eeaf4aed83f9.jpg", "000595fe6fee6369.jpg")


def write(root: Path, table: str, images: str, described: str = "", text: str = DESCRIBED) -> None:
    for name in IMAGES:
        write_image(root / images / name)
    (root / table).parent.mkdir(parents=True, exist_ok=True)
    (root / table).write_text("\n".join([HEADER, *ROWS]) + "\n")
    if described:
        (root / described).parent.mkdir(parents=True, exist_ok=True)
        (root / described).write_text(text)


def found(root: Path) -> Annotations:
    recognised = recognise(root)
    assert recognised.format == "csv"
    return read_dataset({k: v for k, v in recognised.train[0].items() if k != "part"})


@pytest.mark.parametrize(
    ("table", "images", "described", "text"),
    [
        ("train-annotations-bbox.csv", "train", "class-descriptions-boxable.csv", DESCRIBED),
        ("oidv6-train-annotations-bbox.csv", "images", "oidv7-class-descriptions-boxable.csv",
         f"LabelName,DisplayName\n{DESCRIBED}"),
        ("train/labels/detections.csv", "train/data", "train/metadata/classes.csv", DESCRIBED),
        ("annotations/train-annotations-bbox.csv", "images/train",
         "annotations/class-descriptions.csv", DESCRIBED),
    ],
)  # fmt: skip
def test_layouts(tmp_path: Path, table: str, images: str, described: str, text: str) -> None:
    write(tmp_path, table, images, described, text)
    data = found(tmp_path)
    assert data.class_names == ("Airplane", "Person")
    assert data.labels.tolist() == [0, 1, 1]
    np.testing.assert_allclose(data.boxes, BOXES, rtol=1e-6)
    assert data.image_ids.tolist() == [Path(name).stem for name in IMAGES]
    assert data.crowd.tolist() == [False, True, False]
    assert summary(for_training(data)) == (
        "2 images (0 without objects), 2 objects of 2 classes, 1 boxes of a Confidence below 1 "
        "kept, 1 depictions (IsDepiction) kept, 1 objects seen from inside (IsInside) kept, "
        f"2 images found in {images}/, 1 crowds dropped from training"
    )


def test_splits_by_the_names_of_its_tables(tmp_path: Path) -> None:
    for split, of in (("oidv6-train", "train"), ("validation", "validation"), ("test", "test")):
        write(tmp_path, f"{split}-annotations-bbox.csv", of, "class-descriptions-boxable.csv")
    (tmp_path / "validation-annotations-human-imagelabels-boxable.csv").write_text(
        "ImageID,Source,LabelName,Confidence\n0001eeaf4aed83f9,verification,/m/0cmf2,0\n"
    )
    assert recognise(tmp_path).line() == (
        f"{tmp_path}: CSV, splits oidv6-train-annotations-bbox 2, validation-annotations-bbox 2, "
        "test-annotations-bbox 2; training on oidv6-train-annotations-bbox, evaluating on "
        "validation-annotations-bbox"
    )


def test_columns_of_version_six(tmp_path: Path) -> None:
    write(tmp_path, "train.csv", ".")
    rows = [f"{row},{','.join(['-1'] * 8)}" for row in ROWS]
    (tmp_path / "train.csv").write_text("\n".join([HEADER + CLICKS, *rows]))
    np.testing.assert_allclose(found(tmp_path).boxes, BOXES, rtol=1e-6)


def test_machine_ids_are_the_names_where_no_table_tells_others(tmp_path: Path) -> None:
    write(tmp_path, "train.csv", ".")
    data = found(tmp_path)
    assert data.class_names == ("/m/01g317", "/m/0cmf2")
    assert (
        "3 objects named by the machine id of their class (no class-descriptions-boxable.csv)"
        in summary(data)
    )
    (tmp_path / "class-descriptions-boxable.csv").write_text("/m/01g317,Person\n")
    data = found(tmp_path)
    assert data.class_names == ("/m/0cmf2", "Person")
    assert "1 objects named by the machine id of their class, which has no description" in summary(
        data
    )


def test_two_classes_of_one_name_stay_two(tmp_path: Path) -> None:
    write(tmp_path, "train.csv", ".", "classes.csv", "/m/01g317,Bat\n/m/0cmf2,Bat\n")
    assert found(tmp_path).class_names == ("Bat (/m/01g317)", "Bat (/m/0cmf2)")


def test_names_outside_the_folder_are_not_looked_at(tmp_path: Path) -> None:
    write(tmp_path / "data", "train.csv", ".")
    (tmp_path / "class-descriptions-boxable.csv").write_text(DESCRIBED)
    assert found(tmp_path / "data").class_names == ("/m/01g317", "/m/0cmf2")


def test_boxes_in_pixels_under_its_header(tmp_path: Path) -> None:
    write(tmp_path, "train.csv", ".")
    row = "0001eeaf4aed83f9,xclick,/m/0cmf2,1,10,40,15,45,0,0,0,0,0"
    (tmp_path / "train.csv").write_text(f"{HEADER}\n{row}\n")
    with pytest.raises(DataError) as caught:
        found(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}/train.csv: 1 of 1 boxes reach beyond 2 image sizes; they seem to be in "
        "pixels. Divide them by the image's width and height."
    )
