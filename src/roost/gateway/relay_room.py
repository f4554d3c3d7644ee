"""How many requests are relayed to the control plane at once, of this worker and of each key.

Used by ``relay``. The control plane is one process with so many files: without a bound, clients that send slowly would
use them up, and it could look after nothing any more.
"""

from __future__ import annotations

from collections import Counter

from roost.gateway.answers import Refusal
from roost.gateway.upstream import Pool

MOST = 256
"""Requests of one worker. Streams of logs count; of those a key has at most 16 over all workers."""
MOST_OF_KEY = 64
"""Requests of one key; those without a valid key share one such room."""
MOST_IDLE = 16

CROWDED = Refusal(
    503, "The control plane has too many requests at once; try again.", "control_plane_busy", retry_after=1
)
CROWDED_KEY = Refusal(
    503,
    f"This key has {MOST_OF_KEY} requests to the control plane under way; try again.",
    "control_plane_busy",
    retry_after=1,
)


class RelayRoom:
    """The requests under way by key id ("" for those without a valid key), and their ``total``."""

    __slots__ = ("_by_key", "total")

    def __init__(self) -> None:
        self._by_key: Counter[str] = Counter()
        self.total = 0

    def enter(self, key_id: str) -> Refusal | None:
        """Count one more request, which ``leave`` gives back; or why there is no room for it."""
        if self._by_key[key_id] >= MOST_OF_KEY:
            return CROWDED_KEY
        if self.total >= MOST:
            return CROWDED
        self._by_key[key_id] += 1
        self.total += 1
        return None

    def leave(self, key_id: str) -> None:
        """A request that had entered is over."""
        self.total -= 1
        self._by_key[key_id] -= 1
        if not self._by_key[key_id]:
            del self._by_key[key_id]


class ControlPool(Pool):
    """Connections to the control plane, of which few are kept: a burst is not to hold its files afterwards."""

    __slots__ = ()

    def sweep(self, now: float) -> None:
        """Close connections that have been idle for long, and of the others those that are too many.

        Never one whose response has just ended: the control plane might take the close for a client that hung up on
        it, whose answer is lost.
        """
        super().sweep(now)
        settled = [connection for connection in self._idle if 0.0 < connection.idle_since < now]
        for connection in settled[: max(0, len(self._idle) - MOST_IDLE)]:
            self._idle.remove(connection)
            if connection.transport is not None:
                connection.transport.close()
