"""Events on the wire: who did what and why."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from roost.schemas.base import Answer, Listing


class Event(Answer):
    """One change or decision; ``sequence`` rises and is what ``after`` takes."""

    object: Literal["event"] = "event"
    id: str
    sequence: int
    at: datetime
    kind: str
    actor: str
    reason: str
    endpoint_id: str | None = None
    replica_id: str | None = None
    data: dict[str, str] = Field(default_factory=dict)


class EventList(Listing[Event]):
    """A page of events."""
