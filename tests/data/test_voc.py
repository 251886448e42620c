from __future__ import annotations

import shutil
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from detkit.data import Annotations, DetectionDataset, for_training, join, read_dataset, summary
from detkit.errors import ConfigError, DataError
from detkit.files import leaves_folder
from tests.oracles import voc_xml, write_image, write_voc

HOW_TO_GET = (
    "Expected a PASCAL VOC tree, such as VOCdevkit with VOC2007/Annotations, VOC2007/ImageSets "
    "and VOC2007/JPEGImages; get it with 'detkit data get voc2007' (or voc2012, bccd), "
    "or point to yours with data.root=PATH."
)


def read(root: Path, split: str = "trainval", classes: tuple[str, ...] = (), **more) -> Annotations:
    return read_dataset({"format": "voc", "root": str(root), "split": split, **more}, classes)


def one_page(tmp_path: Path, xml: str, **more: object) -> Annotations:
    return read(write_voc(tmp_path / "voc", {"a": xml}), **more)


def counts(annotations: Annotations) -> dict[str, int]:
    return {kind: count for kind, count in annotations.report.counts.items() if count}


def test_reads_a_split(tiny_voc: Path) -> None:
    data = read(tiny_voc)
    assert data.class_names == ("cat", "dog")
    assert data.image_ids.tolist() == ["000001", "000002", "000003", "000004"]
    assert data.paths[0] == str(tiny_voc / "JPEGImages" / "000001.jpg")
    assert data.sizes.tolist() == [[60, 80]] * 4
    assert data.offsets.tolist() == [0, 2, 3, 3, 5]
    assert data.boxes.tolist() == [
        [0, 0, 40, 30],
        [29, 19, 80, 60],
        [10, 20, 30, 50],
        [4, 4, 44, 54],
        [49, 4, 79, 24],
    ]
    assert data.labels.tolist() == [1, 0, 0, 1, 1]
    assert data.difficult.tolist() == [False, False, False, False, True]
    assert not data.crowd.any()
    assert data.area.tolist() == [1200, 2091, 600, 2000, 600]  # the devkit's (w + 1) * (h + 1)
    assert counts(data) == {}
    assert summary(data) == "4 images (1 without objects), 5 objects of 2 classes, 1 difficult"
    sample = DetectionDataset(data)[2]
    assert sample.size == (60, 80)
    assert sample.target.boxes.shape == (0, 4)


def test_given_classes_order_the_labels(tiny_voc: Path) -> None:
    data = read(tiny_voc, classes=("dog", "bird", "cat"))
    assert data.class_names == ("dog", "bird", "cat")
    assert data.labels.tolist() == [0, 2, 2, 0, 0]


def test_real_tree_with_years(tiny_voc: Path, tmp_path: Path) -> None:
    devkit = tmp_path / "VOCdevkit"
    shutil.copytree(tiny_voc, devkit / "VOC2007")
    write_voc(devkit / "VOC2012", {"2008_000001": voc_xml([("bus", (1, 1, 20, 20))])})
    years = [read(devkit, "VOC2007/trainval"), read(devkit, "VOC2012/trainval")]
    assert read(devkit / "VOC2007").image_ids.tolist() == years[0].image_ids.tolist()
    both = join(years)
    assert both.class_names == ("bus", "cat", "dog")
    assert both.image_ids.tolist()[-1] == "2008_000001"
    assert both.labels.tolist() == [2, 1, 1, 2, 2, 0]
    with pytest.raises(DataError) as caught:
        read(devkit, "trainval")
    listing = devkit / "ImageSets" / "Main" / "trainval.txt"
    assert str(caught.value) == (f"{listing}: no such split file. Did you mean 'VOC2012/trainval'?")


def test_a_class_split_file_has_flags(tiny_voc: Path) -> None:
    listing = tiny_voc / "ImageSets" / "Main" / "cat_trainval.txt"
    listing.write_text("000001  1\n000002  0\n000003 -1\n")
    assert read(tiny_voc, "cat_trainval").image_ids.tolist() == ["000001", "000002", "000003"]


def test_ids_may_hold_spaces(tmp_path: Path) -> None:
    folder = write_voc(tmp_path / "voc", {"photo 1": voc_xml([]), "my photo": voc_xml([])})
    assert read(folder).image_ids.tolist() == ["photo 1", "my photo"]


