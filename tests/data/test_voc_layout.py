"""VOC in folders as people and tools have them: recognised, read, and told apart from others."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from detkit.data import Annotations, read_dataset, summary
from detkit.data.recognise import recognise
from detkit.errors import ConfigError, DataError
from tests.oracles import voc_xml, write_image

BOX = (1, 1, 40, 30)


def write(root: Path, files: Mapping[str, str]) -> Path:
    """Files of a folder: an ``.xml`` has the XML of one object of the class named, or none."""
    for seed, (name, content) in enumerate(files.items()):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix.lower() == ".xml":
            file_name = content.partition(" ")[2]
            kind = content.partition(" ")[0]
            objects = [(kind, BOX)] if kind else []
            path.write_text(voc_xml(objects, file_name=file_name))
        elif content:
            path.write_text(content)
        else:
            write_image(path, seed=seed)
    return root


def read(root: Path, split: str = "", **keys: str | float) -> Annotations:
    return read_dataset({"format": "voc", "root": str(root), "split": split, **keys})


def found(data: Annotations, root: Path) -> dict[str, str]:
    """Ids and where their images lie."""
    paths = [str(Path(path).relative_to(root)) for path in data.paths.tolist()]
    return dict(zip(data.image_ids.tolist(), paths, strict=True))


@pytest.mark.parametrize(
    ("annotations", "images"),
    [
        ("annotations", "images"),
        ("annots", "images"),
        ("Annotations", "images"),
        ("ANNOTATIONS", "Images"),
        ("labels", "imgs"),
        ("Annotation", "JPEGImages"),
        ("annotations", "jpegimages"),
        ("xmls", "photos"),
        ("labels", "data"),  # FiftyOne's
        ("annots", "."),  # beside the folder of the annotations
        (".", "."),  # labelImg's default
        ("images", "images"),  # the same in a folder of its own
    ],
)
def test_any_folder_names(tmp_path: Path, annotations: str, images: str) -> None:
    names = {f"{annotations}/{n}.xml": "cat" for n in "abcdef"}
    root = write(tmp_path / "d", {**names, **{f"{images}/{n}.jpg": "" for n in "abcdef"}})
    base = root
    if annotations == "images":
        root = root / "images"
        annotations = images = "."
    line = recognise(root).line()
    assert line == (
        f"{root}: PASCAL VOC, splits all 6; training on 80% of all, evaluating on 20% of all"
    )
    data = read_dataset({"format": "auto", "root": str(root), "split": "all"})
    assert found(data, root) == {n: str(Path(images) / f"{n}.jpg") for n in "abcdef"}
    assert found(read(root), root) == found(data, root)
    assert summary(data) == "6 images (0 without objects), 6 objects of 1 classes"
    assert base.is_dir()


@pytest.mark.parametrize(
    ("annotations", "images"),
    [
        ("{}", "{}"),  # Roboflow's
        ("{}/annotations", "{}/images"),
        ("{}/Annots", "{}/JPEGImages"),
        ("annots/{}", "images/{}"),
    ],
)
def test_a_folder_for_each_split(tmp_path: Path, annotations: str, images: str) -> None:
    of = {"train": "abcd", "valid": "ef", "test": "g"}
    files: dict[str, str] = {"README.roboflow.txt": "exported"}
    for split, names in of.items():
        files |= {f"{annotations.format(split)}/{n}.xml": "cat" for n in names}
        files |= {f"{images.format(split)}/{n}.png": "" for n in names}
    root = write(tmp_path / "d", files)
    assert recognise(root).line() == (
        f"{root}: PASCAL VOC, splits train 4, valid 2, test 1; "
        "training on train, evaluating on valid"
    )
    for split, names in of.items():
        expected = {n: f"{images.format(split)}/{n}.png" for n in names}
        assert found(read(root, split), root) == expected
    with pytest.raises(DataError) as caught:
        read(root)
    assert str(caught.value) == (
        f"{root}: which of its splits test, train, valid? Say data.split=NAME."
    )


def test_lists_of_ids_beside_other_folder_names(tmp_path: Path) -> None:
    files = {f"annots/{n}.xml": "cat" for n in "abc"} | {f"imgs/{n}.jpg": "" for n in "abc"}
    root = write(tmp_path / "d", {**files, "imagesets/main/train.txt": "a\nc\n"})
    assert recognise(root).line().startswith(f"{root}: PASCAL VOC, splits train 2; ")
    assert found(read(root, "train"), root) == {"a": "imgs/a.jpg", "c": "imgs/c.jpg"}


def test_keys_name_what_no_rule_finds(tmp_path: Path) -> None:
    files = {"boxes/a.xml": "cat", "boxes/b.xml": "dog", "scans/a.jpg": "", "scans/b.jpg": ""}
    root = write(tmp_path / "d", files)
    with pytest.raises(DataError) as caught:
        recognise(root)
    assert str(caught.value) == (
        f"{root}: no dataset is recognised, but {root}/boxes holds XML files. If they are PASCAL "
        "VOC's, write data.annotations=boxes, and where their images lie data.images=FOLDER."
    )
    with pytest.raises(DataError) as caught:
        read(root)
    assert str(caught.value) == (
        f"{root}: no folder of VOC's XML files is found (Annotations, annots and the like, or "
        "beside the images); it holds boxes/, scans/. Name it with data.annotations=FOLDER."
    )
    keys = {"annotations": "boxes", "images": "scans"}
    everything = {"a": "scans/a.jpg", "b": "scans/b.jpg"}
    assert found(read(root, **keys), root) == everything
    assert found(read(root, "all", **keys), root) == everything
    recognised = recognise(root, "", keys)
    assert recognised.train == (
        {"format": "voc", "root": str(root), "split": "all", "part": "train", **keys},
    )
    with pytest.raises(DataError) as caught:
        read(root, annotations="boxes")
    assert str(caught.value) == (
        f"{root}: annotation files lie in boxes/, but no folder of their images is found "
        "(JPEGImages, images, imgs and the like); it holds boxes/, scans/. Name it with "
        "data.images=FOLDER."
    )
    with pytest.raises(DataError) as caught:  # never all of it, for two purposes
        read(root, "test", **keys)
    assert str(caught.value) == (
        f"{root}/ImageSets/Main/test.txt: no such split file. {root} holds no ImageSets/Main/*.txt."
    )
    with pytest.raises(ConfigError) as refused:
        read(root, annotations="../boxes")
    assert str(refused.value) == (
        f"data.annotations: '../boxes' leaves {root}. Its path counts from data.root. Write a "
        "folder below it, and let data.root hold both annotations and images."
    )
    with pytest.raises(DataError) as caught:
        read(root, annotations="boxes", images="scan")
    assert str(caught.value) == (
        f"data.images: {root}/scan is no folder; it holds boxes/, scans/. Its "
        "path counts from data.root."
    )


def test_a_split_stands_in_the_keys(tmp_path: Path) -> None:
    files = {f"{kind}_{split}/{split}.{end}": text for split in ("train", "val")
             for kind, end, text in (("xml", "xml", "cat"), ("img", "jpg", ""))}  # fmt: skip
    root = write(tmp_path / "d", files)
    keys = {"annotations": "xml_{split}", "images": "img_{split}"}
    for split in ("train", "val"):
        assert found(read(root, split, **keys), root) == {split: f"img_{split}/{split}.jpg"}


def test_a_recipe_takes_the_folders_from_the_command_line(tmp_path: Path) -> None:
    from detkit.engine.build import read_data
    from detkit.experiment.read import read_experiment

    files = {f"boxes/{n}.xml": "cat" for n in "abcde"} | {f"scans/{n}.jpg": "" for n in "abcde"}
    root = write(tmp_path / "d", files)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "model: {name: yolo_v2_tiny}\n"
        "data:\n"
        "  train: {format: voc, root: nowhere, split: trainval}\n"
        "  eval: {format: voc, root: nowhere, split: test}\n"
        "train: {epochs: 1}\n"
    )
    words = [f"data.root={root}", "data.annotations=boxes", "data.images=scans"]
    for data_format in ("auto", "voc"):
        more = ["data.format=auto"] if data_format == "auto" else ["data.split=all"]
        experiment, _ = read_experiment(recipe, [*words, *more])
        places = [entry["annotations"] for entry in experiment.data.train + experiment.data.eval]
        assert places == ["boxes", "boxes"]
        if data_format == "auto":
            train, measured = read_data(experiment)
            assert measured is not None
            assert sorted([*train.image_ids, *measured.image_ids]) == list("abcde")


# --- which image belongs to an id ---


@pytest.mark.parametrize("ending", ["png", "JPG", "jpeg", "bmp", "jpg", "Png"])
def test_the_id_is_believed_before_the_file_name(tmp_path: Path, ending: str) -> None:
    files = {f"Annotations/{n}.xml": f"cat 2.{ending}" for n in range(3)}
    root = write(tmp_path / "d", files)
    for n in range(3):
        write_image(root / "JPEGImages" / f"{n}.png", seed=n)
        (root / "JPEGImages" / f"{n}.png").rename(root / "JPEGImages" / f"{n}.{ending}")
    assert found(read(root), root) == {f"{n}": f"JPEGImages/{n}.{ending}" for n in range(3)}


def test_ids_may_have_folders(tmp_path: Path) -> None:
    """CVAT's sub-folders, with a list and without."""
    ids = ["0001", "cam1/0001", "cam2/0001"]
    files = {f"Annotations/{i}.xml": "cat cam1/0001.png" for i in ids}
    files |= {f"JPEGImages/{i}.png": "" for i in ids}
    root = write(tmp_path / "d", files)
    expected = {i: f"JPEGImages/{i}.png" for i in ids}
    assert found(read(root), root) == expected
    write(root, {"ImageSets/Main/train.txt": "\n".join(ids)})
    assert found(read(root, "train"), root) == expected


