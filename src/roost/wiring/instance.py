"""One server per home: the lock that says so, and who holds it.

The parent holds an exclusive ``flock`` on ``run/serve.lock`` as long as it lives; the system drops it on any death, so
it cannot go stale. ``run/serve.pid`` names the holder. Used by the parent and by ``roost stop``.
"""

from __future__ import annotations

import fcntl
import os

from roost.config import Settings
from roost.domain.errors import Conflict
from roost.wiring.pids import Process, open_process, read_pid


class Lock:
    """The held lock. Children do not inherit it."""

    def __init__(self, handle: int) -> None:
        self.handle = handle

    def release(self) -> None:
        """Let the next server of this home start."""
        os.close(self.handle)


def acquire(settings: Settings) -> Lock:
    """Become the one server of the home. Raises ``Conflict`` naming the pid of the one that is."""
    handle = _try(settings, create=True)
    if handle is None:
        pid = read_pid(settings.run_dir / "serve.pid")
        who = f"pid {pid}" if pid else "still starting"
        raise Conflict(
            f"Roost is already serving from {settings.home} ({who}): use it, stop it with "
            f"`roost stop --home {settings.home}`, or give this one another --home."
        )
    return Lock(handle)


def running(settings: Settings) -> Process | None:
    """The parent of the server that holds this home's lock; None when no server runs."""
    try:
        handle = _try(settings, create=False)
    except FileNotFoundError:
        return None
    if handle is not None:
        os.close(handle)
        return None
    # The lock is held, so the pid file (written by its holder) is true: no check of the command line is needed.
    return open_process(read_pid(settings.run_dir / "serve.pid"), mark="")


def _try(settings: Settings, *, create: bool) -> int | None:
    flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0)
    handle = os.open(settings.run_dir / "serve.lock", flags, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    return handle