def test_parts_are_not_objects(tmp_path: Path) -> None:
    part = "<part><name>head</name><bndbox><xmin>2</xmin><ymin>2</ymin><xmax>9</xmax>"
    part += "<ymax>9</ymax></bndbox></part>"
    xml = voc_xml([("person", (1, 1, 40, 50))])
    data = one_page(tmp_path, xml.replace("<difficult>", part + "<difficult>"))
    assert data.class_names == ("person",)
    assert data.boxes.tolist() == [[0, 0, 40, 50]]


# --- fates of boxes ---


@pytest.mark.parametrize(
    ("corners", "kept", "kind"),
    [
        ((10, 20, 30, 40), [9, 19, 30, 40], None),
        ((10.5, "20.25", 30.0, 40.75), [9.5, 19.25, 30, 40.75], None),
        ((1, 1, 80, 60), [0, 0, 80, 60], None),
        ((10, 20, 10, 40), [9, 19, 10, 40], None),  # one pixel wide
        ((300.3, 20, 300.3, 40), None, "boxes outside the image dropped"),
        ((33.3, 20, 33.3, 40), [32.3, 19, 33.3, 40], None),
        ((30, 20, 10, 40), None, "inverted boxes dropped"),
        ((10, 40, 30, 20), None, "inverted boxes dropped"),
        ((0, 0, 30, 40), [0, 0, 30, 40], "boxes clipped to the image"),
        ((-9, 20, 200, 40), [0, 19, 80, 40], "boxes clipped to the image"),
        ((81, 20, 99, 40), None, "boxes outside the image dropped"),
        ((80, 20, 99, 40), [79, 19, 80, 40], "boxes clipped to the image"),
        ((-30, 20, 0, 40), None, "boxes outside the image dropped"),
        (("nan", 20, 30, 40), None, "boxes without numbers dropped"),
        (("inf", 20, 30, 40), None, "boxes without numbers dropped"),
        (("ten", 20, 30, 40), None, "boxes without numbers dropped"),
        (("", 20, 30, 40), None, "boxes without numbers dropped"),
        ((1, 1, "1e300", 40), None, "boxes without numbers dropped"),
    ],
)
def test_fate_of_a_box(tmp_path: Path, corners: tuple, kept: list | None, kind: str | None) -> None:
    data = one_page(tmp_path, voc_xml([("cat", corners), ("dog", (1, 1, 9, 9))]), origin=1)
    expected = [[0, 0, 9, 9]] if kept is None else [kept, [0, 0, 9, 9]]
    np.testing.assert_allclose(data.boxes, expected, rtol=1e-6)
    assert data.labels.tolist() == ([1] if kept is None else [0, 1])
    assert counts(data) == ({kind: 1} if kind else {})


def test_one_pixel_box_is_measured_but_not_trained_on(tmp_path: Path) -> None:
    data = one_page(tmp_path, voc_xml([("cat", (10, 20, 10, 40)), ("cat", (1, 1, 9, 9))]))
    assert len(data.boxes) == 2
    trained = for_training(data)
    assert trained.boxes.tolist() == [[0, 0, 9, 9]]
    assert summary(trained) == (
        "1 images (0 without objects), 1 objects of 1 classes, "
        "1 one-pixel boxes dropped from training"
    )


quarters = st.integers(-400, 800).map(lambda value: value / 4)  # exact in float32


@given(
    st.lists(st.tuples(*[quarters | st.just(float("nan"))] * 4), max_size=8),
    st.sampled_from((0, 1)),
)
def test_kept_boxes_agree_with_a_slow_loop(
    tmp_path_factory: pytest.TempPathFactory, corners: list[tuple[float, ...]], origin: int
) -> None:
    folder = tmp_path_factory.getbasetemp() / "loop"
    write_voc(folder, {"a": voc_xml([("cat", c) for c in corners])})
    data = read(folder, origin=origin)
    expected = []
    for xmin, ymin, xmax, ymax in corners:
        if any(value != value for value in (xmin, ymin, xmax, ymax)):
            continue
        left, top = xmin - origin, ymin - origin
        if min(xmax - left, ymax - top) < origin or left >= xmax or top >= ymax:
            continue
        if xmax <= 0 or ymax <= 0 or left >= 80 or top >= 60:
            continue
        expected.append([max(left, 0), max(top, 0), min(xmax, 80), min(ymax, 60)])
    np.testing.assert_array_equal(data.boxes, np.reshape(expected, (-1, 4)))
    for index in range(len(data)):
        data.target(index)  # checks every box


