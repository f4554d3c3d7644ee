"""The durable record of a replica, ``run/replicas/<id>.json``, and the lock that makes its id unique.

Written by the supervisor while it lives and by the runtime after it died; whoever writes holds the lock. The lock is
the test of life, too: it is held exactly as long as the supervisor lives. A record never holds a secret.
"""

from __future__ import annotations

import fcntl
import json
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def write(path: str, record: dict[str, Any], *, durable: bool) -> None:
    """Replace the record at ``path`` in one step, mode 0600; ``durable`` makes it survive a power cut. Raises
    ``OSError``."""
    draft = f"{path}.new"
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with open(fd, "w", encoding="utf-8") as file:
            json.dump(record, file, indent=1)
            if durable:
                file.flush()
                os.fsync(fd)
        os.replace(draft, path)
    except OSError:
        os.unlink(draft)
        raise


def read(path: str) -> dict[str, Any] | None:
    """The record at ``path``, None when there is none. Raises ``ValueError`` when it is not a record, ``OSError``."""
    try:
        with open(path, encoding="utf-8") as file:
            record = json.load(file)
    except FileNotFoundError:
        return None
    if not isinstance(record, dict):
        raise ValueError(f"{path} does not hold a JSON object")
    return record


def lock(path: str) -> int | None:
    """Take the lock at ``path`` without waiting: a file descriptor (closing it lets go), or None when somebody else
    holds it. Not inherited by child processes."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd
