"""Processes as /proc shows them, and the two ``prctl`` calls that tie a replica's processes to their supervisor.

Used by the supervisor (its own descendants) and by the runtime (what a dead supervisor left behind). A pid alone
proves nothing, since pids are reused: whoever signals one compares its start time first.
"""

from __future__ import annotations

import os
import signal

MARKER = "ROOST_REPLICA"
"""Environment variable that every process of a replica inherits: ``<replica id>/<nonce>``."""

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_DEAD = frozenset("ZXx")


class Stat:
    """One line of ``/proc/<pid>/stat``; ``started`` counts clock ticks since boot."""

    __slots__ = ("parent", "pid", "session", "started", "state")

    def __init__(self, pid: int, state: str, parent: int, session: int, started: int) -> None:
        self.pid, self.state, self.parent, self.session, self.started = pid, state, parent, session, started

    @property
    def alive(self) -> bool:
        """False for a zombie: it has ended, only nobody has asked for its status yet."""
        return self.state not in _DEAD


def parse_stat(text: str) -> Stat:
    """Read a stat line; the command name in it may hold blanks and parentheses."""
    head, _, tail = text.rpartition(")")
    fields = tail.split()
    return Stat(int(head.split(" ", 1)[0]), fields[0], int(fields[1]), int(fields[3]), int(fields[19]))


def stat(pid: int) -> Stat | None:
    """The process ``pid``, None when there is none."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return parse_stat(file.read())
    except (FileNotFoundError, ProcessLookupError):
        return None


def snapshot() -> list[Stat]:
    """All processes of the machine."""
    found = (stat(int(name)) for name in os.listdir("/proc") if name.isdigit())
    return [one for one in found if one is not None]


def descendants(root: int, processes: list[Stat]) -> list[Stat]:
    """The live processes among ``processes`` that descend from ``root``, parents first."""
    children: dict[int, list[Stat]] = {}
    for one in processes:
        children.setdefault(one.parent, []).append(one)
    found: list[Stat] = []
    queue = [root]
    while queue:
        below = children.get(queue.pop(), [])
        queue.extend(one.pid for one in below)
        found.extend(one for one in below if one.alive)
    return found


def left_over(
    processes: list[Stat], marked: set[int], engine_pid: int | None, engine_started: int | None
) -> list[Stat]:
    """The live processes that belong to a replica whose supervisor is dead.

    They are those that carry its marker (``marked``), the engine itself, and what lives in the engine's session (an
    engine that sets its process title overwrites its environment, marker included). The session counts only while the
    engine's pid has not been given to a newer process.
    """
    by_pid = {one.pid: one for one in processes}
    session = engine_pid
    if engine_pid is not None and engine_pid in by_pid and by_pid[engine_pid].started != engine_started:
        session = None
    found = []
    for one in processes:
        is_member = session is not None and one.session == session and one.started >= (engine_started or 0)
        if one.alive and (one.pid in marked or is_member):
            found.append(one)
    return found


def marked(marker: str) -> set[int]:
    """The pids of all processes whose environment says ``ROOST_REPLICA=<marker>``."""
    wanted = f"{MARKER}={marker}".encode()
    found = set()
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/environ", "rb") as file:
                environment = file.read()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # ended meanwhile, or closed to this user: not ours in both cases
        if wanted in environment.split(b"\0"):
            found.add(int(name))
    return found


def kill(process: Stat, number: int = signal.SIGKILL) -> None:
    """Send a signal to exactly this process; nothing when it has ended or its pid belongs to another one now."""
    now = stat(process.pid)
    if now is not None and now.started == process.started:
        try:
            os.kill(process.pid, number)
        except ProcessLookupError:
            return


def boot_id() -> str:
    """An id of the machine's current boot: start times compare within one boot only."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def adopt_orphans() -> None:
    """Make this process the parent of its orphaned descendants, so that it can end them. Raises ``OSError``."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(parent: int) -> None:
    """Between fork and exec: have the kernel kill this process when the thread that forked it ends. Raises
    ``OSError``, also when ``parent`` is gone already."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        raise OSError("the supervisor is gone")


def prepare(parent: int, files: int | None) -> None:
    """Between fork and exec of an engine: tie it to its supervisor ``parent``, and set its soft limit of open files
    back to ``files`` (None: leave it). The control plane has raised its own, which is inherited: programs that use
    ``select`` break on descriptors above 1023, and others close every number up to the limit. Raises ``OSError``."""
    die_with_parent(parent)
    if files is not None:
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = files if hard == resource.RLIM_INFINITY else min(files, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _prctl(option: int, value: int) -> None:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
