"""A disk that loses power: what would be left after every call that changes or flushes it.

Two disks are followed, between which real ones lie. Of both only flushed content is there. On the
``eager`` one every new name, rename and removal is there at once, on the ``lazy`` one only those of
folders that were flushed since.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import detkit.flushing

CHANGING = ("rename", "replace", "unlink", "rmdir", "mkdir")
Tree = dict[str, bytes | None]  # relative path: content; of folders None


class Disk:
    """Follows what happens under ``root``; ``cuts`` are the states a cut would have left."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.cuts: list[tuple[str, Tree]] = []  # after which call, on which disk
        self._content: dict[int, bytes] = {}  # by inode: what was flushed
        self._names: dict[int, dict[str, tuple[int, bool]]] = {}  # by inode of a folder, flushed
        self._open: list[int] = []  # every inode that was ever seen, so that none is used again
        self.flush_all(root)
        self.cuts.clear()

    def flush_one(self, path: Path) -> None:
        """What ``fsync`` does."""
        inode = path.stat().st_ino
        if path.is_dir():
            entries = {entry.name: (entry.inode(), entry.is_dir()) for entry in os.scandir(path)}
            self._names[inode] = entries
            for entry in os.scandir(path):
                self._hold(Path(entry.path))
        else:
            self._hold(path)
            self._content[inode] = path.read_bytes()

    def flush_all(self, folder: Path) -> None:
        """What ``syncfs`` does, here of ``folder`` alone."""
        for path in [*folder.rglob("*"), folder]:
            self.flush_one(path)

    def _hold(self, path: Path) -> None:
        self._open.append(os.open(path, os.O_RDONLY))

    def note(self, call: str) -> None:
        """Keep what would be left now."""
        self.cuts.append((f"{call}, eager", self._eager()))
        lazy: Tree = {}
        self._walk(self.root.stat().st_ino, "", lazy)
        self.cuts.append((f"{call}, lazy", lazy))

    def _eager(self) -> Tree:
        return {
            str(path.relative_to(self.root)): None
            if path.is_dir()
            else self._content.get(path.stat().st_ino, b"")
            for path in sorted(self.root.rglob("*"))
        }

    def _walk(self, inode: int, prefix: str, found: Tree) -> None:
        for name, (inner, is_folder) in self._names.get(inode, {}).items():
            found[prefix + name] = None if is_folder else self._content.get(inner, b"")
            if is_folder:
                self._walk(inner, f"{prefix}{name}/", found)

    def close(self) -> None:
        for descriptor in self._open:
            os.close(descriptor)


@contextmanager
def followed(
    root: Path, monkeypatch: pytest.MonkeyPatch, *, at_once: bool = True
) -> Iterator[Disk]:
    """Follow every call that changes or flushes what lies in ``root``.

    Without ``at_once`` the system cannot be asked to flush a whole file system.
    """
    disk = Disk(root)

    def after(name: str, honest: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            result = honest(*args, **options)
            disk.note(name)
            return result

        return call

    def fsync(descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        if path.is_relative_to(root):
            disk.flush_one(path)
            disk.note(f"fsync {path.name}")

    def syncfs(descriptor: int) -> int:
        disk.flush_all(root)
        disk.note("syncfs")
        return 0

    with monkeypatch.context() as patched:
        for name in CHANGING:
            patched.setattr(os, name, after(name, getattr(os, name)))
        patched.setattr(os, "fsync", fsync)
        patched.setattr(detkit.flushing, "_syncfs", syncfs if at_once else None)
        yield disk
    disk.close()


def lay_out(tree: Tree, folder: Path) -> None:
    """Write what a cut left into a new folder."""
    folder.mkdir(parents=True)
    for name, content in sorted(tree.items()):
        if content is None:
            (folder / name).mkdir(parents=True, exist_ok=True)
        else:
            (folder / name).write_bytes(content)
