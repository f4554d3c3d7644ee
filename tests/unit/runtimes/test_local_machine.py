"""What the machine offers, inside and outside of cgroups."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from roost.runtimes.machine import GIB, cpu_quota, memory_limit, reserve, resources


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


def test_a_machine_without_limits(tmp_path: Path) -> None:
    assert (memory_limit(tmp_path), cpu_quota(tmp_path)) == (None, None)
    total = psutil.virtual_memory().total
    found = resources(1.0, root=tmp_path)
    assert found.threads == len(os.sched_getaffinity(0))
    assert found.memory_bytes == total - reserve(total)


def test_the_smallest_limit_on_the_way_up_counts(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        {
            "proc/self/cgroup": "0::/a/b",
            "sys/fs/cgroup/a/b/memory.max": "max",
            "sys/fs/cgroup/a/memory.max": str(3 * GIB),
            "sys/fs/cgroup/memory.max": str(5 * GIB),
            "sys/fs/cgroup/a/b/cpu.max": "150000 100000",
            "sys/fs/cgroup/a/cpu.max": "max 100000",
        },
    )
    assert memory_limit(root) == 3 * GIB
    assert cpu_quota(root) == 1.5
    found = resources(1.0, root=root)
    assert found.threads == 1
    assert found.memory_bytes == min(3 * GIB, psutil.virtual_memory().total) - reserve(3 * GIB)


def test_a_container_sees_its_own_group_as_the_top(tmp_path: Path) -> None:
    root = tree(tmp_path, {"proc/self/cgroup": "0::/", "sys/fs/cgroup/memory.max": str(GIB)})
    assert memory_limit(root) == GIB


def test_the_old_cgroups(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        {
            "proc/self/cgroup": "5:cpu,cpuacct:/docker/x\n4:memory:/docker/x\n0::/",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": str(2 * GIB),
            "sys/fs/cgroup/memory/docker/x/memory.limit_in_bytes": "9223372036854771712",
            "sys/fs/cgroup/cpu/docker/x/cpu.cfs_quota_us": "50000",
            "sys/fs/cgroup/cpu/docker/x/cpu.cfs_period_us": "100000",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
        },
    )
    assert memory_limit(root) == 2 * GIB
    assert cpu_quota(root) == 0.5
    assert resources(1.0, root=root).threads == 1, "never less than one thread"


def test_overcommit_multiplies_threads_only(tmp_path: Path) -> None:
    once, thrice = resources(1.0, root=tmp_path), resources(3.0, root=tmp_path)
    assert thrice.threads == 3 * once.threads
    assert thrice.memory_bytes == once.memory_bytes


@pytest.mark.parametrize(("memory", "kept"), [(GIB // 2, GIB // 4), (2 * GIB, GIB // 2), (20 * GIB, 2 * GIB)])
def test_the_reserve_follows_the_size(memory: int, kept: int) -> None:
    assert reserve(memory) == kept
    assert reserve(1000 * GIB) == 4 * GIB
