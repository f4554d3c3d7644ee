"""API keys. Only the SHA-256 digest of a key is ever stored."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Role(StrEnum):
    """What a key may do: admin everything, member its own owner's endpoints, inference only requests to them."""

    ADMIN = "admin"
    MEMBER = "member"
    INFERENCE = "inference"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """An issued key: ``digest`` is the lower-case hex SHA-256 of the key itself."""

    id: str
    digest: str
    owner: str
    role: Role
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None

    def usable(self, now: datetime) -> bool:
        """Whether the key is neither revoked nor expired at ``now``."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


def digest_of(key: str) -> str:
    """The lower-case hex SHA-256 of a key as the client sends it."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
