"""Processes of the benchmark: how they are started, pinned, measured and ended. Everything is on loopback.

Each is ended by its pid when its context ends.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from benchmarks.gateway.install import Missing

START_S = 90.0
TICK_MS = 20
"""Between two events of a stream: 50 per second."""


@dataclass(frozen=True)
class Cores:
    """Which CPUs the proxies run on, and which everything else does; with one CPU both are the same."""

    proxies: frozenset[int]
    rest: frozenset[int]

    @classmethod
    def split(cls, available: set[int]) -> Cores:
        """The last one is the proxies'."""
        last = max(available)
        return cls(frozenset({last}), frozenset(available - {last}) or frozenset({last}))


@dataclass(frozen=True)
class Upstream:
    """The engine behind all proxies; ``length`` is the number of bytes in its JSON answer."""

    port: int
    socket: Path
    length: int
    process: psutil.Process


@dataclass(frozen=True)
class Proxy:
    """A proxy under test."""

    name: str
    port: int
    process: psutil.Process

    def cpu_seconds(self) -> float:
        """CPU time used so far by its process tree."""
        return sum(cpu_seconds(p.pid) for p in self.tree())

    def memory_bytes(self) -> int:
        """Resident memory of its process tree."""
        return sum(p.memory_info().rss for p in self.tree())

    def tree(self) -> list[psutil.Process]:
        """The process and all below it."""
        return [self.process, *self.process.children(recursive=True)]


def cpu_seconds(pid: int) -> float:
    """CPU time of a process, threads that have ended included, to the nanosecond (/proc counts in ticks of 10 ms)."""
    clock = (~pid << 3) | 2  # what clock_getcpuclockid(3) answers
    return time.clock_gettime(clock)


@contextmanager
def running(command: list[str], cores: frozenset[int], **options: object) -> Iterator[subprocess.Popen[str]]:
    """A process on ``cores`` that ends with the context."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)  # inherited; a preexec_fn would keep the child from being started by vfork
    try:
        process = subprocess.Popen(command, text=True, **options)  # type: ignore[call-overload]
    finally:
        os.sched_setaffinity(0, before)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def upstream(folder: Path, cores: Cores) -> Iterator[Upstream]:
    """The compiled ``upstream`` of ``folder``, started."""
    path = folder / "engine.sock"
    with running([str(folder / "upstream"), str(path), str(TICK_MS)], cores.rest, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        answer = asked(port, b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n{}")
        yield Upstream(port, path, len(answer.partition(b"\r\n\r\n")[2]), psutil.Process(process.pid))


def asked(port: int, request: bytes) -> bytes:
    """What the first packet of the answer to ``request`` holds. Raises ``OSError``."""
    with socket.create_connection(("127.0.0.1", port), 10) as client:
        client.settimeout(10)
        client.sendall(request)
        return client.recv(65536)


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def wait_until_serving(proxy: Proxy, request: bytes, log: Path) -> None:
    """Returns when ``request`` is answered with 200. Raises ``Missing`` when that does not come to pass."""
    deadline = time.monotonic() + START_S
    last = "it does not listen"
    while time.monotonic() < deadline:
        if not proxy.process.is_running() or proxy.process.status() == psutil.STATUS_ZOMBIE:
            raise Missing(f"it ended at its start: {_end_of(log)}")
        try:
            answer = asked(proxy.port, request)
            if answer.startswith(b"HTTP/1.1 200"):
                return
            last = answer[:200].decode(errors="replace")
        except OSError as error:
            last = str(error)
        time.sleep(0.05)
    raise Missing(f"it did not serve within {START_S:.0f} s: {last}; {_end_of(log)}")


def _end_of(log: Path) -> str:
    return " ".join(log.read_text(errors="replace").split())[-400:]
