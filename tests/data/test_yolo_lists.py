"""Lists of images of YOLO text, with paths of this machine and of others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detkit.data import Annotations, read_dataset
from detkit.data.recognise import recognise
from detkit.data.yolo_lists import read_image_list
from detkit.errors import DataError
from tests.oracles import write_image

BY_END = "images found by the end of their path"
COMMENTS = "comments in lists of images passed over"
ROW = "0 0.5 0.5 0.5 0.5\n"


def write(root: Path, images: str, lines: str | bytes, name: str = "train.txt") -> Path:
    """Images with label files beside them, and a list."""
    for seed, image in enumerate(images.split()):
        path = root / image
        write_image(path, seed=seed)
        path.with_suffix(".txt").write_text(ROW)
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes(lines if isinstance(lines, bytes) else lines.encode())
    (root / "obj.names").write_text("cat\n")
    return root


def read(root: Path, split: str = "train", **keys: Any) -> Annotations:
    return read_dataset({"format": "yolo", "root": str(root), "split": split, **keys})


def found(data: Annotations, root: Path) -> list[str]:
    return [Path(path).relative_to(root).as_posix() for path in data.paths]


def counts(data: Annotations) -> dict[str, int]:
    return {kind: count for kind, count in data.report.counts.items() if count}


def refusal(root: Path, **keys: Any) -> str:
    with pytest.raises(DataError) as caught:
        read(root, **keys)
    return str(caught.value)


@pytest.mark.parametrize(
    "lines",
    [
        "obj/0.png\nobj/1.png\n",
        "./obj/0.png\nobj/./1.png",
        "obj\\0.png\nobj\\1.png",
        "data/obj/0.png\ndata/obj/1.png\n",  # CVAT's and datumaro's
        b"\xef\xbb\xbfobj/0.png\r\n\r\n  obj/1.png  \r\n",
        "{root}/obj/0.png\n{root}/obj/1.png\n",
    ],
)
@pytest.mark.parametrize("name", ["train.txt", "data/train.txt"])
def test_paths_below_the_folder(tmp_path: Path, lines: str | bytes, name: str) -> None:
    text = lines if isinstance(lines, bytes) else lines.format(root=tmp_path)
    root = write(tmp_path, "obj/0.png obj/1.png obj/2.png", text, name)
    assert [(s.name, s.images) for s in recognise(root).splits] == [("train", 2)]
    assert found(read(root), root) == ["obj/0.png", "obj/1.png"]
    assert counts(read(root)) == {}


def test_paths_that_count_from_the_list(tmp_path: Path) -> None:
    lines = "../../obj/0.png\n./../../obj/1.png\n"
    root = write(tmp_path, "obj/0.png obj/1.png", lines, "ImageSets/Main/train.txt")
    assert found(read(root), root) == ["obj/0.png", "obj/1.png"]
    assert counts(read(root)) == {}


@pytest.mark.parametrize(
    "start",
    [
        *("/home/x/darknet/data/obj/", "build/darknet/x64/data/obj/", "C:\\darknet\\data\\obj\\"),
        *("../obj/", "~/obj/", "s3://bucket/obj/", "//server/share/obj/", "c:/obj/", "/content/"),
    ],
)
def test_paths_of_another_machine_are_found_by_their_end(tmp_path: Path, start: str) -> None:
    lines = f"{start}0.png\n{start}1.png\n"
    root = write(tmp_path, "obj/0.png obj/1.png obj/2.png", lines)
    assert [(s.name, s.images) for s in recognise(root).splits] == [("train", 2)]
    assert found(read(root), root) == ["obj/0.png", "obj/1.png"]
    assert counts(read(root)) == {BY_END: 2}


def test_parts_of_a_split_each_count_their_own_paths(tmp_path: Path) -> None:
    images = [f"obj/{n}.png" for n in range(10)]
    root = write(tmp_path, " ".join(images), "".join(f"/x/{name}\n" for name in images))
    kept = {part: counts(read(root, part=part)).get(BY_END) for part in ("train", "eval")}
    assert kept == {part: len(read(root, part=part)) for part in kept}


@pytest.mark.parametrize(
    ("images", "written", "image"),
    [
        ("a/obj/0.png b/obj/0.png", "/home/b/obj/0.png", "b/obj/0.png"),  # the longest end
        ("obj/0.png b/obj/0.png", "/home/me/obj/0.png", "obj/0.png"),  # its whole path is an end
        (
            "of/train/0.png of/val/0.png",
            "/me/all/0.png",
            "of/train/0.png",
        ),  # val's is none
        ("of/train/0.png of/val/0.png", "/me/val/0.png", "of/val/0.png"),  # which is named
        ("obj/0.png", '"/home/me/obj/0.png"', "obj/0.png"),
        ("obj/0.png", "0", "obj/0.png"),  # an id
        ("obj/0.png", "obj/0", "obj/0.png"),
    ],
)
def test_the_image_whose_path_ends_most_like_it(
    tmp_path: Path, images: str, written: str, image: str
) -> None:
    root = write(tmp_path, images, f"{written}\n")
    assert found(read(root), root) == [image]
    assert counts(read(root)) == {BY_END: 1}


def test_ids_in_image_sets(tmp_path: Path) -> None:
    root = write(tmp_path, "images/0.png images/1.png", "0\n1\n", "ImageSets/Main/val.txt")
    write(root, "images/2.png", "2\n", "ImageSets/Main/train.txt")
    assert recognise(root).line() == (
        f"{root}: YOLO text, splits train 1, val 2; training on train, evaluating on val"
    )


def test_several_that_end_alike_are_refused(tmp_path: Path) -> None:
    images = "a/obj/0.png b/obj/0.png c/obj/0.png"
    root = write(tmp_path, images, "a/obj/0.png\n/x/obj/0.png\n")
    assert refusal(root) == (
        f"{root}/train.txt: line 2: '/x/obj/0.png' is not there, and may be a/obj/0.png or "
        f"b/obj/0.png and 1 more. Write paths relative to {root}."
    )


def test_two_paths_that_come_to_one_image_are_refused(tmp_path: Path) -> None:
    root = write(tmp_path, "obj/0.png obj/1.png", "/x/cam1/0.png\n/x/cam2/0.png\n")
    assert refusal(root) == (
        f"{root}/train.txt: lines 1 and 2, '/x/cam1/0.png' and '/x/cam2/0.png', both come to "
        f"obj/0.png. Write each image's own path below {root}."
    )


def test_one_image_by_two_ends_of_a_path_is_read_once(tmp_path: Path) -> None:
    root = write(tmp_path, "obj/0.png obj/1.png", "/x/obj/0.png\nobj/0.png\n/x/obj/0.png\n")
    assert found(read(root), root) == ["obj/0.png"]
    assert counts(read(root)) == {BY_END: 1, "repeated images read once": 2}


def test_a_lost_image_is_no_other_of_its_name(tmp_path: Path) -> None:
    root = write(tmp_path, "obj/0.png old/1.png", "obj/0.png\nobj/1.png\n")
    data = read(root)
    assert found(data, root) == ["obj/0.png"]
    assert data.report.unreadable[0][0] == str(root / "obj" / "1.png")
    (root / "train.txt").write_text("/x/obj/0.png\n/x/obj/1.png\n")  # others are alike in obj
    data = read(root)
    assert found(data, root) == ["obj/0.png"]
    assert data.report.unreadable[0][0] == str(root / "x" / "obj" / "1.png")


def test_paths_of_which_no_end_is_there_are_refused_with_a_hint(tmp_path: Path) -> None:
    root = write(tmp_path, "obj/0.png", "# mine\n/home/x/a/1.png\n/home/x/a/2.png\nobj/0.png\n")
    hint = (
        f"{root}/train.txt: line 2: '/home/x/a/1.png' is not there, and no image below {root} ends "
        f"like it; so it is with 2 of 3 lines. Put the images below {root}, or write their paths "
        "relative to it."
    )
    assert refusal(root) == hint
    assert len(read(root, max_unreadable=0.7).report.unreadable) == 2
    (root / "train.txt").write_text("/home/x/a/1.png\n/home/x/a/2.png\n")
    with pytest.raises(DataError) as caught:  # and not only the folder below is named
        recognise(root)
    assert str(caught.value) == hint.replace("line 2", "line 1").replace("2 of 3", "2 of 2")


def test_comments_are_counted(tmp_path: Path) -> None:
    root = write(tmp_path, "obj/0.png #1.png", "# by hand\nobj/0.png\n\n#1.png\n  # end\n")
    assert found(read(root), root) == ["obj/0.png", "#1.png"]
    assert counts(read(root)) == {COMMENTS: 2}


@pytest.mark.parametrize("line", ["/", "..", "C:\\", "\0"])
def test_what_is_no_path_is_refused(tmp_path: Path, line: str) -> None:
    root = write(tmp_path, "obj/0.png", f"obj/0.png\n{line}\n")
    assert "train.txt: line 2: " in refusal(root)


def test_nothing_outside_the_folder_is_looked_at(tmp_path: Path) -> None:
    write(tmp_path, "secret.png", "")
    root = write(tmp_path / "set", "obj/0.png", f"../secret.png\n{tmp_path}/secret.png\n")
    assert "no image below" in refusal(root)


def test_label_files_are_no_lists(tmp_path: Path) -> None:
    root = write(tmp_path, "train_1.png train_2.png test_1.png", "", "empty.txt")
    assert recognise(root).line() == (
        f"{root}: YOLO text, splits all 3; training on 80% of all, evaluating on 20% of all"
    )


parts = st.sampled_from(["a", "b", "obj"])


@given(
    st.sets(st.lists(parts, max_size=3).map(lambda folders: "/".join([*folders, "0.png"])),
            min_size=1, max_size=6),
    st.lists(parts, max_size=4),
)  # fmt: skip
def test_a_slow_search_finds_the_same(
    tmp_path_factory: pytest.TempPathFactory, images: set[str], folders: Sequence[str]
) -> None:
    root = tmp_path_factory.mktemp("set")
    for name in images:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    written = ["x", *folders, "0.png"]
    (root / "few.txt").write_text("/" + "/".join(written) + "\n")
    fits: list[str] = []
    for start in range(1, len(written)):  # ends, the longest first
        end = "/".join(written[start:])
        fits = [name for name in images if name == end or name.endswith("/" + end)]
        if fits:
            fits = [name for name in fits if name == end] or fits
            break
    if len(fits) > 1:
        with pytest.raises(DataError, match="may be"):
            read_image_list(root, root / "few.txt", 1.0)
    else:
        assert read_image_list(root, root / "few.txt", 1.0).images == fits


@pytest.mark.parametrize("line", [f"{'images' * 100}/7.png", f"obj/{'x' * 300}.png"])
def test_a_line_too_long_for_any_disk_is_refused(line: str, tmp_path: Path) -> None:
    """The system would raise where it is asked for such a file."""
    said = refusal(write(tmp_path, "obj/0.png obj/1.png", f"obj/0.png\n{line}\n"))
    assert said.startswith(f"{tmp_path / 'train.txt'}: line 2: ")
    assert said.endswith(" is no path of an image. Write paths relative to the dataset's folder.")
