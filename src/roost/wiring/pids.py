"""Pid files, and processes named by them.

A pid may have been given to another process since it was written. So a process is opened by pid (a pidfd keeps its
identity), then checked by its command line, and only then signalled. Used by the parent, ``roost stop`` and the demo.
"""

from __future__ import annotations

import os
import select
import signal
from dataclasses import dataclass
from pathlib import Path

from roost.wiring.home import write_private


def write_pid(path: Path, pid: int) -> None:
    """Write the decimal pid and a newline."""
    write_private(path, f"{pid}\n")


def read_pid(path: Path) -> int | None:
    """The pid in the file; None when there is no file or no pid in it."""
    try:
        return int(path.read_text())
    except (FileNotFoundError, ValueError):
        return None


def command_line(pid: int) -> str:
    """The command line of a process, its arguments separated by spaces; empty when it is gone (or a zombie)."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return ""


@dataclass(frozen=True, slots=True)
class Process:
    """A process that was alive when it was opened. Close it (or use it as a context manager)."""

    pid: int
    handle: int

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *unused: object) -> None:
        os.close(self.handle)

    def send(self, number: int) -> bool:
        """Send a signal; False when the process is gone."""
        try:
            signal.pidfd_send_signal(self.handle, number)
        except ProcessLookupError:
            return False
        return True

    def wait(self, timeout_s: float) -> bool:
        """Whether the process ends within ``timeout_s`` seconds."""
        poll = select.poll()
        poll.register(self.handle, select.POLLIN)
        return bool(poll.poll(timeout_s * 1000))


def open_process(pid: int | None, mark: str) -> Process | None:
    """The process ``pid``, if it lives and its command line contains ``mark``; else None."""
    if pid is None or pid <= 0:
        return None
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    if mark in command_line(pid):
        return Process(pid, handle)
    os.close(handle)
    return None


def processes_naming(mark: str) -> dict[int, str]:
    """The command lines, by pid, of all other processes whose command line contains ``mark``."""
    pids = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    lines = {pid: command_line(pid) for pid in pids if pid != os.getpid()}
    return {pid: line for pid, line in lines.items() if mark in line}
