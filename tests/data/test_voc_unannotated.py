"""Images without an annotation file: negatives where a list names them, else left out."""

from __future__ import annotations

from pathlib import Path

import pytest

from detkit.data import Annotations, read_dataset, summary
from detkit.data.voc import NEGATIVES, UNANNOTATED
from detkit.errors import ConfigError, DataError
from tests.oracles import voc_xml, write_image

XML = voc_xml([("cat", (1, 1, 40, 30))])


def read(root: Path, split: str = "default", **keys: object) -> Annotations:
    return read_dataset({"format": "voc", "root": str(root), "split": split, **keys})


def refusal(root: Path, split: str = "default", **keys: object) -> str:
    with pytest.raises((DataError, ConfigError)) as caught:
        read(root, split, **keys)
    return str(caught.value)


def write(root: Path, annotated: str, images: str, listed: str = "", names: str = "") -> Path:
    """Files of the ids in each text; ``names``: folders of annotations and images."""
    annotations, _, pictures = (names or "Annotations JPEGImages").partition(" ")
    for image_id in annotated:
        path = root / annotations / f"{image_id}.xml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(XML)
    for seed, image_id in enumerate(images):
        write_image(root / pictures / f"{image_id}.png", seed=seed)
    if listed:
        path = root / "ImageSets" / "Main" / "default.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{image_id}\n" for image_id in listed))
    return root


def test_listed_images_without_annotation_file_are_negatives(tmp_path: Path) -> None:
    """As CVAT and datumaro write images without objects."""
    data = read(write(tmp_path, "ace", "abcde", listed="abcdeb"))
    assert data.image_ids.tolist() == [*"abcde"]
    assert data.offsets.tolist() == [0, 1, 1, 2, 2, 3]
    assert [Path(path).stem for path in data.paths] == [*"abcde"]
    assert summary(data) == (
        "5 images (2 without objects), 3 objects of 1 classes, 2 images without an annotation file "
        "taken as negatives (data.unannotated=leave_out leaves them out), 1 repeated ids read once"
    )
    left = read(tmp_path, unannotated="leave_out")
    assert left.image_ids.tolist() == [*"ace"]
    assert left.report.counts[UNANNOTATED] == 2


def test_a_part_counts_its_own_negatives(tmp_path: Path) -> None:
    root = write(tmp_path, "acegik", "abcdefghik", listed="abcdefghik")
    parts = [read(root, part=part) for part in ("train", "eval")]
    counted = [data.report.counts[NEGATIVES] for data in parts]
    empty = [sum(1 for i in data.image_ids if str(i) in "bdfh") for data in parts]
    assert counted == empty
    assert sum(counted) == 4


def test_a_list_of_which_most_lack_annotation_files_is_refused(tmp_path: Path) -> None:
    root = write(tmp_path, "a", "abc", listed="abc")
    assert refusal(root) == (
        f"{root}/ImageSets/Main/default.txt: 2 of its 3 images have no annotation file in "
        f"{root}/Annotations; the test sets of VOC 2008 to 2012 have no public ones. Restore them, "
        "or take these images as negatives with data.unannotated=negatives."
    )
    assert read(root, unannotated="negatives").image_ids.tolist() == [*"abc"]
    assert read(root, unannotated="leave_out").image_ids.tolist() == ["a"]
    assert len(read(write(tmp_path / "half", "a", "ab", listed="ab"))) == 2


def test_a_list_without_any_annotation_file_is_refused(tmp_path: Path) -> None:
    """VOC 2008's test set beside the annotations of 2007."""
    root = write(tmp_path, "x", "abc", listed="abc")
    assert refusal(root).startswith(f"{root}/ImageSets/Main/default.txt: 3 of its 3 images have no")


def test_an_id_without_image_and_annotation_file_is_no_negative(tmp_path: Path) -> None:
    root = write(tmp_path, "abc", "abc", listed="abcd")
    for key in ("auto", "negatives", "leave_out"):
        assert refusal(root, unannotated=key) == (
            f"{root}/Annotations/d.xml: no such annotation file, though {root}/ImageSets/Main/"
            "default.txt lists the id. Restore it or remove the line; the test sets of VOC 2008 to "
            "2012 have no public annotations."
        )


def test_a_negative_that_another_annotation_file_speaks_of_is_refused(tmp_path: Path) -> None:
    root = write(tmp_path, "bc", "ac", listed="abc")
    (root / "Annotations" / "b.xml").write_text(voc_xml([], file_name="a.png"))
    assert refusal(root) == (
        f"{root}/JPEGImages/a.png: {root}/Annotations/b.xml speaks of this image by its "
        "<filename>, and a, whose image it is, has no annotation file. Rename the annotation file, "
        "or restore the image that it is of."
    )


