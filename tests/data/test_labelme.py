"""labelme's JSON: every type of shape with boxes computed by hand, and where its image lies."""

from __future__ import annotations

import base64
import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from detkit.data import Annotations, read_dataset, summary
from detkit.data.recognise import recognise
from detkit.errors import ConfigError, DataError
from tests.data.formats import objects
from tests.oracles import write_image


def shape(label: str, kind: str | None, points: Any, **more: Any) -> dict[str, Any]:
    known = {"label": label, "points": points, "group_id": None, "flags": {}}
    return known | ({} if kind is None else {"shape_type": kind}) | more


def write(path: Path, shapes: Any, image: str | None = None, **more: Any) -> Path:
    """A JSON as labelme saves it, of an image of 60 x 80."""
    content = {
        "version": "5.5.0", "flags": {}, "shapes": shapes,
        "imagePath": f"{path.stem}.png" if image is None else image, "imageData": None,
        "imageHeight": 60, "imageWidth": 80,
    }  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content | more))
    return path


def read(root: Path, split: str = "", **keys: Any) -> Annotations:
    return read_dataset({"format": "labelme", "root": str(root), "split": split, **keys})


def counts(data: Annotations) -> dict[str, int]:
    return {kind: count for kind, count in data.report.counts.items() if count}


def refusal(root: Path, split: str = "", **keys: Any) -> str:
    with pytest.raises((DataError, ConfigError)) as caught:
        read(root, split, **keys)
    return str(caught.value)


BOX = shape("cat", "rectangle", [[10, 20], [30, 40]])


@pytest.mark.parametrize(
    ("kind", "points", "box", "count"),
    [
        ("rectangle", [[10, 20], [30.5, 40]], [10, 20, 30.5, 40], ""),
        ("rectangle", [[30, 40], [10, 20]], [10, 20, 30, 40], ""),
        ("rectangle", [[30, 20], [10, 40]], [10, 20, 30, 40], ""),
        ("rectangle", [[10, 20], [30, 20], [30, 40], [10, 40]], [10, 20, 30, 40], ""),
        ("polygon", [[10, 40], [20, 20], [30, 35]], [10, 20, 30, 40], "boxes made from polygons"),
        (None, [[10, 40], [20, 20], [30, 35]], [10, 20, 30, 40], "boxes made from polygons"),
        # radius 5: from (20, 30) to (23, 34)
        ("circle", [[20, 30], [23, 34]], [15, 25, 25, 35], "boxes made from circles"),
        # first and last pixel, both inside
        ("mask", [[10, 20], [29, 39]], [10, 20, 30, 40], "boxes made from masks"),
        ("rotation", [[20, 10], [30, 20], [20, 30], [10, 20]], [10, 10, 30, 30],
         "boxes made around rotated boxes"),
        ("oriented_rectangle", [[20, 10], [30, 20], [20, 30], [10, 20]], [10, 10, 30, 30],
         "boxes made around rotated boxes"),
    ],
)  # fmt: skip
def test_the_box_of_each_type_of_shape(
    tmp_path: Path, kind: str | None, points: Any, box: list[float], count: str
) -> None:
    write_image(tmp_path / "a.png")
    write(tmp_path / "a.json", [shape("cat", kind, points)])
    data = read(tmp_path)
    assert data.boxes.tolist() == [box]
    assert counts(data) == ({count: 1} if count else {})


@pytest.mark.parametrize(
    ("kind", "count"),
    [
        ("point", "points and lines without a box dropped"),
        ("points", "points and lines without a box dropped"),
        ("line", "points and lines without a box dropped"),
        ("linestrip", "points and lines without a box dropped"),
        ("cuboid", "shapes of unknown types dropped"),
        (7, "shapes of unknown types dropped"),
        (["rectangle"], "shapes of unknown types dropped"),
    ],
)
def test_shapes_without_a_box_are_counted(tmp_path: Path, kind: Any, count: str) -> None:
    write_image(tmp_path / "a.png")
    write(tmp_path / "a.json", [BOX, shape("cat", kind, [[1, 2], [30, 4], [5, 6]])])
    data = read(tmp_path)
    assert data.boxes.tolist() == [[10, 20, 30, 40]]
    assert counts(data) == {count: 1}


