"""What control groups leave of a machine, of version 1 and 2, where a process is deep in them or at their root."""

import os
from pathlib import Path

import pytest
from selfloop import machine
from selfloop.sandbox import Limits
from selfloop.sandbox.running import workers_for

GIB = 2**30


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of 64 cores, where files say what a process is given."""
    monkeypatch.setattr(machine, "PROC", tmp_path / "cgroup")
    monkeypatch.setattr(machine, "GROUPS", tmp_path / "fs")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    return tmp_path


def given(groups: Path, lines: str, **files: str) -> tuple[int, int | None]:
    """The cores and the memory where these files are there; ``__`` in a name is a slash, the last ``_`` a dot."""
    (groups / "cgroup").write_text(lines)
    for name, text in files.items():
        place = groups / "fs" / name.replace("__", "/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.with_name(place.name.replace("_", ".", 1)).write_text(f"{text}\n")
    return machine.cores(), machine.memory_bytes()


V2, V1 = "0::/pods/one\n", "4:memory:/pods/one\n3:cpuset:/\n2:cpu,cpuacct:/pods/one\n0::/pods/one\n"


def test_without_groups_there_is_the_whole_machine(groups: Path) -> None:
    assert (machine.cores(), machine.memory_bytes()) == (64, None)
    assert given(groups, V2) == (64, None)
    assert given(groups, V2, pods__one__cpu_max="max 100000", pods__one__memory_max="max") == (64, None)


def test_version_2(groups: Path) -> None:
    assert given(groups, V2, pods__one__cpu_max="250000 100000", pods__one__memory_max=str(GIB)) == (3, GIB)
    assert given(groups, V2, pods__cpu_max="50000 100000", pods__memory_max=str(GIB // 2)) == (1, GIB // 2)


def test_version_2_in_a_container_that_sees_itself_as_the_root(groups: Path) -> None:
    assert given(groups, "0::/\n", cpu_max="200000 100000", memory_max=str(GIB)) == (2, GIB)


def test_version_1(groups: Path) -> None:
    cpu = {"cpu,cpuacct__pods__one__cpu_cfs_quota_us": "150000", "cpu,cpuacct__pods__one__cpu_cfs_period_us": "100000"}
    assert given(groups, V1, memory__pods__one__memory_limit_in_bytes=str(GIB), **cpu) == (2, GIB)
    none = {"cpu,cpuacct__pods__one__cpu_cfs_quota_us": "-1"}
    huge = str(2**63 - 4096)
    assert given(groups, V1, memory__pods__one__memory_limit_in_bytes=huge, **none) == (64, None)


def test_version_1_in_a_container_whose_own_group_is_mounted_as_the_root(groups: Path) -> None:
    cpu = {"cpu__cpu_cfs_quota_us": "400000", "cpu__cpu_cfs_period_us": "100000"}
    assert given(groups, V1, memory__memory_limit_in_bytes=str(GIB), **cpu) == (4, GIB)


def test_a_sandbox_has_as_many_workers_as_there_are_cores_and_room_for(groups: Path) -> None:
    assert workers_for(Limits()) == 65
    given(groups, V2, pods__one__cpu_max="200000 100000")
    assert workers_for(Limits()) == 3
    given(groups, V2, pods__one__memory_max=str(16 * GIB))
    assert workers_for(Limits()) == 3
    assert workers_for(Limits(memory_bytes=8 * GIB)) == 1
    given(groups, V2, pods__one__memory_max=str(2**20))
    assert workers_for(Limits()) == 1