def test_a_negative_that_cannot_be_read_counts_as_unreadable(tmp_path: Path) -> None:
    root = write(tmp_path, "abc", "abcd", listed="abcd")
    (root / "JPEGImages" / "d.png").write_bytes(b"no image")
    data = read(root)
    assert data.image_ids.tolist() == [*"abc"]
    assert [Path(path).name for path, _ in data.report.unreadable] == ["d.png"]
    assert refusal(root, max_unreadable=0).startswith(
        f"{root}/ImageSets/Main/default.txt: 1 of 4 images cannot be used"
    )


@pytest.mark.parametrize("names", ["Annotations JPEGImages", "labels data", ". ."])
def test_without_lists_the_key_takes_other_images_as_negatives(tmp_path: Path, names: str) -> None:
    root = write(tmp_path, "ab", "abxy", names=names)
    left = read(root, "all")
    assert left.image_ids.tolist() == [*"ab"]
    assert summary(left) == (
        "2 images (0 without objects), 2 objects of 1 classes, 2 images without an annotation file "
        "left out (data.unannotated=negatives takes them as negatives)"
    )
    data = read(root, "all", unannotated="negatives")
    assert data.image_ids.tolist() == [*"abxy"]
    assert data.offsets.tolist() == [0, 1, 2, 2, 2]
    assert data.report.counts[NEGATIVES] == 2
    parts = [read(root, "all", unannotated="negatives", part=p) for p in ("train", "eval")]
    assert sorted(i for part in parts for i in part.image_ids.tolist()) == [*"abxy"]


def test_images_of_another_split_are_no_negatives(tmp_path: Path) -> None:
    """``annots/train``, ``annots/val`` and one folder of images."""
    write(tmp_path, "ab", "abxy", names="annots/train images")
    write(tmp_path, "xy", "z", names="annots/val images")
    data = read(tmp_path, "train")
    assert data.image_ids.tolist() == [*"ab"]
    assert data.report.counts[UNANNOTATED] == 1  # z alone
    assert refusal(tmp_path, "train", unannotated="negatives") == (
        f"data.unannotated: {tmp_path}/images holds the images of several splits, so that nothing "
        "tells whose those without an annotation file are. List the ids of each split in "
        "ImageSets/Main/NAME.txt, or leave the key out."
    )
    (tmp_path / "images" / "z.png").unlink()
    assert read(tmp_path, "train", unannotated="negatives").image_ids.tolist() == [*"ab"]


def test_annotation_files_whose_images_are_missing(tmp_path: Path) -> None:
    root = write(tmp_path, "abc", "bc")
    assert read(root, "all").report.unreadable == (
        (f"{root}/JPEGImages/a.jpg", "no such image file. Check the path."),
    )
    (root / "JPEGImages" / "b.png").unlink()
    assert refusal(root, "all").startswith(f"{root}/Annotations: 2 of 3 images cannot be used")


def test_an_image_of_an_unknown_ending_is_named(tmp_path: Path) -> None:
    root = write(tmp_path, "abc", "abc")
    (root / "JPEGImages" / "a.png").rename(root / "JPEGImages" / "a.heic")  # in truth a PNG
    (root / "JPEGImages" / "b.png").unlink()
    (root / "JPEGImages" / "b.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(99))
    data = read(root, "all")
    assert [Path(path).name for path in data.paths] == ["a.heic", "c.png"]
    assert data.report.unreadable == (
        (
            f"{root}/JPEGImages/b.heic",
            "not an image of a known format (JPEG, PNG, BMP, GIF, WEBP, TIFF, PPM). Convert it to "
            "JPEG or PNG.",
        ),
    )


def test_an_unknown_ending_is_believed_before_another_ids_file_name(tmp_path: Path) -> None:
    root = write(tmp_path, "abc", "abc")
    for name in "abc":
        (root / "Annotations" / f"{name}.xml").write_text(voc_xml([], file_name="b.pic"))
        (root / "JPEGImages" / f"{name}.png").rename(root / "JPEGImages" / f"{name}.pic")
    write_image(root / "JPEGImages" / "other.png")  # so that the folder is known
    assert [Path(path).name for path in read(root, "all").paths] == ["a.pic", "b.pic", "c.pic"]
