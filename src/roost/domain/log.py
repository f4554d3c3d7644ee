"""What an engine said: the output of one replica as lines. Produced by control, read by services."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ReplicaLog:
    """The last lines of one replica, oldest first. ``ended``: it does not run any more, and nothing follows."""

    replica_id: str
    lines: tuple[str, ...]
    ended: bool = False
