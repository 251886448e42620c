"""Archives from elsewhere: honest ones come whole, all others are refused and write nothing."""

from __future__ import annotations

import io
import random
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from detkit.data.unpack import Limits, unpack
from detkit.errors import DataError

WIDE = Limits(members=100, size=10_000_000)
DISTRUST = "It is not what it should be; remove it and fetch it again."
FILES = {"top.txt": b"top", "photos/1.jpg": b"one" * 1000, "photos/deep/2.jpg": b""}


def tar_of(path: Path, *members: tuple[tarfile.TarInfo, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:
        for info, content in members:
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def tar_member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def honest(path: Path) -> Path:
    """An archive of ``FILES`` and a folder, tar or zip by its name."""
    if path.suffix == ".tar":
        folder = (tar_member("empty", tarfile.DIRTYPE), b"")
        return tar_of(path, folder, *((tar_member(name), FILES[name]) for name in FILES))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("empty/", b"")
        for name, content in FILES.items():
            packed.writestr(name, content)
    return path


def below(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def refusal(archive: Path, limits: Limits = WIDE) -> str:
    """What is said; nothing may come to be beside the folder."""
    around = set(archive.parent.iterdir())
    folder = archive.parent / "within" / "unpacked"
    with pytest.raises(DataError) as caught:
        unpack(archive, folder, limits)
    assert set(archive.parent.iterdir()) - around <= {folder.parent}
    assert not folder.exists() or all(path.is_relative_to(folder) for path in folder.rglob("*"))
    return str(caught.value)


@pytest.mark.parametrize("name", ["a.tar", "a.zip"])
def test_an_honest_archive_comes_whole(tmp_path: Path, name: str) -> None:
    unpack(honest(tmp_path / name), tmp_path / "to", WIDE)
    assert below(tmp_path / "to") == FILES
    assert (tmp_path / "to" / "empty").is_dir()


def test_the_mode_of_a_member_counts_for_nothing(tmp_path: Path) -> None:
    info = tar_member("run.sh")
    info.mode = 0o6777
    unpack(tar_of(tmp_path / "a.tar", (info, b"#!/bin/sh")), tmp_path / "to", WIDE)
    assert stat.S_IMODE((tmp_path / "to" / "run.sh").stat().st_mode) & 0o7111 == 0


@pytest.mark.parametrize(
    ("name", "trouble"),
    [
        ("../evil.txt", "leads out of the folder"),
        ("photos/../../evil.txt", "leads out of the folder"),
        ("/etc/evil.txt", "leads out of the folder"),
        ("..\\evil.txt", "has a name that is no plain path"),
        ("C:/evil.txt", "has a name that is no plain path"),
        ("photos/C:evil.txt", "has a name that is no plain path"),
    ],
)
def test_names_that_lead_elsewhere_are_refused(tmp_path: Path, name: str, trouble: str) -> None:
    tar = tar_of(tmp_path / "a.tar", (tar_member(name), b"evil"))
    assert refusal(tar) == f"{tar}: {name!r} {trouble}. {DISTRUST}"
    packed = tmp_path / "a.zip"
    with zipfile.ZipFile(packed, "w") as writer:
        writer.writestr(name, b"evil")
    assert refusal(packed) == f"{packed}: {name!r} {trouble}. {DISTRUST}"


@pytest.mark.parametrize(
    ("kind", "trouble"),
    [
        (tarfile.SYMTYPE, "is a link, which could lead out of the folder"),
        (tarfile.LNKTYPE, "is a link, which could lead out of the folder"),
        (tarfile.CHRTYPE, "is neither a file nor a folder"),
        (tarfile.BLKTYPE, "is neither a file nor a folder"),
        (tarfile.FIFOTYPE, "is neither a file nor a folder"),
    ],
)
def test_links_and_devices_are_refused(tmp_path: Path, kind: bytes, trouble: str) -> None:
    member = tar_member("way", kind, link="/etc")
    tar = tar_of(tmp_path / "a.tar", (member, b""), (tar_member("way/evil.txt"), b"evil"))
    assert refusal(tar) == f"{tar}: 'way' {trouble}. {DISTRUST}"


@pytest.mark.parametrize(
    ("kind", "trouble"),
    [
        (stat.S_IFLNK, "is a link, which could lead out of the folder"),
        (stat.S_IFIFO, "is neither a file nor a folder"),
    ],
)
def test_links_and_pipes_in_a_zip_are_refused(tmp_path: Path, kind: int, trouble: str) -> None:
    packed, info = tmp_path / "a.zip", zipfile.ZipInfo("way")
    info.create_system, info.external_attr = 3, (kind | 0o777) << 16
    with zipfile.ZipFile(packed, "w") as writer:
        writer.writestr(info, "/etc")
    assert refusal(packed) == f"{packed}: 'way' {trouble}. {DISTRUST}"


def test_an_encrypted_member_is_refused(tmp_path: Path) -> None:
    packed = honest(tmp_path / "a.zip")
    with zipfile.ZipFile(packed) as reader:
        start = reader.start_dir
    raw = bytearray(packed.read_bytes())
    raw[start + 8] |= 1  # the flag in the directory's first entry
    packed.write_bytes(raw)
    assert refusal(packed) == f"{packed}: 'empty' is encrypted. {DISTRUST}"


@pytest.mark.parametrize("name", ["a.tar", "a.zip"])
def test_too_many_members_are_refused(tmp_path: Path, name: str) -> None:
    archive = honest(tmp_path / name)
    said = refusal(archive, Limits(members=3, size=10_000))
    assert said == f"{archive}: holds more than 3 files. {DISTRUST}"


def test_a_bomb_is_stopped_as_it_is_written(tmp_path: Path) -> None:
    packed = tmp_path / "bomb.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as writer:
        writer.writestr("zeros", bytes(50_000_000))
    assert packed.stat().st_size < 60_000
    assert refusal(packed) == f"{packed}: unpacks to more than 10 MB. {DISTRUST}"
    assert (tmp_path / "within/unpacked/zeros").stat().st_size < 12_000_000


@pytest.mark.parametrize(
    "names", [("twice", "twice"), ("way", "way/below"), ("way/below", "way"), ("a/b", "a/./b")]
)
def test_one_place_named_twice_is_refused(tmp_path: Path, names: tuple[str, str]) -> None:
    tar = tar_of(tmp_path / "a.tar", *((tar_member(name), b"x") for name in names))
    said = refusal(tar)
    assert said.endswith(f": stands in the archive twice, or as a file and as a folder. {DISTRUST}")


@pytest.mark.parametrize("content", [b"", b"<html>Not found</html>", bytes(100), b"\x1f\x8b" * 99])
def test_what_is_no_archive_is_said_to_be_none(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(content)
    said = refusal(path)
    assert said.startswith(f"{path}: cannot be unpacked (")
    assert said.endswith(
        "): it is damaged, or neither a plain tar nor a zip. Remove it and fetch it again."
    )


def test_a_compressed_tar_is_refused(tmp_path: Path) -> None:
    path = tar_of(tmp_path / "a.tgz", (tar_member("a"), b"a"), mode="w:gz")
    assert refusal(path).startswith(f"{path}: cannot be unpacked (")


def test_a_damaged_member_is_noticed(tmp_path: Path) -> None:
    packed = tmp_path / "a.zip"
    with zipfile.ZipFile(packed, "w") as writer:
        writer.writestr("photo.jpg", b"light and shadow")
    packed.write_bytes(packed.read_bytes().replace(b"shadow", b"shaddw"))
    assert refusal(packed) == (
        f"{packed}: cannot be unpacked (Bad CRC-32 for file 'photo.jpg'): it is damaged, or "
        "neither a plain tar nor a zip. Remove it and fetch it again."
    )


def test_a_tar_that_ends_early_is_noticed(tmp_path: Path) -> None:
    tar = tar_of(tmp_path / "a.tar", (tar_member("photo.jpg"), bytes(50_000)))
    tar.write_bytes(tar.read_bytes()[:20_000])
    assert refusal(tar).startswith(f"{tar}: cannot be unpacked (unexpected end of data): ")


@pytest.mark.parametrize("name", ["a.tar", "a.zip"])
def test_mutated_archives_are_unpacked_or_refused(tmp_path: Path, name: str) -> None:
    good, draw = honest(tmp_path / name).read_bytes(), random.Random(0)
    inside = tmp_path / "inside"
    refusals: list[str] = []
    for turn in range(300):
        raw = bytearray(good)
        for _ in range(draw.randint(1, 8)):
            spot = draw.randrange(len(raw) if turn % 2 else min(512, len(raw)))
            raw[spot] = draw.randrange(256)
        inside.mkdir()
        path = inside / name
        path.write_bytes(raw[: draw.randrange(len(raw))] if turn % 5 == 0 else raw)
        try:
            unpack(path, inside / "to", WIDE)
        except DataError as problem:
            refusals.append(str(problem))
        assert set(inside.iterdir()) <= {path, inside / "to"}
        assert set(tmp_path.iterdir()) == {tmp_path / name, inside}
        inside.rename(tmp_path.parent / f"{tmp_path.name}-{turn}")
    assert 100 < len(refusals) < 300
    assert all(said.startswith(str(inside)) for said in refusals)
