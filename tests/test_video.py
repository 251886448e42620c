"""Video files and live streams, made here, read back and broken."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from detkit.errors import DataError
from detkit.video import Frame, LiveStream, VideoFile, VideoRecorder
from tests.web_server import serve

FPS = 10.0


def shade(number: int) -> int:
    return 20 + 8 * number


def write_video(
    path: Path,
    frames: int = 12,
    code: str = "mp4v",
    size: tuple[int, int] = (48, 64),
    fps: float = FPS,
) -> Path:
    """Frames of one colour each: red is their shade, green a constant, blue nothing."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*code), fps, size[::-1])
    for number in range(frames):
        picture = np.zeros((*size, 3), np.uint8)  # OpenCV's order: blue, green, red
        picture[:, :, 1], picture[:, :, 2] = 90, shade(number)
        writer.write(picture)
    writer.release()
    return path


def mean_colour(image: Tensor) -> tuple[float, ...]:
    return tuple(image.float().mean(dim=(1, 2)).tolist())


def read(path: Path) -> tuple[list[Frame], list[str]]:
    frames, problems = [], []
    with closing(VideoFile(path)) as video:
        for each in video.frames():
            frames.append(each) if isinstance(each, Frame) else problems.append(str(each))
    return frames, problems


@pytest.mark.parametrize(
    ("name", "code"), [("a.mp4", "mp4v"), ("a.avi", "MJPG"), ("a.mkv", "mp4v")]
)
def test_every_frame_of_a_file_comes_in_order(tmp_path: Path, name: str, code: str) -> None:
    path = write_video(tmp_path / name, code=code)
    frames, problems = read(path)
    assert not problems
    assert [frame.number for frame in frames] == list(range(12))
    assert [frame.name for frame in frames] == [f"{path}#{number}" for number in range(12)]
    assert [frame.seconds for frame in frames] == pytest.approx(np.arange(12) / FPS, abs=0.002)
    for number, frame in enumerate(frames):
        assert frame.image.shape == (3, 48, 64)
        assert frame.image.dtype == torch.uint8
        assert mean_colour(frame.image) == pytest.approx((shade(number), 90, 0), abs=6)  # RGB
        assert not frame.live


def test_a_phone_held_upright_gives_upright_frames(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4")
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40  # ISO 14496-12, 8.3.2: nine numbers of 32 bits
    turned = np.array([0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30], ">i4")
    data[matrix : matrix + 36] = turned.tobytes()
    path.write_bytes(data)
    frames, _ = read(path)
    assert frames[0].image.shape == (3, 64, 48)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "the file is empty. Copy or download it again."),
        (
            b"<html>404</html>",
            "a web page or XML, not a video of a known format. Convert it to MP4.",
        ),
        (b"#EXTM3U\n/etc/passwd\n", "not a video of a known format. Convert it to MP4."),
        (b"ffconcat version 1.0\nfile x\n", "not a video of a known format. Convert it to MP4."),
        (
            b"\0\0\0\x18ftypisom" + bytes(99),
            "the video cannot be opened, or is damaged. Copy it again, or convert it to MP4.",
        ),
    ],
)
def test_a_bad_file_gets_one_sentence(tmp_path: Path, data: bytes, sentence: str) -> None:
    path = tmp_path / "bad.mp4"
    path.write_bytes(data)
    with pytest.raises(DataError) as caught:
        VideoFile(path)
    assert str(caught.value) == f"{path}: {sentence}"


def test_a_missing_file_gets_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        VideoFile(tmp_path / "none.mp4")
    assert str(caught.value) == (
        f"{tmp_path / 'none.mp4'}: cannot be opened (No such file or directory). "
        "Check the path and its permissions."
    )


def test_a_file_that_was_cut_off_says_so_after_its_frames(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "whole.avi", code="MJPG").read_bytes()
    path = tmp_path / "cut.avi"
    path.write_bytes(whole.rpartition(b"idx1")[0].rsplit(b"00dc", 5)[0])  # AVI: a frame is a 00dc
    frames, problems = read(path)
    assert 0 < len(frames) < 9
    assert problems == [
        f"{path}: ends after {len(frames)} of 12 frames; it is cut off or damaged. "
        "Copy or download it again."
    ]


