"""How many client connections a gateway worker can carry with the files that it may have open. Pure.

Asked by ``gateway.worker`` when it starts and by ``diagnosis``. It must never let clients use up the files: a worker
that cannot reach its replicas for want of one would take them for broken.
"""

from __future__ import annotations

SPARE_FILES = 96
"""Files that a worker has open besides connections."""
MOST_TOLD = 1000
"""Connections above the limit that are told so; still more are dropped."""


def carried(files: int | None, wanted: int) -> tuple[int, int]:
    """Of ``wanted`` client connections those that a worker with a limit of ``files`` (None: no limit) can carry, each
    with one to a replica, and how many more it can tell that there are too many."""
    if files is None:
        return wanted, MOST_TOLD
    free = max(0, files - SPARE_FILES)
    told = min(MOST_TOLD, free // 10)
    return max(1, min(wanted, (free - told) // 2)), told


def needed(wanted: int) -> int:
    """The limit with which ``wanted`` connections are carried."""
    return 2 * wanted + MOST_TOLD + SPARE_FILES