@pytest.mark.parametrize(
    ("kind", "points"),
    [
        ("rectangle", [[10, 20]]), ("rectangle", []), ("rectangle", None), ("rectangle", "text"),
        ("polygon", [[10, 20], [30, 40]]), ("circle", [[10, 20]]),
        ("rectangle", [[10, 20], [30]]), ("rectangle", [[10, 20], [30, "x"]]),
        ("rectangle", [[10, 20], [True, 40]]), ("rectangle", [[10, 20], [float("nan"), 40]]),
        ("rectangle", [[10, 20], [float("inf"), 40]]), ("circle", [[10, 20], [10**400, 40]]),
        ("mask", [[10, float("nan")], [30, 40]]),
    ],
)  # fmt: skip
def test_points_that_make_no_box_are_counted(tmp_path: Path, kind: str, points: Any) -> None:
    write_image(tmp_path / "a.png")
    write(tmp_path / "a.json", [BOX, shape("cat", kind, points)])
    data = read(tmp_path)
    assert data.boxes.tolist() == [[10, 20, 30, 40]]
    assert counts(data) == {"boxes without numbers dropped": 1}


def test_outlines_of_one_group_are_one_object(tmp_path: Path) -> None:
    left, right = [[10, 20], [20, 20], [20, 40]], [[50, 10], [60, 10], [60, 30]]
    write_image(tmp_path / "a.png")
    write(tmp_path / "a.json", [
        shape("cat", "polygon", left, group_id=1),
        shape("dog", "polygon", left, group_id=1),  # another label: another object
        shape("cat", "polygon", right, group_id=1),
        shape("cat", "polygon", right, group_id=2),
        shape("cat", "rectangle", [[1, 2], [3, 4]], group_id=1),  # a box is whole
        shape("cat", "rectangle", [[5, 6], [7, 8]], group_id=1),
        shape("cat", "polygon", left),
        shape("cat", "polygon", left),
    ])  # fmt: skip
    data = read(tmp_path)
    assert objects(data, 0) == [
        ("cat", [10, 10, 60, 40], False), ("dog", [10, 20, 20, 40], False),
        ("cat", [50, 10, 60, 30], False), ("cat", [1, 2, 3, 4], False),
        ("cat", [5, 6, 7, 8], False), ("cat", [10, 20, 20, 40], False),
        ("cat", [10, 20, 20, 40], False),
    ]  # fmt: skip
    assert counts(data) == {
        "boxes made from polygons": 6,
        "outlines joined to one object by their group_id": 1,
    }