@pytest.mark.parametrize("size", [(48, 64), (49, 63), (1, 1)])
def test_what_is_recorded_can_be_watched(tmp_path: Path, size: tuple[int, int]) -> None:
    path = tmp_path / "a.mp4"
    with closing(VideoRecorder(path, FPS)) as recorder:
        for number in range(5):
            colour = torch.tensor([shade(number), 90, 0], dtype=torch.uint8)
            recorder.add(colour[:, None, None].expand(3, *size).contiguous())
    frames, problems = read(path)
    assert not problems
    assert len(frames) == recorder.written == 5
    height, width = frames[0].image.shape[1:]
    assert (height, width) == (size[0] + size[0] % 2, size[1] + size[1] % 2)
    if size != (1, 1):
        for number, frame in enumerate(frames):
            assert mean_colour(frame.image) == pytest.approx((shade(number), 90, 0), abs=6)


def test_frames_of_another_size_are_not_lost(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with closing(VideoRecorder(path, FPS)) as recorder:
        for side in (32, 48, 20):
            recorder.add(torch.full((3, side, side), 99, dtype=torch.uint8))
    frames, _ = read(path)
    assert [tuple(frame.image.shape) for frame in frames] == [(3, 32, 32)] * 3


def test_a_live_recording_keeps_time(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    moments = (0.0, 0.04, 0.5, 1.2)  # at 10 frames a second: turns 0, 0, 5 and 12
    with closing(VideoRecorder(path, FPS)) as recorder:
        for number, moment in enumerate(moments):
            picture = torch.full((3, 32, 32), 40 + 50 * number, dtype=torch.uint8)
            recorder.add(picture, moment)
    frames, _ = read(path)
    shades = [round((mean_colour(frame.image)[0] - 40) / 50) for frame in frames]
    assert shades == [0] + [1] * 4 + [2] * 7 + [3]


@pytest.mark.parametrize("fps", [0.02, 0.5, 0.99, 29.97, 240.02, 300.0, 960.0])
def test_time_lapse_and_slow_motion_keep_their_rate(tmp_path: Path, fps: float) -> None:
    path = write_video(tmp_path / "a.mp4", frames=4, fps=fps)
    with closing(VideoFile(path)) as video:
        assert video.fps == pytest.approx(fps, rel=1e-3)
        assert not video.timed
        assert video.rate_note == ""
        with closing(VideoRecorder(tmp_path / "b.mp4", video.fps)) as recorder:
            for frame in video.frames():
                assert isinstance(frame, Frame)
                recorder.add(frame.image, frame.seconds if video.timed else None)
    drawn = cv2.VideoCapture(str(tmp_path / "b.mp4"))
    seconds = drawn.get(cv2.CAP_PROP_FRAME_COUNT) / drawn.get(cv2.CAP_PROP_FPS)
    assert seconds == pytest.approx(4 / fps, rel=1e-3)


@pytest.mark.parametrize(
    ("stated", "milliseconds", "fps"),
    [
        (1000.0, [0, 33, 67, 100], 30.0),  # a screen recorder: the rate of its clock
        (90000.0, [0, 40, 80, 120], 25.0),
        (0.0, [0, 2000, 4000], 25.0),  # no rate; a time lapse by its times
        (float("nan"), [0, 0, 0], 25.0),  # nor times
        (0.0, [], 25.0),
    ],
)
def test_a_rate_that_the_frames_contradict_is_not_believed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stated: float,
    milliseconds: list[float],
    fps: float,
) -> None:
    path = write_video(tmp_path / "a.mp4", frames=4)

    class Capture:
        """A file of this rate and these times."""

        def __init__(self) -> None:
            self.times = iter(milliseconds)
            self.now = 0.0

        def isOpened(self) -> bool:  # noqa: N802
            return True

        def grab(self) -> bool:
            self.now = next(self.times, -1.0)
            return self.now >= 0

        def get(self, which: int) -> float:
            return {cv2.CAP_PROP_FPS: stated, cv2.CAP_PROP_POS_MSEC: self.now}.get(which, 0.0)

        def release(self) -> None:
            pass

    monkeypatch.setattr("detkit.video.file.open_with_ffmpeg", lambda *_: Capture())
    video = VideoFile(path)
    assert video.fps == pytest.approx(fps, rel=0.01)
    assert video.timed
    states = "states no frame rate for its frames"
    if stated > 0:
        states = f"states {stated:g} frames a second, which its frames contradict"
    note = f"{path}: {states}; recorded by their times, at {video.fps:g}."
    assert video.rate_note == note


def test_a_recording_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    recorder = VideoRecorder(tmp_path / "no folder" / "a.mp4", FPS)
    with pytest.raises(DataError) as caught:
        recorder.add(torch.zeros(3, 32, 32, dtype=torch.uint8))
    assert str(caught.value) == (
        f"{tmp_path / 'no folder' / 'a.mp4'}: OpenCV here cannot write mp4v video there."
    )
    recorder.close()


# ------------------------------------------------------------------------------ live streams


def parts(count: int, seconds: float) -> Iterator[bytes]:
    """A web camera: one JPEG after another, each its own shade."""
    for number in range(count):
        picture = np.zeros((48, 64, 3), np.uint8)
        picture[:, :, 2] = shade(number % 25)
        jpeg = cv2.imencode(".jpg", picture)[1].tobytes()
        yield b"--next\r\nContent-Type: image/jpeg\r\n"
        yield b"Content-Length: %d\r\n\r\n%b\r\n" % (len(jpeg), jpeg)
        time.sleep(seconds)


def begin(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", "multipart/x-mixed-replace; boundary=next")
    handler.end_headers()


def camera(handler: BaseHTTPRequestHandler) -> None:
    begin(handler)
    for part in parts(25, 0.03):
        handler.wfile.write(part)


def endless_camera(handler: BaseHTTPRequestHandler) -> None:
    begin(handler)
    for part in parts(10_000, 0.03):
        handler.wfile.write(part)


def stalling_camera(handler: BaseHTTPRequestHandler) -> None:
    begin(handler)
    for part in parts(8, 0.03):
        handler.wfile.write(part)
    time.sleep(4)


@pytest.fixture(scope="module")
def web() -> Iterator[str]:
    pages = {"/camera": camera, "/endless": endless_camera, "/stall": stalling_camera}
    with serve(pages) as address:
        yield address


def test_who_is_slow_gets_the_newest_frame(web: str) -> None:
    with closing(LiveStream(f"{web}/camera", "cam")) as stream:
        frames = []
        for frame in stream.frames():
            assert isinstance(frame, Frame)
            frames.append(frame)
            time.sleep(0.15)  # five frames come in this time
    numbers = [frame.number for frame in frames]
    assert numbers == sorted(set(numbers))
    assert numbers[-1] == 24  # the last is never left out
    assert len(frames) < 20
    assert frames[-1].dropped == 25 - len(frames)
    assert frames[0].seconds == 0
    assert frames[-1].name == "cam#24"
    assert all(frame.live for frame in frames)
    for frame in frames:  # what came is what its number says
        assert mean_colour(frame.image)[0] == pytest.approx(shade(frame.number), abs=8)


def test_a_stream_that_falls_silent_ends_in_one_sentence(web: str) -> None:
    started = time.monotonic()
    with closing(LiveStream(f"{web}/stall", "cam", stall_seconds=1.0)) as stream:
        *frames, last = stream.frames()
    assert time.monotonic() - started < 6
    assert len(frames) > 0
    assert isinstance(last, DataError)
    assert str(last) == (
        "cam: no frame for 1 s; the stream has stalled. Check its sender and the network."
    )


def test_a_stream_that_is_not_there_says_so(web: str) -> None:
    with closing(LiveStream(f"{web}/nothing", "cam", stall_seconds=2.0)) as stream:
        (only,) = stream.frames()
    assert str(only) == (
        "cam: no picture comes from it. Check the address, its password, and that it is sending."
    )


def test_a_camera_that_is_not_there_says_so() -> None:
    with closing(LiveStream(97, "camera:97", stall_seconds=2.0)) as stream:
        (only,) = stream.frames()
    assert str(only) == (
        "camera:97: no picture comes from it. Check that it is plugged in, that you may use it, "
        "and that no other program does; another camera is another number."
    )


def test_a_stream_can_be_stopped(web: str) -> None:
    seen = []
    with closing(LiveStream(f"{web}/endless", "cam", stopped=lambda: len(seen) == 3)) as stream:
        for frame in itertools.islice(stream.frames(), 100):
            seen.append(frame)
    assert len(seen) == 3