def test_a_renamed_image_is_found_by_its_file_name(tmp_path: Path) -> None:
    files = {
        "annots/a.xml": "cat b_new.png",
        "annots/b.xml": "cat sub\\c_new.png",
        "images/b_new.png": "",
        "images/sub/c_new.png": "",
    }
    root = write(tmp_path / "d", files)
    assert found(read(root), root) == {"a": "images/b_new.png", "b": "images/sub/c_new.png"}


def test_an_image_that_two_ids_claim_is_refused(tmp_path: Path) -> None:
    files = {"annots/0.xml": "cat 2.png", "annots/2.xml": "dog 2.png", "images/2.png": ""}
    root = write(tmp_path / "d", files)
    with pytest.raises(DataError) as caught:
        read(root)
    assert str(caught.value) == (
        f"{root}/images/2.png: {root}/annots/0.xml and {root}/annots/2.xml both speak of this "
        "image, 0.xml by its <filename>, as no image is called 0. Restore that image, or remove "
        "its annotation file."
    )


def test_of_two_images_of_an_id_the_file_name_decides(tmp_path: Path) -> None:
    files = {"annots/a.xml": "cat a.bmp", "images/a.png": "", "images/a.bmp": ""}
    root = write(tmp_path / "d", files)
    assert found(read(root), root) == {"a": "images/a.bmp"}
    (root / "annots" / "a.xml").write_text(voc_xml([]))
    assert found(read(root), root) == {"a": "images/a.png"}
    assert summary(read(root)) == "1 images (1 without objects), 0 objects of 0 classes"


