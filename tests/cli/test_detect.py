"""`detkit detect` as typed: lines, pictures, files of every form, videos, Ctrl-C."""

from __future__ import annotations

import json
import signal
import time
import tracemalloc
import zipfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
import yaml
from PIL import Image

from detkit.cli import main
from detkit.data import read_dataset
from detkit.data.detection_writers import save_formats, saving
from detkit.data.formats.base import ImageDetections
from detkit.detections import Detections
from detkit.video import VideoFile
from detkit.workflows.output_names import Stems
from tests.conftest import SMALL_CONFIG
from tests.forked import Forked
from tests.oracles import voc_xml, write_image, write_voc
from tests.test_video import camera, endless_camera, read, stalling_camera, write_video
from tests.web_server import says, serve

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A VOC folder and a run of three steps that finds something, right or wrong."""
    from detkit.engine.train import train

    folder = tmp_path_factory.mktemp("detect")
    page = voc_xml([("cat", (5, 5, 40, 50)), ("dog", (30, 20, 70, 55))])
    root = write_voc(folder / "voc", {str(i): page for i in range(3)})
    write_voc(root, {str(i): page for i in range(5, 9)}, split="test")
    config = folder / "small.yaml"
    config.write_text(SMALL_CONFIG.format(root=root))
    train(config, folder / "run", ["train.iterations=3", "model.show_threshold=0.02"])
    return folder


def detect(place: Path, out: Path, *words: str | Path) -> int:
    every = ["detect", *map(str, words), "--weights", str(place / "run"), "--out", str(out)]
    return main([*every, "--device", "cpu"])


def test_images_give_pictures_lines_and_a_file_for_eval(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, photos = tmp_path / "out", place / "voc" / "JPEGImages"
    words = [photos / f"{i}.jpg" for i in range(5, 9)]
    assert detect(place, out, *words, "--score-threshold", "0") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert all(line.startswith(f"{photos / str(i)}.jpg: ") for i, line in enumerate(lines[:4], 5))
    images = json.loads((out / "images.json").read_text())
    sizes = [(entry["image_id"], entry["height"], entry["width"]) for entry in images]
    assert sizes == [(str(i), 60, 80) for i in range(5, 9)]
    found = json.loads((out / "detections.json").read_text())
    total = sum(entry["detections"] for entry in images)
    assert len(found) == total
    assert lines[-1].startswith(f"4 images: {total} detections, 0 refused, ")
    assert lines[-1].endswith(f" ms each; pictures, detections.json and images.json in {out}")
    with Image.open(out / "5.jpg") as picture:
        assert picture.size == (80, 60)

    figures = tmp_path / "figures.json"
    words = [str(place / "run"), "--detections", str(out / "detections.json"), "--no-speed"]
    entry = ["data.format=voc", f"data.root={place / 'voc'}", "data.split=test"]
    assert main(["eval", *words, *entry, "--device", "cpu", "--json", str(figures)]) == 0
    ours, theirs = json.loads(figures.read_text())
    assert ours["detections"] == theirs["detections"] == total
    for figure in ("voc07_map", "voc10_map", "coco_ap", "coco_ar100"):
        assert ours[figure] == theirs[figure]  # what is evaluated is what was found


def test_without_out_a_new_folder_is_taken_and_said(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["detect", str(place / "voc" / "JPEGImages" / "5.jpg"), "--weights", str(place / "run")]
    for out in ("found", "found_2", "found_4"):
        assert main([*words, "--device", "cpu"]) == 0
        said = capsys.readouterr()
        assert said.err == f"detkit detect: no --out: writing to {out}\n"
        assert said.out.splitlines()[-1].endswith(f"images.json in {out}")
        assert Path(out, "5.jpg").exists()
        Path("found_3").write_text("a file of the user's")
    assert main(["detect", "gone.jpg"]) == 2  # before a folder is chosen
    assert capsys.readouterr().err.startswith("detkit detect: gone.jpg: no image there")
    assert not Path("found_5").exists()


def test_proposals_are_drawn_under_what_was_found(place: Path, tmp_path: Path) -> None:
    from detkit import load, read_image
    from detkit.detectors.faster_rcnn import FasterRCNNFPN
    from detkit.drawing import draw_proposals
    from detkit.engine.train import train
    from tests.test_overfit import FORMS

    entry = {"format": "voc", "root": str(place / "voc"), "split": "trainval"}
    settings = {
        "model": FORMS["faster_rcnn_fpn"],
        "data": {"train": [entry], "workers": 0},
        "train": {"iterations": 1, "batch_size": 2},
    }
    (tmp_path / "rcnn.yaml").write_text(yaml.safe_dump(settings))
    train(tmp_path / "rcnn.yaml", tmp_path / "run")
    photo, out = place / "voc" / "JPEGImages" / "5.jpg", tmp_path / "out"
    words = ["detect", str(photo), "--weights", str(tmp_path / "run"), "--out", str(out)]
    words += ["--proposals", "3", "--score-threshold", "1"]  # which nothing reaches
    assert main([*words, "--device", "cpu"]) == 0
    loaded = load(tmp_path / "run")
    assert isinstance(loaded, FasterRCNNFPN)
    image = read_image(photo)
    (boxes,) = loaded.propose([image])
    assert len(boxes) > 3
    expected = draw_proposals(image, boxes[:3]).permute(1, 2, 0).numpy()
    Image.fromarray(expected).save(tmp_path / "expected.jpg")
    assert (out / "5.jpg").read_bytes() == (tmp_path / "expected.jpg").read_bytes()


def test_a_detector_without_a_first_stage_has_no_proposals(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert detect(place, out, place / "voc" / "JPEGImages" / "5.jpg", "--proposals", "9") == 2
    assert capsys.readouterr().err == (
        "detkit detect: --proposals 9: YoloV2 has no first stage that proposes regions; leave it "
        "out, or take a Faster R-CNN for --weights.\n"
    )
    assert not out.exists()


def test_names_of_several_labels_are_told_apart(tmp_path: Path) -> None:
    """torchvision's N/A: no reader takes two classes of one name."""
    names = ("N/A", "dog", "N/A")
    box, label = torch.tensor([[1.0, 2.0, 30.0, 40.0]]), torch.tensor([1])
    found = Detections(box, torch.ones(1), label, names)
    for form in ("coco", "yolo"):
        with saving(form, tmp_path / form, names) as add:
            add(ImageDetections("a", "x/a.jpg", (60, 80), found))
        (tmp_path / form / "images").mkdir()
        write_image(tmp_path / form / "images" / "a.jpg")
    coco = json.loads((tmp_path / "coco" / "coco.json").read_text())
    assert [entry["category_id"] for entry in coco["annotations"]] == [2]
    entry = {"format": "coco", "root": tmp_path / "coco", "split": "coco"}
    assert read_dataset(entry).class_names == ("N/A 1", "dog", "N/A 3")
    entry = {"format": "yolo", "root": tmp_path / "yolo"}
    data = read_dataset(entry)
    assert data.class_names == ("N/A 0", "dog", "N/A 2")
    assert data.labels.tolist() == [1]


