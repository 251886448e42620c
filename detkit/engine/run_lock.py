"""One writer a run: a lock in each folder that a training writes to, and who holds it.

The system lets go of a lock when its process ends, however it ends. What stays then is the note on
who held it, by which the next training knows, and says, that it takes over from one that was
killed. Two that write to one folder would each remove the other's checkpoints.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType

import filelock
from pydantic import TypeAdapter

from detkit.checkpoints.files import existing_checkpoint
from detkit.errors import DetkitError
from detkit.files import is_plain, write_atomically

LOCK, HOLDER = ".lock", ".lock.json"  # in a run folder
LET_GO_SECONDS = 15.0  # loader processes of a training that was killed end by then
POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that writes to a run folder."""

    pid: int
    host: str
    since: str  # by the clock of that host, as a person reads it

    @classmethod
    def this(cls) -> Holder:
        """This process, from now on."""
        now = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M:%S")
        return cls(os.getpid(), socket.gethostname(), now)

    def is_gone(self) -> bool:
        """Whether it is known to have ended; of a process on another machine nothing is known."""
        if self.host != socket.gethostname():
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except (OSError, OverflowError):  # somebody else's
            return False
        return False

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since}"


class RunLock:
    """The locks of a training, let go of at the end of a ``with`` block."""

    def __init__(self) -> None:
        self._held: dict[Path, filelock.BaseFileLock | None] = {}  # None: there are no locks
        self._made: set[Path] = set()  # folders that had no lock file, and in which nothing began

    def __enter__(self) -> RunLock:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let go of all; where nothing was begun, as after a wrong key, nothing is left behind."""
        for folder, lock in self._held.items():
            if lock is not None:
                with suppress(OSError):  # the folder is gone, or cannot be written any more
                    (folder / HOLDER).unlink(missing_ok=True)
                    if folder in self._made:
                        (folder / LOCK).unlink(missing_ok=True)
                lock.release()
        self._held.clear()

    def take_existing(self, folders: Sequence[Path]) -> list[str]:
        """Lock those of ``folders`` that are there, before anything in them is read.

        Returns:
            Lines on what was taken over.

        Raises:
            DetkitError: another training writes to one of them.
        """
        return [line for folder in folders if folder.is_dir() for line in self._take(folder)]

    def take_begun(self, folders: Sequence[Path]) -> list[str]:
        """Lock folders in which a run begins; those that were made since are not held yet.

        Returns:
            Lines as of :meth:`take_existing`.

        Raises:
            DetkitError: another training writes to one, or has begun there in the meantime.
        """
        lines = []
        for folder in folders:
            if folder not in self._held:
                lines += self._take(folder)
                if existing_checkpoint(folder / "last") is not None:
                    raise DetkitError(
                        f"{folder}: another training has begun here in the meantime. Go on with "
                        "that by --resume, or train into another --out."
                    )
            self._made.discard(folder)
        return lines

    def _take(self, folder: Path) -> list[str]:
        lock = filelock.FileLock(folder / LOCK)
        is_new = not (folder / LOCK).exists()
        try:
            self._acquire(lock, folder)
            self._held[folder] = lock
            if is_new:
                self._made.add(folder)
            before = _read_holder(folder)
            text = json.dumps(asdict(Holder.this()))
            write_atomically(folder / HOLDER, text + "\n", lasting=False)
        except NotImplementedError:  # of a file system without locks
            self._held[folder] = None
            return [f"{folder}: has no locks; see to it that no other training writes there"]
        except OSError as problem:
            raise DetkitError(
                f"{folder / LOCK}: cannot be used ({problem.strerror or problem}). Train into "
                "another --out."
            ) from problem
        if before is None:
            return []
        return [f"{folder}: taken over from a training that did not end by itself ({before})"]

    def _acquire(self, lock: filelock.BaseFileLock, folder: Path) -> None:
        until = time.monotonic() + LET_GO_SECONDS
        while True:
            try:
                lock.acquire(timeout=0)
                return
            except filelock.Timeout:
                holder = _read_holder(folder)
                if holder is None or not holder.is_gone() or time.monotonic() > until:
                    raise _held_by(folder, holder) from None
            time.sleep(POLL_SECONDS)


def _held_by(folder: Path, holder: Holder | None) -> DetkitError:
    who = "another process" if holder is None else str(holder)
    if holder is not None and holder.is_gone():
        return DetkitError(
            f"{folder}: is still locked by a training that is gone ({who}). End what it left "
            f"running, or remove {folder / LOCK}."
        )
    return DetkitError(
        f"{folder}: another training writes here ({who}). Wait for its end or stop it, or train "
        "into another --out."
    )


def _read_holder(folder: Path) -> Holder | None:
    """Who wrote that a folder is theirs; None where nobody did, or nothing that makes sense."""
    try:
        found = TypeAdapter(Holder).validate_json((folder / HOLDER).read_bytes()[:1000])
    except (OSError, ValueError):
        return None
    return found if found.pid > 0 and is_plain(f"{found.host}{found.since}") else None