# --- fates of files ---


def test_size_is_taken_from_the_image(tmp_path: Path) -> None:
    pages = {
        "a": voc_xml([("cat", (1, 1, 99, 99))], size=None),
        "b": voc_xml([("cat", (1, 1, 9, 9))], size=(0, 0)),
        "c": voc_xml([("cat", (1, 1, 99, 99))], size=(480, 640)),
    }
    data = read(write_voc(tmp_path / "voc", pages))
    assert data.sizes.tolist() == [[60, 80]] * 3
    assert data.boxes.tolist() == [[0, 0, 80, 60], [0, 0, 9, 9], [0, 0, 80, 60]]
    assert summary(data) == (
        "3 images (0 without objects), 3 objects of 1 classes, 2 annotations without a size, "
        "1 annotations of another size than the image, 2 boxes clipped to the image"
    )


def test_size_is_that_of_the_upright_image(tmp_path: Path) -> None:
    folder = write_voc(tmp_path / "voc", {"a": voc_xml([], size=(80, 60))})
    path = folder / "JPEGImages" / "a.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(path) as image:
        turned = image.copy()
    turned.save(path, exif=exif)
    data = read(folder)
    assert data.sizes.tolist() == [[80, 60]]
    assert counts(data) == {}
    assert DetectionDataset(data)[0].size == (80, 60)


def test_repeated_ids_are_read_once(tiny_voc: Path) -> None:
    listing = tiny_voc / "ImageSets" / "Main" / "twice.txt"
    listing.write_text("000001\n000002\n000001\n000001\n")
    data = read(tiny_voc, "twice")
    assert data.image_ids.tolist() == ["000001", "000002"]
    assert counts(data) == {"repeated ids read once": 2}


def test_unusable_images_are_left_out_and_listed(tiny_voc: Path) -> None:
    images = tiny_voc / "JPEGImages"
    (images / "000001.jpg").unlink()
    whole = (images / "000004.jpg").read_bytes()
    (images / "000004.jpg").write_bytes(whole[:500])
    with pytest.raises(DataError) as caught:
        read(tiny_voc)
    missing = f"{images}/000001.jpg: no such image file. Check the path."
    broken = f"{images}/000004.jpg: the image is cut off or damaged. Copy or download it again."
    assert str(caught.value) == (
        f"{tiny_voc}/ImageSets/Main/trainval.txt: 2 of 4 images cannot be used, more than "
        "the 1 that max_unreadable=0.01 allows. Repair them, or raise max_unreadable in the "
        f"config's entry under data (data.max_unreadable=SHARE). The first: {missing} {broken}"
    )
    data = read(tiny_voc, max_unreadable=0.5)
    assert data.image_ids.tolist() == ["000002", "000003"]
    assert data.class_names == ("cat", "dog")  # the labels do not hang on a broken file
    assert data.boxes.tolist() == [[10, 20, 30, 50]]
    assert data.report.unreadable == (
        (f"{images}/000001.jpg", "no such image file. Check the path."),
        (
            f"{images}/000004.jpg",
            "the image is cut off or damaged. Copy or download it again.",
        ),
    )
    assert summary(data) == (
        "2 images (1 without objects), 1 objects of 2 classes, 2 unreadable images left out "
        f"(first: {missing})"
    )


def test_one_bad_photo_stops_no_small_set(tiny_voc: Path, tmp_path: Path) -> None:
    images = tiny_voc / "JPEGImages"
    (images / "000001.jpg").unlink()
    assert read(tiny_voc).image_ids.tolist() == ["000002", "000003", "000004"]
    with pytest.raises(DataError, match="1 of 4 images cannot be used, more than the 0 that"):
        read(tiny_voc, max_unreadable=0)
    alone = write_voc(tmp_path / "alone", {"a": voc_xml([])})
    (alone / "JPEGImages" / "a.jpg").unlink()
    with pytest.raises(DataError, match="1 of 1 images cannot be used, more than the 0 that"):
        read(alone)
    assert len(read(alone, max_unreadable=1)) == 0


