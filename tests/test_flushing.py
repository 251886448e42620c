"""What was said to be kept outlives a power cut: nothing half stands under a final name."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import pytest

import detkit.flushing
from detkit.errors import DetkitError
from detkit.files import whole_file, whole_folder, write_atomically
from detkit.flushing import flush, flush_tree, make_lasting_folder
from tests.power_cut import followed

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="follows descriptors in /proc")


def test_a_power_cut_leaves_the_old_file_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "figures.json"
    write_atomically(path, "first\n")
    with followed(tmp_path, monkeypatch) as disk:
        write_atomically(path, "second\n")
    assert disk.cuts
    for call, tree in disk.cuts:
        assert tree["figures.json"] in (b"first\n", b"second\n"), call
    assert [tree["figures.json"] for _, tree in disk.cuts[-2:]] == [b"second\n"] * 2


def test_a_power_cut_leaves_a_new_file_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the folders that were made for it."""
    with followed(tmp_path, monkeypatch) as disk, whole_file(tmp_path / "a/b/new.bin") as place:
        place.write_bytes(b"content")
    for call, tree in disk.cuts:
        assert tree.get("a/b/new.bin", b"content") == b"content", call
    assert all(tree["a/b/new.bin"] == b"content" for _, tree in disk.cuts[-2:])


@pytest.mark.parametrize("at_once", [True, False], ids=["one call", "each file"])
def test_a_power_cut_leaves_a_new_folder_whole_or_not_at_all(
    at_once: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = {"new": None, "new/in": None, "new/in/a": b"1", "new/b": b"2"}
    with (
        followed(tmp_path, monkeypatch, at_once=at_once) as disk,
        whole_folder(tmp_path / "new") as place,
    ):
        (place / "in").mkdir()
        (place / "in" / "a").write_bytes(b"1")
        (place / "b").write_bytes(b"2")
    for call, tree in disk.cuts:
        there = {name: content for name, content in tree.items() if name.startswith("new")}
        assert there in ({}, whole), call
    assert all("new" in tree for _, tree in disk.cuts[-2:])


def test_links_in_a_folder_are_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detkit.flushing, "_syncfs", None)
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    flush_tree(tmp_path)


def test_a_disk_that_does_not_take_it_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some say only now that they are full; the error has the file's name."""
    path = tmp_path / "figures.json"
    write_atomically(path, "first\n")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as caught:
        write_atomically(path, "second\n")
    assert Path(caught.value.filename).parent == tmp_path
    assert path.read_text() == "first\n"
    assert list(tmp_path.iterdir()) == [path]
    monkeypatch.setattr(detkit.flushing, "_syncfs", None)
    with pytest.raises(DetkitError, match="No space left"), whole_folder(tmp_path / "new"):
        pass
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP])
def test_a_file_system_that_cannot_flush_is_used_all_the_same(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cannot(descriptor: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", cannot)
    write_atomically(tmp_path / "a" / "figures.json", "first\n")
    assert (tmp_path / "a" / "figures.json").read_text() == "first\n"


def test_what_can_be_made_again_does_not_wait_for_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with followed(tmp_path, monkeypatch) as disk:
        with whole_file(tmp_path / "a" / "photo.jpg", lasting=False) as place:
            place.write_bytes(b"pixels")
        assert not any("fsync" in call for call, _ in disk.cuts)
        flush_tree(tmp_path)
        assert all(tree["a/photo.jpg"] == b"pixels" for _, tree in disk.cuts[-2:])


def test_folders_that_are_there_are_not_flushed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with followed(tmp_path, monkeypatch) as disk:
        make_lasting_folder(tmp_path / "a" / "b")
        count = len(disk.cuts)
        make_lasting_folder(tmp_path / "a" / "b")
        assert len(disk.cuts) - count <= 2  # mkdir, which finds it there
    flush(tmp_path)
    flush(tmp_path / "a")


def test_two_writers_with_one_process_number_do_not_meet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In two containers that share a folder both may be process 1."""
    monkeypatch.setattr(os, "getpid", lambda: 1)
    path = tmp_path / "shared.bin"
    with whole_file(path) as one, whole_file(path) as other:
        one.write_bytes(b"one")
        other.write_bytes(b"other")
    assert path.read_bytes() == b"one"
    assert list(tmp_path.iterdir()) == [path]
