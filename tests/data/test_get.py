"""Getting a dataset, through the command's own road, from a server on this machine."""

from __future__ import annotations

import hashlib
import io
import multiprocessing
import os
import re
import shutil
import tarfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from detkit.cli import data_get
from detkit.data import read_dataset
from detkit.data.get import get_dataset
from detkit.data.known import KNOWN_DATASETS, Archive, DatasetRecord, Expected
from detkit.data.unpack import Limits
from detkit.download import partial_path
from detkit.errors import DataError, DetkitError
from detkit.remote import DownloadSettings, RemoteFile, Watch
from tests.localhost import Page, Site, serving
from tests.oracles import voc_xml, write_voc

QUICK = DownloadSettings(
    stall_seconds=20.0, slowest=0, tries=2, progress_bytes=1, rounds=1, pause_seconds=0.01
)
LIMITS = Limits(members=100, size=1_000_000)


@pytest.fixture(autouse=True)
def _no_switches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.delenv("DETKIT_OFFLINE", raising=False)


@pytest.fixture
def site() -> Iterator[Site]:
    with serving() as running:
        yield running


def packed_voc(folder: Path, ids: list[str], split: str) -> bytes:
    """A tar of VOCdevkit/VOC2007 with these images, as the organisers pack theirs."""
    pages = {image_id: voc_xml([("cat", (1, 1, 40, 30))]) for image_id in ids}
    write_voc(folder / split, pages, split)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.add(folder / split, "VOCdevkit/VOC2007")
    return buffer.getvalue()


@pytest.fixture
def toy(site: Site, tmp_path: Path) -> DatasetRecord:
    """A dataset like VOC 2007: three images in one archive, two in another, one tree."""
    parts = {
        "trainval.tar": packed_voc(tmp_path / "made", ["1", "2", "3"], "trainval"),
        "test.tar": packed_voc(tmp_path / "made", ["4", "5"], "test"),
    }
    archives = []
    for name, body in parts.items():
        digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
        address = site.add(name, Page(body))
        archives.append(Archive(RemoteFile(name, (address,), len(body), digest), LIMITS))
    return DatasetRecord(
        name="toy",
        about="a toy",
        terms="free for all",
        folder="VOCdevkit/VOC2007",
        inside="VOCdevkit/VOC2007",
        archives=tuple(archives),
        expected=(
            Expected("JPEGImages/*.jpg", 5),
            Expected("Annotations/*.xml", 5),
            Expected("ImageSets/Main/trainval.txt", 3),
            Expected("ImageSets/Main/test.txt", 2),
        ),
        entry="{{format: voc, root: {root}/VOCdevkit, split: VOC2007/trainval}}",
    )


def changed(record: DatasetRecord, **fields: object) -> DatasetRecord:
    names = DatasetRecord.__dataclass_fields__
    return DatasetRecord(**{name: fields.get(name, getattr(record, name)) for name in names})


def check_whole(out: Path) -> None:
    """The dataset reads, and nothing lies beside it but the lock."""
    for split, count in (("trainval", 3), ("test", 2)):
        entry = {"format": "voc", "root": out / "VOCdevkit", "split": f"VOC2007/{split}"}
        assert len(read_dataset(entry)) == count
    assert {path.name for path in out.iterdir()} == {"VOCdevkit", ".toy.lock"}
    assert {path.name for path in (out / "VOCdevkit").iterdir()} == {"VOC2007"}


def paths(site: Site) -> list[str]:
    return [path for path, _, _ in site.requests]


# ------------------------------------------------------------------------------ what goes well


