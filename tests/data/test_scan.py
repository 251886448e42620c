"""The scan of images, and its memory."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from detkit.data import scan
from detkit.data.scan import hash_files, scan_images
from detkit.image import ImageHeader
from tests.oracles import write_image


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Path]:
    """A cache of its own, and the images that are really opened."""
    monkeypatch.setenv("DETKIT_CACHE", str(tmp_path / "cache"))
    opened: list[Path] = []

    def look(path: Path) -> ImageHeader:
        opened.append(path)
        return really(path)

    really = scan.check_image
    monkeypatch.setattr(scan, "check_image", look)
    return opened


def test_an_image_is_opened_once_until_it_changes(tmp_path: Path, looked_at: list[Path]) -> None:
    paths = [tmp_path / "images" / f"{index}.png" for index in range(3)]
    for index, path in enumerate(paths):
        write_image(path, (10 + index, 20), seed=index)
    sizes = [(10, 20), (11, 20), (12, 20)]
    assert [look[:2] for look in scan_images(paths)] == sizes
    assert sorted(looked_at) == paths
    assert [look[:2] for look in scan_images(paths)] == sizes
    assert len(looked_at) == 3
    write_image(paths[1], (50, 60))
    assert [look[:2] for look in scan_images(paths)] == [(10, 20), (50, 60), (12, 20)]
    assert looked_at[3:] == [paths[1]]
    same = paths[0].stat()
    os.utime(paths[0], ns=(same.st_atime_ns, same.st_mtime_ns + 1))
    scan_images(paths)
    assert looked_at[4:] == [paths[0]]


def test_a_reason_is_not_remembered(tmp_path: Path, looked_at: list[Path]) -> None:
    path = tmp_path / "late.png"
    assert scan_images([path]) == ["no such image file. Check the path."]
    path.write_bytes(b"")
    assert scan_images([path]) == ["the file is empty. Copy or download it again."]
    write_image(path, (7, 9))
    assert scan_images([path]) == [ImageHeader(7, 9, 1)]


@pytest.mark.parametrize("broken", ["a file", "junk", "read-only"])
def test_a_cache_that_fails_costs_nothing_but_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    write_image(tmp_path / "a.png", (7, 9))
    cache = tmp_path / "cache"
    if broken == "a file":
        cache.write_text("not a folder")
    elif broken == "junk":
        cache.mkdir()
        (cache / f"scan-{scan.RULES}.sqlite").write_bytes(b"junk " * 1000)
    else:
        cache = Path("/proc/nowhere")
    monkeypatch.setenv("DETKIT_CACHE", str(cache))
    for _ in range(2):
        assert scan_images([tmp_path / "a.png"]) == [ImageHeader(7, 9, 1)]


def test_nothing_is_written_beside_the_images(tmp_path: Path, looked_at: list[Path]) -> None:
    write_image(tmp_path / "images" / "a.png")
    before = sorted(path for path in tmp_path.rglob("*") if "cache" not in path.parts)
    scan_images([tmp_path / "images" / "a.png"])
    hash_files([tmp_path / "images" / "a.png"])
    assert sorted(p for p in tmp_path.rglob("*") if "cache" not in p.parts) == before


def test_hashes_are_of_the_contents(tmp_path: Path) -> None:
    for name, content in {"a": b"one", "b": b"two", "c": b"one"}.items():
        (tmp_path / name).write_bytes(content)
    paths = [tmp_path / name for name in ("a", "b", "c", "missing")]
    one, two = (hashlib.sha256(content).hexdigest() for content in (b"one", b"two"))
    for _ in range(2):
        assert hash_files(paths) == [one, two, one, ""]
