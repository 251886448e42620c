"""CreateML's JSON: centres made boxes by hand computation, and the layouts of its writers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from detkit.data import Annotations, read_dataset, summary
from detkit.data.recognise import recognise
from detkit.errors import ConfigError, DataError
from tests.data.formats import objects
from tests.oracles import write_image

Entries = list[Any]


def at(label: str, x: Any, y: Any, width: Any, height: Any) -> dict[str, Any]:
    return {"label": label, "coordinates": {"x": x, "y": y, "width": width, "height": height}}


def write(root: Path, entries: Any, images: tuple[str, ...] = ("a.png",), name: str = "") -> Path:
    """A JSON as Roboflow calls it, and images of 60 x 80 beside it."""
    for image in images:
        write_image(root / image)
    root.mkdir(parents=True, exist_ok=True)
    path = root / (name or "_annotations.createml.json")
    path.write_text(json.dumps(entries))
    return path


def read(root: Path, split: str = "", **keys: Any) -> Annotations:
    return read_dataset({"format": "createml", "root": str(root), "split": split, **keys})


def counts(data: Annotations) -> dict[str, int]:
    return {kind: count for kind, count in data.report.counts.items() if count}


def refusal(root: Path, split: str = "", **keys: Any) -> str:
    with pytest.raises((DataError, ConfigError)) as caught:
        read(root, split, **keys)
    return str(caught.value)


CAT = at("cat", 20, 30, 20, 20)  # centre (20, 30): 10, 20 to 30, 40


def test_x_and_y_are_the_centre_in_pixels(tmp_path: Path) -> None:
    write(
        tmp_path,
        [
            {"image": "b.png", "annotations": [CAT, at("dog", 40.5, 30, 79, 60)]},
            {"image": "a.png", "annotations": []},
        ],
        ("a.png", "b.png"),
    )
    data = read(tmp_path)
    assert data.image_ids.tolist() == ["b", "a"]
    assert objects(data, 0) == [("cat", [10, 20, 30, 40], False), ("dog", [1, 0, 80, 60], False)]
    assert summary(data) == "2 images (1 without objects), 2 objects of 2 classes"


def test_the_keys_of_apples_reference(tmp_path: Path) -> None:
    # Apple's example: an image whose name has blanks, the keys in any order
    objects_ = [{"coordinates": {"y": 30, "x": 20, "height": 20, "width": 20}, "label": "cat"}]
    write(tmp_path, [{"imagefilename": "cat and dog.png", "annotation": objects_}],
          ("cat and dog.png",), "annotations.json")  # fmt: skip
    assert read(tmp_path).boxes.tolist() == [[10, 20, 30, 40]]
    assert recognise(tmp_path).format == "createml"


def test_shares_and_corners_as_the_entry_says(tmp_path: Path) -> None:
    share = at("cat", 0.25, 0.5, 0.25, 0.4)
    path = write(tmp_path, [{"image": "a.png", "annotations": [share]}])
    assert refusal(tmp_path) == (
        f"{path}: all 1 boxes end within the first pixel, so they seem to be shares of the image. "
        "Set data.units=normalized (with data.format=createml)."
    )
    # of 80 x 60: centre (20, 30), 20 x 24
    assert read(tmp_path, units="normalized").boxes.tolist() == [[10, 18, 30, 42]]
    corner = read(tmp_path, units="normalized", anchor="topLeft")
    assert corner.boxes.tolist() == [[20, 30, 40, 54]]


def test_corners_written_for_centres_are_refused_until_named(tmp_path: Path) -> None:
    boxes = [at("cat", 2, 3, 20, 20), CAT, CAT | {"label": "dog"}]
    path = write(tmp_path, [{"image": "a.png", "annotations": boxes}])
    assert refusal(tmp_path) == (
        f"{path}: 1 of 3 boxes begin left of their image or above it, if x and y are their "
        "centres, as Create ML has it. Some tools write the upper left corner there: look at the "
        "file, and set data.anchor=topLeft or data.anchor=center (with data.format=createml)."
    )
    assert read(tmp_path, anchor="topLeft").boxes[0].tolist() == [2, 3, 22, 23]
    centre = read(tmp_path, anchor="center")
    assert centre.boxes[0].tolist() == [0, 0, 12, 13]
    assert counts(centre) == {"boxes clipped to the image": 1}


def test_boxes_that_touch_an_edge_are_no_corners(tmp_path: Path) -> None:
    write(tmp_path, [{"image": "a.png", "annotations": [at("cat", 9, 9, 20, 20)]}])
    data = read(tmp_path)  # a pixel off the edge: rounding
    assert data.boxes.tolist() == [[0, 0, 19, 19]]
    assert counts(data) == {"boxes clipped to the image": 1}


@pytest.mark.parametrize(
    "values",
    [(None, 30, 20, 20), ("x", 30, 20, 20), (True, 30, 20, 20), (float("nan"), 30, 20, 20),
     (20, float("inf"), 20, 20), (20, 30, 10**400, 20)],
)  # fmt: skip
def test_coordinates_that_are_no_numbers_are_counted(tmp_path: Path, values: Any) -> None:
    write(tmp_path, [{"image": "a.png", "annotations": [CAT, at("cat", *values)]}])
    data = read(tmp_path)
    assert data.boxes.tolist() == [[10, 20, 30, 40]]
    assert counts(data) == {"boxes without numbers dropped": 1}


def test_no_coordinates_and_no_size_are_counted(tmp_path: Path) -> None:
    bad = [{"label": "cat"}, {"label": "cat", "coordinates": [1, 2, 3, 4]}]
    bad += [at("cat", 20, 30, -5, 20), at("cat", 20, 30, 0, 20)]
    write(tmp_path, [{"image": "a.png", "annotations": [CAT, *bad]}])
    assert counts(read(tmp_path)) == {
        "boxes without numbers dropped": 2,
        "inverted boxes dropped": 2,
    }


def test_an_image_and_an_object_that_stand_twice(tmp_path: Path) -> None:
    write(tmp_path, [
        {"image": "a.png", "annotations": [CAT]},
        {"image": "a.png", "annotations": [CAT, at("dog", 20, 30, 20, 20)]},
    ])  # fmt: skip
    data = read(tmp_path)
    assert objects(data, 0) == [("cat", [10, 20, 30, 40], False), ("dog", [10, 20, 30, 40], False)]
    assert counts(data) == {
        "images that stand twice, their objects joined": 1,
        "objects that stand twice read once": 1,
    }


# --- layouts ---


def test_roboflows_folders(tmp_path: Path) -> None:
    for split, count in (("train", 3), ("valid", 2), ("test", 1)):
        names = tuple(f"{split}{n}.png" for n in range(count))
        write(tmp_path / split, [{"image": n, "annotations": [CAT]} for n in names], names)
    assert recognise(tmp_path).line() == (
        f"{tmp_path}: CreateML JSON, splits train 3, valid 2, test 1; training on train, "
        "evaluating on valid"
    )
    assert read(tmp_path, "valid").image_ids.tolist() == ["valid0", "valid1"]
    assert refusal(tmp_path) == (
        f"data.split: missing; {tmp_path} has test, train, valid. Name one of them."
    )


def test_one_json_an_image_as_labelimg_saves_them(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        entry = {"image": f"{name}.png", "verified": False, "annotations": [CAT]}
        write(tmp_path, [entry], (f"{name}.png",), f"{name}.json")
    write_image(tmp_path / "d.png")
    assert [split[:2] for split in recognise(tmp_path).splits] == [("", 3)]
    data = read(tmp_path, "all")  # as the recognised line calls it
    assert data.image_ids.tolist() == ["a", "b", "c"]
    assert counts(data) == {"images that no entry names left out": 1}


def test_one_json_a_split_beside_a_folder_of_images(tmp_path: Path) -> None:
    for split, names in (("train", ("a.png", "b.png")), ("val", ("c.png",))):
        entries = [{"image": f"images/{name}", "annotations": [CAT]} for name in names]
        write(tmp_path, entries, (), f"{split}.json")
        for name in names:
            write_image(tmp_path / "images" / name)
    assert [split[:2] for split in recognise(tmp_path).splits] == [("train", 2), ("val", 1)]
    assert read(tmp_path, "train").paths.tolist() == [
        str(tmp_path / "images" / name) for name in ("a.png", "b.png")
    ]
    assert counts(read(tmp_path, "train")) == {}


FOUND = "images found by their last part, in another folder than is written"


@pytest.mark.parametrize(
    ("written", "image", "count"),
    [("sub/a.png", "sub/a.png", 0), ("sub\\a.png", "sub/a.png", 0), ("a.png", "images/a.png", 1),
     ("/home/me/a.png", "a.png", 1), ("..\\img\\a.png", "deep/a.png", 1),
     ("file:///Users/me/a.png", "a.png", 1)],
)  # fmt: skip
def test_the_image_of_an_entry(tmp_path: Path, written: str, image: str, count: int) -> None:
    write(tmp_path, [{"image": written, "annotations": [CAT]}], (image,))
    data = read(tmp_path)
    assert data.paths.tolist() == [str(tmp_path / image)]
    assert counts(data).get(FOUND, 0) == count


def test_an_image_of_another_split_is_not_taken(tmp_path: Path) -> None:
    write(tmp_path / "train", [{"image": "a.png", "annotations": [CAT]}], ())
    write(tmp_path / "valid", [{"image": "a.png", "annotations": [CAT]}])
    assert refusal(tmp_path, "train").startswith(
        f"{tmp_path}/train/_annotations.createml.json: 1 of 1 images cannot be used"
    )


# --- files that anybody wrote ---


@pytest.mark.parametrize(
    ("entries", "sentence"),
    [
        ([{"image": "a.png", "annotations": []}, 7], "[1]: expected a block of keys; got 7."),
        ([{"image": "a.png", "annotations": []}, {"annotations": []}],
         "[1].image: expected a file name; got nothing."),
        ([{"image": "a.png", "annotations": []}, {"imagefilename": "b/", "annotations": []}],
         "[1].imagefilename: expected a file name; got 'b/'."),
        ([{"image": "a.png", "annotations": []}, {"image": "b.png"}],
         "[1].annotations: expected a list; got nothing."),
        ([{"image": "a.png", "annotations": []}, {"image": "a.png", "annotations": [7]}],
         "[1].annotations[0]: expected a block of keys; got 7."),
        ([{"image": "a.png", "annotation": []}, {"image": "a.png", "annotation": [{"label": ""}]}],
         "[1].annotation[0].label: expected a name; got ''."),
        ([{"image": "a.png", "annotations": []}, {"image": "../../b.png", "annotations": []}],
         "the image '../../b.png' is no path below the folder, and no image of its name lies "
         "there. Write the image's plain name."),
        ([{"image": "a.png", "annotations": []}, {"image": "x/a.png", "annotations": []}], ""),
    ],
)  # fmt: skip
def test_mistakes_get_a_sentence(tmp_path: Path, entries: Entries, sentence: str) -> None:
    path = write(tmp_path, entries)
    if sentence:
        assert refusal(tmp_path) == f"{path}: {sentence}"
    else:
        assert refusal(tmp_path) == (
            f"{tmp_path}/a.png: {path} speaks twice of this image. Keep one, or give each its own "
            "image."
        )


def test_json_that_is_nested_too_deep(tmp_path: Path) -> None:
    path = write(tmp_path, [])
    path.write_text('[{"image": "a.png", "annotations": []},' + "[" * 100_000)
    assert refusal(tmp_path) == (f"{path}: is nested too deep for an annotation file. Repair it.")


def test_missing_places_get_a_sentence(tmp_path: Path) -> None:
    assert refusal(tmp_path / "no") == (
        f"{tmp_path}/no: no such folder. Expected a folder with CreateML JSON; point to it "
        "with data.root=PATH."
    )
    (tmp_path / "a.json").write_text("[]")
    assert refusal(tmp_path) == (
        f"{tmp_path}: holds no CreateML JSON; it holds a.json. Check data.root."
    )
