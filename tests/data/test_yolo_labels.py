"""Which label file belongs to which image of YOLO text, and what lacks the other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from detkit.data import Annotations, read_dataset
from detkit.data.recognise import recognise
from detkit.data.yolo_labels import find_labels
from detkit.errors import DataError
from detkit.image_files import EXTENSIONS
from tests.oracles import voc_xml, write_image, write_voc

ROW = "0 0.5 0.5 0.5 0.5\n"
KEPT = "label files that keep the ending of their image's name"
CASE = "label files found in other upper and lower case or Unicode form"
PREFIX = "label files found by their name without Label Studio's prefix"
SECOND = "second label files of an image passed over"
SHARED = "images that share a label file with another of their name"
NEGATIVE = "images without a label file, taken as empty"
LOST = "label files without an image (first: {})"
UNREAD = "images of a kind that is not read (first: {})"


def write(root: Path, images: str, labels: Mapping[str, str] | str) -> Path:
    """Images, and label files with a row or other content; all paths below ``root``."""
    for name in images.split():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix.lower() in EXTENSIONS:
            Image.new("RGB", (80, 60)).save(path, format="PNG")
        else:
            path.write_bytes(b"\0\0\0\x20ftypheic")
    texts = dict.fromkeys(labels.split(), ROW) if isinstance(labels, str) else labels
    for name, text in texts.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (root / "data.yaml").write_text("names: [cat, dog]\n")
    return root


def read(root: Path, split: str = "", **keys: Any) -> Annotations:
    return read_dataset({"format": "yolo", "root": str(root), "split": split, **keys})


def counts(data: Annotations) -> dict[str, int]:
    return {kind: count for kind, count in data.report.counts.items() if count}


def objects(data: Annotations) -> dict[str, list[int]]:
    """Labels of the objects of each image, by its file's name."""
    return {Path(path).name: data.target(index).labels.tolist()
            for index, path in enumerate(data.paths)}  # fmt: skip


# --- the label file of an image ---


@pytest.mark.parametrize(
    ("labels", "noted"),
    [
        ("labels/a.txt labels/b.txt", {}),
        ("images/a.txt labels/b.txt", {}),
        ("labels/a.png.txt labels/b.JPG.txt", {KEPT: 2}),
        ("images/a.png.txt labels/b.txt", {KEPT: 1}),
        ("labels/a.TXT labels/b.TXT", {CASE: 2}),
        ("labels/A.txt labels/b.txt", {CASE: 1}),
        ("labels/a.PNG.txt labels/b.jpg.Txt", {CASE: 2}),
        ("labels/1b2c3d4e-a.txt labels/0123abcd-b.txt", {PREFIX: 2}),
    ],
)
def test_a_label_file_is_found_by_its_name(
    tmp_path: Path, labels: str, noted: dict[str, int]
) -> None:
    root = write(tmp_path, "images/a.png images/b.JPG", labels)
    assert objects(read(root)) == {"a.png": [0], "b.JPG": [0]}
    assert counts(read(root)) == noted
    assert recognise(root).splits[0].images == 2


def test_a_form_of_unicode_is_no_difference(tmp_path: Path) -> None:
    root = write(tmp_path, "images/caf\u00e9.png", "labels/cafe\u0301.txt")
    assert counts(read(root)) == {CASE: 1}


@pytest.mark.parametrize(
    ("images", "labels", "found"),
    [
        # a.txt is a's by name, so A, which it might be as well, has none
        ("images/a.png images/A.jpg", "labels/a.txt", {"a.png": [0], "A.jpg": []}),
        ("images/a.png images/a.jpg", "labels/a.png.txt labels/a.jpg.txt",
         {"a.png": [0], "a.jpg": [0]}),
        ("images/a.png images/a.jpg", "labels/a.png.txt", {"a.png": [0], "a.jpg": []}),
    ],
)  # fmt: skip
def test_no_image_is_given_the_label_file_of_another(
    tmp_path: Path, images: str, labels: str, found: dict[str, list[int]]
) -> None:
    assert objects(read(write(tmp_path, images, labels))) == found


def test_a_label_file_that_two_images_may_mean_is_none_of_theirs(tmp_path: Path) -> None:
    labels = "labels/a.TXT labels/c.txt labels/d.txt"
    root = write(tmp_path, "images/a.png images/A.jpg images/c.png images/d.png", labels)
    assert objects(read(root)) == {"a.png": [], "A.jpg": [], "c.png": [0], "d.png": [0]}
    assert counts(read(root)) == {NEGATIVE: 2, LOST.format("labels/a.TXT"): 1}


