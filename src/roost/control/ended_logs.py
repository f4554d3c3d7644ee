"""The output of replicas that have ended and that the runtime has forgotten, for a while and in memory.

Filled by the actuator just before it has a replica forgotten, read through the control plane. It survives neither the
process nor the endpoint: the events keep the last lines of a failure for longer.
"""

from __future__ import annotations

from collections import deque

from roost.domain.log import ReplicaLog

REPLICAS = 3
"""Ended replicas of each endpoint whose output is kept."""
LINES = 500
"""Lines that are kept of each."""


class EndedLogs:
    """By endpoint, the logs of the replicas that ended last."""

    def __init__(self) -> None:
        self._of: dict[str, deque[ReplicaLog]] = {}

    def keep(self, endpoint_id: str, replica_id: str, lines: tuple[str, ...]) -> None:
        """Take the last lines of a replica that has ended; the oldest of the endpoint's others may go for it."""
        kept = self._of.setdefault(endpoint_id, deque(maxlen=REPLICAS))
        kept.append(ReplicaLog(replica_id, lines[-LINES:], ended=True))

    def of(self, endpoint_id: str) -> list[ReplicaLog]:
        """What is kept of the endpoint, the one that ended last at the end."""
        return list(self._of.get(endpoint_id, ()))

    def drop(self, endpoint_id: str) -> None:
        """Keep nothing of the endpoint any longer."""
        self._of.pop(endpoint_id, None)
