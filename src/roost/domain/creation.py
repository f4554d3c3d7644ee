"""Requests to create an endpoint and how far their answers have come: what tells a repetition from a new wish."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

DELIVERY_HEADER = "x-roost-delivery"
"""The header with which a gateway names the answer to a request that it relays, and of which it will tell."""


class Delivery(StrEnum):
    """What is known of an answer. LOST and DELIVERED are final for this answer."""

    UNDER_WAY = "under_way"
    """Nothing yet."""
    ACKNOWLEDGED = "acknowledged"
    """The client's machine has all of it; whether the client read it will show, if it hangs up."""
    DELIVERED = "delivered"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Wish:
    """One request to create. ``fingerprint`` stands for the body, ``attempt`` is the client's own word how often it
    asked before (None: it does not say), ``answer`` names the answer to this request, ``idempotency_key`` is the
    client's name for the wish."""

    key_id: str
    fingerprint: str
    attempt: int | None
    answer: str
    idempotency_key: str | None = None


@dataclass(frozen=True, slots=True)
class Creation:
    """An endpoint that was asked for. ``wish`` is the latest request that means it: the one whose answer counts.

    ``endpoint_id`` is None while it is being made. ``at`` is when it was first asked for, and not when the
    making began, ``told_at`` when something was last learnt of it.
    """

    endpoint_id: str | None
    wish: Wish
    at: datetime
    told_at: datetime
    delivery: Delivery = Delivery.UNDER_WAY
