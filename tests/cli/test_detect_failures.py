"""`detkit detect` where one image fails: it is said and counted, and all that was found is kept."""

from __future__ import annotations

import io
import json
import os
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from detkit.data.detection_writers import saving
from detkit.data.formats.base import ImageDetections
from detkit.detections import Detections
from detkit.detectors.yolo_v2 import YoloV2
from detkit.errors import DataError
from detkit.json_list import GrowingJsonList, JsonList
from detkit.video import VideoRecorder
from detkit.workflows import detect as detect_run
from tests.cli.test_detect import detect, place  # noqa: F401
from tests.forked import Forked
from tests.oracles import write_image
from tests.test_video import write_video


def photos_of(place: Path, count: int) -> list[Path]:  # noqa: F811
    return [place / "voc" / "JPEGImages" / f"{name}.jpg" for name in (0, 1, 2, 5, 6, 7)[:count]]


def ids_in(path: Path) -> list[str]:
    return [entry["image_id"] for entry in json.loads(path.read_text())]


# ---------------------------------------------------------------------------- one bad picture


@pytest.mark.parametrize("size", [(8, 70_000), (70_000, 8)], ids=["wide", "high"])
def test_an_image_too_long_for_a_jpeg_has_its_detections(
    size: tuple[int, int],
    place: Path,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before, after = photos_of(place, 2)
    long, out = tmp_path / "long.png", tmp_path / "out"
    write_image(long, size)
    assert detect(place, out, before, long, after, "--score-threshold", "0") == 2
    said = capsys.readouterr()
    assert said.err == (
        f"detkit detect: {long}: its picture {out / 'long.jpg'} cannot be made (JPEG has at most "
        "65,500 pixels a side)\n"
    )
    assert " 0 refused, 1 not drawn, " in said.out
    assert sorted(path.name for path in out.iterdir()) == [
        "0.jpg", "1.jpg", "detections.json", "images.json"
    ]  # fmt: skip
    assert ids_in(out / "images.json") == ["0", "long", "1"]
    assert "long" in ids_in(out / "detections.json")


def no_memory() -> MemoryError:
    return MemoryError()


def allocation() -> RuntimeError:
    return RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate")


@pytest.mark.parametrize(
    ("problem", "why"),
    [
        (no_memory, "memory ran out"),
        (allocation, "memory ran out"),
        (lambda: RuntimeError("size of tensor a must match\nand more"), "size of tensor a must"),
    ],
    ids=["python", "torch", "other"],
)
def test_an_image_that_the_detector_fails_on_is_left_out(
    problem: Callable[[], Exception],
    why: str,
    place: Path,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    honest, out, odd = YoloV2.detect_batch, tmp_path / "out", tmp_path / "odd.png"
    write_image(odd, (33, 44))

    def detect_batch(self: YoloV2, images: list[Tensor], *rest: Any, **more: Any) -> Any:
        if any(image.shape[1:] == (33, 44) for image in images):
            raise problem()
        return honest(self, images, *rest, **more)

    monkeypatch.setattr(YoloV2, "detect_batch", detect_batch)
    before, after = photos_of(place, 2)
    assert detect(place, out, before, odd, after) == 2
    said = capsys.readouterr()
    assert said.err.startswith(f"detkit detect: {odd}: cannot be looked at ({why}")
    assert said.err.count("\n") == 1
    assert " 1 refused, " in said.out
    assert ids_in(out / "images.json") == ["0", "1"]
    assert not (out / "odd.jpg").exists()


def test_a_picture_that_cannot_be_drawn_or_written_is_left_out(
    place: Path,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    honest, drawn = detect_run.draw, []

    def draw(image: Tensor, found: Detections) -> Tensor:
        drawn.append(image)
        if len(drawn) == 2:
            raise RuntimeError("no font")
        return honest(image, found)

    monkeypatch.setattr(detect_run, "draw", draw)
    (tmp_path / "2.jpg").mkdir()  # where a picture should go
    (tmp_path / "2.jpg" / "x").touch()
    first, second, third = photos_of(place, 3)
    assert detect(place, tmp_path, first, second, third) == 2
    assert capsys.readouterr().err == (
        f"detkit detect: {second}: its picture {tmp_path / '1.jpg'} cannot be made (no font)\n"
        f"detkit detect: {third}: its picture {tmp_path / '2.jpg'} cannot be made (Is a "
        "directory)\n"
    )
    assert ids_in(tmp_path / "images.json") == ["0", "1", "2"]
    assert (tmp_path / "0.jpg").is_file()


@pytest.mark.parametrize("name", ["-v.jpg", "100%d.jpg", "a\nb.jpg", f"{'x' * 251}.jpg", " .jpg"])
def test_odd_names_are_names(name: str, place: Path, tmp_path: Path) -> None:  # noqa: F811
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    (folder / name).write_bytes(photos_of(place, 1)[0].read_bytes())
    assert detect(place, out, folder) == 0
    (image_id,) = ids_in(out / "images.json")
    with Image.open(out / f"{image_id}.jpg") as picture:
        assert picture.size == (80, 60)


# ----------------------------------------------------------------------------------- videos


def test_a_video_that_cannot_be_written_keeps_its_lines(
    place: Path,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    honest, out, count = VideoRecorder.add, tmp_path / "out", iter(range(1000))

    def add(self: VideoRecorder, picture: Tensor, seconds: float | None = None) -> None:
        if next(count) == 5:
            raise DataError("the encoder ended")
        honest(self, picture, seconds)

    monkeypatch.setattr(VideoRecorder, "add", add)
    clip, (photo,) = write_video(tmp_path / "clip.mp4"), photos_of(place, 1)
    other = write_video(tmp_path / "other.mp4", frames=3)
    assert detect(place, out, clip, other, photo) == 2
    said = capsys.readouterr()
    assert said.err == (
        f"detkit detect: {clip}: {out / 'clip.mp4'} cannot be written (the encoder ended); "
        "clip.jsonl has what was found until then\n"
    )
    assert sorted(path.name for path in out.iterdir()) == [
        *("0.jpg", "clip.jsonl", "detections.json", "images.json", "other.jsonl", "other.mp4"),
    ]
    lines = [json.loads(line) for line in (out / "clip.jsonl").read_text().splitlines()]
    assert [line["frame"] for line in lines] == [0, 1, 2, 3, 4, 5]


def test_a_frame_that_cannot_be_drawn_on_is_shown_as_it_is(
    place: Path,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def draw(image: Tensor, found: Detections) -> Tensor:
        raise MemoryError

    monkeypatch.setattr(detect_run, "draw", draw)
    clip = write_video(tmp_path / "clip.mp4", frames=2)
    assert detect(place, tmp_path / "out", clip) == 2
    said = capsys.readouterr()
    assert said.err == "".join(
        f"detkit detect: {clip}#{number}: cannot be drawn on (memory ran out)\n"
        for number in range(2)
    )
    assert " 2 not drawn, " in said.out
    assert (tmp_path / "out" / "clip.mp4").is_file()


# ---------------------------------------------------------------------- what is written, always

ENTRIES = st.lists(st.lists(st.dictionaries(st.text(), st.integers() | st.text()), max_size=3))


@given(ENTRIES)
def test_a_growing_list_is_whole_after_every_entry(groups: list[list[dict[str, Any]]]) -> None:
    path = Path("/dev/shm" if os.path.isdir("/dev/shm") else ".") / f"{os.getpid()}.growing.json"
    growing, whole = GrowingJsonList(path), io.StringIO()
    plain = JsonList(whole)
    try:
        for group in groups:
            growing.add(group)
            for entry in group:
                plain.add(entry)
            assert json.loads(path.read_bytes()) == json.loads(whole.getvalue() + "]")
        with growing:
            plain.end()
        assert path.read_text() == whole.getvalue() + "\n"
    finally:
        path.unlink(missing_ok=True)


def fill(growing: GrowingJsonList) -> None:
    for number in range(1, 100):
        growing.add([{"number": number}, {"number": number}])


def test_a_full_disk_leaves_a_list_whole(tmp_path: Path) -> None:
    path, limits = tmp_path / "a.json", resource.getrlimit(resource.RLIMIT_FSIZE)
    growing = GrowingJsonList(path)
    growing.add([{"number": 0}])
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            fill(growing)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.filename == str(path)
    kept = [entry["number"] for entry in json.loads(path.read_text())]
    assert len(kept) > 10
    assert kept == [0, *(n for n in range(1, (len(kept) + 1) // 2) for _ in range(2))]
    with growing:
        growing.add([{"number": -1}])  # where there is room again
    assert json.loads(path.read_text())[-1] == {"number": -1}


def found_one() -> Detections:
    boxes = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    return Detections(boxes, torch.tensor([0.5]), torch.tensor([0]), ("cat",))


def find_two_and_fail(form: str, folder: Path) -> None:
    with saving(form, folder, ("cat",)) as add:
        for name in "ab":
            add(ImageDetections(name, f"{name}.jpg", (60, 80), found_one()))
        raise KeyError(form)


@pytest.mark.parametrize("form", ["json", "coco", "csv", "voc", "yolo"])
def test_what_was_found_before_an_error_is_kept(form: str, tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        find_two_and_fail(form, tmp_path)
    if form in ("json", "coco"):
        said = json.loads(
            (tmp_path / f"{'detections' if form == 'json' else form}.json").read_text()
        )
        assert len(said if form == "json" else said["annotations"]) == 2
    if form == "csv":
        assert len((tmp_path / "detections.csv").read_text().splitlines()) == 3
    if form in ("voc", "yolo"):
        folder = tmp_path / ("Annotations" if form == "voc" else "labels")
        assert sorted(path.stem for path in folder.iterdir()) == ["a", "b"]
    assert not [path for path in tmp_path.iterdir() if path.suffix in (".jsonl", ".part")]


def test_a_run_that_fails_at_once_leaves_earlier_files(tmp_path: Path) -> None:
    (tmp_path / "images.json").write_text("earlier")
    with pytest.raises(KeyError), saving("json", tmp_path, ("cat",)):
        raise KeyError
    assert [path.name for path in tmp_path.iterdir()] == ["images.json"]
    with saving("json", tmp_path, ("cat",)):
        pass
    assert (tmp_path / "images.json").read_text() == "[]\n"


@pytest.mark.slow
def test_a_killed_run_leaves_whole_lists(place: Path, tmp_path: Path) -> None:  # noqa: F811
    photos, out = tmp_path / "in", tmp_path / "out"
    photos.mkdir()
    for number in range(1500):
        (photos / f"{number}.jpg").symlink_to(photos_of(place, 1)[0])
    words = ["tools/detect.py", str(photos), "--weights", str(place / "run"), "--out", str(out)]
    run = Forked([*words, "--device", "cpu", "--score-threshold", "0"])
    until = time.monotonic() + 60
    while len(list(out.glob("*.jpg"))) < 20 and time.monotonic() < until:
        time.sleep(0.02)
    run.send_signal(signal.SIGKILL)
    run.communicate()
    assert run.returncode == -signal.SIGKILL
    # One that was being written when the run ended has no name of its own yet.
    pictures = {path.stem for path in out.glob("*.jpg") if not path.name.startswith(".detkit-")}
    assert len(pictures) >= 19
    assert pictures <= set(ids_in(out / "images.json")) < {str(number) for number in range(1500)}
    assert set(ids_in(out / "images.json")) <= set(ids_in(out / "detections.json"))
