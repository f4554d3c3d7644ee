"""What engines say, on the wire."""

from __future__ import annotations

from typing import Literal

from roost.schemas.base import Answer


class LogLine(Answer):
    """One line of a replica's output."""

    replica_id: str
    line: str


class LogList(Answer):
    """Lines of one replica after those of the other, each oldest first."""

    object: Literal["list"] = "list"
    data: list[LogLine]