def test_difficult_as_a_key_or_a_flag(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png")
    write(tmp_path / "a.json", [
        BOX, BOX | {"difficult": True}, BOX | {"flags": {"difficult": True}},
        BOX | {"difficult": False, "flags": None},
    ])  # fmt: skip
    assert read(tmp_path).difficult.tolist() == [False, True, True, False]


def test_images_without_shapes_are_negatives_and_those_without_json_are_left_out(
    tmp_path: Path,
) -> None:
    for name in ("a", "b", "c", "d"):
        write_image(tmp_path / f"{name}.png")
    write(tmp_path / "b.json", [BOX])
    write(tmp_path / "a.json", [])
    data = read(tmp_path)
    assert data.image_ids.tolist() == ["a", "b"]
    assert summary(data) == (
        "2 images (1 without objects), 1 objects of 1 classes, "
        "2 images without an annotation file left out"
    )


# --- where the image is ---


@pytest.mark.parametrize(
    ("document", "image", "written", "count"),
    [
        ("a.json", "a.png", "a.png", ""),
        ("a.json", "a.JPG", "a.jpg", ""),
        ("a.json", "a.png", "C:\\Users\\me\\a.png", ""),
        ("a.json", "a.png", "../../elsewhere/b.png", ""),  # the JSON's own name first
        ("a.json", "a.png", "", ""),
        ("labels/a.json", "img/a.png", "..\\img\\a.png", ""),
        ("labels/a.json", "img/b.png", "..\\img\\b.png", ""),
        ("labels/a.json", "img/a.png", "a.png", "found"),
        ("labels/a.json", "img/b.png", "/home/me/b.png", "found"),
        ("labels/a.json", "a.png", "../a.png", ""),
        ("labels/train/a.json", "img/train/a.png", "a.png", "found"),
    ],
)
def test_the_image_of_a_json(
    tmp_path: Path, document: str, image: str, written: str, count: str
) -> None:
    write_image(tmp_path / image)
    write(tmp_path / document, [BOX], written)
    data = read(tmp_path)
    assert data.paths.tolist() == [str(tmp_path / image)]
    kind = "images found by their last part, in another folder than is written"
    assert counts(data) == ({kind: 1} if count else {})


def test_the_own_name_counts_before_image_path(tmp_path: Path) -> None:
    for name in ("0", "1"):
        write_image(tmp_path / f"{name}.png")
        write(tmp_path / f"{name}.json", [BOX], "1.png")  # as after a copy
    assert read(tmp_path).paths.tolist() == [str(tmp_path / f"{name}.png") for name in "01"]
    write_image(tmp_path / "1.jpg")
    assert read(tmp_path).paths[1] == str(tmp_path / "1.png")  # of several the one that is named


def test_an_image_of_another_split_is_not_taken(tmp_path: Path) -> None:
    for split in ("train", "val"):
        write(tmp_path / "labels" / split / "a.json", [BOX], "a.png")
    write_image(tmp_path / "images" / "val" / "a.png")
    assert read(tmp_path, "val").paths.tolist() == [str(tmp_path / "images/val/a.png")]
    assert refusal(tmp_path, "train").startswith(
        f"{tmp_path}/labels/train: 1 of 1 images cannot be used"
    )


def test_an_image_that_has_a_json_is_no_other_ones(tmp_path: Path) -> None:
    write(tmp_path / "c" / "a.json", [BOX])
    write(tmp_path / "d" / "a.json", [BOX])
    write(tmp_path / "b.json", [BOX])
    for name in ("d/a.png", "b.png"):
        write_image(tmp_path / name)
    data = read(tmp_path)
    assert data.paths.tolist() == [str(tmp_path / "b.png"), str(tmp_path / "d/a.png")]
    assert [path for path, _ in data.report.unreadable] == [str(tmp_path / "c/a.png")]


def test_an_image_that_two_jsons_name_is_refused(tmp_path: Path) -> None:
    write_image(tmp_path / "img" / "c.png")
    for name in ("a", "b"):
        write(tmp_path / "labels" / f"{name}.json", [BOX], "../img/c.png")
    assert refusal(tmp_path) == (
        f"{tmp_path}/img/c.png: {tmp_path}/labels/a.json and {tmp_path}/labels/b.json both speak "
        "of this image. Keep one, or give each its own image."
    )


def test_embedded_pictures_are_named_with_what_writes_them(tmp_path: Path) -> None:
    root = tmp_path / "my data"
    write_image(tmp_path / "a.png")
    picture = base64.b64encode((tmp_path / "a.png").read_bytes()).decode()
    for name in ("a", "b"):
        write(root / f"{name}.json", [BOX], imageData=picture)
    said = refusal(root)
    assert said.startswith(
        f"{root}: 2 of 2 images are no files: they are embedded in their JSON (imageData), such "
        "as a.json. Write them beside it: python -c "
    )
    command = shlex.split(said.partition("beside it: ")[2].removesuffix(" and try again."))
    subprocess.run([sys.executable, *command[1:]], check=True)
    assert read(root).boxes.tolist() == [[10, 20, 30, 40]] * 2


def test_a_few_embedded_pictures_are_left_out_and_counted(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png")
    write(tmp_path / "a.json", [BOX])
    write(tmp_path / "b.json", [BOX], imageData="AAAA")
    data = read(tmp_path)
    assert data.image_ids.tolist() == ["a"]
    assert counts(data) == {"images embedded in their JSON alone": 1}
    assert [Path(path).name for path, _ in data.report.unreadable] == ["b.png"]


# --- folders ---


def test_folders_called_train_and_val_are_splits(tmp_path: Path) -> None:
    for name, split in (("a", "train"), ("b", "train"), ("c", "val")):
        write_image(tmp_path / split / f"{name}.png")
        write(tmp_path / split / f"{name}.json", [BOX])
    assert recognise(tmp_path).line() == (
        f"{tmp_path}: labelme JSON, splits train 2, val 1; training on train, evaluating on val"
    )
    assert read(tmp_path, "train").image_ids.tolist() == ["a", "b"]
    assert refusal(tmp_path) == (
        f"data.split: missing; {tmp_path} has train, val. Name one of them."
    )
    assert refusal(tmp_path, "vall") == f"{tmp_path}: no split 'vall'. Did you mean 'val'?"


@pytest.mark.parametrize("folder", [".", "annotations", "json/deep"])
def test_one_folder_is_recognised_and_parted(tmp_path: Path, folder: str) -> None:
    for number in range(5):
        write_image(tmp_path / f"{number}.png", seed=number)
        write(tmp_path / folder / f"{number}.json", [BOX], f"../{number}.png")
    if folder == "json/deep":  # two folders below: a dataset of its own
        with pytest.raises(DataError):
            recognise(tmp_path)
    else:
        assert recognise(tmp_path).line() == (
            f"{tmp_path}: labelme JSON, splits all 5; training on 80% of all, evaluating on 20% "
            "of all"
        )


def test_json_of_another_kind_is_passed_over_and_counted(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png")
    write(tmp_path / "a.json", [BOX])
    (tmp_path / "settings.json").write_text('{"theme": "dark"}')
    (tmp_path / "list.json").write_text("[]")
    assert counts(read(tmp_path)) == {"JSON files of another kind passed over": 2}


# --- files that anybody wrote ---


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "not readable as JSON (Expecting property name enclosed in double quotes: line 1 "
              "column 2 (char 1)). Repair the file."),
        ('{"imagePath": "b.png"}', "shapes: expected a list; got nothing."),
        ('{"shapes": [1]}', "shapes[0]: expected a block of keys; got 1."),
        ('{"shapes": [{"points": []}]}', "shapes[0].label: expected a name; got nothing."),
        ('{"shapes": [{"label": "a\\nb"}]}', "shapes[0].label: expected a name; got 'a\\nb'."),
        ("[" * 100_000, "is nested too deep for an annotation file. Repair it."),
        ('{"shapes": ' + "9" * 5000 + "}",
         "not readable as JSON (Exceeds the limit (4300 digits) for integer string conversion: "
         "value has 5000 digits; use sys.set_int_max_str_digits() to increase the limit). Repair "
         "the file."),
    ],
)  # fmt: skip
def test_mistakes_get_a_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    write_image(tmp_path / "a.png")
    write(tmp_path / "a.json", [BOX])
    path = tmp_path / "b.json"
    path.write_text(text)
    assert refusal(tmp_path) == f"{path}: {sentence}"


def test_missing_places_get_a_sentence(tmp_path: Path) -> None:
    assert refusal(tmp_path / "no") == (
        f"{tmp_path}/no: no such folder. Expected a folder with labelme JSON files; point to it "
        "with data.root=PATH."
    )
    assert refusal(tmp_path) == (
        f"{tmp_path}: holds no labelme JSON files; it is empty. Check data.root."
    )