def test_orphans_are_counted(tmp_path: Path) -> None:
    files = {f"{n}.xml": "cat" for n in "abc"} | {f"{n}.jpg": "" for n in "abxy"}
    root = write(tmp_path / "d", files)
    assert summary(read(root)) == (
        "2 images (0 without objects), 2 objects of 1 classes, "
        "2 images without an annotation file left out (data.unannotated=negatives takes them as "
        "negatives), 1 unreadable images left out "
        f"(first: {root}/c.jpg: no such image file. Check the path.)"
    )


# --- several folders, and other formats ---


def test_the_folder_that_has_the_images_is_taken(tmp_path: Path) -> None:
    files = {f"annots/{n}.xml": "cat" for n in "ab"} | {f"images/{n}.jpg": "" for n in "ab"}
    root = write(tmp_path / "d", {**files, "pictures/logo.jpg": "", "thumb.jpg": ""})
    assert found(read(root), root) == {n: f"images/{n}.jpg" for n in "ab"}
    write(root, {"pictures/a.jpg": ""})
    with pytest.raises(DataError) as caught:
        read(root)
    assert str(caught.value) == (
        f"{root}: holds images in images/ and pictures/. Say which are meant with "
        "data.images=FOLDER."
    )
    assert found(read(root, images="images"), root) == {n: f"images/{n}.jpg" for n in "ab"}
    write(root, {"labels/a.xml": "cat"})
    with pytest.raises(DataError) as caught:
        recognise(root)
    assert str(caught.value) == (
        f"{root}: holds annotation files in annots/ and labels/. Say which are meant with "
        "data.annotations=FOLDER."
    )