def test_a_dataset_comes_whole_and_is_not_fetched_twice(
    site: Site, toy: DatasetRecord, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    data_get.get("toy", out, [], {"toy": toy}, settings=QUICK)
    check_whole(out)
    said = capsys.readouterr()
    assert said.out.splitlines() == [
        f"toy is in {out}/VOCdevkit/VOC2007 (free for all)",
        f"in a config: {{format: voc, root: {out}/VOCdevkit, split: VOC2007/trainval}}",
    ]
    sizes = [f"{round((archive.file.size or 0) / 1000)} kB" for archive in toy.archives]
    lines = [re.sub(r"\d+ s$", "0 s", line) for line in said.err.splitlines()]
    assert [line for line in lines if line.startswith("fetching")] == [
        f"fetching trainval.tar ({sizes[0]})",
        f"fetching trainval.tar: done, {sizes[0]} in 0 s",
        f"fetching test.tar ({sizes[1]})",
        f"fetching test.tar: done, {sizes[1]} in 0 s",
    ]
    data_get.get("toy", out, [], {"toy": toy}, settings=QUICK)
    assert capsys.readouterr().err == (
        f"{out}/VOCdevkit/VOC2007: toy is there already; nothing is fetched.\n"
    )
    assert paths(site) == ["/trainval.tar", "/test.tar"]


def test_archives_are_kept_where_asked(toy: DatasetRecord, tmp_path: Path) -> None:
    get_dataset(toy, tmp_path / "out", keep=True, settings=QUICK)
    names = {path.name for path in (tmp_path / "out" / "downloads").iterdir()}
    assert names == {"trainval.tar", "test.tar"}


def test_a_zip_without_an_inner_folder(site: Site, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as packed:
        packed.writestr("val2017/1.jpg", b"one")
        packed.writestr("annotations/instances_val2017.json", b"{}")
    address = site.add("v1.0.zip", Page(buffer.getvalue(), chunked=True))
    record = DatasetRecord(
        name="zipped",
        about="a toy",
        terms="free for all",
        folder="zipped",
        inside="",
        archives=(Archive(RemoteFile("val.zip", (address,)), LIMITS),),
        expected=(Expected("val2017/*.jpg", 1), Expected("annotations/instances_*.json", 1)),
        entry="",
    )
    place = get_dataset(record, tmp_path / "out", settings=QUICK)
    assert (place / "val2017" / "1.jpg").read_bytes() == b"one"


def test_archives_fetched_by_hand(site: Site, toy: DatasetRecord, tmp_path: Path) -> None:
    hand = [tmp_path / "first.bin", tmp_path / "second.bin"]  # the names count for nothing
    for path, archive in zip(hand, reversed(toy.archives), strict=True):
        path.write_bytes(site.pages[archive.file.name].body)
    get_dataset(toy, tmp_path / "out", hand, settings=QUICK)
    check_whole(tmp_path / "out")
    assert all(path.exists() for path in hand)
    assert not site.requests


@pytest.mark.data
def test_bccd_from_an_archive_as_github_packs_it(
    data_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hand = tmp_path / "BCCD_Dataset-1.0.zip"
    with zipfile.ZipFile(hand, "w") as packed:
        for path in (data_root / "bccd").rglob("*"):
            packed.write(path, f"BCCD_Dataset-1.0/BCCD/{path.relative_to(data_root / 'bccd')}")
    words = ["bccd", "--out", str(tmp_path / "data"), "--from", str(hand)]
    assert data_get.main(words) == 0
    entry = {"format": "voc", "root": tmp_path / "data" / "bccd", "split": "trainval"}
    assert len(read_dataset(entry)) == 292
    root = (tmp_path / "data").as_posix()
    assert f"in a config: {{format: voc, root: {root}/bccd, split: trainval}}" in (
        capsys.readouterr().out
    )


# ------------------------------------------------------------------------------ what breaks off


def test_a_download_goes_on_and_what_is_unpacked_stays(
    site: Site, toy: DatasetRecord, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    site.pages["test.tar"].breaks = [5_000, 0, 0]
    with pytest.raises(DetkitError, match="5,000 bytes are kept"):
        get_dataset(toy, out, settings=QUICK)
    assert not (out / "VOCdevkit" / "VOC2007").exists()
    site.requests.clear()
    get_dataset(toy, out, settings=QUICK)
    check_whole(out)
    assert site.requests == [("/test.tar", "bytes=5000-", None)]


class _Stop(BaseException):
    """As sudden as a kill: no handler of ours may catch it."""


@pytest.mark.parametrize("call", ["replace", "unlink", "touch", "rmtree", "rmdir"])
@pytest.mark.parametrize("step", range(8))
def test_wherever_it_stops_the_next_run_completes_it(
    site: Site,
    toy: DatasetRecord,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    step: int,
) -> None:
    place = {"replace": os, "rmtree": shutil}.get(call, Path)
    real, left = getattr(place, call), [step]

    def stopping(*words: object, **named: object) -> object:
        left[0] -= 1
        if left[0] < 0:
            raise _Stop
        return real(*words, **named)

    with monkeypatch.context() as patch:
        patch.setattr(place, call, stopping)
        with suppress(_Stop):
            get_dataset(toy, tmp_path / "out", settings=QUICK)
    site.requests.clear()
    get_dataset(toy, tmp_path / "out", settings=QUICK)
    check_whole(tmp_path / "out")
    assert len(site.requests) <= 2


def test_half_of_an_unpacked_archive_is_done_again(toy: DatasetRecord, tmp_path: Path) -> None:
    half = tmp_path / "out/VOCdevkit/.toy.unpacking/trainval.tar.members/VOCdevkit/VOC2007"
    (half / "JPEGImages").mkdir(parents=True)
    (half / "JPEGImages" / "1.jpg").write_bytes(b"half")
    get_dataset(toy, tmp_path / "out", settings=QUICK)
    check_whole(tmp_path / "out")


def _get(record: DatasetRecord, out: Path, start: object) -> None:
    start.wait()  # type: ignore[attr-defined]
    get_dataset(record, out, settings=QUICK)


@pytest.mark.slow
def test_of_two_processes_one_fetches(site: Site, toy: DatasetRecord, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(2)
    both = [context.Process(target=_get, args=(toy, tmp_path / "out", start)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(120)
    assert [process.exitcode for process in both] == [0, 0]
    check_whole(tmp_path / "out")
    assert sorted(paths(site)) == ["/test.tar", "/trainval.tar"]


@pytest.mark.slow
def test_after_a_kill_it_goes_on_at_the_byte(
    site: Site, toy: DatasetRecord, tmp_path: Path
) -> None:
    site.pages["test.tar"].stalls = [6_000]
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(1)
    process = context.Process(target=_get, args=(toy, tmp_path / "out", start))
    process.start()
    part = partial_path(tmp_path / "out" / "downloads" / "test.tar")
    until = time.monotonic() + 60
    while not (part.exists() and part.stat().st_size == 6_000) and time.monotonic() < until:
        time.sleep(0.05)
    process.kill()
    process.join(60)
    site.requests.clear()
    get_dataset(toy, tmp_path / "out", settings=QUICK)
    check_whole(tmp_path / "out")
    assert site.requests == [("/test.tar", "bytes=6000-", None)]


# ------------------------------------------------------------------------------ what is refused


def test_something_else_in_its_place_is_left_there(
    site: Site, toy: DatasetRecord, tmp_path: Path
) -> None:
    place = write_voc(tmp_path / "VOCdevkit" / "VOC2007", {"9": voc_xml([])})
    with pytest.raises(DetkitError) as caught:
        get_dataset(toy, tmp_path, settings=QUICK)
    assert str(caught.value) == (
        f"{place}: is there, but is not all of toy: JPEGImages/*.jpg has 1 files, expected 5; "
        "Annotations/*.xml has 1 files, expected 5; ImageSets/Main/trainval.txt has 1 lines, "
        "expected 3; ImageSets/Main/test.txt has 0 lines, expected 2. It is left as it is; move it "
        "away, or name another folder with --out."
    )
    assert (place / "Annotations" / "9.xml").exists()
    assert not site.requests


def test_an_empty_folder_in_its_place_is_no_hindrance(toy: DatasetRecord, tmp_path: Path) -> None:
    (tmp_path / "out" / "VOCdevkit" / "VOC2007").mkdir(parents=True)
    get_dataset(toy, tmp_path / "out", settings=QUICK)
    check_whole(tmp_path / "out")


def test_archives_that_hold_something_else(toy: DatasetRecord, tmp_path: Path) -> None:
    record, out = changed(toy, expected=(Expected("JPEGImages/*.jpg", 9_963),)), tmp_path / "out"
    with pytest.raises(DataError) as caught:
        get_dataset(record, out, settings=QUICK)
    assert str(caught.value) == (
        "toy: its archives hold something else than expected: JPEGImages/*.jpg has 5 files, "
        f"expected 9,963. Remove {out}/downloads/trainval.tar, {out}/downloads/test.tar and fetch "
        "again."
    )
    assert not any((out / "VOCdevkit").iterdir())


def test_an_evil_archive_writes_nothing_outside(
    site: Site, toy: DatasetRecord, tmp_path: Path
) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("VOCdevkit/VOC2007/../../../../evil.txt"))
    site.pages["evil.tar"] = Page(buffer.getvalue())
    archive = Archive(RemoteFile("evil.tar", (site.address("evil.tar"),)), LIMITS)
    with pytest.raises(DataError, match="leads out of the folder"):
        get_dataset(changed(toy, archives=(archive,)), tmp_path / "out", settings=QUICK)
    assert not list(tmp_path.rglob("evil.txt"))
    assert not list(tmp_path.rglob("*.members"))


def test_too_little_room_is_said_before_the_first_byte(
    site: Site, toy: DatasetRecord, tmp_path: Path
) -> None:
    huge = Archive(toy.archives[0].file, Limits(members=9, size=10**18))
    with pytest.raises(DetkitError) as caught:
        get_dataset(changed(toy, archives=(huge,)), tmp_path, settings=QUICK)
    assert str(caught.value).startswith(f"{tmp_path}: toy needs 1000000000.0 GB, and ")
    assert not site.requests


def test_offline_names_every_archive_that_is_missing(
    site: Site, toy: DatasetRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DETKIT_OFFLINE", "1")
    out = tmp_path / "out"
    with pytest.raises(DetkitError) as caught:
        get_dataset(toy, out, settings=QUICK)
    first, second = (
        f"fetch it by hand ({each.file.size:,} bytes, {each.file.hash}) from "
        f"{each.file.addresses[0]} and put it at {out}/downloads/{each.file.name}."
        for each in toy.archives
    )
    assert str(caught.value) == (
        f"toy: DETKIT_OFFLINE is set, so nothing is fetched. Unset it, or {first} Also {second} "
        "Or say --from FILE for each."
    )
    (out / "downloads").mkdir()
    for archive in toy.archives:  # as that sentence says
        body = site.pages[archive.file.name].body
        (out / "downloads" / archive.file.name).write_bytes(body)
    get_dataset(toy, out, settings=QUICK)
    check_whole(out)
    assert not site.requests


def test_files_that_are_none_of_the_archives(toy: DatasetRecord, tmp_path: Path) -> None:
    missing, other = tmp_path / "missing.tar", tmp_path / "other.tar"
    other.write_bytes(b"other")
    with pytest.raises(DetkitError) as caught:
        get_dataset(toy, tmp_path / "out", [missing], settings=QUICK)
    assert str(caught.value) == f"{missing}: no such file. --from takes archives fetched by hand."
    with pytest.raises(DetkitError) as caught:
        get_dataset(toy, tmp_path / "out", [other], settings=QUICK)
    wanted = "; ".join(
        f"{each.file.name} ({each.file.size:,} bytes, {each.file.hash})" for each in toy.archives
    )
    assert str(caught.value) == (
        f"{other}: is none of toy's archives, by size and hash. Give {wanted}."
    )
    short = tmp_path / "test.tar"
    short.write_bytes(b"short")
    with pytest.raises(DetkitError) as caught:
        get_dataset(toy, tmp_path / "out", [short], settings=QUICK)
    assert str(caught.value) == (
        f"{short}: has 5 bytes, expected {toy.archives[1].file.size:,}. It is not test.tar, or not "
        "all of it; remove it or put the right file in its place."
    )


# ------------------------------------------------------------------------------ the table


@pytest.mark.parametrize("name", list(KNOWN_DATASETS))
def test_every_record_can_be_trusted(name: str) -> None:
    record = KNOWN_DATASETS[name]
    assert record.name == name
    assert record.expected
    for archive in record.archives:
        file = archive.file
        assert Path(file.name).name == file.name
        schemes = {urlsplit(address).scheme for address in file.addresses}
        assert "https" in schemes
        assert schemes <= {"http", "https"}
        if file.hash is None:
            assert schemes == {"https"}  # nothing else vouches for it
        else:
            assert re.fullmatch("sha256:[0-9a-f]{64}", file.hash)
            assert file.size is not None
            assert archive.limits.size >= file.size
            assert len(file.addresses) >= 3
            assert all(address.endswith(f"/{file.name}") for address in file.addresses)
    entry = record.entry.format(root="data")
    assert re.fullmatch(r"\{format: (voc|coco), root: data/\S+, split: \S+\}", entry)


def test_counts_are_the_published_ones() -> None:
    counts = {
        name: {each.pattern: each.count for each in record.expected}
        for name, record in KNOWN_DATASETS.items()
    }
    assert counts["voc2007"]["ImageSets/Main/trainval.txt"] == 5_011
    assert counts["voc2007"]["ImageSets/Main/test.txt"] == 4_952
    assert counts["voc2007"]["JPEGImages/*.jpg"] == 5_011 + 4_952
    assert counts["voc2012"]["ImageSets/Main/trainval.txt"] == 11_540
    assert counts["coco2017"]["train2017/*.jpg"] == 118_287
    assert counts["coco2017"]["val2017/*.jpg"] == 5_000


def test_voc_archives_have_the_published_hashes() -> None:
    """SHA-256 as TensorFlow Datasets' checksums and torchvision's prototype list them."""
    hashes = {
        archive.file.name: archive.file.hash
        for name in ("voc2007", "voc2012")
        for archive in KNOWN_DATASETS[name].archives
    }
    assert hashes == {
        "VOCtrainval_06-Nov-2007.tar": "sha256:"
        "7d8cd951101b0957ddfd7a530bdc8a94f06121cfc1e511bb5937e973020c7508",
        "VOCtest_06-Nov-2007.tar": "sha256:"
        "6836888e2e01dca84577a849d339fa4f73e1e4f135d312430c4856b5609b4892",
        "VOCtrainval_11-May-2012.tar": "sha256:"
        "e14f763270cf193d0b5f74b169f44157a4b0c6efa708f4dd0ff78ee691763bcb",
    }


class _Lines(Watch):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def test_a_silent_watch_is_told_of_trouble(site: Site, toy: DatasetRecord, tmp_path: Path) -> None:
    watch = _Lines()
    site.pages["test.tar"].breaks = [5_000]
    get_dataset(toy, tmp_path / "out", settings=QUICK, watch=watch)
    size = toy.archives[1].file.size
    assert watch.lines == [
        f"{site.address('test.tar')}: broke off after 5,000 of {size:,} bytes; asking again"
    ]


def test_a_folder_that_cannot_be_made(toy: DatasetRecord, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DetkitError) as caught:
        get_dataset(toy, tmp_path / "file" / "out", settings=QUICK)
    assert str(caught.value) == (
        f"{tmp_path / 'file' / 'out'}: this folder cannot be made (Not a directory). "
        "Name another with --out."
    )
