"""`detkit eval --detections` where the images are not there; a detector still needs them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from detkit.cli.eval import main
from tests.cli.measured import figures_of, voc_words
from tests.cli.test_measuring import as_coco

pytestmark = pytest.mark.usefixtures("cache")
HITS = [
    {"image_id": "one", "category": "cat", "bbox": [0, 0, 30, 29], "score": 0.9},
    {"image_id": "two", "category": "dog", "bbox": [12, 10, 30, 20], "score": 0.8},
    {"image_id": "three", "category": "dog", "bbox": [1, 1, 9, 9], "score": 0.7},
]


@pytest.fixture
def found(tmp_path: Path) -> str:
    path = tmp_path / "found.json"
    path.write_text(json.dumps(HITS))
    return str(path)


@pytest.mark.parametrize("data_format", ["voc", "coco", "auto"])
def test_a_file_of_detections_needs_no_images(
    data_format: str, found: str, voc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "data"
    shutil.copytree(voc, root)
    images = root / "JPEGImages"
    words = ["data.format=auto", f"data.root={root}", "data.split=test"]
    if data_format == "voc":
        words = voc_words(root)
    elif data_format == "coco":
        (tmp_path / "coco").mkdir()
        words = as_coco(voc, tmp_path / "coco", {"cat": 7, "dog": 3})
        images = tmp_path / "coco" / "own"
    right = figures_of(["--detections", found, *words], tmp_path)
    assert capsys.readouterr().err.splitlines()[-1] == (
        "data: 3 images (1 without objects), 2 objects of 2 classes"
    )
    shutil.rmtree(images)
    out, page = tmp_path / "out", tmp_path / "page.html"
    more = ["--out", str(out), "--report", str(page)]
    measured = figures_of(["--detections", found, *words, *more], tmp_path)
    assert measured == right
    assert capsys.readouterr().err.splitlines()[-2:] == [
        "data: 3 images (1 without objects), 2 objects of 2 classes, 3 images not looked at (sizes "
        "and boxes as stated), 3 of them not there",
        "found: no pictures of images, as not all of them are there",
    ]
    assert sorted(path.name for path in (out / "found").iterdir()) == [
        "confusion.png", "errors.png", "precision_recall.png"
    ]  # fmt: skip
    assert "no such image file" in page.read_text()


def test_images_that_are_partly_there_lose_no_truth(
    found: str, voc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a third of them gone, and as many allowed to be, all are measured on."""
    root = tmp_path / "data"
    shutil.copytree(voc, root)
    right = figures_of(["--detections", found, *voc_words(root)], tmp_path)
    (root / "JPEGImages" / "two.png").unlink()
    capsys.readouterr()
    words = [*voc_words(root), "data.max_unreadable=0.4"]
    assert figures_of(["--detections", found, *words], tmp_path) == right
    assert "3 images not looked at (sizes and boxes as stated), 1 of them not there" in (
        capsys.readouterr().err
    )


def test_a_detector_needs_the_images(
    run_folder: Path, voc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "data"
    shutil.copytree(voc, root)
    shutil.rmtree(root / "JPEGImages")
    words = [str(run_folder), f"data.root={root}", "--no-speed", "--device", "cpu"]
    assert main(words) == 2
    assert "3 of 3 images cannot be used" in capsys.readouterr().err


def test_yolo_text_needs_the_images(
    found: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = tmp_path / "yolo" / "labels" / "val"
    labels.mkdir(parents=True)
    (labels / "one.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    words = ["data.format=yolo", f"data.root={tmp_path / 'yolo'}", "data.split=val"]
    assert main(["--detections", found, *words, "--device", "cpu"]) == 2
    assert capsys.readouterr().err == (
        f"detkit eval: {tmp_path / 'yolo'}: boxes are shares of each image's width and height, "
        "which no file states, so the images are needed. Put them where they belong, or convert "
        "the data to another format where they are: detkit data convert.\n"
    )


def test_detections_of_images_that_nobody_lists_are_refused(
    voc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, path = tmp_path / "data", tmp_path / "found.json"
    shutil.copytree(voc, root)
    shutil.rmtree(root / "JPEGImages")
    path.write_text(json.dumps([HITS[0] | {"image_id": "four"}]))
    assert main(["--detections", str(path), *voc_words(root), "--device", "cpu"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"detkit eval: {path}: entry 0: no image 'four' among the 3 of the data; image_id is the "
        "file's stem as a string, such as 'one'."
    )


def test_some_of_the_classes_of_both_files(
    found: str, voc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    root = tmp_path / "data"
    shutil.copytree(voc, root)
    shutil.rmtree(root / "JPEGImages")
    words = ["--detections", found, *voc_words(root), "data.only=[cat]"]
    said = figures_of(words, tmp_path)
    assert list(said["per_class"]) == ["cat"]
    assert said["detections"] == 1
    assert f"{found}: 2 detections of dog left out by data.only" in caplog.text
