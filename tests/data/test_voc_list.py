"""Lists of ids as the devkit, exporters and people write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from detkit.data import read_dataset
from detkit.errors import DataError
from tests.oracles import voc_xml, write_image, write_voc


def ids_of(root: Path, text: str | bytes, ids: tuple[str, ...]) -> list[str]:
    """What a list makes of a folder that has annotation files and images of ``ids``."""
    for path in (root / kind / f"{i}.xml" for kind in ("Annotations", "JPEGImages") for i in ids):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_voc(root, {image_id: voc_xml([("cat", (1, 1, 40, 30))]) for image_id in ids})
    data = text.encode() if isinstance(text, str) else text
    (root / "ImageSets" / "Main" / "list.txt").write_bytes(data)
    found = read_dataset({"format": "voc", "root": str(root), "split": "list"})
    return [str(image_id) for image_id in found.image_ids]


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("0.jpg\nJPEGImages/1.jpg\n", ("0", "1")),
        (b"\xef\xbb\xbf0.JPG  \r\nJPEGImages\\1.JPG\r\n\r\n", ("0", "1")),
        ("0\r\n1\r\n".encode("utf-16"), ("0", "1")),  # PowerShell's > of older Windows
        ("/home/me/VOC/JPEGImages/0.jpg\n/home/me/VOC/JPEGImages/1.jpg\n", ("0", "1")),
        ("Annotations/0.xml\n1.xml\n", ("0", "1")),
        ("JPEGImages/cam1/0.jpg\nJPEGImages/0.jpg\n", ("cam1/0", "0")),  # never one for the other
        ("img.v2.0\nimg.v2.1.jpg\n", ("img.v2.0", "img.v2.1")),
        ("a.jpg\nb\n", ("a.jpg", "b")),  # an id that ends so: its file is a.jpg.xml
    ],
)
def test_lists_may_name_the_files(tmp_path: Path, text: str | bytes, ids: tuple[str, ...]) -> None:
    assert ids_of(tmp_path, text, ids) == list(ids)


@pytest.mark.parametrize(
    "text",
    [
        "photo 0\nphoto 1\n",
        "photo 0  1\nphoto 1 -1\n",  # with flags
        '"photo 0"\n"photo 1"\n',  # as CVAT writes ids with spaces
        '"photo 0"  1\n"photo 1" -1\n',
        "photo 0.jpg\nphoto 1.jpg\n",
    ],
)
def test_ids_may_have_spaces_and_end_like_flags(tmp_path: Path, text: str) -> None:
    assert ids_of(tmp_path, text, ("photo 0", "photo 1")) == ["photo 0", "photo 1"]


def test_ids_like_flags_of_which_one_has_no_annotation_file(tmp_path: Path) -> None:
    write_image(tmp_path / "JPEGImages" / "photo 0.jpg")
    assert ids_of(tmp_path, "photo 0\nphoto 1\n", ("photo 1",)) == ["photo 0", "photo 1"]


def test_two_folders_images_are_never_one(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        ids_of(tmp_path, "a/0.jpg\nb/0.jpg\n", ("0",))
    assert str(caught.value) == (
        f"{tmp_path}/ImageSets/Main/list.txt: 'b/0.jpg' and an image of another folder are both 0, "
        "as no annotation file lies in a folder of that name. Write ids, the names of the "
        "annotation files without .xml."
    )
