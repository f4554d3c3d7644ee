"""The two pipes between ``roost serve`` and a child, as the child uses them.

The *ready* pipe carries one JSON line to the parent: ``{"ready": true, …}`` or ``{"error": "sentence"}``. The
*lifeline* never carries anything: when the parent dies in whatever way, its end closes, and the child asks itself to
end. A pipe is used rather than a parent-death signal because that follows the thread that forked, not the process.
"""

from __future__ import annotations

import json
import os
import signal
import threading
from typing import Any


class ReadyPipe:
    """The child's end of the ready pipe; without a parent (None) what is told goes nowhere."""

    def __init__(self, ready_fd: int | None) -> None:
        if ready_fd is not None:
            # What this process starts may outlive it, and must not keep the pipe open for the parent.
            os.set_inheritable(ready_fd, False)
        self._fd = ready_fd

    def tell(self, **values: Any) -> None:
        """Write the one line. Later calls are no-ops: the parent listens once."""
        if self._fd is None:
            return
        handle, self._fd = self._fd, None
        with os.fdopen(handle, "w") as pipe:
            json.dump(values, pipe)
            pipe.write("\n")


def watch(lifeline_fd: int | None, number: int) -> None:
    """Send this process the signal ``number`` when the parent is gone; without a parent (None) nothing happens."""
    if lifeline_fd is None:
        return
    os.set_inheritable(lifeline_fd, False)

    def wait() -> None:
        while os.read(lifeline_fd, 1):
            continue
        os.kill(os.getpid(), number)

    threading.Thread(target=wait, name="lifeline", daemon=True).start()


PARENT_GONE_CONTROL = signal.SIGUSR1
"""The control plane ends and leaves the replicas running: the next server adopts them."""

PARENT_GONE_GATEWAY = signal.SIGTERM
"""A gateway stops accepting, finishes its requests and ends."""