def test_a_folder_called_data_is_the_last_to_be_taken(tmp_path: Path) -> None:
    files = {"annots/a.xml": "cat", "images/a.jpg": "", "data/a.jpg": "", "data/b.jpg": ""}
    root = write(tmp_path / "d", files)
    assert found(read(root), root) == {"a": "images/a.jpg"}


def test_the_official_tree_keeps_its_folders(tiny_voc: Path) -> None:
    before = found(read(tiny_voc, "trainval"), tiny_voc)
    write(tiny_voc, {"labels/000001.xml": "bird", "images/000001.jpg": "", "000001.jpg": ""})
    assert found(read(tiny_voc, "trainval"), tiny_voc) == before
    assert read(tiny_voc, "trainval").class_names == ("cat", "dog")


def test_yolo_text_is_not_taken_for_voc(tmp_path: Path) -> None:
    root = write(tmp_path / "d", {"images/a.jpg": "", "labels/a.txt": "0 0.5 0.5 0.2 0.2\n"})
    write(root, {"notes/info.xml": "cat"})
    assert recognise(root).format == "yolo"
    write(root, {"labels/a.xml": "cat"})
    with pytest.raises(DataError) as caught:
        recognise(root)
    assert str(caught.value) == (
        f"{root}: holds PASCAL VOC (splits all) and YOLO text (splits all). Say which with "
        "data.format=voc or data.format=yolo, and name data.split."
    )


def test_other_xml_is_not_taken_for_voc(tmp_path: Path) -> None:
    root = tmp_path / "d"
    write_image(root / "a.jpg")
    (root / "annotations.xml").write_text("<?xml version='1.0'?>\n<annotations></annotations>")
    (root / "sitemap.xml").write_text("<urlset/>")
    with pytest.raises(DataError, match="no dataset is recognised; it holds"):
        recognise(root)


