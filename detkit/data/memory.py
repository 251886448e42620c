"""Free memory, as the machine, every control group above this process and its own limits leave it.

A container's limit stands in a control group (Linux's cgroups, version 1 or 2). Groups lie within
one another, as those of Slurm, systemd and Kubernetes do, and each may have a limit of its own, so
all of them are asked from this process's up to the outermost that can be seen here. Pages of files
that have not been used lately count as free, since the system gives them away first.

Reading order: ``free_memory``, ``_groups`` (where they lie), ``_left_in`` (one of them).
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

PROC = Path("/proc")
UNKNOWN_SHARE = 2  # of the whole memory, one in so many is taken for free where nobody tells


class _Names(NamedTuple):
    """Files of a control group."""

    limits: tuple[str, ...]
    used: str
    inactive: str  # line of memory.stat: bytes of files that have not been used lately


NAMES = {
    "cgroup2": _Names(("memory.max", "memory.high"), "memory.current", "inactive_file"),
    "cgroup": _Names(("memory.limit_in_bytes",), "memory.usage_in_bytes", "total_inactive_file"),
}


def free_memory() -> int:
    """Bytes of memory that can be had without pushing anything out; a guess where unknown."""
    groups = (_left_in(group, NAMES[kind]) for kind, group in _groups())
    return int(min(_left_in_machine(), _left_of_address_space(), *groups, math.inf))


def _groups() -> Iterator[tuple[str, Path]]:
    """The control groups that hold this process, each with its version: inner ones first."""
    try:
        own = (PROC / "self" / "cgroup").read_text(encoding="utf-8", errors="replace")
        mounts = (PROC / "self" / "mountinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:  # not Linux
        return
    inside: dict[str, str] = {}  # path of this process's group by version
    for line in own.splitlines():
        number, controllers, path = [*line.split(":", 2), "", ""][:3]
        if number == "0" and not controllers:
            inside["cgroup2"] = path
        elif "memory" in controllers.split(","):
            inside["cgroup"] = path
    for line in mounts.splitlines():
        head, _, tail = line.partition(" - ")
        fields, system = head.split(), tail.split()
        if len(fields) < 5 or len(system) < 3 or system[0] not in inside:
            continue
        if system[0] == "cgroup" and "memory" not in system[2].split(","):
            continue
        root, mount = _unescaped(fields[3]), Path(_unescaped(fields[4]))
        group = mount / _below(inside[system[0]], root)
        for each in (group, *group.parents):
            yield system[0], each
            if each == mount:
                break


def _below(path: str, root: str) -> str:
    """A group's path below the group that is mounted; that one itself for what lies elsewhere.

    A container sees its own group as the root of the mount, and may still be told the path that
    the host knows it by.
    """
    parts = path.strip("/").split("/")
    above = [part for part in root.strip("/").split("/") if part]
    if ".." in parts or parts[: len(above)] != above:
        return ""
    return "/".join(parts[len(above) :])


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)


def _left_in(group: Path, names: _Names) -> float:
    """What a control group's limits leave; infinite where it has none."""
    limits = [limit for name in names.limits if (limit := _number(group / name)) is not None]
    used = _number(group / names.used)
    if not limits or used is None:
        return math.inf
    return max(min(limits) - max(used - _inactive(group, names.inactive), 0), 0)


def _number(path: Path) -> int | None:
    """The number in a file; None for ``max``, and where there is none."""
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def _inactive(group: Path, name: str) -> int:
    try:
        lines = (group / "memory.stat").read_text(encoding="ascii").splitlines()
        return next((int(line.split()[1]) for line in lines if line.split()[0] == name), 0)
    except (OSError, ValueError, IndexError):
        return 0


def _left_in_machine() -> int:
    try:
        lines = (PROC / "meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if "MemAvailable" in line)
    except (OSError, StopIteration):
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // UNKNOWN_SHARE
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        return 0


def _left_of_address_space() -> float:
    """What ``ulimit -v`` leaves; infinite where it is not set."""
    try:
        import resource  # not on Windows

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit == resource.RLIM_INFINITY:
            return math.inf
        pages = int((PROC / "self" / "statm").read_text(encoding="ascii").split()[0])
        return max(limit - pages * resource.getpagesize(), 0)
    except (ImportError, OSError, ValueError):
        return math.inf