def test_a_cut_photo_is_used_and_counted(tiny_voc: Path) -> None:
    path = tiny_voc / "JPEGImages" / "000002.jpg"
    path.write_bytes(path.read_bytes()[:-20])
    for _ in range(2):  # looked at, then remembered
        data = read(tiny_voc)
        assert len(data) == 4
        assert counts(data) == {"truncated JPEGs read as far as they go": 1}
    assert DetectionDataset(data)[1].size == (60, 80)


def test_image_may_have_another_name_or_extension(tmp_path: Path) -> None:
    pages = {
        "a": voc_xml([], file_name="C:\\photos\\other.png"),
        "b": voc_xml([], file_name="nowhere.jpg"),
        "c": voc_xml([]),
        "d": voc_xml([], file_name="../../etc/secret.jpg"),  # not needed: d.jpg is there
    }
    folder = write_voc(tmp_path / "voc", pages)
    images = folder / "JPEGImages"
    for name, new in (("a", "other.png"), ("b", "b.PNG"), ("c", "c.jpeg")):
        (images / f"{name}.jpg").unlink()
        write_image(images / new)
    with pytest.raises(DataError) as caught:
        read(folder)
    assert str(caught.value) == (
        f"{folder}/Annotations/a.xml: <filename> 'C:\\\\photos\\\\other.png' leaves the folder, "
        f"and {images}/a.jpg does not exist. Write the image's plain name."
    )
    (folder / "Annotations" / "a.xml").write_text(voc_xml([], file_name="other.png"))
    names = [Path(path).name for path in read(folder).paths]
    assert names == ["other.png", "b.PNG", "c.jpeg", "d.jpg"]


# --- refusals ---


def refusal(root: Path, split: str = "trainval", classes: tuple[str, ...] = ()) -> str:
    with pytest.raises(DataError) as caught:
        read(root, split, classes)
    return str(caught.value)


def test_missing_root_says_what_and_where(tmp_path: Path) -> None:
    root = tmp_path / "VOCdevkit"
    assert refusal(root) == f"{root}: no such folder. {HOW_TO_GET}"


def test_missing_split_names_its_neighbour(tiny_voc: Path, tmp_path: Path) -> None:
    assert refusal(tiny_voc, "trainvall") == (
        f"{tiny_voc}/ImageSets/Main/trainvall.txt: no such split file. Did you mean 'trainval'?"
    )
    assert refusal(tiny_voc, "zzz") == (
        f"{tiny_voc}/ImageSets/Main/zzz.txt: no such split file. Known: test, trainval."
    )
    (tmp_path / "empty").mkdir()
    assert refusal(tmp_path / "empty") == (
        f"{tmp_path}/empty/ImageSets/Main/trainval.txt: no such split file. "
        f"{tmp_path}/empty holds no ImageSets/Main/*.txt."
    )


def test_split_without_ids_is_refused(tiny_voc: Path) -> None:
    listing = tiny_voc / "ImageSets" / "Main" / "none.txt"
    listing.write_text("\n \n")
    assert refusal(tiny_voc, "none") == f"{listing}: lists no images. Write one id a line."


@pytest.mark.parametrize("bad", ["../000001", "/etc/passwd", "a/../../b", "C:\\x", "..\\x"])
def test_id_or_split_that_leaves_the_folder_is_refused(tiny_voc: Path, bad: str) -> None:
    listing = tiny_voc / "ImageSets" / "Main" / "bad.txt"
    listing.write_text(f"000001\n{bad}\n")
    assert refusal(tiny_voc, "bad") == (
        f"{listing}: id {bad!r} leaves the folder. Write file names without '..'."
    )
    assert refusal(tiny_voc, bad) == (
        f"data.split: {bad!r} leaves {tiny_voc}. Write [FOLDER/]NAME."
    )


@given(st.text(alphabet="ab./\\:", max_size=12))
def test_what_does_not_leave_stays_inside(name: str) -> None:
    import ntpath
    import posixpath

    for system in (posixpath, ntpath):
        if not leaves_folder(name):
            inside = system.normpath(system.join("/x/y", name))
            assert inside.replace("\\", "/").startswith("/x/y")