def test_a_format_that_has_its_own_way_to_name_places(tmp_path: Path) -> None:
    root = tmp_path / "d"
    write_image(root / "images" / "a.jpg")
    (root / "labels").mkdir()
    (root / "labels" / "a.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    with pytest.raises(ConfigError) as caught:
        recognise(root, "", {"images": "images"})
    assert str(caught.value) == "data.images: does not go with YOLO text. Leave it out."


def test_cocos_json_may_be_named(source_json: Path) -> None:
    root = source_json.parent
    recognised = recognise(root, "", {"annotations": "mine.json"})
    assert (recognised.format, recognised.splits[0].images) == ("coco", 2)
    assert len(read_dataset(recognised.train[0])) + len(read_dataset(recognised.val[0])) == 2


@pytest.fixture
def source_json(tmp_path: Path) -> Path:
    path = tmp_path / "coco" / "mine.json"
    for name in ("a.jpg", "b.jpg"):
        write_image(path.parent / name)
    path.write_text(
        '{"images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}],'
        ' "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 9, 9]}],'
        ' "categories": [{"id": 1, "name": "cat"}]}'
    )
    return path


# --- real ones, and names in other case ---


@pytest.mark.data
def test_photos_as_people_have_them(data_root: Path, tmp_path: Path) -> None:
    """Animals: annots and images, one photo cut by twenty bytes, no split."""
    root = data_root / "kangaroo"
    recognised = recognise(root)
    assert recognised.line() == (
        f"{root}: PASCAL VOC, splits all 164; training on 80% of all, evaluating on 20% of all"
    )
    parts = [read_dataset(entry) for entry in recognised.train + recognised.val]
    assert sum(map(len, parts)) == 164
    assert sum(len(data.boxes) for data in parts) == 266
    kind = "truncated JPEGs read as far as they go"
    assert sorted(data.report.counts[kind] for data in parts) == [0, 1]
    assert not any(data.report.unreadable for data in parts)


@pytest.mark.data
def test_other_formats_stay_what_they_are(data_root: Path) -> None:
    kinds = {name: recognise(data_root / name).format for name in ("bccd", "coco_mini", "coco128")}
    assert kinds == {"bccd": "voc", "coco_mini": "coco", "coco128": "yolo"}


@pytest.mark.parametrize(
    ("annotation", "image"),
    [
        ("ANNOTATIONS/BloodImage_1.XML", "Images/BLOODIMAGE_1.JPG"),
        ("Annotations/BloodImage_1.xml", "JPEGImages/bloodimage_1.jpg"),
        ("annots/sub/Cam.xml", "images/Sub/cam.png"),
    ],
)
def test_names_that_differ_in_case_alone(annotation: str, image: str, tmp_path: Path) -> None:
    root = write(tmp_path / "d", {annotation: "cat", image: ""})
    data = read(root)
    (path,) = found(data, root).values()
    assert path == image
    assert "unreadable" not in summary(data)
    assert "left out" not in summary(data)


def test_a_list_whose_ids_differ_in_case_from_files(tmp_path: Path) -> None:
    files = {"Annotations/One.XML": "cat", "Annotations/two.XML": "dog", "JPEGImages/ONE.jpg": ""}
    lists = {"JPEGImages/two.jpg": "", "ImageSets/Main/train.txt": "one\ntwo\n"}
    root = write(tmp_path / "d", files | lists)
    assert found(read(root, "train"), root) == {
        "one": "JPEGImages/ONE.jpg",
        "two": "JPEGImages/two.jpg",
    }


def test_case_counts_where_names_differ_in_it(tmp_path: Path) -> None:
    files = {"Annotations/a.xml": "cat", "Annotations/A.xml": "dog"}
    root = write(tmp_path / "d", {**files, "JPEGImages/a.jpg": "", "JPEGImages/A.jpg": ""})
    assert found(read(root), root) == {"a": "JPEGImages/a.jpg", "A": "JPEGImages/A.jpg"}
    (root / "JPEGImages" / "A.jpg").unlink()  # never the image of the other one
    data = read(root, max_unreadable=0.5)
    assert data.report.unreadable[0][0] == f"{root}/JPEGImages/A.jpg"
    root = write(tmp_path / "e", {"Annotations/ab.xml": "cat"})
    write(root, {"JPEGImages/AB.jpg": "", "JPEGImages/Ab.jpg": ""})
    with pytest.raises(DataError) as caught:
        read(root)
    assert str(caught.value) == (
        f"{root}/Annotations/ab.xml: no image is called ab in {root}/JPEGImages, but AB.jpg and "
        "Ab.jpg are, in other upper and lower case. Rename the one that is meant."
    )
