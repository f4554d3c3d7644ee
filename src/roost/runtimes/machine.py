"""What this machine offers to replicas: threads and main memory, within the limits of the cgroup it is in.

Called by the local runtime when it starts. Reads files only; ``root`` stands in for ``/`` in tests.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import psutil

from roost.domain.hardware import Resources

GIB = 1024**3


def resources(cpu_overcommit: float, *, root: Path = Path("/")) -> Resources:
    """The whole machine: usable cores times ``cpu_overcommit`` (at least one thread), and its memory less a reserve
    for everything that is not a replica."""
    cores = float(len(os.sched_getaffinity(0)))
    quota = cpu_quota(root)
    usable = cores if quota is None else min(cores, quota)
    memory = psutil.virtual_memory().total
    limit = memory_limit(root)
    if limit is not None:
        memory = min(memory, limit)
    return Resources(threads=max(1, int(usable * cpu_overcommit)), memory_bytes=memory - reserve(memory))


def reserve(memory_bytes: int) -> int:
    """Bytes kept back of a machine's memory: a tenth, but at least half a GiB and at most 4 GiB; never more than half
    of what there is."""
    return min(max(memory_bytes // 10, GIB // 2), 4 * GIB, memory_bytes // 2)


def memory_limit(root: Path) -> int | None:
    """The smallest memory limit of the cgroups this process is in, in bytes; None when there is none."""
    limits = [
        int(text)
        for text in _values(root, "memory", "memory.max", "memory.limit_in_bytes")
        if text.isdigit() and int(text) < 1 << 60  # cgroup v1 says "no limit" as a huge number
    ]
    return min(limits, default=None)


def cpu_quota(root: Path) -> float | None:
    """The smallest CPU quota of the cgroups this process is in, in cores; None when there is none."""
    quotas = []
    for text in _values(root, "cpu", "cpu.max", None):
        amount, _, period = text.partition(" ")
        if amount.isdigit() and period.isdigit():
            quotas.append(int(amount) / int(period))
    old_amounts = list(_values(root, "cpu", None, "cpu.cfs_quota_us"))
    old_periods = list(_values(root, "cpu", None, "cpu.cfs_period_us"))
    for amount, period in zip(old_amounts, old_periods, strict=False):
        if amount.isdigit() and period.isdigit():
            quotas.append(int(amount) / int(period))
    return min(quotas, default=None)


def _values(root: Path, controller: str, new: str | None, old: str | None) -> Iterator[str]:
    """The contents of a limit's file in each cgroup from ours up to the top; ``new`` names it in cgroup v2, ``old`` in
    v1. Cgroups that this process cannot see (a container's parents) are left out."""
    for path, is_v2 in _groups(root, controller):
        name = new if is_v2 else old
        if name is None:
            continue
        base = root / "sys/fs/cgroup" if is_v2 else root / "sys/fs/cgroup" / controller
        for level in (path, *path.parents):
            file = base / str(level).lstrip("/") / name
            if file.is_file():
                yield file.read_text().strip()


def _groups(root: Path, controller: str) -> Iterator[tuple[PurePosixPath, bool]]:
    """The cgroup paths of this process: of v2, and of v1's ``controller``."""
    file = root / "proc/self/cgroup"
    for line in file.read_text().splitlines() if file.is_file() else []:
        number, controllers, path = line.split(":", 2)
        if number == "0" and not controllers:
            yield PurePosixPath(path), True
        elif controller in controllers.split(","):
            yield PurePosixPath(path), False
