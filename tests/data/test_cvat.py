"""CVAT's own XML: every shape with boxes computed by hand, subsets, and where images lie."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from detkit.data import Annotations, read_dataset, summary
from detkit.data.recognise import recognise
from detkit.errors import ConfigError, DataError
from tests.data.formats import objects
from tests.oracles import write_image

LABELS = (
    "<label><name>dog</name><color>#fff</color><type>any</type></label>"
    "<label><name>cat</name><type>rectangle</type></label>"
    "<label><name>nose</name><type>points</type><parent>face</parent></label>"
    "<label><name>face</name><type>skeleton</type></label>"
    "<label><name>blurred</name><type>tag</type></label>"
)
BOX = '<box label="cat" source="manual" occluded="0" xtl="10" ytl="20" xbr="30" ybr="40"/>'


def image(name: str, shapes: str = "", **keys: str) -> str:
    more = "".join(f' {key}="{value}"' for key, value in keys.items())
    return f'<image id="0" name="{name}"{more} width="80" height="60">{shapes}</image>'


def document(*images: str, labels: str = LABELS, of: str = "task") -> str:
    meta = f"<meta><{of}><id>7</id><labels>{labels}</labels></{of}><dumped>now</dumped></meta>"
    inner = "".join(images)
    return (
        f'<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version>{meta}{inner}'
        "</annotations>\n"
    )


def write(path: Path, text: str, *images: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    for name in images:
        write_image(path.parent / name)
    return path


def one(root: Path, shapes: str) -> Annotations:
    write(root / "annotations.xml", document(image("a.png", shapes)), "images/a.png")
    return read(root)


def read(root: Path, split: str = "", **keys: Any) -> Annotations:
    return read_dataset({"format": "cvat", "root": str(root), "split": split, **keys})


def counts(data: Annotations) -> dict[str, int]:
    return {kind: count for kind, count in data.report.counts.items() if count}


def refusal(root: Path, split: str = "", **keys: Any) -> str:
    with pytest.raises((DataError, ConfigError)) as caught:
        read(root, split, **keys)
    return str(caught.value)


@pytest.mark.parametrize(
    ("shape", "box", "count"),
    [
        ('box label="cat" xtl="10.5" ytl="20" xbr="30" ybr="40.25" z_order="0"',
         [10.5, 20, 30, 40.25], ""),
        ('box label="cat" xtl="10" ytl="20" xbr="30" ybr="40" rotation="0.00"',
         [10, 20, 30, 40], ""),
        # 20 x 40 around (40, 30), a quarter: 40 x 20
        ('box label="cat" xtl="30" ytl="10" xbr="50" ybr="50" rotation="90"', [20, 20, 60, 40],
         "boxes made around rotated boxes"),
        # 20 x 20 around (40, 30), an eighth: its diagonal, 28.284
        ('box label="cat" xtl="30" ytl="20" xbr="50" ybr="40" rotation="45"',
         [25.8579, 15.8579, 54.1421, 44.1421], "boxes made around rotated boxes"),
        # 40 x 20 by 30 degrees: 40 cos + 20 sin = 44.641, 40 sin + 20 cos = 37.3205
        ('box label="cat" xtl="20" ytl="20" xbr="60" ybr="40" rotation="330"',
         [17.6795, 11.3397, 62.3205, 48.6603], "boxes made around rotated boxes"),
        ('polygon label="cat" points="10,40;20.5,20;30,35"', [10, 20, 30, 40],
         "boxes made from polygons"),
        ('mask label="cat" rle="3, 4" left="10" top="20" width="20" height="20"',
         [10, 20, 30, 40], "boxes made from masks"),
        ('ellipse label="cat" cx="40" cy="30" rx="20" ry="10"', [20, 20, 60, 40],
         "boxes made from ellipses"),
        ('ellipse label="cat" cx="40" cy="30" rx="20" ry="10" rotation="90"', [30, 10, 50, 50],
         "boxes made from ellipses"),
        # half the width: root of (20 cos 45)^2 + (10 sin 45)^2 = root of 250
        ('ellipse label="cat" cx="40" cy="30" rx="20" ry="10" rotation="45"',
         [24.1886, 14.1886, 55.8114, 45.8114], "boxes made from ellipses"),
        ('cuboid label="cat" xtl1="10" ytl1="22" xbl1="10" ybl1="40" xtr1="25" ytr1="22" xbr1="25"'
         ' ybr1="40" xtl2="15" ytl2="20" xbl2="15" ybl2="35" xtr2="30" ytr2="20" xbr2="30" '
         'ybr2="35"', [10, 20, 30, 40], "boxes made from cuboids"),
    ],
)  # fmt: skip
def test_the_box_of_each_shape(tmp_path: Path, shape: str, box: list[float], count: str) -> None:
    data = one(tmp_path, f"<{shape}><attribute name='size'>big</attribute></{shape.split()[0]}>")
    assert data.boxes.tolist() == [pytest.approx(box, abs=1e-3)]
    assert counts(data) == ({count: 1} if count else {})


@pytest.mark.parametrize(
    ("shape", "count"),
    [
        ('<points label="cat" points="1,2"/>', "points and lines without a box dropped"),
        ('<polyline label="cat" points="1,2;3,4"/>', "points and lines without a box dropped"),
        ('<skeleton label="face"><points label="nose" points="1,2"/><points label="nose" '
         'points="3,4"/></skeleton>', "points and lines without a box dropped"),
        ('<tag label="blurred"/>', "tags of whole images dropped"),
        ('<blob label="cat"/>', "shapes of unknown types dropped"),
        ('<box label="cat" xtl="10" ytl="20" xbr="30"/>', "boxes without numbers dropped"),
        ('<box label="cat" xtl="10" ytl="20" xbr="30" ybr="nan"/>',
         "boxes without numbers dropped"),
        ('<box label="cat" xtl="10" ytl="20" xbr="30" ybr="1e999"/>',
         "boxes without numbers dropped"),
        ('<polygon label="cat" points="1,2;3,4"/>', "boxes without numbers dropped"),
        ('<polygon label="cat" points="1,2;3,4;5"/>', "boxes without numbers dropped"),
        ('<polygon label="cat"/>', "boxes without numbers dropped"),
        ('<box label="cat" xtl="30" ytl="20" xbr="10" ybr="40"/>', "inverted boxes dropped"),
    ],
)  # fmt: skip
def test_what_has_no_box_is_counted(tmp_path: Path, shape: str, count: str) -> None:
    data = one(tmp_path, BOX + shape)
    assert data.boxes.tolist() == [[10, 20, 30, 40]]
    assert counts(data) == {count: 1}


def test_labels_of_meta_are_the_classes_in_their_order(tmp_path: Path) -> None:
    shapes = BOX + BOX.replace("cat", "zebra") + BOX.replace("cat", "ant")
    for of in ("task", "project", "job"):
        text = document(image("a.png", shapes), image("b.png"), of=of)
        write(tmp_path / "annotations.xml", text, "images/a.png", "images/b.png")
        data = read(tmp_path)
        assert data.class_names == ("dog", "cat", "ant", "zebra")
        assert data.labels.tolist() == [1, 3, 2]
        assert summary(data) == "2 images (1 without objects), 3 objects of 4 classes"


def test_difficult_and_crowds_as_attributes(tmp_path: Path) -> None:
    def flagged(name: str, value: str) -> str:
        inner = f'<attribute name="{name}">{value}</attribute></box>'
        return BOX.replace("/>", f">{inner}")

    said = (("difficult", "true"), ("difficult", "false"), ("is_crowd", "1"), ("is_crowd", "0"))
    shapes = [flagged(*flag) for flag in (*said, ("truncated", "true"))]
    data = one(tmp_path, "".join(shapes))
    assert data.difficult.tolist() == [True, False, False, False, False]
    assert data.crowd.tolist() == [False, False, True, False, False]


# --- splits, and where images lie ---


def test_the_subsets_of_a_project_are_splits(tmp_path: Path) -> None:
    entries = [image(f"{n}.png", BOX, subset="Train", task_id="1") for n in range(3)]
    entries += [image("0.png", subset="Validation", task_id="2")]
    files = [f"images/Train/{n}.png" for n in range(3)] + ["images/Validation/0.png"]
    write(tmp_path / "annotations.xml", document(*entries, of="project"), *files)
    assert recognise(tmp_path).line() == (
        f"{tmp_path}: CVAT XML, splits Train 3, Validation 1; training on Train, evaluating on "
        "Validation"
    )
    assert read(tmp_path, "Validation").paths.tolist() == [
        str(tmp_path / "images" / "Validation" / "0.png")
    ]
    assert len(read(tmp_path, "Train").boxes) == 3
    assert refusal(tmp_path) == (
        f"data.split: missing; {tmp_path} has Train, Validation. Name one of them."
    )


def test_files_called_train_and_val_are_splits_as_datumaro_writes_them(tmp_path: Path) -> None:
    for split, name in (("train", "a.png"), ("val", "b.png")):
        write(tmp_path / f"{split}.xml", document(image(name, BOX)), f"images/{name}")
    assert [split[:2] for split in recognise(tmp_path).splits] == [("train", 1), ("val", 1)]
    assert read(tmp_path, "val").image_ids.tolist() == ["b"]


def test_folders_called_train_and_val_are_splits(tmp_path: Path) -> None:
    for split in ("train", "val"):
        write(tmp_path / split / "annotations.xml", document(image("a.png", BOX)), "images/a.png")
    assert [split[:2] for split in recognise(tmp_path).splits] == [("train", 1), ("val", 1)]
    assert read(tmp_path, "val").paths.tolist() == [str(tmp_path / "val/images/a.png")]


FOUND = "images found by their last part, in another folder than is written"


@pytest.mark.parametrize(
    ("written", "place", "count"),
    [
        ("a.png", "images/a.png", 0),
        ("a.png", "a.png", 0),
        ("a.png", "data/a.png", 0),
        ("cam1/a.png", "images/cam1/a.png", 0),
        ("cam1/a.png", "cam1/a.png", 0),
        ("frame_000000", "images/frame_000000.PNG", 0),
        ("cam1/a.png", "images/a.png", 1),
        ("/mnt/share/a.png", "images/a.png", 1),
        ("../../a.png", "pictures/a.png", 1),
    ],
)
def test_the_image_of_an_entry(tmp_path: Path, written: str, place: str, count: int) -> None:
    write(tmp_path / "annotations.xml", document(image(written, BOX)), place)
    data = read(tmp_path)
    assert data.paths.tolist() == [str(tmp_path / place)]
    assert counts(data).get(FOUND, 0) == count


def test_names_in_sub_folders_are_images_of_their_own(tmp_path: Path) -> None:
    names = ("0001.png", "cam1/0001.png", "cam2/0001.png")
    text = document(*(image(name, BOX) for name in names))
    write(tmp_path / "annotations.xml", text, *(f"images/{name}" for name in names))
    assert read(tmp_path).paths.tolist() == [str(tmp_path / "images" / name) for name in names]


def test_labels_beside_a_folder_of_pictures_as_fiftyone_writes_them(tmp_path: Path) -> None:
    write(tmp_path / "labels.xml", document(image("a.png", BOX)), "data/a.png")
    assert recognise(tmp_path).format == "cvat"
    assert read(tmp_path).boxes.tolist() == [[10, 20, 30, 40]]


# --- what is refused ---


def test_tracks_are_refused_with_the_export_to_make(tmp_path: Path) -> None:
    track = '<track id="0" label="cat"><box frame="0" xtl="1" ytl="2" xbr="3" ybr="4"/></track>'
    path = write(tmp_path / "annotations.xml", document(track))
    assert refusal(tmp_path) == (
        f"{path}: holds tracks, so it is 'CVAT for video'. Export the task as 'CVAT for images "
        "1.1' or as 'COCO 1.0', which hold the frames as images."
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (document(image("a.png", BOX.replace('"cat"', '""'))),
         "a <box> of the image 'a.png' has no label that can be read. Name its class or remove "
         "it."),
        (document(image("", BOX)), "an <image> has no name. Name its file."),
        (document(image("../../b.png", BOX)),
         "the image name '../../b.png' is no path below the folder, and no image of its name lies "
         "there. Write the image's plain name."),
        (document(image("a.png", BOX)).replace("</annotations>", ""),
         "not readable as XML (no element found: line 3, column 0). Repair the file."),
        (document(), "lists no images. Is this the right file?"),
        ('<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><annotations><meta>&b;</meta>'
         "</annotations>",
         "declares XML entities, which are refused as unsafe. Remove its DOCTYPE."),
        ('<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><annotations><meta>&a;</meta>'
         "</annotations>",
         "declares XML entities, which are refused as unsafe. Remove its DOCTYPE."),
        ("<data><annotations><meta/></annotations></data>",
         "begins with <data>, expected <annotations>. Is this a CVAT file?"),
    ],
)  # fmt: skip
def test_mistakes_get_a_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    path = write(tmp_path / "annotations.xml", text, "images/a.png")
    assert refusal(tmp_path) == f"{path}: {sentence}"


def test_an_image_that_stands_twice_is_refused(tmp_path: Path) -> None:
    text = document(image("a.png", BOX), image("a.png", BOX))
    path = write(tmp_path / "annotations.xml", text, "images/a.png")
    assert refusal(tmp_path) == (
        f"{tmp_path}/images/a.png: {path} speaks twice of this image. Keep one, or give each its "
        "own image."
    )


def test_an_export_without_images_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "annotations.xml", document(image("a.png", BOX)))
    assert refusal(tmp_path).startswith(f"{path}: 1 of 1 images cannot be used")
    assert objects(one(tmp_path, BOX), 0) == [("cat", [10, 20, 30, 40], False)]


def test_the_file_itself_leads_to_its_folder(tmp_path: Path) -> None:
    path = write(tmp_path / "annotations.xml", document(image("a.png", BOX)), "images/a.png")
    with pytest.raises(DataError) as caught:
        recognise(path)
    assert str(caught.value) == (
        f"{path}: is a file of a folder that holds CVAT XML. Write data.root={tmp_path}."
    )


def test_missing_places_get_a_sentence(tmp_path: Path) -> None:
    assert refusal(tmp_path / "no") == (
        f"{tmp_path}/no: no such folder. Expected a folder with CVAT XML (annotations.xml); point "
        "to it with data.root=PATH."
    )
    (tmp_path / "a.xml").write_text("<annotation/>")
    assert refusal(tmp_path) == (
        f"{tmp_path}: holds no CVAT XML (annotations.xml); it holds a.xml. Check data.root."
    )
