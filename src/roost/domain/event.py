"""Events: the append-only record of who did what and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Event:
    """One change or decision. ``actor`` is a key's owner or ``system``; ``kind`` a dotted word such as
    ``endpoint.created`` or ``replica.ready``; ``sequence`` is given by the store and rises by insertion."""

    id: str
    at: datetime
    kind: str
    actor: str
    reason: str
    endpoint_id: str | None = None
    replica_id: str | None = None
    data: Mapping[str, str] = field(default_factory=dict)
    sequence: int | None = None
