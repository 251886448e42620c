"""Shares of the image where a format has pixels: refused in every format, but not a tiny box."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from detkit.data import Annotations, read_dataset
from detkit.data.coco import CocoConfig, read_coco
from detkit.data.shares import FIRST_PIXEL, PERCENT
from detkit.errors import DataError
from detkit.evaluation import read_detections
from tests.oracles import write_image

Box = tuple[float, float, float, float]  # xyxy
Images = Sequence[Sequence[Box]]  # the boxes of each image

HEIGHT, WIDTH = 60, 80
SHARES = (0.1, 0.25, 0.5, 0.55)
PIXELS = (10.0, 20.0, 30.5, 44.0)
TINY = (0.5, 0.5, 1.25, 1.25)


def names(images: Images) -> list[str]:
    return [f"{index:03d}.png" for index in range(len(images))]


def coco(root: Path, images: Images) -> None:
    numbers = range(1, 1 + len(images))
    rows = [(n, box) for n, inside in zip(numbers, images, strict=True) for box in inside]
    content = {
        "images": [{"id": n, "file_name": name} for n, name in enumerate(names(images), 1)],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [
            {"id": i, "image_id": n, "category_id": 1, "bbox": [x1, y1, x2 - x1, y2 - y1]}
            for i, (n, (x1, y1, x2, y2)) in enumerate(rows, 1)
        ],
    }
    (root / "annotations").mkdir(exist_ok=True)
    (root / "annotations" / "instances_all.json").write_text(json.dumps(content))


def csv(root: Path, images: Images) -> None:
    lines = ["path,x1,y1,x2,y2,name"]
    for name, boxes in zip(names(images), images, strict=True):
        lines += [f"all/{name},{','.join(map(str, box))},cat" for box in boxes]
    (root / "all.csv").write_text("\n".join(lines))


def sized_csv(root: Path, images: Images) -> None:
    lines = ["path,x_min,y_min,w,h,name"]
    for name, boxes in zip(names(images), images, strict=True):
        lines += [f"all/{name},{x1},{y1},{x2 - x1},{y2 - y1},cat" for x1, y1, x2, y2 in boxes]
    (root / "all.csv").write_text("\n".join(lines))


def voc(root: Path, images: Images) -> None:
    (root / "Annotations").mkdir()
    (root / "all").rename(root / "JPEGImages")
    for name, boxes in zip(names(images), images, strict=True):
        inner = "".join(
            f"<object><name>cat</name><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax>"
            f"<ymax>{y2}</ymax></bndbox></object>"
            for x1, y1, x2, y2 in boxes
        )
        page = root / "Annotations" / f"{Path(name).stem}.xml"
        page.write_text(f"<annotation>{inner}</annotation>")


def via(root: Path, images: Images) -> None:
    content = {
        name: {
            "filename": name,
            "size": 1,
            "file_attributes": {},
            "regions": [
                {
                    "shape_attributes": {
                        **{"name": "rect", "x": x1, "y": y1, "width": x2 - x1, "height": y2 - y1}
                    },
                    "region_attributes": {"name": "cat"},
                }
                for x1, y1, x2, y2 in boxes
            ],
        }
        for name, boxes in zip(names(images), images, strict=True)
    }
    (root / "via_region_data.json").write_text(json.dumps(content))


def labelme(root: Path, images: Images) -> None:
    (root / "all").rename(root / "train")
    for name, boxes in zip(names(images), images, strict=True):
        shapes = [
            {
                **{"label": "cat", "shape_type": "rectangle", "group_id": None, "flags": {}},
                "points": [[x1, y1], [x2, y2]],
            }
            for x1, y1, x2, y2 in boxes
        ]
        content = {"version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": name,
                   "imageData": None, "imageHeight": HEIGHT, "imageWidth": WIDTH}  # fmt: skip
        (root / "train" / name).with_suffix(".json").write_text(json.dumps(content))


def cvat(root: Path, images: Images) -> None:
    (root / "all").rename(root / "images")
    inner = ""
    for name, boxes in zip(names(images), images, strict=True):
        shapes = "".join(
            f'<box label="cat" occluded="0" xtl="{x1}" ytl="{y1}" xbr="{x2}" ybr="{y2}"/>'
            for x1, y1, x2, y2 in boxes
        )
        inner += f'<image id="0" name="{name}" width="80" height="60">{shapes}</image>'
    labels = "<meta><task><labels><label><name>cat</name></label></labels></task></meta>"
    text = f"<annotations><version>1.1</version>{labels}{inner}</annotations>"
    (root / "annotations.xml").write_text(text)


WRITERS = {
    "coco": (coco, "all"),
    "csv": (csv, "all"),
    "csv of sizes": (sized_csv, "all"),
    "voc": (voc, "all"),
    "via": (via, ""),
    "labelme": (labelme, ""),
    "cvat": (cvat, ""),
}


def read(
    root: Path, name: str, images: Images, size: tuple[int, int] = (HEIGHT, WIDTH)
) -> Annotations:
    write: Callable[[Path, Images], None]
    write, split = WRITERS[name]
    for index, image in enumerate(names(images)):
        write_image(root / "all" / image, size, seed=index)
    write(root, images)
    return read_dataset({"format": name.split()[0], "root": str(root), "split": split})


def refusal(root: Path, name: str, images: Images) -> str:
    with pytest.raises(DataError) as caught:
        read(root, name, images)
    return str(caught.value)


def counts(data: Annotations) -> dict[str, int]:
    kinds = (FIRST_PIXEL, PERCENT)
    return {kind: data.report.counts[kind] for kind in kinds if kind in data.report.counts}


ADVICE = (
    " pixels: they seem to be shares of the image's width and height. Multiply them by these. "
    "Shares are taken in YOLO text (data.format=yolo), in tables with Open Images' header "
    "ImageID,LabelName,XMin,XMax,YMin,YMax and in CreateML's JSON (data.format=createml "
    "data.units=normalized)."
)


@pytest.mark.parametrize("name", WRITERS)
def test_shares_are_refused_in_every_format(tmp_path: Path, name: str) -> None:
    said = refusal(tmp_path, name, [[SHARES, (0.0, 0.0, 1.0, 1.0)], [], [SHARES]])
    assert "all 3 boxes end within the first pixel of the image, as [" in said
    assert ADVICE.replace(" pixels", "000.png of 80 x 60 pixels") in said


@pytest.mark.parametrize("name", WRITERS)
def test_a_tiny_box_among_others_is_counted_alone(tmp_path: Path, name: str) -> None:
    data = read(tmp_path, name, [[PIXELS, TINY], [TINY]])
    assert counts(data) == {FIRST_PIXEL: 2}
    assert [path[-7:] for path in data.report.images[FIRST_PIXEL]] == ["000.png", "001.png"]


def test_one_box_in_shares_is_enough(tmp_path: Path) -> None:
    said = refusal(tmp_path, "csv", [[SHARES]])
    assert said == (
        f"{tmp_path}/all.csv: its box ends within the first pixel of the image, as [0.1, 0.25, "
        f"0.4, 0.3] (x, y, width, height) in {tmp_path}/all/000.png of 80 x 60{ADVICE}"
    )


def test_shares_of_whole_images_and_of_boxes_that_leave_them_are_shares(tmp_path: Path) -> None:
    refusal(tmp_path, "coco", [[(0.0, 0.0, 1.0, 1.0)], [(-0.1, 0.3, 1.04, 0.9)]])


def test_centres_and_sizes_in_shares_are_shares(tmp_path: Path) -> None:
    """YOLO's numbers in the place of COCO's: the middle of the image and most of its sides."""
    refusal(tmp_path, "coco", [[(0.5, 0.5, 0.5 + 0.96, 0.5 + 0.9)]])


def test_shares_in_many_images_among_others_are_refused(tmp_path: Path) -> None:
    said = refusal(tmp_path, "coco", [[PIXELS]] * 9 + [[SHARES]] * 3)
    assert "the boxes of 3 of 12 images end within the first pixel of the image, as" in said
    assert f"in {tmp_path}/all/009.png of 80 x 60" in said


@pytest.mark.parametrize("images", [[[PIXELS]] * 9 + [[SHARES]] * 2, [[PIXELS, SHARES]] * 9])
def test_a_few_shares_among_others_are_counted(tmp_path: Path, images: Images) -> None:
    found = sum(SHARES in boxes for boxes in images)
    assert counts(read(tmp_path, "coco", images)) == {FIRST_PIXEL: found}


@pytest.mark.parametrize(
    "nothing",
    [
        (0.0, 0.0, 1.0, 1.0),  # a pixel: what some tools write where there is no object
        (0.0, 0.0, 0.0, 0.0),
        (-9.0, -9.0, -2.0, -3.0),
    ],
)
def test_boxes_of_no_object_are_no_shares(tmp_path: Path, nothing: Box) -> None:
    images = [[PIXELS]] * 5 + [[nothing]] * 5
    pixel = 5 * (nothing[2] == 1)
    assert counts(read(tmp_path, "csv", images)) == ({FIRST_PIXEL: 5} if pixel else {})


@pytest.mark.parametrize("box", [(0.0, 0.0, 0.0, 0.0), (-9.0, -9.0, -2.0, -3.0), (0.9, 0.9, 9, 2)])
def test_boxes_without_size_or_left_of_the_image_are_no_shares(tmp_path: Path, box: Box) -> None:
    assert counts(read(tmp_path, "csv", [[box]])) == {}


@pytest.mark.parametrize("side", [1, 2])
def test_images_of_a_pixel_have_boxes_of_a_pixel(tmp_path: Path, side: int) -> None:
    data = read(tmp_path, "coco", [[(0.0, 0.0, 1.0, 1.0)], [SHARES]], size=(side, side))
    assert counts(data) == {}
    assert len(data.boxes) == 2


def percents(count: int) -> list[list[Box]]:
    return [[(i, 3 * i, 20.0 + 5 * i, 47.5 + 3 * i)] for i in range(1, count + 1)]


def test_percent_may_be_meant_where_all_boxes_reach_to_a_hundred(tmp_path: Path) -> None:
    images = [boxes * 2 for boxes in percents(15)]
    assert counts(read(tmp_path / "1", "coco", images, size=(300, 400))) == {PERCENT: 30}
    assert counts(read(tmp_path / "2", "coco", images, size=(299, 400))) == {}  # perhaps a third
    more = [*images, [(90, 90, 101, 99)]]
    assert counts(read(tmp_path / "3", "coco", more, size=(300, 400))) == {}
    assert counts(read(tmp_path / "4", "coco", percents(15), size=(300, 400))) == {}  # few boxes
    corner = [boxes * 3 for boxes in percents(12)]  # to 80 of 100
    assert counts(read(tmp_path / "5", "coco", corner, size=(300, 400))) == {}


def test_detections_in_shares_are_refused(tmp_path: Path) -> None:
    data = read(tmp_path, "coco", [[PIXELS], []])
    found = [
        {"image_id": 2, "category": "cat", "bbox": [0.5, 0.5, 0, 0], "score": 0.5},
        {"image_id": 2, "category": "cat", "bbox": [0.1, 0.2, 0.5, 0.25], "score": 0.5},
        {"image_id": 1, "category": "cat", "bbox": [0.1, 0.2, 0.3, 0.25], "score": 0.5},
    ]
    path = tmp_path / "found.json"
    path.write_text(json.dumps(found))
    with pytest.raises(DataError) as caught:
        read_detections(path, data)
    assert str(caught.value) == (
        f"{path}: all 2 boxes end within the first pixel of the image, as [0.1, 0.2, 0.5, 0.25] "
        f"(entry 1) in {tmp_path}/all/001.png of 80 x 60 pixels: they seem to be shares of the "
        "image's width and height. Multiply them by these."
    )
    path.write_text(json.dumps([*found, {**found[0], "bbox": [1, 2, 30, 40]}]))
    assert len(read_detections(path, data)) == 4  # a detector may find slivers
    path.write_text(json.dumps(found[:1]))
    assert len(read_detections(path, data)) == 1


def test_shares_are_refused_without_the_images_too(tmp_path: Path) -> None:
    """As detections alone are measured: sizes are the files', and here there are none."""
    coco(tmp_path, [[SHARES], [SHARES]])
    config = CocoConfig(root=tmp_path, split="all").without_images()
    with pytest.raises(DataError) as caught:
        read_coco(config)
    assert "all 2 boxes end within the first pixel of the image, as [0.1, 0.25, " in str(
        caught.value
    )
    assert "000.png: they seem to be shares of the image's width" in str(caught.value)
