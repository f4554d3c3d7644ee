"""API keys. Only the SHA-256 digest of a key is ever stored."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Role(StrEnum):
    """What a key may do: admin everything, member its own owner's endpoints, inference only requests to them."""

    ADMIN = "admin"
    MEMBER = "member"
    INFERENCE = "inference"


class KeyState(StrEnum):
    """Whether a key is accepted."""

    ACTIVE = "active"
    EXPIRED = "expired"
    REVOKED = "revoked"


MAX_LIMIT = 1_000_000_000
"""The largest limit of a key, which is as good as none."""


@dataclass(frozen=True, slots=True)
class KeyLimits:
    """How much a key may ask of its endpoints, over all gateway workers together; None: any amount.

    ``tokens_per_minute`` counts prompt and completion tokens; ``concurrency`` requests that are not answered yet,
    waiting ones included.
    """

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrency: int | None = None


UNLIMITED = KeyLimits()


@dataclass(frozen=True, slots=True)
class ApiKey:
    """An issued key: ``digest`` is the lower-case hex SHA-256 of the key itself.

    ``endpoints`` are the ids of those that it may use and see (None: all of its owner's); ids of deleted ones may be
    among them. ``name`` is for people.
    """

    id: str
    digest: str
    owner: str
    role: Role
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    name: str | None = None
    endpoints: tuple[str, ...] | None = None
    limits: KeyLimits = UNLIMITED

    def state(self, now: datetime) -> KeyState:
        """Whether the key is accepted at ``now``; one that is both revoked and expired counts as revoked."""
        if self.revoked_at is not None:
            return KeyState.REVOKED
        return KeyState.ACTIVE if self.usable(now) else KeyState.EXPIRED

    def usable(self, now: datetime) -> bool:
        """Whether the key is neither revoked nor expired at ``now``."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


def reaches(role: str, owner: str, listed: Collection[str] | None, *, endpoint_id: str, endpoint_owner: str) -> bool:
    """Whether a key of that role, owner and list of endpoints may know of an endpoint: the one rule, for the control
    plane and the gateways alike."""
    return (role == Role.ADMIN or owner == endpoint_owner) and (listed is None or endpoint_id in listed)


def digest_of(key: str) -> str:
    """The lower-case hex SHA-256 of a key as the client sends it."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
