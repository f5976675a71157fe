"""What this process may use of the machine: no more than its control groups give it, of version 1 or 2."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePosixPath

PROC, GROUPS, DEVICES = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"), Path("/dev")
CPUS = Path("/proc/cpuinfo")


def cores() -> int:
    """Cores that may be busy at one time."""
    quotas = [quota for folder in _folders("cpu") if (quota := _quota(folder))]
    return max(1, min([len(os.sched_getaffinity(0)), *map(math.ceil, quotas)]))


def said() -> str:
    """This machine in a few words: its processor, the cores and GPUs that may be used, Python and torch."""
    there = f"{model()}, {cores()} core{'s' * (cores() != 1)}, {gpus() or 'no'} GPU{'s' * (gpus() != 1)}"
    return ", ".join([there, f"Python {platform.python_version()}", *_torch()])


def _torch() -> list[str]:
    with suppress(PackageNotFoundError):
        return [f"torch {version('torch')}"]
    return []


def model() -> str:
    """What the processor is called."""
    for line in CPUS.read_text().splitlines() if CPUS.exists() else []:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def gpus() -> int:
    """NVIDIA's GPUs that this process's machine or container has, whether it uses them or not."""
    return len(list(DEVICES.glob("nvidia[0-9]*")))


def memory_bytes() -> int | None:
    """Bytes of memory that this process and its children may have together; none where nothing limits them."""
    names = ("memory.max", "memory.limit_in_bytes")
    limits = [limit for folder in _folders("memory") for name in names if (limit := _number(folder / name))]
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min((limit for limit in limits if limit < whole), default=None)  # version 1 has a huge number for none


def _quota(folder: Path) -> float | None:
    """The cores that a group's quota comes to; none where it has none."""
    with suppress(OSError, ValueError):
        quota, period = (folder / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    quota_us, period_us = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
    return quota_us / period_us if quota_us and period_us else None


def _number(path: Path) -> int | None:
    """A positive number in a file; none where there is no such file, or another word in it."""
    with suppress(OSError, ValueError):
        number = int(path.read_text())
        return number if number > 0 else None
    return None


def _folders(controller: str) -> Iterator[Path]:
    """The folders of the groups that this process is in, up to the outermost that it sees: all their limits hold."""
    for line in PROC.read_text().splitlines() if PROC.exists() else []:
        number, controllers, group = line.split(":", 2)
        if number == "0" or controller in controllers.split(","):
            root = GROUPS if number == "0" else GROUPS / controllers
            root = root if root.is_dir() else GROUPS / controller
            place = PurePosixPath(group)
            yield from (root / str(above).lstrip("/") for above in (place, *place.parents))
