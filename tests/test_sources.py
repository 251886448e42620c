"""What a person may name as a source, and zips of all kinds."""

from __future__ import annotations

import io
import logging
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from detkit import sources
from detkit.errors import ConfigError, DataError
from detkit.sources import Source, find_sources, read_source, safe_stem
from detkit.video import Frame
from tests.test_video import write_video

NOTHING = "no image there; give an image, a folder, a glob, a zip, a video, a URL or camera:0."


def png(seed: int = 0) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def read(source: Source) -> tuple[dict[str, tuple[int, ...]], list[str]]:
    frames, problems = {}, []
    for each in read_source(source):
        if isinstance(each, Frame):
            frames[each.name] = tuple(each.image.shape)
        else:
            problems.append(str(each))
    return frames, problems


def test_files_folders_and_globs(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.PNG", "notes.txt", "sub/a.jpg", "sub/clip.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    everything = [Source("image", str(tmp_path / name)) for name in ("a.jpg", "b.PNG", "sub/a.jpg")]
    assert find_sources([str(tmp_path)]) == everything
    assert find_sources([str(tmp_path / "*.jpg"), tmp_path / "a.jpg"]) == everything[:1]
    assert find_sources([str(tmp_path / "sub" / "*")]) == [
        everything[2],
        Source("video", str(tmp_path / "sub" / "clip.mp4")),
    ]


def test_what_only_looks_like_an_image_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / ".thumbnails").mkdir()
    for name in ("a.jpg", "._a.jpg", "folder.jpg/b.png", ".thumbnails/a.jpg"):
        (tmp_path / name).touch()
    inside = [Source("image", str(tmp_path / name)) for name in ("a.jpg", "folder.jpg/b.png")]
    assert find_sources([str(tmp_path)]) == inside
    assert find_sources([str(tmp_path / "*.jpg")]) == inside[:1]
    hidden = Source("image", str(tmp_path / "._a.jpg"))
    assert find_sources([str(tmp_path / "._*.jpg")]) == [hidden]  # who asks for it gets it


@pytest.mark.parametrize(
    ("word", "kind", "name", "stem"),
    [
        ("0", "stream", "camera:0", "camera_0"),
        ("camera:2", "stream", "camera:2", "camera_2"),
        (1, "stream", "camera:1", "camera_1"),
        ("https://a.org/b/dog%20one.jpg?x=1", "url", None, "dog_one"),
        ("http://a.org/", "url", None, "a"),
        ("http://a.org/clip.MP4", "video", None, "clip"),
        ("http://a.org/live.m3u8", "stream", None, "live"),
        ("rtsp://me:secret@cam.local/door", "stream", "rtsp://cam.local/door", "door"),
        ("stream:http://cam.local/video", "stream", "http://cam.local/video", "video"),
    ],
)
def test_urls_and_cameras(word: str | int, kind: str, name: str | None, stem: str) -> None:
    (source,) = find_sources([word])
    assert (source.kind, source.name, source.stem) == (kind, name or word, stem)


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("nothing.jpg", f"nothing.jpg: {NOTHING}"),
        ("*.nothing", f"*.nothing: {NOTHING}"),
        ("camera:front", "camera:front: a camera is a number; the first is camera:0."),
        ("camera:-1", "camera:-1: a camera is a number; the first is camera:0."),
        (
            "ftp://me:pw@a.org/b.jpg",
            "ftp://a.org/b.jpg: ftp:// is not read here; give http, https, or a stream such as "
            "rtsp.",
        ),
        (
            "stream:file:///etc/passwd",
            "file:///etc/passwd: file:// is not read here; give http, https, or a stream such as "
            "rtsp.",
        ),
        ("http://[a/b.jpg", "http://[a/b.jpg: not an address that can be read."),
    ],
)
def test_what_means_nothing_gets_one_sentence(word: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        find_sources([word])
    assert str(caught.value) == sentence


def test_a_file_named_like_a_camera_is_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("0").write_bytes(png())
    assert find_sources(["0"]) == [Source("image", "0")]
    assert find_sources(["camera:0"]) == [Source("stream", "0")]


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("a/b/dog.jpg", "dog"),
        ("..\\..\\C:evil.jpg", "C_evil"),
        ("../..", "image"),
        (".hidden.jpg", "hidden"),
        ("ein Hünd\n\x1b[31m.jpg", "ein_Hünd_31m"),
        ("x" * 500 + ".jpg", "x" * 80),
    ],
)
def test_names_from_outside_become_plain(name: str, stem: str) -> None:
    assert safe_stem(name) == stem