def test_one_label_file_for_two_images_is_said(tmp_path: Path) -> None:
    data = read(write(tmp_path, "images/a.png images/a.jpg", "labels/a.txt"))
    assert objects(data) == {"a.png": [0], "a.jpg": [0]}
    assert counts(data) == {SHARED: 2}


def test_a_second_label_file_is_passed_over_and_said(tmp_path: Path) -> None:
    labels = {
        "labels/a.txt": ROW,
        "labels/a.png.txt": ROW.replace("0", "1", 1),
        "images/a.txt": ROW,
        "images/b.txt": "two cats on a mat",
        "labels/b.txt": ROW,
    }
    data = read(write(tmp_path, "images/a.png images/b.png", labels))  # fmt: skip
    assert objects(data) == {"a.png": [0], "b.png": [0]}
    assert counts(data) == {SECOND: 2}


@given(
    st.lists(st.sampled_from("abAB"), unique=True, min_size=1),
    st.sets(st.sampled_from(["a.txt", "A.txt", "b.txt", "a.TXT", "a.png.txt", "B.PNG.txt"])),
)
def test_no_label_file_is_guessed_for_two_images(
    tmp_path_factory: pytest.TempPathFactory, stems: list[str], labels: set[str]
) -> None:
    root = tmp_path_factory.mktemp("labels")
    for name in labels:
        (root / name).touch()
    images = [f"{stem}.png" for stem in stems]
    files = find_labels(root, images).files
    taken = [file for file in files if file]
    assert len(taken) == len(set(taken))
    for image, file in zip(images, files, strict=True):
        stem = image[0]
        assert file in ("", *labels)
        if f"{stem}.txt" in labels:
            assert file == f"{stem}.txt"
        elif file:  # its name in another form, and no other image's exact one
            assert file.lower() in (f"{stem}.txt".lower(), f"{stem}.png.txt".lower())
            assert file not in [f"{other}.txt" for other in stems if other != stem]


# --- label files that have no image ---


def test_a_lost_image_is_said(tmp_path: Path) -> None:
    images = " ".join(f"images/{n}.png" for n in range(5) if n != 1)
    root = write(tmp_path, images, " ".join(f"labels/{n}.txt" for n in range(5)))
    assert counts(read(root)) == {LOST.format("labels/1.txt"): 1}
    assert len(read(root)) == 4
    with pytest.raises(DataError) as caught:
        read(root, max_unreadable=0)
    assert str(caught.value) == (
        f"{root}: 1 label files without an image (first: labels/1.txt) beside 4 images; "
        "max_unreadable=0.0 allows 0 that are not read, and 0 with those that are gone. Restore "
        "the images, or convert them to JPEG or PNG; or raise max_unreadable in the config's entry "
        "under data (data.max_unreadable=SHARE)."
    )


@pytest.mark.parametrize(("lost", "refused"), [(2, False), (3, True)])
def test_many_lost_images_are_refused(tmp_path: Path, lost: int, refused: bool) -> None:
    images = " ".join(f"images/{n}.png" for n in range(20 - lost))
    root = write(tmp_path, images, " ".join(f"labels/{n}.txt" for n in range(20)))
    if refused:
        with pytest.raises(DataError, match=r"allows 1 that are not read, and 2 with those that"):
            read(root)
    data = read(root, max_unreadable=0.2 if refused else 0.01)
    assert sum(counts(data).values()) == lost


def test_images_of_unknown_endings_are_named_and_refused_as_a_list_is(tmp_path: Path) -> None:
    endings = ("jpg", "jfif", "heic", "avif", "jp2", "jpe", "dng", "mpo", "pic")
    images = " ".join(f"images/{n}.{ending}" for n, ending in enumerate(endings))
    root = write(tmp_path, images, " ".join(f"labels/{n}.txt" for n in range(len(endings))))
    first = "labels/2.txt; images/2.heic is of a kind that is not read"
    with pytest.raises(DataError) as caught:
        read(root)
    assert str(caught.value).startswith(
        f"{root}: 5 {LOST.format(first)} beside 4 images; max_unreadable=0.01 allows 1 that"
    )
    data = read(root, max_unreadable=0.6)
    assert list(objects(data)) == ["0.jpg", "1.jfif", "5.jpe", "7.mpo"]
    assert counts(data) == {LOST.format(first): 5}
    (root / "train.txt").write_text(images.replace(" ", "\n"))
    with pytest.raises(DataError, match="5 of 9 images cannot be used"):
        read(root, "train")


def test_negatives_of_unknown_endings_are_said(tmp_path: Path) -> None:
    root = write(tmp_path, "images/a.png images/b.HEIC images/c.pdf images/a.heic", "labels/a.txt")
    assert counts(read(root)) == {UNREAD.format("images/b.HEIC"): 1}