def test_every_form_says_the_same(tmp_path: Path) -> None:
    from pycocotools.coco import COCO

    names = ("cat", "dog")
    boxes, labels = torch.tensor([[1.0, 2.0, 30.0, 40.0], [0.0, 0.0, 80.0, 60.0]]), [1, 0]
    two = Detections(boxes, torch.tensor([0.75, 0.5]), torch.tensor(labels), names)
    seen = [
        ImageDetections("a", "x/a.jpg", (60, 80), two),
        ImageDetections("blank", "blank.png", (9, 7), two[:0]),
    ]
    for form in save_formats():
        with saving(form, tmp_path / form, names) as add:
            for looked in seen:
                add(looked)

    assert json.loads((tmp_path / "json" / "images.json").read_text()) == [
        {"image_id": "a", "path": "x/a.jpg", "height": 60, "width": 80, "detections": 2},
        {"image_id": "blank", "path": "blank.png", "height": 9, "width": 7, "detections": 0},
    ]
    first = {"image_id": "a", "category": "dog", "bbox": [1, 2, 29, 38], "score": 0.75}
    second = {"image_id": "a", "category": "cat", "bbox": [0, 0, 80, 60], "score": 0.5}
    path = {"path": "x/a.jpg"}
    found = json.loads((tmp_path / "json" / "detections.json").read_text())
    assert found == [first | path, second | path]

    coco = COCO(tmp_path / "coco" / "coco.json")
    assert {c["id"]: c["name"] for c in coco.loadCats(coco.getCatIds())} == {1: "cat", 2: "dog"}
    assert [image["file_name"] for image in coco.loadImgs([1, 2])] == ["a.jpg", "blank.png"]
    assert coco.getAnnIds(imgIds=[2]) == []
    entries = coco.loadAnns(coco.getAnnIds(imgIds=[1]))
    assert [entry["bbox"] for entry in entries] == [first["bbox"], second["bbox"]]
    assert [entry["category_id"] for entry in entries] == [2, 1]
    assert [entry["area"] for entry in entries] == [29 * 38, 80 * 60]

    pages = {stem: tmp_path / "voc" / "Annotations" / f"{stem}.xml" for stem in ("a", "blank")}
    objects = {stem: ElementTree.parse(page).findall("object") for stem, page in pages.items()}
    assert [entry.findtext("name") for entry in objects["a"]] == ["dog", "cat"]
    assert objects["blank"] == []
    labels = tmp_path / "yolo" / "labels"
    assert [line[0] for line in (labels / "a.txt").read_text().splitlines()] == ["1", "0"]
    assert (labels / "blank.txt").read_text() == ""
    assert (tmp_path / "yolo" / "data.yaml").read_text() == "names:\n  0: cat\n  1: dog\n"
    assert (tmp_path / "csv" / "detections.csv").read_text() == (
        "path,x1,y1,x2,y2,name,score\n"
        "x/a.jpg,1.0,2.0,30.0,40.0,dog,0.75\n"
        "x/a.jpg,0.0,0.0,80.0,60.0,cat,0.5\n"
        "blank.png,,,,,,\n"
    )


