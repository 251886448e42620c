"""Free memory where control groups, one within another and of either version, have limits."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from detkit.data import memory
from detkit.data.memory import free_memory

MIB = 1 << 20
MACHINE = 64 << 30


class Groups:
    """A machine of 64 GiB whose control groups are files below a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "proc" / "self").mkdir(parents=True)
        (folder / "proc" / "meminfo").write_text(f"MemAvailable: {MACHINE // 1024} kB\n")

    def say(self, own: str, mounts: str) -> None:
        (self.folder / "proc" / "self" / "cgroup").write_text(own)
        (self.folder / "proc" / "self" / "mountinfo").write_text(mounts)

    def write(self, group: str, **files: object) -> None:
        place = self.folder / group
        place.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (place / name.replace("__", ".")).write_text(f"{text}\n")


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Groups:
    monkeypatch.setattr(memory, "PROC", tmp_path / "proc")
    return Groups(tmp_path)


def v2(mount: Path, root: str = "/") -> str:
    return f"42 31 0:38 {root} {mount} rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"


def v1(mount: Path, root: str = "/", controllers: str = "memory") -> str:
    return f"35 31 0:32 {root} {mount} rw,relatime - cgroup cgroup rw,{controllers}\n"


def test_without_groups_the_machine_decides(groups: Groups) -> None:
    assert free_memory() == MACHINE
    groups.say("0::/\n", v2(groups.folder / "group"))  # the root group has no such files
    assert free_memory() == MACHINE


@pytest.mark.parametrize(
    ("files", "left"),
    [
        ({"memory__max": "max", "memory__current": 5 * MIB}, MACHINE),
        ({"memory__max": 100 * MIB, "memory__current": 40 * MIB}, 60 * MIB),
        ({"memory__max": 9, "memory__current": 10}, 0),
        ({"memory__max": "max", "memory__high": 90, "memory__current": 10}, 80),
        ({"memory__max": 70, "memory__high": 90, "memory__current": 10}, 60),
        (
            {
                "memory__max": 100,
                "memory__current": 80,
                "memory__stat": "anon 30\ninactive_file 50",
            },
            70,
        ),
        ({"memory__max": "nonsense", "memory__current": 10}, MACHINE),
        ({"memory__max": 100}, MACHINE),
    ],
)
def test_a_group_of_version_2(files: dict[str, object], left: int, groups: Groups) -> None:
    groups.say("0::/\n", v2(groups.folder / "group"))
    groups.write("group", **files)
    assert free_memory() == left


def test_the_tightest_of_nested_groups_decides(groups: Groups) -> None:
    """As under Slurm: the job has a limit, the step within it has none of its own."""
    groups.say("0::/slurm/job_7/step_0\n", v2(groups.folder / "group"))
    groups.write("group/slurm/job_7/step_0", memory__max="max", memory__current=1 * MIB)
    groups.write("group/slurm/job_7", memory__max=200 * MIB, memory__current=150 * MIB)
    groups.write("group/slurm", memory__max=900 * MIB, memory__current=400 * MIB)
    assert free_memory() == 50 * MIB
    groups.write("group/slurm", memory__max=410 * MIB, memory__current=400 * MIB)
    assert free_memory() == 10 * MIB


def test_groups_of_version_1(groups: Groups) -> None:
    mounts = v1(groups.folder / "cpu", controllers="cpu") + v1(groups.folder / "memory")
    groups.say("5:memory:/docker/abc\n4:cpu:/docker/abc\n0::/\n", mounts)
    groups.write("memory/docker/abc", memory__limit_in_bytes=2**63 - 4096, memory__usage_in_bytes=1)
    assert free_memory() == MACHINE
    groups.write(
        "memory/docker",
        memory__limit_in_bytes=100 * MIB,
        memory__usage_in_bytes=80 * MIB,
        memory__stat=f"inactive_file 1\ntotal_inactive_file {50 * MIB}",
    )
    assert free_memory() == 70 * MIB


@pytest.mark.parametrize(
    ("own", "root"),
    [
        ("/docker/abc", "/docker/abc"),  # the container's group is the root of its mount
        ("/docker/abc", "/kubepods/xyz"),  # told by another name than it is mounted by
        ("/../../outside", "/"),  # a process that joined a container's namespace
        ("/", "/"),
    ],
)
@pytest.mark.parametrize("version", [1, 2])
def test_a_container_finds_its_own_group(own: str, root: str, version: int, groups: Groups) -> None:
    place = groups.folder / "group of this"
    mount = Path(str(place).replace(" ", "\\040"))
    if version == 2:
        groups.say(f"0::{own}\n", v2(mount, root))
        groups.write("group of this", memory__max=100, memory__current=30)
    else:
        groups.say(f"9:cpu,memory:{own}\n", v1(mount, root, "cpu,memory"))
        groups.write("group of this", memory__limit_in_bytes=100, memory__usage_in_bytes=30)
    assert free_memory() == 70


def test_both_versions_at_once(groups: Groups) -> None:
    groups.say("7:memory:/job\n0::/job\n", v1(groups.folder / "one") + v2(groups.folder / "two"))
    groups.write("one/job", memory__limit_in_bytes=300, memory__usage_in_bytes=0)
    groups.write("two/job", memory__max=200, memory__current=0)
    assert free_memory() == 200


@pytest.mark.parametrize("text", ["", "nonsense\n", "0::\n::\n:memory\n", "- - -\n"])
def test_files_of_another_form_say_nothing(text: str, groups: Groups) -> None:
    groups.say(text, text)
    assert free_memory() == MACHINE


@pytest.mark.skipif(sys.platform != "linux", reason="ulimit -v is Linux's")
def test_a_limit_of_the_address_space_counts(
    groups: Groups, monkeypatch: pytest.MonkeyPatch
) -> None:
    import resource

    pages = 10
    (groups.folder / "proc" / "self" / "statm").write_text(f"{pages} 5 1 1 0 2 0\n")
    used, limits = pages * resource.getpagesize(), (3 * MIB, resource.RLIM_INFINITY)
    monkeypatch.setattr(resource, "getrlimit", lambda which: limits)
    assert free_memory() == 3 * MIB - used
    limits = (used // 2, resource.RLIM_INFINITY)
    assert free_memory() == 0
    limits = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    assert free_memory() == MACHINE


def test_free_memory_is_a_plausible_number() -> None:
    assert 1 << 20 < free_memory() < 1 << 50
