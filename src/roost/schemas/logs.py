"""What engines say, on the wire."""

from __future__ import annotations

from roost.schemas.base import Answer, Listing


class LogLine(Answer):
    """One line of a replica's output."""

    replica_id: str
    line: str


class LogList(Listing[LogLine]):
    """Lines of one replica after those of the other, each oldest first."""