def test_a_zip_is_read_in_memory(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "some.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/b/dog.png", png(1))
        archive.writestr("a/", b"")
        archive.writestr("CAT.PNG", png(2))
        archive.writestr("notes.txt", b"no image")
        archive.writestr("__MACOSX/a/b/._dog.png", b"no image")
        archive.writestr("inner.zip", b"no image")
    with caplog.at_level(logging.WARNING):
        frames, problems = read(*find_sources([path]))
    assert frames == {f"{path}/a/b/dog.png": (3, 9, 12), f"{path}/CAT.PNG": (3, 9, 12)}
    assert not problems
    assert caplog.messages == [f"{path}: 3 files in it are no images; passed over."]
    assert sorted(tmp_path.iterdir()) == [path]


def test_bad_members_are_refused_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "MEMBER_BYTES", 2**20)
    path = tmp_path / "some.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("../up.png", "/root.png", "a\\..\\..\\up.png", "C:\\up.png"):
            archive.writestr(name, png())
        archive.writestr("bomb.png", bytes(2**20 + 1))
        archive.writestr("cut.png", png()[:100])
        archive.writestr("empty.png", b"")
        archive.writestr("good.png", png())
    frames, problems = read(Source("zip", str(path)))
    assert list(frames) == [f"{path}/good.png"]
    leaves = "its name leads out of the zip, as an attack's would. Rename it."
    assert problems == [
        f"{path}/../up.png: {leaves}",
        f"{path}//root.png: {leaves}",
        f"{path}/a\\..\\..\\up.png: {leaves}",
        f"{path}/C:\\up.png: {leaves}",
        f"{path}/bomb.png: unpacks to more than 1 MiB. Unpack it.",
        f"{path}/cut.png: the image is cut off or damaged. Copy or download it again.",
        f"{path}/empty.png: the file is empty. Copy or download it again.",
    ]


def test_a_member_that_is_larger_than_it_says_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "liar.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", bytes(10**6))
    honest, lie = (10**6).to_bytes(4, "little"), (100).to_bytes(4, "little")
    path.write_bytes(path.read_bytes().replace(honest, lie))
    _, problems = read(Source("zip", str(path)))
    assert problems == [f"{path}/a.png: is damaged in the zip. Copy or download it again."]


def test_an_encrypted_member_says_so(tmp_path: Path) -> None:
    path = tmp_path / "secret.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.png", png())
    data = bytearray(path.read_bytes())
    data[6] |= 1  # general purpose flags: in the local header, and in the directory
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    _, problems = read(Source("zip", str(path)))
    assert problems == [
        f"{path}/a.png: is encrypted or packed in a way that is not read here. Unpack it."
    ]


@pytest.mark.parametrize("data", [b"", b"<html>", b"PK\x03\x04" + bytes(40)])
def test_what_is_no_zip_says_so(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(data)
    assert read(Source("zip", str(path))) == (
        {},
        [f"{path}: cannot be opened (not a zip, or damaged). Copy or download it again."],
    )


def test_mutated_zips_never_crash(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(3):
            archive.writestr(f"{number}.png", png(number))
    whole = np.frombuffer(path.read_bytes(), np.uint8)
    rng = np.random.default_rng(0)
    for _ in range(200):
        mutated = whole.copy()
        places = rng.integers(0, len(whole), rng.integers(1, 6))
        mutated[places] = rng.integers(0, 256, len(places))
        path.write_bytes(mutated.tobytes()[: rng.integers(len(whole) // 2, len(whole) + 1)])
        frames, problems = read(Source("zip", str(path)))
        assert len(frames) + len(problems) <= 4


def test_member_names_cannot_speak_to_a_terminal(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a\x1b[31m\n.png", png())
    assert list(read(Source("zip", str(path)))[0]) == [f"{path}/a?[31m?.png"]


def test_a_video_and_an_unreadable_one(tmp_path: Path) -> None:
    good, bad = write_video(tmp_path / "a.mp4"), tmp_path / "b.mp4"
    bad.write_bytes(b"")
    assert len(read(Source("video", str(good)))[0]) == 12
    assert read(Source("video", str(bad))) == (
        {},
        [f"{bad}: the file is empty. Copy or download it again."],
    )


def test_an_image_and_an_unreadable_one(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png())
    (frame,) = read_source(Source("image", str(tmp_path / "a.png")))
    assert isinstance(frame, Frame)
    assert torch.equal(
        frame.image, torch.from_numpy(np.array(Image.open(io.BytesIO(png())))).permute(2, 0, 1)
    )
    (problem,) = read_source(Source("image", str(tmp_path / "b.png")))
    assert isinstance(problem, DataError)