@pytest.mark.parametrize("form", save_formats())
def test_every_form_can_be_asked_for(place: Path, tmp_path: Path, form: str) -> None:
    photo = place / "voc" / "JPEGImages" / "0.jpg"
    assert detect(place, tmp_path, photo, "--save-format", form) == 0
    for pattern in save_formats()[form].files.split(" and "):
        assert list(tmp_path.glob(pattern)), pattern


def test_what_cannot_be_read_is_named_counted_and_passed_over(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page, video = tmp_path / "page.jpg", tmp_path / "page.mp4"
    for path in (page, video):
        path.write_text("<html>not found</html>")
    good = place / "voc" / "JPEGImages" / "0.jpg"
    assert detect(place, tmp_path / "out", page, video, good) == 2
    said = capsys.readouterr()
    assert said.err == (
        f"detkit detect: {page}: a web page or XML, not an image. Download the image again.\n"
        f"detkit detect: {video}: a web page or XML, not a video of a known format. "
        "Convert it to MP4.\n"
    )
    assert said.out.startswith(f"{good}: ")
    assert "1 image: " in said.out
    assert " 2 refused, " in said.out


def test_originals_are_never_replaced(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo, video, packed = tmp_path / "a.jpg", tmp_path / "b.mp4", tmp_path / "c.zip"
    write_image(photo)
    write_video(video)
    before = photo.read_bytes(), video.read_bytes()
    for path, kind in ((photo, "images"), (video, "videos")):
        assert detect(place, tmp_path, path) == 2
        assert capsys.readouterr().err == (
            f"detkit detect: {path}: is one of the {kind}; drawing would replace it. "
            "Name another --out.\n"
        )
    with zipfile.ZipFile(packed, "w") as archive:
        archive.write(photo, "in/a.jpg")
    photo.rename(tmp_path / "A.png")  # its picture is A.jpg, so the zip's a.jpg makes way
    assert detect(place, tmp_path, packed, tmp_path / "A.png") == 0
    assert (tmp_path / "A.png").read_bytes() == before[0]
    assert video.read_bytes() == before[1]
    names = {entry["image_id"] for entry in json.loads((tmp_path / "images.json").read_text())}
    assert names == {"A", "a_2"}


def test_images_of_one_name_keep_apart() -> None:
    stems = Stems()
    assert [stems.give(name) for name in ("a", "b", "A", "a", "a_2", "a")] == [
        "a",
        "b",
        "A_2",
        "a_3",
        "a_2_2",
        "a_4",
    ]


def test_a_video_gives_a_video_and_a_line_a_frame(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video, out = write_video(tmp_path / "clip.avi", code="MJPG"), tmp_path / "out"
    assert detect(place, out, video, "--score-threshold", "0") == 0
    lines = [json.loads(line) for line in (out / "clip.jsonl").read_text().splitlines()]
    assert [line["frame"] for line in lines] == list(range(12))
    assert [line["seconds"] for line in lines] == pytest.approx([i / 10 for i in range(12)])
    assert set(lines[0]["detections"][0]) == {"category", "bbox", "score"}
    frames, problems = read(out / "clip.mp4")
    assert (len(frames), problems) == (12, [])
    assert frames[0].image.shape == (3, 48, 64)
    total = sum(len(line["detections"]) for line in lines)
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith(f"{video}: 12 frames, {total} detections (")
    assert said[1].startswith(f"12 frames: {total} detections, 0 refused, ")
    assert said[1].endswith(f" ms each; clip.mp4 and clip.jsonl in {out}")
    assert sorted(path.name for path in out.iterdir()) == ["clip.jsonl", "clip.mp4"]


def test_the_video_of_a_time_lapse_lasts_as_long(place: Path, tmp_path: Path) -> None:
    video, out = write_video(tmp_path / "clip.mp4", frames=3, fps=0.5), tmp_path / "out"
    assert detect(place, out, video) == 0
    lines = [json.loads(line) for line in (out / "clip.jsonl").read_text().splitlines()]
    assert [line["seconds"] for line in lines] == [0.0, 2.0, 4.0]
    with closing(VideoFile(out / "clip.mp4")) as drawn:
        assert (drawn.fps, drawn.announced) == (0.5, 3)


def test_max_images_counts_images_and_frames(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo, out = place / "voc" / "JPEGImages" / "0.jpg", tmp_path / "out"
    video = write_video(tmp_path / "clip.mp4")
    assert detect(place, out, photo, video, photo.with_name("1.jpg"), "--max-images", "5") == 0
    assert "1 image and 4 frames: " in capsys.readouterr().out
    assert len(read(out / "clip.mp4")[0]) == 4
    with pytest.raises(SystemExit):
        detect(place, out, photo, "--max-images", "0")


def test_sources_of_one_name_keep_apart(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file and a stream of one address, and addresses that differ by what is not printed."""
    clip = write_video(tmp_path / "clip.mp4").read_bytes()
    photo = (place / "voc" / "JPEGImages" / "0.jpg").read_bytes()
    out, pages = tmp_path / "out", {"/a.mp4": says(clip, "video/mp4")}
    with serve(pages | {"/b.jpg": says(photo, "image/jpeg")}) as address:
        secret = address.replace("//", "//me:secret@")
        words = [f"{address}/a.mp4", f"stream:{address}/a.mp4", f"{address}/b.jpg"]
        assert detect(place, out, *words, f"{secret}/b.jpg") == 0
    written = sorted(path.name for path in out.iterdir())
    assert written == [
        *("a.jsonl", "a.mp4", "a_2.jsonl", "a_2.mp4", "b.jpg", "b_2.jpg"),
        *("detections.json", "images.json"),
    ]
    images = json.loads((out / "images.json").read_text())
    assert [entry["image_id"] for entry in images] == ["b", "b_2"]
    assert "secret" not in capsys.readouterr().out


@pytest.fixture(scope="module")
def web() -> Iterator[str]:
    pages = {"/camera": camera, "/endless": endless_camera, "/stall": stalling_camera}
    with serve(pages) as address:
        yield address


def test_a_stream_is_watched_until_it_ends(
    place: Path, tmp_path: Path, web: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert detect(place, tmp_path, f"stream:{web}/camera") == 0
    lines = [json.loads(line) for line in (tmp_path / "camera.jsonl").read_text().splitlines()]
    assert lines[-1]["frame"] == 24
    first, last = capsys.readouterr().out.splitlines()
    assert f"{len(lines)} frames, " in first
    dropped = lines[-1]["frame"] + 1 - len(lines)  # only a stream has any
    said = f", {dropped} frame{'' if dropped == 1 else 's'} dropped"
    assert f"{said} (" in first
    assert f"{said}, 0 refused, " in last
    assert len(read(tmp_path / "camera.mp4")[0]) >= 0.5 * 25  # keeps time: 0.75 s at 25 a second


def test_what_a_stalled_stream_gave_is_kept(
    place: Path,
    tmp_path: Path,
    web: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from detkit import sources, video

    def impatient(*words: object, **more: object) -> video.LiveStream:
        return video.LiveStream(*words, **more, stall_seconds=1.0)  # type: ignore[arg-type]

    monkeypatch.setattr(sources, "LiveStream", impatient)
    assert detect(place, tmp_path, f"stream:{web}/stall") == 2
    said = capsys.readouterr()
    assert said.err == (
        f"detkit detect: {web}/stall: no frame for 1 s; the stream has stalled. "
        "Check its sender and the network.\n"
    )
    lines = (tmp_path / "stall.jsonl").read_text().splitlines()
    assert 0 < len(lines) <= 8
    assert all(json.loads(line) for line in lines)
    assert "stall.mp4 and stall.jsonl in" in said.out


@pytest.mark.parametrize("kind", ["images", "stream"])
def test_ctrl_c_keeps_what_is_done(place: Path, tmp_path: Path, web: str, kind: str) -> None:
    out, photos = tmp_path / "out", tmp_path / "photos"
    for number in range(1500 if kind == "images" else 1):
        photos.mkdir(exist_ok=True)
        (photos / f"{number}.jpg").symlink_to(place / "voc" / "JPEGImages" / "0.jpg")
    source = str(photos) if kind == "images" else f"stream:{web}/endless"
    words = ["tools/detect.py", source, "--weights", str(place / "run"), "--out", str(out)]
    run = Forked([*words, "--device", "cpu"])
    deadline = time.monotonic() + 60
    while not (out.is_dir() and any(out.iterdir())) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.3)
    run.send_signal(signal.SIGINT)
    printed, complained = run.communicate()
    assert run.returncode == 130
    assert complained == "detkit detect: stopped; what was found until then is kept.\n"
    last = printed.splitlines()[-1]
    if kind == "images":
        images = json.loads((out / "images.json").read_text())
        found = json.loads((out / "detections.json").read_text())
        assert 0 < len(images) < 1500
        assert sum(entry["detections"] for entry in images) == len(found)
        assert last.startswith(f"{len(images)} image")
        assert len(list(out.glob("*.jpg"))) == len(images)
    else:
        lines = (out / "endless.jsonl").read_text().splitlines()
        assert last.startswith(f"{len(lines)} frame")
        assert len(read(out / "endless.mp4")[0]) > 0
    assert not list(out.glob(".*"))  # nothing half


def test_a_path_that_no_disk_can_hold(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo = tmp_path / ("x" * 300)
    assert detect(place, tmp_path / "out", photo) == 2
    assert capsys.readouterr().err == (
        f"detkit detect: {photo}: cannot be used (File name too long). Name a shorter path. "
        "The files that are there are whole.\n"
    )


def test_a_disk_that_cannot_be_written_gets_one_sentence(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "detections.json").mkdir()  # where the list should go
    assert detect(place, tmp_path, place / "voc" / "JPEGImages" / "0.jpg") == 2
    assert capsys.readouterr().err == (
        f"detkit detect: {tmp_path / 'detections.json'}: cannot be written (Is a directory). Name "
        "another --out.\n"
    )


@pytest.mark.parametrize("form", save_formats())
def test_saving_holds_nothing_in_memory(tmp_path: Path, form: str) -> None:
    boxes = torch.tensor([1.0, 2.0, 3.0, 4.0]).repeat(20, 1)
    labels = torch.zeros(20, dtype=torch.int64)
    found = Detections(boxes, torch.full((20,), 0.5), labels, ("cat",))
    with saving(form, tmp_path, ("cat",)) as add:
        held = []
        tracemalloc.start()
        for number in range(600):
            add(ImageDetections(f"{number % 50}", f"photos/{number}.jpg", (60, 80), found))
            if number in (300, 599):
                held.append(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
    assert held[1] - held[0] < 20_000  # bytes; 6,000 detections would take a megabyte