@pytest.mark.parametrize(
    ("images", "label", "split"),
    [
        ("images/train/a.png", "labels/train/b.txt", "train"),
        ("images/train/a.png", "images/train/b.txt", "train"),
        ("images/train/a.png", "labels/train/deep/b.txt", "train"),
        ("train/images/a.png", "train/labels/b.txt", "train"),
        ("train/a.png", "train/b.txt", "train"),
        ("a.png", "b.txt", ""),
        ("JPEGImages/a.png", "labels/b.txt", "JPEGImages"),
    ],
)
def test_lost_images_are_said_in_every_layout(
    tmp_path: Path, images: str, label: str, split: str
) -> None:
    own = label.replace("deep/", "").replace("b.txt", "a.txt")
    root = write(tmp_path, images, f"{own} {label}")
    assert counts(read(root, split)) == {LOST.format(label): 1}


def test_texts_that_are_no_label_files_are_not_said(tmp_path: Path) -> None:
    texts = {
        "classes.txt": "cat\ndog\n",
        "README.roboflow.txt": "5 images\n",
        "a.txt": ROW,
        "notes.txt": "",
        "train.txt": "a.png\n",
        ".b.txt": ROW,
        "sizes.txt": "1 2 3 4",
        "kitti.txt": "Car 0.00 0 -1.58 587.01",
        "numbers.csv.txt": "0,1,2,3,4,5",
    }
    root = write(tmp_path, "a.png", texts)  # fmt: skip
    (root / "latin.txt").write_bytes("caf\u00e9 1 2 3 4".encode("latin-1"))
    assert counts(read(root)) == {}


def test_an_empty_label_file_without_an_image_lost_a_negative(tmp_path: Path) -> None:
    labels = {"labels/a.txt": ROW, "labels/b.txt": "", "labels/classes.txt": "cat\ndog\n"}
    data = read(write(tmp_path, "images/a.png", labels))
    assert counts(data) == {LOST.format("labels/b.txt"): 1}


def test_lists_say_themselves_which_images_there_are(tmp_path: Path) -> None:
    root = write(tmp_path, "images/a.png images/b.png", "labels/a.txt labels/b.txt labels/c.txt")
    (root / "train.txt").write_text("images/a.png\n")
    assert counts(read(root, "train")) == {}


# --- folders of which no image is read ---


@pytest.mark.parametrize(
    ("images", "sentence"),
    [
        ("images/a.heic", "its images are not read, such as images/a.heic. Convert them to JPEG or "
                          "PNG under the same names."),
        ("images/other.png", "none is called as an image is, such as images/other.png. Call both "
                             "alike: images/NAME.jpg and labels/NAME.txt, or NAME.jpg and NAME.txt "
                             "in one folder."),
        ("", "no images. Put them beside the label files, or into images/ where these are in "
             "labels/."),
    ],
)  # fmt: skip
def test_what_keeps_label_files_from_being_read_is_said(
    tmp_path: Path, images: str, sentence: str
) -> None:
    root = write(tmp_path, images, "labels/a.txt labels/b.txt")
    with pytest.raises(DataError) as caught:
        recognise(root)
    assert str(caught.value) == (
        f"{root}: holds label files of YOLO text, such as labels/a.txt, but {sentence}"
    )
    (root / "data.yaml").unlink()
    if "heic" in images:
        with pytest.raises(DataError, match=r"its images are of a kind that is not read, such as"):
            read(root)


def test_other_texts_of_numbers_are_no_labels(tmp_path: Path) -> None:
    root = write(tmp_path, "a.png", {"a.calib": "x", "b.txt": "P0: 7.2 0 6.1 0", "c.txt": "1 2 3"})
    with pytest.raises(DataError, match="no dataset is recognised"):
        recognise(root)


# --- VOC ---


def test_voc_images_of_unknown_endings_are_said(tmp_path: Path) -> None:
    folder = write_voc(tmp_path, {n: voc_xml([("cat", (1, 1, 9, 9))]) for n in ("a", "b", "c")})
    (folder / "ImageSets" / "Main" / "trainval.txt").unlink()
    for name in ("d.heic", "e.AVIF", "f.pdf", "a.heic"):
        write_image(folder / "JPEGImages" / "x.png")
        (folder / "JPEGImages" / "x.png").rename(folder / "JPEGImages" / name)
    data = read_dataset({"format": "voc", "root": folder, "split": "all"})
    assert data.image_ids.tolist() == ["a", "b", "c"]
    assert counts(data) == {UNREAD.format("d.heic"): 2}