def test_an_id_without_annotation_and_image_is_refused(tiny_voc: Path) -> None:
    path = tiny_voc / "Annotations" / "000003.xml"
    path.unlink()
    (tiny_voc / "JPEGImages" / "000003.jpg").unlink()
    assert refusal(tiny_voc) == (
        f"{path}: no such annotation file, though {tiny_voc}/ImageSets/Main/trainval.txt lists "
        "the id. Restore it or remove the line; the test sets of VOC 2008 to 2012 have no public "
        "annotations."
    )


def test_entities_are_refused(tmp_path: Path) -> None:
    bomb = '<!DOCTYPE b [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]>\n'
    folder = write_voc(tmp_path / "voc", {"a": bomb + voc_xml([("&b;", (1, 1, 9, 9))])})
    assert refusal(folder) == (
        f"{folder}/Annotations/a.xml: declares XML entities, which are refused as unsafe. "
        "Remove its DOCTYPE."
    )


@pytest.mark.parametrize("text", ["", "not xml", "<annotation><object>", "<a>&#0;</a>"])
def test_broken_xml_is_refused(tmp_path: Path, text: str) -> None:
    folder = write_voc(tmp_path / "voc", {"a": text})
    with pytest.raises(ElementTree.ParseError) as parsing:
        ElementTree.fromstring(text)
    assert refusal(folder) == (
        f"{folder}/Annotations/a.xml: not readable as XML ({parsing.value}). Repair the file."
    )


def test_another_kind_of_xml_is_refused(tmp_path: Path) -> None:
    folder = write_voc(tmp_path / "voc", {"a": "<svg/>"})
    assert refusal(folder) == (
        f"{folder}/Annotations/a.xml: begins with <svg>, expected <annotation>. Is this a VOC file?"
    )


def test_unknown_class_names_its_neighbour(tiny_voc: Path) -> None:
    path = tiny_voc / "Annotations" / "000001.xml"
    path.write_text(voc_xml([("cat", (1, 1, 9, 9)), ("dgo", (1, 1, 9, 9))]))
    assert refusal(tiny_voc, classes=("cat", "dog")) == (
        f"{path}: class 'dgo' is not in data.classes. Did you mean 'dog'? data.classes has 2: cat, "
        "dog; the data has 3: cat, dgo, dog. "
        "Name all of them, or none, which takes the data's. "
        "Or leave the objects of other classes out: 'data.only=[cat, dog]'."
    )


def test_object_without_a_name_is_refused(tmp_path: Path) -> None:
    xml = voc_xml([("cat", (1, 1, 9, 9)), (" ", (1, 1, 9, 9))])
    folder = write_voc(tmp_path / "voc", {"a": xml})
    assert refusal(folder) == (
        f"{folder}/Annotations/a.xml: object 2 has no <name>. Name its class or remove it."
    )


def test_misspelt_setting_names_its_neighbour(tiny_voc: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tiny_voc, max_unredable=0.5)
    assert str(caught.value) == ("data.max_unredable: unknown key. Did you mean 'max_unreadable'?")


# --- the real thing ---


@pytest.mark.data
def test_blood_cells(data_root: Path) -> None:
    start = time.perf_counter()
    data = join([read(data_root / "bccd", "trainval"), read(data_root / "bccd", "test")])
    assert time.perf_counter() - start < 5  # a fraction of a second when the machine is free
    assert data.class_names == ("Platelets", "RBC", "WBC")
    assert np.bincount(data.labels).tolist() == [361, 4155, 372]
    assert len(for_training(data).boxes) == len(data.boxes) - 2
    assert data.report.unreadable == ()
    sample = DetectionDataset(data)[0]
    root = ElementTree.parse(data_root / "bccd" / "Annotations" / f"{sample.image_id}.xml")
    for entry, box in zip(root.iter("bndbox"), sample.target.boxes.tolist(), strict=True):
        xmin, ymin, xmax, ymax = (int(entry.findtext(side, "")) for side in
                                  ("xmin", "ymin", "xmax", "ymax"))  # fmt: skip
        assert box == [max(xmin - 1, 0), max(ymin - 1, 0), xmax, ymax]
